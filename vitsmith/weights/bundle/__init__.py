"""The bundle: in memory and on disk, its manifest, golden examples, card and measurements."""
