"""A small bundle with labels, and the place of the bundles that version 0.1 wrote."""

from __future__ import annotations

from typing import Any

from tests.tiny import REFERENCE, VIT, pictures, tiny_model
from vitsmith import Bundle, Labels

FORMAT1 = REFERENCE / "format1"
NAMES = ("ant", "bee", "cow", "doe", "eel")


def labelled(**fields: Any) -> Bundle:
    return Bundle.of(tiny_model(VIT), labels=Labels(names=NAMES), **fields).with_golden(pictures(2))
