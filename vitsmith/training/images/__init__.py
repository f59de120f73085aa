"""Training of image models: their start, their evaluation, a teacher to learn from, and the bundle at the end."""
