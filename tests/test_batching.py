import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from time import monotonic, sleep
from typing import Any

import pytest

from fashion_infer.batching import Done, Part, Pool
from fashion_infer.errors import DeadlineExceededError, PredictorClosedError, QueueFullError

LONG = 60.0  # seconds: a test that waited for it would be noticed
SOON = 20.0  # seconds within which everything here happens, on the slowest machine


class Runner:
    """Squares its items, remembers the batches it got and the threads that ran them; waits while the gate is shut."""

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
        return [item**2 for item in items if item != 7]  # a 7 is forgotten

    def shut(self, pool: Pool) -> Future[int]:
        """Shut the gate with a batch, of one 0, behind it."""
        self.gate.clear()
        future = submit(pool, 0)
        assert self.started.acquire(timeout=SOON)
        return future


@contextmanager
def pooling(
    *runs: Callable[[list[int]], list[int]], max_batch: int = 4, max_queue: int = 100, preparers: int = 2
) -> Iterator[Pool]:
    closed: list[int] = []
    pool = Pool(
        runs, preparers=preparers, max_batch=max_batch, max_queue=max_queue, close=lambda: closed.append(1)
    )
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
    """One request of several parts."""
    return pool.submit(lambda: [Part(item, size) for item in items], list, wait=True)


def until(condition: Callable[[], bool]) -> None:
    end = monotonic() + SOON
    while not condition():
        assert monotonic() < end
        sleep(0.001)


# ---- which batches


def test_every_item_of_every_thread_gets_its_own_result() -> None:
    runners = [Runner(), Runner()]
    with pooling(*runners, max_batch=8, max_queue=5000) as pool, ThreadPoolExecutor(16) as threads:
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


def test_the_window_opens_with_the_first_item_and_gathers_what_comes() -> None:
    with pooling(runner := Runner()) as pool:
        start = monotonic()
        futures = [submit(pool, item, max_delay=delay) for item, delay in ((1, 0.5), (2, LONG), (3, LONG))]
        wait(futures, SOON)
        assert monotonic() - start >= 0.5
    assert runner.batches == [[1, 2, 3]]


def test_an_item_in_a_hurry_takes_the_waiting_ones_along() -> None:
    with pooling(runner := Runner()) as pool:
        futures = [submit(pool, 1, max_delay=LONG), submit(pool, 2, max_delay=LONG), submit(pool, 3)]
        wait(futures, SOON)
    assert runner.batches == [[1, 2, 3]]


def test_items_that_came_while_all_were_busy_share_a_batch_in_the_order_they_came() -> None:
    with pooling(runner := Runner()) as pool:
        runner.shut(pool)
        futures = [submit(pool, item) for item in (5, 3, 9, 1, 8, 2)]
        runner.gate.set()
        wait(futures, SOON)
    assert runner.batches == [[0], [5, 3, 9, 1], [8, 2]]


def test_idle_runners_share_what_waits() -> None:
    runners = [Runner(), Runner()]
    with pooling(*runners, max_batch=1) as pool:
        for runner in runners:
            runner.gate.clear()
        futures = [submit(pool, item, max_delay=LONG) for item in (1, 2)]
        assert all(runner.started.acquire(timeout=SOON) for runner in runners)  # both at once
        for runner in runners:
            runner.gate.set()
        assert [future.result(SOON) for future in futures] == [1, 4]


def test_a_runner_takes_its_share_and_leaves_the_others_theirs() -> None:
    first, second = Runner(), Runner()
    with pooling(first, second, max_batch=8) as pool:
        second.shut(pool)  # the last of the idle ones goes first
        first.shut(pool)
        futures = [submit(pool, item) for item in (1, 2, 3, 4, 5, 6)]
        first.gate.set()
        wait(futures, SOON)
    assert first.batches == [[0], [1, 2, 3], [4, 5], [6]]


# ---- call


def test_a_lone_call_runs_in_its_own_thread() -> None:
    with pooling(runner := Runner()) as pool:
        assert pool.call([3, 4]) == [9, 16]
        assert pool.call([]) == []
    assert runner.threads == [threading.get_ident()] * 2


def test_a_call_joins_the_queue_when_all_are_busy() -> None:
    with pooling(runner := Runner()) as pool, ThreadPoolExecutor() as threads:
        first = runner.shut(pool)
        waiting = submit(pool, 2, max_delay=LONG)
        called = threads.submit(pool.call, [3, 4])
        until(lambda: pool._waiting == 3)
        runner.gate.set()
        assert called.result(SOON) == [9, 16]
        assert (first.result(SOON), waiting.result(SOON)) == (0, 4)
    assert runner.batches == [[0], [2, 3, 4]]


def test_a_call_does_not_overtake_what_waits() -> None:
    with pooling(runner := Runner()) as pool:
        submit(pool, 1, max_delay=LONG)
        assert pool.call([2]) == [4]
    assert runner.batches == [[1, 2]]


@pytest.mark.parametrize("max_queue", [1, 3, 100])
def test_a_call_with_more_items_than_a_batch_or_the_queue_holds(max_queue: int) -> None:
    with pooling(runner := Runner(), max_queue=max_queue) as pool:
        assert pool.call(list(range(20, 40))) == [item**2 for item in range(20, 40)]
    assert max(map(len, runner.batches)) <= 4


def test_a_call_that_fails_gives_its_runner_back() -> None:
    with pooling(Runner()) as pool:
        with pytest.raises(RuntimeError, match="13"):
            pool.call([13])
        assert pool.call([2]) == [4]
        assert submit(pool, 3).result(SOON) == 9


# ---- a full queue


def test_a_full_queue_refuses_those_who_do_not_wait_and_holds_the_others() -> None:
    with pooling(runner := Runner(), max_queue=3) as pool, ThreadPoolExecutor() as threads:
        runner.shut(pool)
        futures = [submit(pool, item) for item in (1, 2, 3)]
        with pytest.raises(QueueFullError, match="3 requests wait already"):
            submit(pool, 4)
        held = threads.submit(pool.accept, wait=True)
        sleep(0.05)
        assert not held.done()
        runner.gate.set()
        pool.put(held.result(SOON), 5)
        wait(futures, SOON)
        assert submit(pool, 6).result(SOON) == 36
    assert [item for batch in runner.batches for item in batch] == [0, 1, 2, 3, 5, 6]


def test_what_is_accepted_but_not_put_takes_a_place_until_it_fails() -> None:
    with pooling(Runner(), max_queue=1) as pool:
        request = pool.accept(wait=False)
        with pytest.raises(QueueFullError):
            pool.accept(wait=False)
        pool.fail(request, ValueError("no picture"))
        with pytest.raises(ValueError, match="no picture"):
            request.future.result(SOON)
        assert submit(pool, 2).result(SOON) == 4


# ---- deadlines and cancelling


@pytest.mark.parametrize("deadline_ms", [0, -5, 1])
def test_what_is_late_is_told_so_and_never_run(deadline_ms: float) -> None:
    with pooling(runner := Runner()) as pool:
        runner.shut(pool)
        late, other = submit(pool, 1, deadline_ms=deadline_ms), submit(pool, 2, deadline_ms=1e6)
        sleep(0.01)
        runner.gate.set()
        with pytest.raises(DeadlineExceededError, match="passed before the network could start"):
            late.result(SOON)
        assert other.result(SOON) == 4
    assert runner.batches == [[0], [2]]


def test_a_batch_of_late_requests_is_not_run_at_all() -> None:
    with pooling(runner := Runner()) as pool:
        assert isinstance(submit(pool, 1, deadline_ms=-1).exception(SOON), DeadlineExceededError)
        assert submit(pool, 2).result(SOON) == 4
    assert runner.batches == [[2]]


def test_a_deadline_within_the_window_ends_it() -> None:
    with pooling(Runner()) as pool:
        assert submit(pool, 3, max_delay=LONG, deadline_ms=LONG * 900).result(SOON) == 9


def test_what_its_caller_cancelled_is_not_run() -> None:
    with pooling(runner := Runner()) as pool:
        running = runner.shut(pool)
        cancelled, other = submit(pool, 1), submit(pool, 2)
        assert cancelled.cancel()
        assert not running.cancel()
        runner.gate.set()
        assert other.result(SOON) == 4
        with pytest.raises(CancelledError):
            cancelled.result(SOON)
    assert runner.batches == [[0], [2]]


def test_cancelled_requests_hold_their_places_until_they_leave_the_queue() -> None:
    with pooling(runner := Runner(), max_queue=2) as pool:
        runner.shut(pool)
        for item in (1, 2):
            submit(pool, item).cancel()
        with pytest.raises(QueueFullError):
            submit(pool, 3)
        runner.gate.set()
        until(lambda: not pool._waiting)
        assert submit(pool, 3).result(SOON) == 9


def test_a_request_that_was_cancelled_before_it_was_put() -> None:
    with pooling(runner := Runner()) as pool:
        put, failed = pool.accept(wait=False), pool.accept(wait=False)
        assert put.future.cancel() and failed.future.cancel()
        assert isinstance(pool.refusal(put), CancelledError)
        pool.put(put, 1)
        pool.fail(failed, ValueError())
    assert runner.batches == []


# ---- a runner that fails


@pytest.mark.parametrize(("item", "error"), [(13, RuntimeError), (7, ValueError)])
def test_an_error_of_a_batch_reaches_all_of_it_and_nobody_else(item: int, error: type[Exception]) -> None:
    with pooling(runner := Runner()) as pool:
        runner.shut(pool)
        doomed = [submit(pool, i) for i in (1, item, 2, 3)]
        fine = submit(pool, 4)
        runner.gate.set()
        for future in doomed:
            with pytest.raises(error):
                future.result(SOON)
        assert fine.result(SOON) == 16


# ---- the end


def test_closing_finishes_what_was_accepted() -> None:
    with pooling(runner := Runner()) as pool, ThreadPoolExecutor() as threads:
        running = runner.shut(pool)
        waiting = [submit(pool, item, max_delay=LONG) for item in (1, 2)]
        accepted = pool.accept(wait=False)
        closing = threads.submit(pool.close)
        runner.gate.set()
        assert [future.result(SOON) for future in (running, *waiting)] == [0, 1, 4]
        assert not closing.done()
        pool.put(accepted, 3)
        closing.result(SOON)
        assert accepted.future.result(0) == 9


@pytest.mark.parametrize("fails", [True, False])
def test_the_last_request_ends_every_thread(fails: bool) -> None:
    with pooling(Runner(), Runner(), Runner()) as pool, ThreadPoolExecutor() as threads:
        accepted = pool.accept(wait=False)
        closing = threads.submit(pool.close)
        until(lambda: pool._closed)
        sleep(0.05)  # all wait for it
        if fails:
            pool.fail(accepted, ValueError("no picture"))
        else:
            pool.put(accepted, 2)
        closing.result(SOON)
        assert accepted.future.done()


def test_closing_without_draining_fails_what_waits() -> None:
    with pooling(runner := Runner()) as pool, ThreadPoolExecutor() as threads:
        running = runner.shut(pool)
        waiting = [submit(pool, item) for item in (1, 2)]
        accepted = pool.accept(wait=False)
        closing = threads.submit(pool.close, drain=False)
        until(lambda: pool._cancelled)
        assert isinstance(pool.refusal(accepted), PredictorClosedError)
        pool.put(accepted, 3)
        runner.gate.set()
        closing.result(SOON)
        assert running.result(0) == 0
        for future in (*waiting, accepted.future):
            with pytest.raises(PredictorClosedError, match="before this request was started"):
                future.result(0)
    assert runner.batches == [[0]]


def test_nothing_is_accepted_after_closing() -> None:
    with pooling(Runner()) as pool:
        pool.close()
        pool.close(drain=False)
        for use in (lambda: pool.accept(wait=True), lambda: pool.accept(wait=False), lambda: pool.call([1])):
            with pytest.raises(PredictorClosedError, match="was closed"):
                use()


def test_who_waits_for_a_place_hears_of_the_end() -> None:
    with pooling(runner := Runner(), max_queue=1) as pool, ThreadPoolExecutor() as threads:
        runner.shut(pool)
        submit(pool, 1)
        held = threads.submit(pool.accept, wait=True)
        sleep(0.05)
        pool.stop()
        with pytest.raises(PredictorClosedError):
            held.result(SOON)


def test_a_callback_may_close() -> None:
    with pooling(runner := Runner()) as pool:
        future = runner.shut(pool)
        closed = threading.Event()

        def close(_: Future[int]) -> None:
            pool.close()
            closed.set()

        future.add_done_callback(close)
        runner.gate.set()
        assert closed.wait(SOON)


# ---- all at once


@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_every_request_is_answered_once(seed: int) -> None:
    runners = [Runner() for _ in range(1 + seed % 3)]
    answers: dict[int, Any] = {}
    lock = threading.Lock()

    def use(thread: int, pool: Pool) -> None:
        choose = random.Random(100 * seed + thread)
        for i in range(200):
            item = 1000 * thread + i + 20
            try:
                if choose.random() < 0.3:
                    answer: Any = pool.call([item])[0]
                else:
                    deadline = choose.choice([None, None, 0.0, 0.5, 1000.0])
                    future = submit(pool, item, max_delay=choose.choice([0.0, 0.001]), deadline_ms=deadline)
                    if choose.random() < 0.1:
                        future.cancel()
                    answer = future.result(SOON)
            except (QueueFullError, DeadlineExceededError, PredictorClosedError, CancelledError) as error:
                answer = type(error)
            with lock:
                assert item not in answers
                answers[item] = answer

    with pooling(*runners, max_batch=5, max_queue=8) as pool, ThreadPoolExecutor(12) as threads:
        list(threads.map(lambda thread: use(thread, pool), range(12)))
        until(lambda: pool._waiting == 0 and len(pool._idle) == len(runners))  # the last ones were cancelled
    assert len(answers) == 12 * 200
    assert all(answer == item**2 for item, answer in answers.items() if isinstance(answer, int))
    run = [item for runner in runners for batch in runner.batches for item in batch]
    assert len(run) == len(set(run))
    assert {item for item, answer in answers.items() if isinstance(answer, int)} == set(run)
