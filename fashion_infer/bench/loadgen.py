"""MLPerf's four scenarios, issued and judged by MLCommons' load generator.

SingleStream sends the next image when the last is done, MultiStream the next 8, Server sends images at random moments
(Poisson) at a set rate, Offline all at once. Each runs end to end; all but Server, whose micro-batches are part of the
Predictor, also run with the engine alone.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fashion_infer.errors import FashionInferError, missing_extra
from fashion_infer.prediction import Prediction
from fashion_infer.predictor import Predictor
from fashion_infer.preprocess import read_inputs

try:
    import mlperf_loadgen as lg
except ImportError as error:
    raise missing_extra("mlcommons-loadgen", "bench", error) from error

SERVER_LOADS = (0.25, 0.5, 0.75)  # shares of Offline's images per second
SERVER_BOUND = 10  # latency bound of 99 % of Server's images, in multiples of the latency of one image
RUNS = 6 + len(SERVER_LOADS)
ENGINE_BATCH = 32  # batch size of Offline with the engine alone

Issue = Callable[[list[Any]], None]
Answer = Callable[[list[Any]], Iterator[list[Any]]]  # yields the queries in order as they are answered


@dataclass(frozen=True)
class Pace:
    """The speed of a system, measured before a run: milliseconds per image, and images per second in a stream."""

    image_ms: float
    images_per_s: float


@dataclass(frozen=True)
class Scenario:
    """One run of the load generator.

    Attributes:
        scenario: SingleStream, MultiStream, Server or Offline.
        system: e2e (encoded bytes in, Prediction out) or engine (arrays in, arrays out).
        validity: the load generator's verdict: VALID, or INVALID and the reason.
        queries: number of queries sent.
        rate: images per second; for Server the completed ones.
        load: for Server the share of Offline's rate that was sent; otherwise None.
        milliseconds: p50 to p99.9 of a query, which is 8 images in MultiStream; empty for Offline.
    """

    scenario: str
    system: str
    validity: str
    queries: int
    rate: float
    load: float | None
    milliseconds: dict[str, float]


def run_scenarios(
    predictor: Predictor, images: Sequence[bytes], *, pace: Mapping[str, Pace], seconds: float, logs: Path, full: bool
) -> list[Scenario]:
    """Run all scenarios.

    Args:
        predictor: the model, warmed up.
        images: encoded images that can be read.
        pace: speed of `e2e` and `engine`, measured before.
        seconds: minimum duration of each scenario.
        logs: folder for loadgen's logs; each run gets a folder in it.
        full: whether to use MLPerf's minimum durations and numbers of queries, hours in all, instead of `seconds`.

    Raises:
        FashionInferError: the Predictor failed.
    """
    failures: list[BaseException] = []
    issues = {
        "engine": _synchronous(_engine(predictor, images), failures),
        "e2e": _synchronous(_end_to_end(predictor, images), failures),
    }
    scenarios: list[Scenario] = []

    def run(scenario: str, system: str, issue: Issue, pace: Pace, load: float | None = None) -> Scenario:
        folder = logs / "-".join([scenario, system] + ([] if load is None else [f"{load:.0%}"]))
        settings = _settings(scenario, pace, seconds, full)
        _start(settings, issue, len(images), folder)
        if failures:
            raise failures[0]
        scenarios.append(_read(scenario, system, load, folder / "mlperf_log_detail.txt"))
        return scenarios[-1]

    for scenario in ("SingleStream", "MultiStream", "Offline"):
        for system, issue in issues.items():
            last = run(scenario, system, issue, pace[system])
    for load in SERVER_LOADS:
        issue = _asynchronous(predictor, images, failures)
        run("Server", "e2e", issue, Pace(pace["e2e"].image_ms, load * last.rate), load)
    return scenarios


def _end_to_end(predictor: Predictor, images: Sequence[bytes]) -> Answer:
    def answer(queries: list[Any]) -> Iterator[list[Any]]:
        if len(queries) == 1:
            predictor.predict(images[queries[0].index])
            yield queries
            return
        predictions = predictor.stream(images[query.index] for query in queries)
        for query, prediction in zip(queries, predictions, strict=True):
            if prediction.error is not None:
                raise prediction.error
            yield [query]

    return answer


def _engine(predictor: Predictor, images: Sequence[bytes]) -> Answer:
    crops = read_inputs(images, predictor.spec.image_size)

    def answer(queries: list[Any]) -> Iterator[list[Any]]:
        for start in range(0, len(queries), ENGINE_BATCH):
            part = queries[start : start + ENGINE_BATCH]
            predictor.run(crops[[query.index for query in part]])
            yield part

    return answer


def _synchronous(answer: Answer, failures: list[BaseException]) -> Issue:
    """Report each query as it is answered. After an error, which must not reach C++, report the others too."""

    def issue(queries: list[Any]) -> None:
        unanswered = list(queries)
        try:
            for done in answer(queries):
                _complete(done)
                del unanswered[: len(done)]
        except Exception as error:
            failures.append(error)
            _complete(unanswered)

    return issue


def _asynchronous(predictor: Predictor, images: Sequence[bytes], failures: list[BaseException]) -> Issue:
    def done(future: "Future[Prediction]", query: Any) -> None:
        if (error := future.exception()) is not None:
            failures.append(error)
        _complete([query])

    def issue(queries: list[Any]) -> None:
        for query in queries:
            try:
                future = predictor.submit(images[query.index])
            except FashionInferError as error:
                failures.append(error)
                _complete([query])
            else:
                future.add_done_callback(partial(done, query=query))

    return issue


def _complete(queries: Sequence[Any]) -> None:
    lg.QuerySamplesComplete([lg.QuerySampleResponse(query.id, 0, 0) for query in queries])


def _settings(scenario: str, pace: Pace, seconds: float, full: bool) -> Any:
    settings = lg.TestSettings()
    settings.scenario = getattr(lg.TestScenario, scenario)
    settings.mode = lg.TestMode.PerformanceOnly
    if full:
        settings.FromConfig(os.devnull, "fashionnet", scenario, 0)  # MLPerf's rules are built into loadgen
    else:
        settings.min_duration_ms, settings.min_query_count = round(seconds * 1e3), 1
    settings.single_stream_expected_latency_ns = round(pace.image_ms * 1e6)
    settings.multi_stream_expected_latency_ns = round(8e9 / pace.images_per_s)
    settings.offline_expected_qps = 1.2 * pace.images_per_s  # more than expected, or the run ends too early
    settings.server_target_qps = pace.images_per_s
    settings.server_target_latency_ns = round(SERVER_BOUND * pace.image_ms * 1e6)
    return settings


def _start(settings: Any, issue: Issue, images: int, folder: Path) -> None:
    folder.mkdir(parents=True)
    logs = lg.LogSettings()
    logs.enable_trace = False
    logs.log_output.outdir = str(folder)
    logs.log_output.copy_summary_to_stdout = False
    system_under_test = lg.ConstructSUT(issue, lambda: None)
    library = lg.ConstructQSL(images, images, lambda _: None, lambda _: None)
    try:
        lg.StartTestWithLogSettings(system_under_test, library, settings, logs)
    finally:
        lg.DestroyQSL(library)
        lg.DestroySUT(system_under_test)


def _read(scenario: str, system: str, load: float | None, log: Path) -> Scenario:
    """Read loadgen's log, in which each line has a JSON object after a marker."""
    entries = [json.loads(line.partition(" ")[2]) for line in log.read_text().splitlines()]
    facts = {entry["key"]: entry["value"] for entry in entries}
    query = "_per_query" if scenario == "MultiStream" else ""
    percentiles = (("p50", "50.00"), ("p90", "90.00"), ("p95", "95.00"), ("p99", "99.00"), ("p99.9", "99.90"))
    milliseconds = {name: facts[f"result_{key}_percentile{query}_latency_ns"] / 1e6 for name, key in percentiles}
    reached = {
        "SingleStream": lambda: facts["result_qps_with_loadgen_overhead"],
        "MultiStream": lambda: 8e9 / facts["result_mean_query_latency_ns"],
        "Server": lambda: facts["result_completed_samples_per_sec"],
        "Offline": lambda: facts["result_samples_per_second"],
    }
    return Scenario(
        scenario=scenario,
        system=system,
        validity=_validity(facts),
        queries=facts["result_query_count"],
        rate=reached[scenario](),
        load=load,
        milliseconds={} if scenario == "Offline" else milliseconds,
    )


def _validity(facts: dict[str, Any]) -> str:
    """VALID, or INVALID and the conditions that were not met."""
    conditions = {
        "result_min_duration_met": "too short",
        "result_min_queries_met": "too few queries",
        "result_perf_constraints_met": "latency above the bound",
        "early_stopping_met": "too few queries for its percentile",
    }
    unmet = [words for key, words in conditions.items() if facts.get(key) is False]
    verdict: str = facts["result_validity"]
    return f"{verdict}: {', '.join(unmet)}" if verdict != "VALID" and unmet else verdict
