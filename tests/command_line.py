"""The command line, called in this process."""

from __future__ import annotations

import signal

import pytest

from vitsmith.cli.main import main


def call(capsys, *arguments: object) -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of `vitsmith ARGUMENTS`."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
    finally:
        signal.signal(signal.SIGTERM, before)
    out, err = capsys.readouterr()
    return ended.value.code, out, err
