"""Do weights of other libraries give their answers here? Each family is built there, with random values in every array.

    python benchmarks/parity.py [--only dinov2 | --only timm] [--out benchmarks/results/parity_CPU_DATE.md]

A row builds a small model from a configuration of its library, fills every array with random values, larger than
initial ones, saves it as the library saves it, loads the folder with `vitsmith.load`, and compares what both answer for
the same tensors: all tokens, pooled feature, and logits where there is a head; of two towers the features of images and
of texts, and the logits of all pairs. The largest difference is relative to the largest answer. It must be at most 1e-5
at the size of the file and 1e-4 at another.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import torch
from parity_rows import ROWS, TIMM, TINY, Row, Size
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import vitsmith as vs
from vitsmith.models.config import LiTConfig

Answers = dict[str, Tensor]


class Library(Protocol):
    """Builds the models of rows, saves them, and answers with them."""

    package: str

    def build(self, row: Row) -> torch.nn.Module:
        """The model in eval mode, with the values it begins with."""

    def save(self, model: Any, row: Row, folder: Path) -> None: ...

    def answers(self, model: Any, images: Tensor, tokens: Tensor | None, arguments: dict[str, Any]) -> Answers:
        """Some of COLUMNS. `tokens` are texts for a model of two towers."""


@dataclass(frozen=True)
class Result:
    row: Row
    size: Size
    differences: dict[str, float]

    @property
    def limit(self) -> float:
        return 1e-5 if self.size == self.row.sizes[0] else 1e-4

    @property
    def equal(self) -> bool:
        return all(difference <= self.limit for difference in self.differences.values())


def compared(row: Row, folder: Path) -> Iterator[Result]:
    """One model at each of its sizes."""
    library = LIBRARIES[row.distribution]
    torch.manual_seed(0)
    model = randomized(library.build(row)).eval()
    library.save(model, row, folder)
    for size in row.sizes:
        bundle = vs.load(folder, image_size=size, headless=row.headless)
        images = torch.randn((2, 3, *size), generator=torch.Generator().manual_seed(1))
        tokens = _texts(bundle.config.text) if isinstance(bundle.config, LiTConfig) else None
        with torch.no_grad():
            theirs = library.answers(model, images, tokens, {} if size == row.sizes[0] else row.forward)
            ours = _our_answers(bundle.model, images, tokens)
        yield Result(row, size, {what: _difference(ours[what], theirs[what]) for what in theirs})


def _texts(tower: Any) -> Tensor:
    """Four texts of other lengths, with the end token where it is pooled; what follows is any token but the largest."""
    tokens = torch.randint(3, tower.vocabulary - 1, (4, tower.length), generator=torch.Generator().manual_seed(2))
    if tower.pooling == "end":
        end = tower.vocabulary - 1 if tower.end_token is None else tower.end_token
        for row, length in zip(tokens, (2, 5, tower.length // 2, tower.length), strict=True):
            row[length - 1] = end
    return tokens


def randomized(model: torch.nn.Module) -> torch.nn.Module:
    """Random values in every array: scales about 1, biases and tokens about 0.2, matrices that keep variance."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim >= 2 and "embedding" not in name.rsplit(".", 1)[-1] and "token" not in name:
                parameter.copy_(1.5 * noise * parameter[0].numel() ** -0.5)
            else:
                scale = "norm" in name and name.endswith("weight")
                parameter.copy_(0.3 * noise + scale)
    return model


class Transformers:
    """Hugging Face's transformers."""

    package = "transformers"

    def build(self, row: Row) -> torch.nn.Module:
        import transformers

        config = getattr(transformers, row.config)(**row.fields)
        return getattr(transformers, row.model)(config)

    def save(self, model: Any, row: Row, folder: Path) -> None:
        model.save_pretrained(folder)
        if row.preprocessor:
            (folder / "preprocessor_config.json").write_text(json.dumps(row.preprocessor))

    def answers(self, model: Any, images: Tensor, tokens: Tensor | None, arguments: dict[str, Any]) -> Answers:
        kind = type(model).__name__
        if tokens is not None:
            found = model(pixel_values=images, input_ids=tokens, **arguments)
            pooled = model.get_image_features(images, **arguments).pooler_output
            texts = model.get_text_features(tokens).pooler_output
            return {"pooled": pooled, "texts": texts, "logits": found.logits_per_image}
        if kind.endswith("WithProjection"):
            return {"pooled": model(images, **arguments).image_embeds}
        if "vision_model" in dict(model.named_children()):
            return {"logits": model(images, **arguments).logits}
        base = model if kind.endswith("Model") else model.base_model
        if type(base).__name__.startswith("ViTMAE"):  # noise that rises keeps the order of the patches
            patch = base.config.patch_size
            count = (images.shape[2] // patch) * (images.shape[3] // patch)
            arguments = {**arguments, "noise": torch.arange(count).float().expand(len(images), -1)}
        found = base(images, **arguments)
        answers = {} if kind in WITHOUT_NORM else {"tokens": found.last_hidden_state}
        if base is not model and not type(base).__name__.startswith("ViTMAE"):
            answers["logits"] = model(images, **arguments).logits
        elif getattr(found, "pooler_output", None) is not None:
            answers["pooled"] = found.pooler_output
        return answers


class Timm:
    """timm, whose folder has `model_args`, as timm writes them for changed architectures."""

    package = "timm"

    def build(self, row: Row) -> torch.nn.Module:
        from timm_reads_our_npz import stand_in_for_torchvision

        if "timm" not in sys.modules:
            with suppress(ModuleNotFoundError):  # it looks for torchvision when it is imported
                import transformers  # noqa: F401
            stand_in_for_torchvision()
        import timm

        model: torch.nn.Module = timm.create_model(row.model, **row.fields)
        return model

    def save(self, model: Any, row: Row, folder: Path) -> None:
        from timm.models import save_for_hf

        save_for_hf(model, folder, safe_serialization=True)

    def answers(self, model: Any, images: Tensor, tokens: Tensor | None, arguments: dict[str, Any]) -> Answers:
        size = tuple(images.shape[-2:])
        if size != model.patch_embed.img_size:
            model = copy.deepcopy(model)
            model.set_input_size(img_size=size)
        last = "logits" if model.num_classes else "pooled"
        return {"tokens": model.forward_features(images), last: model(images)}


WITHOUT_NORM = ("CLIPVisionModel", "MetaClip2VisionModel")
"""Models whose tokens are those before the last LayerNorm."""

LIBRARIES: dict[str, Library] = {"HF": Transformers(), "timm": Timm()}


def _our_answers(model: Any, images: Tensor, tokens: Tensor | None) -> Answers:
    if tokens is not None:
        return {"pooled": model.image(images), "texts": model.text(tokens), "logits": model(images, tokens)}
    answers = model(images)
    return {"tokens": model.features(images).tokens, "logits": answers, "pooled": answers}


def _difference(ours: Tensor, theirs: Tensor) -> float:
    if ours.shape != theirs.shape:
        return float("inf")
    return float((ours - theirs).abs().max() / theirs.abs().max())


COLUMNS = ("tokens", "pooled", "texts", "logits")
USUAL = {*TINY, *TIMM, "intermediate_size", "image_size", "patch_size", "num_labels", "img_size", "num_classes"}
"""Fields that the table leaves out."""


def told(fields: dict[str, Any]) -> str:
    rest = {key: value for key, value in fields.items() if key not in USUAL}
    parts = (f"{key} ({told(value)})" if isinstance(value, dict) else f"{key} {value}" for key, value in rest.items())
    return ", ".join(part for part in parts if not part.endswith("()"))


def table(results: list[Result]) -> str:
    columns = " | ".join(COLUMNS)
    lines = [
        f"| family | from | model | fields | size | {columns} | |",
        f"|---|---|---|---|---|{'---|' * len(COLUMNS)}---|",
    ]
    for one in results:
        row, fields = one.row, told(one.row.fields)
        shown = (f"{one.differences[what]:.1e}" if what in one.differences else "" for what in COLUMNS)
        place = "x".join(map(str, one.size)) + (" (the file's)" if one.size == row.sizes[0] else "")
        verdict = "equal" if one.equal else "DIFFERS"
        cells = (row.family, row.distribution, row.model, fields, place, *shown, verdict)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="part of a family's, a model's or a distribution's name")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    wanted = [row for row in ROWS if options.only.lower() in f"{row.family} {row.distribution} {row.model}".lower()]
    asked = f" --only {options.only}" if options.only else ""
    results: list[Result] = []
    for row in wanted:
        with tempfile.TemporaryDirectory() as folder:
            results += compared(row, Path(folder))
    good = sum(one.equal for one in results)
    packages = {LIBRARIES[row.distribution].package for row in wanted}
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", *sorted(packages)))
    text = (
        f"# Parity with other libraries\n\n`python benchmarks/parity.py{asked}`, {versions}, {platform.machine()}. "
        f"{good} of {len(results)} comparisons are equal: largest difference over largest answer at most 1e-5 "
        "at the file's size, 1e-4 at another. Every array is random.\n\n"
        f"{table(results)}\n"
    )
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    raise SystemExit(good != len(results))


if __name__ == "__main__":
    main()
