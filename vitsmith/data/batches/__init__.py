"""Training batches: their order, loading them ahead, and the last steps on the device."""
