"""The list of verbs. Each is imported, and its options are made, only when it is used: that saves most of the start."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from vitsmith.cli.arguments.command import Verb, shorten_kinds
from vitsmith.cli.arguments.completion import complete_for_shell
from vitsmith.cli.arguments.examples import epilog

VERBS = (
    *(
        "quickstart",
        "models",
        "recommend",
        "calibrate",
        "inspect",
        "train",
        "probe",
        "distill",
        "lit",
        "evaluate",
        "predict",
        "zeroshot",
    ),
    *("embed", "retrieve", "duplicates", "cluster"),
    *("export", "quantize", "merge-tokens", "prune", "compress", "benchmark"),
)
"""Verbs in the order of `vitsmith --help`. `merge-tokens` is the function `merge_tokens` in `cli/merge_tokens.py`."""


def function_of(verb: str) -> Callable[..., None]:
    """The function that carries out a verb; its parameters are the options."""
    name = verb.replace("-", "_")
    found: Callable[..., None] = getattr(import_module(f"vitsmith.cli.{name}"), name)
    return found


class Verbs(TyperGroup):
    """The commands of `vitsmith`."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of all verbs, imported or not."""
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The verb of that name; None for another, when all are made, so that the closest can be named."""
        if cmd_name in VERBS:
            return self._made(cmd_name)
        for name in VERBS:
            self._made(name)
        return super().get_command(ctx, cmd_name)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As the parent; `help VERB` is `VERB --help`, and options of completion may name a shell."""
        if args[:1] == ["help"]:
            args = [*args[1:2], "--help"]
        if args and not ctx.resilient_parsing:
            complete_for_shell(ctx, args)
        rest: list[str] = super().parse_args(ctx, args)
        return rest

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """As the parent, with kinds of values as the verbs show them."""
        shorten_kinds(self, ctx)
        super().format_help(ctx, formatter)

    def _made(self, name: str) -> Any:
        if name not in self.commands:
            alone = typer.Typer(add_completion=False)
            alone.command(name, cls=Verb, epilog=epilog(name))(function_of(name))
            self.commands[name] = typer.main.get_command(alone)
        return self.commands[name]
