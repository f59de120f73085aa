"""What the hub refuses, and what is no vision transformer: one line that says what happened and what to type."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

import vitsmith as vs
from tests.weights.fetch.hub.hub_server import TOKEN, HubServer
from tests.weights.fetch.hub.models import timm_model, torch_file
from tests.weights.foreign_reference import timm_vit
from vitsmith.errors import DownloadError, InputError, OutputError, WeightsError
from vitsmith.weights.fetch.hub.address import hub_address
from vitsmith.weights.fetch.hub.known_models import close_names, known_models
from vitsmith.weights.fetch.hub.other_kinds import HF, TIMM, other_architecture


def refusal(source: str, error: type[InputError] = DownloadError) -> str:
    """The message of one line with which `source` is refused."""
    with pytest.raises(error) as raised:
        vs.load(source)
    message = str(raised.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("hf:", "hf: names no model: write hf:OWNER/NAME"),
        ("hf:vit", "is no name of a model on the Hugging Face hub: write hf:OWNER/NAME"),
        ("hf:me/pets/model", "is no name of a model on the Hugging Face hub"),
        ("hf:me/pets/folder/model.safetensors", "is no name of a model on the Hugging Face hub"),
        ("hf:me/../pets", "is no name of a model on the Hugging Face hub"),
        ("hf:me/pets.", "is no name of a model on the Hugging Face hub"),
        (f"hf:me/{'pets' * 30}", "is no name of a model on the Hugging Face hub"),
        ("hf:me/pets@", "write a branch, tag or commit behind '@', as hf:me/pets@main"),
        ("hf:me/pets@../x", "write a branch, tag or commit behind '@'"),
        ("hf:./pets", "give a folder on this machine without a prefix: ./pets"),
        ("hf:/pets", "give a folder on this machine without a prefix: /pets"),
    ],
)
def test_what_is_no_name_is_refused_without_asking_anybody(source: str, told: str) -> None:
    assert told in refusal(source, InputError)


def test_names_of_the_hub_are_understood() -> None:
    address = hub_address("hf-hub:timm/vit_base_patch16_dinov3.lvd1689m@refs/pr/2")
    assert address is not None
    assert (address.name, address.revision) == ("timm/vit_base_patch16_dinov3.lvd1689m", "refs/pr/2")
    assert str(address) == "hf:timm/vit_base_patch16_dinov3.lvd1689m@refs/pr/2"
    assert hub_address("ViT-B_16.sam") is None
    chosen = hub_address("hf:me/pets/model.safetensors@v1")
    assert chosen is not None and str(chosen) == "hf:me/pets/model.safetensors@v1"
    assert (chosen.name, chosen.file) == ("me/pets", "model.safetensors")
    assert chosen.by_hand.startswith("hf download me/pets --revision v1 --local-dir pets")
    assert all(hub_address(f"hf:{row.name}") is not None for row in known_models())


def test_a_missing_model_is_told_with_the_names_it_resembles(hub: HubServer) -> None:
    told = refusal("hf:google/vit-bas-patch16-224")
    assert told.startswith("hf:google/vit-bas-patch16-224: the hub has no such model: did you mean hf:google/vit-base")
    assert told.endswith("if it is a private one, log in:  hf auth login")
    assert "did you mean" not in refusal("hf:me/zzzzzzzz")


def test_a_known_model_that_this_hub_lacks_is_not_proposed_in_its_own_place(hub: HubServer) -> None:
    assert "did you mean hf:openai/clip-vit-base-patch16" in refusal("hf:openai/clip-vit-base-patch32")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("openai/clip-vit-b-patch32", "hf:openai/clip-vit-base-patch32"),
        ("meta/dinov3-vitb16-pretrain-lvd1689m", "hf:facebook/dinov3-vitb16-pretrain-lvd1689m"),
        ("timm/vit_base_patch16_224.augreg_1k", "hf:timm/vit_base_patch16_224.augreg_in1k"),
        ("google/ViT-B_16.augreg-i21k", "ViT-B_16.augreg-i21k"),
    ],
)
def test_names_are_found_among_those_of_the_hub_and_the_published(given: str, meant: str) -> None:
    assert meant in close_names(given)


def test_a_private_model_is_told_as_a_missing_one(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("me/secret", timm_model(), private=True)
    assert "the hub has no such model" in refusal("hf:me/secret")
    monkeypatch.setenv("HF_TOKEN", "hf_of_another")
    assert "if it is a private one, log in:  hf auth login" in refusal("hf:me/secret")


def test_a_gated_model_says_how_to_ask_and_log_in(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("facebook/gated", timm_model(), gated=True)
    asked = f"its owner gives access on request: ask for it at {hub.address}/facebook/gated , then log in"
    assert asked in refusal("hf:facebook/gated")
    monkeypatch.setenv("HF_TOKEN", "hf_of_another")
    asked = f"your account has no access: ask for it at {hub.address}/facebook/gated , and wait"
    assert asked in refusal("hf:facebook/gated")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert vs.load("hf:facebook/gated").classes == 5


def test_a_token_that_is_not_valid_is_told(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_another")
    hub.status = 401
    assert "correct HF_TOKEN, or log in:  hf auth login" in refusal("hf:me/pets")


def test_a_missing_revision_is_told(hub: HubServer) -> None:
    hub.add("me/pets", timm_model())
    told = refusal("hf:me/pets@v2")
    assert told == "hf:me/pets@v2: it has no branch, tag or commit 'v2': write hf:me/pets for its main branch"


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (401, "the hub has no such model; if it is a private one, log in"),
        (403, "the hub refuses access (HTTP 403): give your token the permission to read it, or log in:  hf auth"),
        (429, "the hub has had too many requests from here (HTTP 429): wait some minutes, or log in"),
        (500, "the hub fails (HTTP 500): try again later"),
        (418, "the hub refuses (HTTP 418)"),
        (204, "is no Hugging Face hub: check HF_ENDPOINT and the proxy"),
    ],
)
def test_other_answers_are_told_by_their_status(hub: HubServer, status: int, told: str) -> None:
    hub.status = status
    assert told in refusal("hf:me/zzzzzzzz")


def test_a_hub_that_is_not_there_is_told(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    told = refusal("hf:me/pets@v1")
    assert "http://127.0.0.1:9 cannot be reached" in told
    assert told.endswith("hf download me/pets --revision v1 --local-dir pets  , then give that folder")


def test_offline_without_the_model_is_told(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    told = refusal("hf:me/pets")
    assert told.startswith("hf:me/pets is not in the cache ")
    assert "HF_HUB_OFFLINE is set: unset it, or fetch it on another machine:  hf download me/pets" in told
    assert hub.requests == []


def test_a_cache_that_cannot_be_written_is_told(hub: HubServer, tmp_path: Path) -> None:
    hub.add("me/pets", timm_model())
    (tmp_path / "hf").write_text("a file in its place")
    assert "cannot write" in (told := refusal("hf:me/pets", OutputError)) and "set HF_HOME to another folder" in told


CONFIG = json.dumps({"model_type": "vit"}).encode()
OTHERS = {
    "diffusion": (
        {"model_index.json": b"{}", "unet/diffusion_pytorch_model.safetensors": b""},
        "is a diffusion pipeline",
    ),
    "adapter": ({"adapter_config.json": b"{}", "adapter_model.safetensors": b""}, "is an adapter alone (PEFT)"),
    "gguf": ({"vit-Q4_0.gguf": b"", "config.json": CONFIG}, "has its model as GGUF alone"),
    "onnx": ({"onnx/model.onnx": b"", "config.json": CONFIG}, "has its model as ONNX alone"),
    "openvino": ({"openvino_model.xml": b"", "openvino_model.bin": b""}, "has its model as OpenVINO alone"),
    "tensorflow": ({"tf_model.h5": b"", "config.json": CONFIG}, "has its model for TensorFlow alone"),
    "saved model": ({"saved_model.pb": b"", "variables/variables.index": b""}, "has its model for TensorFlow alone"),
    "flax": ({"flax_model.msgpack": b"", "config.json": CONFIG}, "has its model for Flax alone"),
    "nothing": (
        {"README.md": b"", ".gitattributes": b""},
        "has no weights that vitsmith reads: it has .git",
    ),
    "bundle": (
        {"bundle.json": b"{}", "model.safetensors": b""},
        "is a bundle of vitsmith: fetch it first:  hf ",
    ),
    "open_clip": (
        {"open_clip_config.json": b'{"model_cfg": {"multimodal_cfg": {"a": 1}}}', "open_clip_model.safetensors": b""},
        "is a CoCa of open_clip, with a decoder that writes captions",
    ),
    "convolutional": (
        {"config.json": json.dumps({"architecture": "resnet50"}).encode(), "model.safetensors": b""},
        "is resnet50 of timm, a convolutional network",
    ),
    "hierarchical": (
        {"config.json": json.dumps({"architecture": "swin_tiny"}).encode(), "model.safetensors": b""},
        "is swin_tiny of timm, no plain vision transformer",
    ),
    "language": (
        {"config.json": json.dumps({"model_type": "llama"}).encode(), "model.safetensors": b""},
        "is a model of type 'llama' of transformers, no plain vision transformer",
    ),
    "NaFlex": (
        {"config.json": json.dumps({"model_type": "siglip2"}).encode(), "model.safetensors": b""},
        ": model_type 'siglip2' is not supported: it is SigLIP 2 NaFlex, whose images keep their shape",
    ),
    "transformers": (
        {"config.json": json.dumps({"model_type": "beit"}).encode(), "model.safetensors": b""},
        ": model_type 'beit' is not supported, known are vit, deit",
    ),
    "several": ({"b16.pth": b"", "l16.pth": b""}, "has 2 files of weights, b16.pth, l16.pth, and nothing says which"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_something_else_is_refused_by_what_it_is_before_weights_are_fetched(hub: HubServer, kind: str) -> None:
    files, told = OTHERS[kind]
    hub.add("me/other", files)
    assert refusal("hf:me/other", WeightsError).startswith(f"hf:me/other {told}".replace(" :", ":"))
    assert [path.rpartition("/")[2] for path in hub.fetched()] in ([], ["config.json"], ["open_clip_config.json"])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a Git LFS pointer, not the file"),
        (b"<!doctype html><html></html>", "an HTML page"),
        (b"", "empty"),
        (b"Entry not found", "text that says 'Entry not found'"),
    ],
)
def test_what_lies_in_the_place_of_weights_is_named(hub: HubServer, tmp_path: Path, content: bytes, told: str) -> None:
    hub.add("me/pets", {**timm_model(), "model.safetensors": content})
    assert f"hf:me/pets: model.safetensors is {told}" in refusal("hf:me/pets", WeightsError)
    assert not list((tmp_path / "hf").rglob("model.safetensors"))


def test_a_file_that_is_not_there_is_told_with_those_that_are(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("me/pets", timm_model())
    told = refusal("hf:me/pets/ema.safetensors", WeightsError)
    assert told == "hf:me/pets/ema.safetensors: there is no such file in it; it has model.safetensors"
    vs.load("hf:me/pets")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "hf:me/pets/ema.safetensors is not in the cache" in refusal("hf:me/pets/ema.safetensors")


def test_parts_that_are_not_there_are_named(hub: HubServer) -> None:
    index = json.dumps({"weight_map": {"a": "model-1.safetensors"}}).encode()
    hub.add("me/pets", {"config.json": timm_model()["config.json"], "model.safetensors.index.json": index})
    told = refusal("hf:me/pets", WeightsError)
    assert "hf:me/pets lacks model-1.safetensors, which its model.safetensors.index.json lists" in told


def test_what_our_models_cannot_do_is_refused_by_its_arrays(hub: HubServer) -> None:
    state = {**timm_vit(), "rel_pos_bias.relative_position_bias_table": timm_vit()["cls_token"]}
    hub.add("me/beit", {"config.json": timm_model()["config.json"], "pytorch_model.bin": torch_file(state)})
    assert "relative position biases" in refusal("hf:me/beit", WeightsError)


def test_a_vocabulary_is_for_files() -> None:
    with pytest.raises(InputError, match=r"for \.npz checkpoints, not for hf:me/pets: leave it out"):
        vs.load("hf:me/pets", vocabulary="words.txt")


def test_architectures_are_told_apart_by_their_names() -> None:
    assert all(other_architecture({"architecture": f"{begin}x"}) == "" for begin in TIMM)
    assert all(other_architecture({"model_type": kind}) == "" for kind in HF)
    for name in (
        "convnext_tiny",
        "tf_efficientnet_b0",
        "legacy_seresnet18",
        "wide_resnet50_2",
        "mobilenetv3_large_100",
    ):
        assert other_architecture({"architecture": name}).endswith("a convolutional network")
    assert other_architecture({}) == ""


def test_the_readable_copy_of_a_program_is_named(hub: HubServer, tmp_path: Path) -> None:
    place = tmp_path / "ViT-B-32.pt"
    with zipfile.ZipFile(place, "w") as archive:
        for name in ("data.pkl", "code/__torch__.py", "version"):
            archive.writestr(f"ViT-B-32/{name}", "")
    program = place.read_bytes()
    told = refusal(str(place), WeightsError)
    assert "a TorchScript program" in told and told.endswith("is hf:openai/clip-vit-base-patch32")
    hub.add("me/clip", {"ViT-B-32.pt": program})
    assert refusal("hf:me/clip", WeightsError).endswith("choose hf:openai/clip-vit-base-patch32")
