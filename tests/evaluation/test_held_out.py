"""Whoever judges a model judges it by images that it was not trained on, and says which they are."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import tarfile
import unicodedata
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.command_line import call
from tests.tiny import VIT, tiny_lit, tiny_model
from tests.training.small_runs import FIELDS, coloured, write_folder
from vitsmith import Bundle, Labels, load, save
from vitsmith.benchmark.session import BenchmarkSettings, run_benchmark
from vitsmith.cli.benchmark import _answer_data, _load
from vitsmith.cli.compress import _write as write_found
from vitsmith.compress.image_split import divide
from vitsmith.compress.images import (
    labelled_images,
    labelled_training_images,
    unlabelled_images,
    unlabelled_training_images,
)
from vitsmith.compress.merge_tokens.run import merge, merge_by
from vitsmith.compress.prune.run import prune, prune_bundle
from vitsmith.compress.prune.sizes import Pruning
from vitsmith.compress.quantize.run import quantize
from vitsmith.compress.search.resize import resize_bundle
from vitsmith.data.sets import datasets
from vitsmith.data.sets.datasets import DataSpec, open_dataset, open_labelled
from vitsmith.data.sets.samples import Samples, Splits
from vitsmith.data.sets.shapes import labelled_shapes
from vitsmith.data.sets.split_record import SPLIT, SplitRecord, digest_of, distinct, read_contents
from vitsmith.errors import DatasetError, InputError
from vitsmith.evaluation.held_out import ask, ask_pairs, choose
from vitsmith.evaluation.speed import Speed, Speedup
from vitsmith.records import Provenance
from vitsmith.report.training import write_report
from vitsmith.runs.run import Run
from vitsmith.training.images.run import Trained, train_to_bundle
from vitsmith.training.recipes.file import parse_recipe

COUNT, HELD = 48, 12
NAMES = ("blue", "green", "red")


def write_pets(folder: Path) -> Path:
    """Images of three colours, a third of them with a wrong label: nobody names all of them rightly."""
    write_folder(folder, COUNT)
    for index, file in enumerate(sorted(folder.rglob("*.png"))):
        if index % 3 == 0:
            file.rename(folder / NAMES[index // 3 % 3] / f"wrong-{file.name}")
    return folder


def write_table(folder: Path, table: Path) -> Path:
    files = sorted(folder.rglob("*.png"))
    rows = [f"{file.relative_to(table.parent).as_posix()},{file.parent.name}\n" for file in files]
    table.write_text("path,label\n" + "".join(rows))
    return table


def write_shards(folder: Path, tar: Path) -> Path:
    with tarfile.open(tar, "w") as archive:
        for file in sorted(folder.rglob("*.png")):
            archive.add(file, f"{file.parent.name}-{file.name}")
            (tar.parent / "label").write_text(file.parent.name)
            archive.add(tar.parent / "label", f"{file.parent.name}-{file.stem}.cls")
    return tar


def write_others(folder: Path, count: int) -> None:
    """Images that are nowhere else."""
    write_folder(folder, count)
    for file in folder.rglob("*.png"):
        with Image.open(file) as picture:
            Image.fromarray(np.asarray(picture)[::-1]).save(file)


def trained_on(data: str, place: Path, *, steps: int = 12, val: str = "", seed: int = 0) -> Trained:
    about = {"data": {"path": data, "val": val, "val_fraction": 0.25}, "schedule": {"steps": steps, "warmup": 1}}
    model = FIELDS["model"] | {"config": FIELDS["model"]["config"] | {"depth": 2}}
    wanted = parse_recipe(FIELDS | about | {"model": model, "run": {"eval_every": 0, "seed": seed}})
    with Run("train", "pets", place) as run:
        return train_to_bundle(wanted, open_dataset(wanted.data, seed=wanted.run.seed), run)


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pets(tmp_path_factory.mktemp("data") / "pets")


@pytest.fixture(scope="module")
def trained(pets: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Held out with a seed and a share that no verb has by default."""
    return trained_on(str(pets), tmp_path_factory.mktemp("run") / "pets", seed=3)


@pytest.fixture
def bundle(trained: Trained) -> Bundle:
    assert trained.bundle.folder is not None
    return load(trained.bundle.folder)


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def evaluated(capsys: Any, model: object, data: object, *options: str) -> tuple[dict[str, Any], str]:
    """The scores, and what was said."""
    code, out, err = call(capsys, "evaluate", model, "--data", data, "--engine", "torch", "--json", *options)
    assert code == 0, err
    return json.loads(out), err


def contents(samples: Samples) -> set[int]:
    return set(distinct(read_contents(samples, bytes(16))).tolist())


def held_out_of(pets: Path) -> set[int]:
    return contents(open_dataset(str(pets), seed=3, val_fraction=0.25).val)


# --- evaluate says what training said ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["folder", "table", "shards", "digits", "shapes", "divided", "val"])
def test_evaluate_gives_the_score_that_training_gave(
    kind: str, pets: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = labelled_shapes()
    some = Splits(few.train.select(range(0, 1000, 4)), few.val.select(range(0, 1000, 8)))
    monkeypatch.setitem(datasets.BUILT_IN, "shapes", lambda: some)
    shutil.copytree(pets, tmp_path / "pets")
    data, val = kind, ""
    if kind in ("folder", "val"):
        data = "pets"
    elif kind == "table":
        data = write_table(tmp_path / "pets", tmp_path / "pets.csv").name
    elif kind == "shards":
        data = write_shards(tmp_path / "pets", tmp_path / "pets.tar").name
    elif kind == "divided":
        write_others(tmp_path / "parts" / "val", 9)
        shutil.copytree(pets, tmp_path / "parts" / "train")
        data = "parts"
    if kind == "val":
        write_others(tmp_path / "judged", 9)
        val = "judged"
    made = trained_on(data, tmp_path / "run", steps=2, val=val)
    final = made.result.final.scores
    scores, err = evaluated(capsys, tmp_path / "run" / "model", val or data)
    assert scores["num_images"] == final.num_images
    assert scores["top1"] == final.top1
    assert scores["confusion"] == final.confusion.tolist()
    assert scores["split"]["held_out"] == final.num_images and scores["split"]["new"] == 0
    assert f"evaluating on {final.num_images:,} held-out images of " in err


def test_what_is_left_out_is_said_everywhere(trained: Trained, pets: Path, capsys: Any) -> None:
    final = trained.result.final.scores
    model = shutil.copytree(str(trained.bundle.folder), "model")
    scores, err = evaluated(capsys, model, pets, "--record")
    assert scores["top1"] == final.top1 and scores["confusion"] == final.confusion.tolist()
    assert scores["split"] == {"held_out": HELD, "new": 0, "trained_on": 0, "left_out": COUNT - HELD, "missing": 0}
    assert (
        f"evaluating on {HELD} held-out images of pets; {COUNT - HELD} that the model was trained on are left out"
        in err
    )
    assert scores["data"] == f"pets, {HELD} held-out images"
    assert f"pets, {HELD} held-out images" in [one.data for one in load(model).measurements]
    written = json.loads(next(Path("runs").rglob("scores.json")).read_text())
    assert written["data"] == scores["data"] and written["split"] == scores["split"]


def test_all_images_are_scored_only_when_asked_for_with_a_warning(trained: Trained, pets: Path, capsys: Any) -> None:
    scores, err = evaluated(capsys, trained.bundle.folder, pets, "--split", "all")
    assert scores["num_images"] == COUNT
    assert f"warning: the model was trained on {COUNT - HELD} of the {COUNT} images of pets" in err
    assert scores["data"] == "pets, training images among them"
    assert scores["split"]["trained_on"] == COUNT - HELD


# --- the data set has changed since -----------------------------------------------------------------------------------


def test_names_and_places_do_not_matter(bundle: Bundle, pets: Path, tmp_path: Path) -> None:
    files = sorted(pets.rglob("*.png"))
    random.Random(0).shuffle(files)
    for index, file in enumerate(files):
        place = tmp_path / "moved" / file.parent.name / "deeper" / f"renamed-{index:03d}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, place)
    evaluation_set = choose([bundle], ask("moved"))
    assert contents(evaluation_set.samples) == held_out_of(pets)
    assert evaluation_set.name == "moved, held-out images"


def test_new_images_are_scored_and_counted_deleted_ones_are_told(bundle: Bundle, pets: Path, tmp_path: Path) -> None:
    shutil.copytree(pets, tmp_path / "pets")
    held = open_dataset(str(tmp_path / "pets"), seed=3, val_fraction=0.25).val
    for source in held.sources[:2]:
        Path(str(source)).unlink()
    for index in range(3):
        Image.fromarray(np.full((20, 20, 3), 50 * index, np.uint8)).save(tmp_path / "pets" / "red" / f"new{index}.png")
    evaluation_set = choose([bundle], ask("pets"))
    assert evaluation_set.counts == {
        "held_out": HELD - 2,
        "new": 3,
        "trained_on": 0,
        "left_out": COUNT - HELD,
        "missing": 2,
    }
    assert evaluation_set.counted == f"pets, {HELD + 1} held-out and new images"
    assert f"evaluating on {HELD - 2} held-out and 3 new images of pets" in evaluation_set.told[0]
    limited = evaluation_set.told_of(4)
    assert limited[0].startswith(f"evaluating on 4 of {HELD - 2} held-out and 3 new images of pets")
    assert limited[1:] == evaluation_set.told[1:] and evaluation_set.told_of(HELD + 1) == evaluation_set.told
    assert f"2 of the {HELD} images held out in training are not in this data" in evaluation_set.told


def test_a_picture_that_was_saved_again_is_new(bundle: Bundle, pets: Path, tmp_path: Path) -> None:
    file = Path(str(open_dataset(str(pets), seed=3, val_fraction=0.25).train.sources[0]))
    for name in NAMES:
        (tmp_path / "again" / name).mkdir(parents=True)
    with Image.open(file) as picture:
        picture.save(tmp_path / "again" / "red" / "a.bmp")
    for name in NAMES[:2]:
        Image.fromarray(coloured(1).image(0)).save(tmp_path / "again" / name / "a.webp")
    evaluation_set = choose([bundle], ask("again"))
    assert evaluation_set.counts is not None and evaluation_set.counts["new"] == 3
    assert evaluation_set.told == ("evaluating on 3 new images of again",)
    assert evaluation_set.name == "again"


def test_a_data_set_of_nothing_but_training_images_is_refused(bundle: Bundle, pets: Path, tmp_path: Path) -> None:
    for source in open_dataset(str(pets), seed=3, val_fraction=0.25).train.sources:
        place = tmp_path / "seen" / Path(str(source)).parent.name
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(str(source), place)
    with pytest.raises(DatasetError, match=f"all {COUNT - HELD} images of seen were used to train the model"):
        choose([bundle], ask("seen"))
    with pytest.raises(DatasetError, match="none is left to evaluate on"):
        divide(bundle, "seen", seed=0)
    assert len(choose([bundle], ask("seen", "all")).samples) == COUNT - HELD


def test_splits_asked_for_by_name_are_taken_as_they_are_with_a_warning(
    bundle: Bundle, pets: Path, tmp_path: Path
) -> None:
    parts = open_dataset(str(pets), seed=3, val_fraction=0.25)
    for split, sources in (("train", parts.train.sources[2:]), ("val", [*parts.val.sources, *parts.train.sources[:2]])):
        for source in sources:
            place = tmp_path / "parts" / split / Path(str(source)).parent.name
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(str(source), place)
    by_default, by_name = (choose([bundle], ask("parts", split)) for split in ("", "val"))
    assert contents(by_default.samples) == held_out_of(pets)
    assert by_default.counts is not None and by_default.counts["left_out"] == 2
    assert by_default.name == "parts/val, held-out images"
    assert len(by_name.samples) == HELD + 2
    assert by_name.told[0].startswith(f"warning: the model was trained on 2 of the {HELD + 2} images of parts/val:")
    learned = choose([bundle], ask("parts", "train"))
    count = COUNT - HELD - 2
    assert learned.told[0].startswith(
        f"warning: the model was trained on {count} of the {count} images of parts/train:"
    )
    assert learned.name == "parts/train, training images"
    whole = choose([bundle], ask("parts", "all"))
    assert (len(whole.samples), whole.data) == (COUNT, "parts/all")
    assert contents(whole.samples) == contents(open_labelled(str(pets))[0])


def test_all_splits_together_keep_each_image_with_its_class(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "bée")
    for split, names in (("train", ("ant", "bée")), ("test", (decomposed, "cow"))):
        for number, name in enumerate(names):
            (tmp_path / "parts" / split / name).mkdir(parents=True)
            Image.new("RGB", (4, 4), (number, len(split), 0)).save(tmp_path / "parts" / split / name / "1.png")
    samples, name = open_labelled("parts", "all")
    found = {samples.names[at]: samples.classes[samples.labels[at]] for at in range(len(samples))}
    assert name == "parts/all"
    assert found == {
        "train/ant/1.png": "ant", "train/bée/1.png": "bée", f"test/{decomposed}/1.png": "bée", "test/cow/1.png": "cow",
    }  # fmt: skip
    assert samples.classes == ("ant", "bée", "cow")
    for at in range(len(samples)):
        split, label, _ = samples.names[at].split("/")
        assert samples.image(at)[0, 0].tolist()[1] == len(split)
        assert Path(str(samples.sources[at])).parent.name == label
    with pytest.raises(IndexError):
        _ = samples.sources[len(samples)]


# --- what is not known ------------------------------------------------------------------------------------------------


def test_a_bundle_without_a_record_says_that_it_cannot_tell(trained: Trained, pets: Path, capsys: Any) -> None:
    model = shutil.copytree(str(trained.bundle.folder), "model")
    (Path(model) / SPLIT).unlink()
    scores, err = evaluated(capsys, model, pets)
    assert scores["num_images"] == COUNT and scores["split"] is None
    assert "warning: model does not say which images it was trained on: some may be among the 48 images of pets" in err
    write_folder(Path("parts/train"), 9)
    write_folder(Path("parts/val"), 6)
    assert choose([load(model)], ask("parts")).told == ()
    foreign = load(model)
    foreign.provenance = Provenance(source="B_16.npz", kind="jax-npz")
    assert choose([foreign], ask(str(pets))).told == ()


def test_a_damaged_record_is_one_line_and_deleting_it_helps(trained: Trained, pets: Path, capsys: Any) -> None:
    model = Path(shutil.copytree(str(trained.bundle.folder), "model"))
    (model / SPLIT).write_bytes(b"\0" * 100)
    merging = ["merge-tokens", "--keep", "0.91"]
    for verb in (["evaluate"], merging, ["prune", "--depth", "1"], ["quantize"], ["benchmark"]):
        code, _, err = call(capsys, *verb, model, "--data", pets)
        assert code == 2 and "split.safetensors is damaged" in err and "delete it" in err, verb
    for verb in (["export", "--to", "onnx"], [*merging, "--images", pets], ["inspect"]):
        code, _, err = call(capsys, *verb, model)
        assert code == 2 and "delete it" in err, verb
    assert call(capsys, "predict", model, pets / "red")[0] == 0


def test_images_under_both_lists_count_as_trained_on(bundle: Bundle, pets: Path, tmp_path: Path) -> None:
    record = bundle.split
    assert record is not None
    both = replace(record, train=np.union1d(record.train, record.held_out[:2]))
    evaluation_set = choose([bundle.with_split(both)], ask(str(pets)))
    assert len(evaluation_set.samples) == HELD - 2
    assert "2 images were held out and trained on, under two names: they count as trained on" in evaluation_set.told


def test_what_the_model_began_from_had_learned_is_left_out_too(bundle: Bundle, pets: Path) -> None:
    record = bundle.split
    assert record is not None
    nothing = np.empty(0, np.uint64)
    earlier = np.union1d(record.train, record.held_out[:1])
    child = SplitRecord(record.salt, nothing, record.held_out[:4], nothing, earlier)
    evaluation_set = choose([bundle.with_split(child)], ask(str(pets)))
    assert evaluation_set.counts == {
        "held_out": 4,
        "new": HELD - 4,
        "trained_on": 0,
        "left_out": COUNT - HELD,
        "missing": 0,
    }
    assert any("was trained on 1 of the held-out images" in told for told in evaluation_set.told)
    unknown = SplitRecord(record.salt, record.train, record.held_out, nothing, nothing, complete=False)
    assert any("are not recorded" in told for told in choose([bundle.with_split(unknown)], ask(str(pets))).told)


# --- the verbs that make it smaller -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 7])
def test_whatever_the_seed_the_held_out_images_judge_and_the_others_teach(
    bundle: Bundle, pets: Path, seed: int
) -> None:
    division = divide(bundle, str(pets), seed=seed)
    assert contents(division.evaluation_set.samples) == held_out_of(pets)
    assert contents(division.training) == contents(open_dataset(str(pets), seed=3, val_fraction=0.25).train)
    assert division.evaluation_set.name == f"{pets}, held-out images"
    material = labelled_training_images(bundle, str(pets), seed=seed)
    assert contents(material.evaluation) == held_out_of(pets)
    assert material.name == f"{pets}, {HELD} held-out images"
    photos = labelled_images(bundle, str(pets))
    assert {int(digest_of(source, bytes(16))) for source in photos.evaluation.sources} == held_out_of(pets)
    assert not {int(digest_of(source, bytes(16))) for source in photos.calibration.sources} & held_out_of(pets)
    assert photos.name == f"{pets}, {HELD} held-out images"
    teach = f"{COUNT - HELD} images that the model was trained on are for training or calibration"
    assert photos.remarks[0] == f"evaluating on {HELD} held-out images of {pets}; {teach}"


def test_of_mostly_new_images_a_fifth_judges_and_the_pruned_model_says_which_taught(
    bundle: Bundle, tmp_path: Path, pets: Path
) -> None:
    random_pixels = np.random.default_rng(5)
    for index in range(60):
        place = tmp_path / "new" / NAMES[index % 3] / f"{index}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random_pixels.integers(0, 255, (20, 20, 3)).astype(np.uint8)).save(place)
    seen = open_dataset(str(pets), seed=3, val_fraction=0.25).train.sources[0]
    shutil.copy(str(seen), tmp_path / "new" / "red" / "seen.png")
    material = labelled_training_images(bundle, "new", seed=1)
    assert (len(material.calibration), len(material.evaluation)) == (49, 12)
    other = labelled_training_images(bundle, "new", seed=2)
    assert contents(material.evaluation) != contents(other.evaluation)
    assert material.record is not None
    later = choose([bundle.with_split(material.record)], ask("new"))
    assert contents(later.samples) == contents(material.evaluation)
    assert later.counts is not None and later.counts["held_out"] == 12
    again = labelled_training_images(bundle.with_split(material.record), "new", seed=99)
    assert contents(again.evaluation) == contents(material.evaluation)


def test_a_model_of_which_nothing_is_known_is_divided_as_before_and_remembers_it(pets: Path) -> None:
    made = Bundle.of(tiny_model(VIT.model_copy(update={"classes": 3})), labels=Labels(names=NAMES))
    material = labelled_training_images(made, str(pets), seed=4)
    expected = open_dataset(str(pets), seed=4)
    assert contents(material.evaluation) == contents(expected.val)
    assert material.told == () and material.name == f"{pets}, {len(expected.val)} held-out images"
    assert material.record is not None and material.record.complete
    assert (len(material.record.train), len(material.record.held_out)) == (len(expected.train), len(expected.val))
    ours = Bundle.of(made.model, labels=made.labels, provenance=Provenance(source="vitsmith train", kind="trained"))
    unsure = labelled_training_images(ours, str(pets), seed=4)
    assert unsure.record is not None and not unsure.record.complete
    assert "does not say which images it was trained on" in unsure.told[0]
    alone = unlabelled_training_images(made, [str(file) for file in sorted(pets.rglob("*.png"))])
    assert alone.record is not None
    assert len(alone.record.train) + len(alone.record.held_out) == COUNT


def test_a_split_that_teaches_does_not_judge(bundle: Bundle) -> None:
    for split in ("train", "all"):
        with pytest.raises(InputError, match=f"`split` {split} holds training or calibration images"):
            divide(bundle, "digits", seed=0, split=split)


def test_several_models_are_judged_by_what_none_was_trained_on(bundle: Bundle, pets: Path) -> None:
    record = bundle.split
    assert record is not None
    samples = open_labelled(str(pets))[0]
    other_salt = bytes(range(16))
    digests = read_contents(samples, other_salt).digests
    nothing = np.empty(0, np.uint64)
    other = SplitRecord(other_salt, np.unique(digests[:24]), np.unique(digests[24:]), nothing, nothing)
    evaluation_set = choose([bundle, bundle.with_split(other)], ask(str(pets)))
    assert contents(evaluation_set.samples) == held_out_of(pets) & contents(samples.select(range(24, COUNT)))
    assert "that one of the models was trained on are left out" in evaluation_set.told[0]


FASTER = Speedup(Speed(2.0, 100.0, 16), Speed(1.0, 250.0, 16), 2.0, 2.5)
SMALLER = {
    "export": ["export", "--to", "onnx"],
    "merge-tokens": ["merge-tokens", "--keep", "0.83", "--max-drop", "100", "--min-speedup", "0.001"],
    "prune": ["prune", "--mlp-width", "16", "--steps", "0", "--max-drop", "100", "--min-speedup", "0.001"],
    "quantize": ["quantize", "--engine", "onnx", "--max-drop", "100", "--min-speedup", "0.001"],
}


@pytest.mark.parametrize("verb", SMALLER)
def test_what_is_made_of_it_is_judged_by_the_same_images(
    verb: str, bundle: Bundle, trained: Trained, pets: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for timed, name in ((quantize, "race"), (merge, "measure"), (prune, "measure")):
        monkeypatch.setitem(timed.__kwdefaults__, name, lambda *_: FASTER)
    code, out, err = call(capsys, *SMALLER[verb], bundle.folder, "--data", pets, "--out", "out", "--json")
    assert code == 0, err
    facts = json.loads(out)
    if verb == "export":
        assert f"evaluating on {HELD} held-out images of pets" in err and err.count("evaluating on ") == 1
    else:
        assert "held-out images" in facts["data"]
        assert any(f"evaluating on {HELD} held-out images" in told for told in (facts.get("remarks") or facts["notes"]))
    made = load(facts["written"])
    assert made.split is not None and bundle.split is not None
    assert made.split.held_out.tolist() == bundle.split.held_out.tolist()
    assert made.split.train.tolist() == bundle.split.train.tolist()
    engine = "torch" if made.program == "torch" else "onnx"
    code, out, err = call(capsys, "evaluate", facts["written"], "--data", pets, "--engine", engine, "--json")
    assert code == 0, err
    scores = json.loads(out)
    assert scores["num_images"] == HELD and scores["split"]["left_out"] == COUNT - HELD
    if verb == "export":
        assert scores["confusion"] == trained.result.final.scores.confusion.tolist()
    again = [*SMALLER[verb], bundle.folder, "--data", pets, "--out", "bare", "--without-split", "--json"]
    code, out, err = call(capsys, *again)
    assert code == 0, err
    assert not (Path(json.loads(out)["written"]) / SPLIT).exists()
    assert f"evaluating on {HELD} held-out images" in err  # the record judges, and is only not written


def test_images_without_labels_that_it_was_trained_on_are_told(bundle: Bundle, pets: Path, tmp_path: Path) -> None:
    photos = unlabelled_images(bundle, sorted(pets.rglob("*.png")))
    assert bundle.split is not None
    known = sum(digest_of(image, bundle.split.salt) in bundle.split.train for image in photos.evaluation.sources)
    assert known > 0 and any(f"was trained on {known} of the evaluation images" in one for one in photos.remarks)
    material = unlabelled_training_images(bundle, sorted(pets.rglob("*.png")))
    known = sum(digest_of(image, bundle.split.salt) in bundle.split.train for image in material.evaluation.sources)
    assert known > 0 and any(f"was trained on {known} of the evaluation images" in one for one in material.told)
    write_others(tmp_path / "new", COUNT)
    assert "trained on" not in "".join(unlabelled_images(bundle, sorted((tmp_path / "new").rglob("*.png"))).remarks)


def test_every_model_of_a_search_knows_its_images(bundle: Bundle, pets: Path, tmp_path: Path) -> None:
    material = labelled_training_images(bundle, str(pets))
    pruned, _ = prune_bundle(bundle, material.calibration, Pruning(mlp_width=16))
    for made in (resize_bundle(bundle, (8, 8)), merge_by(bundle, 1.2), pruned):
        assert made.split is bundle.split is not None
    found: Any = SimpleNamespace(holds=True, to_dict=dict, verified_bundle=lambda: bundle)
    for without in (False, True):
        write_found(found, without, tmp_path / str(without))
        assert (tmp_path / str(without) / "model" / SPLIT).exists() is not without


def test_benchmark_uses_the_same_images(bundle: Bundle, pets: Path, capsys: Any) -> None:
    answer_data = _answer_data(_load([str(bundle.folder)], "", {}, False), [], DataSpec(path=str(pets)), "")
    assert answer_data.data == f"pets, {HELD} held-out images"
    assert answer_data.samples is not None and contents(answer_data.samples) == held_out_of(pets)
    found = run_benchmark([], BenchmarkSettings(), replace(answer_data, reference=None)).to_dict()
    assert found["data"] == answer_data.data
    assert found["split"] == {"held_out": HELD, "new": 0, "trained_on": 0, "left_out": COUNT - HELD, "missing": 0}
    assert f"evaluating on {HELD} held-out images of pets" in capsys.readouterr().err


def test_a_copy_that_was_saved_keeps_the_record_and_features_do_not(bundle: Bundle, tmp_path: Path) -> None:
    save(bundle, tmp_path / "copy")
    assert load(tmp_path / "copy").split is not None
    assert bundle.folder is not None
    assert load(bundle.folder, headless=True).split is None


def test_inspect_counts_them(bundle: Bundle, capsys: Any) -> None:
    code, out, _ = call(capsys, "inspect", bundle.folder)
    assert code == 0
    assert f"{COUNT - HELD} trained on, {HELD} held out" in out


# --- pairs, and what needs no torch -----------------------------------------------------------------------------------


def test_captioned_images_are_told_apart_too(pets: Path, tmp_path: Path) -> None:
    shutil.copytree(pets, tmp_path / "pets")
    files = sorted((tmp_path / "pets").rglob("*.png"))
    names = [file.relative_to(tmp_path).as_posix() for file in files[:6]]
    rows = [f"{name},{word} {at}\n" for at, name in enumerate(names) for word in ("a", "the")]
    (tmp_path / "captions.csv").write_text("path,caption\n" + "".join(rows))
    lit = tiny_lit()
    salt, nothing = bytes(range(16)), np.empty(0, np.uint64)
    train = np.unique(np.array([digest_of(file, salt) for file in files[:2]], np.uint64))
    evaluation_set = choose(
        [lit.with_split(SplitRecord(salt, train, nothing, nothing, nothing))], ask_pairs("captions.csv")
    )
    assert evaluation_set.told == (
        "evaluating on 8 new pairs of captions; 4 that the model was trained on are left out",
    )
    assert len(evaluation_set.samples) == 8


def test_telling_images_apart_needs_no_torch(bundle: Bundle) -> None:
    code = (
        "import sys; import vitsmith.evaluation.held_out; from vitsmith.weights.bundle.bundle import Bundle; "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_table_whose_columns_have_names_of_their_own_is_judged_as_it_was_trained(tmp_path, capsys) -> None:
    pets = write_pets(tmp_path / "pets")
    table = write_table(pets, tmp_path / "pets.csv")
    table.write_text(table.read_text().replace("path,label", "id,breed"))
    data = {"path": str(table), "image_column": "id", "label_column": "breed", "val_fraction": 0.25}
    wanted = parse_recipe(FIELDS | {"data": data, "schedule": {"steps": 1, "warmup": 0}, "run": {"eval_every": 0}})
    with Run("train", "pets", tmp_path / "run") as run:
        trained = train_to_bundle(wanted, open_dataset(wanted.data), run)
    splits = open_dataset(wanted.data)
    report = (write_report(trained, splits, run.folder)).read_text()
    assert f"--data {table} --image-column id --label-column breed" in report
    columns = ["--image-column", "id", "--label-column", "breed"]
    model, out = run.folder / "model", tmp_path / "scores"
    code, scores, _ = call(capsys, "evaluate", model, "--data", table, *columns, "--json", "--out", out)
    assert (code, json.loads(scores)["num_images"]) == (0, HELD)
    labelled = DataSpec(path=str(table), image_column="id", label_column="breed")
    assert len(labelled_images(trained.bundle, labelled).evaluation) == HELD
    assert len(labelled_training_images(trained.bundle, labelled).evaluation) == HELD
    code, _, told = call(capsys, "export", model, "--to", "onnx", "--label-column", "breed")
    assert (code, "of --data: give --data too" in told) == (2, True)


@pytest.mark.parametrize("recorded", [True, False])
def test_what_is_passed_over_is_told_by_every_verb_that_divides(pets, bundle, tmp_path, recorded) -> None:
    shutil.copytree(pets, tmp_path / "pets")
    (tmp_path / "pets" / "red" / "one.HEIC").touch()
    judged = bundle if recorded else bundle.with_split(None)
    for verb in (labelled_images, labelled_training_images):
        told: list[str] = []
        verb(judged, str(tmp_path / "pets"), tell=told.append)
        assert told == [f"skipped in {tmp_path / 'pets'}, as these files are not supported: 1 .heic"]
