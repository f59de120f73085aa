"""torch's own low precision: the weights that torchao rounds."""

from __future__ import annotations

import sys

import pytest
import torch

from tests.tiny import CONFIGS, tiny_inputs, tiny_model
from vitsmith.engines.torch.low_precision import quantized_copy
from vitsmith.errors import (
    InputError,
    MissingPackageError,
    UnknownNameError,
)


@pytest.mark.parametrize("name", ["vit-token", "mixer"])
def test_int8_weights_of_torchao_are_rounded_weights(name: str) -> None:
    model = tiny_model(CONFIGS[name])
    copied = quantized_copy(model, "int8-weights")
    images = tiny_inputs(model.config, 3)[0]
    with torch.inference_mode():
        before = model(images)
        found = copied(images)
        for path, layer in model.named_modules():
            if isinstance(layer, torch.nn.Linear) and path.startswith("blocks."):
                weight = copied.get_submodule(path).weight
                assert weight.qdata.dtype == torch.int8
                steps = layer.weight.abs().amax(dim=1, keepdim=True) / 127
                assert ((weight.dequantize() - layer.weight).abs() <= 0.51 * steps).all()
                layer.weight.copy_(weight.dequantize())
        torch.testing.assert_close(found, model(images), rtol=0, atol=1e-5 * before.abs().max().item())
    assert (found - before).abs().max() > 1e-4
    assert not hasattr(copied.head.weight, "qdata"), "the head stays as it is"


def test_fp8_without_a_gpu_and_unknown_schemes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(CONFIGS["vit-token"])
    with pytest.raises(InputError, match="fp8 is for an NVIDIA GPU"):
        quantized_copy(model, "fp8")
    with pytest.raises(UnknownNameError, match="unknown scheme 'int4'"):
        quantized_copy(model, "int4")
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(MissingPackageError, match=r"needs torchao, .* pip install 'vitsmith\[gpu\]'"):
        quantized_copy(model, "int8-weights")
