"""Nothing phones home: the usage statistics of the runtimes are off before they are imported."""

import os
import sys


def switch_off() -> None:
    """Keep the runtimes that this process imports from now on from writing device ids and calling their makers.

    ONNX Runtime 1.29 and newer reads its variable once, when it is imported, Ray when it begins a cluster; a value that
    the user set is left alone. OpenVINO reports its own import through the package `openvino_telemetry`, and goes on
    quietly where there is none.
    What the application imported before fashion_infer cannot be undone.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type] # None makes its import fail
