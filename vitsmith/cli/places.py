"""Where verbs write: `--out` and `--force`, the same for all of them; the rule itself is in `vitsmith.runs`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

OutOption = Annotated[
    Path | None, typer.Option(help="Where to write, a place that holds nothing yet; default: a new folder under runs/.")
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Replace what the same verb wrote to --out before, and nothing else.")
]
