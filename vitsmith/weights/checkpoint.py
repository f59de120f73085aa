"""A checkpoint of any distribution as a bundle: the file is opened and recognised, its model filled and described."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from vitsmith.models.build import Model
from vitsmith.models.config import LiTConfig
from vitsmith.models.configure import change
from vitsmith.models.presets import check_name
from vitsmith.records import NOT_KNOWN, Provenance, Publication
from vitsmith.version import __version__
from vitsmith.weights.bundle.agreements import with_agreement
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.choices import as_chosen
from vitsmith.weights.containers.divided import DividedFile, by_array
from vitsmith.weights.containers.file_choice import weights_in
from vitsmith.weights.containers.joined import JoinedFiles
from vitsmith.weights.containers.open import Container, misnamed, open_arrays
from vitsmith.weights.conversion import Conversion
from vitsmith.weights.distributions import distribution_of
from vitsmith.weights.fetch.hub.address import HubAddress
from vitsmith.weights.fetch.hub.snapshot import fetch_model
from vitsmith.weights.fill import load_model
from vitsmith.weights.heads import FEATURES, assumed_head, check_head
from vitsmith.weights.options import LoadOptions
from vitsmith.weights.timm.metadata import is_default_license


def load_checkpoint(path: Path, options: LoadOptions) -> Bundle:
    """A bundle of the weights in a file or folder, with the preprocessing and labels they were published with.

    Raises WeightsError for anything missing, unexpected, misshapen, damaged or pickled, for what our models or
    preprocessing cannot do (each named), for a head of zeros, and for labels of another number of classes.
    """
    return _with_agreement(_checkpoint(path, options), path)


def _checkpoint(path: Path, options: LoadOptions) -> Bundle:
    place, beside = weights_in(path) if path.is_dir() else (path, ())
    with open_arrays(place, npz=not path.is_dir()) as file:
        kind, found, model = read_model(file, options)
        head, told = (found.head, ()) if found.head else assumed_head(model, place.name)
        if options.headless is None and not isinstance(model.config, LiTConfig) and not model.config.classes:
            told = (*told, FEATURES)
        notes = (*found.notes, *found.choices, *told, *file.notes, *(beside if path.is_dir() else misnamed(path)))
    return Bundle.of(
        model,
        preprocessing=found.images,
        labels=found.labels,
        head=head,
        text=found.text,
        vocabulary=found.vocabulary,
        provenance=provenance_of(
            str(path),
            kind,
            notes,
            found.publication,
            missing=found.missing,
            images_refused=found.images_refused,
            texts_refused=found.texts_refused,
        ),
    )


def _with_agreement(bundle: Bundle, path: Path) -> Bundle:
    """The bundle with the words of a licence that must be passed on, from beside the weights at `path`."""
    folder = path if path.is_dir() else path.parent
    return replace(bundle, provenance=with_agreement(bundle.provenance, folder))


def load_from_hub(address: HubAddress, options: LoadOptions) -> Bundle:
    """A bundle of a model of the Hugging Face hub, fetched first. Raises as `fetch_model` and `load_checkpoint`."""
    found = fetch_model(address)
    bundle = _checkpoint(found.path, options)
    origin = f"hf:{found.name}"
    stated = "" if is_default_license(found.name, found.license) else found.license
    published = bundle.with_provenance(
        source=str(replace(address, revision=found.commit)),
        origin=origin,
        revision=found.commit,
        license=stated or bundle.provenance.license,
    )
    return _with_agreement(published.noted(*found.notes), found.path)


def read_model(
    file: Container, options: LoadOptions, *, adapt: Callable[[Conversion], Conversion] = lambda found: found
) -> tuple[str, Conversion, Model]:
    """The distribution of a file, what its reader found, and the model with the file's arrays, in eval mode.

    `adapt` changes what was found, to another reading of the same arrays. Raises WeightsError.
    """
    distribution = distribution_of(file)
    found = as_chosen(adapt(distribution.read(file, options)), options, str(file.path))
    if options.name is not None:
        check_name(found.config, options.name, str(file.path))
    config, slots, unused = found.config, found.slots, found.unused
    if options.headless and not isinstance(config, LiTConfig) and found.head != "none":
        config, unused = change(config, classes=0), unused | frozenset(found.classifier)
        slots = {name: slot for name, slot in slots.items() if name not in unused}
    whole = JoinedFiles(file, found.beside) if found.beside else file
    arrays = DividedFile(whole, found.pieces) if found.pieces else whole
    model = load_model(config, by_array(slots, found.pieces), arrays, unused=unused, zeros=found.zeros)
    if not options.headless:
        check_head(model, slots, str(file.path), may_lack=options.headless is None)
    return distribution.kind, found, model


def provenance_of(
    source: str, kind: str, notes: tuple[str, ...], published: Publication = NOT_KNOWN, **lacking: str
) -> Provenance:
    """The provenance of weights that are read today; `lacking` are `missing` and what is refused, where they are."""
    return Provenance(
        source=source,
        kind=kind,
        date=datetime.date.today().isoformat(),
        vitsmith=__version__,
        notes=notes,
        **lacking,
        **published.model_dump(),
    )
