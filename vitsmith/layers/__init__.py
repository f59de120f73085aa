"""The parts that models are made of: one idea in each file."""
