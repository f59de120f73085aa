"""Reads ViTs of Hugging Face's transformers, with the JSON files beside them."""

from __future__ import annotations

from vitsmith.errors import WeightsError
from vitsmith.models.configure import change
from vitsmith.weights.conversion import Conversion
from vitsmith.weights.fill import ArrayFile
from vitsmith.weights.hf.config import infer_hf_config
from vitsmith.weights.hf.images import HFPreprocessor, hf_images, hf_notes
from vitsmith.weights.hf.metadata import HFConfig, hf_head, hf_labels, unsaid
from vitsmith.weights.hf.names import PATCHES, hf_slots, naming_of, prefix_of
from vitsmith.weights.metadata import architecture_mistakes, check_count, json_mistakes, read_metadata
from vitsmith.weights.options import LoadOptions

CLASSIFIER = ("classifier.weight", "classifier.bias")


def recognises(file: ArrayFile) -> bool:
    """Whether it has the patch embedding of a ViTModel, alone or within another model."""
    return any(name.endswith(PATCHES) for name in file.shapes)


def read(file: ArrayFile, options: LoadOptions) -> Conversion:
    """The model that `config.json` describes, which must be there, with the preprocessing of a ViTImageProcessor.

    Raises WeightsError.
    """
    source = str(file.path)
    metadata = read_metadata(file.path.with_name("config.json"), HFConfig)
    if metadata is None:
        raise WeightsError(
            f"{source}: an HF model needs its config.json beside it: heads, GELU and LayerNorm eps are only there"
        )
    preprocessor = read_metadata(file.path.with_name("preprocessor_config.json"), HFPreprocessor)
    with architecture_mistakes(source):
        config = infer_hf_config(file, metadata)
        if options.image_size is not None:
            config = change(config, image_size=options.image_size)
    names, answers = set(file.shapes), config.classes and not options.headless
    with json_mistakes(source):
        images = hf_images(preprocessor, config.image_size, source)
        labels = hf_labels(metadata, source) if answers else None
    check_count(labels, config.classes, source)
    head, told = hf_head(metadata, config.classes, source) if answers else (None, ())
    return Conversion(
        config=config,
        slots=hf_slots(config, naming_of(names), prefix_of(names)),
        classifier=CLASSIFIER,
        images=images,
        labels=labels,
        head=head,
        notes=(*unsaid(metadata), *hf_notes(preprocessor, config.image_size), *told),
    )
