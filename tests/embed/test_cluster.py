"""A catalogue on Ray clusters of several nodes, all of them on this machine's loopback; one is killed in the middle."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest

from fashion_infer import Predictor
from fashion_infer.embed.catalogue import read_catalogue
from fashion_infer.embed.chunks import OneMachine, Terms, write_chunks

pytest.importorskip("ray")

ROOT = Path(__file__).parents[2]
CLUSTER = """
import sys
import fashion_infer
from ray.cluster_utils import Cluster
head = {"num_cpus": 0, "node_ip_address": "127.0.0.1", "include_dashboard": False}
cluster = Cluster(initialize_head=True, head_node_args=head)
nodes = [cluster.add_node(num_cpus=1, node_ip_address="127.0.0.1") for _ in range(2)]
print(cluster.address, flush=True)
for line in sys.stdin:
    cluster.remove_node(nodes.pop(), allow_graceful=False)
    print("killed", flush=True)
cluster.shutdown()
"""
EMBED = """
import sys
from fashion_infer.embed import catalogue, cluster
catalogue.CHUNK = int(sys.argv.pop(1))
cluster.LOOK = 0.2  # seconds: a lost actor is soon replaced
from fashion_infer.cli import main
main()
"""


def start(code: str, *arguments: object) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_health_check_period_ms": "500"}
    environment |= {"RAY_health_check_failure_threshold": "3", "RAY_health_check_initial_delay_ms": "500"}
    words = [sys.executable, "-c", code, *map(str, arguments)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(words, text=True, env=environment, **pipes)  # type: ignore[call-overload, no-any-return]


@pytest.fixture(scope="module")
def cluster() -> Iterator["subprocess.Popen[str]"]:
    """A process that holds a head without CPUs and two nodes; each line that it is sent kills one of these."""
    process = start(CLUSTER)
    yield process
    _, complaints = process.communicate(timeout=60)
    assert process.returncode == 0, complaints


@pytest.fixture(scope="module")
def address(cluster: "subprocess.Popen[str]") -> str:
    assert cluster.stdout is not None
    return cluster.stdout.readline().strip()


@pytest.fixture
def embed(onnx_model: Path) -> Callable[..., "subprocess.Popen[str]"]:
    """Begins the command with chunks of that size."""

    def begin(size: int, *arguments: object) -> "subprocess.Popen[str]":
        return start(EMBED, size, "embed", onnx_model, *arguments, "--threads", 1)

    return begin


def rows(folder: Path) -> dict[str, dict[str, Any]]:
    """By id, each there once."""
    every = [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    assert len({row["id"] for row in every}) == len(every)
    return {row["id"]: row for row in every}


def listening(process: "subprocess.Popen[str]") -> set[str]:
    """The addresses at which a process and those below it listen."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    sockets = [socket for one in family for socket in one.net_connections("inet")]
    return {socket.laddr.ip.removeprefix("::ffff:") for socket in sockets if socket.status == psutil.CONN_LISTEN}


def test_local_gives_the_same_rows_as_without_ray(
    shop: Path, predictor: Predictor, embed: Callable[..., "subprocess.Popen[str]"]
) -> None:
    process = embed(4, "list.csv", "-o", "ray", "--ray", "local")
    heard: set[str] = set()
    while process.poll() is None:
        try:
            heard |= listening(process)
        except psutil.NoSuchProcess:
            continue
        time.sleep(0.2)
    out, complaints = process.communicate(timeout=60)
    assert process.returncode == 4, complaints
    assert out.startswith("9 rows in ray")
    assert "Traceback" not in complaints
    assert heard <= {"127.0.0.1", "::1"}

    one = read_catalogue(["list.csv"])
    list(write_chunks(one, shop / "alone", range(one.chunks), OneMachine(predictor), Terms.of(one)))
    ours, theirs = rows(shop / "alone"), rows(shop / "ray")
    assert list(ours) == list(theirs)
    for id, row in ours.items():
        vector, other = row.pop("embedding"), theirs[id].pop("embedding")
        assert row == theirs[id]
        assert (vector is None) == (other is None)
        assert vector is None or np.abs(np.array(vector) - np.array(other)).max() <= 1e-5


def test_a_node_that_is_killed_costs_no_row(
    cluster: "subprocess.Popen[str]", address: str, shop: Path, embed: Callable[..., "subprocess.Popen[str]"]
) -> None:
    """Its chunk is given to the other node; nothing comes twice."""
    lines = [f"{number % 3}.png,{number}" for number in range(1500)]
    (shop / "many.csv").write_text("\n".join(["path,id", *lines]) + "\n")
    process = embed(10, "many.csv", "-o", "out", "--ray", address)
    while len(list((shop / "out").glob("*.parquet"))) < 10:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    assert cluster.stdin is not None and cluster.stdout is not None
    cluster.stdin.write("kill\n")
    cluster.stdin.flush()
    assert cluster.stdout.readline() == "killed\n"
    before = len(list((shop / "out").glob("*.parquet")))
    _, complaints = process.communicate(timeout=120)
    assert process.returncode == 0, complaints
    assert before < 150, "the node was killed too late to prove anything"
    assert "an actor on node" in complaints
    assert sorted(map(int, rows(shop / "out"))) == list(range(1500))


def test_a_run_that_is_killed_goes_on(address: str, shop: Path, embed: Callable[..., "subprocess.Popen[str]"]) -> None:
    lines = [f"{number % 3}.png,{number}" for number in range(1500)]
    (shop / "many.csv").write_text("\n".join(["path,id", *lines]) + "\n")
    process = embed(10, "many.csv", "-o", "out", "--ray", address)
    while len(list((shop / "out").glob("chunk-*.parquet"))) < 5:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = {path.name: path.stat().st_mtime_ns for path in (shop / "out").glob("chunk-*.parquet")}
    assert len(before) < 150
    again = embed(10, "many.csv", "-o", "out", "--json")  # without Ray: it makes no difference
    _, complaints = again.communicate(timeout=120)
    assert again.returncode == 0, complaints
    assert sorted(map(int, rows(shop / "out"))) == list(range(1500))
    assert all((shop / "out" / name).stat().st_mtime_ns == stamp for name, stamp in before.items())


def test_a_chunk_that_ends_its_actor_again_and_again_is_given_up(
    cluster: "subprocess.Popen[str]", address: str, shop: Path, embed: Callable[..., "subprocess.Popen[str]"]
) -> None:
    """Here it is the test that kills the actor, three times while it works on the one chunk."""
    lines = [f"{number % 3}.png,{number}" for number in range(5000)]
    (shop / "many.csv").write_text("\n".join(["path,id", *lines]) + "\n")
    earlier = actors_below(cluster.pid)  # of a run that another test has killed
    process = embed(5000, "many.csv", "-o", "out", "--ray", address)
    killed: set[int] = set()
    while process.poll() is None:
        for one in actors_below(cluster.pid) - earlier - killed:
            os.kill(one, signal.SIGKILL)
            killed.add(one)
        time.sleep(0.05)
    _, complaints = process.communicate()
    assert process.returncode == 3, complaints
    assert "1 chunks ended their actor 3 times each and are left out, 0.png to 1.png: look" in complaints
    assert len(killed) == 3
    assert not list((shop / "out").glob("*"))


def actors_below(pid: int) -> set[int]:
    """The processes below one that are computing a chunk for it."""
    pids = set()
    for process in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.cmdline()[:1] == ["ray::_Actor.embed"]:
                pids.add(process.pid)
    return pids


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--ray", "127.0.0.1:1"], 3, "there is no Ray cluster at '127.0.0.1:1'"),
        (["--ray", "local", "--backend", "nothing"], 2, "there is no backend 'nothing'"),
    ],
)
def test_what_cannot_be(
    shop: Path, embed: Callable[..., "subprocess.Popen[str]"], options: list[str], code: int, message: str
) -> None:
    process = embed(4, "list.csv", "-o", "out", *options)
    _, complaints = process.communicate(timeout=120)
    assert process.returncode == code, complaints
    assert message in complaints
    assert "Traceback" not in complaints
    assert not (shop / "out").exists()
