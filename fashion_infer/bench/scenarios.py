"""The measurements: latency of one image at a time, and throughput by batch size."""

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import fmean
from time import perf_counter
from typing import Any

import numpy as np
from rich.progress import Progress

from fashion_infer.bench.statistics import percentiles
from fashion_infer.data.synthetic import render, to_jpeg
from fashion_infer.images import expand_paths
from fashion_infer.predictor import Predictor

SAMPLES = 500  # enough for p99
WARM_UP = 5
RENDERED, RENDER_SEED = 32, 1_000_003
PACKAGES = ("fashion-infer", "onnxruntime", "onnxruntime-gpu", "numpy", "opencv-python-headless", "pillow")


@dataclass(frozen=True)
class BenchResult:
    """What was measured, on what.

    Attributes:
        model: path, sha256, backbone, input size and device.
        environment: the machine and the versions of what ran.
        images: how many encoded images there were, and their mean size in bytes.
        latency: of `end_to_end` (encoded bytes in, Prediction out) and `engine_only` (uint8 batch of one in, arrays
            out), each the samples' number and p50, p90, p99 in milliseconds; None where the samples are too few.
        stages: mean milliseconds of each stage of `end_to_end`.
        throughput: images a second, `engine_only` by batch size, and `end_to_end` through `Predictor.stream`.
        raw: every latency in milliseconds, in the order they were taken.
    """

    model: dict[str, Any]
    environment: dict[str, Any]
    images: dict[str, float]
    latency: dict[str, dict[str, float | None]]
    stages: dict[str, float]
    throughput: dict[str, Any]
    raw: dict[str, list[float]]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


def bench_model(
    model: Path,
    photos: Path | None,
    *,
    batch_sizes: Sequence[int],
    seconds: float,
    device: str | None = None,
    threads: int | None = None,
) -> BenchResult:
    """Load a model and `bench` it.

    Args:
        model: path of a file that `fashion-infer export` wrote.
        photos: a folder of encoded images; rendered ones when None.
        batch_sizes: for throughput.
        seconds: see `bench`.
        device: see `Predictor`.
        threads: see `Predictor`.

    Raises:
        ImageError: the folder holds no images, or one cannot be read.
        FashionInferError: what `Predictor` raises.
    """
    if photos is None:
        images = [to_jpeg(render(RENDER_SEED, index)) for index in range(RENDERED)]
    else:
        images = [Path(path).read_bytes() for path in expand_paths([str(photos)])]
    with Predictor(model, device=device, threads=threads, max_batch=max(batch_sizes)) as predictor:
        return bench(predictor, model, images, batch_sizes=batch_sizes, seconds=seconds)


def bench(
    predictor: Predictor, model: Path, images: Sequence[bytes], *, batch_sizes: Sequence[int], seconds: float
) -> BenchResult:
    """Measure a model.

    The end-to-end and engine-only samples alternate, so that both meet the same moments of a noisy machine. A first
    few runs of each are not counted.

    Args:
        predictor: of the model.
        model: its path, for the record.
        images: encoded images, used in turn.
        batch_sizes: for throughput.
        seconds: that each measurement takes at most; latency stops earlier at 500 samples.
    """
    size = predictor.spec.image_size
    batch = np.random.default_rng(0).integers(0, 256, (max(batch_sizes), size, size, 3), dtype=np.uint8)
    stages: list[dict[str, float]] = []

    def end_to_end(i: int) -> None:
        stages.append(predictor.predict(images[i % len(images)]).timing)

    def engine_only(i: int) -> None:
        predictor.run(batch[:1])

    with Progress(transient=True) as progress:
        task = progress.add_task("latency", total=SAMPLES)
        raw = _alternate([end_to_end, engine_only], 2 * seconds, lambda: progress.advance(task))
        task = progress.add_task("throughput", total=len(batch_sizes) + 1)
        throughput: dict[str, Any] = {"engine_only": {}}
        for n in batch_sizes:
            throughput["engine_only"][str(n)] = n * _rate(lambda n=n: predictor.run(batch[:n]), seconds / 4)  # type: ignore[misc]
            progress.advance(task)
        many = [images[i % len(images)] for i in range(64)]
        throughput["end_to_end"] = len(many) * _rate(lambda: list(predictor.stream(many)), seconds / 4)
    stages = stages[WARM_UP:]
    return BenchResult(
        model={
            "path": str(model),
            "sha256": predictor.sha256,
            "arch": predictor.spec.arch,
            "image_size": size,
            "trained": predictor.spec.trained,
        },
        environment=environment(),
        images={"count": len(images), "mean_bytes": fmean(map(len, images))},
        latency={
            name: {"samples": len(ms), **percentiles(ms)}
            for name, ms in zip(("end_to_end", "engine_only"), raw, strict=True)
        },
        stages={stage: fmean(timing[stage] for timing in stages) for stage in stages[0]},
        throughput=throughput,
        raw=dict(zip(("end_to_end", "engine_only"), raw, strict=True)),
    )


def environment() -> dict[str, Any]:
    """The machine and the versions of what runs on it."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
    }


def _alternate(
    calls: Sequence[Callable[[int], None]], seconds: float, advance: Callable[[], None]
) -> list[list[float]]:
    """Latencies of each call in milliseconds, taken in turn."""
    taken: list[list[float]] = [[] for _ in calls]
    start = perf_counter()
    for i in range(WARM_UP + SAMPLES):
        for call, samples in zip(calls, taken, strict=True):
            before = perf_counter()
            call(i)
            samples.append((perf_counter() - before) * 1e3)
        advance()
        if i > WARM_UP and perf_counter() - start > seconds:
            break
    return [samples[WARM_UP:] for samples in taken]


def _rate(call: Callable[[], object], seconds: float) -> float:
    """Calls a second, after one that is not counted."""
    call()
    start, calls = perf_counter(), 0
    while calls == 0 or perf_counter() - start < seconds:
        call()
        calls += 1
    return calls / (perf_counter() - start)


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
