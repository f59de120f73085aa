"""The checks of structure hold for the source as it is, and find what is wrong in one that is made wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import ROOT
from tests.house.structure import LONGEST_TEST, Source, circles, class_twins, missing_names, problems


def ours(text: str) -> str:
    """Puts the name of the package in its place: here are names that do not exist, and this file is checked too."""
    return re.sub(r"\bour\b", "vitsmith", text)


def written(root: Path, **files: str) -> Source:
    """A source of these files: `vitsmith__a` is vitsmith/a.py, and "our" in it means vitsmith."""
    for name, text in files.items():
        path = root / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(ours(text))
    return Source(root)


def test_nothing_is_wrong() -> None:
    assert problems(Source(ROOT)) == []


@pytest.mark.parametrize(
    ("code", "missing"),
    [
        ("import our.tools.plane", ["our.tools.plane"]),
        ("from our.tools import saw", ["our.tools.saw"]),
        ("from our.tools.hammer import Hammer, Nail", ["our.tools.hammer.Nail"]),
        ("def f():\n    from our.saw import cut", ["our.saw.cut"]),
        ("from our.tools import hammer\nhammer.hit()\nhammer.drop()", ["our.tools.hammer.drop"]),
        ("from our.tools import hammer\npatch.setattr(hammer, 'LOUD', 1)", ["our.tools.hammer.LOUD"]),
        ("from our.tools import hammer\ndef f(hammer):\n    hammer.drop()", []),
        ("patch.setattr('our.tools.hammer.drop', None)", ["our.tools.hammer.drop"]),
        ("patch.setattr('our.tools.hammer.Hammer.weigh', None)", ["our.tools.hammer.Hammer.weigh"]),
        ("patch.setattr('our.tools.hammer.Hammer.lift', None)", []),
        ("patch.setattr('our.tools.hammer.os.replace', None)", []),
        ("run('-m', 'our.tools.hammr')", ["our.tools.hammr"]),
        ("HOME = 'our.tools.hammer:Nail'", ["our.tools.hammer.Nail"]),
        ("CODE = '''\n    import sys\n    from our.tools import hold\n'''", ["our.tools.hold"]),
        ("CODE = f'from our.tools.hammer import Nail; {rest}'", ["our.tools.hammer.Nail"]),
        ("'''It says: from our import nothing.'''", []),
        ("from our.tools.hammer import EARLY, LATE, WEIGHTS, hit", []),
        ("import numpy\nfrom os import nothing", []),
    ],
)
def test_a_name_that_does_not_exist_is_found(code: str, missing: list[str], tmp_path: Path) -> None:
    hammer = "import os\n\nclass Hammer:\n    def lift(self): ...\n\ndef hit(): ...\nWEIGHTS, *_ = 1, 2\n"
    hammer += "try:\n    EARLY = 1\nexcept OSError:\n    LATE = 2\n"
    source = written(tmp_path, vitsmith__tools__hammer=hammer, vitsmith__test_hammer=code)
    found = [name for _, name in missing_names(source, source.nodes(ours("our.test_hammer")))]
    assert found == [ours(name) for name in missing]
    assert len(problems(source)) == len(missing)


def test_long_tests_and_helpers_of_other_tests_are_found(tmp_path: Path) -> None:
    tests = "tests"
    source = written(
        tmp_path,
        tests__test_long="def call(): ...\n" * (LONGEST_TEST + 1),
        tests__test_other=f"def f():\n    from {tests}.test_long import call\n",
    )
    long, other = problems(source)
    assert long == "tests/test_long.py: 801 lines, at most 800: give it a room"
    assert other == f"{tests}/test_other.py:2: a helper of {tests}.test_long: move it to a module of its own"


@pytest.mark.parametrize(
    "back",
    [
        "from our.a import A",
        "def f():\n    from our import a",
        "if TYPE_CHECKING:\n    import our.a",
        "HOME = 'our.a:A'",
        "HOME = 'our.a'",
    ],
)
def test_a_circle_is_found_wherever_its_imports_stand(back: str, tmp_path: Path) -> None:
    files = {"vitsmith__a": "from our.b import B", "vitsmith__b": "from our.c import C"}
    assert circles(written(tmp_path, **files, vitsmith__c="import our")) == []
    assert circles(written(tmp_path, vitsmith__c=back)) == [[ours(f"our.{name}") for name in "abc"]]


def test_a_circle_of_folders_is_found(tmp_path: Path) -> None:
    """None of the files is in a circle: a/one needs b/one, and b/two needs a/two."""
    files = {"vitsmith__b__one": "", "vitsmith__a__two": ""}
    there = written(tmp_path, **files, vitsmith__a__one="import our.b.one")
    assert circles(there) == []
    assert circles(written(tmp_path, vitsmith__b__two="import our.a.two")) == [[ours("our.a"), ours("our.b")]]


def test_a_class_name_for_two_things_is_found(tmp_path: Path) -> None:
    source = written(
        tmp_path, vitsmith__a="class Run: ...\nclass _Own: ...", vitsmith__b="class Run: ...\nclass _Own: ..."
    )
    assert class_twins(source) == {"Run": [ours("our.a"), ours("our.b")]}
