"""`vitsmith --help` and that of each verb, at 80 columns."""

from __future__ import annotations

from tests.transcripts import Files
from tests.transcripts.calling import call, surroundings


def make() -> Files:
    """A file for each verb, and one for the command itself."""
    from vitsmith.cli.verbs import VERBS

    with surroundings():
        return {"help/vitsmith.txt": _help()} | {f"help/{verb}.txt": _help(verb) for verb in sorted(VERBS)}


def _help(*verb: str) -> str:
    said = call([*verb, "--help"])
    assert (said.code, said.err) == (0, ""), said
    lines = (line.rstrip() for line in said.out.splitlines())
    return "\n".join([" ".join(["$ vitsmith", *verb, "--help"]), *lines]).rstrip() + "\n"
