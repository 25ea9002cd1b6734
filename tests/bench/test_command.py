import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fashion_infer.bench.result import SCHEMA, BenchResult

MAIN = "from fashion_infer.cli import main; main()"


def bench(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", MAIN, "bench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | {"COLUMNS": "160"})


def test_json_on_stdout_and_nothing_else(onnx_model: Path) -> None:
    ran = bench(onnx_model, "--quick", "--seconds", 0.3, "--threads", 1, "--json")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["schema"] == SCHEMA


def test_compare_prints_both_and_a_gate_exits_with_1(onnx_model: Path, result: BenchResult, tmp_path: Path) -> None:
    old = result.to_dict()
    for estimate in (old["latency"]["e2e"]["p50"], old["throughput"]["e2e"]):
        estimate["value"] /= 100
        estimate["plus_minus"] = None
    path, report = tmp_path / "old.json", tmp_path / "report"
    path.write_text(json.dumps(old))
    gates = ("--fail-if", "e2e.p50>5%", "--fail-if", "e2e.images_per_s<-5%")
    ran = bench(onnx_model, "--quick", "--seconds", 0.3, "--report", report, "--compare", path, *gates)
    assert ran.returncode == 1
    assert "against the old result" in ran.stdout
    assert "also differ in: images, Predictor's settings" in ran.stdout
    assert "e2e.p50 changed by" in ran.stderr
    assert "e2e.images_per_s changed" not in ran.stderr
    assert sorted(entry.name for entry in report.iterdir()) == ["report.html", "result.json"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["none.onnx"], 2, "there is no model file none.onnx"),
        (["MODEL", "--fail-if", "e2e.p99>5%"], 2, "give it with --compare"),
        (["MODEL", "--compare", "none.json"], 2, "cannot be read as a result"),
        (["MODEL", "--compare", "OLD", "--fail-if", "e2e.p99"], 2, "is not a gate"),
        (["MODEL", "--report", "."], 2, "is not empty"),
        (["MODEL", "--report", "/dev/null/x"], 1, "/dev/null is not a folder that you may write to"),
        (["MODEL", "--images", "none"], 4, "none"),
        (["MODEL", "--quick", "--seconds", "inf"], 2, "seconds must be a number above 0 and at most 86400"),
        (["MODEL", "--quick", "--threads", "0"], 2, "threads must be a whole number of at least 1"),
    ],
)
def test_what_is_refused(
    arguments: list[str], code: int, message: str, onnx_model: Path, result: BenchResult, tmp_path: Path
) -> None:
    old = tmp_path / "old.json"
    old.write_text(json.dumps(result.to_dict()))
    names = {"MODEL": onnx_model, "OLD": old}
    ran = bench(*(names.get(argument, argument) for argument in arguments))
    assert ran.returncode == code, ran.stderr
    assert message in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(("missing", "options"), [("mlperf_loadgen", []), ("matplotlib", ["--quick", "--report", "x"])])
def test_a_missing_extra_is_named_before_anything_is_measured(
    missing: str, options: list[str], onnx_model: Path
) -> None:
    program = f"import sys; sys.modules[{missing!r}] = None; {MAIN}"
    command = [sys.executable, "-c", program, "bench", str(onnx_model), *options]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 3
    assert 'pip install "fashion-infer[bench]"' in ran.stderr


def test_quick_runs_where_the_extra_is_missing(onnx_model: Path) -> None:
    absent = "; ".join(f"sys.modules[{name!r}] = None" for name in ("mlperf_loadgen", "matplotlib", "onnx"))
    command = [
        sys.executable,
        "-c",
        f"import sys; {absent}; {MAIN}",
        "bench",
        str(onnx_model),
        "--quick",
        "--seconds",
        "0.3",
    ]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "parity not read, onnx is not installed" in ran.stdout
