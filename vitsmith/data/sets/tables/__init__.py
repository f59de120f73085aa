"""Data sets that are tables: their rows, their image files, and their other columns."""
