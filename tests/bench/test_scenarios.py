from pathlib import Path

import numpy as np
import pytest

from fashion_infer.bench.scenarios import SYSTEMS, WARM_UP, latency, quick, throughput
from fashion_infer.errors import ImageError
from fashion_infer.predictor import Predictor
from fashion_infer.preprocess import read_inputs


def test_latency_takes_both_systems_in_turn_and_drops_the_warm_up(onnx_model: Path, jpegs: list[bytes]) -> None:
    with Predictor(onnx_model, threads=1) as predictor:
        times = latency(predictor, jpegs, seconds=0.2)
    assert set(times.samples) == set(SYSTEMS)
    assert len(times.samples["e2e"]) == len(times.samples["engine"]) >= 1
    assert {"decode", "preprocess", "compute", "post"} <= set(times.stages)
    assert sum(times.stages.values()) <= np.mean(times.samples["e2e"])


def test_latency_gives_a_sample_however_short_the_time(onnx_model: Path, jpegs: list[bytes]) -> None:
    with Predictor(onnx_model, threads=1) as predictor:
        times = latency(predictor, jpegs, seconds=0)
    assert len(times.samples["e2e"]) == 1
    assert WARM_UP >= 1


def test_throughput_stops_at_its_seconds_but_has_the_first_batch_size(onnx_model: Path, jpegs: list[bytes]) -> None:
    with Predictor(onnx_model, threads=1) as predictor:
        end_to_end, batches = throughput(predictor, jpegs, seconds=0, image_ms=5)
        assert end_to_end > 0
        assert list(batches) == ["1"]
        _, batches = throughput(predictor, jpegs, seconds=1, image_ms=5)
    assert list(batches)[:2] == ["1", "4"]
    assert min(batches.values()) > 0


def test_quick_needs_no_extra_and_shows_what_it_has_samples_for(onnx_model: Path, jpegs: list[bytes]) -> None:
    with Predictor(onnx_model, threads=1) as predictor:
        rows = quick(predictor, jpegs, seconds=0.3)
    for row in rows.values():
        assert row["p50"] is not None
        assert row["p50"].value > 0
        assert row["p50"].plus_minus is None
        assert row["p99.9"] is None


def test_inputs_read_elsewhere_are_what_predict_sees(onnx_model: Path, jpegs: list[bytes]) -> None:
    with Predictor(onnx_model, threads=1) as predictor:
        crops = read_inputs(jpegs, predictor.spec.image_size)
        assert crops.shape == (3, 64, 64, 3)
        outputs = predictor.run(crops[1:2])
        np.testing.assert_array_equal(predictor.predict(jpegs[1]).embedding, outputs["embedding"][0])


def test_a_bad_image_is_an_error_not_a_fast_sample(onnx_model: Path, jpegs: list[bytes]) -> None:
    with Predictor(onnx_model, threads=1) as predictor, pytest.raises(ImageError, match="damaged"):
        latency(predictor, [jpegs[0][:200]], seconds=0.1)
