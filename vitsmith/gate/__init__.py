"""The gate: requirements on a changed model, what was measured of it, and whether it passes."""

from vitsmith.gate.compare import (
    SAME_ANSWERS,
    TIE,
    Verdict,
    agreement_of,
    compare,
    first_difference,
    lowest_cosine,
    mean_cosine,
    refusal,
    refusing,
    relative_difference,
)
from vitsmith.gate.paired import Paired
from vitsmith.gate.requirements import Measured, Requirements, doubts, failures, require

__all__ = [
    "SAME_ANSWERS",
    "TIE",
    "Measured",
    "Paired",
    "Requirements",
    "Verdict",
    "agreement_of",
    "compare",
    "doubts",
    "failures",
    "first_difference",
    "lowest_cosine",
    "mean_cosine",
    "refusal",
    "refusing",
    "relative_difference",
    "require",
]
