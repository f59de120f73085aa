"""The two doors: `load` whatever the user has, `save` what was made of it."""

from __future__ import annotations

import datetime
import os
from pathlib import Path
from typing import Any, Literal

from vitsmith.data.photos import sample_images
from vitsmith.data.tokenize import check_lines
from vitsmith.errors import BundleError, InputError, UnknownNameError, WeightsError, suggestion
from vitsmith.files import replacing
from vitsmith.layers.positions import ResizeMethod
from vitsmith.models.build import ImageModel, Model, build
from vitsmith.models.config import BertConfig, LiTConfig
from vitsmith.models.configure import change
from vitsmith.models.isolation import isolated
from vitsmith.models.presets import check_name, find_preset
from vitsmith.specs import Provenance
from vitsmith.weights.adapt import AdaptReport, adapt
from vitsmith.weights.augreg import find_augreg
from vitsmith.weights.bundle import Bundle, original_text, vocabulary_suffix
from vitsmith.weights.bundle_folder import is_bundle, read_bundle, write_bundle
from vitsmith.weights.download import download
from vitsmith.weights.fill import require_finite_model
from vitsmith.weights.foreign import load_foreign
from vitsmith.weights.jax_npz import load_npz, save_npz
from vitsmith.weights.published import Checkpoint, checkpoints, checkpoints_of, find_checkpoint

GOLDEN_IMAGES = 2
FOREIGN_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")


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
        image_size: pixels, needed only where the arrays do not tell (a grid that is not square).
        pooling: 'unpooled' or 'token_unpooled' for such `.npz` files, whose arrays look like 'gap' or 'token'.
        headless: leave the classifier out and give features; allows files whose head is absent or all zeros.
        verify: compare the hashes of a bundle's files.
        vocabulary: the tokenizer's file of a LiT `.npz` (.txt or .model); by default the one beside it of its name.

    Raises an InputError (WeightsError, BundleError, DownloadError, UnknownNameError) that says what is wrong:
    anything missing, unexpected or misshapen, and a head of zeros, is refused.
    """
    path = Path(source)
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    if vocabulary is not None and (is_bundle(path) or path.suffix != ".npz"):
        raise InputError(f"a vocabulary is given to LiT checkpoints (.npz) on disk, and {path} is none: leave it out")
    if not path.exists():
        return _load_published(os.fspath(source), name=name, image_size=size, headless=headless)
    if is_bundle(path):
        bundle = read_bundle(path, verify=verify)
        if name is not None:
            check_name(bundle.config, name, str(path))
        return without_head(bundle) if headless else bundle
    if path.suffix == ".npz":
        model = load_npz(path, name=name, image_size=size, pooling=pooling, headless=headless)
        provenance = _provenance(str(path), "jax-npz")
        return Bundle.of(model, provenance=provenance, vocabulary=_vocabulary(model, path, vocabulary))
    if path.suffix in FOREIGN_SUFFIXES or (path / "config.json").is_file():
        foreign = load_foreign(path, name=name, image_size=size, headless=headless)
        provenance = _provenance(str(path), foreign.format, notes=foreign.notes)
        return Bundle.of(foreign.model, images=foreign.images, labels=foreign.labels, provenance=provenance)
    raise WeightsError(f"{path} is not something vitsmith can load: {_why_not(path)}")


def save(
    what: Bundle | Model, path: str | os.PathLike[str], *, format: Literal["bundle", "npz"] = "bundle"
) -> Bundle | None:
    """Writes a bundle folder (and returns the bundle in it), or one `.npz` with the original's names and layouts.

    The vocabulary of a LiT goes beside the `.npz` under the same name, as published (`.txt` or `.model`).
    A model alone becomes a bundle with the original's preprocessing for its family; a bundle without golden examples
    gets some. Nothing half-written is left.
    Raises OutputError when the place cannot be written, WeightsError for what the format cannot hold.
    """
    bundle = what if isinstance(what, Bundle) else Bundle.of(what)
    if bundle.program != "torch":
        raise BundleError(f"{bundle.where} holds an exported program (model.{bundle.program}): copy its folder instead")
    if format == "npz":
        _check_text_fits_npz(bundle)
        target = Path(path)
        target = target if target.suffix == ".npz" else target.with_name(target.name + ".npz")
        save_npz(bundle.model, target)
        if bundle.text is not None and bundle.vocabulary is not None:
            with replacing(target.with_suffix(vocabulary_suffix(bundle.text))) as partial:
                partial.write_bytes(bundle.vocabulary)
        return None
    if format != "bundle":
        raise UnknownNameError("format", format, ("bundle", "npz"))
    if bundle.golden is None:
        bundle = bundle.with_golden(sample_images(GOLDEN_IMAGES))
    return write_bundle(bundle, path)


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
    if isinstance(source, Bundle):
        model = source.model
    elif isinstance(source, str | os.PathLike):
        model = load(source, name=name, headless=True).model
    else:
        model = source
    require_finite_model(model, source.where if isinstance(source, Bundle) else "the model")
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    return adapt(
        model,
        classes=classes,
        image_size=size,
        positions=positions,
        keep_representation=keep_representation,
        **overrides,
    )


def _load_published(source: str, *, name: str | None, image_size: tuple[int, int] | None, headless: bool) -> Bundle:
    note = vocabulary = ""
    if source.startswith("augreg:"):
        file = find_augreg(source)
        url, architecture, note = file.url, file.model, file.note
    else:
        row = _published(source)
        url, architecture, vocabulary = row.url, row.model, row.vocabulary
    path = download(url)
    model = load_npz(path, name=name or architecture, image_size=image_size, headless=headless)
    return Bundle.of(
        model,
        provenance=_provenance(url, "jax-npz", (note,) if note else ()),
        vocabulary=download(vocabulary).read_bytes() if vocabulary else None,
    )


def _vocabulary(model: Model, path: Path, given: str | os.PathLike[str] | None) -> bytes | None:
    """The bytes of the tokenizer's file: the one given, or the one beside the checkpoint; None for models of images."""
    if not isinstance(model.config, LiTConfig):
        if given is not None:
            raise InputError(f"{path} is a model of images alone and has no use for a vocabulary: leave it out")
        return None
    place = Path(given) if given is not None else path.with_suffix(vocabulary_suffix(original_text(model.config)))
    try:
        vocabulary = place.read_bytes()
    except FileNotFoundError:
        if given is None:
            return None  # images can be embedded without; `Bundle.tokenizer` says what is missing
        raise InputError(f"{place}: no such vocabulary; give the file that was published with the model") from None
    except OSError as error:
        raise InputError(f"cannot read the vocabulary {place}: {error.strerror}") from error
    check_lines(original_text(model.config).tokenizer, vocabulary)
    return vocabulary


def _check_text_fits_npz(bundle: Bundle) -> None:
    """Raises WeightsError for a text side that an `.npz` and its vocabulary do not tell: reading it would guess wrong.

    Prompt templates are lost: they decide no embedding.
    """
    if not isinstance(bundle.config, LiTConfig) or bundle.text is None:
        return
    usual, tower = original_text(bundle.config), bundle.config.text
    told = {"tokenizer": usual.tokenizer, "lower_case": usual.lower_case, "canonicalize": usual.canonicalize}
    if isinstance(tower, BertConfig):
        told["length"] = BertConfig.model_fields["length"].default
    ours = bundle.text.model_dump()
    lost = [f"{name} {ours[name]} (it would be read as {value})" for name, value in told.items() if ours[name] != value]
    if lost:
        raise WeightsError(
            f"the original's .npz format cannot hold a text side with {', '.join(lost)}; save a bundle instead"
        )


def _published(source: str) -> Checkpoint:
    """The published checkpoint of a tag. Raises InputError for a missing file or an unknown name."""
    try:
        checkpoint = find_checkpoint(source)
    except UnknownNameError:
        if Path(source).suffix or os.sep in source.strip("./") or source.startswith((".", "~", "/")):
            raise InputError(f"{source}: no such file or folder") from None
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
    provenance = bundle.provenance.model_copy(update={"source": bundle.where})
    return Bundle.of(model, images=bundle.images, provenance=provenance)


def _provenance(source: str, format: str, notes: tuple[str, ...] = ()) -> Provenance:
    from vitsmith import __version__

    return Provenance(
        source=source, format=format, date=datetime.date.today().isoformat(), vitsmith=__version__, notes=notes
    )


def _why_not(path: Path) -> str:
    if path.is_dir():
        return "the folder has neither bundle.json (a bundle) nor config.json (a timm or HF model)"
    if path.suffix == ".onnx":
        return "an .onnx file alone does not say its preprocessing or labels; give the bundle folder it belongs to"
    return f"known are bundle folders, .npz and {', '.join(FOREIGN_SUFFIXES)}"
