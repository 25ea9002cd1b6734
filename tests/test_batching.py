import random
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from time import monotonic, sleep
from typing import Any

import pytest

from fashion_infer.batching import Done, Part, Pool
from fashion_infer.errors import DeadlineExceededError, PredictorClosedError, QueueFullError

LONG = 60.0  # seconds; longer than any wait below, so a test that waited for it would fail
SOON = 20.0  # seconds that any step of these tests may take, even on a slow machine


class Runner:
    """A runner that squares its items, records its batches and threads, and blocks while its gate is shut."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.started = threading.Semaphore(0)
        self.batches: list[list[int]] = []
        self.threads: list[int] = []

    def __call__(self, items: list[int]) -> list[int]:
        self.batches.append(items)
        self.threads.append(threading.get_ident())
        self.started.release()
        assert self.gate.wait(2 * SOON)
        if 13 in items:
            raise RuntimeError("13 in the batch")
        return [item**2 for item in items if item != 7]  # a runner must not leave out a result, so a 7 is an error

    def shut(self, pool: Pool) -> Future[int]:
        """Shut the gate, and block the runner with a batch of one item, 0."""
        self.gate.clear()
        future = submit(pool, 0)
        assert self.started.acquire(timeout=SOON)
        return future


@contextmanager
def pooling(
    *runs: Callable[[list[int]], list[int]], max_batch: int = 4, max_queue: int = 100, preparers: int = 1
) -> Iterator[Pool]:
    closed: list[int] = []
    pool = Pool(runs, preparers=preparers, max_batch=max_batch, max_queue=max_queue, close=lambda: closed.append(1))
    try:
        yield pool
    finally:
        for run in runs:
            if isinstance(run, Runner):
                run.gate.set()
        pool.close()
        assert not any(thread.is_alive() for thread in pool._threads)
        assert closed == [1]
        assert pool._waiting() == 0


def only(results: list[int]) -> int:
    (result,) = results
    return result


def submit(
    pool: Pool, item: int, *, wait: bool = False, max_delay: float = 0.0, deadline_ms: float | None = None
) -> Future[int]:
    return pool.submit(lambda: [Part(item)], only, wait=wait, max_delay=max_delay, deadline_ms=deadline_ms)


def submit_all(pool: Pool, items: Sequence[int], *, size: int = 1) -> Future[list[int]]:
    """Submit one request of several parts."""
    return pool.submit(lambda: [Part(item, size) for item in items], list, wait=True)


def until(condition: Callable[[], bool]) -> None:
    end = monotonic() + SOON
    while not condition():
        assert monotonic() < end
        sleep(0.001)


def waits(pool: Pool, count: int) -> None:
    """Wait until `count` prepared parts are waiting for a runner."""
    until(lambda: len(pool._ready) == count)


def ctrl_c_soon() -> None:
    """Send SIGINT to this thread after 0.1 s."""
    threading.Timer(0.1, signal.pthread_kill, [threading.get_ident(), signal.SIGINT]).start()


# ---- which batches


def test_every_item_of_every_thread_gets_its_own_result() -> None:
    runners = [Runner(), Runner()]
    with pooling(*runners, max_batch=8, max_queue=5000, preparers=3) as pool, ThreadPoolExecutor(16) as threads:
        items = range(100, 4100)
        futures = list(threads.map(lambda item: submit(pool, item, max_delay=0.001), items))
        assert [future.result(SOON) for future in futures] == [item**2 for item in items]
    batches = [batch for runner in runners for batch in runner.batches]
    assert sorted(item for batch in batches for item in batch) == list(items)
    assert max(map(len, batches)) <= 8


def test_a_full_batch_waits_for_nothing() -> None:
    with pooling(runner := Runner()) as pool:
        futures = [submit(pool, item, max_delay=LONG) for item in (1, 2, 3, 4)]
        assert [future.result(SOON) for future in futures] == [1, 4, 9, 16]
    assert runner.batches == [[1, 2, 3, 4]]


def test_the_window_opens_with_the_first_item_and_gathers_later_ones() -> None:
    with pooling(runner := Runner()) as pool:
        start = monotonic()
        futures = [submit(pool, item, max_delay=delay) for item, delay in ((1, 0.5), (2, LONG), (3, LONG))]
        wait(futures, SOON)
        assert monotonic() - start >= 0.5
    assert runner.batches == [[1, 2, 3]]


def test_an_item_without_delay_starts_a_batch_with_the_waiting_ones() -> None:
    with pooling(runner := Runner()) as pool:
        futures = [submit(pool, 1, max_delay=LONG), submit(pool, 2, max_delay=LONG), submit(pool, 3)]
        wait(futures, SOON)
    assert runner.batches == [[1, 2, 3]]


def test_batches_say_why_they_started() -> None:
    with pooling(runner := Runner()) as pool:
        wait([submit(pool, item, max_delay=LONG) for item in (1, 2, 3, 4)], SOON)
        submit(pool, 5).result(SOON)
        wait([submit(pool, item, max_delay=0.2) for item in (1, 2)], SOON)
        behind = [runner.shut(pool), submit(pool, 1, max_delay=0.01), submit(pool, 2, max_delay=0.01)]
        sleep(0.1)
        runner.gate.set()
        wait(behind, SOON)
        last = submit(pool, 6, max_delay=LONG)
    assert last.result(SOON) == 36
    assert pool.batches == {("full", 4): 1, ("idle", 1): 2, ("delay", 2): 1, ("idle", 2): 1, ("closing", 1): 1}


def test_a_window_ends_in_time_while_other_threads_prepare() -> None:
    """A thread that takes another job wakes a thread that starts the batch when its window ends."""
    blocked = threading.Event()
    with pooling(runner := Runner(), preparers=2) as pool:
        first = submit(pool, 1, max_delay=0.2)
        waits(pool, 1)
        second = pool.submit(lambda: [Part(blocked.wait(SOON) + 1)], only, wait=False)
        assert first.result(SOON) == 1
        assert runner.batches == [[1]]
        blocked.set()
        assert second.result(SOON) == 4


def test_items_that_arrive_while_all_runners_are_busy_share_a_batch_in_order() -> None:
    with pooling(runner := Runner()) as pool:
        runner.shut(pool)
        futures = [submit(pool, item) for item in (5, 3, 9, 1, 8, 2)]
        waits(pool, 6)
        runner.gate.set()
        wait(futures, SOON)
    assert runner.batches == [[0], [5, 3, 9, 1], [8, 2]]


def test_idle_runners_share_the_waiting_items() -> None:
    runners = [Runner(), Runner()]
    with pooling(*runners, max_batch=1) as pool:
        for runner in runners:
            runner.gate.clear()
        futures = [submit(pool, item, max_delay=LONG) for item in (1, 2)]
        assert all(runner.started.acquire(timeout=SOON) for runner in runners)  # both run at the same time
        for runner in runners:
            runner.gate.set()
        assert [future.result(SOON) for future in futures] == [1, 4]


def test_a_runner_takes_only_its_share_of_the_waiting_items() -> None:
    first, second = Runner(), Runner()
    with pooling(first, second, max_batch=8) as pool:
        second.shut(pool)  # the runner that became idle last runs first
        first.shut(pool)
        futures = [submit(pool, item) for item in (1, 2, 3, 4, 5, 6)]
        waits(pool, 6)
        first.gate.set()
        wait(futures, SOON)
    assert first.batches == [[0], [1, 2, 3], [4, 5], [6]]


# ---- requests of several parts


@pytest.mark.parametrize("max_queue", [1, 3, 100])
def test_parts_run_in_batches_and_their_results_keep_the_order(max_queue: int) -> None:
    with pooling(*(runners := [Runner(), Runner()]), max_queue=max_queue) as pool:
        assert pool.result(submit_all(pool, range(20, 40))) == [item**2 for item in range(20, 40)]
    assert max(len(batch) for runner in runners for batch in runner.batches) <= 4


def test_parts_fill_as_many_places_as_their_size() -> None:
    with pooling(runner := Runner(), max_batch=8) as pool:
        runner.shut(pool)
        large, small = submit_all(pool, [1, 2, 3], size=3), submit(pool, 4)
        huge = submit_all(pool, [5], size=20)
        waits(pool, 5)
        runner.gate.set()
        assert (large.result(SOON), small.result(SOON), huge.result(SOON)) == ([1, 4, 9], 16, [25])
    assert runner.batches == [[0], [1, 2], [3, 4], [5]]


def test_results_without_a_run_keep_their_place() -> None:
    with pooling(runner := Runner()) as pool:
        mixed = pool.submit(lambda: [Done("a"), Part(3), Done("b")], list, wait=True)
        assert mixed.result(SOON) == ["a", 9, "b"]
        assert pool.submit(lambda: [Done("a")], list, wait=True).result(SOON) == ["a"]
        assert pool.submit(list, list, wait=True).result(SOON) == []
    assert runner.batches == [[3]]


def test_a_failed_part_fails_its_request_once_and_the_other_parts_do_not_run() -> None:
    with pooling(runner := Runner(), max_batch=1) as pool:
        runner.shut(pool)
        doomed, fine = submit_all(pool, [13, 1, 13, 2]), submit(pool, 3)
        waits(pool, 5)
        runner.gate.set()
        with pytest.raises(RuntimeError, match="13 in the batch"):
            doomed.result(SOON)
        assert fine.result(SOON) == 9
    assert runner.batches == [[0], [13], [3]]


# ---- whose threads


def test_the_callers_thread_neither_prepares_nor_runs() -> None:
    prepared: list[int] = []

    def prepare() -> list[Part]:
        prepared.append(threading.get_ident())
        return [Part(3)]

    with pooling(runner := Runner()) as pool:
        assert pool.result(pool.submit(prepare, only, wait=True)) == 9
        own = [thread.ident for thread in pool._threads]
        assert all(thread.daemon for thread in pool._threads)
    assert prepared[0] in own and runner.threads[0] in own


def test_the_thread_that_prepared_a_lone_request_runs_it_too() -> None:
    with pooling(runner := Runner(), preparers=3) as pool:
        for _ in range(20):
            where = pool.submit(lambda: [Part(threading.get_ident())], only, wait=True)
            ident = int(pool.result(where) ** 0.5 + 0.5)
            assert ident in [thread.ident for thread in pool._threads]
            assert runner.threads[-1] == runner.batches[-1][0]


def test_a_request_does_not_overtake_waiting_ones() -> None:
    with pooling(runner := Runner()) as pool:
        submit(pool, 1, max_delay=LONG)
        assert pool.result(submit(pool, 2)) == 4
    assert runner.batches == [[1, 2]]


@pytest.mark.parametrize("max_queue", [1, 100])
def test_callbacks_may_submit_requests_and_wait_for_them(max_queue: int) -> None:
    with pooling(Runner(), max_queue=max_queue) as pool:
        futures = [submit(pool, item, wait=True) for item in range(20, 26)]
        answers: list[int] = []

        def ask(future: Future[int]) -> None:
            answers.append(pool.result(submit(pool, 2, wait=True)))

        for future in futures:
            future.add_done_callback(ask)
        until(lambda: len(answers) == 6)
    assert answers == [4] * 6


def test_failing_callbacks_do_not_end_threads(caplog: pytest.LogCaptureFixture) -> None:
    with pooling(Runner()) as pool:
        for error in (ValueError, SystemExit, KeyboardInterrupt):

            def fail(_: Future[int], error: type[BaseException] = error) -> None:
                raise error

            future = submit(pool, 2, max_delay=0.1)
            future.add_done_callback(fail)
            assert future.result(SOON) == 4
        until(lambda: len(caplog.records) >= 3)
        assert all(thread.is_alive() for thread in pool._threads)


def test_a_future_that_the_caller_set_does_not_end_a_thread(caplog: pytest.LogCaptureFixture) -> None:
    with pooling(runner := Runner()) as pool:
        running, waiting = runner.shut(pool), submit(pool, 1)
        waits(pool, 1)
        running.set_result(5)
        waiting.set_result(6)
        runner.gate.set()
        assert submit(pool, 3).result(SOON) == 9
        assert all(thread.is_alive() for thread in pool._threads)


# ---- which thread works


def all_asleep(pool: Pool) -> bool:
    return len(pool._alarms) == len(pool._threads)


def test_the_thread_that_worked_last_takes_the_next_of_sparse_requests() -> None:
    with pooling(runner := Runner(), preparers=3) as pool:
        for item in range(20, 40):
            until(lambda: all_asleep(pool))
            submit(pool, item).result(SOON)
        assert len(set(runner.threads)) == 1


def test_every_sleeping_thread_is_woken_when_there_are_jobs_for_all() -> None:
    together = threading.Barrier(5)

    def prepare() -> list[Part]:
        together.wait(SOON)  # passes only when all threads are here, and this one
        return [Part(1)]

    with pooling(Runner(), preparers=4) as pool:
        until(lambda: all_asleep(pool))
        futures = [pool.submit(prepare, only, wait=False) for _ in range(4)]
        together.wait(SOON)
        assert [future.result(SOON) for future in futures] == [1, 1, 1, 1]


# ---- what cannot be prepared


@pytest.mark.parametrize("error", [ValueError("no picture"), KeyboardInterrupt("no"), MemoryError(), SystemExit(3)])
def test_any_exception_while_preparing_is_the_answer_and_frees_the_place(error: BaseException) -> None:
    def fail() -> list[Part]:
        raise error

    with pooling(Runner(), max_queue=1) as pool:
        for _ in range(3):
            with pytest.raises(type(error)):
                pool.result(pool.submit(fail, only, wait=True))
        assert pool.result(submit(pool, 2)) == 4


@pytest.mark.parametrize("prepare", [lambda: None, lambda: [Done(1), Done(2)], lambda: [Part(1), Part(2)]])
def test_a_wrong_result_of_preparing_is_an_error(prepare: Callable[[], Any]) -> None:
    with pooling(Runner()) as pool:
        assert pool.submit(prepare, only, wait=True).exception(SOON) is not None
        assert pool.result(submit(pool, 2)) == 4


# ---- a full queue


def test_a_full_queue_refuses_requests_or_makes_them_wait() -> None:
    with pooling(runner := Runner(), max_queue=3) as pool, ThreadPoolExecutor() as threads:
        runner.shut(pool)
        futures = [submit(pool, item) for item in (1, 2, 3)]
        with pytest.raises(QueueFullError, match="3 requests wait already"):
            submit(pool, 4)
        held = threads.submit(submit, pool, 5, wait=True)
        sleep(0.05)
        assert not held.done()
        runner.gate.set()
        assert held.result(SOON).result(SOON) == 25
        wait(futures, SOON)
        assert submit(pool, 6).result(SOON) == 36
    assert [item for batch in runner.batches for item in batch] == [0, 1, 2, 3, 5, 6]


def test_a_request_that_is_being_prepared_takes_a_place() -> None:
    blocked = threading.Event()
    with pooling(Runner(), max_queue=1) as pool:
        slow = pool.submit(lambda: [Part(blocked.wait(SOON) + 1)], only, wait=False)
        until(lambda: pool._preparing == 1)
        with pytest.raises(QueueFullError):
            submit(pool, 2)
        blocked.set()
        assert slow.result(SOON) == 4
        assert submit(pool, 2).result(SOON) == 4


# ---- deadlines and cancelling


@pytest.mark.parametrize("deadline_ms", [0, -5, 1])
def test_late_requests_get_an_error_and_are_not_run(deadline_ms: float) -> None:
    with pooling(runner := Runner()) as pool:
        runner.shut(pool)
        late, other = submit(pool, 1, deadline_ms=deadline_ms), submit(pool, 2, deadline_ms=1e6)
        sleep(0.01)
        runner.gate.set()
        with pytest.raises(DeadlineExceededError, match="passed before the network could start"):
            late.result(SOON)
        assert other.result(SOON) == 4
    assert runner.batches == [[0], [2]]


def test_late_requests_are_not_prepared() -> None:
    prepared: list[int] = []
    with pooling(runner := Runner()) as pool:
        late = pool.submit(lambda: prepared.append(1) or [Part(1)], only, wait=False, deadline_ms=-1)  # type: ignore[func-returns-value]
        assert isinstance(late.exception(SOON), DeadlineExceededError)
        assert submit(pool, 2).result(SOON) == 4
    assert (runner.batches, prepared) == ([[2]], [])


def test_a_deadline_within_the_window_ends_it() -> None:
    with pooling(Runner()) as pool:
        assert submit(pool, 3, max_delay=LONG, deadline_ms=LONG * 900).result(SOON) == 9


def test_a_request_that_has_begun_in_time_is_finished_after_its_deadline() -> None:
    with pooling(runner := Runner(), max_batch=1) as pool:
        runner.gate.clear()
        future = pool.submit(lambda: [Part(1), Part(2)], list, wait=True, deadline_ms=200)
        assert runner.started.acquire(timeout=SOON)
        sleep(0.3)
        runner.gate.set()
        assert future.result(SOON) == [1, 4]


def test_cancelled_requests_are_not_run() -> None:
    with pooling(runner := Runner()) as pool:
        running = runner.shut(pool)
        cancelled, other = submit(pool, 1), submit(pool, 2)
        assert cancelled.cancel()
        assert not running.cancel()
        runner.gate.set()
        assert other.result(SOON) == 4
        assert wait([cancelled], SOON).done  # `wait` is notified of the cancellation
        with pytest.raises(CancelledError):
            cancelled.result(SOON)
    assert runner.batches == [[0], [2]]


def test_cancelled_requests_hold_their_places_until_they_leave_the_queue() -> None:
    with pooling(runner := Runner(), max_queue=2) as pool:
        runner.shut(pool)
        futures = [submit(pool, item) for item in (1, 2)]
        waits(pool, 2)
        assert all(future.cancel() for future in futures)
        with pytest.raises(QueueFullError):
            submit(pool, 3)
        runner.gate.set()
        until(lambda: not pool._waiting())
        assert submit(pool, 3).result(SOON) == 9


def test_an_interrupted_wait_cancels_its_request() -> None:
    with pooling(runner := Runner()) as pool:
        runner.shut(pool)
        future = submit(pool, 1)
        ctrl_c_soon()
        with pytest.raises(KeyboardInterrupt):
            pool.result(future)
        assert future.cancelled()
    assert runner.batches == [[0]]


def test_ctrl_c_while_waiting_for_a_place_submits_nothing() -> None:
    with pooling(runner := Runner(), max_queue=1) as pool:
        runner.shut(pool)
        waiting = submit(pool, 1)
        ctrl_c_soon()
        with pytest.raises(KeyboardInterrupt):
            submit(pool, 2, wait=True)
        runner.gate.set()
        assert waiting.result(SOON) == 1
        assert submit(pool, 3, wait=True).result(SOON) == 9


# ---- a runner that fails


@pytest.mark.parametrize(("item", "error"), [(13, RuntimeError), (7, RuntimeError)])
def test_an_error_of_a_batch_reaches_all_of_its_requests_and_no_others(item: int, error: type[Exception]) -> None:
    with pooling(runner := Runner()) as pool:
        runner.shut(pool)
        doomed = [submit(pool, i) for i in (1, item, 2, 3)]
        fine = submit(pool, 4)
        waits(pool, 5)
        runner.gate.set()
        for future in doomed:
            with pytest.raises(error):
                future.result(SOON)
        assert fine.result(SOON) == 16


# ---- the end


def test_closing_finishes_the_accepted_requests() -> None:
    blocked = threading.Event()
    with pooling(runner := Runner(), preparers=2) as pool, ThreadPoolExecutor() as threads:
        running = runner.shut(pool)
        waiting = [submit(pool, item, max_delay=LONG) for item in (1, 2)]
        waits(pool, 2)
        accepted = pool.submit(lambda: [Part(blocked.wait(SOON) + 2)], only, wait=False)
        closing = threads.submit(pool.close)
        runner.gate.set()
        assert [future.result(SOON) for future in (running, *waiting)] == [0, 1, 4]
        assert not closing.done()
        blocked.set()
        closing.result(SOON)
        assert accepted.result(0) == 9


@pytest.mark.parametrize("fails", [True, False])
def test_the_last_request_ends_every_thread(fails: bool) -> None:
    blocked = threading.Event()
    with pooling(Runner(), Runner(), Runner(), preparers=3) as pool, ThreadPoolExecutor() as threads:
        accepted = pool.submit(lambda: [Part(3 // (blocked.wait(SOON) - fails))], only, wait=False)
        until(lambda: pool._preparing == 1)
        closing = threads.submit(pool.close)
        until(lambda: pool._closed)
        blocked.set()
        closing.result(SOON)
        assert isinstance(accepted.exception(0), ZeroDivisionError) if fails else accepted.result(0) == 9


def test_closing_without_draining_fails_the_waiting_requests() -> None:
    blocked = threading.Event()
    with pooling(runner := Runner(), preparers=2) as pool, ThreadPoolExecutor() as threads:
        running = runner.shut(pool)
        waiting = [submit(pool, item) for item in (1, 2)]
        waits(pool, 2)
        prepared = pool.submit(lambda: [Part(blocked.wait(SOON) + 2)], only, wait=False)
        until(lambda: pool._preparing == 1)
        closing = threads.submit(pool.close, drain=False)
        until(lambda: pool._cancelled)
        blocked.set()
        runner.gate.set()
        closing.result(SOON)
        assert running.result(0) == 0
        for future in (*waiting, prepared):
            with pytest.raises(PredictorClosedError, match="was closed before this request"):
                future.result(0)
    assert runner.batches == [[0]]


def test_nothing_is_accepted_after_closing() -> None:
    with pooling(Runner()) as pool:
        pool.close()
        pool.close(drain=False)
        for hold in (True, False):
            with pytest.raises(PredictorClosedError, match="was closed"):
                submit(pool, 1, wait=hold)


def test_a_caller_that_waits_for_a_place_gets_an_error_when_the_pool_closes() -> None:
    with pooling(runner := Runner(), max_queue=1) as pool, ThreadPoolExecutor() as threads:
        runner.shut(pool)
        waiting = submit(pool, 1)
        waits(pool, 1)
        held = [threads.submit(submit, pool, 2, wait=True) for _ in range(3)]
        sleep(0.05)
        closing = threads.submit(pool.close)
        for future in held:
            with pytest.raises(PredictorClosedError):
                future.result(SOON)
        runner.gate.set()
        closing.result(SOON)
        assert waiting.result(0) == 1


def test_a_callback_may_close_the_pool() -> None:
    with pooling(runner := Runner()) as pool:
        future = runner.shut(pool)
        closed = threading.Event()

        def close(_: Future[int]) -> None:
            pool.close()
            closed.set()

        future.add_done_callback(close)
        runner.gate.set()
        assert closed.wait(SOON)


def test_stopping_needs_no_lock() -> None:
    """The garbage collector may call `stop` at any moment, in any thread."""
    with pooling(Runner()) as pool, ThreadPoolExecutor() as threads, pool._lock:
        threads.submit(pool.stop).result(SOON)


def test_if_a_thread_cannot_be_started_the_others_end(monkeypatch: pytest.MonkeyPatch) -> None:
    start, started = threading.Thread.start, []

    def limited(thread: threading.Thread) -> None:
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        start(thread)
        started.append(thread)

    closed: list[int] = []
    monkeypatch.setattr(threading.Thread, "start", limited)
    with pytest.raises(RuntimeError, match="can't start"):
        Pool([Runner()], preparers=3, max_batch=1, max_queue=1, close=lambda: closed.append(1))
    for thread in started:
        thread.join(SOON)
        assert not thread.is_alive()
    assert closed == [1]


# ---- all at once


@pytest.mark.parametrize("seed", range(4))
def test_every_request_is_answered_exactly_once(seed: int) -> None:
    runners = [Runner() for _ in range(1 + seed % 3)]
    answers: dict[int, Any] = {}
    lock = threading.Lock()

    def use(thread: int, pool: Pool) -> None:
        choose = random.Random(100 * seed + thread)
        for i in range(200):
            item = 1000 * thread + i + 20
            try:
                if choose.random() < 0.3:
                    answer: Any = pool.result(submit(pool, item, wait=True))
                else:
                    deadline = choose.choice([None, None, 0.0, 0.5, 1000.0])
                    future = submit(pool, item, max_delay=choose.choice([0.0, 0.001]), deadline_ms=deadline)
                    if choose.random() < 0.1:
                        future.cancel()
                    answer = future.result(SOON)
            except (QueueFullError, DeadlineExceededError, CancelledError) as error:
                answer = type(error)
            with lock:
                assert item not in answers
                answers[item] = answer

    with pooling(*runners, max_batch=5, max_queue=8, preparers=3) as pool, ThreadPoolExecutor(12) as threads:
        list(threads.map(lambda thread: use(thread, pool), range(12)))
        until(
            lambda: pool._waiting() == 0 and len(pool._idle) == len(runners)
        )  # cancelled requests may still be in the queue
    assert len(answers) == 12 * 200
    assert all(answer == item**2 for item, answer in answers.items() if isinstance(answer, int))
    run = [item for runner in runners for batch in runner.batches for item in batch]
    assert len(run) == len(set(run))
    assert {item for item, answer in answers.items() if isinstance(answer, int)} == set(run)
