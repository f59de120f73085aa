"""Ctrl-C and its like: answered at once whatever the process is busy with, exit code 2, no traceback, nobody left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vitsmith.process.child import run_child
from vitsmith.training.stop import ENDING, finishing, stopping_gently, under_way

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

START = """
import hashlib, os, signal, subprocess, sys, threading, time
from vitsmith.cli import main as command_line
from vitsmith.process.child import run_child
from vitsmith.training.stop import finishing, stopping_gently

def ready(*words):
    print("ready", *words, flush=True)

def long_call():
    threading.Timer(0.5, ready).start()  # while it is under way
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # some ten minutes, in which no Python runs in this thread
"""
END = """
command_line.app = lambda **_: verb()
command_line.main()
"""
INTERRUPTED = "vitsmith: interrupted; nothing half-written was left, run the command again to start over"
LATE = "vitsmith: interrupted after the result was written: it is complete"
STOPPING = "vitsmith: stopping after {}; once more leaves at once"
LEFT = "vitsmith: left at once"


@contextmanager
def verb(code: str, ignored: tuple[int, ...] = ()) -> Iterator[subprocess.Popen[str]]:
    """A command line whose verb is the function `verb` of the code, once it has said that it is ready."""

    def ignore() -> None:
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)

    process = subprocess.Popen(
        [sys.executable, "-c", START + code + END],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=ignore,
    )
    try:
        assert process.stdout is not None and process.stdout.readline().startswith("ready")
        yield process
    finally:
        process.kill()
        process.communicate()


def said(process: subprocess.Popen[str]) -> str:
    """The next line on standard error."""
    assert process.stderr is not None
    return process.stderr.readline().rstrip("\n")


def ended(process: subprocess.Popen[str]) -> tuple[int, list[str]]:
    """(exit code, the other lines on standard error)."""
    _, err = process.communicate(timeout=60)
    return process.returncode, err.splitlines()


@pytest.mark.parametrize("number", [number for number in ENDING if number != signal.SIGTERM])
def test_a_long_call_is_told_of_and_left_with_the_second(number: int) -> None:
    with verb("verb = long_call") as process:
        process.send_signal(number)
        assert said(process) == STOPPING.format("the step under way")
        process.send_signal(signal.SIGTERM)
        assert ended(process) == (2, [LEFT])


def test_what_is_done_in_python_ends_at_once_with_one_line() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        with verb("def verb(): ready(); time.sleep(600)") as process:
            process.send_signal(number)
            assert ended(process) == (2, [INTERRUPTED])


def test_signals_that_were_ignored_at_the_start_stay_ignored_and_sigterm_still_ends() -> None:
    """As `command &` does in a script with SIGINT, and nohup with SIGHUP."""
    code = "def verb():\n with stopping_gently() as stop:\n  ready()\n  while not stop.asked: time.sleep(0.01)"
    for gentle, told in ((code, LATE), ("def verb(): ready(); time.sleep(600)", INTERRUPTED)):
        with verb(gentle, ignored=(signal.SIGINT, signal.SIGHUP)) as process:
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGHUP)
            time.sleep(0.5)
            assert process.poll() is None
            process.send_signal(signal.SIGTERM)
            assert ended(process) == (2, [told])


def test_a_signal_at_the_very_end_is_told_of() -> None:
    """The thread that watches for signals may not have had its turn."""
    code = "def verb():\n sys.setswitchinterval(60)\n with stopping_gently():\n  ready()\n  os.kill(os.getpid(), 15)"
    with verb(code) as process:
        assert ended(process) == (2, [LATE])


SAVING = """
def verb():
    with stopping_gently() as stop:
        ready()
        while not stop.asked:
            time.sleep(0.01)
        time.sleep(1)
    ready("saved")
"""


def test_a_run_is_saved_also_when_a_launcher_passes_the_signal_on() -> None:
    with verb(SAVING) as process:
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (2, "ready saved\n")
        assert err.splitlines() == [STOPPING.format("the update under way, and saving it"), LATE]


def test_the_second_signal_leaves_a_run_that_is_saving() -> None:
    with verb(SAVING.replace("sleep(1)", "sleep(600)")) as process:
        process.send_signal(signal.SIGINT)
        assert said(process) == STOPPING.format("the update under way, and saving it")
        process.send_signal(signal.SIGINT)
        code, lines = ended(process)
        assert code == 2 and lines in ([LEFT], [INTERRUPTED])  # whichever of two threads is first


def test_an_interruption_inside_a_destructor_is_not_lost() -> None:
    code = """
class Interrupting:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(10**5): pass

def verb():
    ready()
    Interrupting()
    time.sleep(600)
"""
    with verb(code) as process:
        assert ended(process) == (2, [INTERRUPTED])


def test_what_a_library_makes_of_an_interruption_is_no_fault() -> None:
    code = """
def verb():
    ready()
    try:
        time.sleep(600)
    except KeyboardInterrupt:
        raise RuntimeError("callback failed") from None
"""
    with verb(code) as process:
        process.send_signal(signal.SIGINT)
        assert ended(process) == (2, [INTERRUPTED])


def test_who_interrupts_what_comes_beside_a_result_is_told_that_it_is_there() -> None:
    code = """
from vitsmith.cli.terminal.output import beside, print_line
def verb():
    with beside("the report"):
        ready()
        time.sleep(600)
    print_line("bundle  run/model")
"""
    with verb(code) as process:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 2 and out.endswith("bundle  run/model\n")
    assert err.splitlines() == ["the report could not be made (interrupted); everything else is written", LATE]


def test_what_goes_wrong_in_saving_is_told_also_after_an_interruption() -> None:
    code = SAVING.replace('    ready("saved")', '    raise OutputError("cannot write it: No space left on device")')
    with verb(f"from vitsmith.errors import OutputError\n{code}") as process:
        process.send_signal(signal.SIGINT)
        code, lines = ended(process)
    assert code == 2 and lines[-1] == "vitsmith: cannot write it: No space left on device"


def test_threads_do_not_hold_up_the_end() -> None:
    wait = "threading.Thread(target=threading.Event().wait).start()"
    with verb(f"def verb(): {wait}; ready(); time.sleep(600)") as process:
        process.send_signal(signal.SIGINT)
        assert ended(process) == (2, [INTERRUPTED])
    with verb(f"def verb(): {wait}; ready()") as process:  # all is done, and the interpreter waits for the thread
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        assert ended(process) == (2, [LEFT])


@pytest.mark.parametrize("busy", [True, False])
def test_children_end_with_the_process(busy: bool, tmp_path: Path) -> None:
    code = """
def work():
    run_child([sys.executable, "-c", "import os, time; open('PID', 'w').write(str(os.getpid())); time.sleep(600)"],
              seconds=600)
def verb():
    BEGIN
    while not (os.path.exists("PID") and open("PID").read()): time.sleep(0.01)
    long_call()
"""
    begin = "threading.Thread(target=work).start()"
    here = tmp_path / "child"
    if not busy:
        code, begin = code.replace("    while", "    ready(); work()\n    while"), "pass"
    with verb(code.replace("BEGIN", begin).replace("PID", str(here))) as process:
        while not (here.exists() and here.read_text()):
            time.sleep(0.01)
        child = int(here.read_text())
        process.send_signal(signal.SIGTERM)
        if busy:
            assert said(process) == STOPPING.format("the step under way")
            process.send_signal(signal.SIGTERM)
        assert ended(process) == (2, [LEFT if busy else INTERRUPTED])
    deadline = time.monotonic() + 30
    while _runs(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(child)


def _runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_child_that_takes_too_long_is_killed_and_its_output_kept() -> None:
    command = [sys.executable, "-c", "import time; print('caf\\u00e9', flush=True); time.sleep(600)"]
    environment = os.environ | {"PYTHONIOENCODING": "utf-8"}
    with pytest.raises(subprocess.TimeoutExpired) as late:
        run_child(command, seconds=3, env=environment)
    assert late.value.output == "café\n"
    done = run_child([sys.executable, "-c", "import sys; print(1); print(2, file=sys.stderr); sys.exit(3)"], seconds=60)
    assert (done.returncode, done.stdout, done.stderr) == (3, "1\n", "2\n")


def test_who_interrupts_is_told_what_is_finished() -> None:
    assert under_way() == "the step under way"
    with finishing("this"):
        with stopping_gently():
            assert under_way() == "the update under way, and saving it"
        assert under_way() == "this"


def test_a_signal_in_a_program_that_trains_is_a_request_and_the_second_an_interruption() -> None:
    before = [signal.getsignal(number) for number in ENDING]
    with stopping_gently() as stop:
        signal.raise_signal(signal.SIGHUP)
        assert stop.asked
        with pytest.raises(KeyboardInterrupt):
            stop.first -= 10  # a person waits a moment
            signal.raise_signal(signal.SIGTERM)
    assert [signal.getsignal(number) for number in ENDING] == before
