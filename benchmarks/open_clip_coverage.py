"""Which of open_clip's models does vitsmith read, with open_clip's answers?

    pip install open_clip_torch
    python benchmarks/open_clip_coverage.py [--only PATTERN] [--out benchmarks/results/FILE.md]

Every configuration in open_clip's package is built by open_clip, two blocks deep and with at most 600 tokens, otherwise
at its size; `--whole` builds it as it is. Every array gets random values: initial ones hide errors. It is saved as
open_clip saves for the hub, vitsmith loads the folder, and both run on two images and four texts. A model is

- ok: image and text features differ by at most 1e-5 of the largest, logits by 1e-5 of their scale (cosines of random
  features are small), and image features at another image size by 1e-4 of the largest
- wrong: an answer that differs
- refused: vitsmith says what it does not support
- error: an exception that is no answer

torchvision is stood in for when it is not installed; open_clip imports it, but nothing here runs it.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import fnmatch
import json
import platform
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from safetensors.torch import save_file
from timm_coverage import NoInitialValues, first_that_fits, randomise
from timm_reads_our_npz import difference, stand_in_for_torchvision
from torch import Tensor, nn

import vitsmith as vs
from vitsmith.errors import InputError
from vitsmith.machine import describe_machine

TOKENS, DEPTH = 600, 2
SHALLOW = {"vit_*": {"depth": DEPTH}, "eva*": {"depth": DEPTH}, "*": {}}
"""Arguments that make a model of timm two blocks deep; the first pattern that fits."""
TOLERANCE, RESIZED = 1e-5, 1e-4


@dataclass(frozen=True)
class Answer:
    """What came of one model."""

    model: str
    kind: str
    told: tuple[str, ...]
    """The differences of an 'ok', a message of the others."""


def small(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a model of few blocks and tokens."""
    config = copy.deepcopy(config)
    for tower in ("vision_cfg", "text_cfg"):
        if isinstance(config[tower].get("layers", 12), int):
            config[tower]["layers"] = DEPTH
    config["text_cfg"]["vocab_size"] = min(config["text_cfg"].get("vocab_size", 49408), TOKENS)
    return config


@contextmanager
def shallow_towers(whole: bool) -> Iterator[None]:
    """open_clip creates timm's models two blocks deep."""
    import timm

    create = timm.create_model

    def created(name: str, **arguments: Any) -> nn.Module:
        return create(name, **arguments, **first_that_fits(name, SHALLOW))

    with mock.patch("timm.create_model", create if whole else created):
        yield


def built(config: dict[str, Any], whole: bool) -> nn.Module:
    from open_clip import model as models

    fields = {**config}
    kind = models.CustomTextCLIP if fields.pop("custom_text", False) else models.CLIP
    with shallow_towers(whole), NoInitialValues():
        made: nn.Module = kind(**fields).eval()
    randomise(made)
    with torch.no_grad():
        made.logit_scale.fill_(2.3)
    return made


def save(state: dict[str, Tensor], config: dict[str, Any], folder: Path) -> None:
    described = {"model_cfg": config, "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}}
    (folder / "open_clip_config.json").write_text(json.dumps(described))
    save_file({name: array.contiguous() for name, array in state.items()}, folder / "open_clip_model.safetensors")


def texts_for(config: dict[str, Any]) -> Tensor:
    """Token ids (4, length): texts of several lengths that end with the end token, padded with 0."""
    text = config["text_cfg"]
    length, pieces = text.get("context_length", 77), text.get("vocab_size", 49408)
    end = text.get("eos_id", 2) if text.get("pool_type") == "eos" else pieces - 1
    tokens = torch.randint(3, pieces - 1, (4, length), generator=torch.Generator().manual_seed(2))
    for row, used in zip(tokens, (3, 7, length // 2, length), strict=True):
        row[used - 1], row[used:] = end, 0
    return tokens


@torch.no_grad()
def compared(model: nn.Module, folder: Path, config: dict[str, Any]) -> tuple[float, ...]:
    """The largest differences of image features, text features, logits, and image features at another size."""
    ours = vs.load(folder).model
    tokens, size = texts_for(config), model.visual.image_size
    images = torch.randn((2, 3, *size), generator=torch.Generator().manual_seed(1))
    logits = model.get_logits(images, tokens)[0]
    told = [
        difference(ours.encode_image(images), model.encode_image(images, normalize=True)),
        difference(ours.encode_text(tokens), model.encode_text(tokens, normalize=True)),
        float((ours(images, tokens) - logits).abs().max() / model.logit_scale.exp()),
    ]
    del ours
    return (*told, *at_another_size(model, folder, config))


def at_another_size(model: nn.Module, folder: Path, config: dict[str, Any]) -> Iterator[float]:
    """The difference where positions were resized, as open_clip does when it is asked for another size."""
    from open_clip.model import resize_pos_embed

    visual, state = model.visual, {f"visual.{name}": array for name, array in model.visual.state_dict().items()}
    patch = visual.trunk.patch_embed.patch_size if hasattr(visual, "trunk") else visual.patch_size
    rows, columns = ((side // step) // 2 + 1 for side, step in zip(visual.image_size, patch, strict=True))
    size = (rows * patch[0], columns * patch[1])
    if hasattr(visual, "trunk"):
        visual.set_input_size(size)
    else:
        visual.grid_size = (rows, columns)
        resize_pos_embed(state, model)
        visual.positional_embedding = nn.Parameter(state["visual.positional_embedding"])
    images = torch.randn((2, 3, *size), generator=torch.Generator().manual_seed(1))
    yield difference(
        vs.load(folder, image_size=size).model.encode_image(images), model.encode_image(images, normalize=True)
    )


def answer(name: str, config: dict[str, Any], whole: bool) -> Answer:
    config = config if whole else small(config)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        save({"logit_scale": torch.ones(()), "visual.none": torch.ones(())}, config, folder)
        try:
            vs.load(folder)
        except InputError as error:
            if " is a " in str(error):  # told by the configuration alone: not every such model can be built offline
                return Answer(name, "refused", (_short(error, place),))
        try:
            model = built(config, whole)
            save(model.state_dict(), config, folder)
            differences = compared(model, folder, config)
        except InputError as error:
            return Answer(name, "refused", (_short(error, place),))
        except Exception as error:
            return Answer(name, "error", (f"{type(error).__name__}: {error}",))
    equal = max(differences[:3]) <= TOLERANCE and max(differences) <= RESIZED
    return Answer(name, "ok" if equal else "wrong", tuple(f"{one:.1e}" for one in differences))


def _short(error: InputError, place: str) -> str:
    return str(error).replace(f"{place}/open_clip_model.safetensors: ", "").replace(f"{place} is ", "")


def table(answers: list[Answer]) -> str:
    lines = ["| model | | image | text | logits | another size |", "|---|---|---:|---:|---:|---:|"]
    read = [one for one in answers if one.kind in ("ok", "wrong")]
    lines += [f"| {one.model} | {one.kind} | {' | '.join(one.told)} |" for one in read]
    lines += ["", "| model | | why |", "|---|---|---|"]
    lines += [f"| {one.model} | {one.kind} | {one.told[0]} |" for one in answers if one not in read]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="*", help="pattern of open_clip's names")
    parser.add_argument("--whole", action="store_true", help="with all blocks and tokens")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    import transformers  # noqa: F401 - it looks for torchvision itself

    stand_in_for_torchvision()
    import open_clip
    import timm

    answers = []
    for name in fnmatch.filter(open_clip.list_models(), options.only):
        answers.append(answer(name, open_clip.get_model_config(name), options.whole))
        print(*answers[-1].told, answers[-1].kind, name, flush=True)
    counts = Counter(one.kind for one in answers)
    command = " --whole" * options.whole + f" --only {options.only!r}" * (options.only != "*")
    versions = f"open_clip {open_clip.__version__}, timm {timm.__version__}, torch {torch.__version__}"
    text = (
        f"# open_clip's models in vitsmith\n\n`python benchmarks/open_clip_coverage.py{command}`, "
        f"{datetime.date.today()}, {describe_machine()}, Python {platform.python_version()}, {versions}.\n\n"
        f"{', '.join(f'{kind} {count}' for kind, count in counts.items())} of {len(answers)}.\n\n{table(answers)}\n"
    )
    text += "\n" + "\n".join(f"    {line}".rstrip() for line in __doc__.splitlines()[5:-2]) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    raise SystemExit(bool(counts["wrong"] + counts["error"]))


if __name__ == "__main__":
    main()
