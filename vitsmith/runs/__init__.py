"""The output folders of verbs: where they may lie, and the runs that are written into them."""
