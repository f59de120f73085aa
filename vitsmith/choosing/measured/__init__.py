"""The best rows built and measured on this machine, and the ranking corrected by what was measured."""
