"""`vitsmith models augreg`: the table of the notebook, beside the same taken with plain Python from the small index."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.command_line import call
from tests.weights.fetch.augreg_index import INDEX
from vitsmith.errors import InputError, UnknownNameError
from vitsmith.report.augreg import draw_augreg, in_order_of_speed
from vitsmith.weights.fetch.addresses import cached_path
from vitsmith.weights.fetch.augreg import INDEX_URL
from vitsmith.weights.fetch.augreg_index import AugregRow
from vitsmith.weights.fetch.augreg_table import choose, index_rows

PLAIN: list[dict[str, str]] = list(csv.DictReader(io.StringIO(INDEX)))


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("augreg") / "index.csv"
    path.write_text(INDEX, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def rows(index: Path) -> list[AugregRow]:
    return index_rows(index)


def test_the_table_is_that_of_the_notebook(rows: list[AugregRow]) -> None:
    """Cells 19 and 21: the pre-training by final_val, its fine-tuning by adapt_final_val, in the order of speed."""
    found = choose(rows)
    expected = []
    for name in {row["name"] for row in PLAIN}:
        of_model = [row for row in PLAIN if row["name"] == name and row["ds"] == "i21k"]
        best = max(of_model, key=lambda row: float(row["final_val"]))["filename"]
        tuned = [row for row in of_model if row["filename"] == best and row["adapt_ds"] == "imagenet2012"]
        expected.append(max(tuned, key=lambda row: float(row["adapt_final_val"])))
    expected.sort(key=lambda row: float(row["infer_samples_per_sec"] or "inf"))
    assert [group.best.adapt_filename for group in found.groups] == [row["adapt_filename"] for row in expected]
    assert [group.values for group in found.groups] == [(row["name"],) for row in expected]
    assert found.groups[0].count == 3 and found.added == ""
    assert found.groups[0].source == "augreg:B_16-i21k-m1--imagenet2012-res_384"


def test_each_group_has_its_count_and_its_best_by_validation(rows: list[AugregRow]) -> None:
    found = choose(rows, "name == 'B/16' and wd <= 0.05 or adapt_resolution == 224", ["ds", "adapt_resolution"])
    met = [
        row for row in PLAIN if (row["name"] == "B/16" and float(row["wd"]) <= 0.05) or row["adapt_resolution"] == "224"
    ]
    assert {group.values: group.count for group in found.groups} == {
        (ds, int(size)): sum((row["ds"], row["adapt_resolution"]) == (ds, size) for row in met)
        for ds, size in {(row["ds"], row["adapt_resolution"]) for row in met}
    }
    low = next(group for group in found.groups if group.values == ("i21k", 224))
    assert low.best.adapt_final_val == 0.9 and low.best.name == "B/8"


def test_only_one_data_set_is_ranked_where_none_is_named(rows: list[AugregRow]) -> None:
    found = choose(rows, "lr > 0")
    assert {row.adapt_ds for row in found.rows} == {"imagenet2012"} and found.added == "adapt_ds == 'imagenet2012'"
    assert choose(rows, "lr > 0", ["adapt_ds"]).groups[0].best.adapt_ds == "cifar100"
    assert choose(rows, "adapt_ds != 'imagenet2012'").added == ""


def test_missing_scores_are_the_last_choice(rows: list[AugregRow]) -> None:
    unknown = rows[0].model_copy(update={"adapt_final_val": None, "adapt_filename": "unknown", "final_val": None})
    found = choose([unknown, *rows], "name == 'B/16'")
    assert found.groups[0].best.adapt_filename != "unknown"
    assert choose([unknown], "name == 'B/16'").groups[0].best is unknown


@pytest.mark.parametrize(
    ("where", "by", "told"),
    [
        ("ds = 'i22k'", ("name",), r"no row of AugReg's index fulfils  \(ds = 'i22k'\) and adapt_ds"),
        ("widht > 3", ("name",), "no column is called 'widht'"),
        ("lr == 'a'", ("name",), "lr holds numbers, and 'a' is none"),
        ("name ==", ("name",), "write it as  name == 'B/16' and wd <= 0.03"),
    ],
)
def test_a_condition_that_says_nothing_is_refused(
    rows: list[AugregRow], where: str, by: tuple[str, ...], told: str
) -> None:
    with pytest.raises(InputError, match=told):
        choose(rows, where, by)


def test_an_unknown_column_names_the_closest(rows: list[AugregRow]) -> None:
    with pytest.raises(UnknownNameError, match="adapt_resolution"):
        choose(rows, "", ["adapt_resolutoin"])


def test_without_an_index_it_says_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITSMITH_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"not in the cache: fetch https://\S+ and give it by  vitsmith models augreg"):
        index_rows()
    with pytest.raises(InputError, match="no such file"):
        index_rows(tmp_path / "index.csv")
    place = cached_path(INDEX_URL)
    place.parent.mkdir(parents=True)
    place.write_text(INDEX, encoding="utf-8")
    assert len(index_rows()) == len(PLAIN)


def test_models_augreg_prints_a_table_and_json(capsys, index: Path) -> None:
    question = ("--where", "adapt_resolution == 384", "--by", "name,ds", "--json")
    code, out, err = call(capsys, "models", "augreg", "--index", index, *question)
    answer: dict[str, Any] = json.loads(out)
    assert answer["rows"] == 7 and answer["by"] == ["name", "ds"] and len(answer["groups"]) == 4
    assert answer["groups"][-1]["params"] == 328_994_856 and answer["groups"][-1]["adapt_final_test"] == 0.85992
    assert code == 0 and "only adapt_ds == 'imagenet2012'" in err
    code, out, err = call(capsys, "models", "augreg", "--index", index)
    assert "augreg:B_8-i21k-m2--imagenet2012-res_224" in out and "85.49" in out and err == ""


def test_the_plot_shows_each_row_of_known_speed(capsys, rows: list[AugregRow], index: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    place = tmp_path / "augreg.png"
    _, _, err = call(capsys, "models", "augreg", "--index", index, "--where", "lr > 0", "--plot", place)
    assert place.read_bytes().startswith(b"\x89PNG")
    assert "the plot of 8 rows" in err and "without 1 whose speed" in err
    axes = draw_augreg(rows).axes[0]
    points = sorted(tuple(point) for drawn in axes.collections for point in drawn.get_offsets().tolist())
    expected = sorted(
        (float(row["infer_samples_per_sec"]), 100 * float(row["adapt_final_val"]))
        for row in PLAIN
        if row["infer_samples_per_sec"]
    )
    assert np.allclose(points, expected)
    assert axes.get_xscale() == "log"
    assert in_order_of_speed(rows) == ["R50+L/32", "B/16", "B/8"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("augreg", "--family", "vit"), "leave them out with augreg"),
        (("ViT-B_16", "--by", "name"), "--index, --where, --by and --plot are for the table of AugReg"),
        (("augreg", "--plot", "augreg.svg"), "--plot writes a PNG file: call it augreg.png"),
    ],
)
def test_options_that_mean_nothing_are_refused(capsys, arguments: tuple[str, ...], told: str) -> None:
    code, _, err = call(capsys, "models", *arguments)
    assert code == 2 and told in err
