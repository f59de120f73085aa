"""Which checkpoint a published figure is of: what `load` takes for it."""

from __future__ import annotations

from catalogue_readers import UnreadError

from vitsmith.weights.fetch.hub.known_models import known_models
from vitsmith.weights.fetch.published import checkpoints

DINOV2 = {"ViT-S/14": "small", "ViT-B/14": "base", "ViT-L/14": "large", "ViT-g/14": "giant"}
DINOV3 = {"ViT-S/16": "vits16", "ViT-S+/16": "vits16plus", "ViT-B/16": "vitb16", "ViT-L/16": "vitl16"}
DINOV3 |= {"ViT-H+/16": "vith16plus", "ViT-7B/16": "vit7b16"}
OPENAI = {"ViT-B-32": "base-patch32", "ViT-B-16": "base-patch16", "ViT-L-14": "large-patch14"}
OPENAI |= {"ViT-L-14-336": "large-patch14-336"}


def source_of(row: dict[str, str]) -> str:
    """What `load` takes for the checkpoint of a row. Raises UnreadError where it is none of a released file."""
    origin, model, tag = row["source"], row["model"], row["tag"]
    if "pytorch-image-models" in origin:
        return f"hf:timm/{model}.{tag}"
    if "vit_jax_augreg" in origin:
        return next(one.tag for one in checkpoints() if one.stem == tag)
    if "Expected ViT results" in origin:
        raise UnreadError("a run that repeats the fine-tuning; its weights were not released")
    if "changelog" in origin:
        return f"{model.removesuffix('-224')}.imagenet21k+imagenet2012-224"
    if "coco" in model or "NaFlex" in model:
        raise UnreadError("trained on COCO alone, to check code" if "coco" in model else "NaFlex is not read")
    if model.startswith("LiT"):
        return f"{model}.lit"
    if model.startswith("SigLIP2"):
        return f"{model.replace(' ', '-').replace('/', '_').replace('g-opt', 'g')}.webli-{row['resolution']}"
    if "dinov2" in origin:
        return f"hf:facebook/dinov2-{'with-registers-' * tag.endswith('reg4')}{DINOV2[model]}"
    if "dinov3" in origin:
        return f"hf:facebook/dinov3-{DINOV3[model]}-pretrain-lvd1689m"
    return _of_open_clip(model, tag)


def _of_open_clip(model: str, tag: str) -> str:
    from open_clip.pretrained import get_pretrained_cfg

    if tag == "openai":
        return f"hf:openai/clip-vit-{OPENAI[model.removesuffix('-quickgelu')]}"
    name = str(get_pretrained_cfg(model, tag).get("hf_hub", "")).strip("/")
    if not name.startswith("timm/ViT") and tag not in name and name.startswith("timm/") and "metaclip" not in tag:
        raise UnreadError(f"open_clip names hf:{name} for it, the weights of another row")
    if name not in {known.name for known in known_models()}:
        raise UnreadError("its name is not among the models of the hub that were found to be read (known_models.csv)")
    beside = name.startswith("timm/vit_")  # timm's tower may lie beside it
    return f"hf:{name}/open_clip_model.safetensors" if beside else f"hf:{name}"
