"""Do vitsmith and the original JAX code compute the same with the LiT models, and do both read each other's .npz?

    pip install jax flax ml_collections einops chex pandas scipy tqdm aqtp
    PYTHONPATH=FLAXFORMER python benchmarks/lit_parity.py ORIGINAL [--out benchmarks/results/FILE.md]

ORIGINAL and FLAXFORMER are checkouts of google-research/vision_transformer and google/flaxformer.

For each model a file with the released names and shapes is written, every array filled by `tests/reference/fill.py`.
The original reads it, finds with its own `inspect_params` that no array is missing or left over, and embeds two images
and four texts; `vitsmith.load` does the same. vitsmith saves its model as .npz, and the original runs that file too.

- image, text, temperature: largest absolute difference between the two, in float32. Embeddings have unit length;
  beside each difference stands the largest absolute number of the embedding.
- erf: the same for image and text with erf GELU in vitsmith, to show what one small wrong step would look like.
- saved file: whether its names, shapes and bytes are those of the first file.
- read back: largest absolute difference between the original's outputs on the two files.

Texts are made-up token ids, 16 long: all 16, cut to 7, to 1, and 12 of the highest ids. BERT's are padded with 0, the
others' with the end token. No tokenizer takes part: TensorFlow is a stand-in that nobody calls, files are opened by
Python's `open`. flaxformer imports aqt, but nothing is quantized here.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import torch
from torch import nn

import vitsmith as vs
from vitsmith.machine import describe_machine

ROOT = Path(__file__).resolve().parents[1]
MODELS = ("LiT-B16B", "LiT-L16L", "LiT-L16S", "LiT-L16Ti")
CLS, EOS, LENGTH = 101, 1, 16
STAND_INS = {name: Mock() for name in ("tensorflow", "tensorflow_text", "tensorflow.compiler.xla.service")}
STAND_INS["tensorflow.io"] = Mock(gfile=Mock(GFile=open))


def import_original() -> None:
    """With stand-ins for TensorFlow, but not while flax and torch are imported: they look for the real one."""
    import flax.training.checkpoints  # noqa: F401

    sys.modules.update(STAND_INS)
    import vit_jax.models  # noqa: F401

    for name in STAND_INS:
        del sys.modules[name]


def tokens_for(kind: str, vocabulary: int) -> np.ndarray:
    """int32 (4, LENGTH)."""
    tokens = (np.arange(4 * LENGTH) * 7919 + 13).reshape(4, LENGTH) % (vocabulary - 2) + 2
    tokens[3] = vocabulary - 1 - np.arange(LENGTH)
    for row, kept in zip(tokens, (LENGTH, 7, 1, 12), strict=True):
        row[kept:] = 0 if kind == "bert" else EOS
    tokens[:, 0 if kind == "bert" else -1] = CLS if kind == "bert" else EOS
    return tokens.astype(np.int32)


def run_original(name: str, path: Path, images: np.ndarray, tokens: np.ndarray) -> tuple[np.ndarray, ...]:
    """Image embedding, text embedding and temperature."""
    import jax
    from vit_jax import checkpoint, models

    model = models.get_model(name)
    params = model.load_variables(str(path))["params"]
    expected = jax.eval_shape(lambda: model.init(jax.random.PRNGKey(0), images=images, tokens=tokens))["params"]
    params = checkpoint.inspect_params(params=params, expected=expected)
    zimg, ztxt, out = jax.jit(model.apply)({"params": params}, images=images, tokens=tokens)
    assert not any(stand_in.mock_calls for stand_in in STAND_INS.values())
    return tuple(np.asarray(array) for array in (zimg, ztxt, out["t"]))


def run_ours(model: Any, images: np.ndarray, tokens: np.ndarray) -> tuple[np.ndarray, ...]:
    with torch.inference_mode():
        image = model.encode_image(torch.from_numpy(images).permute(0, 3, 1, 2))
        return image.numpy(), model.encode_text(torch.from_numpy(tokens).long()).numpy(), model.temperature.numpy()


def same_bytes(first: Path, second: Path) -> bool:
    with np.load(first) as a, np.load(second) as b:
        return sorted(a.files) == sorted(b.files) and all(
            (x := a[name]).shape == (y := b[name]).shape and x.dtype == y.dtype and x.tobytes() == y.tobytes()
            for name in a.files
        )


def differences(first: tuple[np.ndarray, ...], second: tuple[np.ndarray, ...]) -> list[float]:
    assert all(a.shape == b.shape and a.dtype == b.dtype == np.float32 for a, b in zip(first, second, strict=True))
    return [float(np.abs(a - b).max()) for a, b in zip(first, second, strict=True)]


def compare(name: str, folder: Path) -> str:
    """A row of the table."""
    from tests.reference import fill
    from tests.tiny import layout_of, released_npz

    recorded = layout_of(name)
    images = fill.image(name, 2, recorded["image_size"])
    kind = recorded["config"]["pp"]["tokenizer_name"]
    tokens = tokens_for(kind, recorded["config"]["text"].get("vocab_size", 30522))
    released, saved = folder / f"{name}.npz", folder / "saved.npz"
    released_npz(released, recorded["layout"])
    theirs = run_original(name, released, images, tokens)
    bundle = vs.load(released, name=name)
    found = differences(run_ours(bundle.model, images, tokens), theirs)
    vs.save(bundle, saved, format="npz")
    for module in bundle.model.modules():
        if isinstance(module, nn.GELU):
            module.approximate = "none"
    erf = differences(run_ours(bundle.model, images, tokens), theirs)
    del bundle  # frees up to 2.5 GB
    same = "the same" if same_bytes(released, saved) else "DIFFERENT"
    again = max(differences(run_original(name, saved, images, tokens), theirs))
    image, text = (f"{found[i]:.1e} of {np.abs(theirs[i]).max():.2f}" for i in (0, 1))
    return f"| {name} | {image} | {text} | {found[2]:.1e} | {erf[0]:.1e}, {erf[1]:.1e} | {same} | {again:.1e} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("original", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    sys.path[:0] = [str(ROOT), str(options.original)]
    import_original()
    versions = ", ".join(f"{package} {version(package)}" for package in ("torch", "jax", "flax", "numpy"))
    lines = [
        "# The original's LiT models and ours",
        "",
        f"`python benchmarks/lit_parity.py ORIGINAL`, {datetime.date.today()}, {describe_machine()}, "
        f"Python {platform.python_version()}, {versions}.",
        "",
        "| model | image | text | temperature | erf: image, text | saved file | read back |",
        "|---|---:|---:|---:|---:|---|---:|",
    ]
    for name in MODELS:
        with tempfile.TemporaryDirectory() as folder:
            lines.append(compare(name, Path(folder)))
            print(lines[-1], file=sys.stderr)
    report = "\n".join([*lines, "", *["    " + line for line in __doc__.splitlines()[7:]]]) + "\n"
    print(report)
    if options.out:
        options.out.write_text(report)


if __name__ == "__main__":
    main()
