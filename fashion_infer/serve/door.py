"""What every request passes around its endpoint: key, limits, deadline, the client's leaving, the log line."""

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

MAX_BODY = 32 * 2**20  # bytes of one request
MAX_BODIES = 512 * 2**20  # bytes of all requests that are being read or worked on
BODY_S = 30.0  # for a request's body to arrive
REQUEST_S = 60.0  # for its answer, from when its body is there
OPEN = ("/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready")  # without a key
SAFE = ("GET", "HEAD", "OPTIONS")
HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}  # of every response

logger = logging.getLogger("fashion_infer.requests")


class ClientGoneError(Exception):
    """Nobody waits for the answer any more."""


@dataclass
class _Visit:
    """One request on its way.

    Attributes:
        scope: ASGI's.
        headers: of the request.
        path: without the prefix of --root-path.
        id: of the request, the client's or a new one.
        start: when its head was there, on the monotonic clock.
        body_bytes: that have arrived.
        status: of the response, 0 until it has begun.
        error: name of the error that it was answered with.
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
    def of(cls, scope: Scope) -> "_Visit":
        headers = Headers(scope=scope)
        asked = headers.get("x-request-id", "")
        path = scope["path"].removeprefix(scope.get("root_path", "")) or "/"
        return cls(
            scope, headers, path, asked if re.fullmatch(r"[\w.:-]{1,128}", asked, re.ASCII) else uuid.uuid4().hex
        )

    def deadline(self) -> float | None:
        """On the monotonic clock, by X-Deadline-Ms; None without one."""
        text = self.headers.get("x-deadline-ms")
        if text is None:
            return None
        if not re.fullmatch(r"\d{1,7}(\.\d{1,6})?", text, re.ASCII):
            raise RefusedError(400, "X-Deadline-Ms must be a number of milliseconds, such as 250", name="UsageError")
        return self.start + float(text) / 1e3

    def log(self) -> None:
        """One JSON line."""
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

    Bodies are read here, whole and within limits, so that an endpoint gets one that is there; it is cancelled when its
    client leaves or its deadline passes. An endpoint finds `request_id` and `deadline` in `request.state`.
    """

    def __init__(self, app: ASGIApp, service: Service, api_key: str | None) -> None:
        self._app, self._service = app, service
        self._key = None if api_key is None else api_key.encode()
        self._bytes = 0  # of all bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        visit = _Visit.of(scope)
        scope.setdefault("state", {}).update(request_id=visit.id, deadline=None, error=None)
        answer = _marked(visit, send)
        try:
            await self._serve(visit, receive, answer)
        except ClientGoneError:
            visit.error = "ClientGoneError"
        except Exception as error:
            refusal = refusal_of(error)
            if refusal.status == 500:
                logging.getLogger("fashion_infer").exception("request %s failed", visit.id)
            visit.error = refusal.name
            if not visit.status:
                await problem(refusal, visit.id)(scope, receive, answer)
        finally:
            self._bytes -= visit.body_bytes
            self._finish(visit)

    async def _serve(self, visit: _Visit, receive: Receive, send: Send) -> None:
        self._check(visit)
        visit.scope["state"]["deadline"] = deadline = visit.deadline()
        body = await self._read(visit, receive)
        limit = monotonic() + REQUEST_S if deadline is None else min(deadline, monotonic() + REQUEST_S)
        work = asyncio.ensure_future(self._app(visit.scope, _once(body), send))
        del body
        gone = asyncio.ensure_future(receive())  # after the body nothing but its client's leaving comes
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

    def _check(self, visit: _Visit) -> None:
        """Refuse by the head alone."""
        if self._key is not None and visit.path not in OPEN and not self._has_key(visit.headers):
            detail = "send the key as Authorization: Bearer KEY, as X-API-Key, or as the password of a browser's prompt"
            headers = {"WWW-Authenticate": 'Basic realm="fashion-infer", charset="UTF-8"'}
            raise RefusedError(401, detail, name="UnauthorizedError", headers=headers)
        if visit.scope["method"] not in SAFE:
            if visit.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
                raise RefusedError(403, "another site's page must not send this request", name="CrossSiteError")
            if visit.headers.get("content-encoding", "identity") != "identity":
                raise RefusedError(415, "send the body as it is, without a Content-Encoding", name="EncodedBodyError")
            self._service.admission.check()
        announced = visit.headers.get("content-length", "0")
        if announced.isdigit() and int(announced) > MAX_BODY:
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

    async def _read(self, visit: _Visit, receive: Receive) -> bytes:
        """The body."""
        chunks = []
        try:
            async with asyncio.timeout(BODY_S):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGoneError
                    chunk = message.get("body", b"")
                    visit.body_bytes += len(chunk)
                    self._bytes += len(chunk)
                    if visit.body_bytes > MAX_BODY:
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

    def _finish(self, visit: _Visit) -> None:
        route = visit.scope.get("route")
        template = getattr(route, "path", "(no such route)")
        visit.error = visit.error or visit.scope["state"]["error"]
        self._service.metrics.count(template, visit.status or 499, visit.error, monotonic() - visit.start)
        visit.log()


def _too_large() -> RefusedError:
    detail = f"a body has at most {MAX_BODY} bytes"
    return RefusedError(413, detail, name="TooLargeError")


def _marked(visit: _Visit, send: Send) -> Send:
    """Put the request's id and our headers on its response, and note its status."""

    async def marked(message: Message) -> None:
        if message["type"] == "http.response.start":
            visit.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = visit.id
            for name, value in HEADERS.items():
                headers[name] = value
        await send(message)

    return marked


def _once(body: bytes) -> Receive:
    """Gives a body that is there already, and then nothing more."""
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await asyncio.Event().wait()  # cancelled with the request
        raise AssertionError("nothing sets this event")

    return receive
