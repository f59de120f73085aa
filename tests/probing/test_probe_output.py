"""What a probe shows and leaves: its progress, the fields of its JSON, and long or doubled names in its messages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import vitsmith as vs
from tests.command_line import call
from tests.documentation import ROOT
from tests.probing.coloured import pets
from tests.tiny import CONFIGS, tiny_lit, tiny_model, towers
from vitsmith.cli import probe as cli
from vitsmith.errors import InputError
from vitsmith.probing.classifiers.steps import OnStep
from vitsmith.weights.bundle.bundle import Bundle


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the data set `pets` and the bundles `dino` and `lit`, and us in it; the cache is empty."""
    monkeypatch.setenv("VITSMITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    pets(tmp_path / "pets")
    vs.save(Bundle.of(tiny_model(towers()["dinov2"])), "dino")
    vs.save(tiny_lit("lit-bert"), "lit")
    return tmp_path


def test_every_method_tells_how_far_it_is(place: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, str, int, list[tuple[int, str]]]] = []

    @contextmanager
    def watching(doing: str, steps: int, unit: str) -> Iterator[OnStep]:
        seen.append((doing, unit, steps, found := []))
        yield lambda steps=1, note="": found.append((steps, note))

    monkeypatch.setattr(cli, "_watching", watching)
    code, _, err = call(capsys, "probe", "pets", "--model", "dino", "--model", "lit", "--shots", "1,2")
    assert code == 0 and err.startswith("warning: lit: longer than the ") and err.count("\n") == 1
    of_dino = ["features", "principal axes of pooled", "logistic regression of pooled"]
    of_dino += ["principal axes of class_and_mean", "logistic regression of class_and_mean"]
    of_lit = ["features", "principal axes", "logistic regression"]
    ends = ["k-NN", "ridge"]
    expected = [f"dino: {one}" for one in (*of_dino, *ends, "class means")]
    expected += [f"lit: {one}" for one in (*of_lit, *ends, "labels", "class means")]
    assert [doing for doing, *_ in seen] == [
        *expected,
        "comparing the bundle with the probe",
        "writing the report",
    ]
    for doing, _, steps, found in seen:
        assert not steps or sum(step for step, _ in found) == steps, doing
    notes = {note for doing, *_, found in seen for _, note in found if "logistic" in doing}
    assert {"regularisation 1, folds 1 to 5 of 5", "regularisation 0.1, folds 1 to 5 of 5"} < notes


def fields(value: Any) -> set[str]:
    """The names in a JSON value; those of `validated` are kinds of features."""
    if isinstance(value, list):
        return set().union(*map(fields, value))
    if not isinstance(value, dict):
        return set()
    return {*value, *(name for key, inner in value.items() if key != "validated" for name in fields(inner))}


def test_every_field_of_the_json_is_described(place: Path, capsys) -> None:
    del place
    code, out, err = call(capsys, "probe", "pets", "--model", "dino", "--model", "nowhere/there", "--json")
    assert err.endswith("vitsmith: 1 of 2 models could not be probed: each says why\n")
    page = (ROOT / "docs/probe.md").read_text().partition("\n## The numbers as JSON\n")[2].partition("\n## ")[0]
    assert code == 2 and "tried" in fields(json.loads(out))
    assert {name for name in fields(json.loads(out)) if f"`{name}`" not in page} == set()


def test_few_shots_can_be_left_out(place: Path, capsys) -> None:
    del place
    code, out, _ = call(capsys, "probe", "pets", "--model", "lit", "--no-bundle", "--shots", "none")
    assert code == 0 and "zero-shot" in out and "1 shot" not in out and "prototypes" not in out
    assert "ridge" in str(vs.probe("pets", "dino", shots=(), bundle=False))


def test_no_message_says_a_name_twice_or_at_full_length(place: Path, capsys) -> None:
    del place
    label = "very long word " * 400
    Path("labels.txt").write_text(f"cat\t{label}\ndog\nred\n")
    code, _, err = call(capsys, "probe", "pets", "--model", "lit", "--no-bundle", "--labels-file", "labels.txt")
    assert code == 0 and "lit: " in err and "lit: lit" not in err
    assert max(map(len, err.splitlines())) < 1000
    code, _, err = call(capsys, "probe", "pets", "--model", "lit", "--no-bundle", "--labels", "cat, dog")
    assert code == 2 and "the labels lack class 'red' of the data: name every class, in --labels" in err
    vs.save(Bundle.of(tiny_model(CONFIGS["vit-unpooled"])), "unpooled")
    with pytest.raises(InputError, match=r"^unpooled gives a feature for each patch"):
        vs.probe("pets", "unpooled")
