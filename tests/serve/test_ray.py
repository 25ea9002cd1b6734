"""The application as a Ray Serve deployment: real replicas on loopback, one of them killed."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

pytest.importorskip("ray")
pytest.importorskip("fashion_infer.serve.app")

from pydantic import ValidationError

from fashion_infer.serve import ray as on_ray

ROOT = Path(__file__).parents[2]
SERVE = """
import json, sys
from fashion_infer.serve.ray import Arguments, build
import ray
from ray import serve
quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
ray.init("local", _node_ip_address="127.0.0.1", num_cpus=4, **quiet)
arguments = json.loads(sys.argv[1])
serve.start(http_options={"host": "127.0.0.1", "port": arguments.pop("port")})
serve.run(build(Arguments(**arguments)))
print("ready", flush=True)
sys.stdin.read()
serve.shutdown()
"""
KEY = "a-key-of-enough-characters"


def free_port() -> int:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def server(onnx_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """URL and process of a deployment with two replicas."""
    key = tmp_path_factory.mktemp("key") / "key"
    key.write_text(f"{KEY}\n")
    arguments = {"model": str(onnx_model), "replicas": 2, "threads": 1, "api_key_file": str(key), "port": free_port()}
    words = [sys.executable, "-c", SERVE, json.dumps(arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # on loopback
    environment |= {"RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60", "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60"}
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line == "ready\n":
                break
        else:
            pytest.fail("the server ended before it was ready")
        yield f"http://127.0.0.1:{arguments['port']}", process
        process.communicate(timeout=60)


def ask(address: str, data: bytes | None = None, **headers: str) -> tuple[int, Any]:
    request = urllib.request.Request(address, data, {"Content-Type": "image/png", **headers})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read() or "null")
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def replicas(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    family = psutil.Process(process.pid).children(recursive=True)
    return [child for child in family if " ".join(child.cmdline()).startswith("ray::ServeReplica")]


def test_photos_are_recognised_and_keys_asked_for(server: tuple[str, Any], pictures: Path) -> None:
    address, _ = server
    photo = (pictures / "00.png").read_bytes()
    headers = {"Authorization": f"Bearer {KEY}"}
    status, answer = ask(f"{address}/v1/predict", photo, **headers)
    assert status == 200, answer
    assert {"categories", "landmarks"} <= answer.keys()
    assert ask(f"{address}/v1/predict", b"no picture", **headers)[0] == 422
    assert ask(f"{address}/v1/predict", photo)[0] == 401


def test_a_killed_replica_is_replaced_while_the_other_answers(server: tuple[str, Any], pictures: Path) -> None:
    address, process = server
    photo = (pictures / "01.png").read_bytes()
    first, second = replicas(process)
    first.send_signal(signal.SIGKILL)
    statuses = []
    end = time.monotonic() + 240
    while time.monotonic() < end and (len(statuses) < 50 or len(replicas(process)) < 2):
        statuses.append(ask(f"{address}/v1/predict", photo, Authorization=f"Bearer {KEY}")[0])
        time.sleep(0.2)  # leaves CPU time for the new replica to start
    assert second.is_running()
    assert len(replicas(process)) == 2
    assert statuses[-20:] == [200] * 20
    assert statuses.count(200) >= len(statuses) - 3, "only requests that the killed replica had accepted may fail"


def test_requests_are_taken_on_loopback_only(server: tuple[str, Any]) -> None:
    """Only the port for requests is checked: Ray's internal ports are open on every address (see docs/scaling.md)."""
    address, process = server
    port = int(address.rpartition(":")[2])
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    sockets = [socket for member in family for socket in member.net_connections("inet")]
    listening = [socket.laddr for socket in sockets if socket.status == psutil.CONN_LISTEN]
    assert {address.ip for address in listening if address.port == port} == {"127.0.0.1"}


def test_a_replica_accepts_as_many_requests_as_its_predictor_queues() -> None:
    deployment = on_ray.build(on_ray.Arguments(model="m", replicas=3, cpus=2, gpus=0.5))._bound_deployment
    assert deployment.num_replicas == 3
    assert deployment.max_ongoing_requests == on_ray.QUEUE == 1024
    assert deployment.max_queued_requests == on_ray.WAITING
    options = deployment.ray_actor_options
    assert (options["num_cpus"], options["num_gpus"]) == (2, 0.5)


@pytest.mark.parametrize(
    "arguments", [{}, {"model": "m", "replicas": 0}, {"model": "m", "nothing": 1}, {"model": "m", "gpus": -1}]
)
def test_unusable_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        on_ray.Arguments(**arguments)
