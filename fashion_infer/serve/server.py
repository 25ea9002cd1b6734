"""Runs the application in this process until it is told to stop: the socket, the signals, the log."""

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

BACKLOG = 256  # connections that the system keeps until they are taken
MAX_HEAD = 32_768  # bytes of a request's head
KEPT_S = 5  # for the next request of a connection
DRAIN_S = 60  # for the requests that are being worked on when the server is told to stop
MAX_LINES = 10_000  # of the log, that whoever reads it has not taken yet


def serve(app: FastAPI, host: str, port: int, about: dict[str, str | None]) -> None:
    """Serve until SIGTERM or SIGINT, then answer what was accepted and return.

    Args:
        app: of `application`.
        host: address to listen on.
        port: 0 for any that is free.
        about: what the first line of the log says beside the address.

    Raises:
        UsageError: the address cannot be used.
    """
    with _listening(host, port) as listener, _log():
        config = uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            loop="asyncio",
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
        _log_line("serving", url=f"http://{shown}:{address[1]}", **about)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _stopped)
        uvicorn.Server(config).run(sockets=[listener])
        _log_line("stopped")


def _stopped(*_: object) -> None:
    """Do nothing: uvicorn sends the signal again once it has stopped by it."""


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except (OSError, OverflowError, UnicodeError) as error:
        raise UsageError(f"cannot listen on {host}, port {port}: {error}") from error
    with listener:
        yield listener


@contextmanager
def _log() -> Iterator[None]:
    """Every record as a JSON line on stderr, written by a thread: a reader that stops must not stop the server."""
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
    """Drops what nobody takes, instead of waiting."""

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            super().enqueue(record)
        except queue.Full:
            return


class _JsonLines(logging.Formatter):
    """A request's line is JSON already; the others become it."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if record.name == "fashion_infer.requests":
            return text
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        return json.dumps({"time": time, "level": record.levelname, "logger": record.name, "message": text})


def _log_line(event: str, **facts: str | None) -> None:
    time = datetime.now(UTC).isoformat(timespec="milliseconds")
    logging.getLogger("fashion_infer.requests").info(json.dumps({"time": time, "event": event, **facts}))
