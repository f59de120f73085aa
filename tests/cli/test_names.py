"""Names of classes and files are text in every output: no markup, no mathematics, nothing that moves the cursor."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from markdown_it import MarkdownIt
from PIL import Image
from rich.console import Console

import vitsmith as vs
from tests.command_line import call
from tests.report.page_checks import Page
from tests.tiny import pictures
from vitsmith.cli.terminal.output import (
    as_remark,
    as_typed,
    print_csv_line,
    print_facts,
    print_json,
    print_line,
    print_table,
    progress,
    say,
)
from vitsmith.data.sets.pairs import PairSplits
from vitsmith.data.sets.samples import Samples, check_names
from vitsmith.errors import DatasetError
from vitsmith.escapes import columns, markdown, shell_quoted, shortened, visible
from vitsmith.evaluation.evaluation import Evaluation
from vitsmith.evaluation.scores import score_logits
from vitsmith.json_text import to_json
from vitsmith.report.figure import png
from vitsmith.report.page import Command, Report, Section, Table, render
from vitsmith.report.plots import draw_class_accuracies, draw_confusion, draw_curves, draw_held_out, draw_reliability
from vitsmith.report.sections import accuracy_section, sample_of
from vitsmith.training.monitor.events import StepDone
from vitsmith.weights.bundle.card import model_card

NAMES = (
    "from_$5_to_$10", "[/red]", "[bold]x[/bold]", "$\\frac{", "_hidden_", "__x__", "*a* ~~b~~", "a|b", "`code` ``",
    "<script>alert(1)</script>", "{}", "{0}{name}", "%s %d %", "&amp;", "C:\\new\\[x]", "http://example.org/a_b_",
    "www.example.org", "![x](y)", "# title", "עברית", "猫", "👨‍👩‍👧🐱", "Z" * 10_000,
)  # fmt: skip
"""All can be kept as the name of a class."""
UNSEEN = {
    "\x1b[31mred\x1b[0m": "\\x1b[31mred\\x1b[0m",
    "caf\udce9": "caf\\xe9",
    "two\nlines": "two\\nlines",
    "\rover": "\\rover",
    "a\tb": "a\\tb",
    "\u202egnp.exe": "\\u202egnp.exe",
    "\x85next": "\\u0085next",
    "a\u2028b": "a\\u2028b",
    "\x00": "\\x00",
    "\ud800": "\\ud800",
    "\U000e0041tag": "\\U000e0041tag",
}
"""What only files can be called, or what hides in names, and how it is shown."""


def test_what_is_not_seen_is_shown_as_an_escape_and_the_rest_as_it_is() -> None:
    for name in NAMES:
        assert visible(name) == name
    for name, shown in UNSEEN.items():
        assert visible(name) == shown


def test_long_names_are_shortened_to_columns() -> None:
    assert shortened("abc", 3) == "abc"
    assert shortened("abcdefghij", 7) == "abcd…ij"
    assert shortened("猫" * 30, 12) == "猫猫猫猫…猫"
    assert columns("猫a") == 3 and columns(shortened("猫" * 30, 12)) <= 12


@pytest.mark.parametrize("ascii_only", [False, True])
def test_json_is_read_back_to_the_byte_and_holds_nothing_unseen(ascii_only: bool) -> None:
    for name in (*NAMES, *UNSEEN):
        text = to_json({"name": [name]}, indent=2, ascii_only=ascii_only)
        assert json.loads(text) == {"name": [name]}
        assert visible(text.replace("\n", "")) == text.replace("\n", "")
        text.encode("ascii" if ascii_only else "utf-8")
    assert os.fsencode(json.loads(to_json("caf\udce9"))) == b"caf\xe9"


def test_markdown_shows_the_name_and_nothing_else() -> None:
    reader = MarkdownIt("gfm-like", {"linkify": False})
    for name in (*NAMES, *UNSEEN):
        (inline,) = [token for token in reader.parse(f"- Class: {markdown(name)}") if token.type == "inline"]
        assert {child.type for child in inline.children or ()} <= {"text", "text_special"}, name
        shown = "".join(child.content for child in inline.children or ())
        assert shown == f"Class: {visible(name)}"
        assert "$" not in markdown(name).replace("\\$", "")  # GitHub reads mathematics between two of them
        assert "://" not in markdown(name).replace("\\://", "")  # GitHub makes links of addresses
    assert markdown("tabby_cat 2") == "tabby_cat 2"  # an underscore inside a word has no meaning


def test_a_quoted_argument_is_what_bash_takes() -> None:
    arguments = [*NAMES[:-1], *(name for name in UNSEEN if name not in ("\x00", "\ud800")), "two words", "it's", ""]
    line = "printf '%s\\0' " + " ".join(map(shell_quoted, arguments))
    assert visible(line) == line
    done = subprocess.run(["bash", "-c", line], capture_output=True, check=True)
    assert done.stdout == b"".join(os.fsencode(argument) + b"\0" for argument in arguments)


def test_the_terminal_shows_names_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    for name, shown in {**{name: name for name in NAMES}, **UNSEEN}.items():
        print_line(f"class {name}")
        say(f"skipped: {name}")
        print_facts([("name", name)])
        out, err = capsys.readouterr()
        assert (out, err) == (f"class {shown}\nname  {shown}\n", f"skipped: {shortened(shown, 300)}\n")
        print_table(("class", name), [(name, 1), (name, None)], right=(name,))
        out, _ = capsys.readouterr()
        assert "".join(shown.split()) in "".join(out.split())
        print_json({"name": name})
        assert json.loads(capsys.readouterr().out) == {"name": name}


@pytest.mark.parametrize("width", [160, 60, 30])
def test_no_number_of_a_table_is_folded_however_narrow(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "vitsmith.cli.terminal.output._console", lambda *, stderr: Console(width=width, highlight=False)
    )
    numbers = [f"number {at}" for at in range(6)]
    rows = [(f"a rather long name {row}", "onnxruntime", *(f"{row}{at}.345678" for at in range(6))) for row in (1, 2)]
    print_table(("model", "engine", *numbers), rows, right=numbers, keys=2)
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= width for line in lines)
    found = [word for line in lines for word in line.split() if word.endswith(".345678")]
    assert sorted(found) == sorted(cell for row in rows for cell in row[2:])
    assert all(any(name in line for line in lines) for name in numbers)


def test_csv_holds_names_as_they_are_but_for_bytes_that_are_no_text(capsys: pytest.CaptureFixture[str]) -> None:
    names = [name for name in (*NAMES, *UNSEEN) if name != "\x00"]
    for name in names:
        print_csv_line([name, "x"])
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out, newline="")))
    expected = [UNSEEN[name] if "\ud800" <= max(name) <= "\udfff" else name for name in names]
    assert [row[0] for row in rows] == expected


def test_progress_reads_no_markup_in_descriptions_and_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    for name, shown in {**{name: name for name in NAMES[:-1]}, **UNSEEN}.items():
        bar = progress(unit=name)
        bar.add_task(name, total=3, note=name)
        console = Console(file=io.StringIO(), width=400, force_terminal=True, color_system=None)
        console.print(bar.get_renderable())
        assert console.file.getvalue().count(shown) == 3, name  # type: ignore[attr-defined]


@pytest.mark.parametrize("count", [1, 2, 12, len(NAMES) + len(UNSEEN)])
def test_figures_are_drawn_whatever_classes_are_called(count: int) -> None:
    names = (*NAMES, *UNSEEN)[-count:]
    random = np.random.default_rng(0)
    labels = random.integers(0, count, 50)
    scores = score_logits(random.normal(size=(50, count)).astype(np.float32), labels)
    for figure in (draw_confusion(scores, names), draw_class_accuracies(scores), draw_reliability(scores.reliability)):
        assert Image.open(io.BytesIO(png(figure))).format == "PNG"
    written = [tick.get_text() for tick in draw_confusion(scores, names).axes[0].get_yticklabels()]
    if count <= 30:
        assert written == [shortened(visible(name), 24) for name in names]


def test_figures_read_no_mathematics() -> None:
    """Two figures are the same, one with names that matplotlib would set as formulas, the other with its own switch."""
    scores = score_logits(np.eye(2, dtype=np.float32), np.arange(2))
    figure = draw_confusion(scores, ("from_$5_to_$10", "$x^2$"))
    png(figure)
    assert not any(text.get_parse_math() for text in figure.axes[0].get_yticklabels())


def test_the_page_shows_names_as_they_are() -> None:
    names = (*NAMES, *UNSEEN)
    random = np.random.default_rng(0)
    logits = random.normal(size=(60, len(names))).astype(np.float32)
    labels = random.integers(0, len(names), 60)
    evaluation = Evaluation(score_logits(logits, labels), logits, labels, names, seconds=1.0)
    samples = [
        sample_of(pictures(1)[0], predicted=name, probability=0.5, truth="x", source=name) for name in (*names, "y")
    ]
    report = Report(
        title=NAMES[9],
        summary="caf\udce9",
        headlines=(),
        sections=(
            accuracy_section(evaluation),
            Section("s", samples=tuple(samples), notes=names, table=Table(names, (names,))),
        ),
        commands=tuple(Command(name, name) for name in names),
        facts=tuple((name, name) for name in names),
    )
    html = render(report)
    html.encode("utf-8")
    page = Page(html)
    for name in names:
        assert visible(name) in page.text.replace("\n", ""), name
    assert "<script>" not in html


def test_a_card_has_names_origin_and_notes_as_text() -> None:
    network = vs.create_model("mu/16", classes=len(NAMES), image_size=32)
    provenance = vs.Provenance(source="/data/_pets_/$5 [x](y)/m.npz", parent="<b>", notes=("*one* | `two`",))
    bundle = vs.Bundle.of(network, labels=vs.Labels(names=NAMES), provenance=provenance)
    reader = MarkdownIt("gfm-like", {"linkify": False})
    kinds = {
        child.type
        for token in reader.parse(model_card(bundle))
        if token.type == "inline"
        for child in token.children or ()
    }
    assert kinds <= {"text", "text_special", "code_inline", "softbreak"}
    assert "$" not in model_card(bundle).replace("\\$", "")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a model whose three classes have names of the worst kind, and images of its classes."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    network = vs.create_model("mu/16", classes=3, image_size=32)
    network.head.weight.data.normal_()
    vs.save(vs.Bundle.of(network, labels=vs.Labels(names=HOSTILE)), "model")
    for index, pixels in enumerate(pictures(12)):
        path = Path("data", HOSTILE[index % 3], f"{index}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    Path("bad").mkdir()
    Image.fromarray(pictures(1)[0]).save(os.fsdecode(b"bad/caf\xe9 \x1b[2J\n.png"))
    return tmp_path


HOSTILE = ("from_$5_to_$10", "[red]<b>", "%s {} `x`| \u202e")


def vitsmith(*arguments: str | bytes, **options: str) -> subprocess.CompletedProcess[bytes]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | options
    return subprocess.run([sys.executable, "-m", "vitsmith", *arguments], capture_output=True, env=environment)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such file names")
def test_file_names_of_any_bytes_are_in_every_output(place: Path) -> None:
    where = b"bad/caf\xe9 \x1b[2J\n.png"
    told = vitsmith("predict", "model", "bad")
    assert (told.returncode, told.stderr) == (0, b"")
    assert told.stdout.endswith(b"  bad/caf\\xe9 \\x1b[2J\\n.png\n")
    row = json.loads(vitsmith("predict", "model", "bad", "--json").stdout)
    assert os.fsencode(row["image"]) == where
    table = vitsmith("predict", "model", "bad", "--csv").stdout.decode()
    assert next(csv.DictReader(io.StringIO(table)))["image"] == "bad/caf\\xe9 \x1b[2J\n.png"
    Path("bad", os.fsdecode(b"n\xff.png")).write_bytes(b"no image")
    wrong = vitsmith("predict", "model", b"bad/n\xff.png")
    assert wrong.returncode == 2 and b"skipped: bad/n\\xff.png" in wrong.stderr and wrong.stderr.count(b"\n") == 2
    nowhere = vitsmith("inspect", b"no\xff\x1b[31m\nvitsmith: all is well")
    assert nowhere.returncode == 2 and nowhere.stderr.count(b"\n") == 1 and b"\x1b" not in nowhere.stderr
    assert vitsmith("embed", "model", "bad/" + os.fsdecode(b"caf\xe9 \x1b[2J\n.png"), "--out", b"i\xe9").returncode == 0


def test_a_run_with_such_classes_and_places_comes_to_its_end(place: Path) -> None:
    pytest.importorskip("tensorboard")
    options = [
        "--arch",
        "mu/16",
        "--image-size",
        "32",
        "--steps",
        "2",
        "--batch-size",
        "4",
        "--set",
        "schedule.warmup=1",
    ]
    out = b"run \xe9\n$5" if sys.platform == "linux" else b"run $5"
    events = ["--set", "run.tensorboard=true"]
    if sys.platform == "linux":
        refused = vitsmith("train", "--data", "data", *options, *events, "--out", out)
        assert refused.returncode == 2 and b"TensorBoard cannot write into run \\xe9" in refused.stderr
        assert not Path(os.fsdecode(out)).exists()
        events = []
    done = vitsmith("train", "--data", "data", *options, *events, "--out", out)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert b"Traceback" not in done.stderr and b"\xe9" not in done.stdout
    run = Path(os.fsdecode(out))
    assert vs.load(run / "model").labels.names == tuple(sorted(HOSTILE))
    there = {path.name for path in run.iterdir()}
    assert {"report.html", "confusion.png", "curves.png", "command.txt", "metrics.jsonl"} <= there
    typed = (run / "command.txt").read_text(encoding="utf-8")
    assert typed.count("\n") == 1
    took = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {typed.removeprefix('vitsmith ')}"], capture_output=True, check=True
    )
    assert took.stdout.split(b"\0")[-2] == out
    judged = vitsmith("evaluate", run / "model", "--data", "data", "--out", "scores")
    assert judged.returncode == 0 and b"from_$5_to_$10" in judged.stdout and b"[red]<b>" in judged.stdout


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (os.fsdecode(b"caf\xe9"), "is not Unicode text"),
        ("two\nlines", "has a line break or a NUL in it"),
        ("nul\0", "has a line break or a NUL in it"),
        (" ", "is empty"),
    ],
)
def test_names_that_no_bundle_keeps_are_refused_where_the_data_are_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for index, pixels in enumerate(pictures(4)):
        Image.fromarray(pixels).save(f"{index}.png")
    rows = [{"path": f"{index}.png", "label": name if index % 2 else "dog"} for index in range(4)]
    Path("data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, err = call(capsys, "train", "--data", "data.jsonl", "--arch", "mu/16", "--image-size", "32")
    assert (code, out, err.count("\n")) == (2, "", 1) or not name.strip()  # the table refuses an empty label by itself
    assert code == 2 and (told in err or not name.strip())
    assert not Path("runs").exists()
    if not name.strip():
        with pytest.raises(DatasetError, match=told):
            check_names(("dog", name))


def test_captions_that_are_no_text_are_refused_where_the_pairs_are_opened() -> None:
    samples = Samples(("a", "caf\udce9"), pictures(2), ["0", "1"], np.arange(2))
    with pytest.raises(DatasetError, match="is not Unicode text: write it in UTF-8"):
        PairSplits(samples, samples)


def test_figures_are_drawn_of_runs_without_evaluations_and_of_any_loss() -> None:
    history = [StepDone(step, loss, 0.1, 1.0, 1.0) for step, loss in enumerate((3e38, 3e38, float("nan")), start=1)]
    for figure in (draw_curves(history, []), draw_held_out([]), draw_reliability([])):
        assert Image.open(io.BytesIO(png(figure))).format == "PNG"


def test_long_names_in_a_message_are_shortened_in_their_middle_and_words_are_not() -> None:
    name = "begin" + "x" * 5000 + "end"
    for message in (
        f"the model's label {name!r} isn't known, 'b' is",
        f'it has "{name} it\'s" twice',
        f"{name}: no file",
    ):
        told = as_remark(message)
        assert len(told) < 400 and "begin" in told and "end" in told and "…" in told
        assert told.split("begin")[0] == message.split("begin")[0] and told.split("end")[-1] == message.split("end")[-1]
    prose = (
        "the class's images 'a' are fewer than those of 'b', " + "which is said in many plain words, " * 9 + "as 'c' is"
    )
    assert as_remark(prose) == prose
    path = "/home/me/My Photos/" + "/".join(["x" * 90, "y" * 90])
    assert as_remark(f"run  vitsmith train --resume '{path}'") == f"run  vitsmith train --resume '{path}'"
    assert as_typed(f"{name}: no file") == f"{name}: no file"  # as JSON has it
