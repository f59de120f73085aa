"""Structural pruning behind its gate: fewer blocks, heads and hidden units, recovered by distillation."""
