"""Text towers of CLIP and SigLIP: their answers against recorded ones of others, and their costs."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tests import REFERENCE
from tests.tiny import VIT, tiny_text_tower
from vitsmith.errors import ConfigError
from vitsmith.layers.padding import trim_after
from vitsmith.models.build import build, count_parameters
from vitsmith.models.config import LiTConfig
from vitsmith.models.configure import change
from vitsmith.models.cost import flops, parameters
from vitsmith.models.lit import LiT
from vitsmith.models.text import TextTransformer
from vitsmith.models.text_config import TextTransformerConfig
from vitsmith.weights.bundle.identity import canonical

RECORDED: dict[str, Any] = json.loads((REFERENCE / "towers" / "texts.json").read_text(encoding="utf-8"))
TOKENS = torch.tensor(RECORDED.pop("tokens"))
CAUSAL = [name for name, row in RECORDED.items() if row["config"]["mask"] == "causal"]


def recorded_config(name: str) -> TextTransformerConfig:
    return TextTransformerConfig(**RECORDED[name]["config"])


def answers(tower: TextTransformer, tokens: Tensor = TOKENS) -> Tensor:
    with torch.no_grad():
        return tower(tokens)


@pytest.mark.parametrize("name", RECORDED)
def test_answers_are_those_of_the_source(name: str) -> None:
    expected = torch.tensor(RECORDED[name]["outputs"])
    found = answers(tiny_text_tower(recorded_config(name)))
    torch.testing.assert_close(found, expected, rtol=0, atol=3e-6 * float(expected.abs().max()))


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("clip-hf", {"gelu": "erf"}),
        ("clip-hf", {"gelu": "tanh"}),
        ("clip-hf", {"norm_eps": 1e-3}),
        ("clip-hf", {"mask": "none"}),
        ("clip-hf", {"pooling": "last"}),
        ("clip-hf", {"end_token": 7}),
        ("siglip-hf", {"mask": "causal"}),
        ("siglip-hf", {"pooling": "end"}),
        ("siglip-hf", {"gelu": "erf"}),
    ],
)
def test_every_part_of_the_configuration_counts(name: str, part: dict[str, Any]) -> None:
    config, expected = recorded_config(name), torch.tensor(RECORDED[name]["outputs"])
    other = answers(tiny_text_tower(TextTransformerConfig(**config.model_dump() | part)))
    assert float((other - expected).abs().max() / expected.abs().max()) > 3e-5


@pytest.mark.parametrize("name", RECORDED)
def test_parameters_and_operations_are_the_models(name: str) -> None:
    text = recorded_config(name)
    config = LiTConfig(image=change(VIT, classes=text.classes or text.width), text=text)
    model = build(config, device="meta").eval()
    assert isinstance(model, LiT)
    model.image.blocks[-1].register_forward_hook(lambda *_: None)  # or only what the head sees of it would be computed
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.encode_image(torch.empty(1, 3, *config.image_size, device="meta"))
        model.encode_text(torch.empty(1, text.length, dtype=torch.long, device="meta"))
    assert parameters(config) == count_parameters(model)
    assert flops(config) == counter.get_total_flops()


def test_ends_are_trimmed_where_no_token_is_seen_and_nowhere_else() -> None:
    ends = torch.tensor([2, 0, 4])
    tokens = torch.arange(18).reshape(3, 6)
    assert torch.equal(trim_after(tokens, ends), tokens[:, :5])
    assert trim_after(tokens[:0], ends[:0]).shape == (0, 6)
    assert trim_after(tokens.to("meta"), ends.to("meta")).shape == (3, 6)


@pytest.mark.parametrize("name", CAUSAL)
def test_what_follows_the_end_is_not_computed_and_changes_nothing(name: str) -> None:
    short = TOKENS[[0, 1, 4]]
    towers = [tiny_text_tower(recorded_config(name)) for _ in range(2)]
    lengths: list[int] = []
    towers[0].blocks[0].mlp.widen.register_forward_pre_hook(lambda _module, inputs: lengths.append(inputs[0].shape[1]))
    towers[1].blocks[0].register_forward_hook(lambda *_: None)  # a hook that may read all tokens
    found = [tower(short) for tower in towers]
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=2e-6)
    assert lengths[0] < TOKENS.shape[1]
    for answer in found:
        answer.square().sum().backward()
    for one, other in zip(towers[0].parameters(), towers[1].parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", CAUSAL)
def test_no_token_sees_a_later_one(name: str) -> None:
    tower, changed = tiny_text_tower(recorded_config(name)), TOKENS.clone()
    end = tower.config.end_token
    ends = TOKENS.argmax(dim=1) if end is None else (end == TOKENS).int().argmax(dim=1)
    for row, last in zip(changed, ends.tolist(), strict=True):
        row[last + 1 :] = 9
    torch.testing.assert_close(answers(tower, changed), answers(tower), rtol=0, atol=2e-6)
    for block in tower.blocks:
        block.attention.explicit = True
    torch.testing.assert_close(answers(tower), answers(tower, changed), rtol=0, atol=2e-6)
    expected = torch.tensor(RECORDED[name]["outputs"])
    torch.testing.assert_close(answers(tower), expected, rtol=0, atol=3e-6 * float(expected.abs().max()))


@pytest.mark.parametrize("name", RECORDED)
def test_training_gives_the_answers_of_all_tokens(name: str) -> None:
    tower = tiny_text_tower(recorded_config(name))
    torch.testing.assert_close(answers(tower.train()), answers(tower.eval()), rtol=0, atol=3e-6)


def test_fresh_weights_are_drawn_for_towers_without_bias_and_without_projection() -> None:
    for fields in ({"head_bias": False}, {"classes": 0}):
        text = TextTransformerConfig(**recorded_config("clip-hf").model_dump() | fields)
        model = build(LiTConfig(image=change(VIT, classes=text.classes or text.width), text=text))
        assert isinstance(model, LiT)
        assert all(parameter.isfinite().all() for parameter in model.text.parameters())
        assert all(parameter.std() > 0 for parameter in model.text.parameters() if parameter.ndim > 1)


def test_towers_of_earlier_versions_are_written_as_they_were() -> None:
    plain = TextTransformerConfig(width=8, depth=1, heads=2, mlp_width=16, vocabulary=30, classes=8)
    fields = "kind width depth heads mlp_width vocabulary length classes gelu norm_eps"
    assert list(canonical(plain)) == fields.split()
    assert set(canonical(recorded_config("clip-hf"))) == {*fields.split(), "mask", "pooling", "head_bias"}


def test_a_configuration_that_cannot_be_is_refused_with_every_mistake() -> None:
    sizes = {"width": 8, "depth": 1, "heads": 3, "mlp_width": 16, "vocabulary": 30, "classes": 8}
    problem = (
        "width 8 is not a multiple of heads 3; end_token is for pooling 'end'; end_token 30 is not below vocabulary"
    )
    with pytest.raises(ConfigError, match=problem):
        TextTransformerConfig(**sizes, end_token=30)
