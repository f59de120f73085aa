"""The result of quantising, as `runs/quantize/<name>` keeps it, with the table of all programs that were tried."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vitsmith.compress.images import TaskImages
from vitsmith.compress.quantize.schemes import REQUIRED, Attempt, SchemeSearch
from vitsmith.compress.result import bounds_to_dict, made_here
from vitsmith.errors import GateError
from vitsmith.gate import Requirements
from vitsmith.weights.bundle.bundle import Bundle


@dataclass(frozen=True, eq=False)
class Quantization:
    """Engine and requirements of one quantisation."""

    engine: str = "openvino"
    required: Requirements = REQUIRED
    fastest: bool = False
    """Try all schemes and take the fastest that meets the requirements, not the first."""
    batch: int = 8
    """Images at once where speed is measured."""


@dataclass(frozen=True, eq=False, repr=False)
class Quantized:
    """The result of quantising. `bundle` is the int8 bundle on disk; None: keep float."""

    original: Bundle
    settings: Quantization
    images: TaskImages
    top1: float | None
    """Top-1 accuracy of the original; None without labels."""
    floats: tuple[Attempt, ...]
    search: SchemeSearch
    bundle: Bundle | None
    remarks: tuple[str, ...]

    def __str__(self) -> str:
        chosen = self.search.chosen
        what = "keep float" if chosen is None else f"{chosen.name}, rest in {chosen.rest}"
        if chosen is not None and chosen.speedup is not None:
            what += f", {chosen.speedup.batches:.2f}x as fast"
        where = f", {self.bundle.folder}" if self.bundle is not None else ""
        return f"{what}, evaluated on {self.images.name}{where}"

    def __repr__(self) -> str:
        return f"<Quantized {self}>"

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Float and int8 programs, in the order in which they were tried."""
        return (*self.floats, *self.search.attempts)

    @property
    def doubts(self) -> tuple[str, ...]:
        """What cannot be told from so few labelled images; () with a strict gate, which refuses for it."""
        return () if self.settings.required.strict else self._doubts

    @property
    def _doubts(self) -> tuple[str, ...]:
        """The doubts about the chosen program, else about the one that lost least."""
        fidelity = [one.fidelity for one in self.search.attempts if one.fidelity and one.fidelity.accuracy]
        chosen = self.search.chosen and self.search.chosen.fidelity
        told = chosen or min(fidelity, key=lambda one: one.accuracy.drop if one.accuracy else 0.0, default=None)
        return () if told is None else told.doubts(self.settings.required)

    @property
    def base_rest(self) -> str:
        """'bf16' or 'fp32': precision of the float program that int8 was compared with."""
        faster = [one.rest for one in self.floats if not one.reason and one.speedup and one.speedup.batches > 1]
        return faster[0] if faster else "fp32"

    def require(self) -> None:
        """Raises GateError when no int8 program passed."""
        if self.bundle is None:
            tried = self.search.attempts
            slow = sum(one.speedup is not None for one in tried)
            wrong = sum(
                one.fidelity is not None and bool(one.fidelity.failures(self.settings.required)) for one in tried
            )
            counts = {
                "refused for their answers": wrong,
                "too slow": slow,
                "not made or run": len(tried) - wrong - slow,
            }
            why = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
            raise GateError(
                f"keep float: none of {len(tried)} int8 programs of {self.original.where} meets the requirements "
                f"({why}); only the table was written"
                + "".join(f"; {doubt}" for doubt in self._doubts if self.settings.required.strict)
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        chosen = self.search.chosen
        return {
            "original": self.original.where,
            "engine": self.settings.engine,
            **made_here(),
            "data": self.images.name,
            "num_calibration_images": len(self.images.calibration),
            "labelled": self.images.labels is not None,
            "batch": self.settings.batch,
            "speedups_are_beside": f"float in {self.base_rest}",
            "requirements": bounds_to_dict(self.settings.required, min_agreement="agreement", min_speedup="speedup"),
            "top1_before": self.top1,
            "ranking": list(self.search.ranking),
            "attempts": [one.to_dict() for one in self.attempts],
            "chosen": chosen.name if chosen else None,
            "rest": chosen.rest if chosen else None,
            "written": str(self.bundle.folder) if self.bundle else None,
            "remarks": list(self.remarks),
            "doubts": list(self.doubts),
        }
