"""How an engine runs a model's graph: which kernels run it, in which precision, and whether attention is fused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vitsmith.machine import int8_dot_products
from vitsmith.models.config import LiTConfig, ModelConfig, ViTConfig
from vitsmith.specs import ProgramSpec
from vitsmith.weights.bundle.bundle import Bundle


@dataclass(frozen=True)
class Node:
    """One operation as the engine runs it."""

    kind: str
    """Its name in the engine: MatMul, FullyConnected, Subgraph ..."""
    precision: str = ""
    """Precision of its arithmetic: fp32, fp16, bf16, int8."""
    flops: int = 0
    """Floating-point operations of a product or convolution, for one run; 0 for anything else, as in `models.cost`."""
    optimised: bool = True
    """Whether a kernel of the engine's optimised backend runs it, and not a plain reference kernel."""
    attention: bool = False
    """Whether it is a whole attention: scores, softmax and weighted sum in one kernel."""


@dataclass(frozen=True)
class GraphReport:
    """How an engine runs the image part of a bundle."""

    engine: str
    nodes: int
    """Operations that run."""
    delegated_nodes: float | None
    """Share of them that the optimised backend runs; None if the engine does not distinguish it."""
    delegated_flops: float | None
    """Share of the floating-point operations of products and convolutions that the optimised backend runs."""
    attention: tuple[int, int]
    """(fused attentions, attentions of the model)."""
    flops: int | None = None
    """Floating-point operations of products and convolutions for one image; None if the engine shows none."""
    precision: Mapping[str, float] = field(default_factory=dict)
    """Share of the floating-point operations of products and convolutions by precision, largest first."""
    remarks: tuple[str, ...] = ()
    """What slows the model down, one line each."""

    @property
    def attention_text(self) -> str:
        """'fused', 'not fused', '11 of 12 fused', or 'none' for a model without attention."""
        fused, there = self.attention
        if not there:
            return "none"
        return "fused" if fused >= there else f"{fused} of {there} fused" if fused else "not fused"

    @property
    def precision_text(self) -> str:
        """'int8 96%, bf16 4%', or just the one there is."""
        if len(self.precision) == 1:
            return next(iter(self.precision))
        return ", ".join(f"{name} {share:.0%}" for name, share in self.precision.items())

    def facts(self) -> list[tuple[str, str]]:
        """(name, value) rows for a table, without the remarks."""
        delegated = [
            ("nodes on optimised kernels", self.delegated_nodes),
            ("FLOPs on optimised kernels", self.delegated_flops),
        ]
        return [
            ("engine", self.engine),
            ("nodes", str(self.nodes)),
            *((name, f"{share:.1%}") for name, share in delegated if share is not None),
            ("attention", self.attention_text),
            ("precision of products", self.precision_text),
        ]

    def to_dict(self) -> dict[str, Any]:
        """The report as data for JSON."""
        fused, there = self.attention
        return {
            "engine": self.engine,
            "nodes": self.nodes,
            "delegated_nodes": self.delegated_nodes,
            "delegated_flops": self.delegated_flops,
            "attentions": there,
            "fused_attentions": fused,
            "flops": self.flops,
            "precision": dict(self.precision),
            "remarks": list(self.remarks),
        }


def report_of(
    engine: str, nodes: Sequence[Node], batch: int, bundle: Bundle, remarks: Iterable[str] = ()
) -> GraphReport:
    """The report on the nodes of a graph for `batch` images, with the remarks that all engines share."""
    flops = sum(node.flops for node in nodes)
    by_precision: dict[str, int] = {}
    for node in nodes:
        if node.flops:
            by_precision[node.precision] = by_precision.get(node.precision, 0) + node.flops
    shares = {name: count / flops for name, count in sorted(by_precision.items(), key=lambda item: -item[1])}
    attention = sum(node.attention for node in nodes), attentions(bundle.config)
    slow = sorted({node.kind for node in nodes if node.flops and not node.optimised})
    found = list(remarks)
    if attention[0] < attention[1]:
        which = (
            "attention is" if not attention[0] else f"{attention[1] - attention[0]} of {attention[1]} attentions are"
        )
        found.append(f"{which} not fused: scores go through memory")
    if slow:
        found.append(f"not on optimised kernels: {', '.join(slow)}")
    return GraphReport(
        engine=engine,
        nodes=len(nodes),
        delegated_nodes=sum(node.optimised for node in nodes) / len(nodes) if nodes else None,
        delegated_flops=sum(node.flops for node in nodes if node.optimised) / flops if flops else None,
        attention=attention,
        flops=flops // batch,
        precision=shares,
        remarks=(*found, *int8_remarks(bundle.program_spec, shares)),
    )


def int8_remarks(spec: ProgramSpec, shares: Mapping[str, float]) -> list[str]:
    """Remarks on a quantised program that does not pay off on this machine."""
    if spec.precision != "int8":
        return []
    remarks = []
    if int8_dot_products() is False:
        remarks.append("this processor has no int8 dot products (VNNI, AMX, asimddp): the float program may be faster")
    if shares and not shares.get("int8"):
        remarks.append("no product is computed in int8")
    return remarks


def attentions(config: ModelConfig) -> int:
    """Attention layers of the image part."""
    tower = config.image if isinstance(config, LiTConfig) else config
    return tower.depth if isinstance(tower, ViTConfig) else 0
