"""`open_clip_config.json`: the fields of its `model_cfg`, and what there may be that is not read.

Fields and defaults are those of open_clip 3.3: CLIPVisionCfg and CLIPTextCfg in model.py, TimmModel in timm_model.py. A
field that open_clip does not have is refused, as open_clip does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from vitsmith.errors import WeightsError
from vitsmith.fields import Finite, Pixels
from vitsmith.json_text import read_json
from vitsmith.models.parts import Depth, Eps, Gelu, Length, Pieces, Width
from vitsmith.text_spec import Token
from vitsmith.weights.fetch.hub.other_kinds import other_model
from vitsmith.weights.metadata import Metadata, read_metadata
from vitsmith.weights.open_clip.images import OpenClipPreprocessing

CONFIG = "open_clip_config.json"

Ratio = Annotated[Finite, Field(gt=0, le=1_024)]
Size = Pixels | tuple[Pixels, Pixels]
Ignored = Any
"""The type of a field that no answer depends on: it is for training, or for what is never read."""


class _Cfg(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)


class ActKwargs(_Cfg):
    """Arguments of torch's GELU."""

    approximate: Literal["none", "tanh"] = "none"


class NormKwargs(_Cfg):
    """Arguments of torch's LayerNorm."""

    eps: Eps = 1e-5


class TokenizerKwargs(_Cfg):
    """Arguments of open_clip's SimpleTokenizer and HFTokenizer."""

    clean: Literal["lower", "whitespace", "canonicalize"] | None = None
    strip_sep_token: bool = False
    reduction_mask: Literal[""] = ""
    """The others leave out words by chance, for training."""


class TowerCfg(_Cfg):
    """The fields that both towers have."""

    mlp_ratio: Ratio = 4.0
    ls_init_value: Finite | None = None
    act_kwargs: ActKwargs | None = None
    norm_kwargs: NormKwargs = NormKwargs()
    block_type: Literal["default", "custom"] | None = None
    """With the fields below as they are usually, both have the same arithmetic and names."""
    qk_norm: bool = False
    scaled_cosine_attn: bool = False
    scale_heads: bool = False
    scale_attn_inner: bool = False
    scale_attn: bool = False
    scale_fc: bool = False
    output_tokens: Ignored = False

    def gelu(self, quick: bool) -> Gelu:
        """The form of GELU; `act_kwargs` are not for the quick one (`check` refuses both together)."""
        if quick:
            return "quick"
        return "tanh" if self.act_kwargs and self.act_kwargs.approximate == "tanh" else "erf"


class VisionCfg(TowerCfg):
    """The image tower: open_clip's own, or one of timm, of which only the fields below `timm_model_name` speak."""

    layers: Depth = 12
    width: Width = 768
    head_width: Width = 64
    patch_size: Size = 16
    image_size: Size = 224
    patch_dropout: Ignored = 0.0
    attentional_pool: bool | str = False
    attn_pooler_queries: Ignored = 256
    attn_pooler_heads: Ignored = 8
    no_ln_pre: bool = False
    pos_embed_type: Ignored = "learnable"
    """The others are stored like learned ones."""
    final_ln_after_pool: bool = False
    pool_type: Literal["tok", "avg"] = "tok"

    timm_model_name: str | None = None
    timm_model_pretrained: Ignored = False
    timm_pool: str | None = "avg"
    timm_proj: Literal["linear", "none", ""] | None = "linear"
    """'linear': a layer behind timm's model; 'none': nothing; neither: the head of timm's model."""
    timm_proj_bias: bool = False
    timm_drop: Ignored = 0.0
    timm_drop_path: Ignored = None


class TextCfg(TowerCfg):
    """The text tower, and its tokenizer."""

    context_length: Length = 77
    vocab_size: Pieces = 49408
    width: Width = 512
    heads: Width = 8
    layers: Depth = 12
    embed_cls: bool = False
    pad_id: Ignored = 0
    """For the mask of `embed_cls`."""
    eos_id: Token = 2
    no_causal_mask: bool = False
    final_ln_after_pool: Ignored = False
    pool_type: Literal["last", "argmax", "eos"] = "argmax"
    proj_type: Literal["linear", "none"] = "linear"
    proj_bias: bool = False

    hf_tokenizer_name: str | None = None
    tokenizer_mode: str | None = None
    tokenizer_kwargs: TokenizerKwargs = TokenizerKwargs()
    hf_model_name: None = None
    hf_model_pretrained: Ignored = True
    hf_proj_type: Ignored = "mlp"
    hf_pooler_type: Ignored = "mean_pooler"


class ModelCfg(_Cfg):
    """Both towers."""

    embed_dim: Width
    vision_cfg: VisionCfg
    text_cfg: TextCfg
    quick_gelu: bool = False
    """For both towers, but not for one of timm."""
    custom_text: Ignored = False
    """The names of the arrays show it."""
    init_logit_scale: Ignored = None
    init_logit_bias: Finite | None = None
    nonscalar_logit_scale: Ignored = False


class OpenClipConfig(Metadata):
    """What open_clip's `push_to_hf_hub` writes."""

    model_cfg: ModelCfg
    preprocess_cfg: OpenClipPreprocessing = OpenClipPreprocessing()


_REFUSED = (
    *("qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc"),
    *("attentional_pool", "embed_cls", "tokenizer_mode"),
)
"""Fields that change the arithmetic in ways that our towers do not have."""


def read_open_clip_config(weights: Path) -> OpenClipConfig:
    """The description beside a file of weights. Raises WeightsError where it is missing, wrong, or of another model."""
    path = weights.with_name(CONFIG)
    try:
        found = read_json(path, error=WeightsError)
    except FileNotFoundError:
        raise WeightsError(
            f"{weights}: arrays as open_clip names them need their {CONFIG} beside them: the form of GELU, heads and "
            "preprocessing are only there"
        ) from None
    if isinstance(found, dict) and (told := other_model(found)):
        raise WeightsError(f"{path.parent} is {told}: vitsmith reads models of two plain transformers")
    config = read_metadata(path, OpenClipConfig)
    assert config is not None
    _check(config.model_cfg, path)
    return config


def _check(model: ModelCfg, path: Path) -> None:
    """Raises WeightsError for fields whose arithmetic our towers do not have, naming them."""
    towers: dict[str, TowerCfg] = {"vision_cfg": model.vision_cfg, "text_cfg": model.text_cfg}
    told = [
        f"{where}.{name} {getattr(tower, name)!r}"
        for where, tower in towers.items()
        for name in _REFUSED
        if getattr(tower, name, None)
    ]
    told += ["text_cfg.ls_init_value (LayerScale in a text tower)"] * (model.text_cfg.ls_init_value is not None)
    told += [
        f"{where}.act_kwargs with quick_gelu" for where, one in towers.items() if model.quick_gelu and one.act_kwargs
    ]
    if told:
        raise WeightsError(f"{path}: {', '.join(told)}: not supported")
