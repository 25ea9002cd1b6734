"""What is counted, for Prometheus; the words mean what they mean in Triton.

An inference is one image through the network, an execution one batch; queue is the time that an image waits before its
decoding and before its batch, compute that of its batch.
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
    """Counters of one application, in a registry of their own."""

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
            "From the request's head to the end of its answer.",
            ("route",),
            buckets=MILLISECONDS,
            registry=registry,
        )
        self._stages = Histogram(
            "fashion_infer_stage_seconds",
            "Time of one image in each stage.",
            ("stage",),
            buckets=MILLISECONDS,
            registry=registry,
        )
        pending = Gauge("fashion_infer_pending_images", "Images that wait or run.", registry=registry)
        pending.set_function(lambda: admission.pending)
        wait = Gauge(
            "fashion_infer_expected_wait_seconds", "What an image would wait that came now.", registry=registry
        )
        wait.set_function(admission.expected_wait)
        registry.register(_Batches(predictor))

    def count(self, route: str, status: int, error: str | None, seconds: float) -> None:
        """Count a request that was answered.

        Args:
            route: the template of its path, such as /v1/items/{id}.
            status: of the response.
            error: the name of the error where it failed.
            seconds: that it took.
        """
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)
        if error is not None:
            self._failures.labels(error).inc()

    def observe(self, timing: Mapping[str, float]) -> None:
        """Take the stages of a Prediction, in milliseconds."""
        for stage in STAGES:
            self._stages.labels(stage).observe(timing[stage] / 1e3)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self._registry)


class _Batches(Collector):
    """The batches that the Predictor counts, read when they are asked for."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def collect(self) -> Iterable[Metric]:
        batches = self._predictor.batches
        images = sum(size * count for (_, size), count in batches.items())
        yield CounterMetricFamily("fashion_infer_inferences", "Images that went through the network.", images)
        executions = CounterMetricFamily(
            "fashion_infer_executions", "Batches, by why each left: full, delay, idle, closing.", labels=("reason",)
        )
        for reason in ("full", "delay", "idle", "closing"):
            executions.add_metric([reason], sum(count for (why, _), count in batches.items() if why == reason))
        yield executions
        within = [sum(c for (_, size), c in batches.items() if low < size <= high) for low, high in _ranges()]
        bounds = [*(str(size) for size in SIZES), "+Inf"]
        sizes = HistogramMetricFamily("fashion_infer_batch_size", "Images of a batch.")
        sizes.add_metric([], list(zip(bounds, map(float, accumulate(within)), strict=True)), images)
        yield sizes


def _ranges() -> list[tuple[float, float]]:
    return list(zip((0, *SIZES), (*SIZES, float("inf")), strict=True))
