"""The parts of an update: losses, optimizer, learning rate, precision, running mean."""
