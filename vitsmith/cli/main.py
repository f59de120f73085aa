"""`vitsmith VERB`: which verbs there are, and how every one of them ends.

Exit codes: 0 done; 1 an unexpected fault; 2 wrong use, bad input or an interruption; 3 a gate said no.
"""

from __future__ import annotations

import os
import signal
import sys
from io import TextIOWrapper
from typing import Annotated, Any

import typer

from vitsmith.cli.benchmark import benchmark
from vitsmith.cli.compress import compress
from vitsmith.cli.distill import distill
from vitsmith.cli.embed import embed
from vitsmith.cli.evaluate import evaluate
from vitsmith.cli.export import export
from vitsmith.cli.inspect import inspect
from vitsmith.cli.lit import lit
from vitsmith.cli.merge import merge
from vitsmith.cli.models import models
from vitsmith.cli.predict import predict
from vitsmith.cli.prune import prune
from vitsmith.cli.quantize import quantize
from vitsmith.cli.quickstart import quickstart
from vitsmith.cli.retrieve import retrieve
from vitsmith.cli.train import train
from vitsmith.cli.zeroshot import zeroshot
from vitsmith.errors import VitsmithError

INTERRUPTED = 130  # what typer returns after Ctrl-C

app = typer.Typer(
    name="vitsmith",
    help="Vision transformers from architecture to deployment.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
VERBS = (
    quickstart, models, inspect, train, distill, lit, evaluate, predict, zeroshot, embed, retrieve,
    export, quantize, merge, prune, compress, benchmark,
)  # fmt: skip
for verb in VERBS:
    app.command()(verb)

# Typer carries a Click of its own in newer versions; this is the base of its usage errors in all of them.
ClickError: Any = typer.BadParameter.__mro__[2]


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line and exits. Every known failure is one line on standard error."""
    for stream in (sys.stdout, sys.stderr):  # redirected on Windows, they would not take every character
        if isinstance(stream, TextIOWrapper) and stream.encoding.lower() != "utf-8" and not stream.isatty():
            stream.reconfigure(encoding="utf-8", errors=stream.errors)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        code = app(args=arguments, standalone_mode=False, prog_name="vitsmith")
        if code == INTERRUPTED:
            fail("interrupted; nothing half-written was left, run the command again to start over", 2)
    except VitsmithError as error:
        fail(str(error), error.exit_code)
    except ClickError as error:
        fail(f"{error.format_message()} (see  {_help_for(error)})", 2)
    except BrokenPipeError:  # `vitsmith predict ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code if isinstance(code, int) else 0)


def fail(message: str, code: int) -> None:
    """One line on standard error, and out."""
    print(f"vitsmith: {' '.join(message.split())}", file=sys.stderr)
    sys.stderr.flush()
    sys.exit(code)


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.", is_eager=True)] = False,
) -> None:
    """Vision transformers from architecture to deployment."""
    if version:
        from vitsmith import __version__

        typer.echo(f"vitsmith {__version__}")
        raise typer.Exit


def _help_for(error: Any) -> str:
    context = getattr(error, "ctx", None)
    return f"{context.command_path} --help" if context else "vitsmith --help"
