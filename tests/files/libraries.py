"""What each library that writes for us writes: more than a small disk has room for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

LARGE = np.random.default_rng(0).random((100, 1000)).astype(np.float32)


def _safetensors(place: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"a": LARGE}, place / "x.safetensors")


def _numpy(place: Path) -> None:
    np.save(place / "x.npy", LARGE)


def _pillow(place: Path) -> None:
    from PIL import Image

    Image.fromarray((LARGE * 255).astype(np.uint8)).save(place / "x.png")
    Image.fromarray((np.resize(LARGE, (1000, 1000)) * 255).astype(np.uint8)).save(place / "x.bmp")


def _zip(place: Path) -> None:
    np.savez(place / "x.npz", a=LARGE)


def _onnx(place: Path) -> None:
    import onnx

    graph = onnx.helper.make_graph([], "g", [], [], [onnx.numpy_helper.from_array(LARGE, "w")])
    onnx.save(onnx.helper.make_model(graph), place / "x.onnx")


def _openvino(place: Path) -> None:
    import openvino

    ops = openvino.opset13
    given = ops.parameter([1, 100], np.float32)
    model = openvino.Model([ops.matmul(given, ops.constant(LARGE), False, False)], [given], "x")
    openvino.save_model(model, place / "x.xml", compress_to_fp16=False)


def _faiss(place: Path) -> None:
    import faiss

    index = faiss.IndexFlatIP(1000)
    index.add(LARGE)
    faiss.write_index(index, str(place / "x.faiss"))


def _parquet(place: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"a": LARGE.ravel()}), place / "x.parquet")


def _matplotlib(place: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 10))
    figure.subplots().imshow(LARGE, interpolation="nearest", aspect="auto")
    figure.savefig(place / "x.png")


WRITERS: dict[str, Callable[[Path], None]] = {
    "safetensors": _safetensors,
    "numpy": _numpy,
    "PIL": _pillow,
    "zipfile": _zip,
    "onnx": _onnx,
    "openvino": _openvino,
    "faiss": _faiss,
    "pyarrow": _parquet,
    "matplotlib": _matplotlib,
}
