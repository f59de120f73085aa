"""Google's `.npz` files, both ways: their contents are worked out and kept to the bit, and what is wrong is named."""

from __future__ import annotations

import contextlib
import io
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.tiny import (
    CONFIGS,
    REFERENCE,
    layout_of,
    released_npz,
    second_naming,
    small_cases,
    tiny_inputs,
    tiny_model,
)
from tests.weights.foreign_files import loaded
from vitsmith.errors import InputError, OutputError, WeightsError
from vitsmith.models.build import Model, build
from vitsmith.models.config import ModelConfig
from vitsmith.models.configure import change, configure
from vitsmith.weights.containers.npz import NpzFile
from vitsmith.weights.jax.config import infer_config
from vitsmith.weights.jax.names import FLAX_LINEN, jax_slots, naming_of
from vitsmith.weights.jax.writer import save_npz

LAYOUTS = sorted(path.stem for path in (REFERENCE / "layouts").glob("*.json"))
CASES = small_cases()
TOKEN = CASES["small-vit-token"]["layout"]
QUERY = "Transformer/encoderblock_0/MultiHeadDotProductAttention_1/query/kernel"


def load_npz(path: Path, **options: Any) -> Model:
    return loaded(path, **options).model


def options_of(case: str) -> dict[str, Any]:
    """What the arrays of a recorded small model do not tell."""
    size = CASES[case]["image_size"]
    return {"pooling": "unpooled" if "unpooled" in case else None, "image_size": (size, size)}


def arrays_in(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


def shapes_of(config: ModelConfig, names: set[str]) -> dict[str, tuple[int, ...]]:
    """Names and shapes that we would write for a model, in the naming that `names` use."""
    model, slots = build(config, device="meta"), jax_slots(config, naming_of(names))
    return {name: slot.foreign_shape(model.get_parameter(slot.parameter).shape) for name, slot in slots.items()}


# --- what is inside --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rename", [str, second_naming], ids=["first naming", "second naming"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_architecture_of_every_published_layout(layout: str, rename: Callable[[str], str]) -> None:
    recorded = layout_of(layout)
    classes = None if layout.startswith("LiT") else recorded["classes"]
    expected = configure(recorded["model"], classes=classes, image_size=recorded["image_size"])
    if recorded["config"].get("representation_size"):
        expected = change(expected, representation=recorded["config"]["representation_size"])
    shapes = {rename(name): tuple(shape) for name, shape in recorded["layout"].items()}
    assert infer_config(shapes) == expected
    assert shapes_of(expected, set(shapes)) == shapes


@pytest.mark.parametrize("case", CASES)
def test_a_round_trip_keeps_every_byte(case: str, tmp_path: Path) -> None:
    released = released_npz(tmp_path / "released.npz", CASES[case]["layout"])
    save_npz(load_npz(released, **options_of(case)), tmp_path / "saved.npz")
    before, after = arrays_in(released), arrays_in(tmp_path / "saved.npz")
    assert {name: list(array.shape) for name, array in after.items()} == CASES[case]["layout"]
    for name, array in before.items():
        assert after[name].dtype == np.float32 and after[name].tobytes() == array.tobytes(), name


@pytest.mark.parametrize("name", [name for name in CONFIGS if name not in ("vit-timm", "vit-distilled", "lit-bias")])
def test_a_saved_model_loads_as_it_was(name: str, tmp_path: Path) -> None:
    config, model = CONFIGS[name], tiny_model(CONFIGS[name])
    save_npz(model, tmp_path / "saved.npz")
    pooling = getattr(config, "pooling", None)
    if name.startswith(
        "lit-bert"
    ):  # neither heads nor length are in the arrays: released BERTs have heads of 64, 16 tokens
        config = change(config, text={**config.text.model_dump(), "length": 16})
    loaded = load_npz(tmp_path / "saved.npz", image_size=config.image_size, pooling=pooling)
    assert loaded.config == config and not loaded.training
    for key, weight in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[key], weight, rtol=0, atol=0)


def test_a_grid_that_is_not_square_needs_its_size(tmp_path: Path) -> None:
    model, (images,) = tiny_model(CONFIGS["vit-token"]), tiny_inputs(CONFIGS["vit-token"], 2)
    save_npz(model, tmp_path / "told.npz")
    torch.testing.assert_close(load_npz(tmp_path / "told.npz")(images), model(images))
    np.savez(tmp_path / "wide.npz", **arrays_in(tmp_path / "told.npz"))  # as others write it
    with pytest.raises(
        WeightsError, match=r"6 patch positions do not form a square: give the size with `image_size`, as 224x320"
    ):
        load_npz(tmp_path / "wide.npz")
    torch.testing.assert_close(load_npz(tmp_path / "wide.npz", image_size=(16, 24))(images), model(images))
    with pytest.raises(WeightsError, match=r"pos_embedding is 1x7x32, expected 1x5x32"):
        load_npz(tmp_path / "wide.npz", image_size=(16, 16))


def test_the_claimed_name_is_checked(tmp_path: Path) -> None:
    path = released_npz(tmp_path / "small.npz", TOKEN)
    with pytest.raises(
        WeightsError, match=r"small\.npz is not ViT-Ti_16: width 48 instead of 192, depth 2 instead of 12"
    ):
        load_npz(path, name="Ti/16")


@pytest.mark.parametrize("kind", ["<f2", "<f8", ">f4", "fortran", "compressed"])
def test_other_floats_and_orders_are_read(kind: str, tmp_path: Path) -> None:
    arrays = {
        name: array.astype(np.float16) for name, array in arrays_in(released_npz(tmp_path / "a.npz", TOKEN)).items()
    }
    expected = tiny_weights(
        released_npz(tmp_path / "b.npz", TOKEN, {name: a.astype("f4") for name, a in arrays.items()})
    )
    order = "F" if kind == "fortran" else "C"
    stored = {name: np.array(a, kind if kind[0] in "<>" else "<f4", order=order) for name, a in arrays.items()}
    (np.savez_compressed if kind == "compressed" else np.savez)(tmp_path / "c.npz", **stored)
    found = tiny_weights(tmp_path / "c.npz")
    assert all(
        torch.equal(found[name], weight) and found[name].dtype == torch.float32 for name, weight in expected.items()
    )


def tiny_weights(path: Path) -> dict[str, torch.Tensor]:
    return load_npz(path).state_dict()


def test_group_norms_of_newer_flax_have_one_axis(tmp_path: Path) -> None:
    layout = CASES["small-hybrid-stem"]["layout"]
    expected = tiny_weights(released_npz(tmp_path / "old.npz", layout))
    flat = {
        name: array.reshape(-1) for name, array in arrays_in(tmp_path / "old.npz").items() if name.startswith("gn_")
    }
    found = tiny_weights(released_npz(tmp_path / "new.npz", layout, flat))
    assert len(flat) == 2 and all(torch.equal(found[name], weight) for name, weight in expected.items())


# --- heads -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        (
            {"head/kernel": np.zeros((48, 10), np.float32)},
            r"'head/kernel' is all zeros .*headless=True.*init_for_finetune",
        ),
        ({"head/kernel": None, "head/bias": None}, "no classifier head in this file: .*headless=True"),
    ],
)
def test_a_head_that_means_nothing_is_refused_unless_features_are_wanted(
    changed: dict[str, np.ndarray | None], problem: str, tmp_path: Path
) -> None:
    path = released_npz(tmp_path / "weights.npz", TOKEN, changed)
    with pytest.raises(WeightsError, match=rf"weights\.npz: .*{problem}"):
        load_npz(path)
    whole = load_npz(released_npz(tmp_path / "whole.npz", TOKEN))
    images = tiny_inputs(whole.config, 2)[0]
    features = load_npz(path, headless=True)
    torch.testing.assert_close(features(images), whole.features(images).pooled, rtol=0, atol=5e-6)
    torch.testing.assert_close(
        load_npz(tmp_path / "whole.npz", headless=True)(images), features(images), rtol=0, atol=0
    )


# --- bad files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({QUERY.replace("query", "value"): None}, "1 missing: Transformer/encoderblock_0/.*/value/kernel"),
        ({"cls": None}, "'cls' is missing"),
        ({"head/bias": None}, "1 missing: head/bias"),
        ({"opt/step": np.zeros(3, np.float32)}, "1 unexpected: opt/step"),
        ({"head/bias": np.zeros(11, np.float32)}, "1 of wrong shape: head/bias is 11, expected 10"),
        ({"cls": np.zeros((1, 48), np.float32)}, "cls is 1x48, expected 1x1x48"),
        ({QUERY: np.zeros((48, 48), np.float32)}, "query/kernel is 48x48, expected 48x3x16"),
        ({"head/kernel": np.zeros((), np.float32)}, "'head/kernel' has shape , expected 2 axes"),
        ({"embedding/kernel": None}, "not the arrays of a ViT, hybrid, Mixer or LiT"),
        ({"Transformer/posembed_input/pos_embedding": None}, "pos_embedding' is missing"),
        ({"head/bias": np.zeros(10, np.int64)}, "'head/bias' has type int64, weights are floating point"),
        ({"head/bias": np.zeros(10, "S4")}, "'head/bias' has type"),
    ],
)
def test_arrays_that_do_not_fit_are_named(changed: dict[str, Any], problem: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=problem) as refused:
        load_npz(released_npz(tmp_path / "bad.npz", TOKEN, changed))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "case", ["small-vit-representation", "small-hybrid-stages", "small-Mixer", "small-LiT-image-head"]
)
def test_no_missing_group_of_arrays_goes_unnoticed(case: str) -> None:
    shapes = {name: tuple(shape) for name, shape in CASES[case]["layout"].items()}
    unnoticed = set()
    for group in {"/".join(name.split("/")[:levels]) for name in shapes for levels in (1, 2, 3, 4)}:
        rest = {name: shape for name, shape in shapes.items() if not name.startswith(f"{group}/") and name != group}
        with contextlib.suppress(InputError):
            config = infer_config(rest)
            if shapes_of(config, set(rest)) == rest:
                unnoticed.add(group)
    # Nothing in the arrays says how deep the model was meant to be, nor that it had a head: a name is asked for that.
    last = r"head|Transformer/encoderblock_1|img/Transformer/encoderblock_1|txt/Encoder_0/encoderblock_1|MixerBlock_1"
    assert all(re.fullmatch(rf"{last}|block1/unit2", group) for group in unnoticed), unnoticed


class Bomb:
    """Unpickling it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self.path,)


def test_objects_are_refused_and_never_unpickled(tmp_path: Path) -> None:
    bomb, mark = np.array([Bomb(tmp_path / "exploded")], dtype=object), tmp_path / "exploded"
    path = released_npz(tmp_path / "objects.npz", TOKEN, {"head/bias": bomb})
    with pytest.raises(WeightsError, match="'head/bias' holds pickled Python objects; refused"):
        load_npz(path)
    (tmp_path / "pickle.npz").write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(WeightsError, match=r"not a complete \.npz file"):
        NpzFile(tmp_path / "pickle.npz")
    assert not mark.exists()
    with np.load(path, allow_pickle=True) as file:
        file["head/bias"]
    assert mark.exists(), "the bomb was no bomb"


@pytest.mark.parametrize("content", [b"", b"not a zip", b"\x93NUMPY"])
def test_what_is_no_archive_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(WeightsError, match=r"x\.npz: not a complete \.npz file .*download or copy it again"):
        NpzFile(tmp_path / "x.npz")
    with pytest.raises(WeightsError, match=r"y\.npz: no such file"):
        NpzFile(tmp_path / "y.npz")


def test_a_file_cut_short_or_with_a_changed_byte_never_gives_other_weights(tmp_path: Path) -> None:
    path, damaged = released_npz(tmp_path / "whole.npz", TOKEN), tmp_path / "damaged.npz"
    content, expected = path.read_bytes(), tiny_weights(path)
    directory = content.find(b"PK\x01\x02")
    random = np.random.default_rng(0).integers(0, len(content), 60).tolist()
    for length in (*random[:15], directory, len(content) - 1):
        damaged.write_bytes(content[:length])
        with pytest.raises(WeightsError, match=r"damaged\.npz"):
            load_npz(damaged)
    for place in (*random, *range(0, 60, 3), *range(64, 200, 12), *range(directory, directory + 90, 4)):
        for bits in (0x01, 0x80):
            changed = bytearray(content)
            changed[place] ^= bits
            damaged.write_bytes(changed)
            try:
                found = tiny_weights(damaged)
            except InputError as error:
                assert str(error).count("\n") == 0
            else:  # a byte that means nothing, such as a date
                assert all(torch.equal(found[name], weight) for name, weight in expected.items()), place


def test_a_header_that_claims_more_than_there_is_allocates_nothing(tmp_path: Path) -> None:
    released_npz(tmp_path / "huge.npz", TOKEN, {"head/kernel": None})
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (48, 10**12)})
    with zipfile.ZipFile(tmp_path / "huge.npz", "a") as container:
        container.writestr("head/kernel.npy", header.getvalue())
    with pytest.raises(WeightsError, match="'head/kernel' is damaged: 0 bytes are not"):
        load_npz(tmp_path / "huge.npz")


# --- writing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"gelu": "erf"}, "the erf form of GELU"),
        ({"norm_eps": 1e-5}, "LayerNorm eps 1e-05"),
        ({"pooling": "gap", "class_token": True}, "mean pooling beside a class token"),
        ({"pooling": "gap", "norm_after_pooling": True}, "a norm after the pooling"),
        ({"distillation_token": True}, "a distillation token"),
    ],
)
def test_what_the_format_cannot_hold_is_refused(changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=f"cannot hold {reason}; save a bundle instead"):
        save_npz(build(change(CONFIGS["vit-token"], **changes)), tmp_path / "no.npz")
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, path = tiny_model(CONFIGS["vit-token"]), tmp_path / "weights.npz"
    save_npz(model, path)
    before = path.read_bytes()
    write, calls = np.lib.format.write_array, []

    def fail(*arguments: Any, **options: Any) -> None:
        calls.append(1)
        if len(calls) == 5:
            raise OSError(28, "No space left on device")
        write(*arguments, **options)

    monkeypatch.setattr(np.lib.format, "write_array", fail)
    with pytest.raises(OutputError, match=r"cannot write .*weights\.npz: No space left on device"):
        save_npz(model, path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    with pytest.raises(OutputError, match="cannot write"):
        save_npz(model, path / "below-a-file.npz")


def test_the_naming_can_be_chosen() -> None:
    names = set(jax_slots(CONFIGS["vit-token"], FLAX_LINEN))
    assert names == {second_naming(name) for name in jax_slots(CONFIGS["vit-token"])}
