"""One pool of threads that prepares requests and runs them in batches. Knows no images and no models.

A request passes five steps: accept (a place in the queue) -> prepare (the input becomes items) -> wait for other items
-> run (a batch of items) -> answer (a Future). The caller's thread does the first and the last step only.
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
from time import monotonic
from typing import Any, NamedTuple, TypeVar

from fashion_infer.arguments import number
from fashion_infer.errors import DeadlineExceededError, PredictorClosedError, QueueFullError
from fashion_infer.forks import in_each_child, never_free, wait_for_end_of_this_thread

Answer = TypeVar("Answer")
Run = Callable[[list[Any]], Sequence[Any]]  # items in, as many results out, in order
Job = Callable[[], None]

POLL = 0.01  # seconds between two looks for work, where a thread may not be woken for it

logger = logging.getLogger("fashion_infer")


@dataclass(frozen=True)
class Part:
    """A part of a request that a runner has to run.

    Attributes:
        item: the value that is passed to the runner.
        size: number of places that the part takes up in a batch, at least 1.
    """

    item: Any
    size: int = 1


@dataclass(frozen=True)
class Done:
    """A part of a request whose result is available without a run."""

    result: Any


Prepare = Callable[[], Sequence[Part | Done]]


@dataclass(eq=False)
class _Request:
    """An accepted request.

    Attributes:
        prepare: function that makes the parts.
        finish: function that makes the answer from the results of the parts.
        max_delay: longest time that a part may wait for others to share a batch with, seconds.
        deadline: latest start of the first part, in seconds on the monotonic clock.
        start_by: latest start of a batch with one of these parts while a runner is idle, on the same clock.
        results: one result for each part, None while it is missing.
        missing: number of results that are missing.
        begun: whether the caller still waits for the answer; checked once, when the first part starts, None before.
        answered: whether the future has its answer or is about to get it.
    """

    prepare: Prepare
    finish: Callable[[list[Any]], Any]
    max_delay: float
    deadline: float
    start_by: float = math.inf
    results: list[Any] = field(default_factory=list)
    missing: int = 0
    begun: bool | None = None
    answered: bool = False
    future: Future[Any] = field(default_factory=Future)


class _Entry(NamedTuple):
    """A part that waits for a runner; `place` is its index among the parts of its request."""

    request: _Request
    place: int
    part: Part


class Pool:
    """A bounded queue, a few runners, and the threads that prepare requests and run them.

    Every thread does the same: it takes the most urgent job. A batch starts when it is full, or when the first of its
    parts must start. The waiting parts are divided evenly among the runners, so that all runners end at about the same
    time. Parts start in the order in which they were prepared.

    The caller's thread never prepares or runs a request. Ctrl-C in it, or the end of the process, therefore cannot
    interrupt a runtime. The threads are daemons, but the interpreter waits for them before it ends.

    Attributes:
        batches: number of batches started so far, by the reason for the start (see `_start_reason`) and the places
            filled.
    """

    def __init__(
        self, runs: Sequence[Run], *, preparers: int, max_batch: int, max_queue: int, close: Job = lambda: None
    ) -> None:
        """Start one thread for each runner and for each request that may be prepared at once.

        Args:
            runs: the runners, each used by one thread at a time; an exception of a runner becomes the error of every
                request in the batch.
            preparers: largest number of requests that are prepared at once.
            max_batch: number of places in a batch.
            max_queue: largest number of waiting requests, prepared or not.
            close: function that frees the runners; the last thread to end calls it once.
        """
        self._preparers, self._max_batch, self._max_queue = preparers, max_batch, max_queue
        self._idle, self._runners, self._close_runners = list(runs), len(runs), close
        self._idle_since = monotonic()  # when the first runner became idle after all were busy
        self.batches: Counter[tuple[str, int]] = Counter()
        self._accepted: deque[_Request] = deque()
        self._preparing = 0
        self._ready: deque[_Entry] = deque()
        self._ready_size = 0  # places that the parts in `_ready` take up together
        self._closed = self._cancelled = self._forked = False
        self._lock = threading.RLock()  # reentrant: a finalizer may use the pool while this thread holds the lock
        self._room = threading.Condition(self._lock)
        self._alarms: list[threading.Lock] = []  # of sleeping threads, the last one to fall asleep at the end
        self._threads = tuple(
            threading.Thread(target=self._work, name=f"fashion-infer-{i}", daemon=True)
            for i in range(preparers + len(runs))
        )
        self._alive = len(self._threads)
        _live.add(self)
        for started, thread in enumerate(self._threads):
            try:
                thread.start()
            except BaseException:
                self._alive -= len(self._threads) - started
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
            prepare: function that makes the parts; an exception of it becomes the error of the request.
            finish: function that makes the answer from the results of the parts, in the order of the parts.
            wait: whether to wait for a place while the queue is full. Callbacks in the pool's threads never wait.
            max_delay: longest time that a part may wait for others while a runner is idle, seconds; a request with an
                earlier deadline does not wait.
            deadline_ms: milliseconds from now by which the first part must have started.

        Returns:
            A future with the answer or the exception that `prepare`, the runner or `finish` raised. It raises
            DeadlineExceededError when the deadline passed, and PredictorClosedError when the pool was closed without
            draining. It can be cancelled until the first part starts.

        Raises:
            QueueFullError: the queue is full and `wait` is False.
            PredictorClosedError: the pool is closed, or belongs to the parent of a forked process.
            UsageError: `deadline_ms` is no number.
        """
        deadline = math.inf if deadline_ms is None else monotonic() + number("deadline_ms", deadline_ms) / 1e3
        request = _Request(prepare, finish, max_delay, deadline)
        self.check_open()
        with self._lock:
            while self._waiting() >= self._max_queue and not self._is_own_thread():
                if not wait:
                    raise QueueFullError(f"{self._max_queue} requests wait already (max_queue): try again later")
                self._room.wait()
                self.check_open()
            self.check_open()
            # in this order Ctrl-C between the two lines does no harm: a thread wakes up and finds no job
            self._wake_one()
            self._accepted.append(request)
        return request.future

    def result(self, future: Future[Answer]) -> Answer:
        """Wait for the result of a future; in a callback run other jobs meanwhile. An interrupted wait cancels it."""
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
        """Raise PredictorClosedError if the pool accepts no more requests."""
        if self._forked:
            raise PredictorClosedError("this Predictor was loaded before the process forked: load one in each process")
        if self._closed:
            raise PredictorClosedError("this Predictor was closed")

    def stop(self, *, drain: bool = True) -> None:
        """Accept no more requests; without `drain` the accepted ones fail with PredictorClosedError.

        No lock is taken, because the garbage collector may call this at any moment.
        """
        self._cancelled = self._cancelled or not drain
        self._closed = True
        self._wake_one()  # each thread that ends, or takes a job, wakes the next

    def close(self, *, drain: bool = True) -> None:
        """Stop the pool and wait until its threads have ended and the runners are freed; in a callback do not wait."""
        if self._forked:
            return  # the threads exist in the parent only, and one of them may have held the lock
        self.stop(drain=drain)
        with self._lock:
            self._room.notify_all()
        if not self._is_own_thread():
            for thread in self._threads:
                thread.join()

    def _is_own_thread(self) -> bool:
        return threading.current_thread() in self._threads

    def _waiting(self) -> int:
        """The number of requests and parts in the queue, counted anew each time so that it cannot drift."""
        return len(self._accepted) + self._preparing + len(self._ready)

    def _work(self) -> None:
        wait_for_end_of_this_thread()
        alarm = threading.Lock()
        alarm.acquire()
        while (job := self._wait_for_job(alarm)) is not None:
            job()
            del job  # otherwise its images stay in memory until the next job
        with self._lock:
            self._wake_one()
            self._alive -= 1
            last = self._alive == 0
        if last:
            self._idle.clear()
            close, self._close_runners = self._close_runners, lambda: None
            close()

    def _wait_for_job(self, alarm: threading.Lock) -> Job | None:
        """Wait for the next job; None when there will be no more. A release of the thread's `alarm` wakes it early."""
        while True:
            with self._lock:
                job, pause = self._next_job()
                if job is not None or (self._closed and not self._accepted and not self._ready):
                    return job
                self._alarms.append(alarm)
            if self._closed:  # `stop` takes no lock, so it may have looked for alarms before this one was there
                pause = POLL if pause is None else min(POLL, pause)
            alarm.acquire(timeout=-1 if pause is None else min(max(pause, 0), threading.TIMEOUT_MAX))
            with self._lock:
                self._alarms.remove(alarm)

    def _next_job(self) -> tuple[Job | None, float | None]:
        """Take a job if one is due; otherwise return the seconds until one may be. The caller holds the lock.

        A thread that takes a job wakes another one for the jobs that remain.
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
            self._wake_one()
        return job, None

    def _wake_one(self) -> None:
        """Wake the thread that fell asleep last, if one sleeps. The caller holds the lock, except in `stop`.

        If all threads took turns, the network would run on little more than one core after each pause, and a request
        would take half as long again: probably the next thread is often placed on the core of the runtime's thread.
        """
        alarm = next((alarm for alarm in reversed(self._alarms) if alarm.locked()), None)
        if alarm is not None:
            with suppress(RuntimeError):  # another thread has just released it
                alarm.release()

    def _pause(self) -> float | None:
        """Seconds until the next batch should start; None while no part waits or no runner is idle."""
        if not self._ready or not self._idle:
            return None
        if self._closed or self._ready_size >= self._max_batch:
            return 0.0
        return min(entry.request.start_by for entry in islice(self._ready, self._max_batch)) - monotonic()

    def _take_batch(self) -> list[_Entry]:
        share = min(self._max_batch, math.ceil(self._ready_size / self._runners))
        reason = self._start_reason()
        batch: list[_Entry] = []
        size = 0
        while self._ready and (not batch or size + self._ready[0].part.size <= share):
            batch.append(self._ready.popleft())
            size += batch[-1].part.size
        self._ready_size -= size
        self.batches[reason, size] += 1
        self._room.notify_all()
        return batch

    def _start_reason(self) -> str:
        """Why a batch starts: "full", "closing", "delay" (of a part's `max_delay`) or "idle" (a runner became free)."""
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
        except BaseException as raised:  # a caller waits for an answer, so every exception must reach it
            error = raised
        with self._lock:
            self._preparing -= 1
            self._ready.extend(entries)
            self._ready_size += sum(entry.part.size for entry in entries)
            self._room.notify_all()
        if not entries:
            self._answer(request, error)
        error = None  # the traceback would keep this frame alive

    def _entries(self, request: _Request) -> list[_Entry]:
        """Prepare a request and return the parts that need a runner.

        Raises:
            BaseException: the request was refused or could not be prepared.
        """
        if (refusal := self._refusal(request)) is not None:
            raise refusal
        prepare, request.prepare = request.prepare, list  # releases the input and the Predictor
        parts = prepare()
        request.results = [part.result if isinstance(part, Done) else None for part in parts]
        entries = [_Entry(request, i, part) for i, part in enumerate(parts) if isinstance(part, Part)]
        request.missing = len(entries)
        ready = monotonic()
        request.start_by = ready if request.deadline < ready + request.max_delay else ready + request.max_delay
        return entries

    def _refusal(self, request: _Request) -> Exception | None:
        """The error of a request that is cancelled, late, or closed without draining; None if it is to be run."""
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
        except BaseException as raised:  # every exception must reach the callers
            error = raised
        with self._lock:
            if not self._idle:
                self._idle_since = monotonic()
            self._idle.append(run)
            if self._accepted or self._ready:
                self._wake_one()  # callbacks may block this thread
        for index, (request, place, _) in enumerate(batch):
            if error is None:
                with self._lock:
                    request.results[place] = results[index]
                    request.missing -= 1
                    if request.missing:
                        continue
            self._answer(request, error)
        error = None  # the traceback would keep this frame and its images alive

    def _starts(self, request: _Request) -> bool:
        """Whether a part of a request still has to run; a request that is refused gets its error."""
        with self._lock:
            if request.answered:
                return False
            refusal = self._refusal(request)
            if refusal is None and _begin(request):
                return True
        self._answer(request, refusal)
        return False

    def _answer(self, request: _Request, error: BaseException | None) -> None:
        """Set the result or error of a request, unless it has one or was cancelled. The caller's callbacks run here."""
        with self._lock:
            if request.answered:
                return
            request.answered = True
            if not _begin(request):
                return
        try:
            answer = request.finish(request.results) if error is None else None
        except BaseException as raised:  # every exception must reach the caller
            error = raised
        try:
            if error is None:
                request.future.set_result(answer)
            else:
                request.future.set_exception(error)
        except BaseException:  # raised by a callback: it must not end this thread, which other requests need
            logger.exception("a callback of a Future failed")


def _begin(request: _Request) -> bool:
    """Whether the caller still waits for the answer; afterwards the request cannot be cancelled."""
    if request.begun is None:
        try:
            request.begun = request.future.set_running_or_notify_cancel()
        except RuntimeError:  # the caller has set the result of the future itself
            request.begun = False
    return request.begun


_live: weakref.WeakSet[Pool] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Close all pools before the interpreter ends: a thread inside a runtime's C++ code would crash the process."""
    pools = list(_live)
    for pool in pools:
        pool.stop(drain=False)
    while pools:
        with suppress(KeyboardInterrupt):  # running batches end soon, and aborting would not be faster
            pools[-1].close(drain=False)
            pools.pop()


def _abandon_all() -> None:
    """Mark every pool as unusable in a forked child, which has none of its threads."""
    for pool in list(_live):
        pool._forked = True
        never_free(pool)


in_each_child(_abandon_all)
