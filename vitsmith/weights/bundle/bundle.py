"""A bundle: a model together with everything needed to use it correctly."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from vitsmith.arguments import instance
from vitsmith.data.sets.split_record import SplitRecord, read_split
from vitsmith.errors import BundleError
from vitsmith.models.config import LiTConfig
from vitsmith.records import Measurement, Provenance
from vitsmith.specs import Calibration, Head, ImageSpec, Labels, Program, ProgramSpec, Similarity, StoredProgram
from vitsmith.version import __version__
from vitsmith.weights.bundle.golden import GOLDEN, read_golden
from vitsmith.weights.bundle.lit_text import original_text
from vitsmith.weights.bundle.measurements import still_true, with_newer
from vitsmith.weights.bundle.model import BundleModel
from vitsmith.weights.bundle.parts import CONFIGS

if TYPE_CHECKING:
    from vitsmith.models.build import Model

_UNCALIBRATED = "not calibrated: temperature and thresholds were found for the logits"
_CALIBRATED_BEFORE = "the calibration was found before int8: vitsmith evaluate measures how well it fits"


@dataclass(eq=False, repr=False)
class Bundle(BundleModel):
    """A model with its preprocessing, label names, origin and measurements.

    `program` is 'torch' for weights of a torch model, else the format of an exported program; `program_spec` says which
    precision, batch and input that has. A folder may hold several programs of the same model: see `programs`. Only LiT
    models have `text`, the rules by which texts become tokens, and `vocabulary`, the bytes of the tokenizer's file.
    All its fields are in `bundle.parts`; running the model and its identity are in `bundle.model`.
    """

    _as_read: tuple[dict[str, Any], tuple[Measurement, ...]] | None = field(default=None, repr=False)
    """The parts that decide its answers, and its measurements, as they were read from disk."""
    _split: SplitRecord | Path | None = field(default=None, repr=False)
    """The record of training and held-out images, or the file to read it from."""

    @classmethod
    def of(cls, model: Model, *, preprocessing: ImageSpec | None = None, **fields: Any) -> Self:
        """A bundle in memory; preprocessing defaults to the original's for that family."""
        if not isinstance(getattr(model, "config", None), CONFIGS):
            instance(model, CONFIGS, "what a bundle is made of", "a model of vitsmith")
        config = model.config
        lit = isinstance(config, LiTConfig)
        if preprocessing is None:
            preprocessing = (ImageSpec.lit if lit else ImageSpec.original)(config.image_size)
        if isinstance(config, LiTConfig) and fields.get("text") is None:
            fields["text"] = original_text(config)
        fields.setdefault("provenance", Provenance(source="created in memory"))
        return cls(config=config, preprocessing=preprocessing, _model=model.eval(), **fields)

    @classmethod
    def from_disk(
        cls,
        folder: Path,
        *,
        weights_hash: str,
        similarity: Similarity | None,
        split: Path | None,
        verified: bool,
        **fields: Any,
    ) -> Self:
        """Returns a bundle whose files are in `folder`; its weights are read when they are first needed.

        `weights_hash` and `similarity` come from bundle.json, `split` is the file of its record of images. The bundle
        remembers how it was read: see `still_measured`.
        """
        bundle = cls(folder=folder, _weights_hash=weights_hash, _similarity=similarity, _split=split, **fields)
        bundle.verified = verified
        bundle._as_read = bundle._decisive(), bundle.measurements
        return bundle

    def derive(
        self,
        model: Model,
        note: str = "",
        *,
        by: str,
        kind: str = "",
        preprocessing: ImageSpec | None = None,
        headless: bool = False,
    ) -> Self:
        """Returns a bundle of `model`, which was made from this bundle's weights and has the same inputs and classes.

        Licence, origin, notes and the record of images are kept. Measurements and golden examples are left out: they
        are true of the old model only. So is the calibration, whose temperature and thresholds fit the old logits; a
        note says so. `by` is the command, `note` what was done, `kind` the new kind (default: the same); `headless`
        leaves out the classes. Raises BundleError for a model that does not fit.
        """
        uncalibrated = "" if self.calibration is None or headless else f"{_UNCALIBRATED} of {self.where}"
        return type(self).of(
            model,
            preprocessing=preprocessing or self.preprocessing,
            labels=None if headless else self.labels,
            head="none" if headless else self.head,
            text=self.text,
            vocabulary=self.vocabulary,
            provenance=self._successor(by, kind or self.provenance.kind, uncalibrated, note),
            _split=self._split,
        )

    def classifying(self, model: Model, labels: Labels, head: Head, *notes: str, by: str) -> Self:
        """Returns a bundle of `model`, a classifier made from this bundle's image tower: its texts are left out.

        Licence, origin, notes and the record of images are kept. `by` is the command. Raises BundleError for a model
        that does not fit.
        """
        return type(self).of(
            model,
            preprocessing=self.preprocessing,
            labels=labels,
            head=head,
            provenance=self._successor(by, self.provenance.kind, *notes).model_copy(update={"texts_refused": ""}),
            _split=self._split,
        )

    def as_program(self, program: Program, spec: ProgramSpec, *notes: str, by: str) -> Self:
        """Returns this bundle as an exported program whose files are not written yet, without its torch model.

        Embeddings keep their identity. Measurements are left out: they are true of the weights only. The calibration is
        kept, because the gate makes sure that fp32, fp16 and bf16 programs give the same logits. int8 moves logits by
        more, but an old calibration is still better than none, and all programs in a folder share one: it is kept, and
        a note says that it was found before int8. `by` is the command that makes the program.
        """
        moved = self.calibration is not None and spec.precision == "int8"
        notes = (*notes, _CALIBRATED_BEFORE) if moved else notes
        return replace(
            self,
            program=program,
            program_spec=spec,
            folder=None,
            programs=(),
            provenance=self._successor(by, self.provenance.kind, *notes),
            measurements=(),
            _model=None,
            _weights_hash=self.weights_hash,
            _hashed=None,
            _as_read=None,
            _similarity=self.similarity if isinstance(self.config, LiTConfig) else None,
        )

    def using(self, stored: StoredProgram) -> Self:
        """Returns the bundle with another of its `programs`, and the golden answers of that program.

        Raises BundleError for a program that is not in its folder, and if the weights were changed after reading.
        """
        if stored.is_(self.program, self.program_spec):
            return self
        if self.weights_changed:
            raise BundleError(
                f"the weights of {self.where} were changed in memory, and its program {stored.title} has the old ones"
            )
        if self.folder is None or stored not in self.programs:
            raise BundleError(f"{self.where} holds no program {stored.title}")
        golden = self.folder / stored.folder / GOLDEN
        return replace(
            self,
            program=stored.program,
            program_spec=stored.spec,
            golden=read_golden(golden) if golden.is_file() else None,
            _model=None,
            _hashed=None,
        )

    def _successor(self, by: str, kind: str, *notes: str) -> Provenance:
        """The provenance of what is made from this bundle."""
        return self.provenance.model_copy(
            update={
                "source": by,
                "kind": kind,
                "sha256": "",  # that of the file which this bundle was read from
                "parent": self.where,
                "date": datetime.date.today().isoformat(),
                "vitsmith": __version__,
                "notes": (*self.provenance.notes, *(note for note in notes if note)),
            }
        )

    def with_calibration(self, temperature: float = 1.0, thresholds: Iterable[float] = (), *, data: str = "") -> Self:
        """The same bundle with calibrated probabilities; `vitsmith.save` writes it, an exported one too.

        Logits are divided by `temperature` before softmax or sigmoid. `thresholds` are for a sigmoid head: a class is
        present if its probability is at least its threshold; () means 0.5 for all classes. `data` names the images that
        the calibration was found on, which should not be training images. Raises ConfigError for a temperature that is
        not above 0 and for thresholds that are not probabilities, BundleError if head or classes do not fit.
        """
        found = Calibration(temperature=temperature, thresholds=tuple(thresholds), data=data)
        return replace(self, calibration=found)

    def with_provenance(self, **changes: Any) -> Self:
        """The same bundle with other fields of its provenance."""
        return replace(self, provenance=Provenance(**(self.provenance.model_dump() | changes)))

    def noted(self, *notes: str) -> Self:
        """The same bundle with more notes."""
        return self.with_provenance(notes=(*self.provenance.notes, *notes))

    @property
    def images(self) -> ImageSpec:
        """The name of `preprocessing` in version 0.1. Reading and setting it raise AttributeError."""
        raise AttributeError("Bundle.images is called Bundle.preprocessing now")

    @property
    def split(self) -> SplitRecord | None:
        """The record of training images and held-out images; None if it is not known.

        It is read on first use. `derive` keeps it. Raises BundleError for a damaged file.
        """
        if isinstance(self._split, Path):
            try:
                self._split = read_split(self._split)
            except FileNotFoundError:  # deleted, which does no harm
                self._split = None
        return self._split

    def check_split(self) -> None:
        """Raises BundleError for a damaged record. Call it before long work, at whose end the record is written."""
        _ = self.split

    def with_split(self, record: SplitRecord | None) -> Self:
        """The same bundle with another record of its images, or without one."""
        return replace(self, _split=record)

    @property
    def weights_changed(self) -> bool:
        """Whether its torch weights were changed after reading: then the programs in its folder have the old ones."""
        if self._as_read is None or self._model is None:
            return False
        return self.weights_hash != self._as_read[0]["weights"] != ""

    def still_measured(self) -> tuple[Measurement, ...]:
        """Its measurements, without those that no longer hold because a part was changed after reading.

        Weights, preprocessing, labels and head decide the answers; configuration and program also decide the costs.
        """
        if self._as_read is None:
            return self.measurements
        then, old = self._as_read
        now = self._decisive() | {"weights": self.weights_hash if then["weights"] else ""}  # old bundles do not have it
        changed = {name for name in then if then[name] != now[name]}
        return still_true(self.measurements, old, changed)

    def differences_from(self, other: Bundle) -> list[str]:
        """Its parts that give other answers than those of `other`, whichever program runs: 'labels', 'weights' ..."""
        mine, its = self._decisive(), other._decisive()
        mine["weights"] = self.weights_hash if self._model is not None else self._weights_hash
        return [name for name in mine if name not in ("program", "program_spec") and mine[name] != its[name]]

    def _decisive(self) -> dict[str, Any]:
        names = ("config", "preprocessing", "text", "labels", "head", "calibration", "program", "program_spec")
        return {name: getattr(self, name) for name in names} | {"weights": self._weights_hash}

    def measured(self, *measurements: Measurement) -> Self:
        """The same bundle with more measurements; a newer one replaces an older one of the same thing."""
        for one in measurements:
            instance(one, Measurement, "a measurement", "a Measurement")
        newer = [self.as_measured(one) for one in measurements]
        return replace(self, measurements=with_newer(self.measurements, newer))
