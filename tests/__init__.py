"""The tests, in the rooms of the package."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The folder of the project."""
REFERENCE = ROOT / "tests" / "reference"
"""Recorded outputs of the original, and files of earlier versions."""
