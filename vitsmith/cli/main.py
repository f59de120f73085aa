"""`vitsmith VERB`: which verbs there are, and how every one of them ends.

Exit codes: 0 done; 1 an unexpected fault; 2 wrong use, bad input or an interruption; 3 a gate said no.
"""

from __future__ import annotations

import atexit
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from vitsmith.cli.arguments.completion import join_words
from vitsmith.cli.arguments.examples import epilog
from vitsmith.cli.arguments.unknown_words import explain
from vitsmith.cli.terminal.interrupts import Interrupts
from vitsmith.cli.terminal.output import as_remark, print_line
from vitsmith.cli.terminal.streams import ReaderGone, finish, prepare
from vitsmith.cli.verbs import Verbs
from vitsmith.errors import Interrupted, OutputError, VitsmithError, missing_package
from vitsmith.escapes import shortened
from vitsmith.files.failures import why_unusable
from vitsmith.runs.written import forget_written, written

LONGEST = 2_000
"""Columns of a message: a very long value of an option is not repeated in full."""
INTERRUPTED = 130  # what typer returns after Ctrl-C

app = typer.Typer(
    name="vitsmith",
    cls=Verbs,
    help="Vision transformers from architecture to deployment.",
    pretty_exceptions_enable=False,
    epilog=epilog(),
    context_settings={"help_option_names": ["-h", "--help"]},
)

# Typer carries a Click of its own in newer versions; this is the base of its usage errors in all of them.
ClickError: Any = typer.BadParameter.__mro__[2]


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line and exits. Every known failure is one line on standard error."""
    prepare()
    forget_written()
    join_words(os.environ)
    interrupts = Interrupts()
    interrupts.watch()
    try:
        code = _carry_out(arguments, interrupts)
    finally:
        if arguments is None:  # the process is about to end, and the signals stay ours until it has
            interrupts.leave()
        else:
            interrupts.let_go()
    if arguments is None and interrupts.asked:
        # Threads need not be waited for, and one more signal is not to meet an interpreter in pieces.
        atexit._run_exitfuncs()
        os._exit(code)
    sys.exit(code)


def _carry_out(arguments: list[str] | None, interrupts: Interrupts) -> int:
    """Runs the command; returns the exit code. All results are written before any message about how it ended."""
    try:
        code = app(args=arguments, standalone_mode=False, prog_name="vitsmith")
        finish()
        if code == INTERRUPTED:
            return _interrupted()
        if interrupts.heard():
            return fail("interrupted after the result was written: it is complete", 2)
        return code if isinstance(code, int) else 0
    except ReaderGone:
        return 0
    except Interrupted as error:
        return fail(str(error), error.exit_code)
    except VitsmithError as error:
        return _interrupted() if interrupts.raised else fail(str(error), error.exit_code)
    except ClickError as error:
        return fail(f"{explain(error, sys.argv[1:] if arguments is None else arguments)} (see  {_help_for(error)})", 2)
    except (Exception, KeyboardInterrupt) as error:
        if interrupts.heard():
            return _interrupted()  # whichever error a library turned it into
        if isinstance(error, OSError) and (told := why_unusable(error)):
            return fail(told, 2)
        if (missing := missing_package(error)) is not None:
            return fail(str(missing), missing.exit_code)
        raise


def _interrupted() -> int:
    if places := written():
        told = ", ".join(map(str, places))
        return fail(
            f"interrupted; {told} is written and complete, but what comes after may be missing, as a page or what is "
            "printed: to make it again, write to another place or add --force",
            2,
        )
    return fail("interrupted; nothing half-written was left, run the command again to start over", 2)


def fail(message: str, code: int) -> int:
    """One line on standard error, after all results; the exit code."""
    with suppress(ReaderGone, OutputError):
        finish()
    line = shortened(as_remark(" ".join(message.split())), LONGEST)
    print(f"vitsmith: {line}", file=sys.stderr, flush=True)
    return code


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.", is_eager=True)] = False,
) -> None:
    """Vision transformers from architecture to deployment."""
    if version:
        from vitsmith.version import __version__

        print_line(f"vitsmith {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        _print_next_steps()


def _print_next_steps() -> None:
    from vitsmith.cli.terminal.next_steps import next_steps

    about, steps = next_steps(Path())
    print_line(f"{about} Usual next commands:")
    print_line()
    width = max(len(command) for command, _ in steps)
    for command, what in steps:
        print_line(f"  {command:<{width}}  {what}")
    print_line()
    print_line("All verbs:  vitsmith --help")


def _help_for(error: Any) -> str:
    context = getattr(error, "ctx", None)
    return f"{context.command_path} --help" if context else "vitsmith --help"
