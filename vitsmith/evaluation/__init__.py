"""How good and how fast a model is: scores, calibration, recall, timing."""
