"""What a probe must not hide: images that a model knew, what was left out, and which model the bundle is of."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vitsmith as vs
from tests.exporting import export_onnx
from tests.probing.coloured import pets
from tests.tiny import CONFIGS, tiny_lit, tiny_model
from vitsmith.data.sets.datasets import open_dataset
from vitsmith.data.sets.split_record import SplitRecord, digest_of
from vitsmith.errors import DatasetError, InputError
from vitsmith.probing.backbone import Backbone
from vitsmith.records import Provenance
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.load import load


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Bundle]:
    """Two models, the better one in cross-validation first, and us in a folder with the data set `pets`."""
    monkeypatch.setenv("VITSMITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    pets(tmp_path / "pets")
    models = [Bundle.of(tiny_model(CONFIGS["vit-token"], seed=seed)) for seed in (0, 1)]
    found = vs.probe("pets", models, bundle=False).models
    return models if (found[0].cross_validated or 0) >= (found[1].cross_validated or 0) else models[::-1]


def trained(bundle: Bundle) -> Bundle:
    return Bundle.of(bundle.model, provenance=Provenance(source="vitsmith train on pets", kind="trained"))


def trained_on_all(bundle: Bundle) -> Bundle:
    record, splits = SplitRecord.empty(), open_dataset("pets", seed=0)
    digests = [digest_of(source, record.salt) for part in (splits.train, splits.val) for source in part.sources]
    return trained(bundle).with_split(replace(record, train=np.unique(np.array(digests, np.uint64))))


def test_a_model_that_was_trained_on_the_images_is_not_chosen_and_says_so(pair: list[Bundle]) -> None:
    told: list[str] = []
    probed = vs.probe("pets", [trained_on_all(pair[0]), pair[1]], tell=told.append)
    knew, clean = probed.models
    assert probed.best is clean is probed.bundled and knew.seen == probed.train_images and clean.seen == 0
    assert not clean.warnings and len(knew.warnings) == 2 and "not trained on" in probed.chosen
    page, facts = ((probed.folder / name).read_text() for name in ("report.html", "probe.json"))  # type: ignore[operator]
    for what in ("the held-out score is too good", "in cross-validation is too good"):
        assert any(one.startswith("warning: ") and what in one for one in told)
        assert what in str(probed) and what in page and what in json.loads(facts)["models"][0]["warnings"].__str__()
    assert probed.bundle is not None and not any("too good" in note for note in probed.bundle.provenance.notes)
    alone = vs.probe("pets", trained_on_all(pair[0]), tell=told.append)
    assert alone.bundle is not None and "in cross-validation is too good" in " ".join(alone.bundle.provenance.notes)


def test_a_better_exported_program_is_the_best_and_the_bundle_is_of_another(pair: list[Bundle], tmp_path: Path) -> None:
    export_onnx(load(pair[0], headless=True), tmp_path / "program")
    probed = vs.probe("pets", ["program", pair[1]], tell=lambda _: None)
    assert probed.best is probed.models[0] and probed.bundled is probed.models[1]
    assert (probed.best.cross_validated or 0) >= (probed.bundled.cross_validated or 0) and probed.bundle is not None
    measured = next(one for one in probed.bundle.measurements if one.metric == "top1")
    assert measured.value == probed.models[1].score("logistic").accuracy  # type: ignore[union-attr]
    assert any("program is the best, and an exported program" in one for one in probed.remarks)
    page = (probed.folder / "report.html").read_text()  # type: ignore[operator]
    assert "exported program" in page and "--model program" not in page


def test_scores_of_rounded_features_are_recorded_as_such(pair: list[Bundle]) -> None:
    bundle = vs.probe("pets", pair[0], precision="bf16").bundle
    assert bundle is not None and {one.precision for one in bundle.measurements} == {"bf16"}
    assert any("features in bf16" in note for note in bundle.provenance.notes)


def test_what_is_left_out_or_unknown_is_a_warning_in_python_and_stays_in_the_result(pair: list[Bundle]) -> None:
    train = open_dataset("pets", seed=0).train
    broken = Path(str(train.sources[0]))
    broken.write_bytes(b"no image")
    with pytest.warns(UserWarning) as warned:
        probed = vs.probe("pets", trained(pair[0]), skip_unreadable=0.2)
    told = " ".join(str(one.message) for one in warned)
    notes = " ".join(probed.bundle.provenance.notes)  # type: ignore[union-attr]
    page, facts = ((probed.folder / name).read_text() for name in ("report.html", "probe.json"))  # type: ignore[operator]
    for what in ("images cannot be read and are left out", "does not record its training images"):
        assert all(what in text for text in (told, notes, page, facts, str(probed)))


def test_one_file_in_two_classes_is_told_and_makes_no_score_too_good(pair: list[Bundle]) -> None:
    splits = open_dataset("pets", seed=0)
    cats, others = [Path(str(one)) for one in splits.train.sources if "cat" in str(one)], splits.val.sources
    dog, cat = (next(Path(str(one)) for one in others if name in str(one)) for name in ("dog", "cat"))
    dog.write_bytes(cats[0].read_bytes())

    def remarks() -> tuple[str, ...]:
        return vs.probe("pets", pair[0], bundle=False, tell=lambda _: None).remarks

    (told,) = remarks()
    assert told.startswith("2 of the 36 images are the same files as images of another class: ")
    assert f"cat/{cats[0].name} is in 'cat' and dog/{dog.name} in 'dog'" in told
    cat.write_bytes(cats[1].read_bytes())
    same, leak = remarks()
    assert same == told and leak.startswith(f"1 of the {len(others)} held-out images are training images too")


def test_copies_among_the_held_out_images_widen_the_intervals_and_are_told(pair: list[Bundle]) -> None:
    before = vs.probe("pets", pair[0], bundle=False, tell=lambda _: None)
    splits = open_dataset("pets", seed=0)
    first, *others = (Path(str(one)) for one in splits.val.sources if "cat" in str(one))
    for copy in others:
        copy.write_bytes(first.read_bytes())
    probed = vs.probe("pets", pair[0], bundle=False, tell=lambda _: None)
    (told,) = probed.remarks
    assert told.startswith(f"{len(others)} of the {len(splits.val)} held-out images are copies of others: accuracy")
    assert before.remarks == () and others
    score, unlike = probed.best.scores[0], len(splits.val) - len(others) - 1
    assert score.independent == pytest.approx(len(splits.val) ** 2 / (unlike + (len(others) + 1) ** 2))
    assert score.images == len(splits.val) and before.best.scores[0].independent == len(splits.val)


def test_all_images_that_cannot_be_read_are_told_at_once(pair: list[Bundle]) -> None:
    train = open_dataset("pets", seed=0).train
    broken = [train.names[at] for at in (3, 5, 7)]
    for name in broken:
        Path("pets", name).write_bytes(b"no image")
    with pytest.raises(DatasetError) as told:
        vs.probe("pets", pair[0])
    start = f"3 of {len(train)} images cannot be read, and `skip_unreadable` = 0.01 allows 0 ({', '.join(broken)}; "
    assert str(told.value).startswith(start)


def test_a_score_of_no_method_is_refused_by_name(pair: list[Bundle]) -> None:
    best = vs.probe("pets", pair[0], bundle=False, shots=()).best
    assert best.score("zero-shot") is None
    with pytest.raises(InputError, match=r"unknown method 'logistics': did you mean.*logistic"):
        best.score("logistics")


def test_zero_shot_that_is_left_out_is_told_and_wrong_templates_are_refused_before_the_pass(
    pair: list[Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    del pair
    for name in ("cat", "dog", "red"):
        Path("pets", name).rename(Path("pets", f"{name}zzz"))
    with pytest.warns(UserWarning, match="zero-shot is left out"):
        probed = vs.probe("pets", tiny_lit(), bundle=False)
    assert probed.best.score("zero-shot") is None and "zero-shot is left out" in probed.best.warnings[0]
    assert "zero-shot is left out" in (probed.folder / "report.html").read_text()  # type: ignore[operator]
    monkeypatch.setattr(Backbone, "of", lambda *_, **__: pytest.fail("the model was opened"))
    for templates in ("no place", ["no place"], []):
        with pytest.raises(InputError, match="template"):
            vs.probe("pets", tiny_lit(), templates=templates)


def test_whatever_fails_in_one_model_loses_no_scores_of_others(
    pair: list[Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Backbone.of.__func__  # type: ignore[attr-defined]

    def failing(cls: Any, bundle: Any, /, *rest: str, **options: Any) -> Backbone:
        if bundle.identity == pair[1].identity:
            raise MemoryError("too large")
        found: Backbone = right(cls, bundle, *rest, **options)
        return found

    monkeypatch.setattr(Backbone, "of", classmethod(failing))
    with pytest.warns(UserWarning, match="MemoryError: too large"):
        probed = vs.probe("pets", pair, bundle=False)
    assert len(probed.models) == 1 and probed.failed[0].reason == "MemoryError: too large"
    with pytest.raises(MemoryError):
        vs.probe("pets", pair[1])
