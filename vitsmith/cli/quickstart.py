"""`vitsmith quickstart`: the whole road in minutes."""

from __future__ import annotations


def quickstart() -> None:
    """Placeholder while it is written."""
