"""HTTP/1.1 connections with the limits that uvicorn's own lack: how many there are, and how long one may say nothing.

uvicorn closes a connection that stays silent after an answer, and bounds the size of a head (h11), but it waits for
ever for the first head, for the rest of one, and for a body that nobody wants any more. So a connection has SILENT_S
for each head, and when there are too many the one that has waited longest for its head makes room: whoever sends whole
requests gets in however many others hold connections open. Bodies are timed by `door.py`, which can answer them.
"""

import asyncio
import socket
from typing import ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS = 512
SILENT_S = 10.0  # for a request's head, and for the rest of a body that was refused
UNREAD_S = 30.0  # for a client that takes nothing of its answer
LAST_S = 1.0  # for a connection that was just opened when the server stops
_PROBLEM = (
    b'{"type": "urn:fashion-infer:OverloadedError", "title": "Service Unavailable", "status": 503, '
    b'"detail": "all connections are busy: try again later", "name": "OverloadedError"}'
)
FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n"
    b"Content-Type: application/problem+json\r\nContent-Length: %d\r\n\r\n%s" % (len(_PROBLEM), _PROBLEM)
)


class Connection(H11Protocol):
    """One connection.

    While no request of it is being worked on, it is its client's turn, and its time runs.
    """

    idle: ClassVar[dict["Connection", asyncio.TimerHandle]] = {}  # those whose client's turn it is, the longest first
    _stopping = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a new connection, and where there are too many give up the one that has been idle longest."""
        super().connection_made(transport)
        opened: socket.socket | None = transport.get_extra_info("socket")
        if opened is not None and opened.family in (socket.AF_INET, socket.AF_INET6):
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(UNREAD_S * 1e3))
        if len(self.connections) > MAX_CONNECTIONS:
            if self.idle:
                next(iter(self.idle))._give_up()
            else:
                transport.write(FULL)
                transport.close()
                return
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._stop_watching()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on; with the end of a head its client's turn ends."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """It is the client's turn again."""
        super().on_response_complete()
        self._watch()

    def shutdown(self) -> None:
        """Stop after the request that is being worked on, or that is perhaps on its way already.

        uvicorn's own tells an application that its client has left, and drops connections that were just opened.
        """
        if self.cycle is None:
            self._stopping = True
            self._stop_watching()
            self.idle[self] = self.loop.call_later(LAST_S, self._give_up)
        elif self.cycle.response_complete:
            super().shutdown()
        else:
            self.cycle.keep_alive = False

    def handle_events(self) -> None:
        """Work on what has come; the last request of a stopping server closes its connection."""
        super().handle_events()
        if self._stopping and self.cycle is not None:
            self.cycle.keep_alive = False

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, unless an answer has begun already."""
        try:
            super().send_400_response(msg)
        except h11.LocalProtocolError:
            self.transport.abort()

    def _watch(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_watching()
        elif self not in self.idle and not self.transport.is_closing():
            self.idle[self] = self.loop.call_later(SILENT_S, self._give_up)

    def _stop_watching(self) -> None:
        timer = self.idle.pop(self, None)
        if timer is not None:
            timer.cancel()

    def _give_up(self) -> None:
        self._stop_watching()
        self.transport.abort()
