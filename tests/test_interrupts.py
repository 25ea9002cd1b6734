import os
import signal
import threading

import pytest

from fashion_infer.interrupts import interruptible


def test_the_first_ctrl_c_sets_the_event_and_the_second_raises() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), interruptible(second_stops=True) as stop:
        assert not stop.is_set()
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.wait(1)
        os.kill(os.getpid(), signal.SIGINT)
        stop.wait(1)
    assert signal.getsignal(signal.SIGINT) is before


def test_without_second_stops_nothing_is_raised() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interruptible(second_stops=False) as stop:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGINT)
            assert stop.wait(1)
    assert signal.getsignal(signal.SIGINT) is before


def test_other_threads_do_not_change_the_handler() -> None:
    states = []

    def use() -> None:
        with interruptible(second_stops=True) as stop:
            states.append((stop.is_set(), signal.getsignal(signal.SIGINT)))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert states == [(False, before)]
