"""What a run tells: events, their history, warnings, and how fast it is."""
