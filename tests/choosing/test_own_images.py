"""Accuracy on a user's own images: which images, each answered by a model that did not see it, intervals, and ties."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import RidgeClassifierCV
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import vitsmith as vs
from tests.choosing.made import checkpoint, machine
from tests.probing.coloured import pets
from tests.tiny import CONFIGS, VIT, tiny_model
from vitsmith.choosing.figures import Mark
from vitsmith.choosing.own_images.result import Difference, OwnAccuracies, Scored
from vitsmith.choosing.own_images.run import accuracy_on
from vitsmith.choosing.own_images.sample import Unusable, labelled_sample, stratified
from vitsmith.choosing.own_images.stage import POINTS, AccuracyStage
from vitsmith.choosing.recommendation import Setup
from vitsmith.choosing.request import RequestOptions, make_request
from vitsmith.choosing.run import Stages, recommend
from vitsmith.data.sets.datasets import DataSpec, open_data
from vitsmith.errors import DatasetError, UnknownNameError
from vitsmith.models.config import ModelConfig
from vitsmith.models.configure import change
from vitsmith.weights.bundle.bundle import Bundle

STRENGTHS = np.logspace(-3, 4, 15)


@dataclass(frozen=True)
class Tower:
    source: str
    name: str
    config: ModelConfig


@pytest.fixture
def towers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Tower]:
    monkeypatch.setenv("VITSMITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    found = []
    for name, config in (("large", change(VIT, depth=4)), ("small", CONFIGS["vit-gap"])):
        vs.save(Bundle.of(tiny_model(config)), tmp_path / name)
        found.append(Tower(str(tmp_path / name), name, config))
    return found


def draw(folder: Path, names: list[str]) -> DataSpec:
    for at, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(at).integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(path)
    return DataSpec(path=str(folder))


def features_of(tower: Tower, data: DataSpec) -> tuple[np.ndarray, np.ndarray]:
    """(N, D) features by the engine, and labels."""
    bundle, images = vs.load(tower.source, headless=True), open_data(data, "all")
    pixels = np.stack([vs.preprocess(images.image(at), bundle.preprocessing) for at in range(len(images))])
    return vs.open_engine(bundle, "torch").run(pixels), images.labels


def test_an_image_is_never_answered_by_itself(towers: list[Tower], tmp_path: Path) -> None:
    noise = draw(tmp_path / "noise", [f"{at % 2}/{at}.png" for at in range(60)])
    row = accuracy_on(noise, towers[1:]).rows[0]
    assert 0.25 < row.neighbours.mean() < 0.75 and 0.25 < row.ridge.mean() < 0.75  # with itself it would be all of them


def test_every_image_is_answered_from_the_others(towers: list[Tower], tmp_path: Path) -> None:
    data = DataSpec(path=pets(tmp_path / "pets"))
    told: list[str] = []
    found = accuracy_on(data, towers, tell=told.append)
    assert [row.name for row in found.rows] == ["small", "large"]  # small ones first
    assert (found.images, found.classes, found.chance) == (36, 3, pytest.approx(1 / 3))
    assert not found.failed and not found.unfetched and not found.instead
    values, labels = features_of(towers[1], data)
    leave_one_out = cross_val_predict(KNeighborsClassifier(5, metric="cosine"), values, labels, cv=LeaveOneOut())
    assert found.find(towers[1].source).neighbours.mean() == pytest.approx((leave_one_out == labels).mean(), abs=0.15)
    folded = cross_val_predict(make_pipeline(StandardScaler(), RidgeClassifierCV(STRENGTHS)), values, labels, cv=5)
    assert found.find(towers[1].source).ridge.mean() == pytest.approx((folded == labels).mean(), abs=0.15)
    best = found.best
    assert best is not None and best.accuracy > 0.5
    low, high = found.interval(best)
    assert low < best.accuracy < high or low == high == best.accuracy
    again = accuracy_on(data, towers)
    assert again.to_dict()["rows"][0]["interval"] == found.to_dict()["rows"][0]["interval"]
    assert [line.split(":")[0] for line in told if "%" in line] == ["small", "large"]


def test_what_is_not_here_and_what_fails_is_named(towers: list[Tower], tmp_path: Path) -> None:
    data = DataSpec(path=pets(tmp_path / "pets"))
    broken = Tower(str(tmp_path / "nothing"), "broken", VIT)
    found = accuracy_on(data, [*towers, broken], is_here=lambda one: one.name != "large")
    assert found.unfetched == ("large",) and [row.name for row in found.rows] == ["small"]
    assert [name for name, _ in found.failed] == ["broken"] and any("broken" in one for one in found.remarks())
    none = accuracy_on(data, towers, is_here=lambda _: False)
    assert not none.rows and none.best is None and "published accuracy ranks" in none.instead
    with pytest.raises(UnknownNameError, match="known are"):
        found.find("elsewhere")


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["a.png", "b.png"], "needs one sub-folder for each of at least 2 classes"),
        ([f"a/{at}.png" for at in range(30)], "of one class, so that there is nothing to tell apart"),
        (["a/1.png", "a/2.png", "b/3.png"], "has 3 labelled images of 2 classes, and at least 20"),
        ([f"{at}/1.png" for at in range(25)], "two of a class, are needed"),
    ],
)
def test_data_that_tell_nothing(towers: list[Tower], tmp_path: Path, names: list[str], reason: str) -> None:
    found = accuracy_on(draw(tmp_path / "data", names), towers)
    assert not found.rows and reason in found.instead and "published accuracy ranks instead" in found.instead
    assert "\n" not in found.instead and found.to_dict()["remarks"] == [found.instead]


def test_no_data_at_all_is_an_error(towers: list[Tower]) -> None:
    with pytest.raises(DatasetError, match="does not exist"):
        accuracy_on(DataSpec(path="nowhere"), towers)


def test_test_images_are_kept_for_the_end(tmp_path: Path) -> None:
    names = [f"{part}/{label}/{at}.png" for part in ("train", "val", "test") for label in "ab" for at in range(11)]
    found = labelled_sample(draw(tmp_path / "data", names))
    assert not isinstance(found, Unusable)
    assert len(found) == 44 and {name.split("/")[0] for name in found.names} == {"train", "val"}


def test_each_class_has_its_share_and_two_images_at_least() -> None:
    labels = np.repeat([0, 1, 2, 3], [1000, 500, 100, 3])
    chosen = stratified(labels, 160, seed=1)
    assert len(chosen) == len(set(chosen.tolist())) == 160 and (np.diff(chosen) > 0).all()
    counts = np.bincount(labels[chosen])
    assert counts[3] >= 2 and counts[0] == pytest.approx(100, abs=2) and counts[1] == pytest.approx(50, abs=2)
    assert (stratified(labels, 160, seed=1) == chosen).all() and (stratified(labels, 160, seed=2) != chosen).any()
    assert (stratified(labels, 5000) == np.arange(1603)).all()


def result(*right: Any, groups: Any = None, chance: float = 0.1) -> OwnAccuracies:
    rows = tuple(
        Scored(f"s{at}", f"m{at}", np.array(one, bool), np.array(one, bool), 1.0) for at, one in enumerate(right)
    )
    count = len(right[0])
    return OwnAccuracies("pets", count, 10, chance, np.arange(count) if groups is None else groups, rows)


def test_intervals_are_those_of_the_binomial() -> None:
    random = np.random.default_rng(3)
    right = random.random(1000) < 0.8
    found = result(right, ~right)
    share = right.mean()
    by_hand = 1.96 * np.sqrt(share * (1 - share) / 1000)
    assert found.interval(found.rows[0]) == pytest.approx((share - by_hand, share + by_hand), abs=0.004)
    twice = result(np.repeat(right[:500], 2), groups=np.repeat(np.arange(500), 2))
    low, high = twice.interval(twice.rows[0])
    alone = result(right[:500])
    assert (low, high) == pytest.approx(alone.interval(alone.rows[0]), abs=0.004)  # a copy is no second image


def test_differences_are_paired() -> None:
    random = np.random.default_rng(4)
    right = random.random(1000) < 0.5
    worse = right.copy()
    worse[np.flatnonzero(right)[:30]] = False
    found = result(right, worse)
    gap = found.difference(*found.rows)
    by_hand = 1.96 * np.sqrt(0.03 * 0.97 / 1000)  # of the 30 images alone: unpaired it would be 0.044
    assert gap.value == pytest.approx(0.03) and not gap.tied and gap.certain
    assert gap.interval == pytest.approx((0.03 - by_hand, 0.03 + by_hand), abs=0.002)
    assert found.tied == (found.rows[0],)
    worse[np.flatnonzero(right)[10:30]] = True
    near = result(right, worse)
    assert near.tied == near.rows and near.difference(*near.rows).tied
    assert not Difference(0.02, (-0.01, 0.05)).certain


def test_a_far_domain_and_ties_are_told() -> None:
    random = np.random.default_rng(5)
    far = result(random.random(200) < 0.15, random.random(200) < 0.12)
    assert any("the domain looks far" in one for one in far.remarks())
    good = random.random(200) < 0.9
    assert not result(good, random.random(200) < 0.3).remarks()
    assert any("the domain may be far" in one for one in result(good, good, good).remarks())
    easy = np.arange(200) > 0
    assert any("are easy for all of them" in one for one in result(easy, easy, easy).remarks())
    few = result(np.arange(40) < 30, np.arange(40) >= 12)
    assert any("40 images do not tell m0 from m1 with certainty" in one for one in few.remarks())


def test_a_ranking_by_own_images(towers: list[Tower], tmp_path: Path) -> None:
    """The published order is the other way round; what is not here comes last, whatever is published."""
    data = DataSpec(path=pets(tmp_path / "pets"))
    published = {"large": 90.0, "small": 70.0}
    zoo = [checkpoint(one.name, published[one.name], one.config, source=one.source) for one in towers]
    zoo.append(checkpoint("elsewhere", 95.0))
    stage = AccuracyStage(data, is_local=lambda one: one.name != "elsewhere")
    request = make_request(RequestOptions(latency="10s"))
    found = recommend(request, zoo, machine(setups=[Setup("onnx")]), Stages(accuracy=stage, tie=POINTS))
    assert stage.found is not None and stage.found.unfetched == ("elsewhere",)
    order = [row.checkpoint.name for row in found]
    own = {row.name: 100 * row.accuracy for row in stage.found.rows}
    assert order[-1] == "elsewhere" and set(order[:2]) == {"large", "small"}
    if abs(own["large"] - own["small"]) > POINTS:
        assert order[0] == max(own, key=own.__getitem__)
    for row in found:
        if row.checkpoint.name == "elsewhere":
            assert row.accuracy is None and "`download` fetches them" in row.remarks[-1]
        else:
            assert row.accuracy is not None and row.accuracy.value == own[row.checkpoint.name]
            assert row.accuracy.mark == Mark.measured and row.accuracy.low <= row.accuracy.value <= row.accuracy.high
    str(found), found.to_dict()  # both can be shown


def test_without_scores_published_accuracy_ranks(towers: list[Tower], tmp_path: Path) -> None:
    zoo = [checkpoint("one", 90.0), checkpoint("two", 70.0)]
    request, here = make_request(RequestOptions(latency="10s")), machine(setups=[Setup("onnx")])
    for data, is_local, reason in (
        (DataSpec(path=pets(tmp_path / "pets")), lambda _: False, "`download` fetches them"),
        (draw(tmp_path / "flat", ["a.png"]), lambda _: True, "published accuracy ranks instead"),
    ):
        stage = AccuracyStage(data, is_local=is_local)
        found = recommend(request, zoo, here, Stages(accuracy=stage, tie=POINTS))
        assert [row.checkpoint.name for row in found] == ["one", "two"]
        assert all(row.accuracy and row.accuracy.mark == Mark.published for row in found)
        assert stage.found and reason in stage.found.instead
