"""Timing in turn, and what comes of it: a part of gpu.py."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import fmean, median, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from fashion_infer.backends import Outputs

Pixels = NDArray[np.uint8]
Run = Callable[[Pixels], Outputs]  # uint8 [N, S, S, 3] on the host -> outputs on the host
RunSession = Callable[[Pixels, int], Outputs]  # likewise, by one of several sessions

ROUNDS, ROUND_SECONDS = 5, 0.25
STUDENT_T = 2.776  # of a 95 % interval over five rounds
OURS, GRAPH, COMPILED, ORT = "tensorrt fp16", "torch fp16 graph", "torch fp16 compiled", "onnxruntime cuda fp16"
console = Console(stderr=True)


def interleave(runs: Mapping[str, Run], pixels: Pixels, seconds: float = ROUND_SECONDS) -> dict[str, list[float]]:
    """Milliseconds a call, the median of each round; the contenders take turns, so that all meet the same moments."""
    rounds: dict[str, list[float]] = {contender: [] for contender in runs}
    for run in runs.values():
        run(pixels)
    for _ in range(ROUNDS):
        for contender, run in runs.items():
            latencies_ms: list[float] = []
            begin = time.perf_counter()
            while time.perf_counter() - begin < seconds or len(latencies_ms) < 5:
                before = time.perf_counter()
                run(pixels)
                latencies_ms.append((time.perf_counter() - before) * 1e3)
            rounds[contender].append(median(latencies_ms))
    return rounds


def summarise(
    rounds: Mapping[str, Sequence[float]], batch: int, flops: float, ceiling: float | None
) -> dict[str, dict[str, Any]]:
    """Each contender's median, rate, share of the ceiling, and its time as a multiple of ours with a 95 % interval.

    Args:
        rounds: milliseconds a call, five of each contender, latencies_ms in turn.
        batch: images a call.
        flops: of one image.
        ceiling: TFLOP/s that the GPU was measured at; None where it was not.
    """
    summary: dict[str, dict[str, Any]] = {}
    for contender, times in rounds.items():
        milliseconds = median(times)
        row: dict[str, Any] = {
            "p50_ms": milliseconds,
            "images_per_second": batch / milliseconds * 1e3,
            "rounds": [*times],
        }
        if ceiling is not None:
            row["share_of_ceiling"] = flops * batch / milliseconds * 1e3 / (ceiling * 1e12)
        if OURS in rounds and contender != OURS:
            ratios = [theirs / ours for theirs, ours in zip(times, rounds[OURS], strict=True)]
            row["times_ours"] = fmean(ratios)
            row["plus_minus"] = STUDENT_T * stdev(ratios) / len(ratios) ** 0.5
        summary[contender] = row
    return summary


def check_goals(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What was aimed at for the paper's network, and what was reached; None where it was not measured."""
    times = facts.get("times", {}).get("vgg16", {})
    large, single = times.get("64", {}), times.get("1", {})
    against_graph = single.get(GRAPH, {}).get("times_ours")
    return {
        "share of the ceiling at batch 64, at least 0.6": large.get(OURS, {}).get("share_of_ceiling"),
        "rate at batch 64 against torch.compile, at least 1.5": large.get(COMPILED, {}).get("times_ours"),
        "time at batch 1 against torch with a graph, at most 0.7": against_graph and 1 / against_graph,
    }


def print_tables(facts: Mapping[str, Any]) -> None:
    """One table a network, what else was timed, and the goals."""
    for name, batches in facts.get("times", {}).items():
        table = Table("batch", "contender", "p50 ms", "images/s", "of ceiling", "times ours", title=name)
        for batch, rows in batches.items():
            for contender, row in rows.items():
                share = f"{row['share_of_ceiling']:.0%}" if "share_of_ceiling" in row else "-"
                ratio = f"{row['times_ours']:.2f} ± {row['plus_minus']:.2f}" if "times_ours" in row else "-"
                table.add_row(batch, contender, f"{row['p50_ms']:.3f}", f"{row['images_per_second']:.0f}", share, ratio)
        console.print(table)
    for part in ("two_sessions", "pooling"):
        if part in facts:
            console.print(part, facts[part])
    for goal, reached in facts["goals"].items():
        console.print(f"{goal}: {'not measured' if reached is None else f'{reached:.2f}'}")


def overlap(run: RunSession, pixels: Pixels, seconds: float = ROUND_SECONDS) -> dict[str, float]:
    """Images a second from one session, and from two at once, each with a thread of its own; in turn.

    Returns:
        The medians of both, and two as a multiple of one with a 95 % interval.
    """

    def rate(threads: int) -> float:
        begin = time.perf_counter()

        def work(session: int) -> int:
            calls = 0
            while time.perf_counter() - begin < seconds or calls < 5:
                run(pixels, session)
                calls += 1
            return calls

        calls = sum(pool.map(work, range(threads)))
        return calls * len(pixels) / (time.perf_counter() - begin)

    with ThreadPoolExecutor(2) as pool:
        rate(2)  # both threads have met the GPU
        rounds = [(rate(1), rate(2)) for _ in range(ROUNDS)]
    gains = [two / one for one, two in rounds]
    return {
        "one_images_per_second": median(one for one, _ in rounds),
        "two_images_per_second": median(two for _, two in rounds),
        "gain": fmean(gains),
        "plus_minus": STUDENT_T * stdev(gains) / ROUNDS**0.5,
    }
