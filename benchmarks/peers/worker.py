"""What every peer's process does: answer one line of JSON with another, until its input ends.

A peer is a module with a `load` that gives back a Peer. It runs in an environment of its own, so nothing here imports
more than numpy.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

Source = Any  # a path as str, or a decoded picture: uint8 [224, 224, 3] RGB


@dataclass
class Peer:
    """A loaded model.

    Attributes:
        one: an image -> the probabilities of the categories, float [C].
        many: paths -> how many of them were recognised: the fastest way that the peer's own documentation shows.
        notes: versions and settings worth a line in the results.
        more: further requests by name, each a function of the request that gives back JSON.
    """

    one: Callable[[Source], Sequence[float]]
    many: Callable[[list[str]], int]
    notes: dict[str, Any] = field(default_factory=dict)
    more: dict[str, Callable[[dict[str, Any]], Any]] = field(default_factory=dict)


def serve(load: Callable[[dict[str, Any]], Peer]) -> None:
    """Load with the options of the command line, recognise a first image, say so, then answer requests."""
    answers = os.fdopen(int(os.environ["ANSWERS"]), "w")
    options = json.loads(sys.argv[1])
    peer = load(options)
    peer.one(options["first"])
    _say(answers, {"memory_mib": memory_mib(), "notes": peer.notes})
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"answer": {**_REQUESTS, **peer.more}[request["do"]](peer, request)}
        except Exception as error:  # the parent records it
            answer = {"error": f"{type(error).__name__}: {error}"}
        _say(answers, answer)


def latency(peer: Peer, request: dict[str, Any]) -> list[float]:
    """Milliseconds of one image at a time, at least three and until the seconds are over; one before is not counted."""
    sources = [np.load(path) if path.endswith(".npy") else path for path in request["sources"]]
    peer.one(sources[0])
    times: list[float] = []
    until = perf_counter() + request["seconds"]
    while len(times) < 3 or perf_counter() < until:
        start = perf_counter()
        peer.one(sources[len(times) % len(sources)])
        times.append(round((perf_counter() - start) * 1e3, 3))
    return times


def throughput(peer: Peer, request: dict[str, Any]) -> float:
    """Images a second of many files."""
    start = perf_counter()
    done = peer.many(request["sources"])
    if done != len(request["sources"]):
        raise RuntimeError(f"{done} of {len(request['sources'])} images came back")
    return done / (perf_counter() - start)


def probabilities(peer: Peer, request: dict[str, Any]) -> list[float]:
    """Of one decoded image, to compare the peers' answers."""
    return [float(value) for value in peer.one(np.load(request["source"]))]


def memory_mib(peer: Any = None, request: Any = None) -> float:
    """The most memory used so far, MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


_REQUESTS = {"latency": latency, "throughput": throughput, "probabilities": probabilities, "memory": memory_mib}


def _say(answers: Any, words: dict[str, Any]) -> None:
    answers.write(json.dumps(words) + "\n")
    answers.flush()
