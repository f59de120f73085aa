"""What fits into a device: arithmetic by hand, what torch really holds, and the planner's own words."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.tiny import CONFIGS, MIXER, VIT
from vitsmith.choosing.fit.device import device_fit
from vitsmith.choosing.fit.inference import image_bytes, inference_memory, largest_batch
from vitsmith.choosing.fit.training import training_fit
from vitsmith.errors import InputError, UnknownNameError
from vitsmith.models.build import build
from vitsmith.models.config import ModelConfig
from vitsmith.models.configure import configure
from vitsmith.models.cost import parameters

GB = 10**9


def test_by_hand() -> None:
    base = configure("ViT-B/16")
    one = inference_memory(base, 1)
    td = 197 * 768
    assert one.activations == 4 * (2 * td + 3 * 4 * td) + 8 * 3 * 224 * 224
    assert one.weights == 4 * parameters(base)
    unfused = image_bytes(configure("ViT-Ti/16", image_size=384), precision="fp32", device="gpu", fused=False)
    tokens = 24 * 24 + 1
    assert unfused == 4 * (5 * tokens * 192 + 2 * 3 * tokens**2) + 8 * 3 * 384 * 384
    half = inference_memory(base, 1, precision="bf16")
    assert half.weights == 8 * parameters(base) - half.activations  # float32, and its copy before it is rounded
    assert inference_memory(base, 100, precision="bf16").weights == 6 * parameters(base)


@pytest.mark.parametrize("name", ["ViT-Ti/16", "ViT-B/32", "Mixer-B/16", "R+ViT-Ti/16"])
def test_activations_are_at_least_what_torch_holds_and_not_twice_that(name: str) -> None:
    config = configure(name, image_size=64, classes=10, depth=2) if "R+" not in name else CONFIGS["hybrid-stem"]
    most = _live_bytes(config, batch=8)
    predicted = 8 * (
        image_bytes(config, precision="fp32", device="gpu") - 4 * 3 * config.image_size[0] * config.image_size[1]
    )  # type: ignore[union-attr]
    assert 0.95 * most < predicted < 2.0 * most


def _live_bytes(config: ModelConfig, batch: int) -> int:
    """The most bytes of tensors that a forward pass holds at once, weights left out, counted as they come and go."""
    import weakref

    sizes: dict[int, int] = {}
    seen = {"most": 0}

    class Ledger(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            result = func(*args, **(kwargs or {}))
            for tensor in torch.utils._pytree.tree_leaves(result):
                if isinstance(tensor, torch.Tensor):
                    storage = tensor.untyped_storage()
                    key = storage._cdata
                    if key not in known and key not in sizes:
                        sizes[key] = storage.nbytes()
                        weakref.finalize(storage, sizes.pop, key, None)
            seen["most"] = max(seen["most"], sum(sizes.values()))
            return result

    model = build(config).eval()
    images = torch.randn(batch, 3, *config.image_size)  # type: ignore[union-attr]
    known = {tensor.untyped_storage()._cdata for tensor in model.state_dict().values()}
    with torch.no_grad(), Ledger():
        model(images + 0)
    return seen["most"]


def test_the_largest_batch_fits_and_one_more_does_not() -> None:
    for config in (configure("ViT-S/16"), configure("ViT-L/16", image_size=384), configure("Mixer-B/16")):
        for memory in (4 * GB, 8 * GB, 80 * GB):
            for precision in ("fp32", "bf16"):
                found = largest_batch(config, memory, precision=precision)
                assert found.predicted <= 0.9 * memory
                more = inference_memory(config, found.batch + 1, precision=precision)
                assert more.predicted > 0.9 * memory
                assert found.to_dict()["predicted"] == found.weights + found.activations + found.base


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(InputError, match=r"one image takes .* GB in fp32, and of 1.0 GB 900.0 MB can be used"):
        largest_batch(configure("ViT-H/14"), GB)
    with pytest.raises(UnknownNameError, match="precision"):
        largest_batch(VIT, GB, precision="fp8")
    with pytest.raises(InputError, match="training needs"):
        training_fit(configure("ViT-L/16", depth=2), 2**20)
    with pytest.raises(InputError, match="two towers"):
        training_fit(CONFIGS["lit-bert"], GB)


def test_training_is_what_the_planner_says() -> None:
    config = configure("ViT-Ti/16", image_size=64, classes=10, depth=2)
    found = training_fit(config, 2 * GB, images=1000, seconds_per_image=0.01)
    plan = found.plan
    assert plan.micro * plan.accumulate == 512 and plan.predicted <= 0.9 * 2 * GB and not plan.checkpointing
    assert found.seconds == 1000 * 3 * 0.01 and "1,000 images take about 30 s, 3 forward passes each" in str(found)
    tight = training_fit(config, int(1.05 * plan.parts[0][1] + 6e7))
    assert tight.plan.micro < plan.micro and "no time" in str(tight)
    assert found.to_dict()["micro_batch"] == plan.micro


def test_of_two_towers_it_is_the_images() -> None:
    lit = CONFIGS["lit-bert"]
    assert largest_batch(lit, GB) == largest_batch(lit.image, GB)  # type: ignore[union-attr]
    assert largest_batch(MIXER, GB).batch > 1000


def test_a_model_is_told_for_both_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    config = configure("ViT-Ti/16", image_size=64, classes=10, depth=2)
    found = device_fit("small", config, 2 * GB)
    assert [line.split(":")[0] for line in found.lines()] == ["small", "small"] and not found.remarks
    assert found.to_dict()["inference"]["batch"] == largest_batch(config, 2 * GB).batch
    nothing = device_fit("small", config, 2**20)
    assert nothing.inference is None and nothing.training is None
    assert "inference is not possible: one image takes" in nothing.lines()[0] and "training needs" in nothing.lines()[1]
    monkeypatch.setattr("vitsmith.needs_torch.find_spec", lambda _: None)
    assert "pip install 'vitsmith[torch]'" in device_fit("small", config, GB).remarks[0]
