from pathlib import Path

import pytest

from fashion_infer.bench.loadgen import Pace, run_scenarios
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
