"""What verbs print with `--json`: keys, their order, types, and the values that are the same everywhere."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import vitsmith as vs
from tests.training import small_runs
from tests.training.lit.small_runs import FIELDS as LIT_FIELDS
from tests.transcripts import Files
from tests.transcripts.calling import call, normalised, surroundings
from tests.transcripts.world import furnish
from vitsmith.benchmark.memory import Memory
from vitsmith.compress.search.result import ProgramCost
from vitsmith.compress.search.variants import TorchVariantMaker
from vitsmith.evaluation.evaluation import evaluate
from vitsmith.evaluation.peak_rates import Peak
from vitsmith.training.recipes.digits import digits_recipe
from vitsmith.training.recipes.file import merge, parse_recipe
from vitsmith.training.recipes.recipe import TrainRecipe

SHORT = {"schedule": {"steps": 4, "warmup": 1}}
RECIPE = shlex.join(small_runs.settings(merge(small_runs.FIELDS, SHORT)))
LIT = shlex.join(
    small_runs.settings(merge(LIT_FIELDS, {"data": {"path": "pairs/pairs.csv"}, "image": {"init": "model"}}, SHORT))
)
COMMANDS = f"""
models mu/16
models LiT-B16B_2
recommend --scenario browser
recommend --latency 5ms --machine pi.json
recommend --latency 1ms --size 1KB --machine pi.json
inspect model
inspect lit
inspect model.npz --arrays
evaluate model --data colours --engine torch
evaluate lit --data colours --zeroshot --labels-file words.txt --engine torch
evaluate lit --data pairs/pairs.csv --retrieval --engine torch
predict model photos --top 2 --engine torch
zeroshot lit photos --labels cat,dog --top 2 --engine torch
embed lit photos --out index --engine torch
embed lit --texts-file texts.txt --out captions --engine torch
retrieve 'a cat' dog --index index --top 2 --engine torch
duplicates index photos
cluster index --min-size 2 --labels cat,dog
export model --to npz --out written.npz
export model --to onnx --images photos --out onnx
inspect onnx
merge-tokens model --images colours --keep 0.83 --min-agreement 0 --min-speedup 0
merge-tokens model --images colours --keep 0.83 --min-agreement 0 --min-speedup 99
prune model --data colours --mlp-width 32 --steps 0 --max-drop 100 --min-speedup 0.001
prune model --data colours --mlp-width 32 --steps 0 --max-drop 100 --min-speedup 99
quantize model --data colours --engine onnx --calibration 8 --max-drop 100 --min-speedup 0.001
compress model --data many --over merging --steps 0 --max-drop 100
benchmark model --engine torch --precision fp32 --batch-size 1 --images photos --threads 1 --seconds 0.05
train {RECIPE} --plan
train {RECIPE} --out run
probe colours --model model --shots 1,2 --out probed
distill --teacher model --data colours {RECIPE} --out student
lit {LIT} --out tower
quickstart --out road
"""
"""In this order; each is given `--json`."""

VARYING = {
    "calls": "<int>",
    "nodes": "<int>",
    "fused_attentions": "<int>",
    "correct": "<int>",
    "confusion": "<int>",
    "setting": "<setting>",
    "only_before_right": "<int>",
    "only_after_right": "<int>",
    "machine": "<machine>",
    "counts": "<int>",
    "files": "<label>",
    "memory": "<int>",
    "parts": "<int>",
    "measured": "<int>",
    "free": "<int>",
}
"""Keys whose values depend on the machine, on the version of a library, or on answers -> what stands for them."""
DECIDED = ("config", "requirements")
"""Keys below which numbers are not measured."""
LONGEST = 4
"""Items of a list that are shown when all have the same keys."""


def make() -> Files:
    """A file for each verb, with each of its commands."""
    told: dict[str, list[dict[str, Any]]] = {}
    with surroundings() as here, _quick():
        furnish(here)
        for line in COMMANDS.strip().splitlines():
            arguments = shlex.split(line)
            said = call([*arguments, "--json"])
            assert said.out and "Traceback" not in said.err, f"{line}: {said.err}"
            shown = line if len(line) < 200 else f"{arguments[0]} ..."
            told.setdefault(arguments[0], []).append(
                {"command": f"vitsmith {shown} --json", "exit": said.code, "prints": _documents(said.out, here)}
            )
    return {f"json/{verb}.json": _laid_out(commands) for verb, commands in told.items()}


def _documents(text: str, here: Path) -> Any:
    """The document, or the list of those that are a line each."""
    try:
        return _kept(json.loads(text), here)
    except json.JSONDecodeError:
        return [_kept(json.loads(line), here) for line in text.splitlines()]


def _kept(value: Any, here: Path, within: tuple[str, ...] = ()) -> Any:
    """The value, with a placeholder in the place of what varies. `within` are the keys on the way to it."""
    if isinstance(value, dict):
        return {name: _kept(one, here, (*within, name)) for name, one in value.items()}
    if isinstance(value, list):
        alike = len({tuple(one) if isinstance(one, dict) else type(one) for one in value}) == 1
        long = len(value) > LONGEST and alike and not isinstance(value[0], str)
        items = [_kept(one, here, within) for one in (value[:1] if long else value)]
        return [*items, f"<{len(value)} in all>"] if long else items
    for key in within[-2:]:
        if key in VARYING and value is not None:
            return VARYING[key]
    if isinstance(value, float) and not set(within) & set(DECIDED):
        return "<float>"
    return normalised(value, here) if isinstance(value, str) else value


def _laid_out(commands: list[dict[str, Any]]) -> str:
    """As JSON, with lists of a few short items on one line."""
    text = json.dumps(commands, indent=2, ensure_ascii=False)
    return re.sub(r"\[([^][{}]{,80})\]", lambda match: f"[{' '.join(match[1].split())}]", text) + "\n"


class _QuickVariantMaker(TorchVariantMaker):
    """Programs are bundles of torch weights, and fewer tokens take less time."""

    def compile(self, bundle: Any, precision: str, folder: Path, choosing: Any) -> Any:
        return vs.save(bundle, folder)

    def measure(self, bundle: Any) -> ProgramCost:
        return ProgramCost("torch", 10.0 - sum(bundle.config.merge), 12.0, 100.0, 1.0)


def _short_recipe(seed: int) -> TrainRecipe:
    changes = {"schedule": {"steps": 2, "warmup": 1}, "batch": {"size": 8}, "run": {"baseline": False}}
    return parse_recipe(merge(digits_recipe(seed).model_dump(exclude_unset=True), changes))


@contextmanager
def _quick() -> Iterator[None]:
    """Stand-ins for what takes long, and for what is measured of the machine."""
    replaced = {
        "vitsmith.benchmark.session._peaks": lambda threads: {"fp32": Peak(1.0, "pretended")},
        "vitsmith.benchmark.session.measure_memory": lambda task: {batch: Memory(2**20) for batch in task.batches},
        "vitsmith.benchmark.rows.PACKAGES": ("vitsmith", "torch"),
        "vitsmith.compress.search.variants.TorchVariantMaker": _QuickVariantMaker,
        "vitsmith.verbs.quickstart.digits_recipe": _short_recipe,
        "vitsmith.verbs.quickstart.IMAGES_PER_CLASS": 1,
        "vitsmith.training.images.plan.BUDGET": 0.01,
        "vitsmith.training.images.plan.load_average": lambda: 0.0,
        "vitsmith.training.memory.plan._compact": [False],
        "vitsmith.compress.quantize.run.int8_dot_products": lambda: True,
        "matplotlib.figure.Figure.savefig": lambda *_, **__: None,
        "vitsmith.verbs.quickstart.evaluate_or_refuse": evaluate,
    }
    with ExitStack() as stack:
        for name, value in replaced.items():
            stack.enter_context(mock.patch(name, value))
        yield
