"""Forks while threads end. Each case runs in its own process."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="threads of a process are listed in /proc on Linux only"
)

# After the last line of Python in a thread, a destructor runs: usleep, called with the microseconds that it has stored.
HEAD = """
import ctypes, os, threading, time, warnings
from fashion_infer.forks import wait_for_end_of_this_thread

warnings.simplefilter("ignore")  # Python warns of a fork with threads
libc = ctypes.CDLL(None)
key = ctypes.c_uint()
assert libc.pthread_key_create(ctypes.byref(key), libc.usleep) == 0

def end_slowly(seconds):
    libc.pthread_setspecific(key, ctypes.c_void_p(round(seconds * 1e6)))

def exists(thread):
    return os.path.exists(f"/proc/self/task/{thread.native_id}")

def fork():
    begun = time.monotonic()
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return time.monotonic() - begun
"""


def run(body: str) -> str:
    done = subprocess.run([sys.executable, "-c", HEAD + body], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_fork_waits_until_a_thread_that_was_joined_has_ended_completely() -> None:
    body = """
def work():
    wait_for_end_of_this_thread()
    end_slowly(0.7)

def work_unwatched():
    end_slowly(5)

for target in work_unwatched, work:
    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    before = exists(thread)
    fork()
    print(target.__name__, before, exists(thread))
"""
    # Python 3.13 joins the thread itself, so nothing is left to wait for
    ended_by_join = sys.version_info >= (3, 13)
    unwatched, watched = ("False False", "False False") if ended_by_join else ("True True", "True False")
    assert run(body) == f"work_unwatched {unwatched}\nwork {watched}\n"


def test_a_fork_does_not_wait_for_threads_that_go_on() -> None:
    body = """
done = threading.Event()
def work():
    wait_for_end_of_this_thread()
    done.wait()

threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
print(max(fork() for _ in range(3)) < 0.5, sum(map(exists, threads)))
done.set()
for thread in threads:
    thread.join()
fork()
print(sum(map(exists, threads)))
"""
    assert run(body) == "True 3\n0\n"


def test_the_child_of_a_child_does_not_wait_for_threads_of_its_grandparent() -> None:
    body = """
done = threading.Event()
def work():
    wait_for_end_of_this_thread()
    done.wait()

thread = threading.Thread(target=work, daemon=True)
thread.start()
if (child := os.fork()) == 0:
    os._exit(0 if fork() < 0.5 else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert run(body) == "0\n"
