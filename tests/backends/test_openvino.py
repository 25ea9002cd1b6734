import dataclasses
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("openvino")

import fashion_infer.backends.openvino as openvino_backend
from fashion_infer import Predictor
from fashion_infer.backends.onnxruntime import OnnxRuntimeBackend
from fashion_infer.backends.openvino import OpenVinoBackend
from fashion_infer.errors import DeviceError, ModelError, UsageError
from fashion_infer.export.quantize import LIMITS, Int8Options, differences, quantize_file
from fashion_infer.machine import usable_cores
from fashion_infer.model_spec import OUTPUT_NAMES, ModelSpec


@pytest.fixture(scope="module")
def backend(onnx_model: Path) -> OpenVinoBackend:
    return OpenVinoBackend(onnx_model, threads=1)


def images(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)


def rendered(count: int) -> np.ndarray:
    from fashion_infer.evaluation.parity import read_pictures

    return read_pictures(None, 64, count)


@pytest.mark.parametrize("count", [1, 2, 8, 9, 17])
def test_fp32_is_what_onnxruntime_gives(backend: OpenVinoBackend, onnx_model: Path, count: int) -> None:
    outputs, expected = backend.run(images(count)), OnnxRuntimeBackend(onnx_model).run(images(count))
    assert tuple(outputs) == OUTPUT_NAMES
    for name, values in outputs.items():
        assert (values.dtype, values.shape) == (np.float32, expected[name].shape)
        np.testing.assert_allclose(values, expected[name], atol=1e-5)  # bfloat16 would be off by more


def test_int8_is_near_fp32_in_every_size_of_batch(light_model: Path, pictures: Path, tmp_path: Path) -> None:
    path = tmp_path / "int8.onnx"
    quantize_file(light_model, path, Int8Options(pictures))
    batch = rendered(10)
    expected = OnnxRuntimeBackend(light_model).run(batch)
    int8 = OpenVinoBackend(path, threads=1)
    for count in (1, 10):
        apart = differences(int8.run(batch[:count]), {name: values[:count] for name, values in expected.items()})
        assert apart["embedding"] > 0
        assert all(apart[name] < 2 * LIMITS[name] for name in LIMITS)


def test_networks_are_compiled_for_fixed_sizes_when_they_are_loaded(backend: OpenVinoBackend) -> None:
    requests = backend._requests[0]
    assert set(requests) == {1, 8}
    for size, request in requests.items():
        (port,) = request.get_compiled_model().inputs
        assert tuple(port.shape) == (size, 64, 64, 3)  # raises where one is not fixed


def test_what_cannot_be_compiled_is_said_each_time(onnx_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that compiles for one image but not for eight: nothing waits for the second size until it is asked."""
    core = openvino_backend._core()

    class NoEights:
        def __getattr__(self, name: str) -> Any:
            return getattr(core, name)

        def compile_model(self, network: Any, *arguments: Any) -> Any:
            if network.inputs[0].partial_shape[0] == 8:
                raise RuntimeError("no room for eight")
            return core.compile_model(network, *arguments)

    monkeypatch.setattr(openvino_backend, "_core", NoEights)
    for _ in range(2):
        with pytest.raises(ModelError, match=r"OpenVINO cannot run .*no room for eight"):
            Predictor(onnx_model, backend="openvino")


def test_bf16_files_are_computed_in_bf16(onnx_model: Path, tmp_path: Path) -> None:
    from fashion_infer.precision import convert_file

    path = tmp_path / "bf16.onnx"
    convert_file(onnx_model, path, "bf16")
    batch = rendered(3)
    apart = differences(OpenVinoBackend(path, threads=1).run(batch), OnnxRuntimeBackend(onnx_model).run(batch))
    assert 1e-4 < apart["embedding"] < LIMITS["embedding"]


@pytest.mark.parametrize(
    ("sessions", "threads", "expected"),
    [(None, None, (1, usable_cores())), (2, None, (2, max(1, usable_cores() // 2))), (3, 1, (3, 1))],
)
def test_sessions_and_threads(
    sessions: int | None, threads: int | None, expected: tuple[int, int], onnx_model: Path
) -> None:
    backend = OpenVinoBackend(onnx_model, sessions=sessions, threads=threads)
    assert (backend.sessions, backend._threads) == expected
    assert (backend.path, backend.device, backend.spec.arch) == (onnx_model, "cpu", "vgg16")


def test_each_session_gives_its_own_results(backend: OpenVinoBackend, onnx_model: Path) -> None:
    shared = OpenVinoBackend(onnx_model, sessions=3, threads=1)

    def run_all(session: int) -> None:
        for batch in [images(n) for n in (1, 2, 3, 8, 9)] * 4:
            outputs = shared.run(batch, session)
            for name, expected in backend.run(batch).items():
                np.testing.assert_allclose(outputs[name], expected, atol=1e-5)

    backend = OpenVinoBackend(onnx_model, sessions=1, threads=1)
    lock = threading.Lock()
    alone = backend.run

    def one_at_a_time(batch: np.ndarray, session: int = 0) -> Any:
        with lock:
            return alone(batch, session)

    backend.run = one_at_a_time  # type: ignore[method-assign]
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(run_all, range(3)))
    shared.close()


def test_the_predictor_runs_on_it(onnx_model: Path) -> None:
    picture = rendered(1)[0]
    with Predictor(onnx_model, backend="openvino") as ours, Predictor(onnx_model) as theirs:
        prediction, expected = ours.predict(picture), theirs.predict(picture)
    assert prediction.category.name == expected.category.name
    assert prediction.category.score == pytest.approx(expected.category.score, abs=1e-5)
    np.testing.assert_allclose(prediction.embedding, expected.embedding, atol=1e-5)


SIGNALLED = """
import gc
import signal
import sys
from pathlib import Path

import numpy as np

from fashion_infer.backends.openvino import OpenVinoBackend

signal.signal(signal.SIGUSR1, lambda *_: None)
for _ in range(2):
    backend = OpenVinoBackend(Path(sys.argv[1]))
    backend.run(np.zeros((9, 64, 64, 3), np.uint8))
    del backend
    gc.collect()
signal.raise_signal(signal.SIGUSR1)
print("alive")
"""


def test_a_signal_still_finds_its_stack_after_backends_are_gone(onnx_model: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", SIGNALLED, str(onnx_model)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert (result.returncode, result.stdout) == (0, "alive\n"), result.stderr


FORKED = """
import os, sys, time, warnings
import numpy as np
from fashion_infer import Predictor
warnings.simplefilter("ignore")
predictor = Predictor(sys.argv[1], backend="openvino")
predictor.predict([np.zeros((64, 64, 3), np.uint8)] * 9)
if sys.argv[2] == "closed":
    predictor.close()
child = os.fork()
if child == 0:
    sys.exit(7)
deadline = time.monotonic() + 40
while not (ended := os.waitpid(child, os.WNOHANG))[0] and time.monotonic() < deadline:
    time.sleep(0.01)
if not ended[0]:
    os.kill(child, 9)
print(os.waitstatus_to_exitcode(ended[1]) if ended[0] else "the child hangs")
"""


@pytest.mark.parametrize("when", ["open", "closed"])
def test_a_forked_child_ends_by_itself(when: str, onnx_model: Path) -> None:
    command = [sys.executable, "-c", FORKED, str(onnx_model), when]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (0, "7\n", "")


# ---- what cannot be run


@pytest.mark.parametrize("device", ["cuda:0", "gpu", "cpu:0"])
def test_another_device(device: str, onnx_model: Path) -> None:
    with pytest.raises(DeviceError, match="the backend openvino runs on the cpu, not on"):
        OpenVinoBackend(onnx_model, device=device)


def test_a_plan_has_no_choice(tmp_path: Path) -> None:
    plan = tmp_path / "a.plan"
    plan.write_bytes(b"vtrt")
    with pytest.raises(UsageError, match=r"no backend 'openvino' for \.plan files: it is tensorrt"):
        Predictor(plan, backend="openvino")


@pytest.mark.parametrize("content", [b"", b"no ONNX", b"\x08\x0a" + bytes(500)])
def test_what_is_not_ours(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=re.escape(str(path)) + " is "):
        OpenVinoBackend(path)


def test_a_truncated_file(onnx_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(onnx_model.read_bytes()[:-1000])
    with pytest.raises(ModelError, match="or is damaged"):
        OpenVinoBackend(path)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (None, r"not one that fashion-infer export wrote \(no fashion_infer.model_spec\)"),
        ("{", "the ModelSpec is not JSON"),
        ('{"version": 99}', "export the model again"),
    ],
)
def test_a_spec_that_cannot_be_read(spec: str | None, expected: str, with_spec: Callable[[Any], Path]) -> None:
    with pytest.raises(ModelError, match=expected):
        OpenVinoBackend(with_spec(spec))


@pytest.mark.parametrize("change", [{"image_size": 32}, {"categories": ("Tee",)}, {"embedding_dim": 7}])
def test_a_spec_of_another_network(
    change: dict[str, Any], backend: OpenVinoBackend, with_spec: Callable[[ModelSpec], Path]
) -> None:
    with pytest.raises(ModelError, match=r"has inputs and outputs .* its ModelSpec says"):
        OpenVinoBackend(with_spec(dataclasses.replace(backend.spec, **change)))


def test_a_run_that_fails(backend: OpenVinoBackend) -> None:
    with pytest.raises(ModelError, match="OpenVINO failed on a batch of 1: "):
        backend.run(np.zeros((1, 32, 32, 3), np.uint8))
    assert len(backend.run(images(1))["category"]) == 1


@pytest.mark.parametrize("package", ["openvino", "onnx"])
def test_a_missing_package_is_named(package: str, onnx_model: Path) -> None:
    script = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from fashion_infer import Predictor, errors\n"
        "try: Predictor(sys.argv[1], backend='openvino')\n"
        "except errors.MissingExtraError as error: print(error)"
    )
    result = subprocess.run([sys.executable, "-c", script, onnx_model], capture_output=True, text=True, timeout=60)
    assert result.stdout.startswith(f'{package} is not installed: pip install "fashion-infer[openvino]" (')
