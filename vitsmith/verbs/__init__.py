"""Verbs as functions of Python: what `vitsmith export`, `evaluate` and `quantize` do, without a command line."""
