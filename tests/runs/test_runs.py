"""Where verbs write: one rule for `--out`, one process at a time, and nothing that took long is lost for a picture."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vitsmith as vs
from tests import ROOT
from tests.command_line import call
from tests.tiny import CONFIGS, pictures, tiny_lit, tiny_model
from tests.training.small_runs import FIELDS, command, recipe, settings, splits, write_folder
from vitsmith.cli.terminal.pictures import put_picture
from vitsmith.errors import BundleError, InputError, OutputError
from vitsmith.files import locks
from vitsmith.files.atomic import claimed
from vitsmith.records import Measurement
from vitsmith.report.figure import LIGHT, new_figure
from vitsmith.runs.folder import MARKS
from vitsmith.runs.place import check_place, default_place, place_of, write_or_rescue
from vitsmith.runs.run import Run, whole_run
from vitsmith.training.images.run import train_to_bundle
from vitsmith.weights.bundle.folder import record_measurements

WRITING = {
    "quickstart": [],
    "train": ["--data", "nowhere", "--arch", "mu/16", "--image-size", "32"],
    "probe": ["nowhere", "--model", "nowhere"],
    "distill": ["--teacher", "nowhere", "--data", "nowhere", "--arch", "mu/16", "--image-size", "32"],
    "lit": ["--data", "nowhere", "--model", "nowhere"],
    "evaluate": ["nowhere", "--data", "nowhere"],
    "benchmark": ["nowhere"],
    "export": ["nowhere", "--to", "onnx"],
    "quantize": ["nowhere", "--images", "nowhere"],
    "merge-tokens": ["nowhere", "--images", "nowhere"],
    "prune": ["nowhere", "--images", "nowhere"],
    "compress": ["nowhere", "--data", "nowhere"],
}
"""Every verb that writes a folder of its own, with a model and data that are not there: places come before them."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> vs.Bundle:
    folder = tmp_path_factory.mktemp("bundles") / "colours" / "model"
    saved = vs.save(vs.Bundle.of(tiny_model(CONFIGS["vit-token"])), folder)
    assert saved is not None
    return saved


# --- one rule ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", WRITING)
def test_a_place_that_holds_anything_is_refused_before_any_work(verb: str, folder: Path, capsys: Any) -> None:
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("years of work")
    Path("file").write_text("years of work")
    for out in ("mine", "file"):
        for force in ([], ["--force"]):
            code, _, err = call(capsys, verb, *WRITING[verb], "--out", out, *force)
            told = f"{out} exists, a {'folder' if out == 'mine' else 'file'} that {verb} did not write"
            assert code == 2 and err == f"vitsmith: {told}: choose another --out\n"
    assert sorted(path.name for path in folder.rglob("*")) == ["file", "mine", "thesis.txt"]
    assert Path("mine/thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("verb", WRITING)
def test_what_the_verb_wrote_itself_is_replaced_only_when_asked(verb: str, folder: Path, capsys: Any) -> None:
    mark = MARKS.get(verb, "bundle.json")
    text = {"distill": '{"distill": {"teacher": "x"}}', "lit": '{"image": {}}', "export": _EXPORTED}.get(verb, "{}")
    Path("run").mkdir()
    Path("run", mark).write_text(text)
    code, _, err = call(capsys, verb, *WRITING[verb], "--out", "run")
    assert code == 2 and err == "vitsmith: run exists: choose another --out, or replace it with --force\n"
    check_place(verb, Path("run"), force=True, is_earlier=None if verb in MARKS else lambda _: True)
    others = [other for other in MARKS if other != verb]
    for other in others:
        with pytest.raises(OutputError, match=f"a folder that {other} did not write"):
            check_place(other, Path("run"), force=True)


@pytest.mark.parametrize(("verb", "resumes"), [("train", "train"), ("distill", "train"), ("lit", "lit")])
def test_a_run_that_has_not_ended_can_be_gone_on_with(verb: str, resumes: str, folder: Path) -> None:
    Path("my run/checkpoints/step-000900").mkdir(parents=True)
    text = {"distill": '{"distill": {"teacher": "x"}}', "lit": '{"image": {}}'}.get(verb, "{}")
    Path("my run/recipe.json").write_text(text)
    with pytest.raises(OutputError, match=f"resume it with  vitsmith {resumes} --resume 'my run' , choose another"):
        check_place(verb, Path("my run"), force=False)
    check_place(verb, Path("my run"), force=True)


_EXPORTED = json.dumps({"provenance": {"source": "vitsmith export --to onnx (opset 20)"}})


def test_without_out_places_are_numbered(folder: Path) -> None:
    names = []
    for _ in range(3):
        with place_of("merge-tokens", "pets", None) as place, whole_run(place) as run:
            run.write_json("merge.json", {})
        names.append(str(place))
    assert names == ["runs/merge-tokens/pets", "runs/merge-tokens/pets-2", "runs/merge-tokens/pets-3"]
    with pytest.raises(InputError), place_of("merge-tokens", "pets", None):
        raise InputError("no")
    with place_of("merge-tokens", "pets", None) as place, place_of("merge-tokens", "pets", None) as other:
        assert [str(one) for one in (place, other)] == ["runs/merge-tokens/pets-4", "runs/merge-tokens/pets-5"]
        assert not place.exists() and not other.exists()  # so that a process that is killed leaves none
    assert sorted(path.name for path in Path("runs/merge-tokens").iterdir()) == ["pets", "pets-2", "pets-3"]


def test_where_there_are_no_locks_two_runs_take_two_places(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_fcntl", None)
    with place_of("prune", "pets", None) as place, place_of("prune", "pets", None) as other:
        assert [str(one) for one in (place, other)] == ["runs/prune/pets", "runs/prune/pets-2"]
        for one in (other, place):
            with whole_run(one) as run:
                run.write_json("prune.json", {"place": str(one)})
    assert [json.loads((one / "prune.json").read_text()) for one in (place, other)] == [
        {"place": "runs/prune/pets"},
        {"place": "runs/prune/pets-2"},
    ]
    with pytest.raises(InputError), place_of("prune", "pets", None):
        raise InputError("no")
    assert sorted(path.name for path in Path("runs/prune").iterdir()) == ["pets", "pets-2"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pets-B_16", "pets-B_16"),
        ("augreg:B_16", "augreg_B_16"),
        ('a/b\\c<>:"|?*\x07', "a_b_c________"),
        ("NUL", "_NUL"),
        ("con.model", "_con.model"),
        ("console", "console"),
        ("ends with a dot. .", "ends with a dot"),
        ("..", "run"),
        ("x" * 300, "x" * 120),
        ("中" * 300, "中" * 40),
        ("caf\udce9", "caf\udce9"),
    ],
)
def test_names_of_runs_are_names_on_every_system(name: str, expected: str) -> None:
    assert default_place("train", name) == Path("runs/train") / expected


# --- one process at a time ------------------------------------------------------------------------------------------


def test_a_run_is_written_by_one_at_a_time(folder: Path) -> None:
    held = rf"run is being written by process {os.getpid()} on .*: wait until it ends"
    with Run("train", "run", Path("run")):
        with pytest.raises(OutputError, match=held):
            Run.reopen(Path("run"))
        for force in (False, True):
            with pytest.raises(OutputError, match=held):
                Run("train", "run", Path("run"), force=force)
    with Run.reopen(Path("run")) as run:
        assert (run.folder / "command.txt").read_text().count("\n") == 2
    assert sorted(path.name for path in Path("run").iterdir()) == ["command.txt"]


@pytest.mark.skipif(os.name != "posix", reason="kills")
def test_two_resumes_of_one_run(folder: Path) -> None:
    write_folder(folder / "data")
    changes = {**FIELDS, "data": {"path": str(folder / "data")}, "schedule": {"steps": 1_000_000, "warmup": 2}}
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    arguments = ["train", *settings(changes), "--set", "run.checkpoint_every=20", "--out", "run"]
    first = subprocess.Popen(command(*arguments), stderr=subprocess.DEVNULL, env=environment)
    try:
        deadline = time.monotonic() + 120
        while not list(folder.glob("run/checkpoints/step-*")) and time.monotonic() < deadline and first.poll() is None:
            time.sleep(0.05)
        second = command("train", "--resume", "run")
        done = subprocess.run(second, capture_output=True, text=True, env=environment, timeout=120)
        assert done.returncode == 2, done.stderr
        assert f"run is being written by process {first.pid} on " in done.stderr.splitlines()[-1]
        assert "vitsmith train" in done.stderr and "Traceback" not in done.stderr
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    with Run.reopen(folder / "run"):
        pass


def test_measurements_recorded_at_once_are_all_there(bundle: vs.Bundle, tmp_path: Path) -> None:
    saved = vs.save(bundle, tmp_path / "model")
    assert saved is not None
    together = threading.Barrier(8)

    def record(number: int) -> None:
        together.wait()
        record_measurements(saved, [Measurement(metric=f"number {number}", value=number, data="x")])

    threads = [threading.Thread(target=record, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = vs.load(tmp_path / "model").measurements
    assert sorted(one.metric for one in found) == [f"number {number}" for number in range(8)]
    card = (tmp_path / "model" / "README.md").read_text()
    assert all(f"number {number}" in card for number in range(8))
    assert not (tmp_path / "model" / ".lock").exists()


def test_measurements_of_a_bundle_that_was_replaced_meanwhile_are_refused(bundle: vs.Bundle, tmp_path: Path) -> None:
    measured = vs.save(bundle, tmp_path / "model")
    assert measured is not None
    vs.save(vs.Bundle.of(tiny_model(CONFIGS["vit-token"], seed=1)), tmp_path / "model")
    with pytest.raises(BundleError, match="was replaced by another model"):
        record_measurements(measured, [Measurement(metric="top1", value=1.0, data="x")])
    assert vs.load(tmp_path / "model").measurements == ()


# --- a run that replaces another, or is refused ----------------------------------------------------------------------


def earlier_run(folder: Path) -> None:
    with Run("train", "run", folder) as run:
        run.write_json("recipe.json", {})
        run.log(event="earlier")


@pytest.mark.parametrize("error", [InputError("no such model"), KeyboardInterrupt(), RuntimeError("a fault")])
def test_an_earlier_run_is_there_until_the_new_one_has_begun(error: BaseException, folder: Path) -> None:
    earlier_run(Path("run"))
    with pytest.raises(type(error)), Run("train", "run", Path("run"), force=True) as run:
        run.write_json("recipe.json", {"new": 1})
        run.write_json("baseline.json", {})
        (run.folder / "tensorboard").mkdir()
        raise error
    assert "earlier" in Path("run/metrics.jsonl").read_text() and Path("run/recipe.json").read_text() == "{}\n"
    assert [path.name for path in folder.iterdir()] == ["run"]
    with Run("train", "run", Path("run"), force=True) as run:
        run.log(event="new")
        assert [path.name for path in folder.iterdir()] == ["run"]
    assert "earlier" not in Path("run/metrics.jsonl").read_text()
    assert sorted(path.name for path in Path("run").iterdir()) == ["command.txt", "metrics.jsonl"]


KILLED = """
import os, sys
from pathlib import Path
from vitsmith.files import atomic as files
from vitsmith.files import swap
from vitsmith.runs.run import Run

files.flush = lambda path: None  # what is killed here is a process, not the machine
place, how = sys.argv[1:]
if how == "steps":
    swap._system_call = lambda: None

def run(until):
    left = [until]

    def count(event, arguments):
        if event == "open" or event.startswith(("os.", "shutil.", "fcntl.", "ctypes.set_errno")):
            left[0] -= 1
            if left[0] < 0:
                os._exit(9)

    sys.addaudithook(count)
    with Run("train", "run", Path(place, str(until), "run"), force=True) as run:
        run.write_json("recipe.json", {"new": 1})
        run.log(event="new")
    os._exit(0)

code, events = 9, 0
while code == 9:
    child = os.fork()
    if not child:
        run(events)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    events += 1
print(events, code)
"""
MOST = 100


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
@pytest.mark.parametrize("how", ["exchange", "steps"])
def test_an_earlier_run_outlives_the_kill_of_one_that_had_not_begun(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child for each file event; whoever writes there next finds the earlier run, or the new one once it began."""
    places = [tmp_path / str(event) / "run" for event in range(MOST)]
    for place in places:
        place.mkdir(parents=True)
        (place / "recipe.json").write_text("{}")
        (place / "metrics.jsonl").write_text('{"event": "earlier"}')
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), how], capture_output=True, text=True, timeout=300
    )
    events, code = map(int, done.stdout.split())
    assert code == 0 and 20 < events < MOST, done.stderr
    seen = []
    monkeypatch.setattr("vitsmith.files.workspace._cleaned", set())  # as in a process that looks for the first time
    for place in places[:events]:
        with claimed(place), pytest.raises(OutputError, match="replace it with `force`"):
            check_place("train", place, force=False)
        log = place / "metrics.jsonl"
        found = "".join(json.loads(line)["event"] for line in log.read_text().splitlines())
        assert found in ("earlier", "new", ""), place  # '': the log was made, and nothing is in it yet
        assert found == "earlier" or not (place / ".stand-in").exists()
        assert [path.name for path in place.parent.iterdir()] == ["run"]
        seen.append(found)
    assert seen == sorted(seen, key=("earlier", "", "new").index) and {"earlier", "new"} <= set(seen)


def test_what_a_run_leaves_that_was_killed_before_it_began_is_in_nobodys_way(folder: Path) -> None:
    child = "import os, pathlib, vitsmith.runs.run as run; run.Run('train', 'x', pathlib.Path('run')); os._exit(9)"
    subprocess.run(
        [sys.executable, "-c", child], timeout=60, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    )
    assert {path.name for path in Path("run").iterdir()} == {".lock", "command.txt"}
    check_place("evaluate", Path("run"), force=False)
    with Run("train", "run", Path("run")) as run:
        run.log(event="new")
    Path("mine").mkdir()
    Path("mine/command.txt").write_text("years of work")
    with pytest.raises(OutputError, match="a folder that train did not write"):
        check_place("train", Path("mine"), force=True)


def test_a_run_that_ended_before_it_began_leaves_nothing_but_never_loses_what_took_work(folder: Path) -> None:
    for error in (InputError("no such model"), KeyboardInterrupt()):
        with pytest.raises(type(error)), Run("train", "run") as run:
            run.write_json("recipe.json", {})
            raise error
        assert list(folder.iterdir()) == []
    with pytest.raises(InputError), Run("train", "run") as run:
        (run.folder / "embeddings").mkdir()
        raise InputError("too large")
    assert Path("runs/train/run/embeddings").exists() and not Path("runs/train/run/.lock").exists()


def test_a_quickstart_is_known_from_its_first_moment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitsmith.runs.run.typed_command", lambda: "vitsmith quickstart --out road")
    with Run("quickstart", "", Path("road")) as run:
        run.write_json("recipe.json", {})
        run.log(event="step")
    check_place("quickstart", Path("road"), force=True)
    with pytest.raises(OutputError, match="a folder that train did not write"):
        check_place("train", Path("road"), force=True)


# --- nothing is lost -------------------------------------------------------------------------------------------------


def broken(*_: Any, **__: Any) -> Any:
    raise ValueError("Expected end of text, found '$'")


@pytest.mark.parametrize("what", ["write_report", "write_plots"])
def test_a_report_that_fails_costs_one_remark(
    what: str, folder: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(folder / "data")
    monkeypatch.setattr(f"vitsmith.report.training.{what}", broken)
    changes = {**FIELDS, "data": {"path": str(folder / "data")}}
    code, out, err = call(capsys, "train", *settings(changes), "--out", "run", "--json")
    found = json.loads(out)
    assert code == 0 and found["bundle"] == "run/model"
    assert vs.load("run/model").labels.names == ("blue", "green", "red")
    assert (found["report"] is None) == (what == "write_report")
    assert err.count("could not be made (Expected end of text, found '$'); everything else is written") == 1


def test_a_picture_that_fails_costs_one_remark(folder: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert put_picture(Path("x.png"), "the picture", broken) is False
    assert "the picture could not be made (Expected end of text" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert put_picture(Path("x.png"), "the picture", lambda: new_figure(LIGHT)) is False
    assert "the picture was not drawn: " in (told := capsys.readouterr().err) and "pip install" in told
    assert list(folder.iterdir()) == []


def test_a_card_that_fails_does_not_cost_the_bundle(
    bundle: vs.Bundle, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vitsmith.weights.bundle.folder.model_card", broken)
    vs.save(bundle, tmp_path / "model")
    assert vs.load(tmp_path / "model").identity == bundle.identity
    assert "the model card of" in capsys.readouterr().err and not (tmp_path / "model" / "README.md").exists()


def test_a_result_that_finds_no_place_any_more_is_kept_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    place = tmp_path / "full" / "run"

    def write(target: Path) -> None:
        if target == place:
            raise OutputError(f"cannot write {target}: No space left on device")
        with whole_run(target) as run:
            run.write_json("compress.json", {"hours": 5})

    with pytest.raises(OutputError, match=r"No space left on device\. Nothing is lost: the output is in (.*), move"):
        write_or_rescue(place, write)
    kept = next(tmp_path.glob("vitsmith-kept-*/run/compress.json"))
    assert json.loads(kept.read_text()) == {"hours": 5}


def test_a_search_that_found_nothing_costs_no_model_that_was_found(folder: Path, capsys: Any) -> None:
    from vitsmith.cli.compress import _keep

    nothing: Any = type("Nothing", (), {"holds": False, "to_dict": lambda self: {"candidates": 40}})()
    Path("small/model").mkdir(parents=True)
    Path("small/compress.json").write_text("{}")
    assert _keep(nothing, Path("small"), "pets", False) == Path("runs/compress/pets")
    assert "the earlier run in small stays as it is" in capsys.readouterr().err
    assert Path("small/model").is_dir() and Path("small/compress.json").read_text() == "{}"
    assert json.loads(Path("runs/compress/pets/compress.json").read_text()) == {"candidates": 40}
    Path("small/model").rmdir()
    assert _keep(nothing, Path("small"), "pets", False) == Path("small")
    assert json.loads(Path("small/compress.json").read_text()) == {"candidates": 40}


def test_a_full_disk_at_the_end_costs_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vitsmith.training import run as train_run

    real = train_run.write_bundle
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))

    def write(bundle: vs.Bundle, folder: Path) -> vs.Bundle:
        if folder.is_relative_to(tmp_path / "run"):
            raise OutputError(f"cannot write {folder}: No space left on device")
        return real(bundle, folder)

    monkeypatch.setattr(train_run, "write_bundle", write)
    with pytest.raises(OutputError, match="the output is in"), Run("train", "run", tmp_path / "run") as run:
        train_to_bundle(recipe(), splits(), run)
    kept = next((tmp_path / "tmp").glob("vitsmith-kept-*/model"))
    assert vs.load(kept).labels.names == ("red", "green", "blue")
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-000012"]
    monkeypatch.setattr(train_run, "write_bundle", lambda bundle, folder: (_ for _ in ()).throw(OutputError("full")))
    told = r"full\. All updates are saved: .* --resume"
    with pytest.raises(OutputError, match=told), Run("train", "run", tmp_path / "second") as run:
        train_to_bundle(recipe(), splits(), run)


def test_scores_are_kept_when_they_cannot_be_recorded(
    bundle: vs.Bundle, folder: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index, pixels in enumerate(pictures(4)):
        path = folder / "data" / str(index % 2) / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    names = tuple(map(str, range(5)))
    vs.save(vs.Bundle.of(bundle.model, labels=vs.Labels(names=names)), "model")
    given = ("evaluate", "model", "--data", "data", "--record", "--json")

    def full(*_: Any) -> None:
        raise OutputError("cannot write model/bundle.json: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("vitsmith.weights.bundle.folder.record_measurements", full)
        code, out, err = call(capsys, *given, "--out", "scores")
    assert code == 2 and "No space left on device" in err
    assert json.loads(Path("scores/scores.json").read_text())["top1"] == json.loads(out)["top1"]

    def forbidden(**given: Any) -> Any:
        if Path(given["dir"]).name == "model":
            raise PermissionError(13, "Permission denied", str(given["dir"]))
        return real(**given)

    real = tempfile.TemporaryFile
    monkeypatch.setattr("vitsmith.files.atomic.tempfile.TemporaryFile", forbidden)
    code, out, err = call(capsys, *given)
    assert (code, out) == (2, "") and err == (
        "vitsmith: cannot write model/bundle.json: Permission denied; choose another place\n"
    )
    assert not Path("runs").exists()
    assert call(capsys, *given[:4])[0] == 0  # all else works


# --- embed ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def photos(folder: Path) -> Path:
    vs.save(tiny_lit(), "lit")
    Path("photos").mkdir()
    for index, pixels in enumerate(pictures(3)):
        Image.fromarray(pixels).save(f"photos/{index}.png")
    return folder


def test_embed_killed_in_its_clean_up_goes_on(photos: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ("embed", "lit", "photos", "--out", "x.npz")
    unlink, seen = Path.unlink, set()
    for moment in range(20):
        left = [moment]

        def dies(path: Path, *arguments: Any, left: list[int] = left, **named: Any) -> None:
            if path.parent.name == "x.npz.partial" and path.name != ".lock":
                left[0] -= 1
                if left[0] < 0:
                    raise KeyboardInterrupt
            unlink(path, *arguments, **named)

        monkeypatch.setattr(Path, "unlink", dies)
        call(capsys, *given)
        monkeypatch.setattr(Path, "unlink", unlink)
        ended = left[0] >= 0
        assert np.load("x.npz")["embeddings"].shape == (3, 32)
        if not ended:
            seen.add(tuple(sorted(path.name for path in Path("x.npz.partial").iterdir())))
            code, out, err = call(capsys, *given)
            assert code == 0 and "x.npz" in out, err
        assert sorted(path.name for path in photos.iterdir()) == ["lit", "photos", "x.npz"]
        Path("x.npz").unlink()
        if ended:
            break
    assert ended and len(seen) == moment >= 3


def test_embed_refuses_names_that_a_file_cannot_hold_before_any_work(photos: Path, capsys: Any) -> None:
    Path("photos/0.png").rename("photos/two\nlines.png")
    code, out, err = call(capsys, "embed", "nowhere", "photos", "--out", "x.npy")
    assert (code, out) == (2, "") and "has a line break, so ids cannot be lines: write .npz or .parquet instead" in err
    assert sorted(path.name for path in photos.iterdir()) == ["lit", "photos"]


def test_embed_replaces_only_what_it_wrote_and_only_when_asked(photos: Path, capsys: Any) -> None:
    for out in ("index", "x.npz", "x.npy"):
        assert call(capsys, "embed", "lit", "photos", "--out", out)[0] == 0
        code, _, err = call(capsys, "embed", "lit", "photos/0.png", "--out", out)
        assert code == 2 and (
            "not the same in the same order" in err or f"{out} exists: choose another --out, or replace" in err
        )
        code, printed, err = call(capsys, "embed", "lit", "photos/0.png", "--out", out, "--force", "--json")
        assert code == 0 and json.loads(printed)["num_images"] == 1, err
    np.savez("mine.npz", years=np.zeros(3))
    Path("notes").mkdir()
    Path("notes/thesis.txt").write_text("years of work")
    for out in ("mine.npz", "notes"):
        code, _, err = call(capsys, "embed", "lit", "photos", "--out", out, "--force")
        assert code == 2 and err.count("\n") == 1 and out in err
    assert list(np.load("mine.npz")) == ["years"] and Path("notes/thesis.txt").read_text() == "years of work"


# --- without a home --------------------------------------------------------------------------------------------------

HOMELESS = """
    import pwd, sys
    def nobody(*_): raise KeyError("uid not found")
    pwd.getpwuid = pwd.getpwnam = nobody
    from vitsmith.cli.main import main
    main(sys.argv[1:])
"""


@pytest.mark.skipif(os.name != "posix", reason="pwd")
def test_without_a_home_everything_but_downloads_works(photos: Path) -> None:
    unset = ("HOME", "XDG_CACHE_HOME", "VITSMITH_CACHE")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment["PYTHONPATH"] = str(ROOT)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        code = "\n".join(line[4:] for line in HOMELESS.splitlines())
        return subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment, timeout=120
        )

    done = run("zeroshot", "lit", "photos", "--labels", "cat,dog")
    assert done.returncode == 0 and done.stdout.count("\n") == 3, done.stderr
    assert "cannot keep the label embeddings for the next run: there is no home folder" in done.stderr
    assert "set VITSMITH_CACHE to a folder that can be written" in done.stderr


@pytest.mark.parametrize("out", [".", "..", "../here", "/"])
def test_the_folder_one_is_in_is_never_replaced(out: str, tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for verb in ("merge-tokens", "train", "export"):
        code, _, err = call(capsys, verb, *WRITING[verb], "--out", out)
        assert code == 2 and "is the folder that you are in, or one above it" in err
    assert Path.cwd() == tmp_path / "here" and [path.name for path in tmp_path.iterdir()] == ["here"]


def test_events_of_tensorboard_that_cannot_be_written_cost_one_remark(
    folder: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    write_folder(folder / "data")
    monkeypatch.setattr("vitsmith.training.monitor.tensorboard.TensorBoard._write", broken)
    changes = {**FIELDS, "data": {"path": str(folder / "data")}}
    code, _, err = call(capsys, "train", *settings(changes), "--set", "run.tensorboard=true", "--out", "run")
    assert code == 0 and err.count("TensorBoard's events could not be made") == 1
    assert vs.load("run/model").classes == 3


def test_an_error_of_the_system_is_one_line_wherever_it_comes_from(
    folder: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied", "somewhere/deep")

    monkeypatch.setattr("vitsmith.weights.load.load", denied)
    code, _, err = call(capsys, "inspect", "model")
    assert (code, err.count("\n")) == (2, 1) and "cannot use somewhere/deep: Permission denied" in err
    for verb in ("train", "lit"):
        code, _, err = call(capsys, verb, "--resume", "x" * 300)
        assert (code, err.count("\n")) == (2, 1) and "File name too long" in err


def test_a_disk_that_is_full_from_the_start_is_told_by_the_name_one_knows(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    earlier_run(Path("earlier"))
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match=r"cannot write run/command\.txt: No space left"):
        Run("train", "run", Path("run"))
    with pytest.raises(OutputError, match=r"cannot write runs/train/run/command\.txt: No space left"):
        Run("train", "run")
    with pytest.raises(OutputError, match="No space left"):
        Run("train", "run", Path("earlier"), force=True)
    told = r"cannot write whole/command\.txt: No space left"
    with pytest.raises(OutputError, match=told), whole_run(Path("whole")):
        pass
    assert [path.name for path in folder.iterdir()] == ["earlier"]
    assert "earlier" in Path("earlier/metrics.jsonl").read_text()
