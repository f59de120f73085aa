"""A command line for each verb, at the end of its help."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[str, ...]] = {
    "": ("vitsmith train pets --model augreg:B_16", "vitsmith predict runs/train/pets-B_16 cat.jpg"),
    "quickstart": ("vitsmith quickstart",),
    "models": ("vitsmith models ViT-B_16",),
    "calibrate": ("vitsmith calibrate", "vitsmith calibrate --engine onnx --out pi.json"),
    "recommend": (
        "vitsmith recommend --latency 30ms --size 50MB",
        "vitsmith recommend --scenario edge --machine pi.json",
    ),
    "inspect": ("vitsmith inspect runs/train/pets-B_16",),
    "train": (
        "vitsmith train pets --model augreg:B_16 --steps 500",
        "vitsmith train --resume runs/train/pets-B_16",
    ),
    "probe": (
        "vitsmith probe pets --model hf:facebook/dinov2-base",
        "vitsmith probe pets --model augreg:B_16 --model runs/train/pets-B_16",
    ),
    "distill": ("vitsmith distill pets --teacher runs/train/pets-B_16 --arch ViT-Ti_16",),
    "lit": ("vitsmith lit captions.csv --model augreg:B_16",),
    "evaluate": ("vitsmith evaluate runs/train/pets-B_16 --data pets",),
    "predict": ("vitsmith predict runs/train/pets-B_16 cat.jpg photos/ --top 3",),
    "zeroshot": ("vitsmith zeroshot LiT-B16B_2.lit photos/ --labels 'cat, red panda'",),
    "embed": ("vitsmith embed runs/train/pets-B_16 photos/ --out photos-index",),
    "retrieve": (
        "vitsmith retrieve 'a red panda' --index photos-index",
        "vitsmith retrieve --images cat.jpg --index photos-index",
    ),
    "duplicates": (
        "vitsmith duplicates photos-index",
        "vitsmith duplicates photos/ backup/",
    ),
    "cluster": ("vitsmith cluster photos-index --sheet clusters.html",),
    "export": (
        "vitsmith export runs/train/pets-B_16 --to onnx --data pets",
        "vitsmith export runs/train/pets-B_16 --to openvino --add",
    ),
    "quantize": ("vitsmith quantize runs/train/pets-B_16 --data pets",),
    "merge-tokens": ("vitsmith merge-tokens runs/train/pets-B_16 --data pets --keep 0.7",),
    "prune": ("vitsmith prune runs/train/pets-B_16 --data pets --keep 0.6",),
    "compress": ("vitsmith compress runs/train/pets-B_16 --data pets --latency 20ms",),
    "benchmark": ("vitsmith benchmark runs/train/pets-B_16 --engine onnx --batch-size 8",),
}
"""A verb -> its examples; '' is `vitsmith` itself."""


def epilog(verb: str = "") -> str:
    """The examples of a verb, a line each."""
    return "\n\n".join(["For example:", *EXAMPLES[verb]])
