"""How fast are our programs beside timm, transformers, and plain conversions to onnxruntime, OpenVINO and NNCF?

    pip install 'vitsmith[onnx,openvino,digits]' scikit-image transformers && pip install --no-deps timm
    python benchmarks/peers.py --model B --keep runs/peers-B --only-write
    vitsmith quantize runs/peers-B/bundle --data runs/peers-B/photos --fastest --out runs/peers-B/int8
    python benchmarks/peers.py --model B --keep runs/peers-B --bundle 'int8=runs/peers-B/int8/model' [--out FILE.md]

One set of random weights, timm's, is in all of them: ours are read from timm's file, transformers' are renamed here,
and the conversions are of timm's model. Images are photographs, preprocessed once; only inference is timed. In each
round every row makes calls for --seconds, in turns, in one process, after calls that are not timed; a row's ratio is
taken within a round, and medians (lowest to highest) over rounds are shown.

- timm, transformers: eager PyTorch in inference mode; "compiled": torch.compile with its defaults; bf16: weights cast
- onnxruntime, plain: torch.onnx.export of timm's model with a dynamic batch, default session but for the threads
- openvino, plain: openvino.convert_model of timm's model at the very batch, default settings but for the threads;
  "fp32" says INFERENCE_PRECISION_HINT f32, "default" leaves it out, which is bf16 where the processor has it
- openvino, NNCF: nncf.quantize of that with ModelType.TRANSFORMER and otherwise defaults, calibrated on --calibration
  photographs, compiled with default settings
- vitsmith: a bundle in the engine that runs it, opened as `engine="auto"` opens it: for latency with one image, else
  for throughput; torch, ONNX and OpenVINO float bundles are made here, others are given by --bundle

Difference: largest of all outputs on 14 photographs, over the largest output of timm in fp32.

No weights can be downloaded here, so that answers mean something the head is fitted: logistic regression on what the
random model makes of 1,200 crops of 20 photos (benchmarks/finetune_photos.py cuts them; the class is the photo), and
the other 980 classes are shut off. KEEP/photos has these and 800 held-out crops, for `vitsmith quantize --data`.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import datetime
import importlib
import json
import platform
import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from finetune_photos import GROUP_A, GROUP_B, write_crops
from timm_reads_our_npz import stand_in_for_torchvision
from torch import nn

import vitsmith as vs
from vitsmith.benchmark.timing import Pace, Timing, time_in_turns
from vitsmith.data.datasets import open_dataset
from vitsmith.data.photos import sample_images
from vitsmith.data.preprocess import load_image, preprocess
from vitsmith.engines.base import open_checked
from vitsmith.engines.machine import describe_machine
from vitsmith.engines.programs import is_small
from vitsmith.engines.registry import Settings, precisions_of, runners
from vitsmith.export.program import Gate
from vitsmith.export.targets import export
from vitsmith.gate import relative_difference
from vitsmith.models.presets import VIT_SIZES
from vitsmith.specs import ImageSpec, ProgramSpec
from vitsmith.weights.bundle import Bundle

Array = np.ndarray[Any, Any]
Run = Callable[[Array], Array]
TIMM = {"Ti": "vit_tiny_patch16_224", "S": "vit_small_patch16_224", "B": "vit_base_patch16_224"}
SPEC = ImageSpec.pillow(224)
PHOTO_NAMES = (*GROUP_A, *GROUP_B)
BASE = "timm, eager fp32"
PHOTOS = 14


@dataclass
class Row:
    """One program, for batches of one size: float32 (batch, 3, 224, 224) -> logits."""

    name: str
    run: Run
    ours: bool = False
    timing: Timing | None = None
    difference: float = float("nan")
    failed: str = ""


def timm_model(size: str, place: Path) -> nn.Module:
    """timm's model with the weights in `place`."""
    import timm
    from safetensors.torch import load_file

    model: nn.Module = timm.create_model(TIMM[size], pretrained=False).eval()
    model.load_state_dict(load_file(place / "timm" / "model.safetensors"))
    return model


def fresh_model(size: str, photos: Path) -> nn.Module:
    """Random weights, with noise on every array so that none is zero or one, and a head fitted to the photos."""
    import timm

    torch.manual_seed(0)
    model: nn.Module = timm.create_model(TIMM[size], pretrained=False).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.02)
    fit_head(model, photos)
    return model


def fit_head(model: nn.Module, photos: Path) -> None:
    """Logistic regression on the class token; classes without photos are shut off."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    samples = open_dataset(str(photos)).train
    features = []
    with torch.inference_mode():
        for at in range(0, len(samples), 16):
            images = [load_image(source, SPEC) for source in samples.sources[at : at + 16]]
            features.append(
                model.forward_head(model.forward_features(torch.from_numpy(np.stack(images))), True).numpy()
            )
    scaler = StandardScaler().fit(np.concatenate(features))
    fitted = LogisticRegression(C=0.1, max_iter=2000).fit(scaler.transform(np.concatenate(features)), samples.labels)
    weights = fitted.coef_ / scaler.scale_
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.fill_(-30)
        model.head.weight[: len(weights)] = torch.from_numpy(weights).float()
        model.head.bias[: len(weights)] = torch.from_numpy(fitted.intercept_ - weights @ scaler.mean_).float()


def write_bundles(size: str, place: Path) -> dict[str, Bundle]:
    """Weights as a file of timm, and what vitsmith makes of it; what is there already is taken."""
    from safetensors.torch import save_file

    file, photos = place / "timm", place / "photos"
    if not (place / "bundle").exists():
        file.mkdir(parents=True, exist_ok=True)
        if not photos.exists():
            write_crops(photos, PHOTO_NAMES, 60, 40, size=256)
        save_file(fresh_model(size, photos).state_dict(), file / "model.safetensors")
        names = [*sorted(PHOTO_NAMES), *(f"none {number}" for number in range(len(PHOTO_NAMES), 1000))]
        about = {"input_size": [3, 224, 224], "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic"}
        about |= {"crop_pct": 0.9, "label_names": names}
        config = {"architecture": TIMM[size], "num_classes": 1000, "pretrained_cfg": about}
        (file / "config.json").write_text(json.dumps(config))
        vs.save(vs.load(file).with_golden(sample_images(4)), place / "bundle")
    torch_bundle = vs.load(place / "bundle")
    bundles = {"": torch_bundle}
    for target in ("onnx", "openvino"):
        if not (place / target).exists():
            export(torch_bundle, place / target, target, ProgramSpec(), Gate())
        bundles[target] = vs.load(place / target)
    return bundles


def transformers_model(size: str, theirs: nn.Module) -> nn.Module:
    """The same weights in transformers' model."""
    from transformers import ViTConfig, ViTForImageClassification

    width, depth, heads, mlp_width = VIT_SIZES[size]
    sizes = {"hidden_size": width, "num_hidden_layers": depth, "num_attention_heads": heads}
    config = ViTConfig(**sizes, intermediate_size=mlp_width, layer_norm_eps=1e-6, num_labels=1000)
    model: nn.Module = ViTForImageClassification(config).eval()
    state = dict(_renamed(theirs.state_dict()))
    model.load_state_dict(state)
    return model


def _renamed(state: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """timm's names to those of transformers 5."""
    fixed = {
        "cls_token": "vit.embeddings.cls_token",
        "pos_embed": "vit.embeddings.position_embeddings",
        "patch_embed.proj": "vit.embeddings.patch_embeddings.projection",
        "norm": "vit.layernorm",
        "head": "classifier",
    }
    inside = {"norm1": "layernorm_before", "norm2": "layernorm_after", "attn.proj": "attention.o_proj"}
    for name, array in state.items():
        stem, _, kind = name.rpartition(".")
        if name in fixed:
            yield fixed[name], array
        elif stem in fixed:
            yield f"{fixed[stem]}.{kind}", array
        else:
            _, number, part = stem.split(".", 2)
            where = f"vit.layers.{number}"
            if part == "attn.qkv":
                for letter, third in zip("qkv", array.chunk(3), strict=True):
                    yield f"{where}.attention.{letter}_proj.{kind}", third
            else:
                yield f"{where}.{inside.get(part, part)}.{kind}", array


def torch_run(model: nn.Module, dtype: torch.dtype = torch.float32) -> Run:
    def run(images: Array) -> Array:
        with torch.inference_mode():
            outputs = model(torch.from_numpy(images).to(dtype))
            return getattr(outputs, "logits", outputs).float().numpy()

    return run


def onnx_run(model: nn.Module, threads: int, place: Path) -> Run:
    import onnxruntime

    path = place / "plain.onnx"
    if not path.exists():
        batch = torch.export.Dim("batch")
        with open("/dev/null", "w") as quiet, contextlib.redirect_stdout(quiet):  # noqa: PTH123
            torch.onnx.export(model, (torch.rand(2, 3, 224, 224),), path, dynamic_shapes=({0: batch},), verbose=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images})[0]


def openvino_run(converted: Any, threads: int, hint: str = "") -> Run:
    import openvino

    settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads}
    if hint:
        settings["INFERENCE_PRECISION_HINT"] = hint
    request = openvino.Core().compile_model(converted, "CPU", settings).create_infer_request()
    return lambda images: np.array(request.infer([images])[0])


def converted(model: nn.Module, batch: int) -> Any:
    import openvino

    return openvino.convert_model(model, example_input=torch.rand(batch, 3, 224, 224), input=[batch, 3, 224, 224])


def quantised(model: nn.Module, batch: int, images: Array) -> Any:
    import nncf

    few = [images[at : at + batch] for at in range(0, len(images) - batch + 1, batch)]
    return nncf.quantize(converted(model, batch), nncf.Dataset(few), model_type=nncf.ModelType.TRANSFORMER)


def our_runs(name: str, bundle: Bundle, batch: int, threads: int) -> Iterator[tuple[str, Callable[[], Run]]]:
    """(name, what opens it) for each engine and precision worth showing."""
    for engine in runners(bundle.program):
        if engine == "torch-compiled" or (not name and engine != bundle.program):
            continue
        for precision in precisions_of(bundle, engine):
            title = f"vitsmith, {name + ': ' if name else ''}{engine} {precision}"
            goal: Any = "latency" if batch == 1 else "throughput"
            settings = Settings(threads=threads, precision=precision, goal=goal, measure=not is_small(bundle))
            yield title, lambda e=engine, s=settings: open_checked(bundle, e, s).run


def openers(options: argparse.Namespace, place: Path, batch: int, photos: Array) -> Iterator[tuple[str, bool, Any]]:
    """(name, whether it is ours, what opens it) of every row."""
    size, threads = options.model, options.threads
    theirs = timm_model(size, place)
    low = copy.deepcopy(theirs).bfloat16()
    yield BASE, False, lambda: torch_run(theirs)
    if not options.no_compile:
        yield "timm, compiled fp32", False, lambda: torch_run(torch.compile(copy.deepcopy(theirs)))
    yield "timm, eager bf16", False, lambda: torch_run(low, torch.bfloat16)
    if not options.no_compile:
        yield "timm, compiled bf16", False, lambda: torch_run(torch.compile(copy.deepcopy(low)), torch.bfloat16)
    yield "transformers, eager fp32", False, lambda: torch_run(transformers_model(size, theirs))
    yield "onnxruntime, plain fp32", False, lambda: onnx_run(theirs, threads, place)
    yield "openvino, plain fp32", False, lambda: openvino_run(converted(theirs, batch), threads, "f32")
    yield "openvino, plain default", False, lambda: openvino_run(converted(theirs, batch), threads)
    many = np.resize(photos, (max(options.calibration, batch), *photos.shape[1:]))
    yield "openvino, NNCF int8", False, lambda: openvino_run(quantised(theirs, batch, many), threads)
    given = {name: vs.load(path) for name, _, path in (one.partition("=") for one in options.bundle)}
    for name, bundle in (write_bundles(size, place) | given).items():
        for title, opener in our_runs(name if name in given else "", bundle, batch, threads):
            yield title, True, opener


def answer(options: argparse.Namespace, place: Path, batch: int) -> list[Row]:
    """All rows for one batch size, timed in turns."""
    spec = write_bundles(options.model, place)[""].images
    photos = np.stack([preprocess(photo, spec) for photo in sample_images(max(PHOTOS, options.calibration))])
    rows, expected = [], None
    for name, ours, opener in openers(options, place, batch, photos):
        print(f"opening {name}, batches of {batch}", file=sys.stderr, flush=True)
        row = Row(name, lambda _: np.zeros(0), ours)
        rows.append(row)
        try:
            row.run = opener()
            outputs = _run_all(row.run, np.resize(photos, (-(-PHOTOS // batch) * batch, *photos.shape[1:])), batch)
            expected = outputs if expected is None else expected
            row.difference = relative_difference(expected, outputs)
        except Exception as error:  # a peer that does not run is a row all the same
            row.failed = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:160]}"
    images = np.ascontiguousarray(np.resize(photos, (batch, *photos.shape[1:])))
    runs = {index: (lambda run=row.run: run(images)) for index, row in enumerate(rows) if not row.failed}
    pace = Pace(seconds=options.seconds * options.rounds, turns=options.rounds)
    timings, failed = time_in_turns(runs, batch, pace)
    for index, row in enumerate(rows):
        row.timing = timings.get(index)
        row.failed = row.failed or (f"{failed[index]!r}"[:200] if index in failed else "")
    return rows


def _run_all(run: Run, images: Array, batch: int) -> Array:
    return np.concatenate([run(images[at : at + batch]) for at in range(0, len(images), batch)])


def rates(timing: Timing) -> list[float]:
    """Images a second of each round."""
    return [timing.batch / statistics.median(turn) for turn in timing.turns]


def spread(values: list[float], form: str) -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def ratios(row: Timing, other: Timing) -> list[float]:
    return [mine / its for mine, its in zip(rates(row), rates(other), strict=True)]


def table(rows: list[Row], batch: int) -> list[str]:
    base = next(row.timing for row in rows if row.name == BASE)
    timed = [row for row in rows if row.timing is not None]
    peer = max((row for row in timed if not row.ours), key=lambda row: statistics.median(rates(row.timing)))
    best = f"over the fastest peer ({peer.name})"
    lines = ["", f"### Batches of {batch}", "", f"| | images/s | over {BASE} | {best} | difference |"]
    lines.append("|---|---:|---:|---:|---:|")
    for row in rows:
        if row.timing is None:
            lines.append(f"| {row.name} | failed | | | {row.failed} |")
            continue
        over = [spread(ratios(row.timing, other), ".2f") for other in (base, peer.timing)]
        name = f"**{row.name}**" if row.ours else row.name
        lines.append(f"| {name} | {spread(rates(row.timing), '.1f')} | {' | '.join(over)} | {row.difference:.1e} |")
    return lines


def report(options: argparse.Namespace, tables: list[str]) -> str:
    packages = ("timm", "transformers", "onnxruntime", "openvino", "nncf", "vitsmith")
    return "\n".join(
        [
            f"# ViT-{options.model}/16 beside its peers",
            "",
            f"`python benchmarks/peers.py {' '.join(sys.argv[1:])}`, {datetime.date.today()}, {describe_machine()}, "
            f"{options.threads} threads, Python {platform.python_version()}, torch {torch.__version__}, "
            f"{', '.join(f'{name} {version(name)}' for name in packages)}. Median (lowest to highest) of "
            f"{options.rounds} rounds in turns.",
            *tables,
            "",
            *["    " + line if line else "" for line in (__doc__ or "").splitlines()[7:]],
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", choices=TIMM, default="B")
    parser.add_argument("--batch", type=int, action="append", help="may be repeated; default 1 and 16")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each row in a round, one call at least")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--bundle", action="append", default=[], metavar="NAME=PATH", help="may be repeated")
    parser.add_argument("--keep", type=Path, help="folder for weights and bundles, taken again when it is there")
    parser.add_argument("--only-write", action="store_true", help="write the bundles into --keep and stop")
    parser.add_argument("--calibration", type=int, default=32, help="photographs for NNCF")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if any("=" not in one for one in options.bundle):
        parser.error("--bundle takes NAME=PATH")
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    # before torchvision is stood in for: transformers does without it only when it is missing
    importlib.import_module("transformers.models.vit.modeling_vit")
    stand_in_for_torchvision()
    with tempfile.TemporaryDirectory() as folder:
        place = options.keep or Path(folder)
        write_bundles(options.model, place)
        if options.only_write:
            return
        tables: list[str] = []
        for batch in sorted(set(options.batch or (1, 16))):
            tables += table(answer(options, place, batch), batch)
            print("\n".join(tables), file=sys.stderr, flush=True)
            torch.compiler.reset()
    text = report(options, tables)
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
