"""Reads MODEL, DATA and IMAGES on a command line, the same for every verb, and tells what is assumed about them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitsmith.cli.arguments.images import sources_of
from vitsmith.cli.terminal.output import progress, say

if TYPE_CHECKING:
    from vitsmith.data.images.read import Rgb
    from vitsmith.data.images.sources import ImageSource
    from vitsmith.data.sets.datasets import DataSpec
    from vitsmith.data.sets.samples import Samples
    from vitsmith.engines.protocol import Engine
    from vitsmith.evaluation.held_out import Asked, EvaluationSet
    from vitsmith.weights.bundle.bundle import Bundle


def open_model(
    model: str,
    image_size: str = "",
    read_as: Sequence[str] | None = None,
    *,
    labels: Path | Sequence[str] | None = None,
    **options: Any,
) -> Bundle:
    """The bundle that a verb was given, or what `load` makes of a checkpoint; tells what had to be assumed of one.

    `read_as` are NAME=VALUE of `choices_of`, `options` are those of `load`. Raises InputError as it does, and for a
    size or choice that cannot be read.
    """
    from vitsmith.data.text.label_file import read_class_names
    from vitsmith.weights.labels import with_labels
    from vitsmith.weights.load import assumed, load

    if isinstance(labels, Path):
        read_class_names(labels)  # its mistakes are told before the model is read
    bundle = load(model, image_size=parse_size(image_size), **choices_of(read_as), **options)
    for note in assumed(bundle):
        say(note)
    return with_labels(bundle, labels)


def tell_calibration(bundle: Bundle, *, kept: bool) -> None:
    """Tells the user whether a changed model keeps the bundle's calibration; says nothing if there is none."""
    if bundle.calibration is None:
        return
    if kept:
        say("the calibration is kept, and was found before int8: vitsmith evaluate on the result says how well it fits")
    else:
        say("the result is not calibrated: temperature and thresholds are for the answers of the original")


def parse_size(text: str) -> int | tuple[int, int] | None:
    """'384' -> 384, '224x320' -> (224, 320), '' -> None. Raises InputError."""
    from vitsmith.errors import InputError, shown

    if not text:
        return None
    match = re.fullmatch(r"(\d{1,6})(?:[x,](\d{1,6}))?", text.strip(), re.ASCII)
    if match is None:
        raise InputError(f"--image-size {shown(text)}: give pixels, as 384 or 224x320 (height x width)")
    return int(match[1]) if match[2] is None else (int(match[1]), int(match[2]))


def choices_of(read_as: Sequence[str] | None, option: str = "--read-as") -> dict[str, Any]:
    """['gelu=quick'] -> {'gelu': 'quick'}: arguments of `load`. Raises InputError, which names the `option`."""
    from vitsmith.errors import InputError, shown
    from vitsmith.weights.options import check_choices

    choices: dict[str, Any] = {}
    for text in read_as or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"{option} {shown(text)}: give NAME=VALUE, as gelu=quick")
        if name in choices:
            raise InputError(f"{option} {name} is given twice: give it once")
        choices[name] = value
    check_choices(choices, option)
    return choices


def tell_choice(engine: Engine) -> None:
    """Says why this one runs, where there was something to measure or a program to choose."""
    if "measured" in engine.why or "the program that runs" in engine.why:
        say(f"engine: {engine.why}")


def check_recordable(model: str) -> None:
    """Raises InputError when `--record` could not write into `model`."""
    from vitsmith.errors import InputError
    from vitsmith.weights.bundle.folder import check_recordable
    from vitsmith.weights.bundle.paths import find_bundle

    folder = find_bundle(model)
    if folder is None:
        raise InputError(f"--record writes into a bundle, and {model} is not a bundle on disk: save it as one first")
    check_recordable(folder)


def either_data(data: str, option: str) -> str:
    """DATA, which may be given behind the verb or with `--data`. Raises InputError for both."""
    from vitsmith.errors import InputError, shown

    if data and option:
        raise InputError(f"the data are given twice, as {shown(data)} and as --data {shown(option)}: give them once")
    return data or option


def labelled(data: str, image_column: str = "", label_column: str = "", split: str = "") -> DataSpec:
    """The data set that `--data` and its columns describe. Raises InputError for columns or a split without data."""
    from vitsmith.data.sets.datasets import DataSpec
    from vitsmith.errors import InputError

    if not data and split:
        raise InputError("--split chooses a part of --data: give --data too")
    if not data and (image_column or label_column):
        given = "--image-column names a column" if image_column else "--label-column names a column"
        raise InputError(f"{given} of --data: give --data too")
    return DataSpec(path=data, image_column=image_column, label_column=label_column)


def images_beside(data: DataSpec, images: list[str]) -> list[ImageSource]:
    """The images that arguments mean. Raises InputError, before a model is opened, where they or data are not there."""
    from vitsmith.data.sets.datasets import check_there

    if data.path:
        check_there(data.path)
    return sources_of(images)


def images_of(
    images: list[str], data: DataSpec, split: str = "", *, may_be_empty: bool = False
) -> tuple[Sequence[ImageSource], Sequence[str] | None]:
    """The given images, or those of a part of `--data` with their names, whatever their labels. Raises InputError.

    `may_be_empty`: as for `expand`.
    """
    from vitsmith.errors import InputError

    if images and data.path:
        raise InputError("images are given twice, as files or folders and with --data: give them once")
    if not images and not data.path:
        raise InputError("give images: files or folders, or a data set with --data DATA")
    if not data.path:
        return sources_of(images, may_be_empty=may_be_empty), None
    from vitsmith.data.sets.datasets import open_unlabelled

    samples = open_unlabelled(data, split or "all", tell=say)
    whole = all(isinstance(source, str | os.PathLike) for source in samples.sources[:1])
    return samples.sources, None if whole else samples.names


def choose_images(bundles: Sequence[Bundle], asked: Asked) -> EvaluationSet:
    """The images that evaluate `bundles`. Raises DatasetError when none is left."""
    from vitsmith.evaluation.held_out import choose

    with reading_bar() as on_images:
        evaluation_set = choose(bundles, asked, on_images=on_images)
    for told in evaluation_set.told:
        say(told)
    return evaluation_set


@contextmanager
def reading_bar() -> Iterator[Callable[[int], None]]:
    """Shows a bar while images are read once, to find out which the model knows."""
    with progress(unit="images") as bar:
        task = bar.add_task("finding held-out images", total=None, note="")
        yield lambda images: bar.advance(task, images)


def read_images(sources: Sequence[ImageSource], share: float) -> list[Rgb]:
    """The pixels of images. Up to a share may be unreadable, and is reported."""
    from vitsmith.data.images.sources import name_source
    from vitsmith.data.images.unreadable import read_all

    names = [name_source(source) for source in sources]
    return read_all(sources, names, share=share, tell=tell_unreadable)


def readable(samples: Samples, share: float) -> Samples:
    """The samples that can be read: all are decoded once before long work. Up to a share may be unreadable."""
    from vitsmith.data.images.unreadable import sift

    kept = sift(samples.sources, samples.names, share=share, tell=tell_unreadable)
    return samples if len(kept) == len(samples) else samples.select(kept)


def tell_unreadable(complaint: str) -> None:
    """Says that an image is left out, and why."""
    say(f"left out: {complaint}")
