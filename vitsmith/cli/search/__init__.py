"""The queries of `vitsmith retrieve`, and their answers in the same order."""
