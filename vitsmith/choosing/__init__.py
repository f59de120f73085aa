"""Which model, at what size, on which engine: the published checkpoints, what they cost, and which fits a budget."""
