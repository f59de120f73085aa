"""The search with a workshop whose numbers are known: what goes on, what is taken, and what is verified."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.command_line import call
from tests.tiny import CONFIGS, pictures, tiny_model
from vitsmith import Bundle
from vitsmith.compress.images import TaskImages
from vitsmith.compress.search.resize import resize_bundle, smaller_sizes
from vitsmith.compress.search.result import ProgramCost, SearchResult
from vitsmith.compress.search.run import FEWEST, MOST_VARIANTS, SearchSpace, halves, search
from vitsmith.data.sets.samples import Samples
from vitsmith.errors import ConfigError, DatasetError, GateError, InputError, MissingPackageError, NotFiniteError
from vitsmith.gate import Paired, Requirements
from vitsmith.models.configure import change
from vitsmith.weights.save import save

SPACE = SearchSpace(resolutions=(0.7,), keeps=(), merges=(1.5,), precisions=("fp32", "int8"))
VIT = CONFIGS["vit-token"]


def samples(count: int) -> Samples:
    image = np.zeros((4, 4, 3), np.uint8)
    return Samples(("a", "b"), [image] * count, [f"{i}.png" for i in range(count)], np.arange(count) % 2)


def material(count: int = 2000) -> TaskImages:
    return TaskImages(samples(20), samples(count), True, "drawn")


@dataclass
class VariantMaker:
    """Accuracy by name; arithmetic by depth; latency by what is asked."""

    original: Bundle
    accuracy: dict[str, float]
    """Of 'resolution', 'merge', 'both' and of each with ', int8'."""
    verified: Callable[[str], float] | None = None
    fails: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.scored: list[tuple[str, int, Any]] = []
        self.names: dict[int, str] = {id(self.original): "original"}
        self.kept = [self.original]

    def change(self, bundle: Bundle, keep: Any, resolution: Any, merge: Any) -> tuple[str, Bundle]:
        name = "both" if resolution and merge else "resolution" if resolution else "merge"
        if name in self.fails:
            raise InputError(f"{name} cannot be")
        mlp_width = {"merge": 40, "resolution": 32, "both": 24}[name]
        return name, self._named(name, Bundle.of(tiny_model(change(VIT, mlp_width=mlp_width))))

    def right_answers(self, bundle: Bundle, judged: Samples) -> np.ndarray:
        name = self.names[id(bundle)]
        verifying = len(self.scored) > 0 and judged.names != self.scored[0][2]
        self.scored.append((name, len(judged), judged.names))
        share = self.verified(name) if verifying and self.verified else self.accuracy[name]
        return np.arange(len(judged)) < round(share * len(judged))

    def compile(self, bundle: Bundle, precision: str, folder: Path, choosing: Samples) -> Bundle:
        name = f"{self.names[id(bundle)]}{', int8' if precision == 'int8' else ''}"
        if name in self.fails:
            raise GateError(f"{name} says no")
        return self._named(name, replace(bundle))

    def measure(self, bundle: Bundle) -> ProgramCost:
        name = self.names[id(bundle)]
        latency = {"original": 100, "merge": 70, "resolution": 50, "both": 35}[name.split(",")[0]]
        factor = 0.4 if "int8" in name else 1
        answer = latency * factor + 5  # decoding takes as long whatever the program
        return ProgramCost("openvino", latency * factor, answer, 300 * factor, 80 * factor / 2)

    def _named(self, name: str, bundle: Bundle) -> Bundle:
        self.names[id(bundle)] = name
        self.kept.append(bundle)  # ids of what is gone are used again
        return bundle


GOOD = {
    "original": 0.90, "merge": 0.898, "resolution": 0.895, "both": 0.893,
    "original, int8": 0.899, "merge, int8": 0.896, "resolution, int8": 0.88, "both, int8": 0.84,
}  # fmt: skip


def run(
    variant_maker: VariantMaker, required: Requirements, choice: str = "cheapest", space: SearchSpace = SPACE
) -> SearchResult:
    return search(variant_maker.original, material(), space, required, choice, variant_maker, Path("unused"))


def variant_maker(**fields: Any) -> VariantMaker:
    return VariantMaker(Bundle.of(tiny_model(VIT)), GOOD, **fields)


def test_the_cheapest_program_within_the_budget_is_taken_and_verified() -> None:
    made = variant_maker()
    found = run(made, Requirements(accuracy_drop=1, latency_ms=60))
    assert [one.title for one in found.candidates[:4]] == [
        "as it is, fp32", "merge, fp32", "resolution, fp32", "both, fp32"
    ]  # fmt: skip
    assert len(found.candidates) == 8
    assert found.chosen is not None and found.chosen.title == "merge, int8"
    assert found.verified == Paired(1000, lost=4, gained=0, both=896) and found.lost == 0.4 and found.holds
    found.require()
    choosing, verifying = halves(material().evaluation)
    seen = {names for _, _, names in ((name, count, tuple(names)) for name, count, names in made.scored[:-2])}
    assert seen == {tuple(choosing.names)}
    assert [(name, tuple(names)) for name, _, names in made.scored[-2:]] == [
        ("original", tuple(verifying.names)),
        ("merge, int8", tuple(verifying.names)),
    ]


@pytest.mark.parametrize(
    ("required", "choice", "title"),
    [
        (Requirements(accuracy_drop=3), "cheapest", "resolution, int8"),
        (Requirements(accuracy_drop=1), "accurate", "as it is, fp32"),
        (Requirements(accuracy_drop=1, latency_ms=45), "accurate", "as it is, int8"),
        (Requirements(accuracy_drop=10, size_mib=10), "cheapest", None),
    ],
)
def test_other_wishes(required: Requirements, choice: str, title: str | None) -> None:
    found = run(variant_maker(), required, choice)
    assert (found.chosen.title if found.chosen else None) == title


def test_what_loses_too_much_in_float_is_not_compiled() -> None:
    made = variant_maker()
    made.accuracy = {**GOOD, "resolution": 0.7, "both": 0.6}
    found = run(made, Requirements(accuracy_drop=1))
    assert {one.name for one in found.candidates} == {"as it is", "merge"}
    reasons = {one.title: one.reason for one in found.refused}
    assert (
        reasons["resolution"].startswith("in float32 top-1 drops by 20.00 points, 95% interval") and "both" in reasons
    )


def test_what_is_slower_and_no_better_goes_no_further() -> None:
    made = variant_maker()
    made.accuracy = {**GOOD, "merge": 0.894}
    found = run(made, Requirements(accuracy_drop=1))
    assert [one.precision for one in found.candidates if one.name == "merge"] == ["fp32"]
    assert [one.precision for one in found.candidates if one.name == "resolution"] == ["fp32", "int8"]
    reasons = {one.title: one.reason for one in found.refused}
    assert reasons["merge, coarser"] == "another variant is as accurate, and faster in float32"


def test_measured_time_counts_and_not_arithmetic() -> None:
    """Merging may cost more than it saves."""
    made = variant_maker()
    slow = lambda bundle: 120.0 if "both" in made.names[id(bundle)] else 100.0  # noqa: E731
    made.measure = lambda bundle: ProgramCost("onnx", slow(bundle), 130.0, 1.0, 1.0)
    made.accuracy = {**GOOD, "both": 0.899}
    found = run(made, Requirements(accuracy_drop=1))
    assert [one.precision for one in found.candidates if one.name == "both"] == ["fp32"]


def test_two_wishes_that_come_to_the_same_are_tried_once() -> None:
    made = variant_maker()
    found = run(made, Requirements(accuracy_drop=1), space=SearchSpace((0.7, 0.71), (), (), ("fp32",)))
    assert [one.title for one in found.candidates] == ["as it is, fp32", "resolution, fp32"]


def test_what_cannot_be_or_is_refused_by_its_own_gate_is_told_and_passed_over() -> None:
    found = run(variant_maker(fails=("resolution", "merge, int8")), Requirements(accuracy_drop=1))
    reasons = {one.title: one.reason for one in found.refused}
    assert reasons["0.7 of the resolution"] == "resolution cannot be"
    assert reasons["merge, int8"] == "merge, int8 says no"
    assert found.chosen is not None and found.chosen.title == "both, fp32"


def test_a_choice_that_does_not_hold_on_other_images_is_refused() -> None:
    found = run(variant_maker(verified=lambda name: 0.9 if name == "original" else 0.85), Requirements(accuracy_drop=1))
    assert found.chosen is not None and not found.holds
    with pytest.raises(
        GateError,
        match=r"merge, int8 was chosen, but .* verification images, .* drops by 5\.00 points, .* \(allowed 1\)",
    ):
        found.require()


def test_a_strict_gate_takes_what_the_images_can_tell_and_verifies_it_so() -> None:
    """0.4 points of 1,000 images are told to be less than 1; 0.7 are not."""
    lenient, strict = Requirements(accuracy_drop=1), Requirements(accuracy_drop=1, strict=True)
    made = {**GOOD, "merge, int8": 0.893}
    found = run(VariantMaker(Bundle.of(tiny_model(VIT)), made), lenient)
    assert found.chosen is not None and found.chosen.title == "merge, int8" and found.holds
    assert found.doubts[0].startswith("1,000 images are too few to tell whether top-1 drops by more than 1 point")
    assert found.to_dict()["doubts"] == list(found.doubts)
    sure = run(VariantMaker(Bundle.of(tiny_model(VIT)), made), strict)
    assert sure.chosen is not None and sure.chosen.title == "as it is, int8" and sure.holds and not sure.doubts
    verified = run(variant_maker(verified=lambda name: 0.9 if name == "original" else 0.893), strict)
    assert verified.chosen is not None and not verified.holds
    with pytest.raises(GateError, match=r"verification images, .* 1,000 images are too few to tell") as refused:
        verified.require()
    assert "--max-drop" not in str(refused.value)


def test_answers_that_are_not_finite_cost_the_variant_and_not_the_search() -> None:
    class Sometimes(VariantMaker):
        def right_answers(self, bundle: Bundle, judged: Samples) -> np.ndarray:
            name = self.names[id(bundle)]
            if name in ("both", "original, int8") or (name == "merge, int8" and judged.names == verifying):
                raise NotFiniteError(f"{name}: not finite")
            return super().right_answers(bundle, judged)

    verifying = halves(material().evaluation)[1].names
    found = run(Sometimes(Bundle.of(tiny_model(VIT)), GOOD), Requirements(accuracy_drop=1))
    reasons = {one.title: one.reason for one in found.refused}
    assert reasons["both"] == "both: not finite"
    assert "original, int8: not finite" in reasons["as it is, int8"]
    assert found.chosen is not None and found.chosen.title == "merge, int8"
    assert found.verified == Paired(1000, lost=900, gained=0, both=0) and not found.holds


def test_what_a_search_does_not_measure_cannot_be_required() -> None:
    with pytest.raises(InputError, match="compress does not measure speedup"):
        run(variant_maker(), Requirements(accuracy_drop=1, speedup=2))
    with pytest.raises(InputError, match="compared by accuracy_drop, and it has no bound"):
        run(variant_maker(), Requirements(latency_ms=20))


def test_nothing_within_the_budget_names_the_nearest() -> None:
    found = run(variant_maker(), Requirements(accuracy_drop=1, latency_ms=5))
    assert found.chosen is None and found.verified is None
    with pytest.raises(
        GateError, match=r"nothing that was tried meets the budget, .*nearest is .*one image takes .* ms"
    ):
        found.require()


def test_where_strictness_alone_refuses_that_is_told() -> None:
    made = VariantMaker(Bundle.of(tiny_model(VIT)), {name: 0.893 if "int8" in name else 0.9 for name in GOOD})
    found = run(made, Requirements(accuracy_drop=1, latency_ms=30, strict=True))
    assert found.chosen is None
    with pytest.raises(
        GateError, match=r"^the images for selection, .* strict gate, .* 1,000 images are too few"
    ) as no:
        found.require()
    assert "budget" not in str(no.value) and "nearest is both, int8" in str(no.value)


def test_images_that_could_not_satisfy_a_strict_gate_are_told_before_work() -> None:
    made = variant_maker()
    with pytest.raises(InputError, match=r"1,000 images for selection, half of .* at least 3,838 are needed"):
        run(made, Requirements(accuracy_drop=0.1, strict=True))
    assert made.scored == []


def test_just_what_is_allowed_is_allowed() -> None:
    assert 100 * (0.95 - 0.94) > 1  # as computers count
    made = variant_maker()
    made.accuracy = {**GOOD, "original": 0.95, "merge": 0.94}
    assert "merge" in [one.name for one in run(made, Requirements(accuracy_drop=1)).candidates]


def test_what_the_machine_lacks_ends_the_search() -> None:
    made = variant_maker()

    def missing(*_: Any) -> Bundle:
        raise MissingPackageError("onnxruntime", "onnx")

    made.compile = missing  # type: ignore[method-assign]
    with pytest.raises(MissingPackageError, match="pip install"):
        run(made, Requirements(accuracy_drop=1))


def test_numbers_as_plain_data() -> None:
    found = run(variant_maker(), Requirements(accuracy_drop=1, latency_ms=60))
    told = found.to_dict()
    assert repr(found).startswith("<SearchResult merge, int8 (") and ": 28 ms (33 ms to the answer), " in str(found)
    assert "top-1 90.00% -> 89.60% (drop 0.40 points" in str(found) and str(found).endswith(", on drawn")
    chosen = [one for one in told["candidates"] if one["chosen"]]
    assert [(one["name"], one["precision"], one["latency_ms"], one["answer_p95_ms"]) for one in chosen] == [
        ("merge", "int8", 28, 33)
    ]
    assert told["data"] == "drawn" and told["machine"] and told["date"]
    kept = {one.metric: (one.value, one.data) for one in found.verified_bundle().measurements}
    assert kept["top1"] == (0.896, "drawn, verification split, not used for selection")
    assert kept["latency_p50"][0] == 28
    assert told["verified"] == {
        "top1_before": 0.9,
        "top1": 0.896,
        **Paired(1000, 4, 0, 896).to_dict(),
    }
    both = next(one for one in told["candidates"] if (one["name"], one["precision"]) == ("both", "int8"))
    assert both["objections"][0].startswith("top-1 drops by 6.00 points") and both["front"]
    assert both["drop_points"] == 6 and both["num_labelled_images"] == 1000


def test_many_variants_are_thinned_from_all_over() -> None:
    made = variant_maker()
    sizes = {step / 20: 48 - 2 * step for step in range(1, 14)}

    def change_one(bundle: Bundle, keep: Any, resolution: float, merge: Any) -> tuple[str, Bundle]:
        name = f"r{resolution}"
        made.accuracy[name] = made.accuracy[f"{name}, int8"] = 0.9 - resolution / 20
        return name, made._named(name, Bundle.of(tiny_model(change(VIT, mlp_width=sizes[resolution]))))

    made.accuracy = dict(GOOD)
    made.change = change_one
    made.measure = lambda bundle: ProgramCost("openvino", 1.0, 2.0, 1.0, 1.0)
    found = run(made, Requirements(accuracy_drop=5), space=SearchSpace(tuple(sizes), (), (), ("fp32",)))
    names = [one.name for one in found.candidates]
    assert len(names) == MOST_VARIANTS and names[0] == "as it is" and names[1] == "r0.05" and names[-1] == "r0.65"
    assert sum(one.reason == "skipped: at most 12 variants are measured" for one in found.refused) == 2


def test_halves_share_no_image_and_too_few_are_refused() -> None:
    choosing, verifying = halves(samples(101))
    assert len(choosing) == 50 and len(verifying) == 51
    assert not set(choosing.names) & set(verifying.names)
    with pytest.raises(DatasetError, match=f"39 held-out images are too few: give at least {FEWEST}"):
        halves(samples(39))


# --- another resolution ----------------------------------------------------------------------------------------------


def test_a_resized_model_is_the_one_with_resized_positions() -> None:
    config = change(VIT, image_size=(32, 48))
    bundle = Bundle.of(tiny_model(config))
    resized = resize_bundle(bundle, (24, 40))
    assert resized.preprocessing.size == (24, 40) and resized.config.grid == (3, 5) and resized.golden is not None
    before, after = (dict(one.model.named_parameters()) for one in (bundle, resized))
    old, new = (one["positions.embedding"].detach().numpy()[0] for one in (before, after))
    np.testing.assert_array_equal(new[0], old[0])
    corners = new[1:].reshape(3, 5, -1)[[0, 0, -1, -1], [0, -1, 0, -1]]
    np.testing.assert_allclose(corners, old[1:].reshape(4, 6, -1)[[0, 0, -1, -1], [0, -1, 0, -1]], atol=1e-6)
    middle = old[1:].reshape(4, 6, -1)[1:3, 2:4].mean(axis=(0, 1))  # corners are aligned, so the middle is between four
    np.testing.assert_allclose(new[1:].reshape(3, 5, -1)[1, 2], middle, atol=1e-6)
    assert all((before[name] == after[name]).all() for name in before if name != "positions.embedding")
    assert "resized from 32x48 to 24x40 without fine-tuning" in resized.provenance.notes
    known = bundle.provenance.model_copy(update={"sha256": "0" * 64, "date": "2020-01-01"})
    told = resize_bundle(replace(bundle, provenance=known), (24, 40)).provenance
    assert told.sha256 == "" and told.date > "2020-01-01", "these were of the file that the parent was read from"


def test_sizes_are_whole_patches_and_mixers_have_none() -> None:
    square = Bundle.of(tiny_model(change(VIT, image_size=(64, 64))))
    assert smaller_sizes(square, (0.86, 0.71, 0.7, 1.0, 0.01)) == [(56, 56), (48, 48), (8, 8)]
    hybrid = Bundle.of(tiny_model(change(CONFIGS["hybrid-stages"], image_size=(64, 64))))
    assert smaller_sizes(hybrid, (0.7,)) == [(48, 48)]
    mixer = Bundle.of(tiny_model(CONFIGS["mixer"]))
    assert smaller_sizes(mixer, (0.7,)) == []
    with pytest.raises(ConfigError, match="bound to its resolution 16x24"):
        resize_bundle(mixer, (8, 8))


# --- the command line ------------------------------------------------------------------------------------------------


def test_an_interruption_leaves_nothing_and_labels_can_be_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    seen = []

    def interrupt(bundle: Bundle, *_: Any) -> None:
        seen.append(bundle.labels.names if bundle.labels else None)
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    save(Bundle.of(tiny_model(change(VIT, classes=10))).with_golden(pictures(1)), tmp_path / "unnamed")
    (tmp_path / "names.txt").write_text("\n".join(map(str, range(10))))
    monkeypatch.setattr("vitsmith.compress.search.run.search", interrupt)
    there = {path.name for path in tmp_path.iterdir()}
    code, out, err = call(capsys, "compress", "unnamed", "--data", "digits")
    assert code == 2 and "give --labels-file FILE" in err
    code, out, err = call(capsys, "compress", "unnamed", "--data", "digits", "--labels-file", "names.txt")
    assert (code, out) == (2, "") and "interrupted" in err and seen == [tuple(map(str, range(10)))]
    assert {path.name for path in tmp_path.iterdir()} == there


def test_a_budget_of_latency_is_about_the_answer_and_not_the_engine_alone() -> None:
    found = run(variant_maker(), Requirements(accuracy_drop=1, latency_ms=30))
    (merged,) = [one for one in found.candidates if one.title == "merge, int8"]
    assert merged.latency_ms == 28 and found.objections(merged) == ("one image takes 33 ms (allowed 30)",)
    assert found.chosen is not merged
