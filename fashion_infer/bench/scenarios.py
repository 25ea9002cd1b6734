"""Measurements in one process: latency of one image at a time, and throughput by batch size."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from time import perf_counter

import numpy as np

from fashion_infer.bench.statistics import Estimate, percentiles
from fashion_infer.images import Pixels
from fashion_infer.predictor import Predictor
from fashion_infer.preprocess import read_inputs

SYSTEMS = ("e2e", "engine")  # encoded bytes in, Prediction out; uint8 batch of one in, arrays out
WARM_UP = 5  # runs that are not counted
MAX_SAMPLES = 5000  # samples of one process start: enough for p99.9
BATCH_SIZES = (1, 4, 8, 16, 32)


@dataclass(frozen=True)
class Latency:
    """One image at a time, in one process.

    Attributes:
        samples: milliseconds of each run of `e2e` and of `engine`, in the order of measurement.
        stages: mean milliseconds of each stage of `e2e`.
    """

    samples: dict[str, list[float]]
    stages: dict[str, float]


def quick(predictor: Predictor, images: Sequence[bytes], *, seconds: float) -> dict[str, dict[str, Estimate | None]]:
    """Latency of one image in this process, for a first look.

    Args:
        predictor: the model.
        images: encoded images, used in turn.
        seconds: approximate duration of the measurement.

    Returns:
        p50 to p99.9 in milliseconds for `e2e` (encoded bytes in, Prediction out) and `engine` (the network alone);
        None if there are too few samples. There is no interval, because that takes more than one process.
    """
    samples = latency(predictor, images, seconds=seconds).samples
    return {name: percentiles([samples[name]]) for name in SYSTEMS}


def latency(predictor: Predictor, images: Sequence[bytes], *, seconds: float) -> Latency:
    """Time one image at a time, alternately end to end and the network alone, so that both see the same conditions.

    Raises:
        ImageError: an image cannot be read.
    """
    crops = read_inputs(images, predictor.spec.image_size)
    samples: dict[str, list[float]] = {name: [] for name in SYSTEMS}
    timings: list[dict[str, float]] = []
    until = perf_counter() + seconds
    while len(timings) < WARM_UP + 1 or (len(timings) < MAX_SAMPLES + WARM_UP and perf_counter() < until):
        i = len(timings) % len(images)
        start = perf_counter()
        timings.append(predictor.predict(images[i]).timing)
        middle = perf_counter()
        predictor.run(crops[i : i + 1])
        samples["e2e"].append((middle - start) * 1e3)
        samples["engine"].append((perf_counter() - middle) * 1e3)
    counted = timings[WARM_UP:]
    stages = {stage: fmean(timing[stage] for timing in counted) for stage in counted[0]}
    return Latency({name: values[WARM_UP:] for name, values in samples.items()}, stages)


def throughput(
    predictor: Predictor, images: Sequence[bytes], *, seconds: float, image_ms: float
) -> tuple[float, dict[str, float]]:
    """Images per second end to end through `stream`, and of the engine alone by batch size as far as time allows.

    Args:
        predictor: the model, warmed up.
        images: encoded images, used in turn.
        seconds: approximate duration: a third is for end to end, the rest for the batch sizes.
        image_ms: milliseconds that one image takes end to end.
    """
    count = round(seconds / 3 / image_ms * 1e3) + 1
    start = perf_counter()
    streamed = sum(1 for _ in predictor.stream(images[i % len(images)] for i in range(count)))
    end_to_end = streamed / (perf_counter() - start)
    crops = read_inputs(images, predictor.spec.image_size)
    crops = np.concatenate([crops] * -(-max(BATCH_SIZES) // len(crops)))
    rates: dict[str, float] = {}
    until = perf_counter() + seconds * 2 / 3
    for size in BATCH_SIZES:
        rates[str(size)] = size * _rate(predictor, crops[:size], seconds / 8)
        if perf_counter() > until:
            break
    return end_to_end, rates


def _rate(predictor: Predictor, batch: Pixels, seconds: float) -> float:
    """Runs per second of a batch, after one run that is not counted."""
    predictor.run(batch)
    start, runs = perf_counter(), 0
    while runs == 0 or perf_counter() - start < seconds:
        predictor.run(batch)
        runs += 1
    return runs / (perf_counter() - start)
