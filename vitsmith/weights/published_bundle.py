"""A published checkpoint of Google as a bundle: from its bucket or, where that refuses, from its copy on the hub."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from vitsmith.errors import DownloadError, InputError
from vitsmith.models.build import Model
from vitsmith.models.config import LiTConfig, ModelConfig, ViTConfig, indivisible
from vitsmith.models.configure import change
from vitsmith.models.presets import find_preset
from vitsmith.records import Publication
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.checkpoint import provenance_of, read_model
from vitsmith.weights.containers.file_choice import weights_in
from vitsmith.weights.containers.npz import NpzFile
from vitsmith.weights.containers.open import open_arrays
from vitsmith.weights.conversion import Conversion
from vitsmith.weights.fetch.augreg import PREFIX, find_augreg
from vitsmith.weights.fetch.download import download
from vitsmith.weights.fetch.hub.address import HubAddress
from vitsmith.weights.fetch.hub.google_copies import copy_of_url, other_runs
from vitsmith.weights.fetch.hub.snapshot import fetch_model
from vitsmith.weights.fetch.lookup import published_file
from vitsmith.weights.heads import assumed_head
from vitsmith.weights.labels import published_labels
from vitsmith.weights.options import LoadOptions
from vitsmith.weights.position_layout import ResizedPositions


@dataclass(frozen=True)
class _Published:
    """What is known of a published file."""

    url: str
    model: str
    side: int
    dataset: str
    vocabulary: str = ""
    note: str = ""

    @property
    def unshown_size(self) -> tuple[int, int] | None:
        """Height and width where the arrays do not show them: images whose edge fills no patch; else None."""
        config, size = find_preset(self.model)[0].config, (self.side, self.side)
        return size if isinstance(config, LiTConfig) and indivisible(size, config.image.patch) else None


@dataclass(frozen=True)
class _Read:
    """What was read of it."""

    source: str
    kind: str
    found: Conversion
    model: Model
    note: str = ""


def load_published(source: str, options: LoadOptions) -> Bundle:
    """Downloads the checkpoint of a tag or 'augreg:NAME' as a bundle.

    Where the bucket cannot give it, the arrays are taken from the conversion on the hub whose recorded origin is that
    very file; arithmetic, preprocessing, labels and what the outputs mean are the original's all the same, and a note
    says so. Raises InputError for an unknown name, DownloadError.
    """
    wanted = _named(source)
    options = replace(options, name=options.name or wanted.model, image_size=options.image_size or wanted.unshown_size)
    try:
        read = _of_bucket(wanted, options)
    except DownloadError as refused:
        read = _of_hub(wanted, options, refused)
    model, found = read.model, read.found
    head, told = assumed_head(model, wanted.url.rpartition("/")[2])
    # What its arrays do not show is known of a published file, so of the reader's notes only this one is passed on.
    resized = (slot.layout.told for slot in found.slots.values() if isinstance(slot.layout, ResizedPositions))
    notes = (*(note for note in (wanted.note, read.note) if note), *resized, *found.choices, *told)
    return Bundle.of(
        model,
        labels=published_labels(wanted.dataset, 0 if isinstance(model.config, LiTConfig) else model.config.classes),
        head=head,
        text=found.text,
        vocabulary=found.vocabulary,
        provenance=provenance_of(read.source, read.kind, notes, Publication(origin=wanted.url)),
    )


def as_original(config: ModelConfig) -> ModelConfig:
    """The configuration of timm's arrays with the original's arithmetic: tanh GELU, and its eps."""
    fields = type(config).model_fields
    usual: dict[str, object] = {name: fields[name].default for name in ("gelu", "norm_eps")}
    if isinstance(config, ViTConfig) and config.resnet:
        usual["resnet"] = {"stages": config.resnet.stages, "width_factor": config.resnet.width_factor}
    original: ModelConfig = change(config, **usual)
    return original


def _read_as_original(found: Conversion) -> Conversion:
    """timm's arrays with the original's arithmetic, and its rule where positions are resized."""
    config = as_original(found.config)
    if not isinstance(config, ViTConfig):
        return replace(found, config=config)
    rule = config.position_embedding.resize
    slots = {
        name: replace(slot, layout=replace(slot.layout, method=rule))
        if isinstance(slot.layout, ResizedPositions)
        else slot
        for name, slot in found.slots.items()
    }
    return replace(found, config=config, slots=slots)


def _named(source: str) -> _Published:
    if source.startswith(PREFIX):
        chosen = find_augreg(source)
        return _Published(chosen.url, chosen.model, chosen.resolution, chosen.dataset, note=chosen.note)
    row = published_file(source)
    return _Published(row.url, row.model, row.resolution, row.dataset, row.vocabulary)


def _of_bucket(wanted: _Published, options: LoadOptions) -> _Read:
    path = download(wanted.url)
    vocabulary = download(wanted.vocabulary) if wanted.vocabulary else None
    with NpzFile(path) as file:
        return _Read(wanted.url, *read_model(file, replace(options, vocabulary=vocabulary)))


def _of_hub(wanted: _Published, options: LoadOptions, refused: DownloadError) -> _Read:
    """Raises DownloadError that names both places if the hub does not give it either."""
    copy = copy_of_url(wanted.url)
    if copy is None:
        others = other_runs(wanted.url)
        told = f"; the hub has not this file, but other runs of the same model: {', '.join(others)}" if others else ""
        raise DownloadError(f"{refused}{told}") from refused
    try:
        snapshot = fetch_model(HubAddress(copy.name))
    except InputError as error:
        raise DownloadError(f"{refused}; nor could its copy on the hub, hf:{copy.name}, be had: {error}") from error
    place, _ = weights_in(snapshot.path) if snapshot.path.is_dir() else (snapshot.path, ())
    with open_arrays(Path(place)) as file:
        kind, found, model = read_model(file, options, adapt=_read_as_original)
    source = f"hf:{snapshot.name}@{snapshot.commit}"
    note = (
        f"{wanted.url} could not be downloaded: the arrays are from its conversion {source}; arithmetic, preprocessing "
        "and labels are the original's"
    )
    return _Read(source, kind, found, model, note)
