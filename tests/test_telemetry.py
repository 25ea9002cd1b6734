"""Tests that the runtimes collect no usage statistics.

A child process predicts with each runtime, and its home folder must then contain no files of the statistics. Ray's
statistics are redirected to a server in this test, which must receive nothing.
"""

import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fashion_infer.models import find_model

MODEL = str(find_model("fashionnet-lite-int8"))
PREDICT = """
import sys, time
import numpy as np
from fashion_infer import Predictor
with Predictor(sys.argv[1], backend=sys.argv[2]) as predictor:
    predictor.predict(np.zeros((9, 9, 3), np.uint8))
time.sleep(3)
"""
UNGUARDED = {
    "onnxruntime": "import sys, time, onnxruntime; onnxruntime.InferenceSession(sys.argv[1]); time.sleep(3)",
    "openvino": "import openvino, time; time.sleep(3)",
}


LOCAL_CLUSTER = """
import time
import fashion_infer, ray
ray.init("local", _node_ip_address="127.0.0.1", include_dashboard=False, num_cpus=1, logging_level="ERROR")
time.sleep(8)
"""
UNGUARDED_CLUSTER = """
import time
from ray.cluster_utils import Cluster
cluster = Cluster(True, head_node_args={"node_ip_address": "127.0.0.1", "include_dashboard": False, "num_cpus": 1})
time.sleep(8)
cluster.shutdown()
"""


def files_left_by(code: str, backend: str, home: Path) -> list[str]:
    """Run code in a child process with an empty home folder; returns the files that it leaves there.

    The child has no variables of a CI, and no network if the system allows that.
    """
    environment = {
        name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")
    }
    offline = ["unshare", "--net"] if _may_unshare() else []
    result = subprocess.run(
        [*offline, sys.executable, "-c", code, MODEL, backend],
        capture_output=True, text=True, timeout=120, env={**environment, "HOME": str(home)},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())


def _may_unshare() -> bool:
    unshare = shutil.which("unshare")
    return unshare is not None and subprocess.run([unshare, "--net", "true"], capture_output=True).returncode == 0


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_predicting_leaves_no_statistics(backend: str, tmp_path: Path) -> None:
    pytest.importorskip(backend)
    left = files_left_by(PREDICT, backend, tmp_path)
    assert [name for name in left if not name.startswith(".cache/fashion-infer/")] == []


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_the_runtime_itself_leaves_statistics(backend: str, tmp_path: Path) -> None:
    """Shows that the test above can fail."""
    pytest.importorskip(backend)
    assert files_left_by(UNGUARDED[backend], backend, tmp_path)


@pytest.mark.parametrize(("code", "expected"), [(LOCAL_CLUSTER, 0), (UNGUARDED_CLUSTER, 1)], ids=["ours", "theirs"])
def test_a_cluster_reports_nothing(code: str, expected: int) -> None:
    """A cluster like that of `embed --ray local` sends none; one that Ray starts itself does, so the test can fail."""
    pytest.importorskip("ray")
    reports: list[bytes] = []

    class Maker(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            reports.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    with ThreadingHTTPServer(("127.0.0.1", 0), Maker) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        report_to = {"RAY_USAGE_STATS_REPORT_URL": f"http://127.0.0.1:{server.server_port}"}
        report_to |= {"RAY_USAGE_STATS_REPORT_INTERVAL_S": "1", "RAY_USAGE_STATS_PROMPT_ENABLED": "0"}
        command = [sys.executable, "-c", code]
        result = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**environment, **report_to})
        server.shutdown()
    assert result.returncode == 0, result.stderr
    assert min(len(reports), 1) == expected


@pytest.mark.parametrize("variable", ["ORT_DISABLE_TELEMETRY", "RAY_USAGE_STATS_ENABLED"])
def test_the_users_settings_are_kept(variable: str) -> None:
    code = f"import fashion_infer, os; print(os.environ[{variable!r}])"
    environment = {**os.environ, variable: "kept"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    assert result.stdout == "kept\n"
