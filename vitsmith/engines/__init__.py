"""What runs a bundle: one small class an engine, behind one protocol."""
