"""Percentiles of latencies, and how many samples each needs before it means anything."""

import math
from collections.abc import Sequence

import numpy as np

PERCENTILES = (50.0, 90.0, 99.0)
CONFIDENCE = 0.99


def samples_needed(percentile: float) -> int:
    """The fewest samples of which one lies above the percentile with 99 % confidence: p90 44, p99 459."""
    return math.ceil(math.log(1 - CONFIDENCE) / math.log(percentile / 100))


def percentiles(milliseconds: Sequence[float]) -> dict[str, float | None]:
    """p50, p90 and p99; None for those that have too few samples to be known."""
    values = np.asarray(milliseconds, np.float64)
    return {
        f"p{percentile:g}": float(np.percentile(values, percentile))
        if len(values) >= samples_needed(percentile)
        else None
        for percentile in PERCENTILES
    }
