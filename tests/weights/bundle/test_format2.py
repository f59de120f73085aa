"""Format 2 of bundles: what it has room for, what is refused by name, and how format 1 becomes it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vitsmith as vs
from tests.command_line import call
from tests.exporting import export_onnx
from tests.tiny import CONFIGS, VIT, pictures, tiny_lit, tiny_model
from tests.weights.bundle.bundles import FORMAT1, NAMES, labelled
from vitsmith import Bundle, Encoder, Labels, Predictor, Provenance, records, specs, text_spec
from vitsmith.engines import registry
from vitsmith.errors import BundleError, ConfigError, InputError, OutputError
from vitsmith.escapes import markdown
from vitsmith.exporters.web import PAGE
from vitsmith.models import config, parts, text_config
from vitsmith.models.config import ViTConfig
from vitsmith.models.configure import change
from vitsmith.records import Publication
from vitsmith.specs import Calibration, ProgramSpec, StoredProgram
from vitsmith.weights.bundle import identity, measurements, upgrade
from vitsmith.weights.bundle.folder import record_measurements, upgrade_bundle, write_bundle
from vitsmith.weights.bundle.identity import canonical
from vitsmith.weights.bundle.manifest import MANIFEST, checksum, read_manifest
from vitsmith.weights.bundle.programs import add_program


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes bundle.json as another version of vitsmith would, with a checksum that is right."""
    path = folder / MANIFEST
    fields = json.loads(path.read_text(encoding="utf-8"))
    change(fields)
    path.write_text(json.dumps(fields | {"checksum": checksum(fields)}), encoding="utf-8")


def described(folder: Path) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    return fields


# --- what it has room for --------------------------------------------------------------------------------------------


def test_licence_and_origin_stay_with_whatever_is_made_of_a_bundle(tmp_path: Path) -> None:
    from vitsmith.compress.merge_tokens.run import merge_by
    from vitsmith.compress.search.resize import resize_bundle

    known = {"license": "apache-2.0", "origin": "hf:timm/vit_tiny", "revision": "4b0f1c2"}
    bundle = vs.save(labelled(provenance=Provenance(source="a test", sha256="0" * 64, **known)), tmp_path / "model")
    assert bundle is not None
    made = [merge_by(bundle, 1.1), resize_bundle(bundle, (24, 24)), export_onnx(bundle, tmp_path / "onnx")[0]]
    made.append(vs.load(tmp_path / "model", headless=True))
    for one in (bundle, *made):
        assert {name: getattr(one.provenance, name) for name in known} == known
    assert {one.provenance.parent for one in made} == {str(tmp_path / "model")}
    assert {one.provenance.sha256 for one in made} == {""}
    card = (tmp_path / "onnx" / "README.md").read_text(encoding="utf-8")
    assert "- Published as: hf:timm/vit_tiny@4b0f1c2" in card and "- Licence: apache-2.0" in card


@pytest.mark.parametrize(
    ("text", "origin", "terms"),
    [
        (None, "hf:timm/vit@4b0f1c2", "apache-2.0"),
        (Publication(), "hf:timm/vit@4b0f1c2 (image tower)", "apache-2.0 (image tower)"),
        (
            Publication(origin="https://a.org/lit.npz"),
            "hf:timm/vit@4b0f1c2 (image tower); https://a.org/lit.npz (text tower)",
            "apache-2.0 (image tower); not known (text tower)",
        ),
    ],
)
def test_both_towers_of_a_lit_have_their_origin_and_licence(
    capsys: Any, tmp_path: Path, text: Publication | None, origin: str, terms: str
) -> None:
    known = {"license": "apache-2.0", "origin": "hf:timm/vit", "revision": "4b0f1c2"}
    vs.save(tiny_lit().with_provenance(text=text, **known), tmp_path / "model")
    assert ("text" in described(tmp_path / "model")["provenance"]) is (text is not None)
    loaded = vs.load(tmp_path / "model")
    assert loaded.provenance.text == text and loaded.provenance.publication == known
    assert loaded.provenance.text_publication == (Publication(**known) if text is None else text)
    assert loaded.derive(loaded.model, by="a test").provenance.text == text
    code, out, _ = call(capsys, "inspect", tmp_path / "model", "--json")
    facts = json.loads(out)
    assert code == 0 and (facts["published as"], facts["licence"]) == (origin, terms)
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert f"- Published as: {markdown(origin)}\n" in card and f"- Licence: {markdown(terms)}\n" in card


def test_what_is_derived_has_nothing_that_was_true_of_the_original_alone() -> None:
    bundle = labelled(calibration=Calibration(temperature=2.0)).measured(measurements.size(3.0))
    made = bundle.derive(tiny_model(VIT, seed=1), "another seed", by="a test", kind="trained")
    assert (made.measurements, made.golden, made.calibration, made.folder) == ((), None, None, None)
    assert (made.labels, made.preprocessing, made.head) == (bundle.labels, bundle.preprocessing, bundle.head)
    lost = f"not calibrated: temperature and thresholds were found for the logits of {bundle.where}"
    assert made.provenance.notes == (*bundle.provenance.notes, lost, "another seed")
    assert (made.provenance.kind, made.provenance.parent) == ("trained", bundle.where) and made.provenance.date
    assert made.identity != bundle.identity
    features = bundle.derive(tiny_model(change(VIT, classes=0)), by="a test", headless=True)
    assert (features.labels, features.head, features.provenance.kind) == (None, "none", bundle.provenance.kind)
    assert features.provenance.notes == ()  # features have no probabilities
    lit = tiny_lit()
    assert lit.derive(lit.model, by="a test").text_identity == lit.text_identity
    with pytest.raises(BundleError, match="5 label names for 3 classes"):
        bundle.derive(tiny_model(change(VIT, classes=3)), by="a test")


def test_a_model_without_classes_has_no_head(tmp_path: Path) -> None:
    assert Bundle.of(tiny_model(change(VIT, classes=0))).head == tiny_lit().head == "none"


def test_a_projection_to_an_embedding_is_no_classifier(tmp_path: Path) -> None:
    bundle = Bundle.of(tiny_model(VIT), head="none").with_golden(pictures(2))
    vs.save(bundle, tmp_path / "model")
    kept = vs.load(tmp_path / "model")
    assert (kept.head, kept.classes, kept.labels) == ("none", 0, None)
    with pytest.raises(InputError, match="has no classifier"):
        Predictor(kept).predict(pictures(1))
    assert kept.golden is not None
    outputs = kept.golden.outputs
    encoder = Encoder(tmp_path / "model", engine="torch")
    expected = outputs / np.linalg.norm(outputs, axis=1, keepdims=True)
    assert encoder.width == 5
    np.testing.assert_allclose(encoder.images(kept.golden.images), expected, rtol=0, atol=1e-5)


def test_a_calibration_is_kept_and_applied(tmp_path: Path) -> None:
    plain = labelled()
    vs.save(dataclasses.replace(plain, calibration=Calibration(temperature=4.0, data="pets")), tmp_path / "model")
    bundle = vs.load(tmp_path / "model")
    assert bundle.calibration == Calibration(temperature=4.0, data="pets")
    assert "- Calibration: logits divided by 4 (found on pets)" in (tmp_path / "model" / "README.md").read_text()
    logits = Predictor(plain, "torch").logits(pictures(3))
    np.testing.assert_array_equal(Predictor(bundle, "torch").logits(pictures(3)), logits / 4)
    answers = (Predictor(one, "torch")(pictures(3)) for one in (plain, bundle))
    for before, after in zip(*answers, strict=True):
        assert after.label == before.label and after.probability < before.probability
        powers = before.probabilities ** (1 / 4)
        np.testing.assert_allclose(after.probabilities, powers / powers.sum(), rtol=1e-5)
    exported, _ = export_onnx(bundle, tmp_path / "onnx")
    assert exported.calibration == bundle.calibration


def test_thresholds_say_which_classes_are_there() -> None:
    bundle = labelled(head="sigmoid", calibration=Calibration(thresholds=(0.0, 1.0, 1.0, 0.0, 1.0)))
    for one in Predictor(bundle, "torch")(pictures(3)):
        assert set(one.present) == {"ant", "doe"} and one.present[0] == max(["ant", "doe"], key=dict(one.top(5)).get)
    (usual,) = Predictor(labelled(head="sigmoid"), "torch")(pictures(1))
    assert usual.present == [name for name, score in usual.top(5) if score >= 0.5]
    with pytest.raises(InputError, match="score each class by itself"):
        _ = Predictor(labelled(), "torch")(pictures(1))[0].present


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"head": "regression", "calibration": Calibration(temperature=2)}, "a calibration is for probabilities"),
        ({"calibration": Calibration(thresholds=(0.5,) * 5)}, "thresholds are for a sigmoid head"),
        ({"head": "sigmoid", "calibration": Calibration(thresholds=(0.5,))}, "1 thresholds for 5 classes"),
        ({"calibration": 2.0}, "calibration must be a Calibration, or None"),
    ],
)
def test_a_calibration_that_does_not_fit_is_refused(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        labelled(**fields)
    with pytest.raises(ConfigError, match="temperature"):
        Calibration(temperature=0)


# --- several programs ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with torch weights and ONNX programs of two kinds."""
    place = tmp_path_factory.mktemp("several")
    bundle = vs.save(labelled().measured(measurements.size(1.0)), place / "model")
    assert bundle is not None
    plain, _ = export_onnx(bundle, place / "onnx")
    bundle = add_program(bundle, plain.measured(measurements.latency("onnx", 1, 2.0, "a laptop")))
    half, _ = export_onnx(vs.load(place / "model"), place / "half", spec=ProgramSpec(precision="fp16"))
    add_program(bundle, half)
    return place / "model"


def test_a_bundle_holds_more_than_one_program(several: Path) -> None:
    bundle = vs.load(several)
    assert [one.title for one in bundle.programs] == ["torch", "onnx, fp32", "onnx, fp16"]
    assert [one.folder for one in bundle.programs] == ["", "programs/onnx-fp32", "programs/onnx-fp16"]
    assert bundle.program == "torch" and {one.metric for one in bundle.measurements} == {"size", "latency_p50"}
    logits = Predictor(bundle, "torch").logits(pictures(3))
    by_onnx = Predictor(bundle, "onnx")
    assert by_onnx.bundle.program == "onnx" and by_onnx.bundle.place == several / "programs" / "onnx-fp32"
    np.testing.assert_allclose(by_onnx.logits(pictures(3)), logits, atol=1e-4)
    half = Predictor(bundle, precision="fp16")
    assert half.bundle.program_spec.precision == "fp16" and half.bundle.identity == bundle.identity
    golden = half.bundle.golden
    assert golden is not None and not np.array_equal(golden.outputs, bundle.golden.outputs)  # type: ignore[union-attr]
    assert vs.load(several, headless=True).programs == ()


def test_each_program_is_checked(several: Path, tmp_path: Path) -> None:
    shutil.copytree(several, tmp_path / "model")
    program = tmp_path / "model" / "programs" / "onnx-fp32" / "model.onnx"
    program.write_bytes(program.read_bytes()[:-1] + b"x")
    with pytest.raises(BundleError, match=r"programs/onnx-fp32/model\.onnx is not the file"):
        vs.load(tmp_path / "model")
    program.unlink()
    with pytest.raises(BundleError, match=r"programs/onnx-fp32/model\.onnx is missing"):
        vs.load(tmp_path / "model")


def test_what_was_measured_of_one_of_several_programs_says_of_which(several: Path, tmp_path: Path) -> None:
    shutil.copytree(several, tmp_path / "model")
    half = Predictor(tmp_path / "model", precision="fp16").bundle
    record_measurements(half, [measurements.accuracy(0.9, "pets", "a laptop", engine="onnx", precision="fp16")])
    again = vs.load(tmp_path / "model")
    assert [one.title for one in again.programs] == ["torch", "onnx, fp32", "onnx, fp16"]
    assert [(one.precision, one.engine) for one in again.measurements if one.metric == "top1"] == [("fp16", "onnx")]


def test_programs_of_other_models_are_not_put_together(several: Path, tmp_path: Path) -> None:
    bundle = vs.load(several)
    other, _ = export_onnx(Bundle.of(tiny_model(VIT, seed=1)).with_golden(pictures(2)), tmp_path / "other")
    with pytest.raises(InputError, match="is another model than"):
        add_program(bundle, other)
    with pytest.raises(InputError, match="already holds this program"):
        add_program(bundle, bundle.using(bundle.programs[1]))
    with pytest.raises(InputError, match="save both bundles first"):
        add_program(labelled(), other)
    with pytest.raises(BundleError, match="holds no program openvino, fp32"):
        bundle.using(StoredProgram(program="openvino"))
    for folder in ("..", "programs/..", "/etc", "programs/a/b", "elsewhere"):
        with pytest.raises(ConfigError, match="folder"):
            StoredProgram(program="onnx", folder=folder)


# --- what is refused by name -----------------------------------------------------------------------------------------


def test_a_newer_format_and_fields_of_a_newer_version_are_refused_by_name(tmp_path: Path) -> None:
    vs.save(labelled(provenance=Provenance(source="a test", vitsmith="9.1")), tmp_path / "model")
    whole = (tmp_path / "model" / MANIFEST).read_bytes()
    for change_, problem in (
        (lambda fields: fields.update(format=3), r"has format 3, and vitsmith .* reads formats 1 to 2: a newer ver"),
        (lambda fields: fields.update(rotary=True), r"fields that vitsmith .* does not know: rotary; a newer ver"),
        (lambda fields: fields["config"].update(rotary=True), r"does not know: config\.vit\.rotary"),
        (lambda fields: fields["programs"][0].update(gamma=2.2), r"does not know: programs\.0\.gamma; a newer version"),
    ):
        rewrite(tmp_path / "model", change_)
        with pytest.raises(BundleError, match=problem) as told:
            vs.load(tmp_path / "model")
        assert "pip install -U vitsmith" in str(told.value) and "vitsmith 9.1" in str(told.value)
        (tmp_path / "model" / MANIFEST).write_bytes(whole)


@pytest.mark.parametrize("value", [0, -1, True, "2", 1.0, None])
def test_a_format_that_is_none_is_refused(tmp_path: Path, value: Any) -> None:
    vs.save(labelled(), tmp_path / "model")
    rewrite(tmp_path / "model", lambda fields: fields.update(format=value))
    with pytest.raises(BundleError, match="does not describe a bundle"):
        vs.load(tmp_path / "model")


def test_a_part_that_came_later_is_written_only_where_it_is_used() -> None:
    class Later(ViTConfig):
        windows: int = 0

    Later.__name__ = "ViTConfig"
    fields = VIT.model_dump()
    assert canonical(Later(**fields)) == canonical(VIT)  # type: ignore[arg-type]
    assert canonical(Later(**fields, windows=4)) == canonical(VIT) | {"windows": 4}  # type: ignore[arg-type]
    scaled = change(VIT, registers=4, block={"layer_scale": True})
    assert canonical(scaled) == canonical(VIT) | {"registers": 4, "block": {"layer_scale": True}}
    assert change(VIT, **canonical(scaled)) == scaled
    assert {"merge", "head_width"}.isdisjoint(canonical(VIT)) and "dropout" in canonical(VIT)
    for one in CONFIGS.values():
        assert type(one)(**canonical(one)) == one


# --- from format 1 ---------------------------------------------------------------------------------------------------


def test_a_bundle_of_format_1_is_rewritten_on_request(capsys: Any, tmp_path: Path) -> None:
    shutil.copytree(FORMAT1 / "24f72d5" / "trained", tmp_path / "model")
    others = {
        path.name: path.read_bytes()
        for path in (tmp_path / "model").iterdir()
        if path.name not in (MANIFEST, "README.md")
    }
    before = vs.load(tmp_path / "model")
    code, _, err = call(capsys, "inspect", tmp_path / "model", "--upgrade")
    assert code == 0 and "is in format 2 now: version 0.1 cannot read it any more" in " ".join(err.split())
    fields = described(tmp_path / "model")
    assert fields["format"] == 2 and "images" not in fields and {"metric", "engine"} <= set(fields["measurements"][0])
    after = vs.load(tmp_path / "model")
    assert (after.identity, after.labels, after.measurements) == (before.identity, before.labels, before.measurements)
    assert others == {name: (tmp_path / "model" / name).read_bytes() for name in others}
    assert not upgrade_bundle(tmp_path / "model")
    code, _, err = call(capsys, "inspect", tmp_path / "model", "--upgrade")
    assert code == 0 and err.rstrip().endswith("is in format 2")


def test_measuring_a_bundle_of_format_1_rewrites_it(tmp_path: Path) -> None:
    shutil.copytree(FORMAT1 / "c1ddcc2" / "vit", tmp_path / "model")
    assert read_manifest(tmp_path / "model")[1] == 1
    record_measurements(vs.load(tmp_path / "model"), [measurements.accuracy(0.5, "x", "y")])
    assert read_manifest(tmp_path / "model")[1] == 2
    assert vs.load(tmp_path / "model").measurements[-1].metric == "top1"


def test_a_damaged_bundle_of_format_1_is_refused_and_stays(capsys: Any, tmp_path: Path) -> None:
    shutil.copytree(FORMAT1 / "24f72d5" / "vit", tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    for arguments in ([], ["--upgrade"]):
        code, _, err = call(capsys, "inspect", tmp_path / "model", *arguments)
        assert code == 2 and "is not the file this bundle was written with" in err
    assert described(tmp_path / "model")["format"] == 1
    code, _, err = call(capsys, "inspect", FORMAT1 / "24f72d5" / "answers.json", "--upgrade")
    assert code == 2 and "--upgrade rewrites bundles" in err


def test_a_page_of_format_1_keeps_the_format_that_its_scripts_read(tmp_path: Path) -> None:
    shutil.copytree(FORMAT1 / "24f72d5" / "vit-onnx", tmp_path / "page")
    (tmp_path / "page" / "page.json").write_text("{}")
    assert "page.json" not in PAGE
    bundle = vs.load(tmp_path / "page")
    for rewriting in (
        lambda: upgrade_bundle(tmp_path / "page"),
        lambda: record_measurements(bundle, [measurements.size(1.0)]),
    ):
        with pytest.raises(InputError, match="export it again with  vitsmith export --to web"):
            rewriting()
    assert described(tmp_path / "page")["format"] == 1


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan")])
@pytest.mark.parametrize("field", ["value", "high"])
def test_measurements_of_format_1_that_are_not_finite_are_left_out_and_told(
    tmp_path: Path, field: str, number: float
) -> None:
    shutil.copytree(FORMAT1 / "24f72d5" / "trained", tmp_path / "old")
    count = len(described(tmp_path / "old")["measurements"])
    rewrite(tmp_path / "old", lambda fields: fields["measurements"][0].update({field: number}))
    loaded = vs.load(tmp_path / "old")
    assert len(loaded.measurements) == count - 1
    assert "not finite (NaN or infinity): top1" in loaded.provenance.notes[-1]
    assert len(vs.load(write_bundle(loaded, tmp_path / "new").folder).measurements) == count - 1  # type: ignore[arg-type]


def test_a_bundle_of_format_1_without_a_hash_of_its_weights_is_read(tmp_path: Path) -> None:
    shutil.copytree(FORMAT1 / "24f72d5" / "trained", tmp_path / "old")
    rewrite(tmp_path / "old", lambda fields: fields.update(weights=""))
    old = vs.load(tmp_path / "old")
    assert old.identity == vs.load(FORMAT1 / "24f72d5" / "trained").identity
    saved = vs.save(old, tmp_path / "new")
    assert saved is not None and saved.measurements == old.measurements


def test_a_program_that_was_chosen_is_the_one_that_runs(several: Path, tmp_path: Path) -> None:
    half = vs.load(several / "programs" / "onnx-fp16" / "model.onnx")
    assert half.program_spec.precision == "fp16"
    for engine in ("auto", "onnx"):
        assert Predictor(half, engine).bundle.place == several / "programs" / "onnx-fp16"
    assert Predictor(half, "torch").bundle.program == "torch"  # no other of its programs runs in torch
    assert Predictor(vs.load(several), "openvino").bundle.place == several / "programs" / "onnx-fp32"


def test_what_does_not_say_its_precision_is_recorded_in_that_of_its_program(several: Path, tmp_path: Path) -> None:
    shutil.copytree(several, tmp_path / "model")
    record_measurements(vs.load(tmp_path / "model"), [measurements.accuracy(0.9, "pets", "a laptop", engine="torch")])
    half = Predictor(tmp_path / "model", precision="fp16").bundle
    record_measurements(half, [measurements.accuracy(0.8, "pets", "a laptop", engine="onnx")])
    kept = {one.precision: one.value for one in vs.load(tmp_path / "model").measurements if one.metric == "top1"}
    assert kept == {"fp32": 0.9, "fp16": 0.8}


def test_programs_are_added_to_whole_files_only_and_never_lost(several: Path, tmp_path: Path) -> None:
    shutil.copytree(several, tmp_path / "model")
    whole = vs.load(tmp_path / "model")
    with pytest.raises(OutputError, match=r"holds 3 programs \(torch; onnx, fp32; onnx, fp16\), which would be lost"):
        write_bundle(whole, tmp_path / "model")
    int8 = ProgramSpec(precision="fp32", batch=2)
    other, _ = export_onnx(vs.load(several), tmp_path / "fixed", spec=int8)
    calibrated = dataclasses.replace(other, calibration=Calibration(temperature=2))
    with pytest.raises(InputError, match=r"\(other calibration\)"):
        add_program(whole, calibrated)
    golden = tmp_path / "model" / "golden.safetensors"
    golden.write_bytes(golden.read_bytes()[:-1] + b"x")
    with pytest.raises(BundleError, match=r"golden\.safetensors is not the file this bundle was written with"):
        add_program(whole, other)
    assert len(described(tmp_path / "model")["programs"]) == 3


def test_measurements_of_several_programs_are_kept_apart(several: Path, tmp_path: Path) -> None:
    shutil.copytree(several, tmp_path / "model")
    for number, stored in enumerate(vs.load(tmp_path / "model").programs):
        one = vs.load(tmp_path / "model").using(stored)
        record_measurements(one, [measurements.size(10.0 + number), measurements.accuracy(0.5, "pets", "a laptop")])
    kept = vs.load(tmp_path / "model").measurements
    sizes = {one.program: (one.precision, one.value) for one in kept if one.metric == "size"}
    assert sizes == {"torch": ("fp32", 10), "onnx, fp32": ("fp32", 11), "onnx, fp16": ("fp16", 12)}
    assert sum(one.metric == "top1" for one in kept) == 3


def test_what_was_measured_with_other_parts_is_not_recorded(tmp_path: Path) -> None:
    bundle = vs.save(labelled(), tmp_path / "model")
    assert bundle is not None
    top1 = measurements.accuracy(0.5, "pets", "a laptop")
    other = Labels(names=tuple(reversed(NAMES)))
    mean = bundle.preprocessing.model_copy(update={"mean": (0.1, 0.5, 0.5)})
    for fields, told in (({"labels": other}, "labels"), ({"preprocessing": mean}, "preprocessing")):
        with pytest.raises(InputError, match=f"other {told} were used; save the bundle with them first"):
            record_measurements(dataclasses.replace(bundle, golden=None, **fields), [top1])
    changed = vs.load(tmp_path / "model")
    with torch.no_grad():
        changed.model.get_parameter("head.bias").add_(1)
    with pytest.raises(InputError, match="other weights were used"):
        record_measurements(changed, [top1])
    assert vs.load(tmp_path / "model").measurements == ()
    nameless = vs.save(Bundle.of(tiny_model(VIT)).with_golden(pictures(2)), tmp_path / "nameless")
    assert nameless is not None
    record_measurements(dataclasses.replace(nameless, labels=other), [top1])  # it has no names of its own


DESCRIBED_IN = (specs, text_spec, records, config, parts, text_config)


def test_every_description_leaves_out_what_came_later_and_is_not_used() -> None:
    for name, first in identity._FIRST.items():
        kind = next(getattr(place, name) for place in DESCRIBED_IN if hasattr(place, name))
        fields = kind.model_fields
        assert set(first) <= set(fields)
        assert all(not fields[later].is_required() for later in set(fields) - set(first)), name
    one = measurements.size(3.0)
    assert set(canonical(one)) == set(type(one).model_fields)


def test_inspect_tells_facts_of_a_program_whose_engine_is_not_installed(
    capsys: Any, several: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = registry.find_spec
    monkeypatch.setattr(registry, "find_spec", lambda name: None if name in ("onnxruntime", "openvino") else real(name))
    code, out, err = call(capsys, "inspect", several)
    assert code == 0 and "5 classes" in out and "onnx, fp16" in out
    for title in ("onnx, fp32", "onnx, fp16"):
        assert f"the golden answers of {title} were not compared" in " ".join(err.split())
    assert "golden answers of torch" not in err and "pip install 'vitsmith[onnx]'" in " ".join(err.split())


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("pets, zero-shot", {"metric": "zero_shot_top1", "data": "pets"}),
        ("pets, val, zero-shot with simple", {"metric": "zero_shot_top1", "data": "pets, val, templates simple"}),
        ("pets, zero-shot, bf16", {"metric": "zero_shot_top1", "data": "pets", "precision": "bf16"}),
        ("pets, bf16", {"metric": "top1", "data": "pets", "precision": "bf16"}),
        ("pets, 200 held-out images", {"metric": "top1", "data": "pets, 200 held-out images"}),
    ],
)
def test_what_format_1_said_of_accuracy_in_its_data_is_fields_now(data: str, expected: dict[str, Any]) -> None:
    (found,) = upgrade.from_format_1({"measurements": [{"name": "top1", "value": 0.5, "data": data}]})["measurements"]
    assert found == {"value": 0.5, **expected}
