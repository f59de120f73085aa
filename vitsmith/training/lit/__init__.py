"""A text tower trained to fit a locked image tower (LiT, arXiv 2111.07991)."""
