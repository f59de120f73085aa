"""What a terminal shows and sends: tables, JSON, progress, streams and signals."""
