"""Vision transformers from architecture to deployment.

    import vitsmith as vs

    bundle = vs.load("B_16.npz")              # a bundle, weights of any kind, hf:OWNER/NAME, a published name
    predictor = vs.Predictor(bundle)
    predictor(["cat.jpg"])[0].top(5)

Everything is imported on first use, so that `import vitsmith` is light: torch takes seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vitsmith.process.telemetry import switch_off

if TYPE_CHECKING:
    from vitsmith.cost.calibrate import calibrate
    from vitsmith.cost.cost import Cost
    from vitsmith.cost.predict import predict_cost
    from vitsmith.cost.profile import Profile
    from vitsmith.data.images.preprocess import load_image, preprocess
    from vitsmith.data.sets.datasets import DataSpec, open_data
    from vitsmith.encode import Encoder
    from vitsmith.engines.open import open_engine
    from vitsmith.errors import GateError, InputError, VitsmithError
    from vitsmith.models.build import create_model
    from vitsmith.predict import Prediction, Predictor
    from vitsmith.records import Measurement, Provenance
    from vitsmith.retrieval.build import write_index
    from vitsmith.retrieval.queries.searchable import open_index
    from vitsmith.retrieval.search import search
    from vitsmith.retrieval.sync.options import IndexOptions
    from vitsmith.sorting.clusters import cluster
    from vitsmith.sorting.duplicates import duplicates
    from vitsmith.specs import ImageSpec, Labels
    from vitsmith.text_spec import TextSpec
    from vitsmith.verbs.evaluate import evaluate
    from vitsmith.verbs.export import export
    from vitsmith.verbs.lit import lit
    from vitsmith.verbs.probe import probe
    from vitsmith.verbs.quantize import quantize
    from vitsmith.verbs.recommend import recommend
    from vitsmith.verbs.train import plan_training, train
    from vitsmith.weights.bundle.bundle import Bundle
    from vitsmith.weights.finetune import init_for_finetune
    from vitsmith.weights.load import load
    from vitsmith.weights.save import save
    from vitsmith.zeroshot.classifier import ZeroShotClassifier

from vitsmith.version import __version__ as __version__

switch_off()  # before any library that reports is imported

_HOMES = {
    "Bundle": "vitsmith.weights.bundle.bundle",
    "Cost": "vitsmith.cost.cost",
    "DataSpec": "vitsmith.data.sets.datasets",
    "Encoder": "vitsmith.encode",
    "GateError": "vitsmith.errors",
    "ImageSpec": "vitsmith.specs",
    "IndexOptions": "vitsmith.retrieval.sync.options",
    "InputError": "vitsmith.errors",
    "Labels": "vitsmith.specs",
    "Measurement": "vitsmith.records",
    "Prediction": "vitsmith.predict",
    "Predictor": "vitsmith.predict",
    "Profile": "vitsmith.cost.profile",
    "Provenance": "vitsmith.records",
    "TextSpec": "vitsmith.text_spec",
    "VitsmithError": "vitsmith.errors",
    "ZeroShotClassifier": "vitsmith.zeroshot.classifier",
    "calibrate": "vitsmith.cost.calibrate",
    "cluster": "vitsmith.sorting.clusters",
    "create_model": "vitsmith.models.build",
    "duplicates": "vitsmith.sorting.duplicates",
    "evaluate": "vitsmith.verbs.evaluate",
    "export": "vitsmith.verbs.export",
    "init_for_finetune": "vitsmith.weights.finetune",
    "lit": "vitsmith.verbs.lit",
    "load": "vitsmith.weights.load",
    "load_image": "vitsmith.data.images.preprocess",
    "open_data": "vitsmith.data.sets.datasets",
    "open_engine": "vitsmith.engines.open",
    "open_index": "vitsmith.retrieval.queries.searchable",
    "plan_training": "vitsmith.verbs.train",
    "predict_cost": "vitsmith.cost.predict",
    "preprocess": "vitsmith.data.images.preprocess",
    "probe": "vitsmith.verbs.probe",
    "quantize": "vitsmith.verbs.quantize",
    "recommend": "vitsmith.verbs.recommend",
    "save": "vitsmith.weights.save",
    "search": "vitsmith.retrieval.search",
    "train": "vitsmith.verbs.train",
    "write_index": "vitsmith.retrieval.build",
}

__all__ = [
    "Bundle",
    "Cost",
    "DataSpec",
    "Encoder",
    "GateError",
    "ImageSpec",
    "IndexOptions",
    "InputError",
    "Labels",
    "Measurement",
    "Prediction",
    "Predictor",
    "Profile",
    "Provenance",
    "TextSpec",
    "VitsmithError",
    "ZeroShotClassifier",
    "calibrate",
    "cluster",
    "create_model",
    "duplicates",
    "evaluate",
    "export",
    "init_for_finetune",
    "lit",
    "load",
    "load_image",
    "open_data",
    "open_engine",
    "open_index",
    "plan_training",
    "predict_cost",
    "preprocess",
    "probe",
    "quantize",
    "recommend",
    "save",
    "search",
    "train",
    "write_index",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'vitsmith' has no attribute {name!r}")
    import importlib

    try:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        from vitsmith.errors import missing_package

        raise missing_package(error) or error from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])
