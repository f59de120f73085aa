"""Records what big_vision's two towers answer, with random values in every array: writes towers.json and layouts.json.

    python tests/reference/big_vision/record.py CHECKOUT     # one of google-research/big_vision

Needs jax 0.10.2, flax 0.12.8, scipy, einops, absl-py and ml_collections, and no TensorFlow, whose file access is not
used. Recorded with commit 0127fb6. The arrays are made by `tests/reference/fill.py` from their names without stacks, so
a stacked model has the values of the one that is not.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[2]), *sys.argv[1:2]]

import flax.io  # noqa: E402, F401 - it looks for TensorFlow too
import jax  # noqa: E402

from tests.reference import fill  # noqa: E402

for name in ("tensorflow", "tensorflow.io", "tensorflow.io.gfile"):
    sys.modules[name] = ModuleType(name)
sys.modules["tensorflow.io"].gfile = sys.modules["tensorflow.io.gfile"]  # type: ignore[attr-defined]

from big_vision.models import vit  # noqa: E402
from big_vision.models.proj.image_text import two_towers  # noqa: E402
from ml_collections import ConfigDict  # noqa: E402

IMAGE = {"width": 32, "depth": 2, "mlp_dim": 48, "num_heads": 4, "patch_size": (8, 8), "pool_type": "map"}
TEXT = {"width": 24, "depth": 3, "mlp_dim": 40, "num_heads": 2, "vocab_size": 60}
LENGTH = 6

# What differs from IMAGE and TEXT, width of the text projection, side of the images.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], int | None, int]] = {
    "plain": ({}, {}, 32, 32),
    "stacked": ({"scan": True}, {"scan": True}, 32, 32),
    "without-projection": ({"scan": True}, {"scan": True, "width": 32}, None, 32),
    "unseen-edge": ({}, {}, 32, 38),
}
ENLARGED = 48
"""Side of the images for which the positions of 'plain' are resized."""
TWICE = "txt/Encoder_0/pos_embedding"

# Published files: variants of the towers, width of the text projection, vocabulary, side, tokens of a text; from
# SigLIP_demo.ipynb and SigLIP2_demo.ipynb.
PUBLISHED: dict[str, tuple[str, str, int | None, int, int, int]] = {
    "SigLIP-B_16.webli-224": ("B/16", "B", 768, 32_000, 224, 64),
    "SigLIP-L_16.webli-384": ("L/16", "L", 1024, 32_000, 384, 64),
    "SigLIP-So400m_14.webli-224": ("So400m/14", "So400m", 1152, 32_000, 224, 16),
    "SigLIP-So400m_14.webli-384": ("So400m/14", "So400m", 1152, 32_000, 384, 64),
    "SigLIP-B_16-i18n.webli-256": ("B/16", "B", 768, 250_000, 256, 64),
    "SigLIP-So400m_16-i18n.webli-256": ("So400m/16", "So400m", None, 250_000, 256, 64),
    "SigLIP2-B_32.webli-256": ("B/32", "B", 768, 256_000, 256, 64),
    "SigLIP2-B_16.webli-512": ("B/16", "B", 768, 256_000, 512, 64),
    "SigLIP2-L_16.webli-512": ("L/16", "L", 1024, 256_000, 512, 64),
    "SigLIP2-So400m_14.webli-384": ("So400m/14", "So400m", 1152, 256_000, 384, 64),
    "SigLIP2-So400m_16.webli-256": ("So400m/16", "So400m", 1152, 256_000, 256, 64),
    "SigLIP2-g_16.webli-384": ("g-opt/16", "So400m", 1536, 256_000, 384, 64),
}


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """'img/embedding/kernel' and so on, as `np.savez` of big_vision's checkpoints has them."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= flat(value, f"{prefix}{key}/") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def values(name: str, shape: tuple[int, ...]) -> np.ndarray:
    if "/encoderblock/" not in name:
        return fill.weight(name, shape)
    blocks = [re.sub("/encoderblock/", f"/encoderblock_{index}/", name) for index in range(shape[0])]
    return np.stack([fill.weight(block, shape[1:]) for block in blocks])


def tokens() -> np.ndarray:
    return np.array([[7, 3, 59, 1, 1, 1], [1] * LENGTH, [20, 21, 22, 23, 24, 1]], np.int32)


def answers(
    arrays: dict[str, Any], image: dict[str, Any], text: dict[str, Any], projection: int | None, pictures: Any
) -> Any:
    """What the model of a file with these arrays gives, loaded as big_vision's demo does."""
    sizes = {"image": ConfigDict(IMAGE | image), "text": ConfigDict(TEXT | text), "bias_init": -10.0}
    with tempfile.TemporaryDirectory() as folder:
        np.savez(f"{folder}/towers.npz", **arrays)
        params = two_towers.load(None, f"{folder}/towers.npz", ConfigDict(sizes))
    model = two_towers.Model(**sizes, out_dim=(None, projection))
    zimg, ztxt, out = model.apply({"params": params}, pictures, tokens())
    rounded = {"image": zimg, "text": ztxt, "t": out["t"], "b": out["b"]}
    return {name: np.asarray(array, np.float64).round(8).tolist() for name, array in rounded.items()}


def published(image: str, text: str, projection: int | None, vocabulary: int, side: int, length: int) -> dict[str, Any]:
    """Names and shapes of the arrays of a published file, with its blocks in stacks."""
    sizes = {"variant": text, "vocab_size": vocabulary, "scan": True}
    model = two_towers.Model(
        image={"variant": image, "pool_type": "map", "scan": True},
        text=sizes,
        out_dim=(None, projection),
        bias_init=0.0,
    )
    pictures, ids = jax.ShapeDtypeStruct((1, side, side, 3), "f4"), jax.ShapeDtypeStruct((1, length), "i4")
    params = jax.eval_shape(model.init, jax.random.PRNGKey(0), pictures, ids)["params"]
    return {name: list(array.shape) for name, array in flat(params).items()}


def main() -> None:
    layouts = {tag: published(*row) for tag, row in PUBLISHED.items()}
    lines = ",\n".join(f"{json.dumps(tag)}: {json.dumps(layout)}" for tag, layout in layouts.items())
    (HERE / "layouts.json").write_text(f"{{\n{lines}\n}}\n")
    cases = {}
    for case, (image, text, projection, side) in CASES.items():
        model = two_towers.Model(image=IMAGE | image, text=TEXT | text, out_dim=(None, projection), bias_init=-10.0)
        pictures = fill.image(case, 2, side)
        shapes = flat(jax.eval_shape(model.init, jax.random.PRNGKey(0), pictures, tokens())["params"])
        arrays = {name: values(name, array.shape) for name, array in shapes.items()}
        layout = {name: list(array.shape) for name, array in arrays.items()}
        cases[case] = {"side": side, "layout": layout, **answers(arrays, image, text, projection, pictures)}
        if case == "plain":
            cases |= further(arrays, pictures)
    (HERE / "towers.json").write_text(json.dumps({"tokens": tokens().tolist(), "cases": cases}) + "\n")


def further(arrays: dict[str, np.ndarray], pictures: np.ndarray) -> dict[str, Any]:
    """Answers of 'plain' at another size, and with its text positions in two places."""
    wanted = np.zeros((1, (ENLARGED // 8) ** 2, 32), np.float32)
    larger = arrays | {"img/pos_embedding": vit.resample_posemb(arrays["img/pos_embedding"], wanted)}
    twice = arrays | {TWICE: fill.weight(TWICE, arrays["txt/pos_embedding"].shape)}
    return {
        "enlarged": {"side": ENLARGED, **answers(larger, {}, {}, 32, fill.image("enlarged", 2, ENLARGED))},
        "positions-twice": {"side": 32, **answers(twice, {}, {}, 32, pictures)},
    }


if __name__ == "__main__":
    main()
