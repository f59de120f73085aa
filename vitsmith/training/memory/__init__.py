"""The memory of an update: predicted, and the micro-batch that fits."""
