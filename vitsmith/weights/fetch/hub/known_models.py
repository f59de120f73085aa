"""Well-known models of the hub, as rows of data (known_models.csv), to suggest a name for one that is not there.

Those of timm are the tags of timm 1.0.31 in the modules that `other_kinds.TIMM` names; those of open_clip are from
pretrained.py of open_clip 3.3, as far as they are read.
"""

from __future__ import annotations

import csv
import functools
from importlib import resources

from vitsmith.errors import suggestion
from vitsmith.fields import Frozen
from vitsmith.weights.fetch.published import checkpoints


class KnownModel(Frozen):
    """A model of the hub."""

    name: str
    """'OWNER/NAME'."""
    original: str = ""
    """Name of its authors' file, where that file cannot be read: OpenAI's are TorchScript."""
    architecture: str = ""
    """Its name in `vitsmith models`, where no published checkpoint of ours has that architecture."""


@functools.cache
def known_models() -> tuple[KnownModel, ...]:
    """All rows, in the order of the table."""
    text = resources.files(__package__).joinpath("known_models.csv").read_text(encoding="utf-8")
    return tuple(KnownModel.model_validate(row) for row in csv.DictReader(text.splitlines(), restval=""))


def close_names(name: str) -> str:
    """'did you mean hf:... or hf:...?', among the other models and the published checkpoints; '' if none is similar."""
    others = [row for row in known_models() if row.name.lower() != name.lower()]
    known = [f"hf:{row.name}" for row in others] + [row.tag for row in checkpoints()]
    aliases = {row.name: f"hf:{row.name}" for row in others}
    told = suggestion(name, known, aliases=aliases)
    if not told.startswith("did you mean"):  # of another owner
        aliases = {row.name.partition("/")[2]: f"hf:{row.name}" for row in others}
        told = suggestion(name.partition("/")[2], known, aliases=aliases)
    return told if told.startswith("did you mean") else ""


def copy_of(file: str) -> str:
    """'hf:OWNER/NAME', the readable copy of an authors' file of this name; '' if none is known."""
    return next((f"hf:{row.name}" for row in known_models() if row.original and row.original == file), "")


def weights_of(architecture: str) -> tuple[str, ...]:
    """'hf:OWNER/NAME' of the models with this architecture, the best known first; () where none is known."""
    return tuple(f"hf:{row.name}" for row in known_models() if row.architecture == architecture)
