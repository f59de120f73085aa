"""The two doors: `load` whatever the user has, `save` what was made of it."""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import Any, Literal

from vitsmith.arguments import flag, instance, known_name
from vitsmith.arguments import path as argument_path
from vitsmith.contents import content_of, not_weights
from vitsmith.data.hub_names import how_to_fetch, hub_name
from vitsmith.data.photos import sample_images
from vitsmith.errors import BundleError, InputError, UnknownNameError, WeightsError, shown, suggestion
from vitsmith.files import replacing
from vitsmith.layers.positions import RESIZERS, ResizeMethod
from vitsmith.models.build import ImageModel, Model, build
from vitsmith.models.config import LiTConfig, show_size
from vitsmith.models.configure import change
from vitsmith.models.isolation import isolated
from vitsmith.models.presets import check_name, find_preset
from vitsmith.records import Provenance
from vitsmith.weights.adapt import AdaptReport, adapt
from vitsmith.weights.augreg import find_augreg
from vitsmith.weights.bundle import Bundle, vocabulary_suffix
from vitsmith.weights.bundle_folder import is_bundle, read_bundle, write_bundle
from vitsmith.weights.download import download
from vitsmith.weights.fill import require_finite_model
from vitsmith.weights.foreign import load_foreign, weights_among
from vitsmith.weights.heads import assumed_head
from vitsmith.weights.jax_npz import check_fits_npz, load_npz, read_npz, save_npz
from vitsmith.weights.npz_text import check_text_fits_npz, find_vocabulary
from vitsmith.weights.published import Checkpoint, checkpoints, checkpoints_of, find_checkpoint

GOLDEN_IMAGES = 2


def load(
    source: str | os.PathLike[str],
    *,
    name: str | None = None,
    image_size: int | tuple[int, int] | None = None,
    pooling: str | None = None,
    headless: bool = False,
    verify: bool = True,
    vocabulary: str | os.PathLike[str] | None = None,
) -> Bundle:
    """A bundle for inference from a bundle folder, a released `.npz`, weights of timm or HF, or a published name.

    Args:
        source: a path, or a published tag (`vitsmith models NAME` lists them) or 'augreg:B_16', which are downloaded.
        name: the architecture it is believed to be; the arrays are checked against it.
        image_size: pixels, for checkpoints only. Arrays do not tell how patches lie: where nothing else does, a square
            is assumed, which `provenance.notes` says, and a number of patches that makes no square is refused.
        pooling: 'unpooled' or 'token_unpooled' for such `.npz` files, whose arrays look like 'gap' or 'token'.
        headless: leave the classifier out and give features; allows files whose head is absent or all zeros.
        verify: compare the hashes of a bundle's files. Without it a damaged program can take the whole process down:
            ExecuTorch checks its own files, but not all of them (of 80 damaged at random, one ended in SIGSEGV).
        vocabulary: the tokenizer's file of a LiT `.npz` (.txt or .model); by default the one beside it of its name.

    Raises an InputError (WeightsError, BundleError, DownloadError, UnknownNameError) that says what is wrong:
    anything missing, unexpected or misshapen, and a head of zeros, is refused.
    """
    size, path = _size(image_size), _path(source)
    headless, verify = flag(headless, "headless"), flag(verify, "verify")
    if pooling is not None:
        instance(pooling, str, "pooling", "'unpooled' or 'token_unpooled'")
    if vocabulary is not None:
        vocabulary = argument_path(vocabulary, "vocabulary")
    found = _content(path)
    if vocabulary is not None and found != "npz":
        raise InputError(f"a vocabulary is given to LiT checkpoints (.npz) on disk, and {path} is none: leave it out")
    if pooling is not None and found not in ("npz", "absent"):
        raise InputError(f"a pooling is given to .npz checkpoints, and {path} is none: leave it out")
    match found:
        case "absent":
            return _load_published(os.fsdecode(source), name=name, image_size=size, pooling=pooling, headless=headless)
        case "bundle":
            return _load_bundle(path, name=name, image_size=size, headless=headless, verify=verify)
        case "npz":
            model, notes = read_npz(path, name=name, image_size=size, pooling=pooling, headless=headless)
            head, told = assumed_head(model, path.name)
            provenance = _provenance(str(path), "jax-npz", (*notes, *told, *_misnamed(path, found)))
            vocabulary_bytes = find_vocabulary(model, path, vocabulary)
            return Bundle.of(model, head=head, provenance=provenance, vocabulary=vocabulary_bytes)
    foreign = load_foreign(path, name=name, image_size=size, headless=headless)
    provenance = _provenance(str(path), foreign.format, (*foreign.notes, *_misnamed(path, found)))
    return Bundle.of(
        foreign.model, preprocessing=foreign.images, labels=foreign.labels, head=foreign.head, provenance=provenance
    )


def assumed(bundle: Bundle) -> tuple[str, ...]:
    """What had to be assumed of a checkpoint, a remark each; nothing of a bundle, which says all."""
    return tuple(f"note: {note}" for note in bundle.provenance.notes) if bundle.folder is None else ()


def _path(source: Any) -> Path:
    return Path(os.fsdecode(instance(source, (str, os.PathLike), "what is loaded", "a path or a published name")))


def _content(path: Path) -> str:
    """What to read at `path`: 'absent', 'bundle', 'npz', 'safetensors', 'torch', 'index' or 'folder'.

    The bytes decide, not the name. Raises InputError for anything else, saying what it is.
    """
    if not _exists(path):
        return "absent"
    if is_bundle(path):
        return "bundle"
    if not path.is_dir():
        found = content_of(path)
        if found.kind not in ("npz", "safetensors", "torch", "index"):
            raise WeightsError(f"{path} {not_weights(found)}")
        return found.kind
    if not (path / "config.json").is_file():
        if is_bundle(path / "model"):
            raise WeightsError(f"{path} is a run, and its model is in it: give {path / 'model'}")
        there = weights_among(path)
        raise WeightsError(
            f"{path} is not something vitsmith can load: the folder has neither bundle.json (a bundle) nor config.json "
            f"(a timm or HF model){f'; give one of its files: {there}' if there else ''}"
        )
    return "folder"


def save(
    what: Bundle | Model, path: str | os.PathLike[str], *, format: Literal["bundle", "npz"] = "bundle"
) -> Bundle | None:
    """Writes a bundle folder (and returns the bundle in it), or one `.npz` with the original's names and layouts.

    The vocabulary of a LiT goes beside the `.npz` under the same name, as published (`.txt` or `.model`).
    A model alone becomes a bundle with the original's preprocessing for its family; a bundle without golden examples
    gets some. Nothing half-written is left.
    Raises OutputError when the place cannot be written, WeightsError for what the format cannot hold.
    """
    known_name(format, "format", ("bundle", "npz"))
    target = argument_path(path, "path")
    bundle = what if isinstance(what, Bundle) else Bundle.of(what)
    if bundle.program != "torch":
        raise BundleError(f"{bundle.where} holds an exported program (model.{bundle.program}): copy its folder instead")
    if format == "npz":
        check_text_fits_npz(bundle)
        read_as, _ = assumed_head(bundle.model, target.name)
        if bundle.head not in (read_as, "none"):
            raise WeightsError(
                f"the original's .npz format cannot say what the outputs mean ({bundle.head}), and would be read as "
                f"{read_as}; save a bundle instead"
            )
        check_fits_npz(bundle.model)
        target = target if target.suffix.lower() == ".npz" else target.with_name(target.name + ".npz")
        if bundle.text is not None and bundle.vocabulary is not None:
            with replacing(target.with_suffix(vocabulary_suffix(bundle.text))) as partial:
                partial.write_bytes(bundle.vocabulary)
        save_npz(bundle.model, target)  # last, so that it is never there without its vocabulary
        return None
    return write_bundle(bundle.with_true_golden(sample_images(GOLDEN_IMAGES)), target)


def init_for_finetune(
    source: str | os.PathLike[str] | Bundle | Model,
    *,
    classes: int,
    image_size: int | tuple[int, int] | None = None,
    positions: ResizeMethod = "zoom",
    keep_representation: bool = False,
    name: str | None = None,
    **overrides: Any,
) -> tuple[ImageModel, AdaptReport]:
    """A model for new classes from trained weights, in training mode, and a report of what became of each array.

    The head is reset to zeros. Position embeddings move to the grid of `image_size` (default: the source's own) by
    the original's zoom, or 'bicubic'. `overrides` are configuration fields such as dropout=0.1. A model given as an
    object is used up.
    """
    size = _size(image_size)
    known_name(positions, "way to resize position embeddings", RESIZERS)
    flag(keep_representation, "keep_representation")
    if isinstance(source, Bundle):
        model = source.model
    elif isinstance(source, str | os.PathLike):
        model = load(source, name=name, headless=True).model
    else:
        model = instance(
            source, Model, "what is fine-tuned", "a path, a published name, a bundle or a model of vitsmith"
        )
    require_finite_model(model, source.where if isinstance(source, Bundle) else "the model")
    return adapt(
        model,
        classes=classes,
        image_size=size,
        positions=positions,
        keep_representation=keep_representation,
        **overrides,
    )


def _load_bundle(
    path: Path, *, name: str | None, image_size: tuple[int, int] | None, headless: bool, verify: bool
) -> Bundle:
    bundle = read_bundle(path, verify=verify)
    if image_size not in (None, bundle.config.image_size):
        raise InputError(
            f"{path} takes images of {show_size(bundle.config.image_size)} pixels, as its bundle.json says: leave out "
            f"image_size ({show_size(image_size)}), which is for checkpoints that do not say it"
        )
    if name is not None:
        check_name(bundle.config, name, str(path))
    return without_head(bundle) if headless else bundle


def _exists(path: Path) -> bool:
    try:
        return path.exists() or is_bundle(path)  # which mends one that was being replaced when its process was killed
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None


def _size(image_size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    """(height, width) of a number or a pair of them. Raises InputError for anything else."""
    if image_size is None:
        return None
    sides = image_size if isinstance(image_size, Sequence) else (image_size, image_size)
    whole = all(isinstance(side, Integral) and not isinstance(side, bool) and int(side) >= 1 for side in sides)
    if not whole or len(sides) != 2:
        raise InputError(f"image_size {shown(image_size)}: give pixels, as 224 or (height, width)")
    return int(sides[0]), int(sides[1])


_USUAL = {
    "npz": ("an .npz file", (".npz",)),
    "safetensors": ("a .safetensors file", (".safetensors",)),
    "torch": ("a file of torch.save", (".pth", ".pt", ".bin", ".ckpt", ".tar")),
}
"""What messages call the kinds of weights, and what their names end with."""


def _misnamed(path: Path, kind: str) -> tuple[str, ...]:
    """A note on weights that are called something else than what they are."""
    what, suffixes = _USUAL.get(kind, ("", ()))
    if not what or path.suffix.lower() in suffixes:
        return ()
    return (f"{path.name} holds {what}, whatever its name says",)


def _load_published(
    source: str, *, name: str | None, image_size: tuple[int, int] | None, pooling: str | None, headless: bool
) -> Bundle:
    note = vocabulary = ""
    if source.startswith("augreg:"):
        file = find_augreg(source)
        url, architecture, note = file.url, file.model, file.note
    else:
        row = _published(source)
        url, architecture, vocabulary = row.url, row.model, row.vocabulary
    path = download(url)
    model = load_npz(path, name=name or architecture, image_size=image_size, pooling=pooling, headless=headless)
    head, told = assumed_head(model, url.rpartition("/")[2])
    return Bundle.of(
        model,
        head=head,
        provenance=_provenance(url, "jax-npz", (*((note,) if note else ()), *told)),
        vocabulary=download(vocabulary).read_bytes() if vocabulary else None,
    )


def _of_hub(source: str) -> str:
    """What to do about a name that is not here and looks like one of Hugging Face, as 'google/vit-base-patch16-224'."""
    owner = source.partition("/")[0]
    if not re.fullmatch(r"[\w.-]+/[\w-]+", source) or source.startswith(".") or _exists(Path(owner)):
        return ""
    return f"; if it is a name of Hugging Face, fetch it:  {how_to_fetch(source)}"


def _published(source: str) -> Checkpoint:
    """The published checkpoint of a tag. Raises InputError for a missing file or an unknown name."""
    try:
        checkpoint = find_checkpoint(source)
    except UnknownNameError:
        if (name := hub_name(source)) is not None:
            raise InputError(_of_the_hub(source, name)) from None
        if Path(source).suffix or set("/\\") & set(source.strip("./")) or source.startswith((".", "~", "/")):
            raise InputError(f"{source}: no such file or folder{_of_hub(source)}") from None
        preset = _preset_name(source)
        if preset is None:
            tags = [row.tag for row in checkpoints()]
            raise InputError(
                f"{source!r} is neither a file, a folder nor a published checkpoint: {suggestion(source, tags)}"
            ) from None
        rows = [row.tag for row in checkpoints_of(preset)]
        known = f"its published checkpoints: {', '.join(rows[:6])}" if rows else "it has no published checkpoint"
        raise InputError(
            f"{source!r} is an architecture, not a file of weights: create_model() gives fresh ones; {known}"
        ) from None
    return checkpoint


def _of_the_hub(source: str, name: str) -> str:
    if not name.strip("/"):
        return f"{source} names no model: write hf:OWNER/NAME"
    if name.startswith((".", "/", "~")):
        return f"{source}: a folder on this machine is given as it is: {name}"
    return f"{source}: models of Hugging Face are fetched first:  {how_to_fetch(name)}  , then give that folder"


def _preset_name(source: str) -> str | None:
    try:
        return find_preset(source)[0].name
    except UnknownNameError:
        return None


def without_head(bundle: Bundle) -> Bundle:
    """The same weights, giving features; a LiT model as it is. Raises BundleError for an exported classifier."""
    if isinstance(bundle.config, LiTConfig) or not bundle.classes:
        return bundle
    if bundle.program != "torch":
        raise BundleError(
            f"{bundle.where} is an exported classifier, without the features before its head: "
            "give the bundle it was exported from"
        )
    config = change(bundle.config, classes=0)
    with isolated():
        model = build(config, device="meta")
        arrays = dict(bundle.model.named_parameters())
        model.load_state_dict({key: arrays[key].data for key, _ in model.named_parameters()}, assign=True)
    return bundle.derive(model, by=bundle.where, headless=True).with_split(None)


def _provenance(source: str, kind: str, notes: tuple[str, ...] = ()) -> Provenance:
    from vitsmith import __version__

    return Provenance(
        source=source, kind=kind, date=datetime.date.today().isoformat(), vitsmith=__version__, notes=notes
    )
