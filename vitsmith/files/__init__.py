"""Files on disk: opened with care, recognised by content, locked, and written whole or not at all."""
