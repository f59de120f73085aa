"""The bundle: in memory and on disk, its description, golden examples, card and measurements."""
