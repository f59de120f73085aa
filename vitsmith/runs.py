"""Where a verb leaves what it made: `runs/<verb>/<name>`, numbered when it exists, with the command that made it."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import IO, Any, Self

from vitsmith.errors import OutputError
from vitsmith.files import new_folder, write_text


def model_name(model: str) -> str:
    """What to call a run after a model: 'pets' for runs/train/pets/model, 'B_16' for B_16.npz."""
    path = Path(model)
    return path.resolve().parent.name if path.name in ("model", ".", "") else path.stem


class Run:
    """One run's folder and its log of metrics.

    The folder is `out` when given, else `runs/<verb>/<name>`; an existing one that holds anything is left alone and
    a number is added. Raises OutputError when the place cannot be written.
    """

    def __init__(self, verb: str, name: str, out: Path | None = None) -> None:
        self.folder = new_folder(out if out is not None else Path("runs") / verb / name)
        write_text(self.folder / "command.txt", shlex.join(["vitsmith", *sys.argv[1:]]) + "\n")
        self._metrics: IO[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._metrics is not None:
            self._metrics.close()

    def log(self, **values: Any) -> None:
        """Appends one line to metrics.jsonl, at once on disk for whoever watches."""
        try:
            if self._metrics is None:
                self._metrics = (self.folder / "metrics.jsonl").open("a", encoding="utf-8")
            self._metrics.write(json.dumps(values) + "\n")
            self._metrics.flush()
        except OSError as error:
            raise OutputError(
                f"cannot write {self.folder / 'metrics.jsonl'}: {error.strerror}; free some space"
            ) from error

    def write_json(self, name: str, value: Any) -> Path:
        """Writes a JSON document into the folder."""
        path = self.folder / name
        write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
        return path
