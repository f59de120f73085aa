"""Switch off usage reports of the libraries that vitsmith uses, when vitsmith is imported.

To keep the reports, set the variable before vitsmith is imported, such as ORT_DISABLE_TELEMETRY=0.
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
"""Environment variables that switch reports off; child processes inherit them."""


def switch_off() -> None:
    """Set `SWITCHES` where the user has not. Warns when onnxruntime was already imported and reports."""
    late = "onnxruntime" in sys.modules and "ORT_DISABLE_TELEMETRY" not in os.environ
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)
    if late:
        sys.modules["onnxruntime"].disable_telemetry_events()  # does not stop what is already being sent
        warnings.warn(
            "onnxruntime was imported before vitsmith, and reports its use to Microsoft: import vitsmith "
            "first, or set ORT_DISABLE_TELEMETRY=1 (to keep the reports: ORT_DISABLE_TELEMETRY=0)",
            stacklevel=3,
        )


def switch_off_openvino() -> None:
    """Switch off the reports of OpenVINO and NNCF, which read no variable; call it before either is imported."""
    if "openvino" not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # each then uses its own stub
    elif (package := sys.modules.get("openvino_telemetry")) is not None:  # the user imported it before
        with contextlib.suppress(RuntimeError):  # when it has not been used yet
            package.Telemetry().consent = False
