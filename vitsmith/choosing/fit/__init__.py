"""What fits into a device of so many bytes that is not here: the largest batch, and how a model is trained there."""
