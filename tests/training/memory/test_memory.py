"""The memory plan: what it predicts, what it chooses, what it refuses, and what counts as running out of memory."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from vitsmith.errors import InputError
from vitsmith.models.build import build
from vitsmith.models.configure import configure
from vitsmith.training.memory import plan as memory
from vitsmith.training.memory.footprint import trace_update
from vitsmith.training.memory.plan import available_memory, is_out_of_memory, next_smaller, plan_memory
from vitsmith.training.recipes.recipe import DataSpec, TrainRecipe

CPU = torch.device("cpu")
CONFIG = configure("ViT-Ti/16", image_size=32, classes=5, depth=2)
MIB = 2**20


def recipe(**sections: dict) -> TrainRecipe:
    return TrainRecipe.model_validate({"data": DataSpec.model_construct(), "model": {"name": "ViT-Ti/16"}, **sections})


@pytest.mark.parametrize("micro", [3, 8])
def test_activations_are_what_autograd_keeps_of_real_tensors(micro):
    model = build(CONFIG).train()
    ours = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in ours:
            kept[storage.data_ptr()] = storage
        return tensor

    images = torch.randn(micro, 3, 32, 32)
    ours.add(images.untyped_storage().data_ptr())
    labels = torch.zeros(micro, dtype=torch.int64)
    ours.add(labels.untyped_storage().data_ptr())
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = F.cross_entropy(model(images), labels)
    expected = sum(storage.nbytes() for storage in kept.values())
    assert loss.isfinite()
    predicted = trace_update(CONFIG, recipe(), checkpointing=False).activations(micro)
    assert predicted == pytest.approx(expected, rel=0.02)  # before the loss: its own few numbers come after


def test_state_is_counted_by_hand():
    count = sum(p.numel() for p in build(CONFIG, device="meta").parameters())
    adamw = trace_update(CONFIG, recipe(optimizer={"name": "adamw", "ema": 0.9}), checkpointing=True)
    assert (adamw.weights, adamw.gradients) == (4 * count, 4 * count)
    assert adamw.optimizer == pytest.approx(8 * count, rel=1e-3)  # two means; and a count of updates an array
    assert adamw.mean == pytest.approx(4 * count, rel=1e-3)
    sgd = trace_update(CONFIG, recipe(), checkpointing=False)
    assert sgd.optimizer == 2 * count  # bfloat16
    # carried (bfloat16) and moved (float32) of all weights at once, beside the gradients
    assert sgd.peak(1, accumulate=1) >= (4 + 2 + 4) * count
    frozen = recipe(model={"name": "ViT-Ti/16", "freeze": ("*",)})
    assert trace_update(CONFIG, frozen, checkpointing=False).gradients == 4 * (192 * 5 + 5)


def test_less_memory_means_smaller_micro_batches_then_checkpointing(monkeypatch):
    monkeypatch.setattr(memory, "resident_memory", lambda: 200 * MIB)
    monkeypatch.setattr(memory, "_compact", [True])
    config = configure("ViT-Ti/16", image_size=128, classes=5, depth=3)
    wanted = recipe(batch={"size": 96})
    traced = {on: trace_update(config, wanted, checkpointing=on) for on in (False, True)}
    monkeypatch.setattr(memory, "trace_update", lambda *_, checkpointing: traced[checkpointing])
    plans = []
    most = plan_memory(config, wanted, device=CPU, available=2**60)
    assert most.micro == 32 and most.accumulate == 3 and not most.checkpointing
    for available in range(most.predicted, 0, -MIB // 2):
        try:
            plans.append(plan_memory(config, wanted, device=CPU, available=available))
        except InputError as error:
            told = str(error)
            break
    for plan in plans:
        assert plan.micro * plan.accumulate == 96
        assert plan.predicted <= plan.available
        assert plan.predicted == sum(size for _, size in plan.parts)
        assert str(plan.micro) in plan.reason
    sizes = [plan.micro for plan in plans if not plan.checkpointing]
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] < 32
    kinds = [plan.checkpointing for plan in plans]
    assert kinds == sorted(kinds) and kinds[-1]
    assert "run.precision = bf16" in told and "model.image_size" in told and "fsdp" in told


def test_what_the_recipe_says_is_kept_and_warned_of():
    plan = plan_memory(CONFIG, recipe(batch={"size": 64, "micro": 64}), device=CPU, available=1)
    assert (plan.micro, plan.accumulate) == (64, 1)
    assert "may run out of memory" in plan.reason


def test_shards_take_their_part_of_weights_and_state():
    wanted = recipe(batch={"size": 64}, optimizer={"name": "adamw"})
    whole = dict(plan_memory(CONFIG, wanted, devices=4, device=CPU, available=2**60).parts)
    parts = dict(plan_memory(CONFIG, wanted, devices=4, sharded=True, device=CPU, available=2**60).parts)
    assert parts["optimizer state"] == whole["optimizer state"] // 4
    assert whole["gradient buckets"] == whole["weights"] and "gradient buckets" not in parts


def test_the_next_smaller_micro_batch_divides_and_keeps_pairs_together():
    assert [next_smaller(recipe(batch={"size": 24}), n) for n in (24, 12, 8, 1)] == [12, 8, 6, None]
    mixed = recipe(batch={"size": 24}, augment={"mixup": 0.2})
    assert [next_smaller(mixed, n, devices=2) for n in (12, 6, 4, 2)] == [6, 4, 2, None]


def test_running_out_of_memory_is_known_from_other_errors():
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(raised.value)
    assert is_out_of_memory(MemoryError()) and is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(RuntimeError("shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_available_memory_is_less_than_the_machine_has():
    import os

    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < available_memory(CPU) < machine
