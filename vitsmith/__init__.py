"""Vision transformers from architecture to deployment."""
