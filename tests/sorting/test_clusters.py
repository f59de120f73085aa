"""Clusters beside scikit-learn's HDBSCAN called by itself, and their names."""

from __future__ import annotations

import csv
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.stats import binomtest
from sklearn.cluster import HDBSCAN
from sklearn.metrics import adjusted_rand_score

import vitsmith as vs
from tests.sorting.collections import index_of
from tests.tiny import CONFIGS, pictures, tiny_lit, tiny_model
from vitsmith.errors import InputError, MissingPackageError
from vitsmith.retrieval.description import Space
from vitsmith.retrieval.writer import IndexWriter
from vitsmith.sorting import clusters
from vitsmith.sorting.cluster_names import Namer, usual_words
from vitsmith.sorting.clusters import Clusters
from vitsmith.sorting.places import Gathering, Opener, open_places
from vitsmith.sorting.table import check_table, write_table

WIDTH = 40


def blobs(sizes: tuple[int, ...], noise: int = 0, spread: float = 0.06, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors about centres, in any order, and the number of the centre of each; -1 for noise."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(len(sizes), WIDTH))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    near = [centre + spread * random.normal(size=(size, WIDTH)) for centre, size in zip(centres, sizes, strict=True)]
    vectors = np.concatenate([*near, random.normal(size=(noise, WIDTH))])
    of = np.repeat([*range(len(sizes)), -1], [*sizes, noise])
    order = random.permutation(len(vectors))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True))[order].astype(np.float32), of[order]


def texts_of(folder: Path, vectors: np.ndarray) -> vs.retrieval.index.Index:  # type: ignore[name-defined]
    return index_of(folder, [f"text {at}" for at in range(len(vectors))], vectors, kind="texts")


def numbers(found: Clusters, count: int) -> np.ndarray:
    """The number of the group of 'text 0', 'text 1', ...; -1 for none."""
    of = np.full(count, -1)
    for number, group in enumerate(found.groups):
        of[[int(name.split()[1]) for name in group.members]] = number
    return of


def test_groups_are_those_of_hdbscan_on_the_principal_components(tmp_path: Path) -> None:
    vectors, of = blobs((40, 25, 12, 7), noise=30)
    found = vs.cluster(texts_of(tmp_path / "index", vectors), names=False)
    stored = vectors.astype(np.float16).astype(np.float64)
    values = np.linalg.svd(stored - stored.mean(axis=0), compute_uv=False)
    direct = by_hdbscan(stored)
    mine = numbers(found, len(vectors))
    assert adjusted_rand_score(direct, mine) == 1 and ((direct < 0) == (mine < 0)).all()
    assert adjusted_rand_score(of[of >= 0], mine[of >= 0]) > 0.95
    assert [len(group) for group in found.groups] == sorted(map(len, found.groups), reverse=True)
    assert found.components == 20 and found.variance == pytest.approx(
        (values[:20] ** 2).sum() / (values**2).sum(), abs=1e-4
    )
    assert found.count == len(vectors) and len(found.not_grouped) == (mine < 0).sum()
    assert list(found.not_grouped) == [f"text {at}" for at in np.flatnonzero(mine < 0)]
    again = vs.cluster(tmp_path / "index", names=False)
    assert again == found


def by_hdbscan(vectors: np.ndarray, min_size: int = 5) -> np.ndarray:
    """The groups of vectors, one for each file, by scikit-learn alone."""
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    axes = np.linalg.svd(centred, full_matrices=False)[2]
    return HDBSCAN(min_cluster_size=min_size, copy=True).fit_predict(centred @ axes[:20].T)


def as_sets(found: Clusters) -> set[frozenset[str]]:
    return {frozenset(Path(name).name for name in group.members) for group in found.groups}


def test_copies_count_whether_an_index_keeps_them_once_or_each(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    (tmp_path / "photos").mkdir()
    for at in range(36):  # three kinds of pictures, and twelve of no kind
        base = np.full(3, 128.0)
        base[at % 3] = 250
        pixels = random.normal(base if at < 24 else random.uniform(0, 255, 3), 40 if at < 24 else 90, (16, 24, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(tmp_path / f"photos/{at:02}.png")
    for at, count in ((0, 3), (7, 1), (30, 6), (33, 4)):  # 30 and its six copies are a group, and so are 33 and four
        for copy in range(count):
            shutil.copy2(tmp_path / f"photos/{at:02}.png", tmp_path / f"photos/{'ab'[copy % 2]}{at}-{copy}.png")
    files = sorted((tmp_path / "photos").iterdir())
    encoder = vs.Encoder(vs.Bundle.of(tiny_model(CONFIGS["vit-token"])), "torch")
    once = vs.write_index(encoder, files, tmp_path / "once", sync=True)
    each = vs.write_index(encoder, files, tmp_path / "each")
    assert (len(once), len(each)) == (36, 50)
    of = by_hdbscan(encoder.images(files).astype(np.float16))
    expected = {frozenset(np.array([file.name for file in files])[of == one]) for one in range(of.max() + 1)}
    assert len(expected) >= 3 and any("30.png" in some for some in expected)
    for places in (tmp_path / "once", tmp_path / "each", files[::-1], [tmp_path / "once", tmp_path / "photos"]):
        found = vs.cluster(places, model=encoder, names=False)
        assert as_sets(found) == expected and found.count == 50
        for group in found:
            copies = [score for name, score in zip(group.members, group.scores, strict=True) if "30" in name]
            assert len(set(copies)) <= 1  # of one picture


def test_the_order_of_files_changes_no_group(tmp_path: Path) -> None:
    """Many are equally far from two groups."""
    random = np.random.default_rng(2)
    vectors = random.integers(-1, 2, (60, WIDTH)) + np.repeat(4 * np.eye(3, WIDTH), 20, axis=0)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    found = []
    for number in range(4):
        order = random.permutation(60)
        index = index_of(tmp_path / f"{number}", [f"text {at}" for at in order], vectors[order], kind="texts")
        found.append(as_sets(vs.cluster(index, min_size=3)))
    assert found[0] and all(one == found[0] for one in found)


def test_members_stand_by_their_cosine_to_the_mean(tmp_path: Path) -> None:
    vectors, _ = blobs((30, 20))
    for group in vs.cluster(texts_of(tmp_path / "index", vectors), names=False):
        mine = vectors.astype(np.float16).astype(np.float64)[[int(name.split()[1]) for name in group.members]]
        centre = mine.mean(axis=0)
        cosines = mine @ (centre / np.linalg.norm(centre))
        np.testing.assert_allclose(group.scores, cosines, atol=1e-5)
        assert list(group.scores) == sorted(group.scores, reverse=True)


@pytest.mark.parametrize(
    ("vectors", "min_size", "told"),
    [
        (blobs((3,))[0], 5, "3 texts with features are too few for groups of 5: give more, or a smaller `min_size`"),
        (blobs((2,))[0], 2, "2 texts with features are too few for groups of 2: give more$"),
        (
            np.repeat(blobs((1,))[0], 20, axis=0),
            5,
            "the features of all 20 texts are the same, so that there are no groups",
        ),
        (blobs((9,))[0], 1, "`min_size` must be a whole number of at least 2"),
    ],
    ids=["few", "two", "same", "groups of one"],
)
def test_what_has_no_groups_is_told(vectors: np.ndarray, min_size: int, told: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=told):
        vs.cluster(texts_of(tmp_path / "index", vectors), min_size=min_size)


def test_noise_and_one_blob_are_no_groups(tmp_path: Path) -> None:
    for name, vectors in (("noise", blobs((), noise=60)[0]), ("blob", blobs((60,))[0])):
        found = vs.cluster(texts_of(tmp_path / name, vectors), min_size=15)
        assert found.groups == () and len(found.not_grouped) == 60
        assert str(found) == "<Clusters: 0 in 60 texts, 60 not grouped>"


def test_groups_larger_than_the_sample_that_is_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "_LONG", 100)
    monkeypatch.setattr(clusters, "_SAMPLE", 20)
    found = vs.cluster(texts_of(tmp_path, blobs((60, 70))[0]), min_size=40)
    assert [len(group.members) for group in found.groups] == [70, 60]


def test_scikit_learn_is_asked_for_before_images_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(MissingPackageError, match=r"needs scikit-learn.*pip install 'vitsmith\[cluster\]'"):
        vs.cluster(tmp_path / "nowhere")


def test_equal_vectors_are_in_one_group(tmp_path: Path) -> None:
    for count, size in ((2, 20), (5, 20), (3, 7)):
        vectors = np.repeat(blobs((1,) * count, seed=count)[0], size, axis=0)
        found = vs.cluster(texts_of(tmp_path / f"{count}", vectors))
        assert sorted(map(len, found.groups)) == [size] * count and not found.not_grouped
        assert {int(name.split()[1]) // size for name in found.groups[0].members} == {
            int(found.groups[0].members[0].split()[1]) // size
        }


def test_groups_need_features(tmp_path: Path) -> None:
    for at, picture in enumerate(pictures(3)):
        Image.fromarray(picture).save(tmp_path / f"{at}.png")
    with pytest.raises(InputError, match="grouped by the features of a model: give one with `model`, or give an index"):
        vs.cluster(tmp_path)


def test_a_name_needs_more_votes_than_chance_gives_it() -> None:
    namer = Namer(("cat", "dog", "cow"), np.eye(3, dtype=np.float32))

    def named(*votes: int) -> str:
        vectors = np.repeat(np.eye(3, dtype=np.float32), votes, axis=0)
        return namer.name(vectors, np.ones(len(vectors), np.int64))[0]

    for count in (*range(1, 70), 3_001):
        for fewer in range(count // 2 + 1) if count < 70 else range(1_440, 1_450):
            expected = binomtest(fewer, count).pvalue <= 0.05
            assert named(count - fewer, fewer, 0) == ("cat" if expected else ""), (count, fewer)
            assert named(fewer // 2, fewer, count - fewer) == ("cow" if expected else ""), (count, fewer)


def test_copies_give_a_name_no_votes_but_a_share() -> None:
    namer = Namer(("cat", "dog"), np.eye(2, dtype=np.float32))
    vectors = np.repeat(np.eye(2, dtype=np.float32), (6, 1), axis=0)
    assert namer.name(vectors[:5], np.full(5, 100)) == ("", 0.0)
    assert namer.name(vectors[:6], np.ones(6, np.int64)) == ("cat", 1.0)
    assert namer.name(vectors, np.array([1, 1, 1, 1, 1, 1, 54])) == ("", 0.0)
    vectors = np.repeat(np.eye(2, dtype=np.float32), (9, 1), axis=0)
    assert namer.name(vectors, np.array([1] * 9 + [27])) == ("cat", 0.25)


def test_three_different_images_name_a_group_where_there_is_one_label() -> None:
    namer = Namer(("cat",), np.eye(3, dtype=np.float32)[:1])
    assert namer.name(np.eye(3, dtype=np.float32), np.ones(3)) == ("cat", 1)
    assert namer.name(np.eye(3, dtype=np.float32)[:2], np.full(2, 50)) == ("", 0)


def test_an_image_in_a_float16_and_a_float32_index_is_one_point(tmp_path: Path) -> None:
    vectors = blobs((20, 12))[0]
    both = []
    for kind in ("float16", "float32"):
        space = Space(kind="texts", identity="a" * 32, model="model-a", width=WIDTH, dtype=kind)
        with IndexWriter(tmp_path / kind, space) as writer:
            for at, vector in enumerate(vectors):
                writer.add((f"{kind} {at}", vector), None)
            both.append(writer.finish())
    for places in (both, both[::-1]):
        collection = open_places(places, Gathering(Opener())).embed()
        points = clusters.points_of(collection.vectors, collection.rows)
        assert len(points.vectors) == 32 and set(points.counts.tolist()) == {2}
    alone = open_places(both[1], Gathering(Opener())).embed()
    np.testing.assert_array_equal(alone.vectors, vectors)  # as it was stored


@pytest.fixture(scope="module")
def lit() -> vs.Encoder:
    return vs.Encoder(tiny_lit(), "torch")


def index_of_two_labels(encoder: vs.Encoder, folder: Path, model: str = "lit") -> Any:
    """Texts near the embeddings of two prompts, as images would be."""
    random = np.random.default_rng(0)
    centres = vs.ZeroShotClassifier(encoder, ["cat", "dog"], cache=False).embeddings
    vectors = np.repeat(centres, (20, 12), axis=0) + 0.01 * random.normal(size=(32, encoder.width))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    names = [str(folder.parent / f"{at}.png") for at in range(32)]
    from vitsmith.retrieval.build import space_of
    from vitsmith.retrieval.file_state import look_at

    with IndexWriter(folder, space_of(encoder, "images", model, "float16")) as writer:
        for name, vector in zip(names, vectors, strict=True):
            Image.fromarray(pictures(1)[0]).save(name)
            writer.add((name, vector), look_at(name))
        return writer.finish()


def test_groups_get_the_label_that_fits(lit: vs.Encoder, tmp_path: Path) -> None:
    index = index_of_two_labels(lit, tmp_path / "index")
    found = vs.cluster(index, model=lit, labels=["dog", "cat", "red"])
    assert [(group.name, len(group), group.share) for group in found.groups] == [("cat", 20, 1.0), ("dog", 12, 1.0)]
    assert str(found.groups[0]).startswith("<Cluster 'cat' (100%) of 20: ")
    told: list[str] = []
    plain = vs.cluster(index, tell=told.append)
    assert [group.name for group in plain.groups] == ["", ""]
    assert "groups get no names: the model of the index: " in told[0]
    with pytest.raises(InputError, match=r"the model of the index: .*lit.* \(or give its place with `model`\)"):
        vs.cluster(index, labels=["cat", "dog"])
    write_table(tmp_path / "groups.csv", found)
    rows = list(csv.reader((tmp_path / "groups.csv").read_text().splitlines()))
    assert rows[0] == ["image", "group", "name", "score", "path"] and len(rows) == 33
    assert [row[1:3] for row in rows[1:]] == [["1", "cat"]] * 20 + [["2", "dog"]] * 12
    with pytest.raises(InputError, match="exists: choose another --out, or replace it with --force"):
        check_table(tmp_path / "groups.csv")
    check_table(tmp_path / "groups.csv", force=True)
    with pytest.raises(InputError, match=r"give a file that ends in \.csv"):
        check_table(tmp_path / "groups.txt")


def test_only_the_model_of_an_index_names_its_groups(lit: vs.Encoder, tmp_path: Path) -> None:
    index = index_of_two_labels(lit, tmp_path / "index")
    other = vs.Encoder(tiny_lit(seed=5), "torch")
    for sort in (vs.cluster, vs.duplicates):
        with pytest.raises(InputError, match="index was made by another model: by lit "):
            sort(index, model=other)
        with pytest.raises(InputError, match=r"what='pooled', and this encoder makes 'class' ones.*what='pooled'"):
            sort(index, model=vs.Encoder(tiny_lit(), what="class"))
    vs.save(other.bundle, tmp_path / "lit")  # where the model of the index was
    moved = index_of_two_labels(lit, tmp_path / "moved", model=str(tmp_path / "lit"))
    told: list[str] = []
    assert [group.name for group in vs.cluster(moved, tell=told.append)] == ["", ""]
    assert "groups get no names: " in told[0] and "was made by another model that had the same name" in told[0]
    with pytest.raises(InputError, match="made by another model that had the same name"):
        vs.cluster(moved, labels=["cat", "dog"])
    tokens = vs.write_index(vs.Encoder(tiny_lit(), what="class"), sorted(tmp_path.glob("*.png")), tmp_path / "tokens")
    with pytest.raises(InputError, match="tokens holds class tokens, and labels compare with the pooled embedding"):
        vs.cluster(tokens, labels=["cat", "dog"])


def test_usual_labels_are_those_that_a_vocabulary_tells_apart(lit: vs.Encoder) -> None:
    words = usual_words(lit.bundle.tokenizer)
    assert len(set(words.names)) == len(words.names) < 1000
    read = lit.bundle.tokenizer.read([f"a photo of a {name}." for name in words.names])
    assert len({row.tobytes() for row in read.tokens}) == len(words.names)


def test_groups_without_names_where_no_text_can_be_read(tmp_path: Path) -> None:
    encoder = vs.Encoder(replace(tiny_lit(), vocabulary=None), "torch")
    for at, picture in enumerate(pictures(6)):
        Image.fromarray(picture).save(tmp_path / f"{at}.png")
    told: list[str] = []
    assert vs.cluster(tmp_path, model=encoder, min_size=2, tell=told.append).count == 6
    assert len(told) == 1 and told[0].startswith("groups get no names: ") and "vocabulary" in told[0]
    with pytest.raises(InputError, match="vocabulary"):
        vs.cluster(tmp_path, model=encoder, min_size=2, labels=["cat", "dog"])
    with pytest.raises(InputError, match="`names` false leaves groups without names, and `labels` are given"):
        vs.cluster(tmp_path, model=encoder, labels=["cat", "dog"], names=False)


def test_mistakes_in_labels_are_told_before_an_image_is_embedded(lit: vs.Encoder, tmp_path: Path) -> None:
    for at, picture in enumerate(pictures(6)):
        Image.fromarray(picture).save(tmp_path / f"{at}.png")
    steps: list[str] = []
    for labels, told in (
        (["cat", "zebra"], "the label 'zebra' has no word that this model's vocabulary knows"),
        (["cat", "cat"], "the same label twice"),
        (["cat"], "one label, 'cat'"),
        ({"cat": [], "dog": ["a dog"]}, "the prompts of the label 'cat' are none"),
        ("cat, dog", "labels must be a list, not one text"),
    ):
        with pytest.raises(InputError, match=told):
            vs.cluster(tmp_path, model=lit, labels=labels, on_step=lambda doing, *_: steps.append(doing))
    with pytest.raises(InputError, match="6 images with features are too few for groups of 7"):
        vs.cluster(tmp_path, model=lit, min_size=7, on_step=lambda doing, *_: steps.append(doing))
    assert not steps
    told_of: list[str] = []
    vs.cluster(tmp_path, model=lit, labels={"cat": ["a cat"], "dog": ["red dog zebra"]}, tell=told_of.append)
    assert told_of == ["not in the model's vocabulary, and read as the unknown word: 'zebra' of 'dog'"]
