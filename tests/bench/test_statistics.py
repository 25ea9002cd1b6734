import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fashion_infer.bench.statistics import STUDENT_T, Estimate, over_starts, percentiles, ratio, samples_needed


@pytest.mark.parametrize(("percentile", "needed"), [(50, 7), (90, 44), (95, 90), (99, 459), (99.9, 4603)])
def test_samples_needed_are_those_of_the_contract(percentile: float, needed: int) -> None:
    assert samples_needed(percentile) == needed
    assert 1 - (percentile / 100) ** needed >= 0.99 > 1 - (percentile / 100) ** (needed - 1)


@pytest.mark.parametrize(
    ("count", "expected"), [(6, ""), (7, "p50"), (44, "p50 p90"), (458, "p50 p90 p95"), (459, "p50 p90 p95 p99")]
)
def test_a_percentile_is_there_only_with_enough_samples(count: int, expected: str) -> None:
    values = percentiles([list(range(count))])
    assert [name for name, value in values.items() if value is not None] == expected.split()


def test_samples_of_all_starts_count_together_and_the_spread_is_between_starts() -> None:
    starts = [np.full(200, 10.0), np.full(200, 11.0), np.full(200, 12.0)]
    values = percentiles([start.tolist() for start in starts])
    assert values["p50"] == Estimate(11.0, pytest.approx(4.303 / 3**0.5))
    assert values["p99"] is not None
    assert values["p99.9"] is None


def test_one_start_gives_no_interval() -> None:
    assert over_starts([3.0]) == Estimate(3.0, None)
    assert percentiles([[1.0] * 50])["p50"] == Estimate(1.0, None)


@given(st.lists(st.floats(0.1, 1e3), min_size=2, max_size=10), st.floats(0.01, 100))
def test_an_interval_scales_with_its_values(values: list[float], scale: float) -> None:
    plain, scaled = over_starts(values), over_starts([scale * value for value in values])
    assert plain.plus_minus is not None
    assert scaled.plus_minus == pytest.approx(scale * plain.plus_minus, rel=1e-6, abs=1e-6)
    assert scaled.value == pytest.approx(scale * plain.value)


def test_the_interval_holds_the_truth_in_about_95_of_100_experiments() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(2000):
        estimate = over_starts(rng.normal(5, 1, 3).tolist())
        assert estimate.plus_minus is not None
        held += abs(estimate.value - 5) <= estimate.plus_minus
    assert held / 2000 == pytest.approx(0.95, abs=0.015)


def test_students_t_shrinks_with_every_start() -> None:
    values = [STUDENT_T[starts] for starts in range(2, 11)]
    assert values == sorted(values, reverse=True)


def test_ratio_and_its_interval() -> None:
    estimate = ratio(Estimate(20, 2), Estimate(10, 0.5))
    assert estimate.value == 2
    assert estimate.plus_minus == pytest.approx(2 * (0.1**2 + 0.05**2) ** 0.5)
    assert ratio(Estimate(20, 2), Estimate(10)).plus_minus is None


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(0.0523), "0.052"),
        (Estimate(3.14159, 0.5), "3.14 ± 0.50"),
        (Estimate(31.4159), "31.4"),
        (Estimate(1234.5, 10), "1234 ± 10"),
        (Estimate(0.0), "0.00"),
    ],
)
def test_an_estimate_shows_three_digits(estimate: Estimate, text: str) -> None:
    assert str(estimate) == text
