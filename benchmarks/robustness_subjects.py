"""What benchmarks/robustness.py changes, and how it finds out whether the answer is still the same.

A subject makes sound files in a folder, changes a copy of them, and uses the copy as a user would. What it gives back
is compared with what the sound files gave. `covered` says whether a checksum, or a length that the format tells, is to
notice the change: then another answer is a wrong one.
"""

from __future__ import annotations

from robustness_answers import Subject
from robustness_bundles import BUNDLES
from robustness_checkpoints import CHECKPOINTS
from robustness_data import DATA

SUBJECTS: dict[str, Subject] = BUNDLES | CHECKPOINTS | DATA
