"""Data sets: folders, tables, the hub, drawn scenes; samples, splits, and the record of them."""
