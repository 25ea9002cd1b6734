"""Who rides together: requests of any thread, gathered into batches. Knows no images and no models."""

import atexit
import math
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from itertools import islice
from time import monotonic
from typing import Any, Generic, TypeVar

from fashion_infer.errors import DeadlineExceededError, PredictorClosedError, QueueFullError

Item = TypeVar("Item")
Result = TypeVar("Result")
Run = Callable[[list[Item]], Sequence[Result]]


@dataclass(eq=False)
class Request(Generic[Result]):
    """An accepted request: one place in the queue until a batch takes it.

    Attributes:
        deadline: on the monotonic clock, seconds; infinity when there is none.
        start_by: when a batch with it starts at the latest if a worker is idle, on the same clock; set by `put`.
        future: of its result.
    """

    deadline: float = math.inf
    start_by: float = math.inf
    future: Future[Result] = field(default_factory=Future)


class Batcher(Generic[Item, Result]):
    """A bounded queue in front of a few runners, and as many threads that run batches on them.

    A request is first accepted, which takes one of `max_queue` places, and later put, when its item is ready. A batch
    starts when it is full, or when the first of its requests must start. It takes a runner's share of what waits, so
    that all runners end at about the same time. Requests start in the order they were put.
    Who has nothing else to do uses `call`, and runs a batch in their own thread when nobody is before them.
    """

    def __init__(
        self,
        runs: Sequence[Run[Item, Result]],
        *,
        max_batch: int,
        max_queue: int,
    ) -> None:
        """Start one thread for each runner.

        Args:
            runs: the runners, each used by one thread at a time: items in, as many results out, in order; what one
                raises becomes the error of every item it got.
            max_batch: items of one batch, at most.
            max_queue: requests that wait at most, those that were accepted but not yet put among them.
        """
        self._max_batch, self._max_queue = max_batch, max_queue
        self._idle = list(runs)
        self._ready: deque[tuple[Request[Result], Item]] = deque()
        self._waiting = 0  # accepted and not yet in a batch: those in `_ready`, and those still to be put
        self._closed = self._cancelled = False
        self._pid = os.getpid()
        self._lock = threading.RLock()  # reentrant: the garbage collector may call `stop` while it is held
        self._work = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)
        self._threads = [
            threading.Thread(target=self._serve, name=f"fashion-infer-run-{i}", daemon=True) for i in range(len(runs))
        ]
        for thread in self._threads:
            thread.start()
        _live.add(self)

    def call(self, items: list[Item]) -> list[Result]:
        """Run some items and wait for the results: at once and in this thread, if a runner is idle and nobody waits.

        Waking another thread would take longer than all else that is done here, most of all where the cores are busy.

        Raises:
            PredictorClosedError: closed, or in a forked process.
            Exception: what the runner raised.
        """
        self.check_open()
        with self._lock:
            run = self._idle.pop() if self._idle and not self._ready and len(items) <= self._max_batch else None
        if run is not None:
            try:
                return list(run(items))
            finally:
                self._give_back(run)
        futures = []
        for item in items:
            request = self.accept(wait=True)
            self.put(request, item)
            futures.append(request.future)
        return [future.result() for future in futures]

    def accept(self, *, wait: bool, deadline_ms: float | None = None) -> Request[Result]:
        """Take a place in the queue.

        Args:
            wait: for a place when there is none.
            deadline_ms: milliseconds from now until the request's batch must have started.

        Raises:
            QueueFullError: there is no place, and `wait` is False.
            PredictorClosedError: closed, or in a forked process.
        """
        deadline = math.inf if deadline_ms is None else monotonic() + deadline_ms / 1e3
        self.check_open()
        with self._lock:
            while self._waiting >= self._max_queue and not self._closed:
                if not wait:
                    raise QueueFullError(f"{self._max_queue} requests wait already (max_queue): try again later")
                self._room.wait()
            self.check_open()
            self._waiting += 1
        return Request(deadline)

    def put(self, request: Request[Result], item: Item, *, max_delay: float = 0.0) -> None:
        """Hand in the item of an accepted request.

        Args:
            request: from `accept`.
            item: for `run`.
            max_delay: seconds that an idle worker may wait for more items; cut to none by an earlier deadline.
        """
        ready = monotonic()
        request.start_by = ready if request.deadline < ready + max_delay else ready + max_delay
        with self._lock:
            self._ready.append((request, item))
            self._work.notify()

    def fail(self, request: Request[Result], error: Exception) -> None:
        """Give up an accepted request instead of putting it; its future raises the error."""
        with self._lock:
            self._leave(1)
        if request.future.set_running_or_notify_cancel():
            request.future.set_exception(error)

    def refusal(self, request: Request[Result]) -> Exception | None:
        """Why a request need not be worked on: cancelled, late, or closed without draining; None when it must be."""
        if request.future.cancelled():
            return CancelledError()
        if self._cancelled:
            return PredictorClosedError("the Predictor was closed before this request was started")
        if request.deadline < monotonic():
            return DeadlineExceededError("the deadline passed before the network could start")
        return None

    def check_open(self) -> None:
        """Raise PredictorClosedError where nothing is accepted any more."""
        if os.getpid() != self._pid:
            raise PredictorClosedError("this Predictor was loaded before the process forked: load one in each process")
        if self._closed:
            raise PredictorClosedError("this Predictor was closed")

    def stop(self, *, drain: bool = True) -> None:
        """Accept nothing more; what was accepted is finished, or fails with PredictorClosedError where not `drain`."""
        if os.getpid() != self._pid:
            return  # the threads, and whoever held the lock, stayed in the parent
        with self._lock:
            self._closed = True
            self._cancelled = self._cancelled or not drain
            self._work.notify_all()
            self._room.notify_all()

    def close(self, *, drain: bool = True) -> None:
        """`stop`, and wait until the last batch is done."""
        self.stop(drain=drain)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()
        self._idle.clear()  # with them goes what they hold

    def _serve(self) -> None:
        while self._run_one():
            pass

    def _run_one(self) -> bool:
        """Run a batch; False when there will be no more. A function of its own, so that nothing outlives its batch."""
        if (taken := self._take()) is None:
            return False
        run, waited = taken
        batch = [(request, item) for request, item in waited if self._starts(request)]
        try:
            results = run([item for _, item in batch]) if batch else []
            answers = [(request, result) for (request, _), result in zip(batch, results, strict=True)]
        except Exception as error:
            self._give_back(run)
            for request, _ in batch:
                request.future.set_exception(error)
        else:
            self._give_back(run)
            for request, result in answers:
                request.future.set_result(result)
        return True

    def _take(self) -> tuple[Run[Item, Result], list[tuple[Request[Result], Item]]] | None:
        """Wait for a runner and a batch; None when closed and nothing is left."""
        with self._lock:
            while (pause := self._pause()) is None or pause > 0:
                if self._closed and self._waiting == 0:
                    return None
                self._work.wait(None if pause is None else min(pause, threading.TIMEOUT_MAX))
            share = math.ceil(len(self._ready) / len(self._threads))
            batch = [self._ready.popleft() for _ in range(min(self._max_batch, share))]
            run = self._idle.pop()
            self._leave(len(batch))
        return run, batch

    def _give_back(self, run: Run[Item, Result]) -> None:
        with self._lock:
            self._idle.append(run)
            if self._ready:
                self._work.notify()

    def _pause(self) -> float | None:
        """Seconds until the next batch should start; None while there is nothing to run, or nobody to run it."""
        if not self._ready or not self._idle:
            return None
        if self._closed or len(self._ready) >= self._max_batch:
            return 0.0
        return min(request.start_by for request, _ in islice(self._ready, self._max_batch)) - monotonic()

    def _leave(self, places: int) -> None:
        self._waiting -= places
        self._room.notify(places)
        if self._closed and self._waiting == 0:
            self._work.notify_all()

    def _starts(self, request: Request[Result]) -> bool:
        """Whether a request goes into its batch; one that does not is told why, unless its caller cancelled it."""
        if not request.future.set_running_or_notify_cancel():
            return False
        if (error := self.refusal(request)) is not None:
            request.future.set_exception(error)
        return error is None


_live: weakref.WeakSet[Batcher[Any, Any]] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """A thread that is still inside a runtime's C++ when the interpreter goes takes the process down with it."""
    for batcher in list(_live):
        batcher.close(drain=False)
