import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnx.inliner
import onnxruntime as ort
import pytest

from fashion_infer.predictor import Predictor

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def benchmarks_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.syspath_prepend(str(BENCHMARKS / "peers"))  # a peer's script lies there


@pytest.fixture
def float_input(onnx_model: Path, tmp_path: Path) -> Path:
    """The model as peers with their own preprocessing load it."""
    from peer_models import without_preprocessing

    path = tmp_path / "float_input.onnx"
    onnx.save(without_preprocessing(onnx.inliner.inline_local_functions(onnx.load(onnx_model))), path)
    return path


def options(model: Path, first: Path) -> dict[str, Any]:
    mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]  # ImageNet's, which the VGG-16 subtracts
    return {"model": str(model), "mean": mean, "std": std, "size": 64, "first": str(first)}


def test_a_file_without_preprocessing_gives_what_the_whole_file_gives(onnx_model: Path, float_input: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    normalised = (images - np.array([123.675, 116.28, 103.53])) / np.array([58.395, 57.12, 57.375])
    session = ort.InferenceSession(float_input, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: normalised.transpose(0, 3, 1, 2).astype(np.float32)}
    with Predictor(onnx_model, threads=1) as predictor:
        expected = predictor.run(images)
    for output, values in zip(session.get_outputs(), session.run(None, feed), strict=True):
        np.testing.assert_allclose(values, expected[output.name], atol=1e-4)


def test_a_peer_is_a_process_that_answers(float_input: Path, onnx_model: Path, photos: Path, tmp_path: Path) -> None:
    from peers.process import PeerProcess

    decoded = tmp_path / "decoded.npy"
    pixels = cv2.cvtColor(cv2.resize(cv2.imread(str(photos / "0.jpg")), (64, 64)), cv2.COLOR_BGR2RGB)
    np.save(decoded, pixels)
    settings = options(float_input, photos / "0.jpg")
    process = PeerProcess("rtmlib_style.py", settings, Path(sys.executable), tmp_path / "log")
    try:
        assert process.first_prediction_s > 0
        assert process.notes == {"onnxruntime": ort.__version__}
        assert len(process.ask("latency", sources=[str(photos / "0.jpg"), str(decoded)], seconds=0)) == 3
        assert process.ask("throughput", sources=[str(photos / "0.jpg")] * 4) > 0
        assert process.ask("memory") >= process.first_memory_mib
        with Predictor(onnx_model, threads=1) as predictor:
            expected = predictor.run(pixels[None])["category"][0]
        np.testing.assert_allclose(process.ask("probabilities", source=str(decoded)), expected, atol=1e-4)
        with pytest.raises(RuntimeError, match="FileNotFoundError"):
            process.ask("probabilities", source="none.npy")
        assert process.ask("memory") > 0  # an error does not end it
    finally:
        process.close()


def test_a_peer_that_cannot_start_says_why(photos: Path, tmp_path: Path) -> None:
    from peers.process import PeerProcess

    with pytest.raises(RuntimeError, match=r"(?s)the process ended: .*NoSuchFile"):
        PeerProcess(
            "rtmlib_style.py", options(tmp_path / "none.onnx", photos / "0.jpg"), Path(sys.executable), tmp_path / "log"
        )


def test_ratios_are_taken_within_a_round_and_goals_are_judged(tmp_path: Path) -> None:
    from cpu_peers import WORKLOADS, Measured
    from peer_results import write_results

    def measured(speed: float) -> Measured:
        noise = [1.0, 2.0, 1.5]  # a machine that slows down slows both
        latency = {workload: [[100 * n / speed] * 3 for n in noise] for workload in WORKLOADS}
        return Measured({}, [0.4, 0.5], 100.0, 120.0, 1e-7, latency, [10 * speed, 11 * speed], {})

    ours = measured(6.5)
    ours.more = {
        "overhead": {"predict": [10.0, 11.0], "session.run": [9.9, 10.9]},
        "floor": {
            "2MP": {"predict": [11.0, 22.0, 9.0], "decoder": [4.0, 8.0, 3.0], "session.run": [6.0, 12.0, 6.0]},
            "12MP": {"predict": [12.0], "decoder": [6.0], "session.run": [4.0]},
        },
        "layouts": {
            "stream": {"1 x 2": [100.0, 90.0], "2 x 1": [50.0, 50.0], "automatic": [85.5, 85.5]},
            "lone": {"1 x 2": [10.0], "2 x 1": [9.0], "automatic": [10.0]},
        },
    }
    peers = {"PIL + torch eager": measured(1), "fashion-infer int8": ours, "other": Measured(failed="no\nway")}
    environment = {"cores": 2, "cpu": "a CPU"}
    facts = {"environment": environment, "provenance": {"time": "now", "commit": "c"}, "settings": {"rounds": 3}}
    write_results({"light": peers}, facts, tmp_path)
    report = json.loads((tmp_path / "cpu_peers.json").read_text())
    ratio = report["summary"]["light"]["fashion-infer int8"]["times_as_fast"]["12MP"]
    assert ratio["value"] == pytest.approx(6.5)
    assert ratio["plus_minus"] == pytest.approx(0, abs=1e-9)
    goals = {goal["goal"].rpartition(", ")[2]: (goal["reached"], goal["met"]) for goal in report["goals"]}
    assert goals["2MP JPEG: predict against the JPEG decoder alone and the bare network"] == (pytest.approx(1.1), True)
    assert goals["12MP JPEG: predict against the JPEG decoder alone and the bare network"] == (
        pytest.approx(1.2),
        False,
    )
    assert goals["stream: automatic sessions x threads against the best by hand"] == (pytest.approx(0.9), False)
    assert goals["lone: automatic sessions x threads against the best by hand"] == (pytest.approx(1.0), True)
    table = (tmp_path / "cpu_peers.md").read_text()
    assert "| other | failed: way |" in table
    assert "6.50 ± 0.00 x" in table
    assert (tmp_path / "cpu_peers.svg").stat().st_size > 1000


def test_what_only_we_are_asked(onnx_model: Path, photos: Path, tmp_path: Path) -> None:
    from peers.ours import floor, layouts, sparse

    np.save(tmp_path / "decoded.npy", np.zeros((64, 64, 3), np.uint8))
    files = sorted(map(str, photos.glob("*.jpg")))
    with Predictor(onnx_model) as predictor:
        times = floor(predictor, str(onnx_model), {"small": files}, 0.0)["small"]
        rows = sparse(predictor, str(onnx_model), str(tmp_path / "decoded.npy"), [0.0, 0.001], 3)
    counts = {kind: len(durations) for kind, durations in times.items()}
    assert counts == {"predict": 10, "decoder": 10, "session.run": 10}
    assert len(rows) == 6 and all(row["ms"] > 0 and row["cpu_ms"] > 0 for row in rows)
    rates = layouts(str(onnx_model), files[:2], 2, 1)
    assert set(rates) == {"stream", "lone"}
    assert all(set(of_kind) == {"1 x 2", "2 x 1", "automatic"} for of_kind in rates.values())


@pytest.mark.parametrize("shape", [(40, 30, 3), (30, 40, 3), (900, 700, 3)])
def test_photos_are_upright_and_noisy(shape: tuple[int, int, int]) -> None:
    from photos import enlarge

    grey = np.full(shape, 128, np.uint8)
    enlarged = enlarge(grey, (480, 640), np.random.default_rng(0))
    assert (enlarged.shape, enlarged.dtype) == ((640, 480, 3), np.uint8)
    assert enlarged.mean() == pytest.approx(127.5, abs=1)
    assert 2 < enlarged.std() < 5
