"""Does anything make vitsmith give a wrong answer, a traceback or no answer at all?

    pip install 'vitsmith[all,executorch]'
    python benchmarks/robustness.py --out benchmarks/results/robustness.md
    python benchmarks/robustness.py --changes 400 --without "hashes of a bundle"    # what the hashes are good for

- changes: sound files of every kind (see SUBJECTS in robustness_subjects.py) are changed at random, a bit, a stretch, a
  value of their JSON, a file removed, and used as a user would use them. The answer is the same ("right"), refused in
  one line ("refused"), or another. Another answer is "wrong" where the format or the bundle has a checksum, or the
  length tells, that the change is within; elsewhere nothing could notice, and it is counted as "other".
- command lines: verbs with options and values drawn at random, in a folder with sound and unsound things to find
- kills: commands that write are killed (SIGKILL) before one of their changes of the file system, then what is there is
  looked at, and the commands are run again to their end

"traceback" counts whatever is not one line: an unexpected error, a message of several lines, an exit code other than 0,
2 and 3, a process that died. "hang": no end within --seconds.

Everything follows from --seed; a row of the list of faults says how to see it again (--only SUBJECT --first N).
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import numpy as np

VERDICTS = ("right", "refused", "other", "wrong", "left over", "traceback", "hang")
FAULTS = ("wrong", "left over", "traceback", "hang")
COMMANDS = "command line"
MEMORY = 24 * 2**30
"""Bytes of addresses a worker may have: a file that claims more than the machine has fails rather than swaps."""


@dataclass(frozen=True)
class Job:
    """One change, command line or kill."""

    subject: str
    number: int


@dataclass
class Tally:
    """What came of all jobs."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def add(self, job: Job, verdict: str, what: str) -> None:
        self.counts.setdefault(job.subject, Counter())[verdict] += 1
        if verdict in FAULTS:
            self.faults.append(f"{verdict}: {job.subject} {job.number}: {what}")


# ---- a worker: makes, changes, uses


def work() -> None:
    """Reads jobs from standard input, a JSON line each, and answers with a line each."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    first = json.loads(sys.stdin.readline())
    place = Path(first["place"])
    from robustness_checks import remove

    remove(first["without"])
    for line in sys.stdin:
        job = Job(**json.loads(line))
        try:
            verdict, what = carry_out(job, place, first["seed"], first["seconds"])
        except Exception:  # of this script itself: seen, as any fault
            verdict, what = "traceback", f"in the script: {_fault()}"
        answers.write(json.dumps([verdict, what]) + "\n")
        answers.flush()


def carry_out(job: Job, place: Path, seed: int, seconds: float) -> tuple[str, str]:
    """(verdict, what was done) of one job."""
    random = np.random.default_rng([seed, zlib.crc32(job.subject.encode()), job.number])
    copy = place / f"copy-{os.getpid()}"
    if job.subject == COMMANDS:
        from robustness_commands import command_line, run_command

        _copy(place / "world", copy)
        return run_command(command_line(random), copy, seconds)
    if job.subject.startswith("kill: "):
        return _kill(job, place, copy)
    return _change(job, place, copy, random)


def _change(job: Job, place: Path, copy: Path, random: np.random.Generator) -> tuple[str, str]:
    from robustness_answers import same
    from robustness_subjects import SUBJECTS

    import vitsmith as vs

    subject = SUBJECTS[job.subject]
    pristine = _made(place / "sound" / job.subject, subject.make)
    wanted = _WANTED.get(job.subject)
    if wanted is None:
        wanted = _WANTED[job.subject] = subject.use(pristine)
    _copy(pristine, copy)
    change = subject.change(copy, random)
    try:
        found = subject.use(copy)
    except vs.errors.VitsmithError as error:
        one_line = "\n" not in str(error) and str(error)
        return ("refused" if one_line else "traceback"), f"{change.what}: {error!r}"
    except BaseException:  # the fault that is looked for
        return "traceback", f"{change.what}: {_fault()}"
    if same(found, wanted, subject.tolerance):
        return "right", change.what
    return ("wrong" if change.covered else "other"), change.what


def _fault() -> str:
    """The exception that is being handled, and the last places it came through."""
    kind, error, trace = sys.exc_info()
    places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(trace)[-4:]]
    return f"{kind and kind.__name__}: {error} ({' > '.join(places)})"


_WANTED: dict[str, Any] = {}


def _kill(job: Job, place: Path, copy: Path) -> tuple[str, str]:
    from robustness_kills import OPERATIONS, events_of, try_kill

    name = job.subject.removeprefix("kill: ")
    if name not in _EVENTS:
        _EVENTS[name] = events_of(OPERATIONS[name], copy)
    events, wanted = _EVENTS[name]
    at = 1 + (job.number * 7919) % events  # a prime: all over the run, whatever the number of kills
    return try_kill(OPERATIONS[name], copy, at, wanted)


_EVENTS: dict[str, Any] = {}


def _made(folder: Path, make: Callable[[Path], None]) -> Path:
    """Sound files, made by the worker that needs them first."""
    if not folder.exists():
        partial = folder.with_name(f"{folder.name}.{os.getpid()}")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        make(partial)
        with contextlib.suppress(OSError):  # the other worker was first
            partial.rename(folder)
    return folder


def _copy(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    # cp knows pipes and links that lead nowhere; shutil would read the one and follow the other.
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)


# ---- the main process: hands out, waits, counts


class Worker:
    """A process that does one job at a time."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self._start()

    def _start(self) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "VITSMITH_CACHE": f"{self._options['place']}/cache"}
        command = [sys.executable, "-W", "ignore", __file__, "--worker"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
        )
        self._send(self._options)

    def _send(self, value: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(value) + "\n")
        self._process.stdin.flush()

    def do(self, job: Job) -> tuple[str, str]:
        """(verdict, what was done). A worker that hangs or dies is replaced."""
        self._send({"subject": job.subject, "number": job.number})
        timer = threading.Timer(self._options["seconds"] * (40 if job.subject.startswith("kill: ") else 2), self.stop)
        timer.start()
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        in_time = timer.is_alive()
        timer.cancel()
        if line:
            verdict, what = json.loads(line)
            return verdict, what
        code = self._process.wait()
        self._start()
        return ("traceback", f"the process died ({code})") if in_time else ("hang", "")

    def stop(self) -> None:
        """Ends it and its children at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, 9)


def jobs_of(changes: int, commands: int, kills: int, only: str, first: int) -> Iterator[Job]:
    """All jobs, kinds mixed."""
    from robustness_kills import OPERATIONS
    from robustness_subjects import SUBJECTS

    total = sum(subject.share for subject in SUBJECTS.values())
    counts = {name: max(round(changes * subject.share / total), 1) for name, subject in SUBJECTS.items()}
    counts = counts if changes else {}
    counts[COMMANDS] = commands
    each, rest = divmod(kills, len(OPERATIONS))
    counts |= {f"kill: {name}": each + (at < rest) for at, name in enumerate(OPERATIONS)}
    for name, count in counts.items():
        if not only or name == only:
            yield from (Job(name, number) for number in range(first, first + count))


def run(options: argparse.Namespace) -> Tally:
    """Every job, by as many workers as asked for."""
    from robustness_commands import make_world

    tally, lock, queue = Tally(), threading.Lock(), Queue[Job]()
    for job in jobs_of(options.changes, options.commands, options.kills, options.only, options.first):
        queue.put(job)
    total = queue.qsize()
    with tempfile.TemporaryDirectory(prefix="robustness-") as place:
        if options.commands:
            (Path(place) / "world").mkdir()
            make_world(Path(place) / "world")
        told = {"place": place, "seed": options.seed, "seconds": options.seconds, "without": options.without}

        def serve() -> None:
            worker = Worker(told)
            with contextlib.suppress(Empty):
                while True:
                    job = queue.get_nowait()
                    verdict, what = worker.do(job)
                    with lock:
                        tally.add(job, verdict, what)
                        if verdict in FAULTS:
                            print(tally.faults[-1][:1000], file=sys.stderr, flush=True)
                        done = total - queue.qsize()
                        if done % 200 == 0:
                            print(f"{done:,} of {total:,}; {len(tally.faults)} faults", file=sys.stderr, flush=True)
            worker.stop()

        threads = [threading.Thread(target=serve) for _ in range(options.workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return tally


def table(tally: Tally) -> str:
    """A row for each subject, in Markdown."""
    lines = [f"| what | tried | {' | '.join(VERDICTS)} |", "|---|" + "---:|" * (len(VERDICTS) + 1)]
    for name, counts in [*tally.counts.items(), ("all", sum(tally.counts.values(), Counter()))]:
        cells = [f"{counts[verdict]:,}" if counts[verdict] else "" for verdict in VERDICTS]
        lines.append(f"| {name} | {sum(counts.values()):,} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--changes", type=int, default=9100)
    parser.add_argument("--commands", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=60, help="longest time of a change or command line")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", default="", help="one row of the table")
    parser.add_argument("--first", type=int, default=0, help="number of the first job of each row")
    parser.add_argument("--without", default="", help="a check that is taken away, see robustness_checks.py")
    parser.add_argument("--out", type=Path, help="a Markdown file for the result")
    parser.add_argument("--json", action="store_true", help="print counts and faults as JSON")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work()
        return
    from vitsmith.machine import describe_machine

    began = time.perf_counter()
    tally = run(options)
    if options.json:
        print(json.dumps({"counts": tally.counts, "faults": tally.faults}))
        return
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "numpy", "pillow", "onnxruntime", "openvino"))
    title = "# What mutations, hostile command lines and kills come to\n\n"
    about = (
        f"`python benchmarks/robustness.py --changes {options.changes} --commands {options.commands} "
        f"--kills {options.kills} --seed {options.seed}"
        + (f' --without "{options.without}"' if options.without else "")
        + f"`, {datetime.date.today().isoformat()}, {describe_machine()}, Python {platform.python_version()}, "
        f"{packages}. {(time.perf_counter() - began) / 60:.0f} minutes.\n\n"
    )
    text = title + about + table(tally) + "\n" + "".join(f"    {' '.join(one.split())[:400]}\n" for one in tally.faults)
    if options.out:
        options.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
