"""`vitsmith recommend` and `vitsmith.recommend`: what they print, write and refuse, with a made machine's profile."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import vitsmith as vs
from tests.choosing.made import MadeCosts, machine, zoo
from tests.command_line import call
from tests.cost.machines import engine as made_engine
from tests.cost.machines import machine as made_machine
from tests.cost.machines import timed
from tests.documentation import ROOT
from vitsmith.choosing import machines
from vitsmith.choosing.overhead import USUAL, measured_here, spread_of
from vitsmith.choosing.recommendation import Setup
from vitsmith.choosing.request import RequestOptions, make_request
from vitsmith.choosing.run import recommend
from vitsmith.cost.profile import write_profile

PAGE = ROOT / "docs" / "recommend.md"


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a made machine with two engines, in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VITSMITH_CACHE", str(tmp_path / "cache"))
    calls = tuple(timed(0.01))
    engines = [made_engine(engine=name, precision="fp32", timed=calls) for name in ("torch", "openvino")]
    write_profile(made_machine(*engines), tmp_path / "pi.json")
    return tmp_path / "pi.json"


def test_the_command_line_prints_a_table_and_writes_a_page(profile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "recommend", "--latency", "5ms", "--machine", "pi.json", "--licence", "commercial")
    assert code == 0, err
    assert "median" in out and "first: " in out and "vitsmith export " in out
    assert "times are those of Made 1" in err and "runs/recommend/cpu-server" in err
    folder = profile.parent / "runs" / "recommend" / "cpu-server"
    assert {path.name for path in folder.iterdir()} == {"command.txt", "recommend.html", "recommend.json"}
    assert json.loads((folder / "recommend.json").read_text(encoding="utf-8"))["rows"]


def test_json_and_python_say_the_same(profile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "recommend", "--scenario", "edge", "--machine", "pi.json", "--json")
    told = json.loads(out)
    found = vs.recommend(scenario="edge", machine=profile)
    assert code == 0 and told.pop("folder") == "runs/recommend/edge"
    assert found.to_dict() == told and found.folder is None
    assert found.best is not None and found.best.source == told["rows"][0]["model"]
    assert [row.source for row in found[:3]] == [row["model"] for row in told["rows"][:3]]
    written = vs.recommend(scenario="edge", machine=str(profile), out="kept")
    assert written.folder == Path("kept") and Path("kept/recommend.html").is_file()
    with pytest.raises(vs.InputError, match="exists"):
        vs.recommend(scenario="edge", machine=profile, out="kept")
    vs.recommend(scenario="edge", machine=profile, out="kept", force=True)


def test_an_impossible_budget_is_exit_code_3_and_says_what_is_nearest(
    profile: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = call(capsys, "recommend", "--latency", "0.01ms", "--machine", "pi.json")
    assert code == 3 and "relax a budget" in err
    assert "latency" in out and "is to blame" in out and "the nearest: " in out and "possible: latency" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--latency", "30"), "--latency 30 has no unit: write 30ms or 30s"),
        (("--latency", "0ms"), "--latency '0ms': give a number above 0 with its unit"),
        (("--memory", "-5MB"), "--memory '-5MB': give a number above 0 with its unit"),
        (("--throughput", "0"), "--throughput must be a number of images a second above 0"),
        (("--batch", "0"), "--batch must be a whole number from 1"),
        (("--scenario", "edgy"), "unknown scenario 'edgy': did you mean edge?"),
        (("--task", "clasify"), "unknown task 'clasify': did you mean classify?"),
        (("--licence", "free"), "unknown licence 'free'"),
        (("--scenario", "browser", "--latency", "30ms"), "--latency cannot be told for browser"),
        (("--latency", "30", "--size", "5", "--task", "sort"), "; --size 5 has no unit"),
        (("--machine", "nowhere.json"), "nowhere.json"),
        (("--machine", "broken.json"), "broken.json"),
        (("--machine", "pi.json", "--threads", "7"), "7 threads"),
        (("--scenario", "mobile", "--machine", "pi.json"), "mobile is for executorch or onnx"),
        (("--latency", ""), "--latency is given, but empty"),
    ],
)
def test_bad_input_is_one_line(
    profile: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    (profile.parent / "broken.json").write_text('{"format": 1}', encoding="utf-8")
    code, out, err = call(capsys, "recommend", *arguments)
    assert (code, out) == (2, "") and words in err and "Traceback" not in err
    assert len(err.strip().splitlines()) == 1
    assert not Path("runs").exists()


def test_a_scenario_that_is_not_this_machine_needs_no_engine_and_no_calibration(
    profile: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machines, "calibrate", lambda *_, **__: pytest.fail("calibrated"))
    code, out, err = call(capsys, "recommend", "--scenario", "browser")
    assert code == 0 and "GFLOPs" in out and "p95" not in out and "no time is known of a browser machine" in err
    assert out.rstrip().endswith("--to web")


def _calibrating(monkeypatch: pytest.MonkeyPatch, *installed: str) -> list[str]:
    """Stands in for calibration; returns the engines that it is asked for."""
    asked: list[str] = []

    class Kind:
        def __init__(self, name: str) -> None:
            self.installed, self.package, self.extra = name in installed, name, "onnx"

    def calibrate(name: str, *, threads: int | None, on_progress: Any) -> Any:
        asked.append(name)
        if name == "onnx":
            raise machines.CalibrationError("onnx fp32 cannot be calibrated: it died")
        return made_machine(made_engine(engine=name, timed=tuple(timed(0.01))))

    names = ("torch", "onnx", "openvino")
    monkeypatch.setattr(machines, "PRECISIONS", dict.fromkeys(names, ("fp32",)))
    monkeypatch.setattr(machines, "ENGINES", {name: Kind(name) for name in names})
    monkeypatch.setattr(machines, "calibrate", calibrate)
    monkeypatch.setattr(machines, "other_machine", lambda *_: ())
    return asked


def test_this_machine_is_calibrated_by_itself_and_an_engine_that_fails_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, told = _calibrating(monkeypatch, "torch", "onnx"), list[str]()
    found = machines.machine_of(make_request(RequestOptions()), tell=told.append)
    assert asked == ["onnx", "torch"] and found.setups == (Setup("torch", "fp32"),)
    assert told == ["left out: onnx fp32 cannot be calibrated: it died"]


def test_a_busy_machine_is_told() -> None:
    busy = made_machine(made_engine(timed=tuple(timed(0.01)), others=0.4))
    found = machines.machine_from(busy, make_request(RequestOptions()))
    assert any(told.startswith("torch fp32: other processes used 40% of the cores") for told in found.remarks)


def test_torch_alone_is_enough_and_no_engine_is_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    request = make_request(RequestOptions(latency="30ms"))
    _calibrating(monkeypatch, "torch")
    assert {setup.engine for setup in machines.machine_of(request, tell=print).setups} == {"torch"}
    _calibrating(monkeypatch)
    with pytest.raises(vs.InputError, match=r"pip install 'vitsmith\[onnx\]'"):
        machines.machine_of(request, tell=print)
    _calibrating(monkeypatch, "onnx")
    with pytest.raises(machines.CalibrationError, match="it died"):
        machines.machine_of(request, tell=print)


def test_the_spread_is_the_95th_percentile_of_calls_over_their_medians() -> None:
    calls = [[1.0] * 19 + [3.0], [10.0] * 20]
    pooled = sorted([*calls[0], *(one / 10 for one in calls[1])])
    place = 0.95 * (len(pooled) - 1)
    below = pooled[int(place)]
    expected = below + (place - int(place)) * (pooled[int(place) + 1] - below)
    value, low, high = spread_of(calls)
    assert value == pytest.approx(max(expected, 1.01)) and low < value < high
    assert spread_of([[1.0], []]) == USUAL.spread


def test_decoding_is_measured_here_and_larger_photos_take_longer() -> None:
    found = measured_here((120, 160))
    value, low, high = found.seconds((120, 160), (224, 224))
    assert 0 < low <= value <= high < 1
    assert found.seconds((1200, 1600), (224, 224))[0] > value
    assert "measured here" in found.source


def test_recommend_imports_neither_torch_nor_scikit_learn(profile: Path) -> None:
    program = (
        "import sys, vitsmith as vs; vs.recommend(latency='30ms', machine='pi.json', out='kept'); "
        "print(sorted({'torch', 'sklearn', 'scipy', 'matplotlib', 'onnxruntime', 'openvino'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]" and not re.search("could not be made", done.stderr)


def test_every_field_of_the_json_is_described() -> None:
    text = PAGE.read_text(encoding="utf-8")
    described = _sections(text)
    for latency in ("1ms", "0.001ms"):
        result = recommend(make_request(RequestOptions(latency=latency, size="3MB")), zoo(1), machine(MadeCosts(1)))
        told = json.loads(json.dumps(result.to_dict()))
        assert set(told) | {"folder"} == described["object"]
        for row in told["rows"]:
            assert set(row) == described["row"]
        for name in ("request", "counts"):
            assert set(told[name]) <= set(re.findall(r"`(\w+)`", text))
        for part in ("just_missed", "relaxations", "blame", "steps"):
            for one in told[part]:
                assert set(one) - described["row"] <= set(re.findall(r"`(\w+)`", text))


def _sections(text: str) -> dict[str, set[str]]:
    """The fields in the first columns of the two tables below 'JSON'."""
    tables = text.partition("\n## JSON\n")[2].split("A row has:")
    fields = [set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\|([^|]*)\|", part, re.M)))) for part in tables]
    return {"object": fields[0], "row": fields[1]}
