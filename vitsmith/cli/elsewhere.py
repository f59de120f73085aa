"""Words that were ours before, and words of other tools: refused, with what says the same here."""

from __future__ import annotations

import re
from typing import Any

RENAMED: dict[str, tuple[str, ...]] = {
    "--batch": ("--batch-size", "--fixed-batch"),
    "--ratio": ("--keep: the share of the FLOPs that is left, so --ratio 2 is --keep 0.5",),
    "--image": ("--images", "--model"),
    "--init": ("--model",),
    "--text": ("--text-model",),
    "--labels": ("--labels-file",),
    "--judges": ("--limit",),
    "--most": ("--limit",),
}
"""What we said before -> what we say now, the first of them that a verb has."""
VERBS_RENAMED = {"merge": "merge-tokens"}
"""The same of verbs."""
SAME = {
    "--batch-size": ("--bs", "-b", "--batchsize"),
    "--fixed-batch": ("--batch-size", "--batchsize", "--static-batch"),
    "--image-size": ("--img-size", "--imgsz", "--input-size", "--resolution"),
    "--lr": ("--learning-rate", "--lr0", "--base-lr"),
    "--steps": ("--iterations", "--iters", "--max-steps"),
    "--data": ("--dataset", "--data-dir", "--data-path", "--train-dir"),
    "--model": ("--weights", "--pretrained", "--checkpoint", "--finetune"),
    "--arch": ("--architecture", "--model-name"),
    "--out": ("--output", "--output-dir", "--out-dir", "--save-dir", "-o"),
    "--force": ("--overwrite", "--exist-ok", "-f"),
    "--to": ("--format", "--target"),
    "--limit": ("--max-samples", "--max-images", "--num-samples"),
    "--top": ("--topk", "--top-k", "-k"),
    "--labels-file": ("--label-file", "--class-map", "--labels-path"),
    "--labels": ("--classes", "--class-names", "--names"),
    "--set schedule.epochs=10": ("--epochs", "--num-epochs"),
    "--set schedule.warmup_epochs=1": ("--warmup-epochs",),
    "--set optimizer.weight_decay=0.05": ("--weight-decay", "--wd"),
    "--set run.workers=4": ("--workers", "--num-workers", "-j"),
    "--set run.precision=bf16": ("--amp", "--bf16", "--fp16", "--half"),
}
"""What is said here -> what others call it. A verb is told only what it has."""
DEVICES = ("--device", "--devices", "--gpu", "--gpus", "--cuda", "--cpu")


def explain(error: Any) -> str:
    """The message of a usage error, with what to say in place of another tool's option."""
    message = str(error.format_message()).replace("Value error, ", "")
    command = getattr(getattr(error, "ctx", None), "command", None)
    options = {opt for param in getattr(command, "params", ()) for opt in getattr(param, "opts", ())}
    given = getattr(error, "option_name", "")
    if not message:
        return "give one of these commands"
    if verb := re.match(r"No such command '(.*?)'", message):
        return _explain_verb(verb[1], message)
    if given in DEVICES:
        return (
            f"No such option: {given}: torch takes a GPU when it sees one; CUDA_VISIBLE_DEVICES says which it sees, "
            "and none when it is empty"
        )
    for now in RENAMED.get(given, ()):
        if now.split()[0].rstrip(":") in options:
            return f"{given} is now {now}"
    for ours, others in SAME.items():
        if given in others and ours.split()[0] in options:
            return f"No such option: {given}. Did you mean '{ours}'?"
    if message.startswith("Got unexpected extra argument") and options >= {"--data"} and "data" not in options:
        return f"{message}: data are given with --data"
    return message


def _explain_verb(given: str, message: str) -> str:
    if given in VERBS_RENAMED:
        return f"vitsmith {given} is now  vitsmith {VERBS_RENAMED[given]}"
    return message
