"""Files whose arrays have several answers: the caller's choice of GELU, pooling and rotary periods, in whatever format.

What a reader finds is the answer of those who publish the file; this changes it afterwards, for all readers alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from vitsmith.errors import ConfigError, InputError
from vitsmith.models.config import ImageModelConfig, LiTConfig, MixerConfig, ViTConfig
from vitsmith.models.configure import change
from vitsmith.models.parts import Gelu
from vitsmith.models.text_config import TextTransformerConfig
from vitsmith.specs import ImageSpec
from vitsmith.weights.conversion import Conversion
from vitsmith.weights.options import LoadOptions, Periods

Told = list[str]


def as_chosen(found: Conversion, options: LoadOptions, source: str) -> Conversion:
    """What the reader of `source` found, with the answer that the caller chose, and notes on what that changed.

    Raises InputError for a choice that the model does not have.
    """
    config, told = found.config, Told()
    if options.preprocessing is not None:
        own = options.preprocessing if isinstance(options.preprocessing, ImageSpec) else None
        if not (found.missing or found.images_refused) and own is None:
            raise InputError(f"{source}: leave out preprocessing={options.preprocessing!r}: nothing is missing")
        notes = found.notes if own is None else _without_usual(found)
        found = replace(found, missing="", images_refused="", images=own or found.images, notes=notes)
    try:
        if options.gelu is not None:
            config = _with_gelu(config, options.gelu, told)
        if options.pooling is not None:
            config = _in_image_tower(config, lambda tower: _pooled(tower, options, told))
        if options.periods is not None:
            config = _in_image_tower(config, lambda tower: _with_periods(tower, options.periods, told))
    except ConfigError as error:
        raise InputError(f"{source}: {error}") from None
    notes = tuple(note for note in found.notes if not _is_answered(note, options))
    return replace(found, config=config, notes=notes, choices=tuple(told)) if told else found


def _without_usual(found: Conversion) -> tuple[str, ...]:
    """The notes without that on what is usual: the caller's own preprocessing is used."""
    why = found.images_refused or found.missing
    return tuple(note for note in found.notes if not why or why not in note)


def _is_answered(note: str, options: LoadOptions) -> bool:
    """Whether a note offers an option that the caller gave: what it says of the publisher is no longer so."""
    return any(getattr(options, what) is not None and f"{what}='" in note for what in ("gelu", "pooling", "periods"))


def _in_image_tower(config: Any, changed: Callable[[ImageModelConfig], ImageModelConfig]) -> Any:
    """`config` with its image tower changed, or all of it where there is one tower."""
    if not isinstance(config, LiTConfig):
        return changed(config)
    return change(config, image=changed(config.image).model_dump())


def _with_gelu(config: Any, gelu: Gelu, told: Told) -> Any:
    """Both towers: CLIP's and SigLIP's were trained with one form. A text tower of BERT's kind keeps its own."""
    towers = {"": config}
    if isinstance(config, LiTConfig):
        towers = {"image": config.image, "text": config.text}
        if not isinstance(config.text, TextTransformerConfig):
            del towers["text"]
    for name, tower in towers.items():
        if isinstance(tower, ViTConfig) and tower.block.gated and not tower.attention_pool:
            raise ConfigError(f"gelu={gelu!r}: the MLPs of its blocks have a gate with SiLU, and no GELU")
        if tower.gelu != gelu:
            told.append(f"GELU {gelu}{name and f' of the {name} tower'} as asked for, not {tower.gelu}")
            changed = change(tower, gelu=gelu) if name != "text" else tower.model_copy(update={"gelu": gelu})
            config = change(config, **{name: changed.model_dump()}) if name else changed
    return config


def _pooled(tower: ImageModelConfig, options: LoadOptions, told: Told) -> ImageModelConfig:
    pooling = options.pooling
    if isinstance(tower, MixerConfig):
        raise ConfigError(f"pooling={pooling!r}: a Mixer takes the mean of its patches, and nothing else")
    if tower.pooling == pooling:
        return tower
    if "attention" in (pooling, tower.pooling):
        has = "is that of its file" if tower.attention_pool else "needs arrays that its file does not have"
        raise ConfigError(f"pooling={pooling!r}: pooling by attention {has}")
    # Each token is normed by itself, so the class token is the same with the norm before pooling.
    changed: ViTConfig = change(tower, pooling=pooling, class_token=tower.class_token, norm_after_pooling=False)
    has_head = tower.representation or (tower.classes and not options.headless)
    if has_head and changed.pooled_width != tower.pooled_width:
        raise ConfigError(
            f"pooling={pooling!r} gives {changed.pooled_width} numbers, and the head takes {tower.pooled_width}: "
            "only the features, with headless=True, can be pooled so"
        )
    told.append(f"pooling {pooling!r} as asked for, not {tower.pooling!r}")
    return changed


def _with_periods(tower: ImageModelConfig, periods: Periods | None, told: Told) -> ImageModelConfig:
    rotary = tower.position_embedding.rotary if isinstance(tower, ViTConfig) else None
    if rotary is None or rotary.places != "centred":
        raise ConfigError(f"periods={periods!r}: only the rotary positions of DINOv3 have periods of two roundings")
    if rotary.bfloat16 == (periods == "bfloat16"):
        return tower
    told.append(f"rotary periods in {periods} as asked for")
    assert isinstance(tower, ViTConfig)
    turned = rotary.model_copy(update={"bfloat16": periods == "bfloat16"})
    return tower.model_copy(
        update={"position_embedding": tower.position_embedding.model_copy(update={"rotary": turned})}
    )
