"""The table of distributions: each row has its folder, and recognises its own files and no others."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import save_file

import vitsmith.weights
from tests.tiny import released_npz, small_cases
from tests.weights import foreign_reference as reference
from tests.weights.dino_files import authors_file
from tests.weights.foreign_files import written
from tests.weights.open_clip_files import state_of as open_clip_state
from vitsmith.errors import WeightsError
from vitsmith.weights.containers.open import open_arrays
from vitsmith.weights.distributions import DISTRIBUTIONS, Distribution, distribution_of

PACKAGE = Path(*vitsmith.weights.__path__)

FILES = {
    "jax-npz": lambda folder: [
        released_npz(folder / f"{case}.npz", recorded["layout"]) for case, recorded in small_cases().items()
    ],
    "timm": lambda folder: [
        written(folder, reference.timm_vit(), name="vit.safetensors"),
        written(folder, reference.timm_mixer(), name="mixer.pth"),
    ],
    "hf": lambda folder: [
        written(folder, reference.hf_vit(), name="classifier.safetensors"),
        written(folder, reference.hf_vit(prefix="", pooler=reference.WIDTH), name="bare.bin"),
        written(folder, reference.in_new_names(reference.hf_vit()), name="new.safetensors"),
    ],
    "open_clip": lambda folder: [
        written(folder, open_clip_state(model), name=f"{model}.safetensors") for model in ("clip", "siglip")
    ],
    "dino": lambda folder: [authors_file(folder, name) for name in ("dinov2", "dinov3-gated")],
}
"""Files of each distribution, by its kind."""


def test_every_distribution_has_files_here() -> None:
    assert set(FILES) == {one.kind for one in DISTRIBUTIONS} and len(DISTRIBUTIONS) == len(FILES)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=lambda one: one.kind)
def test_a_distribution_is_a_folder_with_the_same_files(distribution: Distribution) -> None:
    folder = Path(*vitsmith.weights.__path__) / distribution.read.__module__.split(".")[2]
    assert {"names.py", "config.py", "reader.py"} <= {path.name for path in folder.iterdir()}
    assert (
        distribution.recognises.__module__ == distribution.read.__module__ == f"vitsmith.weights.{folder.name}.reader"
    )


@pytest.mark.parametrize("kind", FILES)
def test_one_row_recognises_a_file(kind: str, tmp_path: Path) -> None:
    for path in FILES[kind](tmp_path):
        with open_arrays(path) as file:
            possible = [one for one in DISTRIBUTIONS if isinstance(file, one.containers)]
            assert [one.kind for one in possible if one.recognises(file)] == [kind], path
            assert distribution_of(file).kind == kind


def test_arrays_of_no_distribution_are_refused_with_what_is_read(tmp_path: Path) -> None:
    state = {f"layer{index}.weight": array for index, array in enumerate(reference.hf_vit().values())}
    save_file(state, tmp_path / "other.safetensors")
    with (
        open_arrays(tmp_path / "other.safetensors") as file,
        pytest.raises(
            WeightsError,
            match="not the arrays of a timm ViT or Mixer or an HF ViT, CLIP or SigLIP or the authors' DINOv2 or ",
        ),
    ):
        distribution_of(file)
