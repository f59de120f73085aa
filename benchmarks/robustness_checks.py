"""Checks that benchmarks/robustness.py can take away (--without), to show that it would notice their absence."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from typing import Any


def remove(name: str) -> None:
    """Takes one away from this process; '' takes none."""
    if name:
        CHECKS[name]()


def _hashes_of_a_bundle() -> None:
    from vitsmith.weights import load
    from vitsmith.weights.bundle.folder import read_bundle

    load.read_bundle = lambda path, *, verify=True: read_bundle(path, verify=False)  # type: ignore[assignment, attr-defined]


def _checksum_of_bundle_json() -> None:
    from vitsmith.weights.bundle import manifest

    manifest.checksum = lambda fields: fields.get("checksum", "")


def _golden_answers() -> None:
    from vitsmith.weights.bundle.golden import Golden

    Golden.check_outputs = lambda *_, **__: None  # type: ignore[method-assign]


def _checksums_of_zip() -> None:
    zipfile.ZipExtFile._update_crc = lambda *_: None  # type: ignore[attr-defined]


def _checksums_of_pth() -> None:
    from vitsmith.weights.containers import tensors

    tensors.verify_stored = lambda *_: True  # type: ignore[attr-defined]


def _checksums_of_png() -> None:
    from vitsmith.data.images import truncation as wholeness

    wholeness._check_png = lambda data: None


def _hashes_of_an_index() -> None:
    from vitsmith.retrieval import index, part

    index.check_hash = part.check_hash = lambda *_: None  # type: ignore[attr-defined]


def _hashes_of_training_checkpoints() -> None:
    from vitsmith.training.checkpoint import disk as checkpoint

    checkpoint.sha256 = lambda _: _Anything()  # type: ignore[assignment, attr-defined]


class _Anything(str):
    """A hash that is equal to every other."""

    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False


CHECKS: dict[str, Callable[[], Any]] = {
    "hashes of a bundle": _hashes_of_a_bundle,
    "checksum of bundle.json": _checksum_of_bundle_json,
    "golden answers": _golden_answers,
    "checksums of .npz": _checksums_of_zip,
    "checksums of .pth": _checksums_of_pth,
    "checksums of PNG": _checksums_of_png,
    "hashes of an index": _hashes_of_an_index,
    "hashes of training checkpoints": _hashes_of_training_checkpoints,
}
