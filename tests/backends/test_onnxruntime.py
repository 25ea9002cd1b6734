import dataclasses
import re
import subprocess
import sys
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import sleep
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

import fashion_infer.backends
from fashion_infer.backends import Runner, joined, no_outputs, run_in_parts
from fashion_infer.backends.onnxruntime import Layout, OnnxRuntimeBackend
from fashion_infer.errors import DeviceError, ModelError
from fashion_infer.machine import usable_cores
from fashion_infer.model_spec import OUTPUT_NAMES, ModelSpec


@pytest.fixture(scope="module")
def backend(onnx_model: Path) -> OnnxRuntimeBackend:
    return OnnxRuntimeBackend(onnx_model, layout=Layout(1, 1, 1))


def images(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)


def test_it_says_what_it_loaded(backend: OnnxRuntimeBackend, onnx_model: Path) -> None:
    assert (backend.path, backend.device, backend.sessions) == (onnx_model, "cpu", 1)
    assert (backend.spec.arch, backend.spec.image_size, backend.spec.categories) == (
        "vgg16",
        64,
        ("Tee", "Dress", "Jeans"),
    )
    assert OnnxRuntimeBackend(onnx_model).layout == Layout(1, usable_cores(), usable_cores())


@pytest.mark.parametrize("count", [0, 1, 2, 9])
def test_outputs_are_float32_of_the_shapes_the_spec_says(backend: OnnxRuntimeBackend, count: int) -> None:
    outputs = backend.run(images(count))
    assert tuple(outputs) == OUTPUT_NAMES
    assert {name: values.shape for name, values in outputs.items()} == {
        name: (count, *shape) for name, shape in backend.spec.output_shapes().items()
    }
    assert {values.dtype for values in outputs.values()} == {np.dtype(np.float32)}
    np.testing.assert_allclose(outputs["category"].sum(1), np.ones(count), rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(outputs["embedding"], axis=1), np.ones(count), rtol=1e-5)


@pytest.mark.parametrize("layout", [Layout(1, 2, 2), Layout(2, 1, 2), Layout(2, 2, 1), Layout(3, 2, 2)])
def test_every_layout_gives_the_same_from_many_threads(
    layout: Layout, backend: OnnxRuntimeBackend, onnx_model: Path
) -> None:
    other = OnnxRuntimeBackend(onnx_model, layout=layout)
    assert other.sessions == layout.sessions
    batches = [images(n) for n in range(1, 9)]
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(other.run, batches))
    for batch, outputs in zip(batches, results, strict=True):
        for name, expected in backend.run(batch).items():
            np.testing.assert_allclose(outputs[name], expected, atol=1e-5)
    assert other._running == 0


# ---- what is no model of ours


@pytest.mark.parametrize("content", [b"", b"no ONNX", b"\x08\x0a" + bytes(500)])
def test_what_is_not_onnx(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=re.escape(str(path)) + " is not an ONNX file that ONNX Runtime can load"):
        OnnxRuntimeBackend(path)


def test_a_truncated_file(onnx_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(onnx_model.read_bytes()[:-1000])
    with pytest.raises(ModelError, match="or is damaged"):
        OnnxRuntimeBackend(path)


def test_the_onnx_file_of_another_model(with_spec: Callable[[Any], Path]) -> None:
    with pytest.raises(ModelError, match=r"not one that fashion-infer export wrote \(no fashion_infer.model_spec\)"):
        OnnxRuntimeBackend(with_spec(None))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "the ModelSpec is not JSON"),
        ("{}", "version None"),
        ('{"version": 99}', "export the model again"),
        ("[]", "version None"),
    ],
)
def test_a_spec_that_cannot_be_read(text: str, expected: str, with_spec: Callable[[Any], Path]) -> None:
    path = with_spec(text)
    with pytest.raises(ModelError, match=re.escape(f"{path}: ") + ".*" + expected):
        OnnxRuntimeBackend(path)


@pytest.mark.parametrize("change", [{"image_size": 32}, {"categories": ("Tee",)}, {"embedding_dim": 7}])
def test_a_spec_of_another_network(
    change: dict[str, Any], backend: OnnxRuntimeBackend, with_spec: Callable[[ModelSpec], Path]
) -> None:
    with pytest.raises(ModelError, match=r"has inputs and outputs .* its ModelSpec says"):
        OnnxRuntimeBackend(with_spec(dataclasses.replace(backend.spec, **change)))


# ---- devices


@pytest.mark.parametrize("device", ["", "gpu", "cuda:x", "cuda:-1", "cpu:0", "CPU"])
def test_unknown_devices(device: str, onnx_model: Path) -> None:
    with pytest.raises(DeviceError, match=r"unknown device .* it is cpu, cuda, cuda:0"):
        OnnxRuntimeBackend(onnx_model, device=device)


@pytest.mark.skipif("CUDAExecutionProvider" in ort.get_available_providers(), reason="this onnxruntime has CUDA")
@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:1"])
def test_a_gpu_that_this_build_cannot_use_is_not_replaced_by_the_cpu(device: str, onnx_model: Path) -> None:
    with pytest.raises(DeviceError, match=r'has no CUDA .* pip install "fashion-infer\[gpu\]"'):
        OnnxRuntimeBackend(onnx_model, device=device)


# ---- runs that fail


def test_a_run_that_fails(backend: OnnxRuntimeBackend) -> None:
    with pytest.raises(ModelError, match="ONNX Runtime failed on a batch of 2: "):
        backend.run(np.zeros((2, 32, 32, 3), np.uint8))
    assert backend._running == 0


LITTLE_MEMORY = """
import logging, resource, sys
import numpy as np
from pathlib import Path
from fashion_infer.backends import Runner
from fashion_infer.backends.onnxruntime import Layout, OnnxRuntimeBackend

logging.basicConfig(stream=sys.stdout, format="%(message)s")
runner = Runner(OnnxRuntimeBackend(Path(sys.argv[1]), layout=Layout(1, 1, 1)))
images = np.random.default_rng(0).integers(0, 256, (512, 64, 64, 3), dtype=np.uint8)
expected = runner.run([images[:3]])
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[2]) * 2**20,) * 2)
outputs = runner.run([images])
assert all(len(values) == 512 for values in outputs.values())
assert all(np.allclose(outputs[name][:3], values, atol=1e-5) for name, values in expected.items())
"""


def test_a_batch_larger_than_memory_is_split(onnx_model: Path) -> None:
    command = [sys.executable, "-c", LITTLE_MEMORY, str(onnx_model), "60"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stderr) == (0, "")
    warnings = result.stdout.splitlines()
    expected = "a batch of 512 does not fit in the memory of cpu: going on with batches of 256 for 60 seconds"
    assert warnings[0] == expected


class Narrow(OnnxRuntimeBackend):
    """A device with room for a few images; it remembers the batches it was asked to run."""

    room = 3

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.asked: list[int] = []

    def run(self, batch: np.ndarray, session: int = 0) -> dict[str, np.ndarray]:
        self.asked.append(len(batch))
        if len(batch) > self.room:
            raise MemoryError(f"a batch of {len(batch)} does not fit")
        return super().run(batch)


def test_a_batch_is_halved_until_it_fits_and_the_next_one_starts_there(
    backend: OnnxRuntimeBackend, onnx_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    narrow = Narrow(onnx_model)
    runner = Runner(narrow)
    for count in (11, 2, 7):
        batch = images(count)
        for name, expected in backend.run(batch).items():
            np.testing.assert_allclose(runner.run([batch])[name], expected, atol=1e-5)
    assert narrow.asked[:4] == [11, 5, 2, 2]
    assert max(narrow.asked[3:]) == 2
    assert [record.message for record in caplog.records] == [
        "a batch of 11 does not fit: going on with batches of 5 for 60 seconds",
        "a batch of 5 does not fit: going on with batches of 2 for 60 seconds",
    ]


def test_a_batch_that_comes_in_pieces_is_one_batch(backend: OnnxRuntimeBackend) -> None:
    whole = images(6)
    runner = Runner(backend)
    outputs = runner.run([whole[:1], whole[1:4], whole[4:]])
    for name, expected in backend.run(whole).items():
        np.testing.assert_allclose(outputs[name], expected, atol=1e-5)


def test_one_batch_that_did_not_fit_does_not_lower_the_size_for_good(
    onnx_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fashion_infer.backends, "RETRY_SECONDS", 0.05)
    narrow = Narrow(onnx_model)
    runner = Runner(narrow)
    runner.run([images(4)])
    narrow.room = 100
    sleep(0.06)
    narrow.asked.clear()
    runner.run([images(4)])
    assert narrow.asked == [4]


def test_no_memory_for_a_single_image(onnx_model: Path) -> None:
    narrow = Narrow(onnx_model)
    narrow.room = 0
    with pytest.raises(DeviceError, match="cpu has too little memory free for one image of this model"):
        Runner(narrow).run([images(4)])


def test_a_batch_is_run_in_parts(backend: OnnxRuntimeBackend) -> None:
    for count in (1, 4, 5, 11):
        batch, sizes = images(count), []

        def run(part: np.ndarray, sizes: list[int] = sizes) -> dict[str, np.ndarray]:
            sizes.append(len(part))
            return backend.run(part)

        outputs = run_in_parts(run, batch, 4)
        assert sum(sizes) == count and max(sizes) <= 4
        for name, expected in backend.run(batch).items():
            np.testing.assert_allclose(outputs[name], expected, atol=1e-5)


def test_outputs_of_no_images_can_be_joined_with_others(backend: OnnxRuntimeBackend) -> None:
    some = backend.run(images(2))
    together = joined([no_outputs(backend.spec), some])
    assert all(np.array_equal(together[name], values) for name, values in some.items())
    assert {values.dtype for values in together.values()} == {np.dtype(np.float32)}


def test_closing_frees_the_sessions(onnx_model: Path) -> None:
    closed = OnnxRuntimeBackend(onnx_model, layout=Layout(2, 1, 2))
    sessions = [weakref.ref(closed._session), weakref.ref(closed._lone_session)]
    closed.run(images(1))
    closed.close()
    assert [session() for session in sessions] == [None, None]
