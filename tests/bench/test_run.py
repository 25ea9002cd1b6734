import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from fashion_infer.bench.result import SCHEMA, BenchResult
from fashion_infer.bench.run import bench_model
from fashion_infer.bench.statistics import Estimate
from fashion_infer.errors import ImageError, ModelError, ModelNotFoundError, UsageError
from fashion_infer.files import sha256_of


def test_identity_environment_and_workload_are_recorded(result: BenchResult, onnx_model: Path, photos: Path) -> None:
    assert result.schema == SCHEMA
    assert result.model["sha256"] == sha256_of(onnx_model)
    assert result.model["parity"]["images"] == 64
    assert result.model["accuracy"] == "unverified"
    assert [layout["threads"] for layout in result.model["layout"]] == [1, 1]
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", result.provenance["commit"])
    assert result.environment["packages"]["onnxruntime"]
    assert result.workload["source"] == str(photos)
    assert result.workload["images"] == 4
    assert result.settings["predictor"] == {"threads": 1}


def test_two_starts_give_samples_of_each_and_intervals(result: BenchResult) -> None:
    assert [len(starts) for starts in result.raw.values()] == [2, 2]
    for name, row in result.latency.items():
        assert row["samples"] == sum(map(len, result.raw[name]))
        assert row["p50"].plus_minus is not None
    assert result.start_up["first_prediction_s"].value > 0  # type: ignore[union-attr]
    assert result.start_up["first_memory_mib"].value <= result.start_up["peak_memory_mib"].value  # type: ignore[union-attr]


def test_the_share_of_the_ceiling_is_there_for_each_batch_size(result: BenchResult) -> None:
    assert result.operations is not None
    assert set(result.reached) == set(result.throughput["engine"])
    size, share = next(iter(result.reached.items()))
    needed = result.operations["fp32"] / result.ceiling["fp32"].value
    assert share.value == pytest.approx(
        needed * result.throughput["engine"][size].value, rel=0.9
    )  # of means, not of each start


def test_every_scenario_ran_in_both_starts_and_kept_its_log(result: BenchResult, logs: Path) -> None:
    ran = [(run["scenario"], run["system"]) for run in result.scenarios]
    both = [
        (scenario, system) for scenario in ("SingleStream", "MultiStream", "Offline") for system in ("engine", "e2e")
    ]
    assert ran == both + [("Server", "e2e")] * 3
    for run in result.scenarios:
        assert len(run["validity"]) == len(run["queries"]) == 2
        assert all(re.match("VALID|INVALID", verdict) for verdict in run["validity"])
        assert run["images_per_s"].value > 0
    summaries = list(logs.rglob("mlperf_log_summary.txt"))
    assert len(summaries) == 2 * len(result.scenarios)
    assert all("Result is" in summary.read_text() for summary in summaries)


def test_short_runs_of_the_99th_percentile_are_called_invalid(result: BenchResult) -> None:
    multi = next(run for run in result.scenarios if run["scenario"] == "MultiStream")
    assert all("too few queries" in verdict for verdict in multi["validity"])
    assert sum(multi["queries"]) < 459
    assert multi["milliseconds"]["p99"] is None


def test_the_result_is_json(result: BenchResult) -> None:
    values: dict[str, Any] = json.loads(json.dumps(result.to_dict()))
    assert Estimate(**values["latency"]["e2e"]["p50"]) == result.latency["e2e"]["p50"]
    assert values["raw"] == result.raw


def test_quick_is_one_start_without_load_generator_or_intervals(onnx_model: Path) -> None:
    result = bench_model(onnx_model, quick=True, seconds=0.5, threads=1)
    assert result.settings["starts"] == 1
    assert (result.scenarios, result.ceiling, result.reached) == ([], {}, {})
    assert result.latency["e2e"]["p50"].plus_minus is None
    assert result.workload["source"] == "rendered garments"


def test_errors_of_a_process_start_keep_their_type(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"not a model")
    with pytest.raises(ModelError, match=r"damaged\.onnx is not an ONNX file"):
        bench_model(damaged, quick=True)


def test_a_bad_image_is_found_before_anything_is_measured(onnx_model: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "good.jpg").write_bytes((photos / "0.jpg").read_bytes())
    (tmp_path / "half.jpg").write_bytes((photos / "0.jpg").read_bytes()[:500])
    with pytest.raises(ImageError, match=r"half\.jpg is damaged"):
        bench_model(onnx_model, tmp_path, quick=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quick": True, "mlperf": True}, "give one of them"),
        ({"starts": 0}, "starts must be a whole number of at least 1"),
        ({"starts": 11}, "starts must be at most 10"),
        ({"seconds": -1.0}, "seconds must be a number above 0"),
        ({"seconds": 0}, "seconds must be a number above 0"),
        ({"seconds": math.nan}, "seconds must be a number above 0"),
    ],
)
def test_settings_that_cannot_be_used(options: dict[str, Any], message: str, onnx_model: Path) -> None:
    with pytest.raises(UsageError, match=message):
        bench_model(onnx_model, **options)


def test_missing_model_and_empty_folder(onnx_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"there is no model file none\.onnx"):
        bench_model(Path("none.onnx"))
    with pytest.raises(ImageError, match="holds no images"):
        bench_model(onnx_model, tmp_path, quick=True)
