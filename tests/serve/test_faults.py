"""Clients that are slow, broken, numerous or hostile: the server still serves the others."""

import json
import resource
import socket
import struct
import threading
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPException
from pathlib import Path
from time import monotonic, sleep

import psutil
import pytest

from tests.serve.conftest import SOON, Running, started

HEAD = b"POST /v1/predict HTTP/1.1\r\nHost: a\r\nContent-Type: image/jpeg\r\n"


def connected(server: Running) -> socket.socket:
    return socket.create_connection(server.address, timeout=SOON)


def received(connection: socket.socket) -> bytes:
    """Everything that the server sends until it closes the connection."""
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def still_serves(server: Running, photo: bytes) -> None:
    assert server.post("/v1/predict", photo).status == 200


@pytest.fixture(scope="module")
def impatient(model: Path) -> Iterator[Running]:
    """A server that waits only half a second for a head or a body."""
    patch = "connections.SILENT_S = door.BODY_S = 0.5"
    running = started([str(model), "--port", "0", "--threads", "1", "--max-wait-ms", "60000"], patch)
    yield running
    assert running.stop() == 0


@pytest.mark.parametrize("sent", [b"", b"POST /v1/pre", HEAD], ids=["silence", "half a line", "half a head"])
def test_a_connection_with_an_incomplete_head_is_closed(impatient, photo, sent) -> None:
    with closing(connected(impatient)) as slow:
        slow.sendall(sent)
        still_serves(impatient, photo)
        assert received(slow) == b""


def test_a_head_that_arrives_slowly_is_closed(impatient, photo) -> None:
    """Sending one byte at a time does not extend the time limit."""
    with closing(connected(impatient)) as slow, pytest.raises(OSError):
        end = monotonic() + SOON
        while monotonic() < end:
            slow.sendall(b"G")
            sleep(0.05)
    still_serves(impatient, photo)


@pytest.mark.parametrize(
    "announced", [b"Content-Length: 1000\r\n\r\nhalf", b"Transfer-Encoding: chunked\r\n\r\n3e8\r\nhalf"]
)
def test_an_incomplete_body_gets_a_response(impatient, photo, announced) -> None:
    with closing(connected(impatient)) as slow:
        slow.sendall(HEAD + announced)
        still_serves(impatient, photo)
        answer = received(slow)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"SlowBodyError" in answer


def test_a_refused_body_is_not_read_without_limit(impatient, photo) -> None:
    with closing(connected(impatient)) as endless:
        endless.sendall(HEAD + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n")
        end = monotonic() + SOON
        with pytest.raises(OSError):
            while monotonic() < end:
                endless.sendall(b"1000\r\n" + bytes(4096) + b"\r\n")
                sleep(0.01)
    still_serves(impatient, photo)


@contextmanager
def open_files(count: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        pytest.skip(f"this machine allows {hard} open files, {count} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_5000_silent_connections_do_not_block_others(start, photo) -> None:
    server = start(patch="connections.SILENT_S = 600")
    with open_files(6000), ExitStack() as stack:
        for number in range(5000):
            silent = stack.enter_context(closing(connected(server)))
            silent.sendall(HEAD if number % 2 else b"")
            if number % 500 == 0:
                still_serves(server, photo)
        still_serves(server, photo)
        assert len(psutil.Process(server.process.pid).net_connections()) <= 512 + 256
    assert server.stop() == 0


def test_requests_beyond_the_limit_of_connections_get_a_response(start, photo) -> None:
    server = start("--max-wait-ms", "60000", patch="connections.MAX_CONNECTIONS = 4")
    with ExitStack() as stack:
        for _ in range(4):
            busy = stack.enter_context(closing(connected(server)))
            busy.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: 10\r\n\r\n")
            assert busy.recv(100).startswith(b"HTTP/1.1 100 ")  # the server waits for the body
        answer = server.ask("GET", "/health/live")
        assert (answer.status, answer.json()["name"]) == (503, "OverloadedError")
    end = monotonic() + SOON
    while server.ask("GET", "/health/live").status != 200:  # until it has noticed that the four have left
        assert monotonic() < end
    still_serves(server, photo)


def test_requests_of_clients_that_left_are_dropped(start, big_photo) -> None:
    server = start("--max-wait-ms", "600000")
    before = server.metric("fashion_infer_inferences_total")
    with ExitStack() as stack:
        for _ in range(200):
            leaving = stack.enter_context(closing(connected(server)))
            leaving.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(big_photo) + big_photo)
    end = monotonic() + SOON
    dropped = 0.0
    while dropped + server.metric("fashion_infer_pending_images") < 1 or server.metric("fashion_infer_pending_images"):
        dropped = server.metric('fashion_infer_failures_total{error="ClientGoneError"}')
        assert monotonic() < end
    assert server.metric('fashion_infer_failures_total{error="ClientGoneError"}') > 0
    assert server.metric("fashion_infer_inferences_total") - before < 200
    assert server.metric("fashion_infer_pending_images") == 0


def test_a_body_longer_than_announced(server, photo) -> None:
    with closing(connected(server)) as liar:
        liar.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(photo) + photo + b"\x00\x01more\r\n\r\n")
        answer = received(liar)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"HTTP/1.1 400 ") <= 1  # the surplus bytes are not a valid request
    still_serves(server, photo)


def test_bodies_above_the_limit(start, photo) -> None:
    server = start(patch="door.MAX_BODY = 20_000")
    large = bytes(20_001)
    answer = server.post("/v1/predict", large)
    assert (answer.status, answer.json()["name"]) == (413, "TooLargeError")
    with closing(connected(server)) as liar:  # without a Content-Length
        liar.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n4e21\r\n" + large + b"\r\n0\r\n\r\n")
        assert liar.recv(100).startswith(b"HTTP/1.1 413 ")
    with closing(connected(server)) as liar:
        liar.sendall(HEAD + b"Content-Length: 99999999999999999999999999\r\n\r\n")
        assert liar.recv(100)[9:12] in (b"413", b"400")
    assert server.post("/v1/predict", bytes(20_000)).status == 422


def test_all_bodies_together_are_bounded(start, photo) -> None:
    server = start(patch="door.MAX_BODIES = 50_000")
    with closing(connected(server)) as holder:
        holder.sendall(HEAD + b"Content-Length: 60000\r\n\r\n" + bytes(45_000))
        end = monotonic() + SOON
        while (answer := server.post("/v1/predict", bytes(6_000))).status != 503:
            assert monotonic() < end
    assert answer.json()["name"] == "OverloadedError"
    end = monotonic() + SOON
    while server.post("/v1/predict", bytes(6_000)).status == 503:  # until the server notices that the holder left
        assert monotonic() < end


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "identity, gzip"])
def test_encoded_bodies_are_refused(server, photo, encoding) -> None:
    answer = server.post("/v1/predict", zlib.compress(photo), Content_Encoding=encoding)
    assert (answer.status, answer.json()["name"]) == (415, "EncodedBodyError")


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )


def test_a_pixel_bomb_is_refused_from_its_header(server, photo) -> None:
    before = server.memory()
    for width, height in ((100_000, 100_000), (20_000, 20_000), (2**31 - 1, 1)):
        answer = server.post("/v1/predict", png(width, height), "image/png")
        assert (answer.status, answer.json()["name"]) == (422, "ImageError")
    assert server.memory() < before + 100 * 2**20
    still_serves(server, photo)


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/v1/items/..%2f..%2fetc%2fpasswd",
        "//etc/passwd",
        "/%00",
        "/page.html",
    ],
)
def test_paths_cannot_reach_files(server, path) -> None:
    with closing(connected(server)) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        answer = received(connection)
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"root:" not in answer


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: a\rSet-Cookie: b=c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: a\nSet-Cookie: b=c\r\n\r\n",
        b"GET /%0d%0aSet-Cookie:%20b=c HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET /v1/items/%0d%0aSet-Cookie:%20b=c HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 5\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 TLS\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_malformed_heads_do_no_harm(server, photo, head) -> None:
    with closing(connected(server)) as connection:
        connection.sendall(head)
        answer = received(connection)
    headers = answer.partition(b"\r\n\r\n")[0].lower()
    assert b"\nset-cookie" not in headers
    assert b"traceback" not in answer.lower()
    still_serves(server, photo)


def test_a_new_row_cannot_inject_a_header(server, photo) -> None:
    answer = server.post("/v1/items?id=a%0d%0aSet-Cookie:%20b=c", photo)
    assert "set-cookie" not in answer.headers
    assert (answer.status, answer.json()["name"]) == (422, "UsageError")


@pytest.mark.parametrize("kind", ["text/plain", "application/json", "text/html", "application/x-www-form-urlencoded"])
def test_wrong_content_types(server, photo, kind) -> None:
    assert server.post("/v1/predict", photo, kind).status == 415


@pytest.mark.parametrize(
    "body", [b"[" * 3_000_000, b'{"a":' * 700_000, b'{"inputs": [' + b"1," * 1_000_000, b" " * 5_000_000]
)
def test_huge_json(server, photo, body) -> None:
    assert server.post("/v2/models/fashionnet-lite/infer", body, "application/json").status in (400, 413)
    still_serves(server, photo)


def test_many_requests_at_once_are_each_answered_or_refused(start, photo, big_photo) -> None:
    server = start("--max-wait-ms", "30")
    statuses: Counter[int] = Counter()
    with ThreadPoolExecutor(32) as pool:
        for status in pool.map(lambda n: server.post("/v1/predict", photo if n % 4 else big_photo).status, range(800)):
            statuses[status] += 1
    assert statuses.total() == 800
    assert set(statuses) == {200, 503}
    assert server.metric("fashion_infer_pending_images") == 0
    assert server.ask("GET", "/health/ready").status == 200


def test_sigterm_under_load_answers_the_accepted_requests(start, big_photo) -> None:
    server = start("--max-wait-ms", "600000")
    answered: list[int] = []
    broken: list[bytes] = []
    stopping = threading.Event()

    def client() -> None:
        while not stopping.is_set():
            try:
                answered.append(server.post("/v1/predict", big_photo).status)
            except (OSError, HTTPException) as error:
                broken.append(str(error).encode())
                return

    threads = [threading.Thread(target=client) for _ in range(16)]
    for thread in threads:
        thread.start()
    while len(answered) < 20:
        sleep(0.01)
    assert server.stop() == 0
    stopping.set()
    for thread in threads:
        thread.join()
    assert set(answered) == {200}
    logged = [line for line in server.lines if line.get("path") == "/v1/predict"]
    assert {line["status"] for line in logged} == {200}
    assert len(logged) == len(answered)  # every accepted request was answered, and its client got the answer
    assert server.lines[-1]["event"] == "stopped"


def test_sigterm_waits_for_an_answer(start, big_photo) -> None:
    """16 requests are pending when the server gets SIGTERM, and all of them are answered."""
    server = start("--max-wait-ms", "600000")
    with ExitStack() as stack:
        clients = [stack.enter_context(closing(connected(server))) for _ in range(16)]
        for client in clients:
            client.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(big_photo) + big_photo)
        while not server.metric("fashion_infer_pending_images"):
            pass
        assert server.stop() == 0
        for client in clients:
            assert received(client).startswith(b"HTTP/1.1 200 ")


def test_the_server_listens_on_loopback_only_by_default(server, start) -> None:
    def addresses(running: Running) -> set[str]:
        connections = psutil.Process(running.process.pid).net_connections()
        return {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN}

    assert addresses(server) == {"127.0.0.1"}
    public = start("--host", "0.0.0.0")
    assert addresses(public) == {"0.0.0.0"}
    assert any("anybody who reaches" in json.dumps(line) for line in public.lines)
