"""Switch off the usage statistics of the runtimes before they are imported."""

import os
import sys


def switch_off() -> None:
    """Stop runtimes that are imported after this call from storing device ids and sending usage statistics.

    ONNX Runtime 1.29 and newer reads its variable when it is imported, and Ray when it starts a cluster; a value that
    the user set is kept. OpenVINO reports its import through the package `openvino_telemetry`, and does without it if
    it cannot be imported. Runtimes that were imported before fashion_infer are not affected.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type] # None makes its import fail
