import copy
import json
from pathlib import Path
from typing import Any

import pytest

from fashion_infer.bench.comparison import (
    Change,
    Gate,
    changes_between,
    check_gates,
    differences,
    measures,
    parse_gate,
    read_result,
)
from fashion_infer.bench.result import BenchResult
from fashion_infer.bench.statistics import Estimate, ratio
from fashion_infer.errors import BenchError, UsageError


def change(old: Estimate, new: Estimate, measure: str = "e2e.p99") -> Change:
    return Change(measure, old, new, ratio(new, old))


@pytest.mark.parametrize(
    ("text", "gate"),
    [
        ("e2e.p99>5%", ("e2e.p99", ">", 5.0)),
        ("e2e.p99.9 > 2.5 %", ("e2e.p99.9", ">", 2.5)),
        ("engine.images_per_s.8<-10%", ("engine.images_per_s.8", "<", -10.0)),
    ],
)
def test_gates_are_read(text: str, gate: tuple[str, str, float]) -> None:
    assert parse_gate(text) == Gate(text, *gate)


@pytest.mark.parametrize("text", ["", "e2e.p99", "e2e.p99>5", "e2e.p99=5%", ">5%", "e2e.p99>five%", "e2e.p99>5% or so"])
def test_what_is_no_gate_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a gate such as"):
        parse_gate(text)


@pytest.mark.parametrize(
    ("old", "new", "fails"),
    [
        (Estimate(10, 0.1), Estimate(11, 0.1), True),
        (Estimate(10, 0.1), Estimate(10.4, 0.1), False),  # 4 %: allowed
        (Estimate(10, 0.1), Estimate(9, 0.1), False),  # faster
        (Estimate(10, 2), Estimate(11, 2), False),  # 10 %, but within its own noise
        (Estimate(10), Estimate(11), True),  # no interval to excuse it
    ],
)
def test_a_gate_fails_on_a_clear_change_above_its_limit(old: Estimate, new: Estimate, fails: bool) -> None:
    gates, changes = [parse_gate("e2e.p99>5%")], [change(old, new)]
    if not fails:
        check_gates(gates, changes)
        return
    with pytest.raises(BenchError, match=r"e2e.p99 changed by \+10.0 %"):
        check_gates(gates, changes)


def test_a_gate_on_a_falling_rate() -> None:
    gates = [parse_gate("e2e.images_per_s<-5%")]
    check_gates(gates, [change(Estimate(100), Estimate(96), "e2e.images_per_s")])
    with pytest.raises(BenchError, match=r"-10\.0 %"):
        check_gates(gates, [change(Estimate(100), Estimate(90), "e2e.images_per_s")])


def test_a_gate_on_what_was_not_measured_is_an_error_not_a_pass() -> None:
    with pytest.raises(UsageError, match=r"no e2e\.p99\.9 in both results"):
        check_gates([parse_gate("e2e.p99.9>5%")], [change(Estimate(1), Estimate(1))])


def test_a_result_against_itself_changes_nothing(result: BenchResult) -> None:
    values = result.to_dict()
    changes = changes_between(values, values)
    assert {"e2e.p50", "engine.p50", "e2e.images_per_s", "engine.images_per_s.1", "first_prediction_s"} <= set(
        measures(values)
    )
    assert {c.measure for c in changes} == set(measures(values))
    assert all(c.percent == 0 and not c.clear for c in changes)
    assert differences(values, values) == []


def test_a_real_result_survives_json_and_a_slower_one_fails(result: BenchResult, tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text(json.dumps(result.to_dict()))
    old = read_result(path)
    new: dict[str, Any] = copy.deepcopy(old)
    for estimate in (old["latency"]["e2e"]["p50"], new["latency"]["e2e"]["p50"]):
        estimate["plus_minus"] = 0.01 * estimate["value"]
    new["latency"]["e2e"]["p50"]["value"] *= 1.2
    with pytest.raises(BenchError, match=r"e2e\.p50"):
        check_gates([parse_gate("e2e.p50>5%")], changes_between(new, old))


def test_other_machines_are_named(result: BenchResult) -> None:
    new, old = result.to_dict(), copy.deepcopy(result.to_dict())
    old["environment"]["cpu"] = "another"
    old["environment"]["packages"]["numpy"] = "1.0"
    assert differences(new, old) == ["machine", "packages"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as a result"),
        ("[]", "has schema None"),
        ('{"schema": "fashion-infer bench 99"}', "has schema 'fashion-infer bench 99'"),
        ('{"latency": {}}', "measure the old model again"),
    ],
)
def test_a_file_of_another_schema_is_refused(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=message):
        read_result(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read as a result"):
        read_result(tmp_path / "none.json")
