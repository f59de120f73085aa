"""What users and their scripts meet stays as it is, or changes in a commit that shows the change."""

from __future__ import annotations

import difflib

import pytest

from tests.transcripts import FOLDER, LAYOUT, kept, layout, makers

ADVICE = (
    "what users meet has changed. If that is intended, run  python -m tests.transcripts , commit the difference, and "
    "tell users in CHANGELOG.md"
)


@pytest.mark.parametrize("kind", makers())
def test_what_users_meet_is_as_it_was(kind: str) -> None:
    if kind == "json":
        for package in ("sklearn", "matplotlib", "onnxruntime", "onnxscript", "tokenizers"):
            pytest.importorskip(package)
    if kind in ("help", "errors") and layout() != LAYOUT.read_text(encoding="utf-8"):
        pytest.skip(f"laid out by other versions than those of {LAYOUT.name}")
    made = makers()[kind]()
    files = {path.relative_to(FOLDER).as_posix(): path.read_text(encoding="utf-8") for path in kept(kind)}
    changes = [
        line
        for name in sorted({*made, *files})
        for line in difflib.unified_diff(
            files.get(name, "").splitlines(), made.get(name, "").splitlines(), f"kept/{name}", name, n=2, lineterm=""
        )
    ]
    assert not changes, "\n".join([ADVICE, *changes])
