"""From bytes to upright RGB to a model's input."""
