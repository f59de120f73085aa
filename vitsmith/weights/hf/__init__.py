"""Weights of Hugging Face's transformers."""
