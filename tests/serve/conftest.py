"""A real server process on a port of its own, and plain HTTP to it."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from fashion_infer import Gallery, Predictor
from fashion_infer.models import find_model
from fashion_infer.synthetic.dataset import to_jpeg
from fashion_infer.synthetic.rendering import render

ROOT = Path(__file__).parents[2]
SOON = 60.0  # seconds within which everything here happens, on the slowest machine


@dataclass
class Answer:
    """A response that was read whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Running:
    """A server and the lines of its log so far."""

    process: subprocess.Popen[str]
    url: str = ""
    lines: list[dict[str, Any]] = field(default_factory=list)
    follower: threading.Thread | None = None

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        assert parts.port is not None
        return parts.hostname, parts.port

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection(*self.address, timeout=SOON)
        with closing(connection):
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())

    def post(self, path: str, body: bytes, kind: str = "image/jpeg", **headers: str) -> Answer:
        return self.ask(
            "POST", path, body, {"Content-Type": kind, **{k.replace("_", "-"): v for k, v in headers.items()}}
        )

    def metric(self, name: str) -> float:
        """The value of a metric with its labels, 0 where it is not there yet."""
        match = re.search(rf"^{re.escape(name)} (\S+)$", self.ask("GET", "/metrics").body.decode(), re.MULTILINE)
        return float(match[1]) if match else 0.0

    def memory(self) -> int:
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Tell it to stop, and wait for its exit code."""
        self.process.send_signal(number)
        return self.end()

    def end(self) -> int:
        """Its exit code, once all of its log is there."""
        code = self.process.wait(SOON)
        assert self.follower is not None
        self.follower.join(SOON)
        return code


Start = Callable[..., Running]


@pytest.fixture(scope="session")
def model() -> Path:
    """A real model that is there without torch."""
    return find_model("fashionnet-lite")


def started(arguments: list[str], patch: str = "") -> Running:
    """Start `fashion-infer serve` and wait until it is ready.

    Args:
        arguments: of the command.
        patch: Python that runs before it, to make a limit small enough for a test.
    """
    code = f"import fashion_infer.serve.connections as connections, fashion_infer.serve.door as door\n{patch}\n"
    process = subprocess.Popen(
        [sys.executable, "-c", f"{code}from fashion_infer.cli import main; main()", "serve", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    server = Running(process)
    ready = threading.Event()
    server.follower = threading.Thread(target=_follow, args=(server, ready), daemon=True)
    server.follower.start()
    assert ready.wait(SOON), "the server does not start"
    assert server.url, server.lines
    for _ in range(600):
        if server.ask("GET", "/health/ready").status == 200:
            return server
        threading.Event().wait(0.1)
    raise AssertionError("the server does not become ready")


def _follow(server: Running, ready: threading.Event) -> None:
    assert server.process.stderr is not None
    with server.process.stderr as lines:
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:
                entry = {"text": line}
            server.lines.append(entry)
            if entry.get("event") == "serving":
                server.url = entry["url"]
                ready.set()
    ready.set()


@pytest.fixture
def start(model: Path) -> Iterator[Start]:
    """Starts servers of the small model, which end with the test."""
    servers: list[Running] = []

    def start(*arguments: str, patch: str = "") -> Running:
        servers.append(started([str(model), "--port", "0", "--threads", "1", *arguments], patch))
        return servers[-1]

    yield start
    for server in servers:
        server.process.kill()
        server.end()


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory, model: Path, pictures: Path) -> Path:
    """A gallery of 24 rendered garments; the server of this folder writes to it."""
    place = tmp_path_factory.mktemp("shop") / "shop.gallery"
    with Predictor(model, threads=1) as predictor, Gallery(place, predictor) as gallery:
        photos = sorted(pictures.iterdir())
        gallery.add(photos, payloads=[{"price": 10 * number} for number in range(len(photos))])
    return place


@pytest.fixture(scope="session")
def server(model: Path, shop: Path) -> Iterator[Running]:
    """One server for all tests that leave it as it is."""
    running = started([str(model), "--port", "0", "--threads", "1", "--gallery", str(shop), "--max-wait-ms", "60000"])
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="session")
def photo() -> bytes:
    """A rendered garment, an encoded JPEG."""
    return to_jpeg(render(1, 0, size=256))


@pytest.fixture(scope="session")
def big_photo() -> bytes:
    """The same of four megapixels, which takes its time."""
    return to_jpeg(render(1, 0, size=2048))
