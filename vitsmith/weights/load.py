"""`load`: makes a bundle of whatever the user has. Bundles are read without torch, other weights with it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

from vitsmith import needs_torch
from vitsmith.arguments import flag, instance, named_arguments
from vitsmith.arguments import path as argument_path
from vitsmith.errors import BundleError, InputError, WeightsError, shown
from vitsmith.files.contents import content_of, not_weights
from vitsmith.models.config import LiTConfig, show_size
from vitsmith.models.parts import Gelu, Pooling
from vitsmith.models.presets import check_name
from vitsmith.specs import ImageSpec
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.folder import is_bundle, read_bundle
from vitsmith.weights.bundle.paths import find_bundle, using_program
from vitsmith.weights.containers.file_choice import is_model_folder, weights_among
from vitsmith.weights.fetch.hub.address import hub_address
from vitsmith.weights.fetch.hub.known_models import copy_of
from vitsmith.weights.fetch.lookup import published_file
from vitsmith.weights.options import CHOICES, LoadOptions, Periods, Preprocessing, check_choices
from vitsmith.weights.unfinished_run import unfinished_run

LOADABLE = "a bundle, a path, hf:OWNER/NAME or a published name"


@named_arguments
def load(
    source: Bundle | str | os.PathLike[str],
    *,
    name: str | None = None,
    image_size: int | tuple[int, int] | None = None,
    gelu: Gelu | None = None,
    pooling: Pooling | None = None,
    periods: Periods | None = None,
    preprocessing: Preprocessing | ImageSpec | None = None,
    headless: bool | None = False,
    verify: bool = True,
    vocabulary: str | os.PathLike[str] | None = None,
) -> Bundle:
    """A bundle for inference from a bundle folder, a released `.npz`, weights of timm or HF, the hub, a published name.

    Args:
        source: a bundle, which is returned; a path (for a bundle also that of the run it is in, or of a program in
            it, folder or file); a model of the Hugging Face hub as 'hf:OWNER/NAME', 'hf:OWNER/NAME@REVISION' or, for
            one of several files of weights, 'hf:OWNER/NAME/FILE'; or a published tag (`vitsmith models NAME` lists
            them) or 'augreg:B_16', which are downloaded.
        name: the expected architecture; the arrays are checked against it.
        image_size: pixels, for checkpoints only. Arrays do not show the shape of the patch grid: if nothing else does,
            a square is assumed, `provenance.notes` says so, and a number of patches that makes no square is refused.
            Positions are resized to another size than the file's by the rule of its publisher.
        gelu: 'erf', 'tanh' or 'quick', in both towers, for checkpoints only. The same arrays are published with several
            forms (OpenAI's CLIP in timm, SigLIP); default: that of the file's publisher, as `provenance.notes` says.
        pooling: 'token', 'gap', 'token_and_gap', 'unpooled' or 'token_unpooled', for checkpoints only; default: that
            of the file's publisher (timm's DINOv3 takes the mean of the patches, the authors' the class token).
        periods: 'float32' or 'bfloat16', of DINOv3's rotary positions; default: that of the file's publisher.
        preprocessing: 'usual' takes that of the published models of its kind where the folder lacks the file that says
            it, preprocessor_config.json. Without it such models load, and whatever gives them images is refused. An
            `ImageSpec` is the caller's own, for checkpoints only.
        headless: leave the classifier out and give features; allows files whose head is absent or all zeros. None:
            features where the file has no classifier, else the classifier.
        verify: compare the hashes of a bundle's files. Without it a damaged program can crash the whole process:
            ExecuTorch does not find all damage in its files (of 80 damaged at random, one ended in SIGSEGV).
        vocabulary: the tokenizer's file of a LiT or SigLIP `.npz` (.txt, .model or .json); default: the file beside it
            of that name.

    Raises an InputError (WeightsError, BundleError, DownloadError, UnknownNameError) that says what is wrong:
    anything missing, unexpected or misshapen, and a head of zeros, is refused.
    """
    choices: dict[str, Any] = {"gelu": gelu, "pooling": pooling, "periods": periods, "preprocessing": preprocessing}
    own = isinstance(preprocessing, ImageSpec)
    told = {what: value for what, value in choices.items() if value is not None}
    check_choices({what: value for what, value in told.items() if not (own and what == "preprocessing")}, "choice")
    options = LoadOptions(
        name=name,
        image_size=size_of(image_size),
        headless=None if headless is None else flag(headless, "headless"),
        vocabulary=None if vocabulary is None else argument_path(vocabulary, "vocabulary"),
        **choices,
    )
    return load_with(source, options, verify=flag(verify, "verify"))


def load_with(source: Bundle | str | os.PathLike[str], options: LoadOptions, *, verify: bool = True) -> Bundle:
    """`load` with options that were checked before. Raises as it does."""
    chosen = [what for what in CHOICES if what != "preprocessing" and getattr(options, what) is not None]
    if isinstance(source, Bundle):
        known = _with_preprocessing(source, options)
        _refuse_options(known.where, *chosen, *(("vocabulary",) if options.vocabulary is not None else ()))
        return _checked(known, known.where, options)
    path = _path(source)
    if (address := hub_address(os.fsdecode(source))) is not None:
        if options.vocabulary is not None:
            raise InputError(f"vocabulary is for .npz checkpoints, not for {source}: leave it out")
        return needs_torch.part("vitsmith.weights.checkpoint:load_from_hub")(address, options)
    folder = find_bundle(path)
    found = "bundle" if folder is not None else _content(path)
    if options.vocabulary is not None and found != "npz":
        raise InputError(f"vocabulary is for LiT checkpoints (.npz) on disk, and {path} is not one: leave it out")
    if folder is not None:
        _refuse_options(str(folder), *chosen)
        known = _with_preprocessing(using_program(read_bundle(folder, verify=verify), path), options)
        return _checked(known, str(folder), options)
    if found == "absent":
        if not os.fsdecode(source).startswith("augreg:"):
            published_file(os.fsdecode(source))  # raises for a mistake, also without torch
        return needs_torch.part("vitsmith.weights.published_bundle:load_published")(os.fsdecode(source), options)
    return needs_torch.part("vitsmith.weights.checkpoint:load_checkpoint")(path, options)


def assumed(bundle: Bundle) -> tuple[str, ...]:
    """Remarks on what had to be assumed for a checkpoint; none for a bundle on disk."""
    return tuple(f"note: {note}" for note in bundle.provenance.notes) if bundle.folder is None else ()


def without_head(bundle: Bundle) -> Bundle:
    """The model without its head, giving features; LiT unchanged. Raises BundleError for an exported classifier."""
    if isinstance(bundle.config, LiTConfig) or not bundle.classes:
        return bundle
    if bundle.program != "torch":
        raise BundleError(
            f"{bundle.where} is an exported classifier, which does not give the features before its head: "
            "give the bundle it was exported from"
        )
    bare = needs_torch.part("vitsmith.weights.torch_model:without_head")(bundle.model)
    return bundle.derive(bare, by=bundle.where, headless=True).with_split(None)


def _with_preprocessing(bundle: Bundle, options: LoadOptions) -> Bundle:
    """The bundle, whose preprocessing is taken as known where it was assumed and the caller asks for the usual.

    Raises InputError where it was known, and for another: golden examples are of the one that it has.
    """
    if options.preprocessing is None:
        return bundle
    if not bundle.refuses_images or options.preprocessing != "usual":
        _refuse_options(bundle.where, "preprocessing")
    return bundle.with_provenance(missing="", images_refused="")


def _refuse_options(where: str, *given: str) -> None:
    """Raises InputError for options of checkpoints: a bundle has its own answers."""
    if given:
        raise InputError(f"leave out {' and '.join(given)}: for checkpoints only, and {where} is a bundle")


def _checked(bundle: Bundle, where: str, options: LoadOptions) -> Bundle:
    """The bundle, or its features. Raises InputError if its size or architecture is not the expected one."""
    if options.image_size not in (None, bundle.config.image_size):
        raise InputError(
            f"{where} takes images of {show_size(bundle.config.image_size)} pixels, as its bundle.json says: leave out "
            f"image_size ({show_size(options.image_size)}), which is for checkpoints that do not say it"
        )
    if options.name is not None:
        check_name(bundle.config, options.name, where)
    return without_head(bundle) if options.headless else bundle


def _path(source: Any) -> Path:
    return Path(os.fsdecode(instance(source, (str, os.PathLike), "what is loaded", LOADABLE)))


def _content(path: Path) -> str:
    """The kind of what is at `path`, which is no bundle: 'absent', 'npz', 'safetensors', 'torch', 'index' or 'folder'.

    The bytes decide, not the name. Raises InputError for anything else, saying what it is.
    """
    if not exists(path):
        return "absent"
    if not path.is_dir():
        found = content_of(path)
        if found.kind not in ("npz", "safetensors", "torch", "index"):
            if found.kind == "json" and is_model_folder(path.parent):
                raise WeightsError(f"{path} is {found.what} beside weights: give their folder, {path.parent}")
            copy = copy_of(path.name) if found.kind == "torchscript" else ""
            raise WeightsError(f"{path} {not_weights(found)}{copy and f'; a copy that can be read is {copy}'}")
        return found.kind
    if not is_model_folder(path):
        if (path / "index.json").is_file():
            raise WeightsError(f"{path} is an index, not a model: search in it with  vitsmith retrieve --index {path}")
        if (run := unfinished_run(path)) is not None:
            raise WeightsError(str(run))
        there = weights_among(path)
        raise WeightsError(
            f"{path} is not something vitsmith can load: the folder has neither bundle.json (a bundle) nor config.json "
            f"(a timm or HF model){f'; give one of its files: {there}' if there else ''}"
        )
    return "folder"


def exists(path: Path) -> bool:
    try:
        return path.exists() or is_bundle(path)  # mends a bundle whose process was killed while it replaced it
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None


def size_of(image_size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    """(height, width) of a number or a pair of them. Raises InputError for anything else."""
    if image_size is None:
        return None
    sides = image_size if isinstance(image_size, Sequence) else (image_size, image_size)
    whole = all(isinstance(side, Integral) and not isinstance(side, bool) and int(side) >= 1 for side in sides)
    if not whole or len(sides) != 2:
        raise InputError(f"image_size {shown(image_size)}: give pixels, as 224 or (height, width)")
    return int(sides[0]), int(sides[1])
