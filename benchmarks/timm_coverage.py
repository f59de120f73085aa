"""How many of timm's published vision transformers does vitsmith read, with timm's answers?

    pip install timm
    python benchmarks/timm_coverage.py [--only PATTERN] [--out benchmarks/results/FILE.md]

For every published tag of timm's modules for plain vision transformers and Mixers the architecture is built by timm
without its weights, two blocks deep, at the size of the tag. Every array gets random values: initial ones hide errors.
It is saved as timm saves for the hub; `model_args`, which most published files do not have, is taken out of
`config.json`. vitsmith loads the folder, and both run on the same two images. A tag is

- ok: the largest difference of the outputs is below 1e-4 of the largest output, and the preprocessing is timm's
- wrong: an output or a preprocessing that differs
- refused: vitsmith says what it does not support
- error: an exception that is no answer, or a process that ended
- aside: another architecture, listed below with the reason; not counted

torchvision is stood in for when it is not installed; timm imports it, but nothing here runs it.
"""

from __future__ import annotations

import argparse
import datetime
import fnmatch
import json
import platform
import re
import resource
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from timm_reads_our_npz import difference, stand_in_for_torchvision
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import vitsmith as vs
from vitsmith.errors import InputError
from vitsmith.machine import describe_machine
from vitsmith.specs import ImageSpec

MODULES = ("vision_transformer", "deit", "eva", "vision_transformer_hybrid", "mlp_mixer")
ASIDE = {
    "resmlp_*": "ResMLP: affine layers, one matrix across tokens",
    "gmlp_*": "gMLP: spatial gating",
    "gmixer_*": "gated Mixer",
    "vit_base_mci_*": "MobileCLIP: a convolutional stem",
}
"""Architectures that are no plain ViTs or Mixers: patterns of their names, and why."""

SHALLOW = {
    "mixer_*": {},  # cannot be told, and are small
    "*_sapiens2*": {"depth": 2, "num_kv_heads": (1, 1)},
    "*": {"depth": 2},
}
"""Arguments that make an architecture two blocks deep; the first pattern that fits."""

TOLERANCE = 1e-4
MEMORY = 20 * 2**30
"""Bytes of address space for the process that builds and runs the models."""


@dataclass(frozen=True)
class Answer:
    """What came of one tag."""

    tag: str
    kind: str
    told: str
    """The difference of an 'ok', a message of the others."""


def published_tags() -> Iterator[str]:
    """ARCHITECTURE.TAG of every published file, by module."""
    import timm

    for module in MODULES:
        architectures = set(timm.list_models(module=module))
        yield from sorted(tag for tag in timm.list_pretrained() if tag.partition(".")[0] in architectures)


def first_that_fits(name: str, table: dict[str, Any]) -> Any:
    return next((told for pattern, told in table.items() if fnmatch.fnmatch(name, pattern)), None)


class NoInitialValues(TorchDispatchMode):
    """Initialisers draw no numbers: for large models that takes longer than all the rest."""

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten.normal_.default, torch.ops.aten.uniform_.default, torch.ops.aten.erfinv_.default):
            return args[0]
        return func(*args, **(kwargs or {}))


def randomise(model: nn.Module) -> None:
    """Random values for every array, of a scale that keeps the outputs of each layer near 1.

    They are pieces of one long series, whose length is a prime number, so that no two rows are equal.
    """
    series = torch.randn(1_000_003, generator=torch.Generator().manual_seed(0))
    start = 0
    with torch.no_grad():
        for name, array in model.named_parameters():
            series = series.roll(-start)
            start = array.numel() % series.numel()
            values = series.repeat(-(-array.numel() // series.numel()))[: array.numel()].view(array.shape)
            if name.endswith("weight") and array.ndim > 1:
                array.copy_(values / array[0].numel() ** 0.5)
            elif name.endswith(("weight", "gamma", "gamma_1", "gamma_2")):  # norms and LayerScale
                array.copy_(1 + 0.3 * values)
            else:
                array.copy_(0.3 * values)


def save(model: nn.Module, folder: Path) -> None:
    """As timm saves for the hub; without arguments of the constructor, which most published files do not have."""
    from timm.models import save_for_hf

    save_for_hf(model, folder, safe_serialization=True)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config.pop("model_args", None)
    path.write_text(json.dumps(config))


def other_preprocessing(spec: ImageSpec, told: dict[str, Any]) -> list[str]:
    """How the preprocessing differs from timm's evaluation transform, field by field."""
    squash = told["crop_mode"] == "squash"
    pairs = {
        "size": (spec.size, tuple(told["input_size"][1:])),
        "mean": (spec.mean, tuple(told["mean"])),
        "std": (spec.std, tuple(told["std"])),
        "interpolation": (spec.interpolation, told["interpolation"]),
        "resize": (spec.resize, "squash" if squash else "shorter"),
        "crop": (spec.crop, told["crop_pct"]),
        "antialias": (spec.antialias, True),
    }
    return [f"{name} is {ours}, timm's {theirs}" for name, (ours, theirs) in pairs.items() if ours != theirs]


def check(tag: str) -> Answer:
    """Builds, saves, loads and compares one tag."""
    import timm
    from timm.data import resolve_model_data_config

    with NoInitialValues():
        model = timm.create_model(tag, pretrained=False, **first_that_fits(tag, SHALLOW)).eval()
    randomise(model)
    told = resolve_model_data_config(model)
    with tempfile.TemporaryDirectory() as folder:
        save(model, Path(folder))
        try:
            bundle = vs.load(folder, headless=not model.num_classes)
        except InputError as error:
            message = re.sub(rf"^{re.escape(folder)}(/model\.safetensors)?: ", "", str(error))
            return Answer(tag, "refused", message)
        mistakes = other_preprocessing(bundle.preprocessing, told)
        generator = torch.Generator().manual_seed(1)
        images = torch.randn(2, *told["input_size"], generator=generator)
        with torch.inference_mode():
            ours, theirs = outputs(bundle.model, images), model(images)
    if ours.shape != theirs.shape:
        return Answer(tag, "wrong", f"output {tuple(ours.shape)}, timm's {tuple(theirs.shape)}")
    found = difference(ours, theirs)
    mistakes += [] if found < TOLERANCE else [f"outputs differ by {found:.1e}"]
    return Answer(tag, "wrong", "; ".join(mistakes)) if mistakes else Answer(tag, "ok", f"{found:.1e}")


def outputs(model: nn.Module, images: Tensor) -> Tensor:
    answer: Tensor = model.eval()(images)
    return answer


def prepare() -> None:
    """Sets up the process that runs the models."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")
    stand_in_for_torchvision()


def same_question(tag: str) -> str:
    """Equal for tags of one architecture that differ only in what they were trained on: they are built once."""
    import timm

    config = timm.get_pretrained_cfg(tag).to_dict()
    decisive = ("input_size", "num_classes", "mean", "std", "crop_pct", "crop_mode", "interpolation")
    return json.dumps([tag.partition(".")[0], *(config.get(field) for field in decisive)])


def apart(run: Callable[[str], Answer], tags: list[str]) -> Iterator[Answer]:
    """The answers of `run`, in a process of its own, which is replaced when it ends."""
    pool, known = None, dict[str, Answer]()
    for tag in tags:
        question = same_question(tag)
        if question in known:
            yield replace(known[question], tag=tag)
            continue
        pool = pool or ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=prepare)
        try:
            answer = pool.submit(run, tag).result()
        except BrokenProcessPool:
            pool, answer = None, Answer(tag, "error", "the process ended")
        except Exception as error:
            answer = Answer(tag, "error", f"{type(error).__name__}: {error}".splitlines()[0])
        known[question] = answer
        yield answer


def without_names(message: str) -> str:
    """The reason in a message, without what is particular to one tag."""
    return re.sub(r"'[^']*'", "...", re.sub(r"\d+(\.\d+)?(e-?\d+)?", "N", message))[:160]


def report(answers: list[Answer]) -> list[str]:
    """The tables: totals, reasons, tags set aside, and every tag."""
    counted = [answer for answer in answers if answer.kind != "aside"]
    kinds = Counter(answer.kind for answer in counted)
    share = 100 * kinds["ok"] / max(len(counted), 1)
    lines = [
        f"**{kinds['ok']} of {len(counted)} tags, {share:.1f} %**, are read with timm's answers; "
        f"{kinds['refused']} are refused, {kinds['wrong']} wrong, {kinds['error']} errors; "
        f"{len(answers) - len(counted)} are set aside.",
        "",
        "| not read, by reason | tags | for example |",
        "|---|---:|---|",
    ]
    reasons: dict[tuple[str, str], list[str]] = {}
    for answer in counted:
        if answer.kind != "ok":
            reasons.setdefault((answer.kind, without_names(answer.told)), []).append(answer.tag)
    for (kind, reason), tags in sorted(reasons.items(), key=lambda one: -len(one[1])):
        lines.append(f"| {kind}: {reason} | {len(tags)} | {tags[0]} |")
    aside = Counter(answer.told for answer in answers if answer.kind == "aside")
    lines += ["", "| set aside | tags |", "|---|---:|", *(f"| {why} | {count} |" for why, count in aside.items())]
    lines += ["", "| tag | answer | difference, or message |", "|---|---|---|"]
    return [*lines, *(f"| {one.tag} | {one.kind} | {one.told} |" for one in answers)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="*", metavar="PATTERN", help="tags to check, for example 'vit_*dinov2*'")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    stand_in_for_torchvision()
    import timm

    tags = [tag for tag in published_tags() if fnmatch.fnmatch(tag, options.only)]
    aside = {tag: why for tag in tags if (why := first_that_fits(tag, ASIDE))}
    answers = [Answer(tag, "aside", why) for tag, why in aside.items()]
    for answer in apart(check, [tag for tag in tags if tag not in aside]):
        print(f"{answer.tag:60} {answer.kind:8} {answer.told}", flush=True)
        answers.append(answer)
    head = [
        "# timm's published tags",
        "",
        f"`python benchmarks/timm_coverage.py --only '{options.only}'`, {datetime.date.today()}, {describe_machine()}, "
        f"Python {platform.python_version()}, torch {torch.__version__}, timm {timm.__version__}, float32.",
        "",
    ]
    explained = ["", *("    " + line for line in __doc__.splitlines()[5:])]
    text = "\n".join([*head, *report(sorted(answers, key=lambda one: tags.index(one.tag))), *explained]) + "\n"
    print("\n".join(report(answers)[:1]))
    if options.out:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
