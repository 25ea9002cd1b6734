"""How many runs at once, and on how many threads each: measured once for a model on a machine, then remembered."""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import numpy as np

from fashion_infer.backends.onnxruntime import VERSION, Layout, OnnxRuntimeBackend
from fashion_infer.files import cache_folder, sha256_of, write_atomically
from fashion_infer.machine import cpu_name, usable_cores

ROUNDS, SECONDS = 5, 0.03
BATCH = 4  # of each run under load, where requests gather
QUIET = 0.8  # share of the cores that must have been free for a result to be remembered
GAIN = 1.05  # that a layout must bring to be worth a change
MAX_BYTES = 256 * 2**20  # larger models are not copied to try layouts; their products are large enough for all cores

logger = logging.getLogger("fashion_infer")


def choose_layout(path: Path, device: str, sessions: int | None, threads: int | None) -> Layout:
    """What the caller asked for; the best one on the CPU where nothing was asked for."""
    if sessions is None and threads is None:
        return best_layout(path) if device == "cpu" else Layout(1, 1, 1)
    sessions = sessions or max(1, usable_cores() // (threads or 1))
    threads = threads or max(1, usable_cores() // sessions)
    return Layout(sessions, threads, threads)


def best_layout(path: Path) -> Layout:
    """The layout of a model on this machine's CPU: from the cache folder, or measured, which takes a second or two.

    Args:
        path: of an .onnx file.

    Raises:
        ModelError: as `OnnxRuntimeBackend` does.
    """
    cores = usable_cores()
    if cores == 1 or path.stat().st_size > MAX_BYTES:
        return Layout(1, cores, cores)
    facts = [sha256_of(path), cpu_name(), cores, VERSION]
    remembered = cache_folder() / f"layout-{hashlib.sha256(json.dumps(facts).encode()).hexdigest()}.json"
    try:
        return Layout(**json.loads(remembered.read_text()))
    except (OSError, ValueError, TypeError):
        layout, share = measure(path, cores)
    if share < QUIET:
        logger.info(
            "%s was measured on a busy machine (%.0f %% of the cores were free): not remembered", layout, share * 100
        )
        return layout
    text = json.dumps(dataclasses.asdict(layout))
    try:
        write_atomically(remembered, lambda temporary: temporary.write_text(text))
    except OSError as error:
        logger.warning("%s was measured but cannot be remembered, pass sessions and threads: %s", layout, error)
    return layout


def measure(path: Path, cores: int) -> tuple[Layout, float]:
    """Try each way to split the cores, interleaved: one run at a time, and as many as there are sessions.

    Returns:
        The best layout, and the share of the cores, in [0, 1], that was ours when we wanted all of them.
    """
    splits = [cores, *(2**k for k in reversed(range(cores.bit_length())) if 2**k < cores)]
    backends = {
        threads: OnnxRuntimeBackend(path, layout=Layout(cores // threads, threads, threads)) for threads in splits
    }
    size = backends[cores].spec.image_size
    images = np.random.default_rng(0).integers(0, 256, (BATCH, size, size, 3), dtype=np.uint8)

    def rate_of(backend: OnnxRuntimeBackend, callers: int, batch: int) -> Callable[[], float]:
        return lambda: _rate(lambda: backend.run(images[:batch]), callers)

    lone = _fastest({threads: rate_of(backend, 1, 1) for threads, backend in backends.items()}, cores)
    under_load = {threads: rate_of(backend, backend.sessions, BATCH) for threads, backend in backends.items()}
    busy = _fastest(under_load, lone)
    wall, cpu = perf_counter(), process_time()
    under_load[1]()  # a thread for each core, and none waits for another
    share = (process_time() - cpu) / (perf_counter() - wall) / cores
    return Layout(cores // busy, busy, lone), share


def _fastest(rates: Mapping[int, Callable[[], float]], preferred: int) -> int:
    """The key with the highest median rate; the preferred one unless another is clearly above it."""
    for rate in rates.values():
        rate()  # the first run of a session is slow
    rounds = [{key: rate() for key, rate in rates.items()} for _ in range(ROUNDS)]
    medians = {key: median(taken[key] for taken in rounds) for key in rates}
    best = max(medians, key=lambda key: medians[key])
    return best if medians[best] > GAIN * medians[preferred] else preferred


def _rate(call: Callable[[], object], callers: int) -> float:
    """Calls a second of some threads that call without a pause."""

    def repeat() -> int:
        calls = 0
        while calls == 0 or perf_counter() - start < SECONDS:
            call()
            calls += 1
        return calls

    with ThreadPoolExecutor(callers) as threads:
        start = perf_counter()
        calls = sum(threads.map(lambda _: repeat(), range(callers)))
        return calls / (perf_counter() - start)
