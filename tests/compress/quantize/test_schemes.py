"""The climb over schemes: what is tried, in which order, and what is refused with which reason."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest

from tests.compress.quantize.speeds import FAST, slow
from tests.tiny import CONFIGS, tiny_model
from vitsmith import Bundle
from vitsmith.compress.quantize.result import Quantization, Quantized
from vitsmith.compress.quantize.run import search_schemes
from vitsmith.compress.quantize.schemes import (
    FIRST_SCHEMES,
    REQUIRED,
    Attempt,
    Fidelity,
    ProgramError,
    Scheme,
    float_choices,
)
from vitsmith.errors import (
    GateError,
)
from vitsmith.evaluation.speed import Speedup
from vitsmith.gate import Paired

GOOD, BAD = Fidelity(1.0, 0.999), Fidelity(0.5, 0.7)


class Shelf:
    """A workshop of programs whose answers and speeds are known beforehand."""

    top1 = None
    rests = ("bf16", "fp32")
    sites = ("patches", "blocks.0", "blocks.1", "blocks.2", "blocks.3", "blocks.4")

    def __init__(self, answers: Any, speeds: Any = lambda scheme: FAST, differs: Any = lambda scheme: False) -> None:
        self.answers, self.speeds, self.differs, self.ranked, self.kept = answers, speeds, differs, [], []
        self.scheme, self.rest = Scheme("dynamic"), ""

    def make(self, scheme: Scheme, rest: str) -> float:
        self.scheme, self.rest = scheme, rest
        return 1.0

    def evaluate(self) -> Fidelity:
        return self.answers(self.scheme, self.rest)

    def race(self) -> Speedup:
        return self.speeds(self.scheme)

    def keep(self) -> None:
        if self.differs(self.scheme):
            raise ProgramError("it differs in batches of 1")
        self.kept.append(self.scheme)

    def rank(self, smooth: float | None) -> Sequence[str]:
        self.ranked.append(smooth)
        return ("blocks.3", "blocks.0", "patches", "blocks.4", "blocks.2", "blocks.1")


def test_a_program_that_cannot_be_kept_is_refused_and_the_search_goes_on() -> None:
    shelf = Shelf(lambda scheme, rest: GOOD, differs=lambda scheme: scheme.kind == "dynamic" or scheme.smooth is None)
    found = search_schemes(shelf, REQUIRED)
    assert [one.reason for one in found.attempts] == ["it differs in batches of 1"] * 2 + [""]
    assert found.chosen is found.attempts[-1] and shelf.kept == [found.chosen.scheme]


def test_only_what_meets_all_requirements_is_kept() -> None:
    shelf = Shelf(lambda scheme, rest: GOOD, speeds=lambda scheme: slow(0.9 if scheme.kind == "dynamic" else 2.0))
    found = search_schemes(shelf, REQUIRED)
    assert found.chosen is not None and shelf.kept == [found.chosen.scheme]


def test_the_climb_stops_at_the_first_that_meets_the_demands() -> None:
    heard: list[Attempt] = []
    found = search_schemes(
        Shelf(
            lambda scheme, rest: GOOD if scheme.smooth in (None, 0.75) and scheme != Scheme("static") else BAD,
            lambda scheme: slow(1.19 if scheme.kind == "dynamic" else 1.2),
        ),
        REQUIRED,
        heard.append,
    )
    assert [one.name for one in heard] == ["dynamic", "static min-max", "SmoothQuant 0.5", "SmoothQuant 0.75"]
    assert [one.reason for one in heard] == [
        "it runs 1.19 times as fast in batches of 8 (required 1.2)",
        "top-1 agrees on 50.0% of the images (required 99.0%)",
        "top-1 agrees on 50.0% of the images (required 99.0%)",
        "",
    ]
    assert found.chosen is heard[-1] and found.attempts == tuple(heard) and found.ranking == ()
    assert heard[1].speedup is None, "what answers wrongly is not timed"
    assert {one.rest for one in heard} == {"bf16"}


def test_a_static_program_that_is_too_slow_ends_the_climb() -> None:
    found = search_schemes(Shelf(lambda scheme, rest: GOOD, lambda scheme: slow(0.8)), REQUIRED)
    assert [one.name for one in found.attempts] == ["dynamic", "static min-max"] and found.chosen is None


def test_sensitive_places_stay_in_float_step_by_step_and_at_last_the_rest_is_float32() -> None:
    cosines = {None: 0.7, 0.5: 0.8, 0.75: 0.9, 0.95: 0.6}
    shelf = Shelf(lambda scheme, rest: Fidelity(0.9, cosines[scheme.smooth] + 0.01 * len(scheme.float_sites)))
    found = search_schemes(shelf, REQUIRED)
    assert shelf.ranked == [0.75], "ranked under the strength that was most faithful"
    assert [one.scheme for one in found.attempts[:5]] == list(FIRST_SCHEMES)
    assert [(one.name, one.rest) for one in found.attempts[5:]] == [
        ("SmoothQuant 0.75, patches in float", "bf16"),
        ("SmoothQuant 0.75, patches, block 3 in float", "bf16"),
        ("SmoothQuant 0.75, patches, blocks 0, 3 in float", "bf16"),
        ("SmoothQuant 0.75, patches, blocks 0, 3 in float", "fp32"),
    ]
    assert found.chosen is None and found.ranking[0] == "blocks.3"
    good = search_schemes(
        Shelf(lambda scheme, rest: GOOD if "blocks.3" in scheme.float_sites else Fidelity(0.9, cosines[scheme.smooth])),
        REQUIRED,
    )
    assert good.chosen is not None and good.chosen.name == "SmoothQuant 0.75, patches, block 3 in float"


def test_the_fastest_of_all_is_taken_when_asked_for() -> None:
    speeds = {None: 1.5, 0.5: 1.9, 0.75: 2.2, 0.95: 2.1}
    found = search_schemes(
        Shelf(
            lambda scheme, rest: BAD if scheme.smooth == 0.75 else GOOD,
            lambda scheme: slow(3.0 if scheme.kind == "dynamic" else speeds[scheme.smooth]),
        ),
        REQUIRED,
        fastest=True,
    )
    assert len(found.attempts) == len(FIRST_SCHEMES)
    assert found.chosen is not None and found.chosen.name == "dynamic"
    cosines = {None: 0.95, 0.5: 0.97, 0.75: 0.99, 0.95: 0.96}
    as_fast = search_schemes(
        Shelf(
            lambda scheme, rest: Fidelity(1.0, cosines[scheme.smooth]),
            lambda scheme: slow(2 + (scheme.smooth or 0) / 20),
        ),
        REQUIRED,
        fastest=True,
    )
    assert as_fast.chosen is not None and as_fast.chosen.scheme == Scheme("static", 0.75), "as fast, and more faithful"


def test_a_program_that_cannot_be_made_is_a_row_with_its_reason() -> None:
    class Broken(Shelf):
        def make(self, scheme: Scheme, rest: str) -> float:
            if scheme.kind == "dynamic":
                raise ProgramError("cannot be made (no such operator)")
            return super().make(scheme, rest)

    found = search_schemes(Broken(lambda scheme, rest: GOOD), REQUIRED)
    assert [(one.name, one.reason) for one in found.attempts] == [
        ("dynamic", "cannot be made (no such operator)"),
        ("static min-max", ""),
    ]


@pytest.mark.parametrize(
    ("fidelity", "refused"),
    [
        (Fidelity(0.9, 0.9, Paired(1000, 5, 0, 790)), ""),
        (Fidelity(1.0, 1.0, Paired(1000, 6, 0, 790)), "top-1 drops by 0.60 points"),
        (Fidelity(1.0, 1.0, Paired(1000, 0, 10, 790)), ""),
        (Fidelity(0.99, 0.2), ""),
        (Fidelity(0.989, 1.0), "top-1 agrees on 98.9% of the images (required 99.0%)"),
        (Fidelity(0.99, 0.99, embeds=True), ""),
        (Fidelity(0.989, 0.989, embeds=True), "the mean cosine of outputs is 0.9890 (required 0.99)"),
    ],
)
def test_labels_decide_where_there_are_some(fidelity: Fidelity, refused: str) -> None:
    reasons = fidelity.failures(REQUIRED)
    assert len(reasons) == bool(refused) and "".join(reasons).startswith(refused)


def test_few_images_are_told_of_and_refused_when_that_is_asked() -> None:
    """Of what is taken, or of what lost least; each program of a strict gate has it as its reason."""
    unsure, worse = Fidelity(1.0, 1.0, Paired(100, 0, 0, 90)), Fidelity(1.0, 1.0, Paired(100, 5, 4, 80))
    strict = dataclasses.replace(REQUIRED, strict=True)
    for required, answers in ((REQUIRED, unsure), (REQUIRED, worse), (strict, unsure)):
        found = search_schemes(Shelf(lambda scheme, rest, answers=answers: answers), required)
        settings = Quantization("onnx", required)
        result = Quantized(None, settings, None, 0.9, (), found, None, ())  # type: ignore[arg-type]
        if required.strict:
            assert found.chosen is None and "100 images are too few to tell" in found.attempts[0].reason
            assert result.doubts == ()
            with pytest.raises(GateError, match=r"\(9 refused for their answers\).*; 100 images are too few to tell"):
                dataclasses.replace(result, original=Bundle.of(tiny_model(CONFIGS["mixer"]))).require()
        else:
            assert (found.chosen is None) is (answers is worse)
            assert result.doubts == answers.doubts(required) != ()


def test_what_could_not_be_made_is_not_counted_as_refused_for_its_answers() -> None:
    class Broken(Shelf):
        def make(self, scheme: Scheme, rest: str) -> float:
            if scheme.kind == "dynamic":
                raise ProgramError("cannot be made")
            return super().make(scheme, rest)

        def race(self) -> Speedup:
            if self.scheme.smooth == 0.5:
                raise ProgramError("does not run")
            return slow(1.0) if self.scheme.smooth else super().race()

    def answers(scheme: Scheme, rest: str) -> Fidelity:
        return GOOD if scheme.smooth else Fidelity(0.5, 0.5)

    found = search_schemes(Broken(answers), REQUIRED)
    assert len(found.attempts) == 4
    original = Bundle.of(tiny_model(CONFIGS["mixer"]))
    result = Quantized(original, Quantization("onnx"), None, None, (), found, None, ())  # type: ignore[arg-type]
    with pytest.raises(GateError, match=r"of 4 .*\(1 refused for their answers, 1 too slow, 2 not made or run\)"):
        result.require()


def test_at_most_half_of_the_blocks_stay_in_float() -> None:
    assert float_choices(["blocks.1", "blocks.0"]) == [("blocks.1",)]
    assert float_choices(["patches"]) == [("patches",)]
    twelve = [f"blocks.{index}" for index in range(12)]
    assert [len(one) for one in float_choices(twelve)] == [1, 2, 4]
