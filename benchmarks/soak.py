"""Check that a Predictor under twice the load that it can handle answers every request exactly once.

    python benchmarks/soak.py --requests 200000

32 threads submit images at about twice the rate at which they are answered. Some images are bad, and some requests are
late or cancelled. The script counts the answers of each request, and compares the memory at the end with that after the
first tenth.
"""

import random
import threading
from collections import Counter
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter, sleep
from typing import Annotated, Any

import numpy as np
import typer

from fashion_infer import Prediction, Predictor, QueueFullError

SENDERS = 32
IMAGES = 16
SAMPLES = 200  # memory samples over the whole run


@dataclass(frozen=True)
class Soak:
    """The result of a run.

    Attributes:
        outcomes: Number of requests by outcome.
        unanswered: Number of requests that never ended.
        twice: Number of requests that ended more than once.
        wrong: Number of requests that got the answer of another image.
        rss: Memory of the process in bytes, sampled evenly over the requests.
        seconds: Duration of the run.
    """

    outcomes: dict[str, int]
    unanswered: int
    twice: int
    wrong: int
    rss: list[int]
    seconds: float

    @property
    def growth(self) -> float:
        """Growth of the memory from the first tenth of the run to its end, as a share of the former."""
        tenth = max(1, len(self.rss) // 10)
        return float(np.median(self.rss[-tenth:]) / np.median(self.rss[tenth : 2 * tenth])) - 1


class _Tally:
    """The answers so far."""

    def __init__(self, requests: int) -> None:
        self.requests, self.ends, self.outcomes = requests, np.zeros(requests, np.uint8), Counter[str]()
        self.wrong, self.sent, self.rss = 0, 0, [0]
        self.lock = threading.Lock()

    def settle(self, number: int, outcome: str) -> None:
        """Record that a request has ended."""
        with self.lock:
            self.ends[number] += 1
            self.outcomes[outcome] += 1
            if self.outcomes.total() * SAMPLES // self.requests >= len(self.rss):
                self.rss.append(rss_bytes())

    def is_ahead(self) -> bool:
        """Whether more than twice as many requests were sent as answered, with an allowance of 256 at the start."""
        return self.sent > 2 * self.outcomes["answered"] + 256 and self.outcomes.total() < self.sent


def soak(predictor: Predictor, requests: int, *, seed: int = 0) -> Soak:
    """Submit images from 32 threads at about twice the rate at which they are answered.

    Args:
        predictor: A Predictor with a short queue, so that it fills.
        requests: Total number of requests.
        seed: Random seed for the choice of bad, late and cancelled requests.
    """
    side = predictor.spec.image_size
    images = [np.random.default_rng(i).integers(0, 256, (side, side, 3), dtype=np.uint8) for i in range(IMAGES)]
    expected = [predictor.predict(image).embedding for image in images]
    tally = _Tally(requests)

    def check(number: int, future: Future[Prediction]) -> None:
        try:
            embedding = future.result().embedding
        except (Exception, CancelledError) as error:
            tally.settle(number, type(error).__name__)
        else:
            tally.wrong += not np.allclose(embedding, expected[number % IMAGES], atol=1e-4)
            tally.settle(number, "answered")

    def send(sender: int) -> None:
        choose = random.Random(seed * SENDERS + sender)
        for number in range(sender, requests, SENDERS):
            while tally.is_ahead():
                sleep(0.001)
            with tally.lock:
                tally.sent += 1
            bad, luck = choose.random() < 0.05, choose.random()
            try:
                image: Any = b"no picture" if bad else images[number % IMAGES]
                future = predictor.submit(image, deadline_ms=50 if luck < 0.3 else None)
            except QueueFullError:
                tally.settle(number, "QueueFullError")
            else:
                future.add_done_callback(partial(check, number))
                if luck > 0.9:
                    future.cancel()

    start = perf_counter()
    with ThreadPoolExecutor(SENDERS) as threads:
        list(threads.map(send, range(SENDERS)))
    predictor.close()
    ends = tally.ends
    return Soak(
        dict(tally.outcomes),
        int((ends == 0).sum()),
        int((ends > 1).sum()),
        tally.wrong,
        tally.rss[1:],
        perf_counter() - start,
    )


def rss_bytes() -> int:
    """Return the memory that this process uses now, bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def main(
    model: Annotated[str, typer.Option(help="A path, or a built-in name.")] = "fashionnet-lite-int8",
    requests: Annotated[int, typer.Option(help="Number of requests.")] = 200_000,
    seed: Annotated[int, typer.Option(help="Random seed for bad, late and cancelled requests.")] = 0,
) -> None:
    """Print the outcomes; the exit code is 1 if an answer is missing, double or wrong, or memory grew by over 1 %."""
    result = soak(Predictor(model, max_queue=64, max_batch=16), requests, seed=seed)
    print(f"{requests} requests in {result.seconds:.0f} s: {result.outcomes}")
    print(f"unanswered {result.unanswered}, answered twice {result.twice}, with another's answer {result.wrong}")
    print(f"memory {result.rss[-1] >> 20} MiB at the end, {result.growth:+.2%} since the first tenth")
    if result.unanswered or result.twice or result.wrong or result.growth > 0.01:
        raise SystemExit(1)


if __name__ == "__main__":
    typer.run(main)
