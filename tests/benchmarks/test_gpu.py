"""benchmarks/gpu.py and gpu_pooling.py as far as they go without a GPU."""

import importlib.util
import json
import math
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import typer

from fashion_infer.errors import EngineBuildError

pytest.importorskip("cuda.bindings.runtime")

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    sys.path.insert(0, str(SCRIPT.parent))  # as it is when the script is run
    spec = importlib.util.spec_from_file_location("gpu", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    sys.path.remove(str(SCRIPT.parent))
    return module


@pytest.fixture(scope="module")
def pooling(gpu: ModuleType) -> ModuleType:
    return sys.modules[gpu.bench_pooling.__module__]


def _has_gpu() -> bool:
    from cuda.bindings import runtime as rt

    return bool(rt.cudaGetDeviceCount()[0] == rt.cudaError_t.cudaSuccess)


no_gpu = pytest.mark.skipif(_has_gpu(), reason="there is a GPU")


@no_gpu
def test_without_a_gpu_it_lists_what_there_is(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "-o", str(tmp_path / "gpu.json")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 3, result.stderr
    facts = json.loads(result.stdout)
    assert facts["gpus"] == []
    assert "there is no NVIDIA GPU" in facts["no_gpu"]
    assert facts["packages"]["torch"]
    assert not list(tmp_path.iterdir())


def test_a_dry_run_goes_through_everything(checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    output = tmp_path / "gpu.json"
    command = [sys.executable, str(SCRIPT), str(checkpoint), "--dry-run", "-o", str(output), "--batches", "2,1"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    name = checkpoint.stem
    assert f"{name}: fp16 checked and timed" in result.stdout
    assert "of 480" in result.stdout
    assert "Not executed" in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["gpu.dry.json"]
    facts = json.loads((tmp_path / "gpu.dry.json").read_text())
    assert facts["dry_run"].startswith("no GPU")
    assert "missing" not in facts
    assert len(facts["seconds"]) == 6
    assert set(facts["parity"][name]) == {"tensorrt fp16", "tensorrt fp32", "tensorrt bf16"}
    assert {f"{name} / torch fp16 graph", f"{name} / onnxruntime cuda fp16"} <= set(facts["not_executed"])
    assert set(facts["times"][name]) == {"2", "1", "64"}
    assert set(facts["two_sessions"][name]) == {"32", "64"}


def test_what_is_no_want_of_a_gpu_fails_a_dry_run(gpu: ModuleType, tmp_path: Path) -> None:
    from fashion_infer.errors import DeviceError

    def fail(error: Exception) -> None:
        raise error

    results = gpu.Results(tmp_path / "gpu.json", math.inf, answers={})
    results.attempt(lambda: fail(DeviceError("no GPU")), "a", "b")
    assert "stopped at test_gpu.py:" in results.facts["not_executed"]["a / b"]
    assert not results.failed
    results.attempt(lambda: fail(KeyError("a mistake")), "c")
    assert results.facts["missing"] == {"c": "KeyError: 'a mistake'"}
    assert results.failed


def test_the_sections_take_eight_minutes_at_most_and_fp16_comes_first(gpu: ModuleType, tmp_path: Path) -> None:
    results = gpu.Results(tmp_path / "gpu.json", 0.0)
    for checkpoints in ([], [tmp_path / "a.safetensors"], [tmp_path / f"{i}.safetensors" for i in range(7)]):
        sections = gpu.plan(results, checkpoints, tmp_path, [64, 1], [1])
        assert sum(section.seconds for section in sections) <= sys.modules["gpu_sections"].MOST_SECONDS == 480
        assert "fp16" in sections[1].name
    assert not list(tmp_path.iterdir())


def _network(gpu: ModuleType, results: Any, checkpoint: Path, folder: Path) -> Any:
    return gpu.Network(checkpoint.stem, lambda: checkpoint, folder, results, [2, 1], [1])


@no_gpu
def test_every_contender_that_cannot_run_is_listed_and_none_is_timed(
    gpu: ModuleType, checkpoint: Path, tmp_path: Path
) -> None:
    results = gpu.Results(tmp_path / "gpu.json", time.monotonic() + 600)
    network = _network(gpu, results, checkpoint, tmp_path)
    for work in (network.time_fp16, network.time_sessions, network.time_compiled, network.check_others):
        work()
    missing = results.facts["missing"][checkpoint.stem]
    assert set(missing) == {"tensorrt fp32", "tensorrt bf16", gpu.OURS, gpu.ORT, gpu.GRAPH, gpu.COMPILED}
    assert "there is no NVIDIA GPU" in missing[gpu.OURS]
    assert "times" not in results.facts
    assert network.flops > 0
    assert not results.failed  # nothing gave a wrong answer
    assert json.loads((tmp_path / "gpu.json").read_text()) == results.facts


def test_nothing_is_begun_when_the_time_is_up(gpu: ModuleType, checkpoint: Path, tmp_path: Path) -> None:
    results = gpu.Results(tmp_path / "gpu.json", time.monotonic() - 1)
    network = _network(gpu, results, checkpoint, tmp_path)
    network.check_others()
    late = "not begun: the time was up"
    assert results.facts == {"missing": {checkpoint.stem: {"tensorrt fp32": late, "tensorrt bf16": late}}}


def test_a_section_ends_when_its_time_is_up_and_the_next_begins(gpu: ModuleType, tmp_path: Path) -> None:
    results, done = gpu.Results(tmp_path / "gpu.json", 0.0), []
    gpu.Section("slow", 0.05, lambda: time.sleep(30)).run(results)
    gpu.Section("next", 60, lambda: done.append(results.late())).run(results)
    assert done == [False]
    facts = json.loads((tmp_path / "gpu.json").read_text())
    assert "the time was up" in facts["missing"]["section slow"]
    assert facts["seconds"]["slow"] < 20
    assert set(facts["seconds"]) == {"slow", "next"}


def test_a_dry_run_has_no_time_limits(gpu: ModuleType, tmp_path: Path) -> None:
    results, late = gpu.Results(tmp_path / "gpu.json", 0.0, answers={}), []
    gpu.Section("slow", 0.01, lambda: (time.sleep(0.1), late.append(results.late()))).run(results)
    assert late == [False]
    assert set(results.facts) == {"seconds"}


def test_an_engines_build_ends_with_its_sections_time(gpu: ModuleType, checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    results = gpu.Results(tmp_path / "gpu.json", math.inf, answers={})
    network = _network(gpu, results, checkpoint, tmp_path)
    assert network.fp32.is_file()
    results.deadline = 0.0
    with sys.modules["gpu_dry"].stand_in_gpu(tmp_path, {}), pytest.raises(EngineBuildError, match="was cancelled"):
        network.plan("fp32")


def test_a_failed_check_is_a_failure_and_a_missing_part_is_not(gpu: ModuleType, tmp_path: Path) -> None:
    from fashion_infer.errors import DeviceError, ParityError

    def fail(error: Exception) -> None:
        raise error

    results = gpu.Results(tmp_path / "gpu.json", math.inf)
    assert results.attempt(lambda: 5, "a") == 5
    assert results.attempt(lambda: fail(DeviceError("no GPU")), "b", "c") is None
    assert not results.failed
    results.attempt(lambda: fail(ParityError("differs")), "d")
    assert results.failed
    assert results.facts == {"missing": {"b": {"c": "DeviceError: no GPU"}, "d": "ParityError: differs"}}


def test_a_late_step_is_listed_as_missing(gpu: ModuleType, tmp_path: Path) -> None:
    results, begun = gpu.Results(tmp_path / "gpu.json", time.monotonic() - 1), []
    assert results.attempt(lambda: begun.append(1), "a") is None
    assert not begun
    assert results.facts == {"missing": {"a": "not begun: the time was up"}}
    assert not results.failed


def test_contenders_take_turns(gpu: ModuleType) -> None:
    timing = sys.modules[gpu.interleave.__module__]
    seen: list[str] = []
    runs = {name: (lambda pixels, name=name: seen.append(name)) for name in "ab"}
    rounds = gpu.interleave(runs, np.zeros((1, 2, 2, 3), np.uint8), seconds=0)
    assert {name: len(times) for name, times in rounds.items()} == {"a": timing.ROUNDS, "b": timing.ROUNDS}
    assert seen == ["a", "b"] + (["a"] * 5 + ["b"] * 5) * timing.ROUNDS


def test_summaries(gpu: ModuleType) -> None:
    rounds = {gpu.OURS: [2.0, 2.0, 2.0, 2.0, 2.0], gpu.GRAPH: [3.0, 3.0, 4.0, 5.0, 5.0]}
    summary = gpu.summarise(rounds, batch=8, flops=1e9, ceiling=10.0)
    ours, theirs = summary[gpu.OURS], summary[gpu.GRAPH]
    assert (ours["p50_ms"], ours["images_per_second"]) == (2.0, 4000.0)
    assert ours["share_of_ceiling"] == pytest.approx(8e9 / 2e-3 / 10e12)
    assert "times_ours" not in ours
    assert theirs["times_ours"] == pytest.approx(2.0)  # of 1.5, 1.5, 2, 2.5, 2.5
    assert theirs["plus_minus"] == pytest.approx(2.776 * 0.5 / 5**0.5)
    assert "share_of_ceiling" not in gpu.summarise(rounds, 8, 1e9, None)[gpu.OURS]
    assert "times_ours" not in gpu.summarise({gpu.GRAPH: rounds[gpu.GRAPH]}, 8, 1e9, None)[gpu.GRAPH]


def test_goals_are_none_where_nothing_was_measured(gpu: ModuleType) -> None:
    assert set(gpu.check_goals({}).values()) == {None}
    row: dict[str, Any] = {gpu.OURS: {"share_of_ceiling": 0.7}, gpu.COMPILED: {"times_ours": 1.6}}
    facts = {"times": {"vgg16": {"64": row, "1": {gpu.GRAPH: {"times_ours": 2.0}}}}}
    assert list(gpu.check_goals(facts).values()) == [0.7, 1.6, 0.5]


def test_tables_are_printed(gpu: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    rounds = {gpu.OURS: [2.0] * 5, gpu.ORT: [3.0] * 5}
    times = {"vgg16": {"8": gpu.summarise(rounds, 8, 1e9, None)}}
    gpu.print_tables({"times": times, "goals": gpu.check_goals({"times": times})})
    assert "not measured" in capsys.readouterr().err


def test_two_threads_at_most_overlap_and_both_run(gpu: ModuleType) -> None:
    lock, running, most = threading.Lock(), 0, 0
    met: set[int] = set()

    def run(pixels: np.ndarray, session: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            met.add(session)
        time.sleep(0.002)
        with lock:
            running -= 1

    rates = gpu.overlap(run, np.zeros((4, 2, 2, 3), np.uint8), seconds=0.01)
    assert most == 2
    assert met == {0, 1}
    assert set(rates) == {"one_images_per_second", "two_images_per_second", "gain", "plus_minus"}
    assert all(value > 0 for value in rates.values())


def test_pooling_alone_is_what_its_definition_says(pooling: ModuleType) -> None:
    from fashion_infer.landmark_pool import landmark_pool

    rng = np.random.default_rng(0)
    features = rng.normal(size=(2, 5, pooling.SIDE, pooling.SIDE)).astype(np.float16)
    landmarks = rng.uniform(size=(2, 8, 2)).astype(np.float32)
    gate = (rng.uniform(size=(2, 8)) > 0.2).astype(np.float32)
    session = ort.InferenceSession(pooling.pooling_model(2, 5), providers=["CPUExecutionProvider"])
    (pooled,) = session.run(None, {"features": features, "landmarks": landmarks, "gate": gate})
    assert pooled.dtype == np.float16
    assert np.array_equal(pooled, landmark_pool(features, landmarks, gate))


@pytest.mark.parametrize("name", ["vgg16", "tf_efficientnet_lite0"])
def test_pooling_alone_is_built_at_every_shape_that_is_timed(gpu: ModuleType, pooling: ModuleType, name: str) -> None:
    pytest.importorskip("tensorrt_rtx")
    for batch in gpu.POOLED_BATCHES:
        _, plan = pooling.pooling_plan(pooling.pooling_model(batch, gpu.POOLINGS[name]))
        assert plan[:4] == b"vtrt"


def test_what_is_no_onnx_is_said_by_tensorrt(pooling: ModuleType) -> None:
    pytest.importorskip("tensorrt_rtx")
    with pytest.raises(EngineBuildError, match=r"LandmarkPool alone cannot be built: .+"):
        pooling.pooling_plan(b"no ONNX")


@no_gpu
def test_pooling_alone_is_listed_as_missing_without_a_gpu(gpu: ModuleType, tmp_path: Path) -> None:
    results = gpu.Results(tmp_path / "gpu.json", math.inf)
    assert results.attempt(lambda: gpu.bench_pooling(1, 40), "pooling") is None
    assert results.facts["missing"]["pooling"]
    assert not results.failed


def test_the_poolings_are_those_of_the_networks(gpu: ModuleType, pooling: ModuleType) -> None:
    from fashion_infer.training.model import Architecture, FashionNet

    assert sys.modules[gpu.random_network.__module__].IMAGE_SIZE == 8 * pooling.SIDE
    light = FashionNet(Architecture("tf_efficientnet_lite0", 8 * pooling.SIDE, 2, 1))
    assert light.backbone.channels[0] == gpu.POOLINGS["tf_efficientnet_lite0"]


def test_sizes_are_parsed(gpu: ModuleType) -> None:
    assert gpu.parse_sizes("64, 1,8") == [64, 1, 8]
    for text in ("", "0", "a", "1,,2", "-1"):
        with pytest.raises(typer.BadParameter, match="is not a list of batch sizes"):
            gpu.parse_sizes(text)
