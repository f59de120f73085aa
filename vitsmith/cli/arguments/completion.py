"""Names that a shell completes besides verbs and options; where none fits, it offers files."""

from __future__ import annotations

import os
from collections.abc import Iterable, MutableMapping, Sequence
from typing import Any

from vitsmith.errors import InputError, shown

SHELLS = ("bash", "zsh", "fish", "powershell", "pwsh")
_AUGREG = "augreg:"
_COMPLETING, _WORDS, _AT = "_VITSMITH_COMPLETE", "COMP_WORDS", "COMP_CWORD"
_CUT = "_VITSMITH_COMPLETE_CUT"


def complete_for_shell(ctx: Any, args: Sequence[str]) -> None:
    """Carries out `--show-completion SHELL` and `--install-completion SHELL`, and exits; returns for anything else.

    Raises InputError for the name of another shell.
    """
    option, _, shell = args[0].partition("=")
    if option not in ("--show-completion", "--install-completion"):
        return
    shell = shell or "".join(args[1:2])
    if not shell or shell.startswith("-"):
        return  # that of the shell in which it is typed
    if shell not in SHELLS:
        raise InputError(f"{option} {shown(shell)}: give one of {', '.join(SHELLS)}, or none for the one you type in")
    from typer.completion import install_callback, show_callback

    (show_callback if option == "--show-completion" else install_callback)(ctx, None, shell)  # type: ignore[arg-type]


def join_words(environ: MutableMapping[str, str]) -> None:
    """Joins what bash takes apart at colons: of 'augreg : B_1' it completes and replaces 'B_1' alone.

    Changes `environ`, where bash asks for completions; leaves it otherwise.
    """
    environ.pop(_CUT, None)
    if environ.get(_COMPLETING) != "complete_bash" or not environ.get(_AT, "").isdecimal():
        return
    words = environ.get(_WORDS, "").split(" ")[: int(environ[_AT]) + 1]
    joined: list[str] = []
    for word in words:
        if joined and (word == ":" or joined[-1].endswith(":")):
            joined[-1] += word
        else:
            joined.append(word)
    if len(joined) < len(words):
        before, colon, joined[-1] = joined[-1].rpartition(":")
        environ[_WORDS], environ[_AT], environ[_CUT] = " ".join(joined), str(len(joined) - 1), before + colon


def engines(incomplete: str) -> list[str]:
    """Engines, and 'auto'."""
    from vitsmith.engines.registry import ENGINES

    return _beginning(incomplete, ("auto", *ENGINES))


def precisions(incomplete: str) -> list[str]:
    """Precisions that an engine may be asked for."""
    from vitsmith.engines.settings import PRECISIONS

    return _beginning(incomplete, PRECISIONS)


def models(incomplete: str) -> list[str]:
    """Published checkpoints, AugReg's also as 'augreg:B_16', and well-known models of the hub as 'hf:OWNER/NAME'.

    Nothing for an empty word, so that the shell offers files and folders.
    """
    cut = os.environ.get(_CUT, "")
    if not (cut or incomplete):
        return []
    from vitsmith.weights.fetch.hub.known_models import known_models
    from vitsmith.weights.fetch.published import checkpoints

    hub = [f"hf:{row.name}" for row in known_models()]
    tags = [row.tag for row in checkpoints()]
    augreg = [_AUGREG + _augreg_name(tag) for tag in tags if ".augreg-" in tag]
    return [name.removeprefix(cut) for name in _beginning(cut + incomplete, (*tags, *augreg, *hub))]


def _augreg_name(tag: str) -> str:
    """'B_16' for 'ViT-B_16.augreg-i21k', and 'B_16@384' for its fine-tuning at 384 pixels."""
    model, _, trained = tag.partition(".augreg-")
    size = trained.removeprefix("imagenet2012-")
    return model.replace("ViT-", "").replace("+", "_") + ("" if size == trained else f"@{size}")


def architectures(incomplete: str) -> list[str]:
    """Names of architectures, those of ViTs also without 'ViT-'."""
    from vitsmith.models.presets import presets

    names = list(presets())
    return _beginning(incomplete, names) or [
        short for name in names if (short := name.removeprefix("ViT-")) != name and short.startswith(incomplete)
    ]


def recipes(incomplete: str) -> list[str]:
    """Recipes that come with vitsmith, those of `lit` too."""
    from vitsmith.training.recipes.file import recipe_names

    return _beginning(incomplete, (*recipe_names(), *recipe_names("lit")))


def scenarios(incomplete: str) -> list[str]:
    """Scenarios of `recommend`; a shell offers files beside them."""
    from vitsmith.choosing.scenarios import scenarios as known

    return _beginning(incomplete, known())


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
