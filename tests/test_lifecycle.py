"""The end of a process while a Predictor is working: each case runs in its own process, with a real model."""

import signal
import subprocess
import sys
from pathlib import Path
from time import sleep

import pytest

SOON = 60.0  # seconds that any step of these tests may take, even on a slow machine

HEAD = """
import asyncio, os, sys, threading, time, warnings
import numpy as np
from fashion_infer import Predictor, PredictorClosedError
warnings.simplefilter("ignore")  # Python warns of a fork with threads
image, batch = np.zeros((64, 64, 3), np.uint8), np.zeros((8, 64, 64, 3), np.uint8)

def endless():
    while True:
        yield image

def submit(predictor):
    return [predictor.submit(image) for _ in range(4)][0].result()

def stream(predictor):
    return sum(1 for _ in predictor.stream(endless()))

WAYS = {
    "predict": lambda p: p.predict(image),
    "list": lambda p: p.predict([image] * 9),
    "boxes": lambda p: p.predict(image, boxes=[[0, 0, 9, 9]] * 9),
    "stream": stream,
    "submit": submit,
    "apredict": lambda p: asyncio.run(p.apredict(image)),
    "run": lambda p: p.run(batch),
}
way = WAYS[sys.argv[2]]

def again(predictor):
    while True:
        way(predictor)

predictor = Predictor(sys.argv[1], sessions=2, threads=2, max_batch=4)
predictor.predict(image)
"""
WAYS = ["predict", "list", "boxes", "stream", "submit", "apredict", "run"]


def script(body: str, model: Path, way: str = "predict") -> list[str]:
    return [sys.executable, "-c", HEAD + body, str(model), way]


def run(body: str, model: Path, way: str = "predict") -> subprocess.CompletedProcess[str]:
    return subprocess.run(script(body, model, way), capture_output=True, text=True, timeout=SOON)


DAEMONS = """
def quietly(predictor):
    try:
        again(predictor)
    except PredictorClosedError:
        pass

for _ in range(6):
    threading.Thread(target=quietly, args=[predictor], daemon=True).start()
time.sleep(0.3)
"""


@pytest.mark.parametrize("way", WAYS)
def test_the_process_ends_while_daemon_threads_use_the_predictor(way: str, onnx_model: Path) -> None:
    done = run(DAEMONS, onnx_model, way)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("way", WAYS)
def test_closing_while_threads_use_the_predictor_waits_for_them_and_frees_it(way: str, onnx_model: Path) -> None:
    body = """
import gc, weakref
ended = []

def until_closed(predictor):
    try:
        again(predictor)
    except PredictorClosedError as error:
        ended.append(str(error))

threads = [threading.Thread(target=until_closed, args=[predictor]) for _ in range(6)]
for thread in threads:
    thread.start()
time.sleep(0.3)
backend = weakref.ref(predictor.backends[0])
predictor.close(drain=len(sys.argv[2]) % 2 == 0)
assert not any(thread.is_alive() for thread in predictor._pool._threads)
for thread in threads:
    thread.join()
gc.collect()
assert backend() is None
assert len(ended) == 6 and all("closed" in text for text in ended), ended
"""
    done = run(body, onnx_model, way)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("way", WAYS)
def test_ctrl_c_ends_the_wait_of_the_main_thread(way: str, onnx_model: Path) -> None:
    body = """
try:
    with predictor:
        print("started", flush=True)
        again(predictor)
except KeyboardInterrupt:
    assert not any(thread.is_alive() for thread in predictor._pool._threads)
    print("interrupted", flush=True)
"""
    with subprocess.Popen(
        script(body, onnx_model, way), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        sleep(0.2)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=SOON)
    assert (process.returncode, out, err) == (0, "interrupted\n", "")


def test_an_uncaught_ctrl_c_ends_the_process(onnx_model: Path) -> None:
    body = "print('started', flush=True); again(predictor)"
    with subprocess.Popen(
        script(body, onnx_model, "stream"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=SOON)
    assert process.returncode == -signal.SIGINT
    assert err.strip().endswith("KeyboardInterrupt")


ENDS = {
    "left open": "predictor.predict([image] * 3)",
    "left with work": "futures = [predictor.submit(image) for _ in range(300)]; futures[0].result()",
    "left in a stream": "stream = predictor.stream(endless()); next(stream)",
    "a forgotten one answers": """
future = Predictor(sys.argv[1], sessions=1, threads=1).submit(image)
assert future.result(10).category
futures = [Predictor(sys.argv[1], sessions=1, threads=1, max_delay_ms=1e6).submit(image) for _ in range(3)]
assert all(future.result(10).category for future in futures)
""",
    "used in a callback": """
done = threading.Event()
def more(future):
    predictor.predict(image)
    predictor.predict([image] * 20)
    done.set()
predictor.submit(image).add_done_callback(more)
assert done.wait(30)
""",
    "used at exit": """
import atexit
@atexit.register
def last():
    predictor.predict([image] * 3)
    print("last")
""",
    "every way, one after the other": """
for name, use in WAYS.items():
    if name != "stream":
        use(predictor)
""",
}


@pytest.mark.parametrize("name", ENDS)
def test_a_process_ends_by_itself(name: str, onnx_model: Path) -> None:
    done = run(ENDS[name], onnx_model)
    assert (done.returncode, done.stdout, done.stderr) == (0, "last\n" if name == "used at exit" else "", "")


# ---- fork

WHEN = {"before closing": "", "after closing": "predictor.close()\n", "in use": DAEMONS}
CHILDREN = {
    "does not use it": "pass",
    "uses it": """
    for name, use in WAYS.items():
        try:
            use(predictor)
        except PredictorClosedError as error:
            assert "load one in each process" in str(error), (name, error)
        else:
            raise AssertionError(name)
    predictor.close()
    del predictor
""",
    "loads its own": """
    with Predictor(sys.argv[1], sessions=2, threads=2) as own:
        assert own.predict(image).category
        assert len(own.predict([np.zeros((3000, 4000, 3), np.uint8)] * 3)) == 3
""",
}


@pytest.mark.parametrize("child", CHILDREN)
@pytest.mark.parametrize("when", WHEN)
def test_a_forked_child_ends_by_itself(when: str, child: str, onnx_model: Path) -> None:
    body = f"""
predictor.predict([np.zeros((3000, 4000, 3), np.uint8)] * 3)
{WHEN[when]}
child = os.fork()
if child == 0:
    {CHILDREN[child]}
    sys.exit(7)
deadline = time.monotonic() + 40
while not (ended := os.waitpid(child, os.WNOHANG))[0] and time.monotonic() < deadline:
    time.sleep(0.01)
if not ended[0]:
    os.kill(child, 9)
print(os.waitstatus_to_exitcode(ended[1]) if ended[0] else "the child hangs")
if not predictor._pool._closed:
    predictor.predict(image)  # the parent's Predictor still works
"""
    done = run(body, onnx_model)
    assert (done.returncode, done.stdout, done.stderr) == (0, "7\n", "")


@pytest.mark.skipif(sys.platform != "linux", reason="multiprocessing forks by default on Linux only")
def test_workers_that_multiprocessing_forks_end_by_themselves(onnx_model: Path) -> None:
    body = """
import multiprocessing
context = multiprocessing.get_context("fork")
with context.Pool(2) as workers:
    print(sum(workers.map(abs, range(5))))
"""
    done = run(body, onnx_model)
    assert (done.returncode, done.stdout, done.stderr) == (0, "10\n", "")
