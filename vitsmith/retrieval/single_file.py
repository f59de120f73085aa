"""An index as one file that other programs read: .npz, .npy or .parquet. N vectors, E embedding width.

It is written part by part: memory does not grow with N.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np

from vitsmith.arrays import Array
from vitsmith.errors import InputError, MissingPackageError
from vitsmith.files.atomic import replacing, write_text
from vitsmith.json_text import json_or_none, to_json
from vitsmith.models.config import show_size
from vitsmith.retrieval.index import Index

_CHARACTERS = 4_194_304  # characters of ids written to .npz at once, 16 MiB; each id takes as much as the longest


def write_single_file(index: Index, path: Path) -> None:
    """Write all of `index` into `path`, whose suffix decides the format (`FORMATS`).

    `.npz`: `embeddings` (N, E) and `ids` (N,), text. `.npy`: the embeddings, and one id on each line of the `.txt` file
    of the same name. `.parquet`: the columns `id` and `embedding`. Patches have the shape (N, rows, columns, E); in a
    `.parquet` they are flat, and its metadata has the shape as `vitsmith.shape`: '16x16x768'.

    Each says which model made it: `model`, its name; `identity`, its identity; and `what` of an image it holds. They
    are arrays of no axis in `.npz`, fields of the `.json` file beside an `.npy`, and metadata of `.parquet`, as
    `vitsmith.model`. The columns of the index are columns of `.parquet`, and in `.npz` arrays `column.NAME` (N,):
    float64, where NaN is what is not known, or text, where '' is, also of numbers that float64 would round.

    Raises InputError for other suffixes and damaged parts, MissingPackageError without pyarrow.
    """
    check_format(path)
    index.check_hashes()
    FORMATS[path.suffix.lower()](index, path)


def check_format(path: Path) -> None:
    """Raise InputError for a suffix that is not in FORMATS, MissingPackageError for .parquet without pyarrow."""
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"{path} is not a supported kind of file: give a folder, or one of {', '.join(FORMATS)}")
    if path.suffix.lower() == ".parquet":
        _pyarrow()


def check_names(path: Path, names: Iterable[object]) -> None:
    """Raise InputError for a name that the file at `path` cannot hold; only text is looked at."""
    if path.suffix.lower() != ".npy":
        return
    broken = next((name for name in names if isinstance(name, str) and ("\n" in name or "\r" in name)), None)
    if broken is not None:
        raise InputError(f"{broken!r} has a line break, so ids cannot be lines: write .npz or .parquet instead")


def is_embeddings(path: Path) -> bool:
    """Whether a file was made by `write_single_file`; a .txt counts when its .npy is beside it."""
    if path.suffix.lower() == ".npz":
        try:
            with zipfile.ZipFile(path) as archive:
                return {"embeddings.npy", "ids.npy"} <= set(archive.namelist())
        except (OSError, zipfile.BadZipFile):
            return False
    if path.suffix.lower() == ".txt":
        return path.with_suffix(".npy").exists()
    if path.suffix.lower() == ".json":
        fields = json_or_none(path)
        return isinstance(fields, dict) and {"model", "identity", "what"} <= set(fields)
    with path.open("rb") as file:
        return file.read(6).startswith((b"PAR1", b"\x93NUMPY"))


def sidecar(path: Path) -> Path:
    """The file with the ids of a `.npy`."""
    return path.with_suffix(".txt")


def description_beside(path: Path) -> Path:
    """The file that says which model made a `.npy`."""
    return path.with_suffix(".json")


def beside(path: Path) -> tuple[Path, ...]:
    """The other files that are written with `path`."""
    return (sidecar(path), description_beside(path)) if path.suffix.lower() == ".npy" else ()


def _facts(index: Index) -> dict[str, str]:
    """What each format says of the model."""
    return {"model": index.space.model, "identity": index.space.identity, "what": index.space.what}


def _write_npz(index: Index, path: Path) -> None:
    longest = max((len(name) for part in _parts(index) for name in index.part_ids(part)), default=1) or 1
    kind = np.dtype(f"<U{longest}")
    with replacing(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        with archive.open("embeddings.npy", "w", force_zip64=True) as file:
            _write_embeddings(index, file)
        described = zipfile.ZipInfo("ids.npy")
        described.compress_type = zipfile.ZIP_DEFLATED  # NumPy takes four bytes for a character, most of them zero
        with archive.open(described, "w", force_zip64=True) as file:
            _write_header(file, (len(index),), kind)
            together = max(1, _CHARACTERS // longest)
            for part in _parts(index):
                names = index.part_ids(part)
                for at in range(0, len(names), together):
                    file.write(np.array(names[at : at + together], kind).tobytes())
        others = {name: np.array(value) for name, value in _facts(index).items()}
        for name in index.column_names:
            others[f"column.{name}"] = _column_array(index.column(name))
        for name, array in others.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def _write_npy(index: Index, path: Path) -> None:
    with (
        replacing(sidecar(path)) as partial,
        partial.open("w", encoding="utf-8", errors="surrogateescape", newline="\n") as file,
    ):
        for part in _parts(index):
            names = index.part_ids(part)
            check_names(path, names)
            file.writelines(f"{name}\n" for name in names)
    write_text(description_beside(path), to_json(_facts(index) | {"shape": [len(index), *index.space.shape]}) + "\n")
    with replacing(path) as partial, partial.open("wb") as file:
        _write_embeddings(index, file)


def _column_array(values: list[Any]) -> Array:
    """A column of numbers as float64 with NaN for None, or of text with ''."""
    if _is_numbers(values):
        return np.array([np.nan if value is None else value for value in values], np.float64)
    return np.array(["" if value is None else str(value) for value in values], np.str_)


def _is_numbers(values: list[Any]) -> bool:
    """Whether float64 holds all values as they are."""
    return all(value is None or isinstance(value, float) or _is_whole(value, 53) for value in values)


def _is_whole(value: Any, bits: int) -> bool:
    return isinstance(value, int) and abs(value) < 1 << bits


def _arrow_types(pa: Any, index: Index) -> dict[str, Any]:
    """Column -> its type: true or false, whole numbers, other numbers, or text, also where numbers would be rounded."""
    types = {}
    for name in index.column_names:
        values = [value for value in index.column(name) if value is not None]
        flags = sum(isinstance(value, bool) for value in values)
        if values and flags == len(values):
            types[name] = pa.bool_()
        elif values and not flags and all(_is_whole(value, 63) for value in values):
            types[name] = pa.int64()
        else:
            types[name] = pa.float64() if _is_numbers(values) and not flags else pa.string()
    return types


def _arrow_values(values: list[Any], kind: Any) -> list[Any]:
    """Values of a column: text where it has any."""
    return [value if value is None or str(kind) != "string" else _utf8(str(value)) for value in values]


def _utf8(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


def _write_parquet(index: Index, path: Path) -> None:
    pa, pq = _pyarrow()
    number = pa.float16() if index.space.dtype == "float16" else pa.float32()
    vectors = pa.list_(number, index.space.numbers)
    metadata = {f"vitsmith.{name}": value for name, value in _facts(index).items()}
    if index.space.grid is not None:
        metadata["vitsmith.shape"] = show_size(index.space.shape)
    types = _arrow_types(pa, index)
    schema = pa.schema([("id", pa.string()), ("embedding", vectors), *types.items()], metadata=metadata)
    with replacing(path) as partial, pq.ParquetWriter(partial, schema) as writer:
        for part in _parts(index):
            ids = [_utf8(name) for name in index.part_ids(part)]
            rows = pa.FixedSizeListArray.from_arrays(pa.array(index.vectors(part).ravel(), number), type=vectors)
            known = index.part(part).columns()
            beside = [
                pa.array(_arrow_values(known.get(name) or [None] * len(ids), kind), kind)
                for name, kind in types.items()
            ]
            writer.write_table(pa.table([pa.array(ids, pa.string()), rows, *beside], schema=schema))


FORMATS: dict[str, Callable[[Index, Path], None]] = {
    ".npz": _write_npz,
    ".npy": _write_npy,
    ".parquet": _write_parquet,
}


def _write_embeddings(index: Index, file: IO[bytes]) -> None:
    _write_header(file, (len(index), *index.space.shape), np.dtype(index.space.dtype))
    for part in _parts(index):
        file.write(index.vectors(part).data)


def _write_header(file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Write the header of an .npy file, before its rows."""
    header = io.BytesIO()
    fields = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, fields)
    file.write(header.getvalue())


def _parts(index: Index) -> list[int]:
    return [part for part, facts in enumerate(index.description.parts) if facts.rows]


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingPackageError("pyarrow", "parquet") from None
    return pa, pq
