"""What typical mistakes are answered with: the exit code and every line of it."""

from __future__ import annotations

import io
import shlex
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np

import vitsmith as vs
from tests.transcripts import Files
from tests.transcripts.calling import Said, call, normalised, surroundings
from tests.transcripts.world import damage, declare, furnish, pretend_program

COMMANDS = """
# verbs

trian
--verzion

# options and values

predict
predict model
predict model photos --tpo 3
predict model photos --top 0
predict model photos --top three
predict model photos --top 1 --top 2
predict model photos --top
predict model photos --labels ''
predict model photos --batch 8
predict model photos --batch-size 1000000
predict model photos --json --csv
predict model photos --image-size big
predict model photos --image-size 32
export model
export model --to tflite
export model --to onnx --precision int4
evaluate model
evaluate model photos
train
train pets
train pets --data colours
evaluate model pets
train --data colours --lr nan
train --data colours --arch mu/16 --set lr=1
train --data colours --arch mu/16 --set optimizer.lr=fast --set model.depht=2
train --data colours --arch mu/16 --recipe finetun
train --resume nowhere
train --resume nowhere --plan
lit --data pairs/pairs.csv
distill --teacher model --data colours
merge model
merge-tokens model --ratio 1.2
merge-tokens model --keep 0.8 --tokens 3
merge-tokens model --keep 1.2
recommend --latency 30
recommend --latency 0ms --memory -5MB --throughput 0
recommend --scenario edgy
recommend --task segment
recommend --scenario browser --latency 30ms
recommend --licence free
recommend --scenario mine.toml
recommend --machine photos
compress model --data colours --latency 20
compress model --data colours --memory 300
compress model --data colours --size 90Mb5
compress model --data colours --most 8
compress model --data many --over speed
retrieve --index nowhere 'a cat'
retrieve --index nowhere --image photos
retrieve --index nowhere 'a cat' --split val
duplicates
duplicates nowhere
duplicates photos --threshold 97
duplicates photos --sheet sheet.pdf
cluster photos
cluster photos --model model --min-size 1
cluster photos --model model --min-size 2 --labels cat,dog
cluster photos --no-names --labels cat,dog
cluster photos --model model --out groups.txt
predict model photos --image-column file

# words of other tools

val model
detect model photos
train data=colours model=model epochs=3
train colours imgsz=64
predict model=model source=photos
predict model --source photos
train --data colours --epochs 3
train --data colours --imgsz 224
train --data colours --weights model
train --data colours --init model
train --data colours --model ViT-B_16
lit --data pairs/pairs.csv --image model
train --data colours --device cuda
train --data colours --workers 4
train --data colours --bs 8
export model --format onnx
export model --to onnx --half
predict model photos --weights model
predict model photos --conf 0.5
predict model photos --epochs 3
evaluate model --dataset colours
embed lit photos -o index

# files, folders and names

predict nowhere photos
predict model nowhere.png
predict model empty
predict model words.txt
predict model words.txt --strict
predict model words.txt --skip-unreadable 0
predict ViT-B_17 photos
predict hf:google photos
predict hf-hub:./model photos
predict vit_bas_patch16_224 photos
inspect run/model/README.md
models B/17
inspect words.txt
inspect empty
inspect nowhere.npz
evaluate model --data nowhere
evaluate model --data empty
evaluate model --data photos
evaluate unnamed --data colours
evaluate model --data many --split test
train --data empty --arch mu/16
embed model --texts texts.txt --out index
embed model --texts-file texts.txt --out index
zeroshot model photos --labels cat,dog
zeroshot lit photos --labels zebra
zeroshot lit photos --labels nowhere.txt
zeroshot lit photos --labels words.txt
zeroshot lit photos --labels cat,dog --templates texts.txt
zeroshot lit photos --labels-file nowhere.txt
zeroshot lit photos
quantize model --data colours --labels cat,dog
export model --to onnx --out taken
embed model photos --out taken
predict lit photos
evaluate lit --data colours --retrieval
benchmark nowhere
quantize onnx-program --data colours

# bundles

inspect damaged
predict damaged photos
predict newer photos
predict older photos
predict strange photos
predict torn photos
predict lacking photos

# engines and packages

predict model photos --engine tensorrt
predict model photos --engine onnx
predict model photos --engine torch --precision int8
[openvino] predict openvino-program photos
[onnxruntime] predict onnx-program photos --engine onnx
[onnxscript] export model --to onnx
[executorch] export model --to executorch
[sklearn] evaluate model --data digits
[datasets] evaluate model --data hf:pets
[huggingface_hub] predict hf:google/vit-base-patch16-224 photos
[tokenizers] zeroshot lit photos --labels cat,dog

# gates

merge-tokens model --images colours --keep 0.83 --min-agreement 0 --min-speedup 99
prune model --data colours --mlp-width 32 --steps 0 --max-drop 100 --min-speedup 99
"""
"""A line each; a package in brackets is not installed."""

CALLS = """
vs.load("nowhere")
vs.load("nowhere.npz")
vs.load("ViT-B_17")
vs.load("damaged")
vs.load(5)
vs.load("model", image_size=0)
vs.save(bundle, "taken")
vs.save(bundle, "written", format="onnx")
vs.create_model("mu/17")
vs.create_model("mu/16", classes=-1)
vs.create_model("mu/16", image_size=20)
vs.create_model("mu/16", depht=3)
vs.init_for_finetune("model", classes=0)
vs.Predictor("nowhere")
vs.Predictor(bundle, "tensorrt")
vs.Predictor(bundle, "onnx")
vs.Predictor(bundle, batch_size=0)
vs.Predictor(bundle, "torch")(["nowhere.png"])
vs.Predictor(bundle, "torch")(["words.txt"])
vs.Predictor(bundle, "torch")(5)
vs.Predictor(bundle, "torch")(np.zeros((4, 4), np.float32))
vs.Predictor(bundle, "torch")(np.zeros((4, 4, 5), np.uint8))
vs.Predictor(bundle, "torch")(b"no image")
vs.Encoder(bundle, "torch").texts(["a cat"])
vs.Encoder("lit", "torch").texts(["zebra"])
vs.Encoder("lit", "torch").texts({"a cat"})
vs.ZeroShotClassifier("lit", [], cache=False)
vs.ZeroShotClassifier("lit", ["cat", "cat"], cache=False)
vs.ZeroShotClassifier(bundle, ["cat"], cache=False)
vs.Labels(names="cat")
vs.ImageSpec(size=(0, 16))
vs.ImageSpec(size=(16, 16), resize="stretch")
vs.laod
"""
"""`bundle` is the bundle in the folder `model`."""


def make() -> Files:
    """One file for command lines, one for Python."""
    with surroundings() as here:
        furnish(here)
        _spoil(here)
        return {"errors/command_line.txt": _command_lines(here), "errors/python.txt": _calls(here)}


def _spoil(here: Path) -> None:
    """Bundles that are none, and a place that is taken."""
    model = here / "model"
    damage(model, here / "damaged", "model.safetensors")
    declare(model, here / "newer", format=99)
    declare(model, here / "older", format=0)
    declare(model, here / "strange", colour="blue")
    declare(model, here / "torn")
    (here / "torn" / "bundle.json").write_text("torn")
    declare(model, here / "lacking")
    (here / "lacking" / "model.safetensors").unlink()
    for program, name in (("onnx", "model.onnx"), ("openvino", "model.xml")):
        pretend_program(vs.load(model), program, here / f"{program}-program" / name)
    vs.save(vs.Bundle.of(vs.load(model).model), here / "unnamed")
    (here / "run").mkdir()
    vs.save(vs.load(model), here / "run" / "model")
    (here / "taken").write_text("something else")


def _command_lines(here: Path) -> str:
    text = ""
    for line in COMMANDS.strip().splitlines():
        if not line or line.startswith("#"):
            text += f"{line}\n"
            continue
        missing, arguments = _missing(shlex.split(line))
        with _without(missing):
            said = call(arguments)
        text += f"$ vitsmith {shlex.join(arguments)}" + (f"    (without {missing})" if missing else "") + "\n"
        text += normalised(_told(said), here) + f"exit {said.code}\n\n"
    return text.replace("\n\n\n", "\n\n")


def _told(said: Said) -> str:
    """What is on standard error; of a gate the last line alone, which is after what was measured."""
    if said.code == 3:
        return said.err.splitlines()[-1] + "\n"
    return said.err if said.code else said.out + said.err


def _calls(here: Path) -> str:
    names = {"vs": vs, "np": np, "bundle": vs.load(here / "model")}
    text = ""
    for line in CALLS.strip().splitlines():
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            try:
                answer = f"gives {type(eval(line, names)).__name__}"
            except Exception as error:
                answer = normalised(f"{type(error).__name__}: {error}", here)
        text += f">>> {line}\n{answer}\n\n"
    return text


def _missing(arguments: list[str]) -> tuple[str, list[str]]:
    first, *rest = arguments
    return (first.strip("[]"), rest) if first.startswith("[") else ("", arguments)


@contextmanager
def _without(package: str) -> Iterator[None]:
    """As if the package were not installed: neither found nor imported."""
    if not package:
        yield
        return
    names = {package} | {name for name in sys.modules if name.partition(".")[0] == package}
    hidden = {name: sys.modules.get(name) for name in names}
    sys.modules.update(dict.fromkeys(names))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name, module in hidden.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
