"""How every verb reads its command line: nothing is silently ignored, and no number is impossibly large.

An option that takes one value and is given two, a value that is empty (such as an unset shell variable), and an option
in the place of another's value would all give a result that the user did not ask for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from typer.core import TyperCommand

from vitsmith.cli.arguments.unknown_words import explain_pair, explain_percent
from vitsmith.cli.terminal.output import know_options
from vitsmith.errors import InputError, shown

MOST: dict[str, float] = {
    "batch_size": 65_536,
    "batch": 65_536,
    "throughput": 1e9,
    "fixed_batch": 65_536,
    "image_size": 32_768,
    "steps": 10**9,
    "lr": 1e6,
    "temperature": 1e6,
    "seed": 2**63 - 1,
    "top": 1_000_000,
    "threads": 1_024,
    "seconds": 86_400,
    "max_drop": 100,
    "min_agreement": 1,
    "min_score": 1,
    "min_speedup": 1_000,
    "skip_unreadable": 1,
    "threshold": 1,
    "min_size": 10**6,
    "calibration": 10**6,
    "limit": 10**9,
    "tokens": 10**6,
    "keep": 1,
    "heads": 10**6,
    "mlp_width": 10**6,
    "tokens_mlp_width": 10**6,
    "depth": 10**6,
    "measure": 50,
    "train_images": 10**12,
}
"""The largest value of each option that takes a number, whichever verb has it."""

COSINES = ("min_score", "threshold")
"""Those of them that are cosines, and no shares."""


class Verb(TyperCommand):
    """A verb that refuses what would otherwise be silently ignored. Raises InputError."""

    def make_parser(self, ctx: Any) -> Any:
        """The parser of options, whose results are checked."""
        options_last = sorted(self.params, key=_is_option)  # --data is more exact than DATA
        know_options({str(param.name).rstrip("_"): _spelling(param) for param in options_last})
        parser = super().make_parser(ctx)
        parse = parser.parse_args

        def checked(args: list[str]) -> Any:
            values, rest, order = parse(args=args)
            if not (ctx.resilient_parsing or values.get("help")):
                self._check(values, order)
                self._check_pairs(rest)
            return values, rest, order

        parser.parse_args = checked  # type: ignore[method-assign]
        return parser

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """As the parent, with short kinds of values, so that a terminal of 80 columns has room for the texts."""
        shorten_kinds(self, ctx)
        super().format_help(ctx, formatter)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parses as the parent does, and then checks the numbers."""
        rest: list[str] = super().parse_args(ctx, args)
        for name, value in ctx.params.items():
            for one in value if isinstance(value, list | tuple) else (value,):
                if isinstance(one, int | float) and not isinstance(one, bool):
                    _check_number(name, one)
        return rest

    def _check_pairs(self, given: Sequence[str]) -> None:
        options = {opt for param in self.params for opt in param.opts}
        for one in given:
            if told := explain_pair(one, options):
                raise InputError(told)

    def _check(self, values: dict[str, Any], order: Sequence[Any]) -> None:
        words = {opt for param in self.params for opt in (*param.opts, *param.secondary_opts)} | {"--help"}
        options = {word for word in words if word.startswith("-")}  # an argument's word is its name
        for param in dict.fromkeys(order):
            is_option, name = _is_option(param), _spelling(param)
            harmless = param.multiple or (getattr(param, "is_flag", False) and not param.secondary_opts)
            if is_option and not harmless and order.count(param) > 1:
                raise InputError(f"{name} is given {order.count(param)} times, and takes one value: give it once")
            given = values[param.name]
            for value in given if isinstance(given, list | tuple) else (given,):
                if not isinstance(value, str):
                    continue
                if not value:
                    raise InputError(f"{name} is given, but empty: leave it out, or give it a value")
                if "\0" in value:
                    raise InputError(f"{name} {shown(value)} has a NUL character, which no name or path can have")
                if not is_option:
                    self._check_pairs([value])
                if is_option and value in options:
                    raise InputError(f"{name} needs a value, and {value} is an option: give the value first")


def _is_option(param: Any) -> bool:
    return bool(param.param_type_name == "option")


def _spelling(param: Any) -> str:
    """How a parameter is typed: '--max-drop', or 'IMAGES' of an argument."""
    return param.opts[0] if _is_option(param) else str(param.name).upper()


def shorten_kinds(command: Any, ctx: Any) -> None:
    """Makes the kinds of a command's options short; a switch has none."""
    for param in command.get_params(ctx):
        if hasattr(param, "display_type_rich") and param.param_type_name == "option" and param.metavar is None:
            param.metavar = "" if getattr(param, "is_flag", False) else _short_kind(param.display_type_rich(ctx=ctx))


def _short_kind(kind: str) -> str:
    """`<int>` for `<int range>`, `<str>` for `<list[str]>`, `<name>` for names, all of which the text beside it has."""
    if "|" in kind:
        return "<name>"
    return kind.replace("list[", "").replace("]", "").replace(" range", "").lower()


def _check_number(name: str, value: float) -> None:
    option = f"--{name.rstrip('_').replace('_', '-')}"
    if not math.isfinite(value):
        raise InputError(f"{option} {value} is no finite number: give one")
    if name in COSINES and abs(value) > MOST[name]:
        raise InputError(f"{option} {value:g} is out of range: it is a cosine, from -1 to 1")
    if MOST[name] == 1 and (percent := explain_percent(value)):
        raise InputError(f"{option} {value:g} is out of range: {percent}")
    if abs(value) > MOST[name]:
        raise InputError(f"{option} {value} is out of range: at most {MOST[name]:,}")
