"""Two results side by side, and the changes that fail a build."""

import json
import operator
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fashion_infer.bench.result import SCHEMA
from fashion_infer.bench.statistics import Estimate, ratio
from fashion_infer.errors import BenchError, UsageError

_GATE = re.compile(r"(?P<measure>[\w.]+)\s*(?P<sign>[<>])\s*(?P<percent>[+-]?\d+(\.\d+)?)\s*%")
_SIGNS = {">": operator.gt, "<": operator.lt}


@dataclass(frozen=True)
class Gate:
    """A change that is not allowed: `e2e.p99>5%` is a p99 that grew by more than 5 %."""

    text: str
    measure: str
    sign: str
    percent: float


@dataclass(frozen=True)
class Change:
    """A measure of two results; `ratio` is new / old."""

    measure: str
    old: Estimate
    new: Estimate
    ratio: Estimate

    @property
    def percent(self) -> float:
        """The growth in percent."""
        return (self.ratio.value - 1) * 100

    @property
    def clear(self) -> bool | None:
        """Whether the change is larger than its 95 % interval; None if a result has only one process start."""
        if self.ratio.plus_minus is None:
            return None
        return abs(self.ratio.value - 1) > self.ratio.plus_minus


def read_result(path: Path) -> dict[str, Any]:
    """Read a result that `bench --json` wrote.

    Raises:
        UsageError: the file cannot be read, is not JSON, or has a layout of another release.
    """
    try:
        content: Any = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as a result of fashion-infer bench --json: {error}") from error
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA:
        raise UsageError(f"{path} has schema {schema!r}, this release compares {SCHEMA!r}: measure the old model again")
    return dict(content)


def parse_gate(text: str) -> Gate:
    """Parse a gate, `MEASURE>PERCENT%` or `MEASURE<PERCENT%`.

    Raises:
        UsageError: the text has neither form.
    """
    match = _GATE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r} is not a gate such as 'e2e.p99>5%' or 'e2e.images_per_s<-5%'")
    return Gate(text, match["measure"], match["sign"], float(match["percent"]))


def changes_between(new: dict[str, Any], old: dict[str, Any]) -> list[Change]:
    """The changes of all measures that are in both results, which come from `BenchResult.to_dict`."""
    before, after = measures(old), measures(new)
    return [
        Change(name, before[name], after[name], ratio(after[name], before[name])) for name in after if name in before
    ]


def measures(result: dict[str, Any]) -> dict[str, Estimate]:
    """The numbers of a result by name: e2e.p50 to p99.9, engine.p50, e2e.images_per_s, engine.images_per_s.8, ..."""
    values = {
        f"{system}.{name}": value
        for system, row in result["latency"].items()
        for name, value in row.items()
        if name.startswith("p")
    }
    values["e2e.images_per_s"] = result["throughput"]["e2e"]
    values |= {f"engine.images_per_s.{size}": value for size, value in result["throughput"]["engine"].items()}
    values |= result["start_up"]
    return {name: Estimate(**value) for name, value in values.items() if value is not None}


def check_gates(gates: Sequence[Gate], changes: Sequence[Change]) -> None:
    """Raise an error if a change exceeds a gate. A change within its own interval is accepted, as it may be noise.

    Raises:
        BenchError: a change is larger than a gate allows.
        UsageError: a gate names a measure that one of the results lacks.
    """
    change_of = {change.measure: change for change in changes}
    failed = []
    for gate in gates:
        if gate.measure not in change_of:
            raise UsageError(f"{gate.text!r}: no {gate.measure} in both results, which have {', '.join(change_of)}")
        change = change_of[gate.measure]
        if _SIGNS[gate.sign](change.percent, gate.percent) and change.clear is not False:
            failed.append(
                f"{gate.measure} changed by {change.percent:+.1f} % ({change.old} to {change.new}), gate {gate.text}"
            )
    if failed:
        raise BenchError("; ".join(failed))


def differences(new: dict[str, Any], old: dict[str, Any]) -> list[str]:
    """Conditions besides the model that differ between two results and make their comparison less meaningful."""
    named = {
        "machine": ("environment", "cpu"),
        "cores": ("environment", "cores"),
        "GPU": ("environment", "gpu"),
        "packages": ("environment", "packages"),
        "images": ("workload", "mean_bytes"),
        "Predictor's settings": ("settings", "predictor"),
    }
    return [name for name, (part, key) in named.items() if new[part][key] != old[part][key]]
