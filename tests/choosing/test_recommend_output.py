"""What a recommendation shows: table, sentences, commands, JSON and page."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer

from tests.choosing.made import SETUPS, MadeCosts, checkpoint, machine, vit, zoo
from tests.report.page_checks import Page
from vitsmith.choosing.candidates import Machine
from vitsmith.choosing.catalogue import catalogue
from vitsmith.choosing.commands import next_steps
from vitsmith.choosing.figures import Standing
from vitsmith.choosing.recommendation import Recommendation, Setup
from vitsmith.choosing.request import RequestOptions, make_request
from vitsmith.choosing.result import Recommendations
from vitsmith.choosing.run import recommend
from vitsmith.cli.main import app
from vitsmith.errors import GateError
from vitsmith.models.config import LiTConfig
from vitsmith.models.presets import presets
from vitsmith.report.page import render
from vitsmith.report.recommend import make_recommend_report, plot


def found(latency: str = "2ms", **more: Any) -> Recommendations:
    return recommend(make_request(RequestOptions(latency=latency, **more)), zoo(1), machine(MadeCosts(1)))


def impossible() -> Recommendations:
    return found("0.001ms", size="1KB")


def understood(command: str) -> None:
    """The command line takes it; nothing is carried out."""
    group: Any = typer.main.get_command(app)
    arguments = shlex.split(command)
    assert arguments[0] == "vitsmith"
    with group.make_context("vitsmith", ["--help"], resilient_parsing=True) as context:
        verb, parser, rest = group.resolve_command(context, arguments[1:])
        parser.make_context(verb, rest, parent=context)


@pytest.mark.parametrize("task", ["classify", "zeroshot", "embed"])
@pytest.mark.parametrize(
    "setup",
    [
        *SETUPS,
        Setup("torch"),
        Setup("torch", "bf16"),
        Setup("openvino", "bf16"),
        Setup("executorch"),
        Setup("onnx", keep=0.7),
        Setup("torch", keep=0.7),
    ],
    ids=str,
)
def test_the_next_commands_are_understood(task: str, setup: Setup) -> None:
    row = _row(checkpoint("vit_b.augreg", config=vit()), setup)
    steps = next_steps(row, task)
    for step in steps:
        understood(step.command)
    assert f"--engine {setup.engine}" in steps[-1 if task != "classify" else -2].command
    if setup.precision == "int8":
        assert any("quantize" in step.command and f"--engine {setup.engine}" in step.command for step in steps)
    if setup.keep < 1:
        assert any("merge-tokens" in step.command and "--keep 0.7" in step.command for step in steps)


def test_a_page_of_a_browser_and_names_with_spaces() -> None:
    steps = next_steps(_row(checkpoint("odd", source="models/my model"), Setup("onnx")), "classify", browser=True)
    assert steps[-1].command == "vitsmith export 'models/my model' --to web"


def test_a_command_names_the_place_that_the_one_before_it_writes() -> None:
    merged = Setup("openvino", keep=0.7)
    steps = next_steps(_row(checkpoint("x", source="hf:timm/vit_tiny_patch16_224.augreg"), merged), "classify")
    commands = [step.command for step in steps]
    name = "vit_tiny_patch16_224"
    assert commands[1].startswith(f"vitsmith merge-tokens hf:timm/{name}.augreg ")
    assert commands[2] == f"vitsmith export runs/merge-tokens/{name}/model --to openvino"
    assert commands[3].startswith(f"vitsmith benchmark runs/export/{name}-openvino/model ")


def _row(one: Any, setup: Setup) -> Recommendation:
    made = recommend(make_request(RequestOptions(latency="9s")), [checkpoint("any")], machine(setups=[Setup("onnx")]))
    return replace(made[0], checkpoint=one, setup=setup)


def test_every_row_of_the_catalogue_has_commands_that_are_understood() -> None:
    rows = [_row(one, Setup("openvino")) for one in catalogue()]
    names = {next_steps(row, "embed")[1].command for row in rows}
    assert len(names) == len(rows)
    for row in rows[::40]:
        for step in next_steps(row, "embed"):
            understood(step.command)


def test_the_table_fits_a_hundred_columns_and_is_complete() -> None:
    every = recommend(make_request(RequestOptions(latency="9s")), catalogue(), machine())
    columns, lines = every.table(1_000)
    widths = [max(len(cell) for cell in column) for column in zip(columns, *lines, strict=True)]
    widths[-1] = len("may miss")
    assert sum(widths) + 3 * (len(widths) - 1) <= 100
    assert sum(line[-1] != "" for line in lines) == len(every)


def test_numbers_have_their_mark_and_interval() -> None:
    columns, lines = found().table()
    first, second = lines[0], lines[1]
    assert re.fullmatch(r"\d\d\.\d\d", first[1])
    assert all(cell.startswith("~") for cell in first[2:7])
    assert all(re.fullmatch(r"[\d.]+-[\d.]+", cell) for cell in second[2:5])
    assert columns[0] == "model" and first[-1] == "within"


def test_the_sentences_say_why_what_missed_and_what_would_have_to_give() -> None:
    result = found("1ms", size="3MB")
    best = result.best
    assert best is not None and result.why.startswith(best.checkpoint.name)
    sentences = list(result.sentences())
    assert sentences[0] == f"first: {result.why}"
    assert any(sentence.startswith("just missed: ") and "at worst" in sentence for sentence in sentences)
    assert any(re.match(r"for more: latency [\d.]+ ms in place of 1.00 ms would admit ", one) for one in sentences)
    assert str(result).endswith(sentences[-1])
    assert result._repr_html_().count("<tr>") == len(result.table()[1]) + 1


def test_measuring_is_proposed_where_it_decides() -> None:
    proposal = "measuring decides what may miss: add  --measure 3  on the machine that it is for"
    limits = [f"{ms}ms" for ms in range(2, 60, 3)]
    unsure = [any(one.row.standing == "may miss" for one in found(limit).just_missed) for limit in limits]
    assert any(unsure) and not all(unsure)
    assert [proposal in found(limit).sentences() for limit in limits] == unsure
    first = found(limits[unsure.index(True)])
    kept = replace(first.rows[0], standings={"latency": Standing.kept})
    measured = replace(first, ranking=replace(first.ranking, within=(kept, *first.ranking.within[1:])))
    assert proposal not in measured.sentences()


def test_nothing_fits_says_what_is_to_blame_and_what_is_nearest() -> None:
    result = impossible()
    assert not result and result.best is None and not result.steps
    sentences = list(result.sentences())
    assert sentences[0] == "nothing keeps every budget"
    assert sum("is to blame" in sentence for sentence in sentences) == 2
    assert any(sentence.startswith("the nearest: ") for sentence in sentences)
    with pytest.raises(GateError, match="nothing keeps every budget"):
        result.require()


def test_an_order_without_times_has_no_time_in_it() -> None:
    request = make_request(RequestOptions(scenario="browser"))
    result = recommend(request, catalogue(), Machine(setups=(Setup("onnx"), Setup("onnx", "int8"))))
    columns, lines = result.table()
    assert columns == ("model", "top-1", "GFLOPs", "size MB", "budget") and lines
    assert all(row.latency is None and row.gflops <= 5 and row.size.value <= 30e6 for row in result)  # type: ignore[union-attr]
    assert result.steps[-1].command.endswith("--to web")
    Page(render(make_recommend_report(result, Path("runs"), "")))


def test_the_page_loads_nothing_and_shows_each_point_with_its_text() -> None:
    odd = checkpoint("<b>&\n\u202eodd", 99.0, vit(64, 2, 32))
    result = recommend(make_request(RequestOptions(latency="2ms")), [*zoo(1), odd], machine(MadeCosts(1)))
    html = render(make_recommend_report(result, Path("runs/recommend/x"), "vitsmith recommend"))
    page = Page(html)
    assert not [attributes for _, attributes in page.tags if "src" in attributes or "href" in attributes]
    titles = [tag for tag, _ in page.tags if tag == "title"]
    points = plot(result).points
    assert len(titles) == 1 + 2 * len(points)  # the page's, and each point's for a desk and for a phone
    assert "<b>" not in html.replace("<b>Accuracy against time</b>", "") and "\u202e" not in html
    assert list(page.commands) == [step.command for step in result.steps]
    assert sum(point.ringed for point in points) == 1


def test_points_lie_where_their_numbers_are() -> None:
    drawn = plot(found("1ms"))
    for view in drawn.views:
        for point in drawn.points:
            assert view.left <= view.x(point.x) <= view.right and view.top <= view.y(point.y) <= view.bottom
        ordered = sorted(drawn.points, key=lambda point: point.x)
        places = [view.x(point.x) for point in ordered]
        assert places == sorted(places)
        tenfold = view.x(10 * ordered[0].x) - view.x(ordered[0].x)
        assert view.x(100 * ordered[0].x) - view.x(10 * ordered[0].x) == pytest.approx(tenfold, abs=0.3)
        assert [view.x(float(text)) for _, text in view.x_ticks] == [place for place, _ in view.x_ticks]
        assert [view.y(float(text)) for _, text in view.y_ticks] == [place for place, _ in view.y_ticks]


def test_two_towers_are_ranked_by_zero_shot_accuracy_and_merge_in_their_image_tower() -> None:
    lit = presets()["LiT-B16B_2"].config
    assert isinstance(lit, LiTConfig)
    one = checkpoint("lit", config=lit, accuracy={"imagenet-zeroshot": 73.9})
    request = make_request(RequestOptions(latency="9s", task="zeroshot"))
    rows = recommend(request, [one, checkpoint("no")], machine()).rows
    assert [row.accuracy.value for row in rows] == [73.9]  # type: ignore[union-attr]
    assert any("zeroshot" in step.command for step in next_steps(rows[0], "zeroshot"))


def test_an_int8_page_is_made_of_what_quantize_writes() -> None:
    row = _row(checkpoint("tiny", source="hf:timm/vit_tiny_patch16_224.augreg"), Setup("onnx", "int8"))
    commands = [step.command for step in next_steps(row, "classify", browser=True)]
    assert commands[1].startswith("vitsmith quantize ") and "--engine onnx" in commands[1]
    assert commands[2] == "vitsmith export runs/quantize/vit_tiny_patch16_224-onnx/model --to web"
