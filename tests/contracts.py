"""What every model must satisfy, whatever its family: one function a promise, all run on every tiny model."""

from __future__ import annotations

import copy
from collections.abc import Hashable

import torch
from torch import Tensor

from tests.tiny import tiny_inputs, tiny_model
from vitsmith.layers.attention import Attention
from vitsmith.models.build import ImageModel, Model, build, count_parameters
from vitsmith.models.config import LiTConfig, ModelConfig
from vitsmith.models.configure import change
from vitsmith.models.lit import LiT


def kind_of(config: ModelConfig) -> Hashable:
    """What makes a family of its own: models of one kind run the same lines of code."""
    if isinstance(config, LiTConfig):
        return "lit", config.text.kind, bool(config.image.classes)
    if config.family == "mixer":
        return "mixer"
    front = "patches" if config.resnet is None else "stages" if config.resnet.stages else "stem"
    return "vit", front, config.pooling, bool(config.representation), config.distillation_token


def rows(model: Model, *inputs: Tensor) -> Tensor:
    """One row for each image: logits, or for LiT the image's embedding beside its text's."""
    if isinstance(model, LiT):
        images, tokens = inputs
        return torch.cat([model.encode_image(images), model.encode_text(tokens)], dim=1)
    return model(*inputs)


def image_tower(model: Model) -> ImageModel:
    return model.image if isinstance(model, LiT) else model


def output_has_the_documented_shape(config: ModelConfig) -> None:
    model, inputs = tiny_model(config), tiny_inputs(config, 3)
    if isinstance(config, LiTConfig):
        width = config.embedding_width
        assert model(*inputs).shape == (3, 3) and rows(model, *inputs).shape == (3, 2 * width)
        assert model(inputs[0], inputs[1][:2]).shape == (3, 2)
    else:
        unpooled = getattr(config, "pooling", "") in ("unpooled", "token_unpooled")
        assert model(*inputs).shape == ((3, config.tokens, config.classes) if unpooled else (3, config.classes))


def every_parameter_has_a_gradient(config: ModelConfig) -> None:
    model, inputs = tiny_model(config).train(), tiny_inputs(config, 3)
    model(*inputs).square().sum().backward()
    without = {name for name, p in model.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-6}
    # A Mixer's last bias over tokens adds one number to all channels of a token, which every LayerNorm takes away.
    assert without == {name for name, _ in model.named_parameters() if name.endswith("token_mixing.narrow.bias")}
    assert all(p.grad.isfinite().all() for p in model.parameters())


def an_image_does_not_see_its_batch(config: ModelConfig) -> None:
    model, inputs = tiny_model(config), tiny_inputs(config, 5)
    with torch.inference_mode():
        together = rows(model, *inputs)
        for index in range(5):
            alone = rows(model, *(tensor[index : index + 1] for tensor in inputs))
            torch.testing.assert_close(together[index : index + 1], alone, rtol=1e-4, atol=1e-5)
    assert (together[0] - together[1]).abs().max() > 1e-2  # and yet it sees itself


def randomness_is_seeded_and_only_in_training(config: ModelConfig) -> None:
    tower = config.image if isinstance(config, LiTConfig) else config
    expected = rows(tiny_model(config), *(inputs := tiny_inputs(config, 4)))
    for rate in ("dropout", "attention_dropout", "stochastic_depth"):
        if rate not in type(tower).model_fields:
            continue
        changed = change(tower, **{rate: 0.4})
        model = tiny_model(change(config, image=changed.model_dump()) if isinstance(config, LiTConfig) else changed)
        torch.testing.assert_close(rows(model, *inputs), expected, rtol=0, atol=0)
        model.train()
        first, again, other = (_seeded_rows(model, seed, inputs) for seed in (1, 1, 2))
        torch.testing.assert_close(first, again, rtol=0, atol=0)
        assert (first - other).abs().max() > 1e-3, f"{rate} does nothing"


def _seeded_rows(model: Model, seed: int, inputs: tuple[Tensor, ...]) -> Tensor:
    torch.manual_seed(seed)
    return rows(model, *inputs)


def bfloat16_is_close(config: ModelConfig) -> None:
    model, inputs = tiny_model(config), tiny_inputs(config, 3)
    with torch.inference_mode():
        expected = rows(model, *inputs)
        images, *tokens = inputs
        found = rows(model.bfloat16(), images.bfloat16(), *tokens)
    assert found.dtype == (torch.float32 if isinstance(config, LiTConfig) else torch.bfloat16)  # unit vectors
    # 8 bits of mantissa, through some twenty roundings
    assert (found.float() - expected).abs().max() <= 0.05 * expected.abs().max()


def exported_program_is_equal_for_any_batch(config: ModelConfig) -> None:
    model = tiny_model(config)
    batches = ({0: torch.export.Dim("images")}, {0: torch.export.Dim("texts")})
    inputs = tiny_inputs(config, 2)
    program = torch.export.export(model, inputs, dynamic_shapes=batches[: len(inputs)]).module()
    with torch.inference_mode():
        for batch in (1, 3):
            others = tiny_inputs(config, batch, seed=batch)
            torch.testing.assert_close(program(*others), model(*others), rtol=1e-4, atol=1e-5)


def state_dict_goes_round(config: ModelConfig) -> None:
    model, inputs = tiny_model(config), tiny_inputs(config, 2)
    other = build(config).eval()
    other.load_state_dict(copy.deepcopy(model.state_dict()), strict=True)
    torch.testing.assert_close(rows(other, *inputs), rows(model, *inputs), rtol=0, atol=0)
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}  # nothing hides in buffers


def features_are_what_the_head_sees(config: ModelConfig) -> None:
    model, (images, *_) = image_tower(tiny_model(config)), tiny_inputs(config, 2)
    tower = model.config
    tokens, pooled, grid, seen = model.features(images)
    assert grid == tower.grid and tokens.shape == (2, tower.tokens, tower.width) and seen == {}
    assert tower.tokens == grid[0] * grid[1] + getattr(tower, "prefix", 0)
    assert pooled.shape == (2, *((tokens.shape[1],) if pooled.ndim == 3 else ()), tower.feature_width)
    if getattr(tower, "distillation_token", False):
        logits = (model.head(tokens[:, 0]) + model.distillation_head(tokens[:, 1])) / 2
    else:
        logits = model.head(pooled)
    torch.testing.assert_close(logits, model(images), rtol=0, atol=5e-6)  # which computes only what the head sees
    headless = build(change(tower, classes=0)).eval()
    headless.load_state_dict({name: w for name, w in model.state_dict().items() if "head." not in name})
    torch.testing.assert_close(headless(images), pooled, rtol=0, atol=5e-6)


def intermediates_are_the_outputs_of_their_modules(config: ModelConfig) -> None:
    model, (images, *_) = image_tower(tiny_model(config)), tiny_inputs(config, 2)
    tokens, _, grid, seen = model.features(images, intermediates=["patches", "blocks.*", "norm"])
    assert seen["patches"].shape == (2, model.config.width, *grid)
    assert {f"blocks.{index}" for index in range(model.config.depth)} <= set(seen)
    last = seen[f"blocks.{model.config.depth - 1}"]
    if not getattr(model.config, "norm_after_pooling", False):
        torch.testing.assert_close(model.norm(last), tokens, rtol=0, atol=0)
        torch.testing.assert_close(seen["norm"], tokens, rtol=0, atol=0)
    torch.testing.assert_close(seen["blocks.0.norm2"].shape, tokens.shape)
    assert not any(module._forward_hooks for module in model.modules()), "a hook was left behind"


def explicit_attention_gives_weights_and_the_same_answer(config: ModelConfig) -> None:
    model, inputs = tiny_model(config), tiny_inputs(config, 2)
    expected = rows(model, *inputs)
    layers = {name: module for name, module in model.named_modules() if isinstance(module, Attention)}
    weights: dict[str, Tensor] = {}
    for name, layer in layers.items():
        layer.explicit = True
        layer.weights.register_forward_hook(lambda _module, _inputs, output, name=name: weights.update({name: output}))
    torch.testing.assert_close(rows(model, *inputs), expected, rtol=1e-5, atol=1e-5)
    assert set(weights) == set(layers)
    for name, layer in layers.items():
        assert weights[name].shape[:2] == (2, layer.heads) and weights[name].shape[2] == weights[name].shape[3]
        torch.testing.assert_close(weights[name].sum(dim=-1), torch.ones(weights[name].shape[:-1]))
        assert weights[name].min() >= 0


def meta_device_costs_nothing(config: ModelConfig) -> None:
    model = build(config, device="meta")
    assert all(parameter.is_meta for parameter in model.parameters())
    assert count_parameters(model) == count_parameters(build(config))


def fresh_weights_are_all_drawn(config: ModelConfig) -> None:
    """No weight is left as the allocator found it, and a classifier knows nothing yet."""
    from vitsmith.models.initializers import initialize

    model = build(config, fresh=False)
    for parameter in model.parameters():
        torch.nn.init.constant_(parameter, float("nan"))
    initialize(model)
    assert not [name for name, parameter in model.named_parameters() if not parameter.isfinite().all()]
    if not isinstance(config, LiTConfig):
        assert not model(*tiny_inputs(config, 2)).any()
    elif config.image.classes:
        assert model.image.head.weight.std() > 0.05  # a projection, which zeros would leave without gradients


CONTRACTS = (
    output_has_the_documented_shape,
    every_parameter_has_a_gradient,
    an_image_does_not_see_its_batch,
    randomness_is_seeded_and_only_in_training,
    bfloat16_is_close,
    exported_program_is_equal_for_any_batch,
    state_dict_goes_round,
    features_are_what_the_head_sees,
    intermediates_are_the_outputs_of_their_modules,
    explicit_attention_gives_weights_and_the_same_answer,
    meta_device_costs_nothing,
    fresh_weights_are_all_drawn,
)
