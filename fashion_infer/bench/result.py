"""The results of several process starts in one record, each number with its interval."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fashion_infer.bench.environment import provenance
from fashion_infer.bench.scenarios import SYSTEMS
from fashion_infer.bench.start import Start
from fashion_infer.bench.statistics import PERCENTILES, Estimate, over_starts, percentiles, samples_needed

SCHEMA = "fashion-infer bench 1"
START_UP = ("first_prediction_s", "first_memory_mib", "peak_memory_mib")  # attributes of Start


@dataclass(frozen=True)
class BenchResult:
    """The result of a benchmark. An Estimate has an interval only if there were two or more process starts.

    Attributes:
        schema: name and version of this layout.
        model: path, sha256, backbone, input size, whether it is trained, the sessions and threads of each start, and
            parity and accuracy or "unverified".
        provenance: the command, the commit, and the time (UTC).
        environment: the machine and its packages, from `environment`.
        workload: source, number, mean size in bytes and mean megapixels of the images.
        settings: settings of the benchmark and of the Predictor.
        latency: for `e2e` and `engine` the number of samples, and p50 to p99.9 in milliseconds or None.
        stages: mean milliseconds of each stage of `e2e`.
        throughput: images per second: `e2e` through `Predictor.stream`, and `engine` by batch size.
        scenarios: runs of MLPerf's load generator: scenario, system, load, the verdict and number of queries of each
            start, images per second, and the percentiles of a query in milliseconds; None if there are too few queries.
        start_up: seconds from the start of the process to the first Prediction, and MiB of memory until then and at
            the peak.
        ceiling: operations per second of a matrix product on this machine, by type.
        operations: operations of the network for one image, by type; None if they cannot be counted.
        reached: share of the ceiling that the network reached, by batch size.
        raw: for `e2e` and `engine` the latencies of each start in milliseconds, in the order of measurement.
    """

    schema: str
    model: dict[str, Any]
    provenance: dict[str, Any]
    environment: dict[str, Any]
    workload: dict[str, Any]
    settings: dict[str, Any]
    latency: dict[str, dict[str, Any]]
    stages: dict[str, Estimate]
    throughput: dict[str, Any]
    scenarios: list[dict[str, Any]]
    start_up: dict[str, Estimate | None]
    ceiling: dict[str, Estimate]
    operations: dict[str, int] | None
    reached: dict[str, Estimate]
    raw: dict[str, list[list[float]]]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


def summarise(
    starts: Sequence[Start],
    facts: dict[str, Any],
    machine: dict[str, Any],
    workload: dict[str, Any],
    settings: dict[str, Any],
) -> BenchResult:
    """Join the results of several process starts.

    Args:
        starts: results of one or more process starts with the same task.
        facts: parity, accuracy and operations of the model.
        machine: the result of `environment`.
        workload: see `BenchResult`.
        settings: see `BenchResult`.
    """
    raw = {system: [start.latency[system] for start in starts] for system in SYSTEMS}
    sizes = [size for size in starts[0].batches if all(size in start.batches for start in starts)]
    operations = facts["operations"]
    return BenchResult(
        schema=SCHEMA,
        model=starts[0].model
        | {"layout": [start.model["layout"] for start in starts]}
        | {name: facts[name] for name in ("parity", "accuracy")},
        provenance=provenance() | {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())},
        environment=machine,
        workload=workload,
        settings=settings,
        latency={name: {"samples": sum(map(len, of_each)), **percentiles(of_each)} for name, of_each in raw.items()},
        stages={name: over_starts([start.stages[name] for start in starts]) for name in starts[0].stages},
        throughput={
            "e2e": over_starts([start.stream for start in starts]),
            "engine": {size: over_starts([start.batches[size] for start in starts]) for size in sizes},
        },
        scenarios=[_scenario(list(runs)) for runs in zip(*(start.scenarios for start in starts), strict=True)],
        start_up={name: _start_up(starts, name) for name in START_UP},
        ceiling={kind: over_starts([start.ceiling[kind] for start in starts]) for kind in starts[0].ceiling},
        operations=operations,
        reached={size: over_starts([_share(start, operations, size) for start in starts]) for size in sizes}
        if operations and starts[0].ceiling
        else {},
        raw=raw,
    )


def _scenario(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Join the runs of one scenario, one from each start."""
    same = {name: runs[0][name] for name in ("scenario", "system", "load")}
    queries = sum(run["queries"] for run in runs)
    values = {
        name: over_starts([run["milliseconds"][name] for run in runs])
        if queries >= samples_needed(percentile)
        else None
        for percentile in PERCENTILES
        if (name := f"p{percentile:g}") in runs[0]["milliseconds"]
    }
    return {
        **same,
        "validity": [run["validity"] for run in runs],
        "queries": [run["queries"] for run in runs],
        "images_per_s": over_starts([run["rate"] for run in runs]),
        "milliseconds": values,
    }


def _start_up(starts: Sequence[Start], name: str) -> Estimate | None:
    """One value of every start, such as `peak_memory_mib`; None if a start lacks it."""
    values = [getattr(start, name) for start in starts]
    return None if None in values else over_starts(values)


def _share(start: Start, operations: dict[str, int], size: str) -> float:
    """The share of the ceiling in [0, 1]: the least seconds that one image needs, times the images per second."""
    least = sum(count / start.ceiling[kind] for kind, count in operations.items())
    return least * start.batches[size]
