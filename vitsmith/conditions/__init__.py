"""Conditions on the columns of a table, as `--where` has them: read, checked, and answered row by row."""
