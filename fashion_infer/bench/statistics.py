"""Percentiles of latencies, the samples that each needs, and intervals over process starts.

One process may be faster or slower than another for its whole life (memory layout, clock, placement of threads).
Therefore more samples of one process do not narrow an interval, but more process starts do.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np

PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)
CONFIDENCE = 0.99
# Student's t for a two-sided 95 % interval, by the number of starts
STUDENT_T = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
MAX_STARTS = max(STUDENT_T)


@dataclass(frozen=True)
class Estimate:
    """A measured value, and half the width of its 95 % interval over process starts; None after one start."""

    value: float
    plus_minus: float | None = None

    def __str__(self) -> str:
        digits = max(0, 2 - int(math.log10(abs(self.value)))) if self.value else 2
        interval = "" if self.plus_minus is None else f" ± {self.plus_minus:.{digits}f}"
        return f"{self.value:.{digits}f}{interval}"


def samples_needed(percentile: float) -> int:
    """The fewest samples of which one lies above the percentile with 99 % confidence: p90 44, p99 459, p99.9 4603."""
    return math.ceil(math.log(1 - CONFIDENCE) / math.log(percentile / 100))


def over_starts(values: Sequence[float], center: float | None = None) -> Estimate:
    """The mean (or `center`) of one value from each process start, with its 95 % interval."""
    middle = fmean(values) if center is None else center
    if len(values) < 2:
        return Estimate(middle)
    return Estimate(middle, STUDENT_T[len(values)] * stdev(values) / math.sqrt(len(values)))


def percentiles(starts: Sequence[Sequence[float]]) -> dict[str, Estimate | None]:
    """p50 to p99.9 of all samples together, each with its interval; None if there are too few samples.

    Args:
        starts: the samples of each process start, at most 10 starts of at least one sample.
    """
    pooled = np.concatenate([np.asarray(samples, np.float64) for samples in starts])
    estimates: dict[str, Estimate | None] = {}
    for percentile in PERCENTILES:
        name = f"p{percentile:g}"
        if len(pooled) < samples_needed(percentile):
            estimates[name] = None
        else:
            of_each = [float(np.percentile(samples, percentile)) for samples in starts]
            estimates[name] = over_starts(of_each, float(np.percentile(pooled, percentile)))
    return estimates


def ratio(new: Estimate, old: Estimate) -> Estimate:
    """The quotient new / old, with a 95 % interval if both have one (relative errors add in quadrature)."""
    value = new.value / old.value
    if new.plus_minus is None or old.plus_minus is None:
        return Estimate(value)
    return Estimate(value, abs(value) * math.hypot(new.plus_minus / new.value, old.plus_minus / old.value))
