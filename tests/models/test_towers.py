"""Image towers of other families: their answers against recorded ones of timm, and their costs."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from tests import REFERENCE, ROOT
from tests.tiny import drop_key_biases, tiny_inputs, tiny_model, towers
from vitsmith.errors import ConfigError
from vitsmith.layers.norm import RmsNorm
from vitsmith.layers.positions import RESIZERS, resize_positions
from vitsmith.models.build import build, count_parameters
from vitsmith.models.config import ViTConfig
from vitsmith.models.configure import change
from vitsmith.models.cost import flops, parameters
from vitsmith.models.presets import name_of, presets

RECORDED: dict[str, dict[str, Any]] = json.loads((REFERENCE / "towers" / "towers.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", RECORDED)
def test_answers_are_those_of_timm(name: str) -> None:
    config = towers()[name]
    model = tiny_model(config)
    if RECORDED[name]["keys_without_bias"]:
        drop_key_biases(model)
    with torch.no_grad():
        answers = model(*tiny_inputs(config, 2))
    expected = torch.tensor(RECORDED[name]["outputs"])
    torch.testing.assert_close(answers, expected, rtol=0, atol=2e-6 * float(expected.abs().max()))


@pytest.mark.parametrize("name", RECORDED)
def test_parameters_and_operations_are_the_models(name: str) -> None:
    config = towers()[name]
    model = build(config, device="meta").eval()
    model.blocks[-1].register_forward_hook(lambda *_: None)  # or only what the head sees of it would be computed
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.empty(1, 3, *config.image_size, device="meta"))
    assert parameters(config) == count_parameters(model)
    assert flops(config) == counter.get_total_flops()


@pytest.mark.parametrize("name", RECORDED)
def test_only_the_tokens_of_the_head_give_the_same_as_all(name: str) -> None:
    config = towers()[name]
    model, images = tiny_model(config), tiny_inputs(config, 2)[0]
    with torch.no_grad():
        found = model.features(images, intermediates=["blocks.1.attention.weights"])
        torch.testing.assert_close(model.head(found.pooled), model(images), rtol=0, atol=1e-6)
    assert found.tokens.shape == (2, 15 + config.prefix, config.width) and found.grid == (3, 5)
    assert found.intermediates["blocks.1.attention.weights"].shape[-1] == config.tokens


def test_gradients_pass_the_turns_after_inference() -> None:
    config = towers()["dinov3-gated"]
    model, images = tiny_model(config), tiny_inputs(config, 2)[0]
    with torch.inference_mode():
        before = model(images).clone()
    answers = model.train()(images)
    torch.testing.assert_close(answers, before)
    answers.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_compiled_model_with_turns_gives_its_answers() -> None:
    """In inference mode, as engines run it, and with gradients."""
    model = tiny_model(change(towers()["dinov3-gated"], depth=1))
    images = tiny_inputs(model.config, 2)[0]
    compiled = torch.compile(model, backend="eager")
    with torch.inference_mode():
        torch.testing.assert_close(compiled(images), model(images), rtol=0, atol=1e-6)
    compiled(images).sum().backward()
    assert model.get_parameter("blocks.0.attention.qkv.weight").grad is not None


def test_a_model_with_turns_is_planned_without_values() -> None:
    config = towers()["dinov3"]
    model, images = tiny_model(config), tiny_inputs(config, 2)[0]
    with FakeTensorMode() as mode:
        arrays = {name: mode.from_tensor(parameter) for name, parameter in model.named_parameters()}
        planned = functional_call(model, arrays, mode.from_tensor(images))
    assert isinstance(planned, FakeTensor) and planned.shape == (2, config.width)
    assert model(images).isfinite().all()


def test_pixels_that_fill_no_patch_are_left_out_on_request() -> None:
    config = change(towers()["siglip"], image_size=(54, 83), unseen_edge=True)
    assert config.grid == (3, 5)
    model, images = tiny_model(config), tiny_inputs(config, 2)[0]
    whole = tiny_model(towers()["siglip"])
    with torch.no_grad():
        torch.testing.assert_close(model(images), whole(images[:, :, :48, :80]))
    with pytest.raises(ConfigError, match="is not a multiple of the patch"):
        change(config, unseen_edge=False)


def test_class_token_and_mean_of_patches_are_joined() -> None:
    config = change(towers()["registers"], pooling="token_and_gap", classes=3)
    model, images = tiny_model(config), tiny_inputs(config, 2)[0]
    with torch.no_grad():
        found = model.features(images)
    expected = torch.cat([found.tokens[:, 0], found.tokens[:, 5:].mean(dim=1)], dim=1)
    torch.testing.assert_close(found.pooled, expected)
    assert model.head.in_features == 2 * config.width and parameters(config) == count_parameters(model)


def test_norms_by_the_root_mean_square_take_no_mean_away() -> None:
    """Also that of the patches; and their weights are counted."""
    config = change(towers()["registers"], norm="rms", patch_norm=True, norm_eps=1e-5)
    model, images = tiny_model(config), tiny_inputs(config, 2)[0] + 1
    recorded = model.features(images, intermediates=["patches", "patch_norm"]).intermediates
    patches = recorded["patches"].flatten(2).transpose(1, 2)
    expected = patches / (patches.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt() * model.patch_norm.weight
    torch.testing.assert_close(recorded["patch_norm"], expected)
    assert {type(model.norm), type(model.blocks[1].norm2)} == {RmsNorm}
    assert parameters(config) == count_parameters(model)


@pytest.mark.parametrize(
    ("name", "changes", "problem"),
    [
        ("siglip", {"attention_pool": None}, "pooling 'attention' and attention_pool need each other"),
        ("siglip", {"attention_pool": {"heads": 5, "mlp_width": 8}}, "width 48 is not a multiple of heads 5"),
        ("siglip", {"position_embedding": {"learned": "class"}}, "'class' needs class_token=True"),
        ("dinov3", {"merge": (1, 1)}, "merge is not possible with position_embedding.rotary"),
        ("dinov3", {"heads": 8}, "head width that is a multiple of 4, not 6"),
        ("dinov3", {"position_embedding": {"learned": "none", "rotary": {"start": 1}}}, "are for places 'index'"),
        ("deit3", {"distillation_token": True}, "needs position_embedding.learned 'all', not 'patches'"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(name: str, changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        change(towers()[name], **changes)


@pytest.mark.parametrize("method", RESIZERS)
def test_positions_of_a_slope_stay_one(method: Any) -> None:
    """Away from the borders each method gives a straight line again; the prefix is kept."""
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    embedding = torch.cat([torch.full((1, 1, 2), 7.0), torch.stack([rows, columns], -1).view(1, 64, 2)], dim=1)
    resized = resize_positions(embedding, (8, 8), (16, 16), prefix=1, method=method)
    assert resized.shape == (1, 257, 2) and torch.equal(resized[:, 0], embedding[:, 0])
    inside = resized[0, 1:].view(16, 16, 2)[5:11, 5:11]
    step = 7 / 15 if method == "zoom" else 8 / 16.1 if method == "bicubic_offset" else 0.5
    torch.testing.assert_close(inside[4, :, 0] - inside[0, :, 0], torch.full((6,), 4 * step), rtol=0, atol=0.02)
    torch.testing.assert_close(inside[:, 4, 1] - inside[:, 0, 1], torch.full((6,), 4 * step), rtol=0, atol=0.02)


def test_merged_copies_leave_attention_pooling_as_it_was() -> None:
    """A token that stands for several patches counts as they would."""
    config = towers()["siglip"]
    pool = tiny_model(config).attention_pool
    assert pool is not None
    x, sizes = torch.randn(2, 4, config.width), torch.tensor([[1.0, 3.0, 2.0, 1.0]]).expand(2, -1)
    repeated = x.repeat_interleave(sizes[0].long(), dim=1)
    with torch.no_grad():
        torch.testing.assert_close(pool(x, sizes), pool(repeated), rtol=0, atol=1e-5)
        assert (pool(x) - pool(repeated)).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["DINOv3-S_16", "DINOv2-S_14-reg4"])
def test_a_name_is_that_of_every_publishers_copy(name: str) -> None:
    config = presets()[name].config
    assert isinstance(config, ViTConfig)
    other = config.position_embedding.model_dump() | {"resize": "bicubic"}
    if config.position_embedding.rotary:
        other["rotary"] = config.position_embedding.rotary.model_dump() | {"bfloat16": True}
    else:
        other["learned"] = "patches"  # timm adds the class token's position to the token
    assert name_of(change(config, position_embedding=other)) == name
    assert name_of(change(config, block=config.block.model_dump() | {"layer_scale": False})) != name


def test_torchs_compiler_is_not_imported_where_nothing_is_compiled() -> None:
    """It would take a second of every start."""
    code = (
        "import sys; from tests.tiny import tiny_inputs, tiny_lit, tiny_model, towers\n"
        "config = towers()['dinov3-gated']; tiny_lit(); tiny_model(config)(tiny_inputs(config, 1)[0])\n"
        "print('torch._dynamo' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert answer.stdout.strip() == "False", answer.stderr
