"""How good the features of checkpoints are on a user's own labelled images."""
