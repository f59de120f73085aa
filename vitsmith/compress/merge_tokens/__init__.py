"""Token merging behind its gate: schedules, the search for one, and the result."""
