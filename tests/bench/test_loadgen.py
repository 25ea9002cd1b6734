from pathlib import Path

import pytest

from fashion_infer.bench.loadgen import Pace, _settings, run_scenarios
from fashion_infer.errors import PredictorClosedError
from fashion_infer.predictor import Predictor


def test_an_error_behind_the_load_generator_is_raised_not_timed(
    onnx_model: Path, jpegs: list[bytes], tmp_path: Path
) -> None:
    predictor = Predictor(onnx_model, threads=1)
    predictor.close()
    pace = {name: Pace(image_ms=1, images_per_s=500) for name in ("e2e", "engine")}
    with pytest.raises(PredictorClosedError):
        run_scenarios(predictor, jpegs, pace=pace, seconds=0.05, logs=tmp_path, full=False)


@pytest.mark.parametrize(("scenario", "queries"), [("SingleStream", 100), ("MultiStream", 662)])
def test_full_runs_have_mlperfs_own_minimums(scenario: str, queries: int) -> None:
    full = _settings(scenario, Pace(image_ms=20, images_per_s=60), seconds=1, full=True)
    assert (full.min_duration_ms, full.min_query_count) == (600_000, queries)
    short = _settings(scenario, Pace(image_ms=20, images_per_s=60), seconds=1, full=False)
    assert (short.min_duration_ms, short.min_query_count) == (1000, 1)
    assert full.server_target_latency_ns == short.server_target_latency_ns == 200_000_000
