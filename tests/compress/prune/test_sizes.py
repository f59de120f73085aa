"""How much is left of a model: sizes that were asked for, and a share of the arithmetic."""

from __future__ import annotations

import pytest

from tests.tiny import CONFIGS, MIXER, VIT
from vitsmith.compress.prune.importance import PLACES
from vitsmith.compress.prune.sizes import Pruning, plan_sizes, step_of
from vitsmith.errors import InputError
from vitsmith.models.config import ModelConfig
from vitsmith.models.configure import configure
from vitsmith.models.cost import flops


def test_what_is_left_is_one_more_row_of_numbers() -> None:
    config = configure("ViT-B_16")
    plan = plan_sizes(config, Pruning(heads=8, mlp_width=2048, depth=9))
    assert (plan.config.heads, plan.config.head_width, plan.config.mlp_width, plan.config.depth) == (8, 64, 2048, 9)
    assert plan.config.width == 768 and plan.notes == ()
    again = plan_sizes(plan.config, Pruning(heads=6)).config
    assert (again.heads, again.head_width, again.attention_width) == (6, 64, 384)
    mixer = plan_sizes(configure("Mixer-B_16"), Pruning(mlp_width=1024, tokens_mlp_width=128)).config
    assert (mixer.channels_mlp_width, mixer.tokens_mlp_width, mixer.depth) == (1024, 128, 12)


def test_widths_are_rounded_up_to_what_processors_like() -> None:
    plan = plan_sizes(configure("ViT-B_16"), Pruning(mlp_width=1000))
    assert plan.config.mlp_width == 1024 and "mlp_width 1000 rounded up to 1024, a multiple of 64" in plan.notes
    assert [step_of(width) for width in (3072, 128, 48, 40, 12, 7, 3)] == [64, 32, 8, 8, 2, 1, 1]


@pytest.mark.parametrize(
    ("config", "pruning", "told"),
    [
        (VIT, Pruning(heads=5), "`heads` must be from 1 to 4, the size of the model, got 5"),
        (VIT, Pruning(heads=0, mlp_width=0, depth=9), "`depth` must be .*`heads` must be .*`mlp_width` must be"),
        (VIT, Pruning(), r"nothing to prune: the model has depth 2, heads 4, mlp_width 48"),
        (VIT, Pruning(heads=4, mlp_width=45), "nothing to prune"),  # 45 becomes 48, and all is as it was
        (VIT, Pruning(tokens_mlp_width=3), "a transformer has no tokens_mlp_width: leave `tokens_mlp_width` out"),
        (MIXER, Pruning(heads=3, mlp_width=41), "a Mixer has no heads.*`mlp_width` must be from 1 to 40"),
        (VIT, Pruning(keep=1.0), "between 0 and 1, got 1"),
        (VIT, Pruning(keep=0.5, heads=2, mlp_width=24, depth=1), "all are given: leave out one of"),
        (
            CONFIGS["hybrid-stages"],
            Pruning(keep=0.01),
            r"`keep` 0.01 cannot be reached: the smallest .* has 0\.\d\d of",
        ),
    ],
)
def test_what_cannot_be_left_is_told(config: ModelConfig, pruning: Pruning, told: str) -> None:
    with pytest.raises(InputError, match=told):
        plan_sizes(config, pruning)


@pytest.mark.parametrize("name", ["ViT-S_16", "ViT-L_16", "Mixer-B_16"])
@pytest.mark.parametrize("keep", [0.9, 0.5, 0.3])
def test_a_share_of_the_arithmetic_is_reached_evenly(name: str, keep: float) -> None:
    config = configure(name)
    smaller = plan_sizes(config, Pruning(keep=keep)).config
    assert 0.95 * keep < flops(smaller) / flops(config) <= keep
    fields = ("depth", *(place.field for place in PLACES[config.family]))
    shares = [getattr(smaller, field) / getattr(config, field) for field in fields]
    assert max(shares) / min(shares) < 1.35


def test_what_was_said_is_not_chosen() -> None:
    config = configure("ViT-B_16")
    smaller = plan_sizes(config, Pruning(keep=0.5, depth=12)).config
    assert smaller.depth == 12 and smaller.heads < 9 and smaller.mlp_width < 2048
    assert 0.48 < flops(smaller) / flops(config) <= 0.5
