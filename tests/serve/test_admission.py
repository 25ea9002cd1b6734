"""Admission control, with a clock that the tests set."""

import pytest

from fashion_infer.serve import admission
from fashion_infer.serve.admission import Admission
from fashion_infer.serve.problems import RefusedError


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(admission, "monotonic", clock)
    return clock


def keep_busy(gate: Admission, clock: Clock, seconds: float, images: int) -> None:
    """Finish 1000 images, `seconds` apart, while `images` are pending all the time."""
    inside = [gate.admitted(1) for _ in range(images)]
    for admitted in inside:
        admitted.__enter__()
    for _ in range(1000):
        clock.now += seconds
        inside.pop(0).__exit__(None, None, None)
        inside.append(gate.admitted(1))
        inside[-1].__enter__()
    for admitted in inside:
        admitted.__exit__(None, None, None)


def test_it_learns_the_pace_while_all_cores_are_busy(clock) -> None:
    gate = Admission(10.0, cores=2)
    keep_busy(gate, clock, 0.02, images=4)
    assert gate.per_image == pytest.approx(0.02, rel=0.1)
    assert gate.pending == 0


def test_it_learns_nothing_while_a_core_is_idle(clock) -> None:
    gate = Admission(10.0, cores=2)
    gate.per_image = 0.01
    keep_busy(gate, clock, 5.0, images=1)
    assert gate.per_image == 0.01


def test_an_image_that_would_wait_too_long_is_refused(clock) -> None:
    gate = Admission(0.1, cores=2)
    gate.per_image = 0.03
    with gate.admitted(2):
        assert gate.expected_wait() == pytest.approx(0.03)
        with gate.admitted(3):  # a request is admitted by the wait of its first image
            assert gate.expected_wait() == pytest.approx(0.12)
            with pytest.raises(RefusedError, match="5 images are before yours, which would wait 120 ms") as refused:
                gate.check()
            assert refused.value.status == 503
            assert refused.value.headers == {"Retry-After": "1"}
        gate.check()
    assert gate.pending == 0


def test_an_idle_core_admits_an_image_whatever_the_pace(clock) -> None:
    gate = Admission(0.0, cores=2)
    gate.per_image = 100.0
    with gate.admitted(1):
        gate.check()


def test_a_failed_request_is_no_longer_pending_and_does_not_change_the_pace(clock) -> None:
    gate = Admission(1.0, cores=1)
    gate.per_image = 0.5
    with pytest.raises(ValueError, match="bad"), gate.admitted(1):
        clock.now += 30
        raise ValueError("bad")
    assert (gate.pending, gate.per_image) == (0, 0.5)


def test_a_network_that_hangs_is_noticed(clock) -> None:
    gate = Admission(100.0, cores=1)
    assert not gate.is_stalled()
    clock.now += 1000
    assert not gate.is_stalled()  # nothing waits
    with gate.admitted(1):
        assert not gate.is_stalled()
        clock.now += 9
        with gate.admitted(1):
            pass
        clock.now += 9
        assert not gate.is_stalled()  # there was a result in the meantime
        clock.now += 2
        assert gate.is_stalled()
    assert not gate.is_stalled()
