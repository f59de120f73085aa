"""The table of published checkpoints: that it is consistent, and that its files have the size their contents need."""

from __future__ import annotations

import json
from urllib.parse import unquote, urlsplit

import pytest
from typer.testing import CliRunner

from tests import REFERENCE
from vitsmith.cli.main import app
from vitsmith.errors import InputError, UnknownNameError
from vitsmith.models.config import LiTConfig
from vitsmith.models.presets import find_preset, presets
from vitsmith.weights.fetch.published import PublishedFile, accuracies, checkpoints, checkpoints_of, find_checkpoint

LAYOUTS = REFERENCE / "layouts"

# How many files each bucket has: those that vit_jax.ipynb lists, README.md's and vit_jax_augreg.ipynb's table of
# recommended ones (each before and after fine-tuning), the four of pull request 215, the models of lit.ipynb, and
# those of SigLIP_demo.ipynb and README_siglip2.md without the NaFlex ones.
BUCKETS = {
    "vit_models/imagenet21k": 9,
    "vit_models/imagenet21k+imagenet2012": 8,
    "vit_models/augreg": 20,
    "vit_models/sam": 5,
    "vit_models/gsam": 4,
    "vit_models/lit": 5,
    "mixer_models/imagenet1k": 2,
    "mixer_models/imagenet21k": 2,
    "mixer_models/sam": 2,
    "mixer_models/gsam": 5,
    "big_vision/siglip": 10,
    "big_vision/siglip2": 15,
}

TIMES_THREE = "ViT-S_16.sam"
"""Its file is as large as three copies of the model: 252.57 MiB for 22,050,664 float32 parameters."""


def test_every_bucket_has_its_files() -> None:
    folders = [unquote(urlsplit(row.url).path).rpartition("/")[0].removeprefix("/") for row in checkpoints()]
    assert {folder: folders.count(folder) for folder in dict.fromkeys(folders)} == BUCKETS


def test_tags_and_addresses_are_unique_and_need_no_encoding() -> None:
    assert len({row.tag.lower() for row in checkpoints()}) == len(checkpoints())
    assert len({row.url for row in checkpoints()}) == len(checkpoints())
    for row in checkpoints():
        assert row.url.startswith("https://storage.googleapis.com/") and row.url.endswith(".npz")
        assert "+" not in row.url
        assert row.source


def parameters_of(row: PublishedFile) -> float:
    """Parameters in a row's file, from the recorded layout (1,000 classes, 224 pixels) of its model."""
    record = json.loads((LAYOUTS / f"{row.model}.json").read_text())
    layout = record["layout"]
    head_width, classes = layout["head/kernel"]
    total = record["parameters"] + (head_width + 1) * ((row.classes or 0) - classes)
    if "Transformer/posembed_input/pos_embedding" in layout:
        _, tokens, width = layout["Transformer/posembed_input/pos_embedding"]
        total += width * (tokens - 1) * ((row.resolution / 224) ** 2 - 1)
    if row.tag.endswith(".imagenet21k") and row.model.startswith(("ViT", "R")):
        total += head_width * (head_width + 1)  # only the first ImageNet-21k release has the pre_logits layer
    return float(total)


@pytest.mark.parametrize(
    "row",
    [
        row
        for row in checkpoints()
        if row.size_mib and row.tag != TIMES_THREE and (LAYOUTS / f"{row.model}.json").exists()
    ],
    ids=lambda row: row.tag,
)
def test_a_file_has_the_size_of_its_model_at_its_resolution_and_classes(row: PublishedFile) -> None:
    assert row.size_mib is not None
    needed = parameters_of(row) * 4 / 2**20
    # 0.2 MiB of names and headers; the source prints sizes over 1,000 MiB as GiB with two decimals, AugReg's as MiB.
    slack = 5.5 if row.size_mib > 1000 else 0.6 if row.tag.endswith(".augreg-i21k") else 0.25
    assert needed == pytest.approx(row.size_mib, abs=slack)


def test_accuracies_are_those_of_the_sources() -> None:
    """README.md, model_cards/lit.md; B/8 from vit_jax_augreg.ipynb (0.85578); README_siglip2.md of big_vision."""
    assert {row.tag: row.accuracy for row in checkpoints() if row.accuracy} == {
        "ViT-L_16.augreg-imagenet2012-384": 85.59,
        "ViT-B_16.augreg-imagenet2012-384": 85.49,
        "ViT-S_16.augreg-imagenet2012-384": 83.73,
        "R50+ViT-L_32.augreg-imagenet2012-384": 85.99,
        "R26+ViT-S_32.augreg-imagenet2012-384": 83.85,
        "ViT-Ti_16.augreg-imagenet2012-384": 78.22,
        "ViT-B_32.augreg-imagenet2012-384": 83.59,
        "ViT-S_32.augreg-imagenet2012-384": 79.58,
        "R+ViT-Ti_16.augreg-imagenet2012-384": 75.40,
        "ViT-B_8.augreg-imagenet2012-224": 85.58,
        "ViT-B_16.imagenet21k+imagenet2012-224": 81.2,
        "ViT-L_16.imagenet21k+imagenet2012-224": 82.7,
        "LiT-B16B.lit": 72.1,
        "LiT-B16B_2.lit": 73.9,
        "LiT-L16L.lit": 75.7,
        "SigLIP2-B_32.webli-256": 74.0,
        "SigLIP2-B_16.webli-224": 78.2,
        "SigLIP2-B_16.webli-256": 79.1,
        "SigLIP2-B_16.webli-384": 80.6,
        "SigLIP2-B_16.webli-512": 81.2,
        "SigLIP2-L_16.webli-256": 82.5,
        "SigLIP2-L_16.webli-384": 83.1,
        "SigLIP2-L_16.webli-512": 83.5,
        "SigLIP2-So400m_14.webli-224": 83.2,
        "SigLIP2-So400m_14.webli-384": 84.1,
        "SigLIP2-So400m_16.webli-256": 83.4,
        "SigLIP2-So400m_16.webli-384": 84.1,
        "SigLIP2-So400m_16.webli-512": 84.3,
        "SigLIP2-g_16.webli-256": 84.5,
        "SigLIP2-g_16.webli-384": 85.0,
    }


def test_an_augreg_file_is_named_after_its_model_and_resolution() -> None:
    for row in checkpoints():
        if ".augreg-" in row.tag:
            assert row.stem.split("-")[0] == row.model.replace("ViT-", "").replace("+", "_")
            pretraining, _, fine_tuning = row.stem.partition("--")
            assert "-i21k-300ep-" in pretraining
            assert fine_tuning.endswith(f"-res_{row.resolution}") or (not fine_tuning and row.resolution == 224)
            assert row.tag == f"{row.model}.augreg-" + (f"imagenet2012-{row.resolution}" if fine_tuning else "i21k")


def test_lit_has_a_vocabulary_of_its_own_kind_and_no_classes() -> None:
    """vit_jax/models_lit.py: <model>.txt for WordPiece (BERT towers), <model>.model for SentencePiece."""
    lit = [row for row in checkpoints() if row.model.startswith("LiT")]
    suffixes = {row.model: row.vocabulary.removeprefix(row.url.removesuffix(".npz")) for row in lit}
    assert suffixes == {
        "LiT-B16B": ".txt",
        "LiT-B16B_2": ".txt",
        "LiT-L16L": ".txt",
        "LiT-L16S": ".model",
        "LiT-L16Ti": ".model",
    }
    towers = [row for row in checkpoints() if isinstance(find_preset(row.model)[0].config, LiTConfig)]
    assert all((row.classes is None) == (row in towers) == bool(row.vocabulary) for row in checkpoints())


def test_siglip_has_the_vocabulary_that_its_text_tower_is_for() -> None:
    """pp/ops_text.py and pp/proj/paligemma/ops.py of big_vision."""
    vocabularies = {32_000: "cc_en.32000", 250_000: "mc4.250000.100extra", 256_000: "gemma_tokenizer"}
    for row in checkpoints():
        config = find_preset(row.model)[0].config
        if isinstance(config, LiTConfig) and config.bias:
            assert vocabularies[config.text.vocabulary] in row.vocabulary and row.vocabulary.endswith(".model")
            assert row.stem.split("_")[-1] == str(row.resolution) or f"_{row.resolution}_" in row.stem


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("ViT-B_16.imagenet21k", "ViT-B_16.imagenet21k"),
        ("vit-b_16.IMAGENET21K+imagenet2012", "ViT-B_16.imagenet21k+imagenet2012"),
        ("B/16.sam", "ViT-B_16.sam"),
        ("ViT-B_16.gsam", "ViT-B_16.gsam"),
        ("ViT-B_16-gap-norep.gsam", "ViT-B_16.gsam"),
        ("ViT-L_16-224", "ViT-L_16.imagenet21k+imagenet2012-224"),
        ("LiT-B16B_2", "LiT-B16B_2.lit"),
        ("R_Ti_16-i21k-300ep-lr_0.001-aug_none-wd_0.03-do_0.0-sd_0.0", "R+ViT-Ti_16.augreg-i21k"),
        ("https://storage.googleapis.com/mixer_models/sam/Mixer-B_32.npz", "Mixer-B_32.sam"),
        ("gs://vit_models/imagenet21k+imagenet2012/R50+ViT-B_16.npz", "R50+ViT-B_16.imagenet21k+imagenet2012"),
    ],
)
def test_a_checkpoint_is_found_by_tag_alias_file_and_address(name: str, tag: str) -> None:
    assert find_checkpoint(name).tag == tag


def test_every_row_is_found_by_its_tag_and_its_address() -> None:
    for row in checkpoints():
        assert find_checkpoint(row.tag) is row
        assert find_checkpoint(row.url) is row


def test_a_name_of_nothing_or_of_several_is_refused_with_what_there_is() -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean .*ViT-B_16\.imagenet21k"):
        find_checkpoint("ViT-B_16.imagenet22k")
    with pytest.raises(UnknownNameError, match="unknown checkpoint"):
        find_checkpoint("https://storage.googleapis.com/vit_models/sam/ViT-H_14.npz")
    with pytest.raises(InputError, match=r"names 4 checkpoints; choose one: ViT-B_16\.imagenet21k, .*ViT-B_16\.gsam$"):
        find_checkpoint("ViT-B_16")
    with pytest.raises(UnknownNameError):
        find_checkpoint("LiT-B16B_2.npz")  # a file on this machine, not a request for 700 MB


def test_the_checkpoints_of_a_model() -> None:
    assert [row.tag for row in checkpoints_of("Mixer-B/16")] == [
        "Mixer-B_16.imagenet1k",
        "Mixer-B_16.imagenet21k",
        "Mixer-B_16.sam",
        "Mixer-B_16.gsam",
    ]
    assert checkpoints_of("ViT-G_14") == ()
    with pytest.raises(UnknownNameError, match="unknown model"):
        checkpoints_of("ResNet-50")


def test_accuracies_of_others_are_of_architectures_whose_files_state_none() -> None:
    names = [row.model for row in accuracies()]
    assert len(set(names)) == len(names) == 27 and set(names) <= set(presets())
    assert all(row.accuracy is None for name in names for row in checkpoints_of(name))
    kinds = {row.model: row.kind for row in accuracies()}
    assert {kinds[name] for name in names if presets()[name].family in ("clip", "siglip")} == {"zero-shot"}
    assert {kinds[name] for name in names if presets()[name].family == "dinov2"} == {"linear probe"}
    best = {row.model: (row.accuracy, row.resolution) for row in accuracies()}
    assert best["CLIP-H_14"] == (84.37, 378) and best["DINOv2-g_14-reg4"] == (87.1, 224)
    said = json.loads(CliRunner().invoke(app, ["models", "--json"]).stdout)
    told = {row["name"]: row["published"] for row in said}
    assert told["DeiT3-L_16"] == "87.74 % at 384" and told["ViT-B_16"] == "85.49 % at 384"
    assert all(row["gflops"] and row["parameters"] and row["license"] for row in said)
