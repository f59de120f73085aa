"""Sources of Hugging Face: 'hf:OWNER/NAME' for models and data sets, and 'hf-hub:', which timm writes, as the same."""

from __future__ import annotations

from pathlib import Path

from vitsmith.escapes import shell_quoted

PREFIXES = ("hf:", "hf-hub:")


def hub_name(source: str) -> str | None:
    """The name behind 'hf:' or 'hf-hub:'; None for a source of any other kind."""
    return next((source.removeprefix(prefix) for prefix in PREFIXES if source.startswith(prefix)), None)


def how_to_fetch(name: str) -> str:
    """The command that fetches the model 'OWNER/NAME', or 'OWNER/NAME@REVISION', into a folder of its name."""
    repository, _, revision = name.partition("@")
    folder = Path(repository).name or "model"
    chosen = f" --revision {shell_quoted(revision)}" if revision else ""
    return f"hf download {shell_quoted(repository)}{chosen} --local-dir {shell_quoted(folder)}"
