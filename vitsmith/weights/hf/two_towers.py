"""A model of transformers with two towers, which embeds images and texts: CLIP, MetaCLIP 2, SigLIP."""

from __future__ import annotations

from dataclasses import replace

from vitsmith.errors import WeightsError
from vitsmith.models.config import LiTConfig, ViTConfig
from vitsmith.models.configure import parse_config
from vitsmith.models.text_config import TextTransformerConfig
from vitsmith.weights.conversion import Conversion
from vitsmith.weights.fill import ArrayFile
from vitsmith.weights.hf.image_model import read_image_model
from vitsmith.weights.hf.metadata import unsaid
from vitsmith.weights.hf.model_types import GELUS
from vitsmith.weights.hf.names import SAME, hf_text_slots
from vitsmith.weights.hf.texts import read_texts
from vitsmith.weights.hf.two_tower_types import POSITION_IDS, SCALE, TwoTowerConfig
from vitsmith.weights.layouts import Layout, Scalar, Slot, within
from vitsmith.weights.metadata import architecture_mistakes
from vitsmith.weights.options import LoadOptions

BIAS = "logit_bias"


def read_two_towers(file: ArrayFile, metadata: TwoTowerConfig, options: LoadOptions) -> Conversion:
    """Both towers, with the preprocessing of images and the tokenizer if the folder has them. Raises WeightsError."""
    image = read_image_model(file, metadata.image, options)
    assert isinstance(image.config, ViTConfig)
    with architecture_mistakes(str(file.path)):
        config = _config(file, metadata, image.config)
    assert isinstance(config.text, TextTransformerConfig)
    texts = read_texts(file.path.parent, config.text, metadata.tokenizer_class)
    return replace(
        image,
        config=config,
        slots={
            **dict(within("", "image.", image.slots.items())),
            **dict(within("", "text.", hf_text_slots(config.text, metadata.text_head).items())),
            SCALE: Slot("log_temperature", _number(file, SCALE)),
            **({BIAS: Slot("logit_bias", _number(file, BIAS))} if config.bias else {}),
        },
        classifier=(),
        unused=image.unused | ({f"text_model.{POSITION_IDS}"} & file.shapes.keys()),
        head=None,
        text=texts.spec,
        vocabulary=texts.vocabulary,
        texts_refused=texts.refused,
        notes=(*image.notes, *unsaid(metadata.text_config, "the text_config of config.json"), *texts.notes),
    )


def _config(file: ArrayFile, metadata: TwoTowerConfig, image: ViTConfig) -> LiTConfig:
    text = metadata.text_config
    if text.hidden_act not in GELUS:
        raise WeightsError(
            f"{file.path}: activation {text.hidden_act!r} of its text tower is not supported, known are "
            f"{', '.join(GELUS)}"
        )
    if image.pooling == "unpooled":
        raise WeightsError(f"{file.path}: vision_use_head false leaves images without an embedding to compare")
    config: LiTConfig = parse_config(
        {
            "family": "lit",
            "image": image.model_dump(),
            "text": {
                "kind": "transformer",
                "width": text.hidden_size,
                "depth": text.num_hidden_layers,
                "heads": text.num_attention_heads,
                "mlp_width": text.intermediate_size,
                "vocabulary": text.vocab_size,
                "length": text.max_position_embeddings,
                "gelu": GELUS[text.hidden_act],
                "norm_eps": text.layer_norm_eps,
                **metadata.text,
            },
            "bias": metadata.bias,
        }
    )
    return config


def _number(file: ArrayFile, name: str) -> Layout:
    """CLIP's number has no axes, SigLIP's has one."""
    return Scalar() if file.shapes.get(name) == () else SAME
