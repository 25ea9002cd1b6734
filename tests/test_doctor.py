import json
import subprocess
import sys

import pytest

from fashion_infer import doctor
from fashion_infer.machine import usable_cores


def _status(name: str) -> doctor.BackendStatus:
    return next(backend for backend in doctor.backends() if backend.name == name)


def test_onnxruntime_works_on_the_cpu() -> None:
    import onnxruntime

    assert _status("onnxruntime on cpu") == doctor.BackendStatus("onnxruntime on cpu", True, onnxruntime.__version__)


def test_openvino_works_on_the_cpu() -> None:
    openvino = pytest.importorskip("openvino")
    assert _status("openvino on cpu") == doctor.BackendStatus("openvino on cpu", True, openvino.__version__)


def test_every_backend_that_does_not_work_says_why() -> None:
    backends = doctor.backends()
    assert [backend.name for backend in backends][:2] == ["onnxruntime on cpu", "onnxruntime on cuda"]
    assert {"tensorrt (tensorrt)", "tensorrt (rtx)"} <= {backend.name for backend in backends}
    assert all(backend.detail for backend in backends)


def test_tensorrt_says_what_is_missing() -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    status = _status("tensorrt (rtx)")
    assert status.detail.startswith(f"{trt.__version__} builds engines here; ")
    if not status.works:
        assert "there is no NVIDIA GPU here" in status.detail
    try:
        import tensorrt  # noqa: F401
    except ImportError:
        assert 'pip install "fashion-infer[gpu]"' in _status("tensorrt (tensorrt)").detail


def test_installed_packages_are_listed_with_their_versions() -> None:
    installed = doctor.installed()
    assert installed["python"] == ".".join(map(str, sys.version_info[:3]))
    assert installed["numpy"]
    assert set(doctor.PACKAGES) < set(installed)


ABSENT = """
import sys
for name in ("onnxruntime", "openvino", "tensorrt", "tensorrt_rtx", "torch"):
    sys.modules[name] = None
sys.argv = ["fashion-infer", "doctor", *sys.argv[1:]]
from fashion_infer.cli import main
main()
"""


def test_exit_code_3_when_no_backend_works() -> None:
    result = subprocess.run([sys.executable, "-c", ABSENT, "--json"], capture_output=True, text=True, timeout=60)
    assert result.returncode == 3
    assert "pip install" in result.stderr
    facts = json.loads(result.stdout)
    assert not any(backend["works"] for backend in facts["backends"])
    details = " ".join(backend["detail"] for backend in facts["backends"])
    for extra in ("cpu", "gpu", "openvino", "rtx"):
        assert f"fashion-infer[{extra}]" in details


def test_doctor_prints_its_tables() -> None:
    command = [sys.executable, "-c", "from fashion_infer.cli import main; main()", "doctor"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert "onnxruntime on cpu" in result.stdout
    assert "tensorrt (rtx)" in result.stdout


def test_the_kind_of_cpu_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    assert f"{usable_cores()} usable cores" in doctor.cpu()
    monkeypatch.setattr(doctor.platform, "machine", lambda: "x86_64")
    for vnni, words in ((True, "with VNNI: int8"), (False, "without VNNI: int8")):
        monkeypatch.setattr(doctor, "has_vnni", lambda vnni=vnni: vnni)
        assert words in doctor.cpu()
    monkeypatch.setattr(doctor.platform, "machine", lambda: "aarch64")
    assert "not tested" in doctor.cpu()
