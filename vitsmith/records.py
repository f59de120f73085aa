"""What is written down of a model: where it came from, and what was measured of it."""

from __future__ import annotations

from pydantic import Field

from vitsmith.fields import Frozen, PositiveInt


class Publication(Frozen):
    """Who published weights, and under which licence; all fields '' where that is not known, or where nobody did."""

    origin: str = Field("", description="repository or URL: 'hf:OWNER/NAME', 'https://...'")
    revision: str = Field("", description="commit of `origin`")
    license: str = Field("", description="licence of the weights: an SPDX identifier where there is one; '': not known")


NOT_KNOWN = Publication()


class Provenance(Frozen):
    """Where a model came from."""

    source: str = Field(description="file, URL or command it was made from")
    kind: str = Field(
        "",
        description="what the source is: 'jax-npz', 'timm' or 'hf' for weights of others, 'trained', 'pruned', "
        "'merged', 'resized' for what vitsmith made",
    )
    sha256: str = Field("", description="hash of the source file, when it was a file and was hashed")
    parent: str = Field("", description="what the source itself was made from: a checkpoint, a bundle")
    origin: str = Field(
        "", description="repository or URL that published the weights all this began with, 'hf:OWNER/NAME'"
    )
    revision: str = Field("", description="commit of `origin`")
    license: str = Field("", description="licence of the weights: an SPDX identifier where there is one; '': not known")
    date: str = Field("", description="ISO 8601 date on which this was made")
    vitsmith: str = Field("", description="version that wrote it")
    notes: tuple[str, ...] = ()
    text: Publication | None = Field(
        None,
        description="of a LiT whose towers come from two places: who published its text tower, where `origin`, "
        "`revision` and `license` are of its image tower",
    )

    @property
    def publication(self) -> dict[str, str]:
        """Fields that whatever is trained from these weights has too: who published them, and their licence."""
        return {"origin": self.origin, "revision": self.revision, "license": self.license}

    @property
    def text_publication(self) -> Publication:
        """That of a LiT's text tower."""
        return self.text if self.text is not None else Publication(**self.publication)


class Measurement(Frozen):
    """One number, and how it was come by."""

    metric: str = Field(min_length=1, description="what: top1, latency_p50, images_per_second, peak_memory ...")
    value: float
    unit: str = Field("", description="ms, MiB, images/s ...; '' for a share of 1")
    engine: str = Field("", description="what ran it: torch, onnx, openvino ...; '' where that does not matter")
    program: str = Field("", description="what was run: 'torch', 'onnx, fp32', 'openvino, fp32, batches of 8' ...")
    precision: str = Field("", description="what it computed in: fp32, bf16, 'int8, rest bf16' ...; '': its own")
    batch: PositiveInt | None = Field(None, description="images computed at once; None where that does not matter")
    data: str = Field("", description="data set and split it was measured on")
    machine: str = ""
    date: str = ""
    low: float | None = Field(None, description="lower end of the 95% confidence interval")
    high: float | None = Field(None, description="upper end of the 95% confidence interval")

    @property
    def title(self) -> str:
        """What to call it for a reader: 'top1', 'latency_p50 (onnx fp32, one image)'."""
        ran = f"{self.engine} {self.precision}".strip() if self.engine else ""
        batch = "" if self.batch is None else "one image" if self.batch == 1 else f"batches of {self.batch}"
        how = ", ".join(part for part in (ran, batch) if part)
        return f"{self.metric} ({how})" if how else self.metric
