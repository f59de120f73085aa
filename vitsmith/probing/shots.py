"""How many training images of each class a probe takes for class means, where nobody says."""

SHOTS = (1, 2, 4, 8, 16)
