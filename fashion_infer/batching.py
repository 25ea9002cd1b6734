"""One pool of threads that prepares requests and runs them in batches. Knows no images and no models.

A request passes five stations, and its caller's thread is at the first and at the last of them only:
accept (a place in the queue) -> prepare (what was given becomes items) -> wait for company -> run (a batch of items, on
a runner) -> answer (a Future).
"""

import atexit
import logging
import math
import threading
import weakref
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, NamedTuple, TypeVar

from fashion_infer.errors import DeadlineExceededError, PredictorClosedError, QueueFullError
from fashion_infer.forks import in_each_child, never_free

Answer = TypeVar("Answer")
Run = Callable[[list[Any]], Sequence[Any]]  # items in, as many results out, in order
Job = Callable[[], None]

POLL = 0.01  # seconds after which a thread of the pool that waits for a result looks for work again

logger = logging.getLogger("fashion_infer")


@dataclass(frozen=True)
class Part:
    """A part of a request that a runner has to run.

    Attributes:
        item: what the runner gets.
        size: places of a batch that it fills, at least 1.
    """

    item: Any
    size: int = 1


@dataclass(frozen=True)
class Done:
    """A part of a request whose result is there before anything has run."""

    result: Any


Prepare = Callable[[], Sequence[Part | Done]]


@dataclass(eq=False)
class _Request:
    """An accepted request.

    Attributes:
        prepare: makes its parts.
        finish: makes its answer of the results of its parts.
        max_delay: seconds that its parts may wait for company.
        deadline: on the monotonic clock, seconds: its first part must have started by then.
        start_by: when a batch with one of its parts starts at the latest if a runner is idle, on the same clock.
        results: of its parts; those that are still to come are None.
        left: how many are still to come.
        begun: whether its caller still waits for it, asked once when the first part starts; None until then.
        answered: whether the future has been, or is just being, given its answer.
    """

    prepare: Prepare
    finish: Callable[[list[Any]], Any]
    max_delay: float
    deadline: float
    start_by: float = math.inf
    results: list[Any] = field(default_factory=list)
    left: int = 0
    begun: bool | None = None
    answered: bool = False
    future: Future[Any] = field(default_factory=Future)


class _Entry(NamedTuple):
    """A part that waits for a runner: the `place`-th of its request."""

    request: _Request
    place: int
    part: Part


class Pool:
    """A bounded queue, a few runners, and the threads that prepare requests and run them.

    All threads are alike: each takes the most urgent job that there is. A batch starts when it is full, or when the
    first of its parts must start. It takes a runner's share of what waits, so that all runners end at about the same
    time. Parts start in the order in which they were prepared.

    A caller's thread never prepares or runs anything, so that whatever happens to it, Ctrl-C or the end of the process,
    no runtime is left half-way. The threads are daemons, but the interpreter waits for them before it ends.

    Attributes:
        batches: how many have started so far, by why they did (see `_why`) and by the places that they filled.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        *,
        preparers: int,
        max_batch: int,
        max_queue: int,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        """Start the threads: one for each runner, and as many as prepare requests at once.

        Args:
            runs: the runners, each used by one thread at a time; what one raises becomes the error of every request
                in the batch.
            preparers: requests that are prepared at once, at most.
            max_batch: places of a batch.
            max_queue: requests that wait at most, prepared or not.
            close: frees the runners; called once, by the last thread to end.
        """
        self._preparers, self._max_batch, self._max_queue = preparers, max_batch, max_queue
        self._idle, self._runners, self._close_runners = list(runs), len(runs), close
        self._idle_since = monotonic()  # when a runner became idle while no other was
        self.batches: Counter[tuple[str, int]] = Counter()
        self._accepted: deque[_Request] = deque()
        self._preparing = 0
        self._ready: deque[_Entry] = deque()
        self._ready_size = 0  # places of a batch that all of `_ready` would fill
        self._closed = self._cancelled = self._forked = False
        self._lock = threading.RLock()  # reentrant: the garbage collector may call whatever uses the pool in between
        self._room = threading.Condition(self._lock)
        self._wake: SimpleQueue[None] = SimpleQueue()  # each item wakes one thread, now or when it next falls asleep
        self._threads = tuple(
            threading.Thread(target=self._work, name=f"fashion-infer-{i}", daemon=True)
            for i in range(preparers + len(runs))
        )
        self._alive = len(self._threads)
        _live.add(self)
        for number, thread in enumerate(self._threads):
            try:
                thread.start()
            except BaseException:
                self._alive -= len(self._threads) - number
                self.stop(drain=False)
                raise

    def submit(
        self,
        prepare: Prepare,
        finish: Callable[[list[Any]], Answer],
        *,
        wait: bool,
        max_delay: float = 0.0,
        deadline_ms: float | None = None,
    ) -> Future[Answer]:
        """Accept a request.

        Args:
            prepare: makes its parts; what it raises becomes the request's error.
            finish: makes the answer of the results of the parts, in their order.
            wait: for a place in the queue when there is none. A thread of the pool, in a callback, is never held back.
            max_delay: seconds that a part may wait for company while a runner is idle; none with an earlier deadline.
            deadline_ms: milliseconds from now by which the first part must have started.

        Returns:
            The answer, or what was raised on the way; DeadlineExceededError; PredictorClosedError when the pool was
            closed without draining. Cancelling it works until the first part starts.

        Raises:
            QueueFullError: there is no place, and `wait` is False.
            PredictorClosedError: closed, or in a forked process.
        """
        deadline = math.inf if deadline_ms is None else monotonic() + deadline_ms / 1e3
        request = _Request(prepare, finish, max_delay, deadline)
        self.check_open()
        with self._lock:
            while self._waiting() >= self._max_queue and not self._is_own_thread():
                if not wait:
                    raise QueueFullError(f"{self._max_queue} requests wait already (max_queue): try again later")
                self._room.wait()
                self.check_open()
            self.check_open()
            # Ctrl-C may come between any two steps: woken for nothing is no harm, and what is appended is answered
            self._wake.put(None)
            self._accepted.append(request)
        return request.future

    def result(self, future: Future[Answer]) -> Answer:
        """The result of a future of this pool; it is cancelled when the wait is interrupted.

        A thread of the pool, in a callback, works on while it waits.
        """
        try:
            while self._is_own_thread() and not future.done():
                with self._lock:
                    job, pause = self._next_job()
                if job is None:
                    wait([future], POLL if pause is None else min(POLL, pause))
                else:
                    job()
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def check_open(self) -> None:
        """Raise PredictorClosedError where nothing is accepted any more."""
        if self._forked:
            raise PredictorClosedError("this Predictor was loaded before the process forked: load one in each process")
        if self._closed:
            raise PredictorClosedError("this Predictor was closed")

    def stop(self, *, drain: bool = True) -> None:
        """Accept nothing more; what was accepted is finished, or fails with PredictorClosedError where not `drain`.

        It takes no lock, so that the garbage collector may call it at any moment.
        """
        self._cancelled = self._cancelled or not drain
        self._closed = True
        self._wake.put(None)  # each thread that ends, or takes a job, wakes the next

    def close(self, *, drain: bool = True) -> None:
        """`stop`, and wait until all threads have ended and the runners are freed; a callback does not wait."""
        if self._forked:
            return  # the threads, and whoever held the lock, stayed in the parent
        self.stop(drain=drain)
        with self._lock:
            self._room.notify_all()
        if not self._is_own_thread():
            for thread in self._threads:
                thread.join()

    def _is_own_thread(self) -> bool:
        return threading.current_thread() in self._threads

    def _waiting(self) -> int:
        """Places that are taken; counted from what is there, so that none can leak."""
        return len(self._accepted) + self._preparing + len(self._ready)

    def _work(self) -> None:
        while (job := self._wait_for_job()) is not None:
            job()
            del job  # or its images would stay until the next one comes
        self._wake.put(None)
        with self._lock:
            self._alive -= 1
            last = self._alive == 0
        if last:
            self._idle.clear()
            close, self._close_runners = self._close_runners, lambda: None
            close()

    def _wait_for_job(self) -> Job | None:
        """The next job; None when there will be no more."""
        while True:
            with self._lock:
                job, pause = self._next_job()
                if job is not None or (self._closed and not self._accepted and not self._ready):
                    return job
            with suppress(Empty):
                self._wake.get(timeout=None if pause is None else min(pause, threading.TIMEOUT_MAX))

    def _next_job(self) -> tuple[Job | None, float | None]:
        """A job if one is due, and else the seconds until one may be; under the lock.

        Who leaves with a job wakes another thread to look after the rest.
        """
        pause = self._pause()
        if pause is not None and pause <= 0:
            job = partial(self._run, self._idle.pop(), self._take_batch())
        elif self._accepted and self._preparing < self._preparers:
            self._preparing += 1
            job = partial(self._prepare, self._accepted.popleft())
        else:
            return None, pause
        if self._accepted or self._ready:
            self._wake.put(None)
        return job, None

    def _pause(self) -> float | None:
        """Seconds until the next batch should start; None while there is nothing to run, or nobody to run it."""
        if not self._ready or not self._idle:
            return None
        if self._closed or self._ready_size >= self._max_batch:
            return 0.0
        return min(entry.request.start_by for entry in islice(self._ready, self._max_batch)) - monotonic()

    def _take_batch(self) -> list[_Entry]:
        share = min(self._max_batch, math.ceil(self._ready_size / self._runners))
        why = self._why()
        batch: list[_Entry] = []
        size = 0
        while self._ready and (not batch or size + self._ready[0].part.size <= share):
            batch.append(self._ready.popleft())
            size += batch[-1].part.size
        self._ready_size -= size
        self.batches[why, size] += 1
        self._room.notify_all()
        return batch

    def _why(self) -> str:
        """Why a batch starts now: "full"; "closing"; "delay", its parts waited as long as they may; or "idle".

        "idle" says that nothing but a free runner was waited for.
        """
        if self._ready_size >= self._max_batch:
            return "full"
        if self._closed:
            return "closing"
        first = min((entry.request for entry in self._ready), key=lambda request: request.start_by)
        return "delay" if first.max_delay > 0 and first.start_by > self._idle_since else "idle"

    def _prepare(self, request: _Request) -> None:
        entries, error = [], None
        try:
            entries = self._entries(request)
        except BaseException as raised:  # whatever it is, somebody waits for an answer
            error = raised
        with self._lock:
            self._preparing -= 1
            self._ready.extend(entries)
            self._ready_size += sum(entry.part.size for entry in entries)
            self._room.notify_all()
        if not entries:
            self._answer(request, error)
        error = None  # its traceback holds this frame

    def _entries(self, request: _Request) -> list[_Entry]:
        """What a request brings to the runners.

        Raises:
            BaseException: it was refused, or could not be prepared.
        """
        if (refusal := self._refusal(request)) is not None:
            raise refusal
        prepare, request.prepare = request.prepare, list  # what was given is let go, most of all the Predictor
        parts = prepare()
        request.results = [part.result if isinstance(part, Done) else None for part in parts]
        entries = [_Entry(request, i, part) for i, part in enumerate(parts) if isinstance(part, Part)]
        request.left = len(entries)
        ready = monotonic()
        request.start_by = ready if request.deadline < ready + request.max_delay else ready + request.max_delay
        return entries

    def _refusal(self, request: _Request) -> Exception | None:
        """Why a request need not be worked on: cancelled, late, or closed without draining; None when it must be."""
        if request.future.cancelled():
            return CancelledError()
        if self._cancelled:
            return PredictorClosedError("the Predictor was closed before this request was done")
        if request.begun is None and request.deadline < monotonic():
            return DeadlineExceededError("the deadline passed before the network could start")
        return None

    def _run(self, run: Run, batch: list[_Entry]) -> None:
        batch = [entry for entry in batch if self._starts(entry.request)]
        results: Sequence[Any] = []
        error = None
        try:
            results = run([entry.part.item for entry in batch]) if batch else []
            if len(results) != len(batch):
                raise RuntimeError(f"a runner gave {len(results)} results for {len(batch)} items")
        except BaseException as raised:  # as above
            error = raised
        with self._lock:
            if not self._idle:
                self._idle_since = monotonic()
            self._idle.append(run)
            if self._accepted or self._ready:
                self._wake.put(None)  # callbacks may keep this thread
        for number, (request, place, _) in enumerate(batch):
            if error is None:
                with self._lock:
                    request.results[place] = results[number]
                    request.left -= 1
                    if request.left:
                        continue
            self._answer(request, error)
        error = None  # its traceback holds this frame, and this frame the images

    def _starts(self, request: _Request) -> bool:
        """Whether a part of a request goes into its batch; a request that does not is told why."""
        with self._lock:
            if request.answered:
                return False
            refusal = self._refusal(request)
            if refusal is None and _begin(request):
                return True
        self._answer(request, refusal)
        return False

    def _answer(self, request: _Request, error: BaseException | None) -> None:
        """Give a request its answer, unless it has one or was cancelled. Callbacks of the caller run here."""
        with self._lock:
            if request.answered:
                return
            request.answered = True
            if not _begin(request):
                return
        try:
            answer = request.finish(request.results) if error is None else None
        except BaseException as raised:  # as above
            error = raised
        try:
            if error is None:
                request.future.set_result(answer)
            else:
                request.future.set_exception(error)
        except BaseException:  # of a callback: it must not end a thread that others rely on
            logger.exception("a callback of a Future failed")


def _begin(request: _Request) -> bool:
    """Whether the caller of a request still waits for its answer; from then on it cannot be cancelled."""
    if request.begun is None:
        try:
            request.begun = request.future.set_running_or_notify_cancel()
        except RuntimeError:  # somebody else has set the future's result
            request.begun = False
    return request.begun


_live: weakref.WeakSet[Pool] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """A thread that is still inside a runtime's C++ when the interpreter goes takes the process down with it."""
    pools = list(_live)
    for pool in pools:
        pool.stop(drain=False)
    while pools:
        with suppress(KeyboardInterrupt):  # the batches that run end soon; an abort would be no faster
            pools[-1].close(drain=False)
            pools.pop()


def _abandon_all() -> None:
    """In a forked child, where no thread of a pool lives."""
    for pool in list(_live):
        pool._forked = True
        never_free(pool)


in_each_child(_abandon_all)
