"""Google's released checkpoints."""
