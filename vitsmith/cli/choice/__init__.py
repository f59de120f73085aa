"""What the verbs show that help to choose a model."""
