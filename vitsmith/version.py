"""The version of vitsmith."""

__version__ = "0.1.0"
