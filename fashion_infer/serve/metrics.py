"""Prometheus metrics, with Triton's terms.

An inference is one image that the network processes, and an execution is one batch. The queue time is the time that an
image waits before it is decoded and before its batch starts. The compute time is that of the whole batch.
"""

from collections.abc import Iterable, Mapping
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from fashion_infer.predictor import Predictor
from fashion_infer.serve.admission import Admission

MILLISECONDS = tuple(ms / 1e3 for ms in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000))
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
STAGES = ("queue", "decode", "preprocess", "compute", "post")


class Metrics:
    """The metrics of one application, in their own registry."""

    def __init__(self, predictor: Predictor, admission: Admission) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "fashion_infer_requests", "Requests that were answered.", ("route", "status"), registry=registry
        )
        self._failures = Counter(
            "fashion_infer_failures", "Requests that failed, by the error's name.", ("error",), registry=registry
        )
        self._seconds = Histogram(
            "fashion_infer_request_seconds",
            "Seconds from the request's head to the end of its response.",
            ("route",),
            buckets=MILLISECONDS,
            registry=registry,
        )
        self._stages = Histogram(
            "fashion_infer_stage_seconds",
            "Seconds that one image spends in each stage.",
            ("stage",),
            buckets=MILLISECONDS,
            registry=registry,
        )
        pending = Gauge("fashion_infer_pending_images", "Images that wait or are being processed.", registry=registry)
        pending.set_function(lambda: admission.pending)
        wait = Gauge(
            "fashion_infer_expected_wait_seconds",
            "Seconds that an image would wait if it arrived now.",
            registry=registry,
        )
        wait.set_function(admission.expected_wait)
        registry.register(_Batches(predictor))

    def count(self, route: str, status: int, error: str | None, seconds: float) -> None:
        """Count an answered request.

        Args:
            route: the template of the request's path, such as /v1/items/{id}.
            status: the status of the response.
            error: the name of the error, None for a request that succeeded.
            seconds: the duration from the request's head to the end of the response.
        """
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)
        if error is not None:
            self._failures.labels(error).inc()

    def observe(self, timing: Mapping[str, float]) -> None:
        """Record the duration of each stage of a Prediction; `timing` is in milliseconds."""
        for stage in STAGES:
            self._stages.labels(stage).observe(timing[stage] / 1e3)

    def text(self) -> bytes:
        """All metrics in the text format of Prometheus."""
        return generate_latest(self._registry)


class _Batches(Collector):
    """Metrics of the batches, which the Predictor counts; they are read each time Prometheus collects them."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def collect(self) -> Iterable[Metric]:
        batches = self._predictor.batches
        images = sum(size * count for (_, size), count in batches.items())
        yield CounterMetricFamily("fashion_infer_inferences", "Images that went through the network.", images)
        executions = CounterMetricFamily(
            "fashion_infer_executions",
            "Batches, by the reason for their start: full, delay, idle or closing.",
            labels=("reason",),
        )
        for reason in ("full", "delay", "idle", "closing"):
            executions.add_metric([reason], sum(count for (start, _), count in batches.items() if start == reason))
        yield executions
        within = [sum(c for (_, size), c in batches.items() if low < size <= high) for low, high in _ranges()]
        bounds = [*(str(size) for size in SIZES), "+Inf"]
        sizes = HistogramMetricFamily("fashion_infer_batch_size", "Images in a batch.")
        sizes.add_metric([], list(zip(bounds, map(float, accumulate(within)), strict=True)), images)
        yield sizes


def _ranges() -> list[tuple[float, float]]:
    """The range of sizes of each bucket: above the first number, up to and including the second."""
    return list(zip((0, *SIZES), (*SIZES, float("inf")), strict=True))
