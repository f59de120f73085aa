"""What a source 'hf:OWNER/NAME@REVISION' or 'hf:OWNER/NAME/FILE@REVISION' names."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vitsmith.data.sets.hub_address import how_to_fetch, hub_name
from vitsmith.errors import InputError
from vitsmith.weights.containers.file_choice import READ_SUFFIXES

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*", re.ASCII)
_REVISION = re.compile(r"[\w./+-]+", re.ASCII)


@dataclass(frozen=True)
class HubAddress:
    """A model of the hub."""

    name: str
    """'OWNER/NAME'."""
    revision: str | None = None
    """Branch, tag or commit; None: the main branch."""
    file: str = ""
    """The file of weights in its top folder; '': the one that the library reads that made the folder."""

    def __str__(self) -> str:
        return f"hf:{self.name}" + (f"/{self.file}" if self.file else "") + self._at

    @property
    def _at(self) -> str:
        return f"@{self.revision}" if self.revision else ""

    @property
    def by_hand(self) -> str:
        """How to fetch it without vitsmith, for the end of a message."""
        what = f"{self.file} in that folder" if self.file else "that folder"
        return f"{how_to_fetch(self.name + self._at)}  , then give {what}"


def hub_address(source: str) -> HubAddress | None:
    """The model behind 'hf:' or 'hf-hub:'; None for a source of any other kind.

    Raises InputError for what follows the prefix and is no name, such as a folder.
    """
    given = hub_name(source)
    if given is None:
        return None
    if given.startswith((".", "/", "~")) and given.strip("/"):
        raise InputError(f"{source}: give a folder on this machine without a prefix: {given}")
    name, at, revision = given.strip("/").partition("@")
    if not name:
        raise InputError(f"{source} names no model: write hf:OWNER/NAME")
    name, file = _file_apart(name)
    if _NAME.fullmatch(name) is None or ".." in name or "--" in name:
        raise no_name(source)
    if at and (_REVISION.fullmatch(revision) is None or ".." in revision):
        raise InputError(f"{source}: write a branch, tag or commit behind '@', as hf:{name}@main")
    return HubAddress(name, revision or None, file)


def _file_apart(name: str) -> tuple[str, str]:
    """'OWNER/NAME' and the file of weights behind it, '' where there is none."""
    repository, _, file = name.rpartition("/")
    return (repository, file) if "/" in repository and file.endswith(READ_SUFFIXES) else (name, "")


def no_name(source: str) -> InputError:
    """The error for what no model of the hub can be called."""
    return InputError(
        f"{source} is no name of a model on the Hugging Face hub: write hf:OWNER/NAME, or "
        "hf:OWNER/NAME/FILE.safetensors for one of its files"
    )
