"""The words about what limits a machine, from results whose answer is plain."""

from dataclasses import replace

import pytest

from fashion_infer.bench.limits import limits
from fashion_infer.bench.result import BenchResult
from fashion_infer.bench.statistics import Estimate


def with_numbers(
    result: BenchResult, *, decode: float, compute: float, stream: float, engine: dict[str, float], share: float | None
) -> BenchResult:
    stages = {"decode": decode, "preprocess": 0.5, "queue": 0.1, "compute": compute, "post": 0.1}
    rates = {size: Estimate(rate) for size, rate in engine.items()}
    return replace(
        result,
        stages={name: Estimate(value) for name, value in stages.items()},
        throughput={"e2e": Estimate(stream), "engine": rates},
        reached={} if share is None else dict.fromkeys(engine, Estimate(share)),
    )


def test_large_photos_are_limited_by_their_decoding(result: BenchResult) -> None:
    text = limits(with_numbers(result, decode=9, compute=3.3, stream=150, engine={"1": 300.0, "8": 600.0}, share=0.3))
    assert "One image alone takes 13 ms on average: reading and decoding it takes 69%" in text
    assert "In batches of 8 the network does 2.0 times as many images a second as singly" in text
    assert "13.3 ms in place of 3.33 ms" in text
    assert "150 a second end to end, 25% of what the network alone does in batches of 8" in text
    assert "limits it, above all reading and decoding it (9 ms an image)" in text
    assert "it reaches 30% of the operations a second" in text
    assert "memory" in text


def test_a_large_network_is_limited_by_arithmetic(result: BenchResult) -> None:
    text = limits(with_numbers(result, decode=2, compute=90, stream=11, engine={"1": 11.0, "8": 11.5}, share=0.8))
    assert "the network takes 97% of that time" in text
    assert "Larger batches do not pay" in text
    assert "96% of what the network alone does in batches of 8: the network limits it." in text
    assert "arithmetic limits it" in text


@pytest.mark.parametrize("engine", [{"1": 10.0}, {"4": 10.0, "8": 20.0}])
def test_what_was_not_measured_is_not_said(result: BenchResult, engine: dict[str, float]) -> None:
    text = limits(with_numbers(result, decode=2, compute=90, stream=9, engine=engine, share=None))
    assert "was not measured" in text
    assert "singly" not in text
    assert "do not pay" not in text


def test_a_real_result(result: BenchResult) -> None:
    assert limits(result).count(". ") >= 3
