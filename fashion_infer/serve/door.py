"""Middleware for every request: key, limits, deadline, cancellation when the client leaves, and the log line."""

import asyncio
import hmac
import json
import logging
import re
import uuid
from base64 import b64decode
from binascii import Error as Base64Error
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fashion_infer.errors import DeadlineExceededError
from fashion_infer.serve.problems import RefusedError, problem, refusal_of
from fashion_infer.serve.service import Service

MAX_BODY = 32 * 2**20  # largest body of one request, bytes
MAX_BODIES = 512 * 2**20  # most bytes of all bodies that are held in memory at the same time
BODY_S = 30.0  # seconds for a request's body to arrive
REQUEST_S = 60.0  # seconds for the response, counted from the end of the body
OPEN = ("/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready")  # paths that need no key
SAFE = ("GET", "HEAD", "OPTIONS")  # methods that change nothing
HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}  # headers of every response

logger = logging.getLogger("fashion_infer.requests")


class ClientGoneError(Exception):
    """The client closed its connection before it got the response."""


@dataclass
class _Exchange:
    """One HTTP request and the state of its response.

    Attributes:
        scope: the ASGI scope.
        headers: the request's headers.
        path: the request's path without the prefix of --root-path.
        id: the request's id, from the client's X-Request-Id header or a new one.
        start: arrival of the request's head, seconds on the monotonic clock.
        body_bytes: number of bytes of the body received so far.
        status: status of the response, 0 until the response begins.
        error: name of the error in the response, None without one.
    """

    scope: Scope
    headers: Headers
    path: str
    id: str
    start: float = field(default_factory=monotonic)
    body_bytes: int = 0
    status: int = 0
    error: str | None = None

    @classmethod
    def of(cls, scope: Scope) -> "_Exchange":
        headers = Headers(scope=scope)
        id = headers.get("x-request-id", "")
        if not re.fullmatch(r"[\w.:-]{1,128}", id, re.ASCII):
            id = uuid.uuid4().hex
        path = scope["path"].removeprefix(scope.get("root_path", "")) or "/"
        return cls(scope, headers, path, id)

    def deadline(self) -> float | None:
        """The deadline from the X-Deadline-Ms header, seconds on the monotonic clock; None without that header."""
        text = self.headers.get("x-deadline-ms")
        if text is None:
            return None
        if not re.fullmatch(r"\d{1,7}(\.\d{1,6})?", text, re.ASCII):
            raise RefusedError(400, "X-Deadline-Ms must be a number of milliseconds, such as 250", name="UsageError")
        return self.start + float(text) / 1e3

    def log(self) -> None:
        """Log the request and its outcome as one JSON line."""
        client = self.scope.get("client")
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "request_id": self.id,
            "client": client[0] if client else None,
            "method": self.scope["method"],
            "path": self.path,
            "status": self.status or 499,
            "error": self.error,
            "bytes": self.body_bytes,
            "ms": round((monotonic() - self.start) * 1e3, 3),
        }
        logger.info(json.dumps(line))


class Door:
    """ASGI middleware around all endpoints.

    It reads each body completely and within limits before it calls the endpoint. It cancels the endpoint when the
    client leaves or the deadline passes. Endpoints read `request_id` and `deadline` from `request.state`.
    """

    def __init__(self, app: ASGIApp, service: Service, api_key: str | None) -> None:
        self._app, self._service = app, service
        self._key = None if api_key is None else api_key.encode()
        self._bytes = 0  # total size of all bodies in memory

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange.of(scope)
        scope.setdefault("state", {}).update(request_id=exchange.id, deadline=None, error=None)
        respond = _with_headers(exchange, send)
        try:
            await self._serve(exchange, receive, respond)
        except ClientGoneError:
            exchange.error = "ClientGoneError"
        except Exception as error:
            refusal = refusal_of(error)
            if refusal.status == 500:
                logging.getLogger("fashion_infer").exception("request %s failed", exchange.id)
            exchange.error = refusal.name
            if not exchange.status:
                await problem(refusal, exchange.id)(scope, receive, respond)
        finally:
            self._bytes -= exchange.body_bytes
            self._finish(exchange)

    async def _serve(self, exchange: _Exchange, receive: Receive, send: Send) -> None:
        self._check(exchange)
        exchange.scope["state"]["deadline"] = deadline = exchange.deadline()
        body = await self._read(exchange, receive)
        limit = monotonic() + REQUEST_S if deadline is None else min(deadline, monotonic() + REQUEST_S)
        work = asyncio.ensure_future(self._app(exchange.scope, _receive_of(body), send))
        del body
        gone = asyncio.ensure_future(receive())  # after the body, the only message left is the client's disconnection
        try:
            done, _ = await asyncio.wait({work, gone}, timeout=limit - monotonic(), return_when="FIRST_COMPLETED")
            if work in done:
                await work
            elif gone in done:
                raise ClientGoneError
            else:
                raise DeadlineExceededError("the deadline passed before there was an answer")
        finally:
            for task in (work, gone):
                task.cancel()
            await asyncio.wait({work, gone})

    def _check(self, exchange: _Exchange) -> None:
        """Check the request's head, before its body is read.

        Raises:
            RefusedError: the key is missing or wrong, another site sent the request, the body is encoded or too large,
                or an image would wait too long.
        """
        if self._key is not None and exchange.path not in OPEN and not self._has_key(exchange.headers):
            detail = "send the key as Authorization: Bearer KEY, as X-API-Key, or as the password of a browser's prompt"
            headers = {"WWW-Authenticate": 'Basic realm="fashion-infer", charset="UTF-8"'}
            raise RefusedError(401, detail, name="UnauthorizedError", headers=headers)
        if exchange.scope["method"] not in SAFE:
            if exchange.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
                raise RefusedError(403, "another site's page must not send this request", name="CrossSiteError")
            if exchange.headers.get("content-encoding", "identity") != "identity":
                raise RefusedError(415, "send the body as it is, without a Content-Encoding", name="EncodedBodyError")
            self._service.admission.check()
        length = exchange.headers.get("content-length", "0")
        if length.isdigit() and int(length) > MAX_BODY:
            raise _too_large()

    def _has_key(self, headers: Headers) -> bool:
        kind, _, credentials = headers.get("authorization", "").partition(" ")
        if kind.lower() == "basic":
            with suppress(Base64Error):
                return self._is_key(b64decode(credentials, validate=True).partition(b":")[2])
            return False
        return self._is_key((credentials if kind.lower() == "bearer" else headers.get("x-api-key", "")).encode())

    def _is_key(self, offered: bytes) -> bool:
        return self._key is not None and hmac.compare_digest(offered, self._key)

    async def _read(self, exchange: _Exchange, receive: Receive) -> bytes:
        """Read the whole body.

        Raises:
            ClientGoneError: the client left.
            RefusedError: the body is too large or too slow, or all bodies together take too much memory.
        """
        chunks = []
        try:
            async with asyncio.timeout(BODY_S):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGoneError
                    chunk = message.get("body", b"")
                    exchange.body_bytes += len(chunk)
                    self._bytes += len(chunk)
                    if exchange.body_bytes > MAX_BODY:
                        raise _too_large()
                    if self._bytes > MAX_BODIES:
                        detail = "the server holds too many large requests: try again later"
                        raise RefusedError(503, detail, name="OverloadedError", retry_after=1)
                    chunks.append(chunk)
                    more = message.get("more_body", False)
        except TimeoutError:
            detail = f"the body did not arrive within {BODY_S:.0f} s"
            raise RefusedError(408, detail, name="SlowBodyError", headers={"Connection": "close"}) from None
        return b"".join(chunks)

    def _finish(self, exchange: _Exchange) -> None:
        """Count and log the request; status 499 means that the client left before the response began."""
        route = exchange.scope.get("route")
        template = getattr(route, "path", "(no such route)")
        exchange.error = exchange.error or exchange.scope["state"]["error"]
        self._service.metrics.count(template, exchange.status or 499, exchange.error, monotonic() - exchange.start)
        exchange.log()


def _too_large() -> RefusedError:
    detail = f"a body has at most {MAX_BODY} bytes"
    return RefusedError(413, detail, name="TooLargeError")


def _with_headers(exchange: _Exchange, send: Send) -> Send:
    """A `send` that adds the request's id and HEADERS to the response, and stores its status in `exchange`."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            exchange.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = exchange.id
            for name, value in HEADERS.items():
                headers[name] = value
        await send(message)

    return send_with_headers


def _receive_of(body: bytes) -> Receive:
    """A `receive` that returns a body as one message, and then waits until it is cancelled."""
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await asyncio.Event().wait()  # ends when the endpoint's task is cancelled
        raise AssertionError("nothing sets this event")

    return receive
