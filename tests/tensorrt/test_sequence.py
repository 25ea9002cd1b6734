"""The order of the calls of CUDA and TensorRT, against a stand-in that checks the documented rules, not results."""

import gc
import logging
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from fashion_infer import Predictor
from fashion_infer.backends import Outputs, Runner
from fashion_infer.errors import DeviceError, EngineMismatchError, FashionInferError, ModelError

pytest.importorskip("tensorrt_rtx")
rt = pytest.importorskip("cuda.bindings.runtime")

from fashion_infer.tensorrt.session import TensorRTBackend  # noqa: E402

CODES = rt.cudaError_t
COUNTS = (1, 3, 33, 1, 8)
FREES = {"cudaFree", "cudaFreeHost", *(f"cuda{kind}Destroy" for kind in ("Stream", "Event", "Graph", "GraphExec"))}


def _pictures(rows: int, first: int = 0) -> np.ndarray:
    """Pictures of one value each, which the stand-in's outputs repeat."""
    return np.broadcast_to(np.arange(first, first + rows, dtype=np.uint8)[:, None, None, None], (rows, 8, 8, 3)).copy()


def _check(outputs: dict[str, np.ndarray], pictures: np.ndarray) -> None:
    assert outputs["category"].shape == (len(pictures), 3)
    for values in outputs.values():
        assert values.dtype == np.float32
        assert np.array_equal(values.reshape(len(pictures), -1)[:, 0], pictures[:, 0, 0, 0])


def _use(cuda: Any, sessions: int = 1) -> None:
    backend = TensorRTBackend(cuda.plan, sessions=sessions)
    try:
        for count in COUNTS:
            _check(backend.run(_pictures(count)), _pictures(count))
    finally:
        backend.close()


def test_no_rule_is_broken_and_everything_is_freed(stand_in: Any) -> None:
    _use(stand_in, sessions=2)
    assert stand_in.violations == []
    assert stand_in.left == []
    assert stand_in.stack == []
    assert gc.isenabled()


def test_a_batch_that_nearly_fits_is_filled_up_and_another_goes_in_parts(stand_in: Any) -> None:
    backend = TensorRTBackend(stand_in.plan, sessions=1)
    for count, launches in ((1, 1), (3, 1), (33, 2), (40, 2), (31, 1), (17, 2)):
        backend.run(_pictures(count))  # whatever is lazily made, is
        before = stand_in.calls.count("cudaGraphLaunch")
        _check(backend.run(_pictures(count)), _pictures(count))
        assert stand_in.calls.count("cudaGraphLaunch") - before == launches, count
    backend.close()
    assert stand_in.violations == []


def test_loading_captures_one_graph_and_later_runs_one_each(stand_in: Any) -> None:
    backend = TensorRTBackend(stand_in.plan, sessions=2)
    assert stand_in.calls.count("cudaStreamBeginCapture") == 2
    backend.run(_pictures(30))
    backend.run(_pictures(30))
    assert stand_in.calls.count("cudaStreamBeginCapture") == 3
    assert stand_in.calls.count("cudaGraphUpload") == 3
    backend.close()


def test_no_buffer_is_larger_than_the_callers_batches_need(stand_in: Any) -> None:
    backend = TensorRTBackend(stand_in.plan, sessions=1, max_batch=3)
    pinned = stand_in.memory["pinned"]
    assert max(memory.end - memory.address for memory in pinned) <= max(4 * 8 * 8 * 3, 6 * 256 + 4 * 4 * 64)
    _check(backend.run(_pictures(9)), _pictures(9))
    backend.close()
    assert stand_in.violations == []


@pytest.mark.parametrize("code", ["cudaErrorMemoryAllocation", "cudaErrorInvalidValue", "cudaErrorIllegalAddress"])
def test_an_error_at_any_call_is_typed_and_leaves_nothing_behind(stand_in: Any, code: str) -> None:
    _use(stand_in)
    count = len(stand_in.calls)
    assert count > 80
    seen: set[type] = set()
    for number in range(count):
        stand_in.calls.clear()
        stand_in.fail, stand_in.sticky = {number: getattr(CODES, code)}, None
        name = ""
        try:
            _use(stand_in)
        except (FashionInferError, MemoryError) as error:
            seen.add(type(error))
            name = f"{type(error).__name__}: {error}"
        where = f"call {number}: {stand_in.calls[number]}: {name}"
        freeing = stand_in.calls[number].endswith(("Free", "FreeHost", "Destroy"))  # what CUDA refuses to free stays
        assert freeing or stand_in.violations == [], where
        assert stand_in.stack == [], where
        assert gc.isenabled(), where
        assert stand_in.last_error == CODES.cudaSuccess, where
        if code != "cudaErrorIllegalAddress" and not freeing:
            assert stand_in.left == [], where
        _forget(stand_in)
    assert seen
    kinds = {DeviceError, MemoryError, ModelError, EngineMismatchError}
    assert seen <= ({DeviceError} if code == "cudaErrorIllegalAddress" else kinds)


def _forget(stand_in: Any) -> None:
    stand_in.handles.clear()
    stand_in.contexts.clear()
    stand_in.objects.clear()
    for memory in stand_in.memory.values():
        memory.clear()
    stand_in.violations.clear()  # last: with what was not freed, engines end


@pytest.mark.parametrize("code", ["cudaErrorMemoryAllocation", "cudaErrorInvalidValue"])
def test_the_next_batch_runs_after_one_that_failed(stand_in: Any, code: str) -> None:
    backend = TensorRTBackend(stand_in.plan, sessions=1)
    backend.run(_pictures(30))
    begin = len(stand_in.calls)
    backend.run(_pictures(30))
    for number in range(begin, len(stand_in.calls)):
        stand_in.fail = {len(stand_in.calls) + number - begin: getattr(CODES, code)}
        with pytest.raises((MemoryError, ModelError)):
            backend.run(_pictures(30))
        stand_in.fail = {}
        _check(backend.run(_pictures(30, 7)), _pictures(30, 7))
    backend.close()
    assert stand_in.violations == []
    assert stand_in.left == []


def test_a_gpu_that_failed_for_good_stays_dead(stand_in: Any) -> None:
    backend = TensorRTBackend(stand_in.plan, sessions=1)
    stand_in.sticky = CODES.cudaErrorIllegalAddress
    for _ in range(2):
        with pytest.raises(DeviceError, match=r"cudaErrorIllegalAddress.*in this process: start a new one"):
            backend.run(_pictures(1))
    stand_in.sticky = None
    with pytest.raises(DeviceError, match="cuda:0: CUDA failed"):
        backend.run(_pictures(1))
    backend.close()


def test_a_spoilt_capture_is_tried_again(stand_in: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "fashion_infer")
    stand_in.breaks_captures = 2
    _use(stand_in)
    assert "without a CUDA graph" not in caplog.text
    assert stand_in.violations == []
    assert stand_in.left == []


def test_without_a_graph_it_goes_on_and_says_so(stand_in: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "fashion_infer")
    stand_in.breaks_captures = 3
    backend = TensorRTBackend(stand_in.plan, sessions=1)
    assert "going on without a CUDA graph" in caplog.text
    assert "cudaErrorStreamCaptureInvalidated" in caplog.text
    _check(backend.run(_pictures(1)), _pictures(1))
    assert "cudaGraphLaunch" not in stand_in.calls
    backend.close()
    assert stand_in.violations == []


def test_the_first_error_of_a_capture_is_the_one_that_is_told(
    stand_in: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "fashion_infer")
    kind, streams = stand_in.trt.engine._context, sys.modules["stand_in"].Stream
    execute = kind.execute_async_v3

    def refuse_while_capturing(context: Any, stream: int) -> bool:
        target = stand_in.get(stream, streams)
        if target.captured is None:
            return bool(execute(context, stream))
        target.broken = True  # as by a call that is not permitted during a capture
        return False

    monkeypatch.setattr(kind, "execute_async_v3", refuse_while_capturing)
    _use(stand_in)
    assert "without a CUDA graph, batches take longer to launch: TensorRT refused execute_async_v3" in caplog.text
    assert "cudaErrorStreamCaptureInvalidated" not in caplog.text
    assert stand_in.calls.count("cudaStreamBeginCapture") == stand_in.calls.count("cudaStreamEndCapture") > 0
    assert stand_in.violations == []
    assert stand_in.left == []


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_graphs_can_be_switched_off(stand_in: Any, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if how == "environment":
        monkeypatch.setenv("FASHION_INFER_CUDA_GRAPHS", "0")
    backend = TensorRTBackend(stand_in.plan, sessions=1, graphs=False if how == "argument" else None)
    _check(backend.run(_pictures(33)), _pictures(33))
    assert "cudaStreamBeginCapture" not in stand_in.calls
    backend.close()
    assert stand_in.violations == []


def test_a_callers_current_device_is_kept(stand_in: Any) -> None:
    stand_in.stack.append(7)  # of another library
    backend = TensorRTBackend(stand_in.plan, device="cuda:1")
    assert stand_in.stack == [7]
    backend.run(_pictures(2))
    assert stand_in.stack == [7]
    backend.close()
    assert stand_in.stack == [7]
    with pytest.raises(DeviceError, match="there is no cuda:2"):
        TensorRTBackend(stand_in.plan, device="cuda:2")
    assert stand_in.stack == [7]


def test_eight_threads_and_a_pool_keep_every_rule(stand_in: Any) -> None:
    rng = np.random.default_rng(0)
    counts = [int(n) for n in rng.integers(1, 70, 160)]
    with Predictor(stand_in.plan, device="cuda:0", max_batch=32, sessions=3) as predictor:

        def ask(number: int) -> None:
            rows = _pictures(counts[number], number % 100)
            _check(predictor.run(rows), rows)
            assert stand_in.stack == []

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(ask, range(len(counts))))
    assert stand_in.violations == []
    assert stand_in.left == []
    assert stand_in.stack == []


def _is_pinned(cuda: Any, array: np.ndarray) -> bool:
    return any(memory.address <= array.ctypes.data < memory.end for memory in cuda.memory["pinned"])


def test_pieces_of_a_batch_go_straight_into_pinned_memory(stand_in: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = TensorRTBackend(stand_in.plan, sessions=2)
    batches: list[np.ndarray] = []
    run = backend.run

    def record(batch: np.ndarray, session: int = 0) -> Outputs:
        batches.append(batch)
        return run(batch, session)

    monkeypatch.setattr(backend, "run", record)
    for number in range(2):
        runner = Runner(backend, number)
        for first in (0, 50):  # the second batch finds the pictures of the first one in the memory
            rows = _pictures(7, first)
            _check(runner.run([rows[:1], rows[1:5], rows[5:]]), rows)
        rows = _pictures(33)
        _check(runner.run([rows[:20], rows[20:]]), rows)
        _check(runner.run([rows]), rows)
    assert [_is_pinned(stand_in, batch) for batch in batches] == [True, True, False, False] * 2
    memory = [backend.input_memory(3, number) for number in range(2)]
    assert memory[0] is not None
    assert memory[1] is not None
    assert memory[0].shape == (3, 8, 8, 3)
    assert not np.shares_memory(memory[0], memory[1])
    assert backend.input_memory(33) is None
    backend.close()
    assert stand_in.violations == []


def test_a_batch_in_pinned_memory_survives_that_it_did_not_fit(stand_in: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a MemoryError the batch runs again in parts, which must not overwrite each other's pictures."""
    backend = TensorRTBackend(stand_in.plan, sessions=1)
    run, counts = backend.run, []

    def run_short_of_memory(batch: np.ndarray, session: int = 0) -> Outputs:
        counts.append(len(batch))
        outputs = run(batch, session)
        if len(counts) in (1, 3):
            raise MemoryError("no memory")
        return outputs

    monkeypatch.setattr(backend, "run", run_short_of_memory)
    rows = _pictures(7)
    _check(Runner(backend).run([rows[:3], rows[3:]]), rows)
    assert counts == [7, 3, 3, *[1] * 7]
    backend.close()
    assert stand_in.violations == []
    assert stand_in.left == []


def test_errors_among_eight_threads_reach_their_callers_only(stand_in: Any) -> None:
    with Predictor(stand_in.plan, device="cuda:0", max_batch=32, sessions=2) as predictor:
        predictor.run(_pictures(32))
        now = len(stand_in.calls)
        # two failures in a row of a wait are the end of the GPU, and what CUDA refuses to free stays
        stand_in.spared = {"cudaStreamSynchronize", *FREES}
        stand_in.fail = {now + 13 * i: CODES.cudaErrorInvalidValue for i in range(40)}
        answers: list[str] = []
        lock = threading.Lock()

        def ask(number: int) -> None:
            rows = _pictures(1 + number % 32, number % 100)
            try:
                _check(predictor.run(rows), rows)
                answer = "right"
            except ModelError:
                answer = "failed"
            with lock:
                answers.append(answer)

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(ask, range(200)))
    assert len(answers) == 200
    assert {"right", "failed"} == set(answers)
    assert stand_in.violations == []
    assert stand_in.left == []


def test_what_rtx_says_of_an_engine_is_passed_on(stand_in: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "fashion_infer")
    trt = stand_in.trt
    if "rtx" not in stand_in.plan.with_suffix(".plan.json").read_text():
        pytest.skip("only flavour rtx can tell before it loads")
    trt.validity = (trt.EngineValidity.SUBOPTIMAL, 0)
    TensorRTBackend(stand_in.plan, sessions=1).close()
    assert "may be slower on this GPU" in caplog.text
    trt.validity = (trt.EngineValidity.INVALID, int(trt.EngineInvalidityDiagnostics.UNSUPPORTED_CC))
    with pytest.raises(EngineMismatchError, match=r"UNSUPPORTED_CC: run fashion-infer export .* --flavour tensorrt"):
        TensorRTBackend(stand_in.plan, sessions=1)
    trt.validity = (trt.EngineValidity.INVALID, int(trt.EngineInvalidityDiagnostics.INSUFFICIENT_GPU_MEMORY))
    with pytest.raises(DeviceError, match="does not fit in the memory"):
        TensorRTBackend(stand_in.plan, sessions=1)
    assert stand_in.violations == []
    assert stand_in.left == []


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("[engine.cpp] Error Code 1: Cuda Runtime (out of memory)", MemoryError),
        ("CUDA failure cudaErrorMemoryAllocation", MemoryError),
        ("[genericReformat.cpp] Error Code 3: API Usage Error", ModelError),
    ],
)
def test_memory_that_runs_out_in_a_run_is_a_memory_error(
    stand_in: Any, monkeypatch: pytest.MonkeyPatch, text: str, kind: type[Exception]
) -> None:
    from fashion_infer.tensorrt.api import log_of

    backend = TensorRTBackend(stand_in.plan, sessions=1, graphs=False)

    def refuse(context: Any, stream: int) -> bool:
        log_of(stand_in.trt).log(stand_in.trt.ILogger.ERROR, text)
        return False

    (context,) = stand_in.contexts
    with monkeypatch.context() as patch:
        patch.setattr(type(context), "execute_async_v3", refuse)
        del context
        with pytest.raises(kind, match="TensorRT refused execute_async_v3"):
            backend.run(_pictures(1))
    _check(backend.run(_pictures(1)), _pictures(1))
    backend.close()
    assert stand_in.violations == []


def test_a_runtime_that_cannot_start_is_a_device_error(stand_in: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(log: Any) -> Any:
        log.log(stand_in.trt.ILogger.ERROR, "CUDA initialization failure with error: 35")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    monkeypatch.setattr(stand_in.trt, "Runtime", fail)
    with pytest.raises(DeviceError, match=r"cannot start its Runtime.*initialization failure with error: 35"):
        TensorRTBackend(stand_in.plan, sessions=1)
    assert stand_in.violations == []
    assert stand_in.left == []


def test_kernels_that_rtx_does_not_give_out_are_no_error(
    stand_in: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if "rtx" not in stand_in.plan.with_suffix(".plan.json").read_text():
        pytest.skip("only flavour rtx compiles kernels when it loads")
    caplog.set_level(logging.WARNING, "fashion_infer")
    monkeypatch.setattr(sys.modules["stand_in_engine"].RuntimeCache, "serialize", lambda self: None)
    _use(stand_in)
    assert "does not give its compiled kernels out" in caplog.text
    monkeypatch.setattr(stand_in.trt.engine, "create_runtime_config", lambda: None)
    with pytest.raises(ModelError, match="TensorRT refused create_runtime_config"):
        TensorRTBackend(stand_in.plan, sessions=1)
    assert stand_in.violations == []
    assert stand_in.left == []
