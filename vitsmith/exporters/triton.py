"""A model repository for NVIDIA's Triton Inference Server, whose version folder is a bundle.

out/
  ViT-B_16/              of LiT: LiT-B16B_2-image/ and LiT-B16B_2-text/
    config.pbtxt
    labels.txt           where the classes have names
    1/                   the bundle; of LiT's text model the program alone
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitsmith.engines.openvino.core import openvino_core
from vitsmith.errors import InputError, MissingPackageError, OutputError
from vitsmith.exporters.exporter import Deliver, Device, Exporter, Extras
from vitsmith.exporters.onnx import layer_outputs, write_onnx
from vitsmith.files.atomic import replacing_folder
from vitsmith.models.config import LiTConfig
from vitsmith.models.presets import name_of
from vitsmith.specs import ProgramSpec
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.folder import copy_programs, read_bundle, write_bundle
from vitsmith.weights.bundle.paths import program_file

MAX_BATCH = 32
PREFERRED_BATCHES = (8, 16, 32)
QUEUE_MICROSECONDS = 2000
"""How long a request may wait for others: little compared with the milliseconds that a batch takes."""

_TYPES = {"FLOAT": "TYPE_FP32", "FLOAT16": "TYPE_FP16", "UINT8": "TYPE_UINT8", "INT32": "TYPE_INT32"}
_OPENVINO_TYPES = {"f32": "TYPE_FP32", "f16": "TYPE_FP16", "u8": "TYPE_UINT8", "i32": "TYPE_INT32"}


@dataclass(frozen=True)
class ServedTensor:
    """An input or output of a program. `dims` includes the batch axis; -1 means any size."""

    name: str
    data_type: str
    dims: tuple[int, ...]


@dataclass(frozen=True)
class Served:
    """One model of a repository."""

    name: str
    file: str
    """Its program in the version folder."""
    inputs: ServedTensor
    outputs: ServedTensor


def _deliver(bundle: Bundle, folder: Path, spec: ProgramSpec, extras: Extras) -> Deliver:
    """The program becomes a repository at `folder`, which is refused if other models in it would be lost."""
    models = _model_names(bundle, extras.name)
    _check_folder(folder, models)
    return lambda made: _write(made, folder, models, extras.device)


def _model_names(bundle: Bundle, name: str) -> list[str]:
    """Names of the image model and, of LiT, the text model, as paths and URLs take them."""
    if re.search(r"[^\w.+-]", name) or name.startswith("."):
        raise InputError(f"{name!r} cannot name a model in Triton: use letters, digits, '-', '_' and '.'")
    base = name or (name_of(bundle.config) or bundle.config.family).replace("+", "-")
    return [f"{base}-image", f"{base}-text"] if isinstance(bundle.config, LiTConfig) else [base]


def _check_folder(folder: Path, models: Sequence[str]) -> None:
    """Raises OutputError if replacing `folder` would lose other files."""
    others = sorted(
        path.name
        for path in (folder.iterdir() if folder.is_dir() else ())
        if path.name not in models or not (path / "config.pbtxt").is_file()
    )
    versions = (path for model in models for path in (folder / model).glob("[0-9]*") if path.name != "1")
    others += sorted(path.relative_to(folder).as_posix() for path in versions)
    if others:
        raise OutputError(f"{folder} holds {', '.join(others[:3])}, which would be lost; choose another output folder")


def _write(bundle: Bundle, folder: Path, models: Sequence[str], device: Device) -> Bundle:
    """Writes the repository of a program on disk."""
    source = bundle.place
    with replacing_folder(folder) as partial:
        for model, part in zip(models, ("model", "text"), strict=False):
            version = partial / model / "1"
            version.mkdir(parents=True)
            if part == "model":
                write_bundle(bundle, version, write_program=lambda place: copy_programs(source, place))
            else:
                for path in source.glob(f"{part}.*"):
                    shutil.copyfile(path, version / path.name)
            program = source / program_file(part, bundle.program)
            served = Served(model, program.name, *_tensors(program))
            labelled = part == "model" and bundle.labels is not None and bundle.program_spec.batch in (None, 1)
            outputs = _outputs(bundle) if part == "model" else {}
            text = config_text(served, bundle.program_spec, device, labelled=labelled, outputs=outputs)
            (partial / model / "config.pbtxt").write_text(text, encoding="utf-8")
            if labelled and bundle.labels is not None:
                lines = [" ".join(label.split()) for label in bundle.labels.shown]
                (partial / model / "labels.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return read_bundle(folder / models[0] / "1", verify=False)


def _outputs(bundle: Bundle) -> dict[str, str]:
    """The parameters that clients need to make probabilities of the logits: head, temperature, thresholds.

    Parameters that a backend does not know are for clients, who read them at /v2/models/NAME/config.
    """
    if bundle.head == "none":
        return {}
    if (calibration := bundle.calibration) is None:
        return {"head": bundle.head}
    thresholds = ",".join(f"{one:.9g}" for one in calibration.thresholds)
    found = {"head": bundle.head, "temperature": f"{calibration.temperature:.9g}"}
    return found | ({"thresholds": thresholds} if thresholds else {})


def _tensors(program: Path) -> tuple[ServedTensor, ServedTensor]:
    """The one input and the one output, as the program itself has them."""
    if program.suffix == ".xml":
        model = openvino_core().read_model(program)
        return _openvino_tensor(model.input(0)), _openvino_tensor(model.output(0))
    try:
        import onnx
    except ImportError:
        raise MissingPackageError("onnx", "export") from None
    graph = onnx.load(program, load_external_data=False).graph
    return _onnx_tensor(graph.input[0]), _onnx_tensor(graph.output[0])


def _onnx_tensor(value: Any) -> ServedTensor:
    import onnx

    kind = value.type.tensor_type
    dims = tuple(one.dim_value if one.HasField("dim_value") else -1 for one in kind.shape.dim)
    return ServedTensor(value.name, _TYPES[onnx.TensorProto.DataType.Name(kind.elem_type)], dims)


def _openvino_tensor(port: Any) -> ServedTensor:
    dims = tuple(-1 if one.is_dynamic else one.get_length() for one in port.get_partial_shape())
    return ServedTensor(port.get_any_name(), _OPENVINO_TYPES[port.get_element_type().get_type_name()], dims)


def config_text(
    served: Served,
    spec: ProgramSpec,
    device: Device = "auto",
    *,
    labelled: bool = False,
    outputs: Mapping[str, str] | None = None,
) -> str:
    """The text of config.pbtxt; `outputs` are parameters that say what the outputs mean.

    Triton puts requests together for ONNX programs that take any batch. Its OpenVINO backend would freeze the batch at
    the largest and refuse all others (src/openvino.cc: ov::set_batch), so there the batch axis is one like the others.
    """
    openvino = served.file.endswith(".xml")
    batched = not openvino and spec.batch is None
    leave = 1 if batched else 0
    warm = tuple(1 if one == -1 else one for one in served.inputs.dims[leave:])
    kind = "KIND_CPU" if openvino or spec.precision == "int8" else f"KIND_{device.upper()}"
    label = ' label_filename: "labels.txt"' if labelled else ""
    lines = [
        f'name: "{served.name}"',
        f'backend: "{"openvino" if openvino else "onnxruntime"}"',
        f'default_model_filename: "{served.file}"',
        f"max_batch_size: {MAX_BATCH if batched else 0}",
        f"input [ {{ {_field(served.inputs, leave)} }} ]",
        f"output [ {{ {_field(served.outputs, leave)}{label} }} ]",
        f"instance_group [ {{ count: 1 kind: {kind} }} ]",
    ]
    if batched:
        lines += [
            "dynamic_batching {",
            f"  preferred_batch_size: [ {', '.join(map(str, PREFERRED_BATCHES))} ]",
            f"  max_queue_delay_microseconds: {QUEUE_MICROSECONDS}",
            "}",
        ]
    for key, value in (_parameters(spec, openvino=openvino) | dict(outputs or {})).items():
        lines.append(f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}')
    zeros = f"data_type: {served.inputs.data_type} dims: {_dims(warm)} zero_data: true"
    lines += [
        "model_warmup [ {",
        '  name: "first"',
        "  batch_size: 1",
        f'  inputs {{ key: "{served.inputs.name}" value {{ {zeros} }} }}',
        "} ]",
    ]
    return "\n".join(lines) + "\n"


def _field(tensor: ServedTensor, leave: int) -> str:
    return f'name: "{tensor.name}" data_type: {tensor.data_type} dims: {_dims(tensor.dims[leave:])}'


def _dims(dims: Sequence[int]) -> str:
    return f"[ {', '.join(map(str, dims))} ]"


def _parameters(spec: ProgramSpec, *, openvino: bool) -> dict[str, str]:
    """Parameters of the backends: 0 gives onnxruntime a thread for each core; OpenVINO may compute in bf16 or not."""
    if not openvino:
        return {"intra_op_thread_count": "0"}
    bf16 = "bf16" in (spec.precision, spec.rest)
    return {"PERFORMANCE_HINT": "THROUGHPUT"} | ({"HINT_BF16": "YES"} if bf16 else {})


def _is_repository(place: Path) -> bool:
    return any(place.glob("*/config.pbtxt"))


TRITON = Exporter(
    "onnx", "vitsmith export --to triton", write_onnx, layer_outputs, deliver=_deliver, is_earlier=_is_repository
)
