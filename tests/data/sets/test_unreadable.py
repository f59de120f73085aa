"""Images that cannot be read: one rule for every verb that learns or judges."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.tiny import VIT, pictures, tiny_lit, tiny_model
from vitsmith import Bundle, ImageSpec, Labels, Predictor, save
from vitsmith.cli.arguments.images import sources_of
from vitsmith.cli.arguments.inputs import read_images, readable
from vitsmith.cli.main import app
from vitsmith.compress.images import (
    labelled_images,
    labelled_training_images,
    unlabelled_images,
    unlabelled_training_images,
)
from vitsmith.compress.prune.run import prune
from vitsmith.compress.prune.sizes import Pruning
from vitsmith.compress.result import Advance, RunEvent
from vitsmith.data.images.unreadable import sift
from vitsmith.data.sets.datasets import open_labelled
from vitsmith.encode import Encoder
from vitsmith.errors import DatasetError
from vitsmith.evaluation.evaluation import evaluate
from vitsmith.evaluation.retrieval import evaluate_retrieval

CLASSES = ("ant", "bee", "cat", "dog", "eel")


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    images = ImageSpec.pillow((16, 24), resize="squash", interpolation="bilinear")
    return Bundle.of(tiny_model(VIT), preprocessing=images, labels=Labels(names=CLASSES)).with_golden(pictures(2))


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """100 images of five classes."""
    for index, pixels in enumerate(pictures(100)):
        place = tmp_path / "pets" / CLASSES[index % 5] / f"{index:03d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place)
    return tmp_path / "pets"


def spoil(pets: Path, *numbers: int) -> list[Path]:
    spoilt = [pets / CLASSES[number % 5] / f"{number:03d}.png" for number in numbers]
    for file in spoilt:
        file.write_bytes(file.read_bytes()[:-20])
    return spoilt


def test_a_score_leaves_out_one_in_a_hundred_and_says_so(pets, bundle) -> None:
    samples, _ = open_labelled(str(pets))
    predictor = Predictor(bundle, "torch", threads=1)
    whole = evaluate(predictor, samples)
    assert whole.left_out == ()
    (spoilt,) = spoil(pets, 42)
    at = samples.names.index("cat/042.png")
    told: list[str] = []
    part = evaluate(predictor, samples, tell=told.append)
    assert part.left_out == tuple(told)
    assert len(told) == 1
    assert told[0].startswith(f"{spoilt}: is cut off")
    assert part.scores.num_images == 99
    np.testing.assert_array_equal(part.labels, np.delete(whole.labels, at))
    np.testing.assert_allclose(part.logits, np.delete(whole.logits, at, axis=0), atol=1e-5)
    spoil(pets, 43)
    with pytest.raises(DatasetError, match=r"2 of 100 images cannot be read, and `skip_unreadable` = 0\.01 allows 1"):
        evaluate(predictor, samples)
    assert evaluate(predictor, samples, skip_unreadable=0.02).scores.num_images == 98


def test_recall_leaves_out_an_image_with_its_captions(tmp_path) -> None:
    encoder = Encoder(tiny_lit(), "torch", threads=1)
    rows = ["path,caption"]
    for index, pixels in enumerate(pictures(10)):
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
        rows += [f"{index}.png,a photo of {word}" for word in ("a dog", "a cat")[: 1 + index % 2]]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    from vitsmith.data.sets.pairs import open_caption_samples

    samples, _ = open_caption_samples(str(tmp_path / "t.csv"))
    (tmp_path / "3.png").write_bytes(b"GIF89a")
    with pytest.raises(DatasetError, match=r"cannot use the image .*3\.png"):
        evaluate_retrieval(encoder, samples)
    part = evaluate_retrieval(encoder, samples, skip_unreadable=0.2)
    without = samples.select([row for row, name in enumerate(samples.names) if name != "3.png"])
    expected = evaluate_retrieval(encoder, without)
    assert (
        (part.num_images, part.num_texts, part.num_pairs)
        == (expected.num_images, expected.num_texts, expected.num_pairs)
        == (9, 2, 13)
    )
    assert part.recalls == expected.recalls
    assert len(part.left_out) == 1


def test_the_verb_tells_leaves_out_and_stops(pets, bundle, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    save(bundle, tmp_path / "model")
    spoil(pets, 7)
    command = ["evaluate", str(tmp_path / "model"), "--data", str(pets), "--engine", "torch", "--json"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    scores = json.loads(done.stdout)
    assert scores["num_images"] == 99
    assert len(scores["left_out"]) == 1
    assert "left out: " in done.stderr
    assert "007.png" in done.stderr
    refused = CliRunner().invoke(app, [*command, "--skip-unreadable", "0"]).exception
    assert isinstance(refused, DatasetError)
    assert "cannot use the image" in str(refused)


def test_what_calibrates_and_judges_is_read_once_before_long_work(pets, bundle) -> None:
    whole = labelled_images(bundle, str(pets))
    files = sorted(str(file) for file in pets.rglob("*.png"))
    alone = unlabelled_images(bundle, files)
    evaluation_set, calibrating = Path(whole.evaluation.sources[3]), Path(whole.calibration.sources[7])
    for file in (evaluation_set, calibrating):
        file.write_bytes(b"GIF89a")
    with pytest.raises(DatasetError, match=r"cannot use the image .* \(`skip_unreadable` allows"):
        labelled_images(bundle, str(pets))
    part = labelled_images(bundle, str(pets), skip_unreadable=0.1)
    assert list(part.evaluation.sources) == [file for file in whole.evaluation.sources if Path(file) != evaluation_set]
    assert list(part.calibration.sources) == [file for file in whole.calibration.sources if Path(file) != calibrating]
    assert len(part.labels) == len(part.evaluation)
    assert [remark.partition(": ")[2].partition(": ")[0] for remark in part.told] == [
        str(calibrating),
        str(evaluation_set),
    ]
    part = unlabelled_images(bundle, files, skip_unreadable=0.1)
    expected = [
        file
        for file in (*alone.calibration.sources, *alone.evaluation.sources)
        if Path(file) not in (evaluation_set, calibrating)
    ]
    assert [*part.calibration.sources, *part.evaluation.sources] == expected
    assert len(part.told) == 2


def test_what_prunes_and_judges_leaves_them_out_too(pets, bundle) -> None:
    whole = labelled_training_images(bundle, str(pets))
    evaluation_set = Path(whole.evaluation.sources[3])
    evaluation_set.write_bytes(b"GIF89a")
    part = labelled_training_images(bundle, str(pets), skip_unreadable=0.1)
    assert list(part.evaluation.sources) == [file for file in whole.evaluation.sources if Path(file) != evaluation_set]
    assert [str(evaluation_set) in told for told in part.told] == [True]
    assert part.skip_unreadable == 0.1
    files = sorted(str(file) for file in pets.rglob("*.png"))
    alone = unlabelled_training_images(bundle, files)
    names = [*alone.calibration.names, *alone.evaluation.names]
    assert sorted(names) == [file for file in files if Path(file) != evaluation_set]
    assert len(alone.told) == 1


def test_images_that_decide_what_is_pruned_are_told_of_before_any_is_looked_at(pets, bundle) -> None:
    material = labelled_training_images(bundle, str(pets), skip_unreadable=0.1)
    file = Path(material.calibration.sources[3])
    file.write_bytes(b"GIF89a")
    heard: list[str] = []

    def listen(event: RunEvent) -> None:
        heard.append(event.line)
        if isinstance(event, Advance):
            raise LookedError

    with pytest.raises(LookedError):
        prune(bundle, material, Pruning(depth=1), None, listener=listen)
    assert [str(file) in line for line in heard if line] == [False, True]
    strict = replace(material, skip_unreadable=0.0)
    with pytest.raises(DatasetError, match="cannot use the image"):
        prune(bundle, strict, Pruning(depth=1), None, listener=listen)


class LookedError(Exception):
    pass


def test_verbs_that_look_at_images_tell_of_those_that_they_cannot_read(pets, capsys) -> None:
    (spoilt,) = spoil(pets, 10)
    assert len(read_images(sources_of([str(pets)]), 0.01)) == 99
    samples, _ = open_labelled(str(pets))
    assert len(readable(samples, 0.01)) == 99
    assert capsys.readouterr().err.count(f"left out: {spoilt}: is cut off") == 2
    with pytest.raises(DatasetError):
        read_images(sources_of([str(pets)]), 0)


def test_sifting_reads_each_once_and_stops_at_one_too_many(pets) -> None:
    samples, _ = open_labelled(str(pets))
    told: list[str] = []
    assert sift(samples.sources, samples.names, tell=told.append) == list(range(100))
    (spoilt,) = spoil(pets, 10)
    at = samples.names.index("ant/010.png")
    assert sift(samples.sources, samples.names, tell=told.append) == [index for index in range(100) if index != at]
    assert [complaint.partition(": ")[0] for complaint in told] == [str(spoilt)]
    spoil(pets, 11, 12)
    with pytest.raises(DatasetError, match="2 of 100 images cannot be read"):
        sift(samples.sources, samples.names, tell=told.append)
    anonymous = [b"", *[pictures(1)[0]] * 9]
    assert sift(anonymous, [f"row {index}" for index in range(10)], share=0.1, tell=told.append) == list(range(1, 10))
    assert told[-1] == "row 0: is empty (0 bytes); replace the image"
