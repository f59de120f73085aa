"""The records about a model: its origin, and its measurements."""

from __future__ import annotations

from pydantic import Field

from vitsmith.fields import Frozen, PositiveInt

_WORDS = "words of a licence that must be passed on with the weights; a bundle has them in LICENSE.md"


class Publication(Frozen):
    """The publisher and the licence of weights; all fields are '' when unknown or not published."""

    origin: str = Field("", description="repository or URL: 'hf:OWNER/NAME', 'https://...'")
    revision: str = Field("", description="commit of `origin`")
    license: str = Field("", description="licence of the weights: an SPDX identifier where there is one; '': not known")
    license_text: str = Field("", repr=False, description=_WORDS)


NOT_KNOWN = Publication()


class Provenance(Frozen):
    """The origin of a model."""

    source: str = Field(description="file, URL or command from which the model was made")
    kind: str = Field(
        "",
        description="what the source is: 'jax-npz', 'timm' or 'hf' for published weights, 'trained', 'pruned', "
        "'merged', 'resized' for models that vitsmith made",
    )
    sha256: str = Field("", description="hash of the source file; '' if there is none")
    parent: str = Field("", description="origin of the source itself: a checkpoint or bundle")
    origin: str = Field("", description="repository or URL that published the first weights, as 'hf:OWNER/NAME'")
    revision: str = Field("", description="commit of `origin`")
    license: str = Field("", description="licence of the weights: an SPDX identifier where there is one; '' if unknown")
    license_text: str = Field("", repr=False, description=_WORDS)
    date: str = Field("", description="ISO 8601 date on which the model was made")
    vitsmith: str = Field("", description="version of vitsmith that made it")
    notes: tuple[str, ...] = ()
    missing: str = Field(
        "",
        description="file beside the weights that says how images are preprocessed, where there was none: what a "
        "bundle says about it is assumed, and its model is given no images",
    )
    images_refused: str = Field(
        "",
        description="why the model is given no images: what in the file of its preprocessing vitsmith does not follow; "
        "what a bundle says about it is assumed then too",
    )
    texts_refused: str = Field(
        "",
        description="why the model is given no texts: the tokenizer's file beside the weights, and what in it vitsmith "
        "does not follow",
    )
    text: Publication | None = Field(
        None,
        description="of a LiT whose towers come from two places: who published its text tower, where `origin`, "
        "`revision` and `license` are of its image tower",
    )

    @property
    def publication(self) -> dict[str, str]:
        """The fields that models trained from these weights inherit: their publisher and licence."""
        told = {"origin": self.origin, "revision": self.revision, "license": self.license}
        return told | {"license_text": self.license_text} if self.license_text else told

    @property
    def text_publication(self) -> Publication:
        """The publication of a LiT's text tower."""
        return self.text if self.text is not None else Publication(**self.publication)


class Measurement(Frozen):
    """One measured number, and the conditions of the measurement."""

    metric: str = Field(min_length=1, description="quantity: top1, latency_p50, images_per_second ...")
    value: float
    unit: str = Field("", description="ms, MiB, images/s ...; '' for a share of 1")
    engine: str = Field("", description="engine: torch, onnx, openvino ...; '' where it does not matter")
    program: str = Field("", description="program: 'torch', 'onnx, fp32', 'openvino, fp32, batches of 8' ...")
    precision: str = Field("", description="precision: fp32, bf16, 'int8, rest bf16' ...; '': the program's own")
    batch: PositiveInt | None = Field(None, description="images computed at once; None where it does not matter")
    data: str = Field("", description="data set and split of the measurement")
    machine: str = ""
    date: str = ""
    low: float | None = Field(None, description="lower end of the 95% confidence interval")
    high: float | None = Field(None, description="upper end of the 95% confidence interval")

    @property
    def title(self) -> str:
        """A title for readers: 'top1', 'latency_p50 (onnx fp32, one image)'."""
        ran = f"{self.engine} {self.precision}".strip() if self.engine else ""
        batch = "" if self.batch is None else "one image" if self.batch == 1 else f"batches of {self.batch}"
        how = ", ".join(part for part in (ran, batch) if part)
        return f"{self.metric} ({how})" if how else self.metric
