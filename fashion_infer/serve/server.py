"""Server process of the application: its socket, its signals and its log."""

import json
import logging
import queue
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener

import uvicorn
from fastapi import FastAPI

from fashion_infer.errors import UsageError
from fashion_infer.serve.connections import Connection

BACKLOG = 256  # most connections that the system holds until the server accepts them
MAX_HEAD = 32_768  # longest head of a request, bytes
KEPT_S = 5  # seconds that a connection stays open for the next request
DRAIN_S = 60  # seconds for the accepted requests to finish when the server stops
MAX_LINES = 10_000  # most log lines that wait to be written; further ones are dropped


def serve(app: FastAPI, host: str, port: int, facts: dict[str, str | None]) -> None:
    """Serve until SIGTERM or SIGINT, then answer the accepted requests and return.

    Args:
        app: the application that `fashion_infer.serve.app.application` made.
        host: the address to listen on.
        port: the port to listen on; 0 for any free one.
        facts: additional fields of the first line of the log, which has the server's URL.

    Raises:
        UsageError: the server cannot listen on this address and port.
    """
    with _listening(host, port) as listener, _log():
        config = uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            loop="auto",  # uvloop, which the extra `serve` installs except on Windows
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            h11_max_incomplete_event_size=MAX_HEAD,
            timeout_keep_alive=KEPT_S,
            timeout_graceful_shutdown=DRAIN_S,
        )
        address = listener.getsockname()
        shown = f"[{address[0]}]" if ":" in address[0] else address[0]
        _log_line("serving", url=f"http://{shown}:{address[1]}", **facts)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _stopped)
        uvicorn.Server(config).run(sockets=[listener])
        _log_line("stopped")


def _stopped(*_: object) -> None:
    """Do nothing: uvicorn raises the signal again after it has stopped, and that must not end the process."""


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A listening socket; UsageError if there can be none on this address and port."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except (OSError, OverflowError, UnicodeError) as error:
        raise UsageError(f"cannot listen on {host}, port {port}: {error}") from error
    # accepted connections inherit this; without it the body of an answer waits 40 ms for the client's next ACK
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with listener:
        yield listener


@contextmanager
def _log() -> Iterator[None]:
    """Write log records as JSON lines on stderr in a separate thread, so that a slow reader cannot block the server."""
    lines: queue.Queue[logging.LogRecord] = queue.Queue(MAX_LINES)
    writer = logging.StreamHandler(sys.stderr)
    writer.setFormatter(_JsonLines())
    root = logging.getLogger()
    before, root.handlers = root.handlers, [_Lines(lines)]
    logging.getLogger("fashion_infer.requests").setLevel(logging.INFO)
    listener = QueueListener(lines, writer)
    listener.start()
    try:
        yield
    finally:
        root.handlers = before
        listener.stop()


class _Lines(QueueHandler):
    """A handler that drops records while the queue is full, instead of waiting."""

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            super().enqueue(record)
        except queue.Full:
            return


class _JsonLines(logging.Formatter):
    """A formatter that makes a JSON line of each record; the lines of requests are JSON already."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if record.name == "fashion_infer.requests":
            return text
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        return json.dumps({"time": time, "level": record.levelname, "logger": record.name, "message": text})


def _log_line(event: str, **facts: str | None) -> None:
    """Log an event of the server itself."""
    time = datetime.now(UTC).isoformat(timespec="milliseconds")
    logging.getLogger("fashion_infer.requests").info(json.dumps({"time": time, "event": event, **facts}))
