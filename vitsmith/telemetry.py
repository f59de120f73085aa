"""No library that vitsmith uses reports to anybody who used it: `import vitsmith` switches their reports off.

Who wants to report sets the variable before vitsmith is imported, such as ORT_DISABLE_TELEMETRY=0.
"""

from __future__ import annotations

import contextlib
import os
import sys
import warnings

SWITCHES = {
    # onnxruntime 1.32 writes a device id into ~/.cache/Microsoft when it is imported, and looks up
    # mobile.events.data.microsoft.com some 10 seconds later. It reads the variable when it is imported.
    "ORT_DISABLE_TELEMETRY": "1",
    "NNCF_CI": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",  # also of datasets
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",
}
"""Environment variables that say so; child processes inherit them."""


def switch_off() -> None:
    """Sets `SWITCHES` where the user has not. Warns when onnxruntime was imported before, and reports already."""
    late = "onnxruntime" in sys.modules and "ORT_DISABLE_TELEMETRY" not in os.environ
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)
    if late:
        sys.modules["onnxruntime"].disable_telemetry_events()  # which does not stop what it has begun to send
        warnings.warn(
            "onnxruntime was imported before vitsmith, and reports to Microsoft that it is used: import vitsmith "
            "first, or set ORT_DISABLE_TELEMETRY=1 (to keep the reports: ORT_DISABLE_TELEMETRY=0)",
            stacklevel=3,
        )


def switch_off_openvino() -> None:
    """The same for OpenVINO and NNCF, which read no variable: call it before either is imported."""
    if "openvino" not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # each then takes a stub of its own
    elif (package := sys.modules.get("openvino_telemetry")) is not None:  # the user imported it before
        with contextlib.suppress(RuntimeError):  # when nothing has asked for it yet
            package.Telemetry().consent = False
