"""Engines run bundles: one small class for each, behind one protocol."""
