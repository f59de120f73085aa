"""Texts: token ids, prompt templates, files that list names."""
