"""Checks of the parts of a bundle: that each has the right type, and that they fit each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, get_args

from vitsmith.arguments import instance, known_name
from vitsmith.errors import BundleError
from vitsmith.models.config import BertConfig, LiTConfig, MixerConfig, ViTConfig
from vitsmith.records import Measurement, Provenance
from vitsmith.specs import Calibration, Head, ImageSpec, Labels, Program, ProgramSpec, StoredProgram, TextSpec
from vitsmith.weights.bundle.golden import Golden

if TYPE_CHECKING:
    from vitsmith.weights.bundle.bundle import Bundle

CONFIGS = ViTConfig | MixerConfig | LiTConfig


def check_kinds(bundle: Bundle) -> None:
    """Raises InputError for fields of the wrong type."""
    instance(bundle.config, CONFIGS, "config", "the configuration of a model")
    instance(bundle.preprocessing, ImageSpec, "preprocessing", "an ImageSpec")
    instance(bundle.provenance, Provenance, "provenance", "a Provenance")
    instance(bundle.labels, (Labels, type(None)), "labels", "Labels(names=...), or None")
    instance(bundle.text, (TextSpec, type(None)), "text", "a TextSpec, or None")
    instance(bundle.vocabulary, (bytes, type(None)), "vocabulary", "the bytes of a tokenizer's file, or None")
    instance(bundle.program_spec, ProgramSpec, "program_spec", "a ProgramSpec")
    instance(bundle.calibration, (Calibration, type(None)), "calibration", "a Calibration, or None")
    for one in instance(bundle.programs, tuple, "programs", "a tuple of StoredProgram"):
        instance(one, StoredProgram, "a program", "a StoredProgram")
    instance(bundle.folder, (Path, type(None)), "folder", "a pathlib.Path, or None")
    instance(bundle.golden, (Golden, type(None)), "golden", "golden examples (see with_golden), or None")
    known_name(bundle.program, "program", get_args(Program))
    known_name(bundle.head, "head", get_args(Head))
    for one in instance(bundle.measurements, tuple, "measurements", "a tuple of Measurement"):
        instance(one, Measurement, "a measurement", "a Measurement")


def check_parts(bundle: Bundle) -> None:
    """Raises BundleError for parts that do not fit each other."""
    classes, where = bundle.classes, bundle.where
    if bundle.labels is not None and classes and len(bundle.labels) != classes:
        raise BundleError(f"{where}: {len(bundle.labels)} label names for {classes} classes")
    if bundle.preprocessing.size != bundle.config.image_size:
        raise BundleError(
            f"{where}: preprocessing gives {bundle.preprocessing.size} images, "
            f"the model takes {bundle.config.image_size}"
        )
    if bundle.head != "none" and not classes:
        raise BundleError(f"{where}: the head is {bundle.head!r}, but the model has no classes")
    if bundle.head == "none" and classes:
        raise BundleError(f"{where}: the head is 'none', but the model has {classes} classes")
    if bundle.calibration is not None:
        bundle.calibration.check(bundle.head, classes, where)
    _check_text(bundle)


def _check_text(bundle: Bundle) -> None:
    if not isinstance(bundle.config, LiTConfig):
        if bundle.text is not None:
            raise BundleError(f"{bundle.where}: a text specification, but the model has no text tower")
        return
    if bundle.text is None:
        raise BundleError(f"{bundle.where}: a LiT model needs a text specification: how its texts become tokens")
    tower = bundle.config.text
    pooling = "first" if isinstance(tower, BertConfig) else "last"
    ours = {"length": bundle.text.length, "vocabulary": bundle.text.vocabulary, "pooling": bundle.text.pooling}
    its = {"length": tower.length, "vocabulary": tower.vocabulary, "pooling": pooling}
    if wrong := [f"{name} {ours[name]}, the text tower has {its[name]}" for name in its if ours[name] != its[name]]:
        raise BundleError(f"{bundle.where}: the text specification says {'; '.join(wrong)}")
