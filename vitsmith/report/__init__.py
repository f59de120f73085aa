"""Runs as a page to read: figures, tables and one self-contained HTML file."""
