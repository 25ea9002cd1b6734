"""When the objects of CUDA and TensorRT end, against the stand-in of test_sequence.py."""

import os
from typing import Any

import pytest

from fashion_infer.errors import EngineMismatchError

pytest.importorskip("tensorrt_rtx")
pytest.importorskip("cuda.bindings.runtime")

from fashion_infer.tensorrt import session
from fashion_infer.tensorrt.session import TensorRTBackend


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_frees_nothing(stand_in: Any) -> None:
    backend = TensorRTBackend(stand_in.plan, sessions=1)
    before = len(stand_in.calls)
    child = os.fork()
    if child == 0:
        backend.close()
        held = backend
        del backend, held
        os._exit(0 if len(stand_in.calls) == before and stand_in.contexts else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    backend.close()
    assert stand_in.left == []
    assert stand_in.violations == []


def test_what_nobody_closed_is_not_destroyed_by_the_collector(stand_in: Any) -> None:
    """The last reference may be dropped in any thread, in which no GPU is current."""
    others = set(session._open)
    backend = TensorRTBackend(stand_in.plan, sessions=1)
    kept, before = sorted(stand_in.left), len(stand_in.calls)
    del backend
    assert sorted(stand_in.left) == kept
    assert len(stand_in.calls) == before
    for backend in session._open - others:
        backend.close()
    assert stand_in.violations == []
    assert stand_in.left == []


def test_what_a_failed_load_made_ends_while_the_gpu_is_current(stand_in: Any) -> None:
    """The error is still there, and its traceback knows every function that failed."""
    stand_in.trt.engine.num_optimization_profiles = 5
    with pytest.raises(EngineMismatchError, match="and 5 profiles, its description") as caught:
        TensorRTBackend(stand_in.plan, sessions=1)
    assert stand_in.left == []
    assert stand_in.violations == []
    assert caught.value.__traceback__ is not None


def test_memory_is_taken_for_the_profiles_that_the_callers_batches_need(stand_in: Any) -> None:
    def activations(max_batch: int | None) -> int:
        backend = TensorRTBackend(stand_in.plan, sessions=1, max_batch=max_batch)
        (context,) = stand_in.contexts
        (memory,) = (memory for memory in stand_in.memory["device"] if memory.address == context.activations)
        del context
        backend.close()
        return int(memory.end - memory.address)

    assert [activations(4), activations(5), activations(None)] == [4000, 32000, 32000]  # 1000 bytes an image
    assert stand_in.violations == []
    assert stand_in.left == []


def test_what_was_closed_is_closed_once(stand_in: Any) -> None:
    backend = TensorRTBackend(stand_in.plan, sessions=1)
    backend.close()
    backend.close()
    assert stand_in.violations == []
    assert stand_in.left == []
