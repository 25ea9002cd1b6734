"""The sections of gpu.py, their time limits, and the JSON that is written after every step: a part of gpu.py."""

import json
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from gpu_dry import Answers, stopped_at
from gpu_timing import console
from rich.console import Console
from rich.table import Table

from fashion_infer.errors import ParityError
from fashion_infer.files import write_atomically

MOST_SECONDS = 8 * 60  # of all sections together


@dataclass
class Results:
    """What a run finds out.

    Attributes:
        path: of the JSON, written after every step.
        deadline: of the section that runs, on the monotonic clock; nothing is begun after it.
        facts: what is in the JSON.
        failed: whether a check failed.
        answers: in a dry run, what stands in for each network, by its name; None in a run on a GPU.
    """

    path: Path
    deadline: float
    facts: dict[str, Any] = field(default_factory=dict)
    failed: bool = False
    answers: dict[str, Answers] | None = None

    def put(self, value: Any, *keys: str) -> None:
        """Set a value under nested keys, and write the file."""
        place = self.facts
        for key in keys[:-1]:
            place = place.setdefault(key, {})
        place[keys[-1]] = value
        write_atomically(self.path, lambda temporary: temporary.write_text(json.dumps(self.facts, indent=1)))

    def attempt(self, step: Callable[[], Any], *keys: str) -> Any:
        """What a step gives; where it fails or is too late None, and the reason under "missing" and the keys."""
        if self.late():
            self.put("not begun: the time was up", "missing", *keys)
            return None
        console.print("[dim]" + " / ".join(keys))
        try:
            return step()
        except Exception as error:  # of torch, ONNX Runtime, CUDA: a contender that cannot run must not stop the others
            self.miss(error, *keys)
            return None

    def miss(self, error: Exception, *keys: str) -> None:
        """Note why a step has no result. In a dry run only the want of a GPU is no failure."""
        reason = f"{type(error).__name__}: {error}"[:500]
        if self.answers is None:
            self.put(reason, "missing", *keys)
            self.failed |= isinstance(error, ParityError)
        elif (place := stopped_at(error)) is not None:
            self.put(f"stopped at {place}: {reason}", "not_executed", " / ".join(keys))
        else:
            self.put(reason, "missing", *keys)
            self.failed = True

    def late(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() > self.deadline


class TimeUpError(Exception):
    """The time of a section is up."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeUpError in the block when the time is up; what runs in a library's own code ends first."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeUpError(f"the time was up after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@dataclass(frozen=True)
class Section:
    """A part of the run, with its own time limit in seconds."""

    name: str
    seconds: float
    work: Callable[[], None]

    def run(self, results: Results) -> None:
        """Work until it is done or its time is up; the JSON says how long it took.

        A dry run has no limits: its times mean nothing, and a machine without a GPU may have few and busy cores.
        """
        begin, dry = time.monotonic(), results.answers is not None
        results.deadline = math.inf if dry else begin + self.seconds
        try:
            with nullcontext() if dry else time_limit(self.seconds):
                self.work()
        except Exception as error:  # as above: the sections after it have their own time
            results.miss(error, "section " + self.name)
        results.put(round(time.monotonic() - begin, 1), "seconds", self.name)


def print_plan(sections: Sequence[Section], seconds: Mapping[str, float]) -> None:
    """The sections, their time limits and how long they took, where they have run, on stdout."""
    table = Table("section", "at most", "took")
    for section in sections:
        took = f"{seconds[section.name]:.0f} s" if section.name in seconds else "-"
        table.add_row(section.name, f"{section.seconds:.0f} s", took)
    total = sum(section.seconds for section in sections)
    table.add_row("all together", f"{total:.0f} s, of {MOST_SECONDS}", f"{sum(seconds.values()):.0f} s")
    Console().print(table)
