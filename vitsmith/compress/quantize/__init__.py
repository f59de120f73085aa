"""int8 behind its gate: schemes, their measurement, and the libraries that make the programs."""
