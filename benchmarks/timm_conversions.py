"""Which of Google's files are on the hub as timm's conversions, and are those arrays the same to the bit?

    pip install timm
    python benchmarks/timm_conversions.py --write                        # weights/fetch/hub/google_copies.csv
    python benchmarks/timm_conversions.py [--out benchmarks/results/FILE.md]

A conversion counts if the origin that timm records, `url` of its pretrained configurations, is an `.npz` of the buckets
of google-research/vision_transformer. For each architecture concerned an `.npz` is filled by tests/reference/fill.py,
read by timm's own `load_pretrained`, saved as timm saves it, and read by vitsmith as the hub's copy is read where the
bucket refuses. Compared is every parameter, bit by bit, with what vitsmith reads from the `.npz` itself. Mixers, for
which timm has no `.npz` loader, are renamed with NumPy.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import tempfile
from pathlib import Path

import torch
from timm_reads_our_npz import mixer_state, stand_in_for_torchvision
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.reference import fill
from vitsmith.machine import describe_machine
from vitsmith.models.build import build
from vitsmith.models.configure import configure
from vitsmith.weights.checkpoint import load_checkpoint
from vitsmith.weights.containers.npz import write_npz
from vitsmith.weights.jax.names import jax_slots
from vitsmith.weights.options import LoadOptions
from vitsmith.weights.published_bundle import as_original

TABLE = Path(__file__).resolve().parents[1] / "vitsmith/weights/fetch/hub/google_copies.csv"
BUCKETS = "https://storage.googleapis.com/vit_models/"

# Ours, timm's. The Mixers and R50+ViT-B_16 have no recorded origin; their arrays lie in the same way.
ARCHITECTURES = {
    "ViT-Ti_16": "vit_tiny_patch16_224",
    "ViT-S_16": "vit_small_patch16_224",
    "ViT-S_32": "vit_small_patch32_224",
    "ViT-B_8": "vit_base_patch8_224",
    "ViT-B_16": "vit_base_patch16_224",
    "ViT-B_32": "vit_base_patch32_224",
    "ViT-L_16": "vit_large_patch16_224",
    "R+ViT-Ti_16": "vit_tiny_r_s16_p8_224",
    "R26+ViT-S_32": "vit_small_r26_s32_224",
    "R50+ViT-B_16": "vit_base_r50_s16_224",
    "R50+ViT-L_32": "vit_large_r50_s32_224",
    "Mixer-B_16": "mixer_b16_224",
    "Mixer-L_16": "mixer_l16_224",
}


def recorded_origins() -> list[tuple[str, str]]:
    """(address of the file, name on the hub) of all conversions, in timm's order."""
    from timm.models._registry import _model_pretrained_cfgs

    tags = {name: one for name, one in _model_pretrained_cfgs.items() if "." in name and one.hf_hub_id}
    return [(one.url, f"timm/{name}") for name, one in tags.items() if str(one.url).startswith(BUCKETS)]


def differing(name: str, timm_name: str, folder: Path) -> tuple[int, int]:
    """Numbers of parameters, and of those that differ in a bit."""
    import timm

    config = configure(name)
    slots, skeleton = jax_slots(config), build(config, device="meta")
    shapes = {
        theirs: slot.foreign_shape(tuple(skeleton.get_parameter(slot.parameter).shape))
        for theirs, slot in slots.items()
    }
    npz = folder / "original.npz"
    write_npz(npz, ((theirs, torch.from_numpy(fill.weight(theirs, shape))) for theirs, shape in shapes.items()))
    saved_by_timm(timm.create_model(timm_name, num_classes=config.classes), npz, folder)
    (folder / "config.json").write_text(json.dumps(timm_config(timm_name, config.classes)))
    read, converted = load_checkpoint(npz, LoadOptions()), load_checkpoint(folder / "model.safetensors", LoadOptions())
    assert as_original(converted.config) == read.config, (converted.config, read.config)
    theirs = dict(converted.model.named_parameters())
    pairs = [(one, theirs.pop(ours)) for ours, one in read.model.named_parameters()]
    assert not theirs
    return len(pairs), sum(not torch.equal(one.view(torch.int32), other.view(torch.int32)) for one, other in pairs)


def saved_by_timm(model: nn.Module, npz: Path, folder: Path) -> None:
    from safetensors.torch import save_model

    with torch.no_grad():
        if hasattr(model, "load_pretrained"):
            model.load_pretrained(str(npz))
        else:
            model.load_state_dict(mixer_state(npz))
    save_model(model, str(folder / "model.safetensors"))


def timm_config(name: str, classes: int) -> dict[str, object]:
    return {"architecture": name, "num_classes": classes, "pretrained_cfg": {"input_size": [3, 224, 224]}}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("names", nargs="*", default=[*ARCHITECTURES])
    options = parser.parse_args()
    stand_in_for_torchvision()
    import timm

    table = "\n".join(["url,name", *(f"{url},{name}" for url, name in recorded_origins())]) + "\n"
    if options.write:
        TABLE.write_text(table)
        return
    same = "is" if TABLE.read_text() == table else "IS NOT"
    lines = [
        f"# timm's conversions of Google's files, {datetime.date.today().isoformat()}",
        "",
        f"timm {timm.__version__}, torch {torch.__version__}; {describe_machine()}",
        "",
        f"`google_copies.csv` {same} what this timm records: {table.count(BUCKETS)} files.",
        "",
        "| architecture | timm's | parameters | that differ in a bit |",
        "|---|---|---|---|",
    ]
    for name in options.names:
        with tempfile.TemporaryDirectory() as folder:
            count, wrong = differing(name, ARCHITECTURES[name], Path(folder))
        lines.append(f"| {name} | {ARCHITECTURES[name]} | {count} | {wrong} |")
        print(lines[-1], flush=True)
    text = "\n".join(lines) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
