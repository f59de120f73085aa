"""Engines run bundles: one small class for each, behind one protocol.

The files are a line: each imports only files below it, in the order of a contract in pyproject.toml. The folders of the
engines lie beside each other in its middle.
"""
