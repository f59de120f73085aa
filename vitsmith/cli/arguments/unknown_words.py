"""Refuses old words of ours and words of other tools, and names what to type instead."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

from vitsmith.errors import shown

RENAMED: dict[str, tuple[str, ...]] = {
    "--batch": ("--batch-size", "--fixed-batch"),
    "--ratio": ("--keep: the share of the FLOPs that is left, so --ratio 2 is --keep 0.5",),
    "--image": ("--images", "--model"),
    "--init": ("--model",),
    "--text": ("--text-model",),
    "--labels": ("--labels-file",),
    "--judges": ("--limit",),
    "--most": ("--limit",),
    "--strict": ("--skip-unreadable 0",),
    "--texts": ("--texts-file",),
}
"""Old option -> options of now, of which the first that the verb has is named."""
VERBS_RENAMED = {"merge": "merge-tokens"}
"""Old verb -> verb of now."""
VERBS_ELSEWHERE = {
    "evaluate": ("val", "validate", "test", "eval", "score"),
    "inspect": ("info", "show", "describe", "summary"),
    "benchmark": ("bench", "profile"),
    "predict": ("classify", "infer", "inference", "detect", "segment", "pose", "obb", "track", "run"),
    "train": ("fit", "finetune", "fine-tune", "tune"),
    "export": ("convert", "onnx"),
    "models": ("list", "zoo"),
    "retrieve": ("search", "query"),
    "embed": ("encode", "features"),
    "merge-tokens": ("tome",),
}
"""Our verb -> what other tools call it."""
SAME = {
    "--batch-size": ("--bs", "-b", "--batchsize"),
    "--fixed-batch": ("--batch-size", "--batchsize", "--static-batch"),
    "--image-size": ("--img-size", "--imgsz", "--img", "--input-size", "--resolution", "--crop-size"),
    "--lr": ("--learning-rate", "--lr0", "--base-lr", "--blr"),
    "--steps": ("--iterations", "--iters", "--max-steps", "--num-steps"),
    "--data": ("--dataset", "--data-dir", "--data-path", "--train-dir", "--source", "--root"),
    "--model": ("--weights", "--pretrained", "--checkpoint", "--finetune", "--initial-checkpoint", "--ckpt"),
    "--arch": ("--architecture", "--model-name"),
    "--out": ("--output", "--output-dir", "--out-dir", "--save-dir", "--project", "--results-file", "-o"),
    "--force": ("--overwrite", "--exist-ok", "-f"),
    "--to": ("--format", "--target"),
    "--json": ("--format", "--save-json", "--output-format"),
    "--limit": ("--max-samples", "--max-images", "--num-samples"),
    "--top": ("--topk", "--top-k", "-k"),
    "--labels-file": ("--label-file", "--class-map", "--labels-path"),
    "--labels": ("--classes", "--class-names", "--names"),
    "--set schedule.epochs=10": ("--epochs", "--num-epochs", "-e"),
    "--set schedule.warmup_epochs=1": ("--warmup-epochs",),
    "--set optimizer.name=adamw": ("--opt", "--optimizer"),
    "--set optimizer.weight_decay=0.05": ("--weight-decay", "--wd"),
    "--set optimizer.layer_decay=0.75": ("--layer-decay",),
    "--set optimizer.clip=1.0": ("--clip-grad", "--max-grad-norm"),
    "--set optimizer.ema=0.9999": ("--model-ema", "--model-ema-decay", "--ema"),
    "--set loss.smoothing=0.1": ("--smoothing", "--label-smoothing"),
    "--set augment.mixup=0.2": ("--mixup",),
    "--set augment.grade=medium1": ("--aa", "--auto-augment"),
    "--set run.workers=4": ("--workers", "--num-workers", "-j"),
    "--set run.precision=bf16": ("--amp", "--bf16", "--fp16", "--half"),
}
"""Our option -> the options of other tools. Only options that the verb has are named."""
_HALF = ("--half", "--fp16", "--amp")
_EPOCHS = ("--epochs", "--num-epochs")
_PRECISION_HERE = (
    "torch weights run with --precision bf16; a program runs in the precision that it was exported in, as by  "
    "vitsmith export --precision fp16"
)
ABSENT: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("--label-column",), "--drop-others", "labels are not read here, and a table needs none: leave it out"),
    (_HALF, "--fixed-batch", "write --precision fp16"),
    ((*_HALF, "--bf16"), "--precision", _PRECISION_HERE),
    (_HALF, "", "vitsmith export --precision fp16  makes a program in half precision"),
    (
        ("--conf", "--conf-thres"),
        "--top",
        "there is no threshold: --top N shows the N best answers, each with its score",
    ),
    (("--conf", "--conf-thres"), "", "there is no threshold: no answer is left out for its score"),
    (_EPOCHS, "--steps", "--steps says how many updates there are, and 0 means none"),
    (_EPOCHS, "", "nothing is trained here; for training write  vitsmith train DATA --set schedule.epochs=10"),
)
"""Options of other tools and of older versions, an option that the verb must have ('': any verb), and the message; the
first that fits."""
_SWITCHES = ("--json", "--csv")
CLOSE = 0.75
"""The least similarity (`difflib`) of an option to what was typed, to be suggested."""
PLACES = {
    "model": ("--model", *SAME["--model"]),
    "models": ("--model", "--models", *SAME["--model"]),
    "images": ("--images", "--image", "--input", "--source"),
    "inputs": ("--images", "--image", "--input", "--source"),
}
"""Our argument without an option -> the options that other tools have for it."""
DEVICES = ("--device", "--devices", "--gpu", "--gpus", "--cuda", "--cpu")


def explain(error: Any, arguments: Sequence[str] = ()) -> str:
    """The message of a usage error, with what to type in place of another tool's option; `arguments` were typed."""
    command = getattr(getattr(error, "ctx", None), "command", None)
    options = {opt for param in getattr(command, "params", ()) for opt in getattr(param, "opts", ())}
    given = getattr(error, "option_name", "")
    if possible := getattr(error, "possibilities", None):
        error.possibilities = get_close_matches(given, possible, cutoff=CLOSE)
    message = str(error.format_message()).replace("Value error, ", "")
    if verb := re.match(r"No such command '(.*?)'", message):
        return _explain_verb(verb[1], message)
    if given in DEVICES:
        return (
            f"No such option: {given}: torch uses a GPU when it sees one; CUDA_VISIBLE_DEVICES sets which it sees, "
            "and none when it is empty"
        )
    for now in RENAMED.get(given, ()):
        if now.split()[0].rstrip(":") in options:
            return f"{given} is now {now}"
    for name, others in PLACES.items():
        if given in others and name in options:
            return f"No such option: {given}: give {name.upper()} after the verb, without an option"
    for ours, others in SAME.items():
        if given in others and ours.split()[0] in options:
            meant = _with_value(ours, _value_of(given, arguments), options)
            return f"No such option: {given}. Did you mean '{meant}'?"
    if told := _absent(given, options):
        return f"No such option: {given}: {told}"
    if re.search(r"(less than or equal to |0<=x<=)(1|0\.999)\.?$", message):
        return f"{message.removesuffix('.')}: it is a share, so 50 % is 0.5"
    if message == "Missing option '--data'." and "model" in options:
        verb = error.ctx.info_name
        return f"{verb} needs --data:  vitsmith {verb} MODEL --data DATA"
    if message.startswith("Got unexpected extra argument") and options >= {"--data"} and "data" not in options:
        return f"{message}: data are given with --data"
    return message


def explain_pair(given: str, options: set[str]) -> str:
    """What to type in place of 'imgsz=224', as Ultralytics writes options; '' for anything that is no such pair."""
    pair = re.fullmatch(r"([a-z][a-z0-9_]*)=(.*)", given, re.DOTALL)
    if pair is None or os.path.lexists(given):
        return ""
    option = f"--{pair[1].replace('_', '-')}"
    told = f"{shown(given)} is not how options are written here"
    if option in options:
        return f"{told}: write  {option} {pair[2]}"
    for name, others in PLACES.items():
        if name in options and (option == f"--{name}" or option in others):
            return f"{told}: write  {pair[2]}  by itself"
    for ours, others in (*RENAMED.items(), *SAME.items()):
        words = (ours, *others)
        if option in words and (known := next((word for word in words if word.split()[0].rstrip(":") in options), "")):
            meant = _with_value(known, pair[2], options)
            plain = meant == known and not (set("=:") & set(known)) and known not in _SWITCHES
            return f"{told}: write  {f'{known} {pair[2]}' if plain else meant}"
    if why := _absent(option, options):
        return f"{told}: {why}"
    known_elsewhere = any(option in (ours, *others) for ours, others in (*RENAMED.items(), *SAME.items()))
    return told if known_elsewhere or option in ("--task", "--mode", *DEVICES) else ""


def _value_of(option: str, arguments: Sequence[str]) -> str:
    """What was typed as the value of an option, behind it or behind '='; '' for none."""
    for at, word in enumerate(arguments):
        name, _, value = word.partition("=")
        if name == option:
            return value or "".join(arguments[at + 1 : at + 2])
    return ""


def _with_value(ours: str, value: str, options: Iterable[str]) -> str:
    """Our option with the user's own number in place of the one in the example; `--csv` for a format of that name."""
    if ours in _SWITCHES and f"--{value}" in {*options} & {*_SWITCHES}:
        return f"--{value}"
    example = re.fullmatch(r"(.+=)[\d.]+", ours)
    return example[1] + value if example and re.fullmatch(r"\d*\.?\d+", value) else ours


def explain_percent(value: float) -> str:
    """How a share is written, for a value that is one in percent; '' for any other."""
    return f"a share is at most 1, so {value:g} % is {value / 100:g}" if 2 <= value <= 100 else ""


def _absent(given: str, options: Iterable[str]) -> str:
    """The message of ABSENT for another tool's option in a verb with these options; '' for none."""
    return next((told for others, has, told in ABSENT if given in others and (not has or has in options)), "")


def _explain_verb(given: str, message: str) -> str:
    if given in VERBS_RENAMED:
        return f"vitsmith {given} is now  vitsmith {VERBS_RENAMED[given]}"
    for ours, others in VERBS_ELSEWHERE.items():
        if given.lower() in others:
            return f"No such command '{given}'. Did you mean  vitsmith {ours} ?"
    if "=" in given:
        return f"{message} A verb comes first, as in  vitsmith train pets --model augreg:B_16"
    return message
