"""The search over sizes, merging, pruning and precisions for the best model within a budget."""
