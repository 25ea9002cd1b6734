"""HTTP/1.1 connections with two limits that uvicorn lacks: on their number, and on how long a client may be silent.

uvicorn closes a connection that stays silent after a response, and h11 bounds the size of a request's head. But uvicorn
waits without limit for the first head, for the rest of an incomplete head, and for the rest of a refused body. Here a
client has SILENT_S seconds for each head. When there are too many connections, the one whose client has been silent
longest is closed. A client that sends complete requests is therefore served even if others hold many connections open.
`door.py` limits the time for bodies, because it can still send a response.
"""

import asyncio
import socket
from typing import ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS = 512
SILENT_S = 10.0  # seconds for a request's head, and for the rest of a refused body
UNREAD_S = 30.0  # seconds after which a connection is closed if its client acknowledges no data
LAST_S = 1.0  # seconds that an idle connection stays open for a last request when the server stops
_PROBLEM = (
    b'{"type": "urn:fashion-infer:OverloadedError", "title": "Service Unavailable", "status": 503, '
    b'"detail": "all connections are busy: try again later", "name": "OverloadedError"}'
)
FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n"
    b"Content-Type: application/problem+json\r\nContent-Length: %d\r\n\r\n%s" % (len(_PROBLEM), _PROBLEM)
)


class Connection(H11Protocol):
    """One connection with a timer, which runs while the server waits for the client to send a request.

    Attributes:
        idle: the timer of every connection that waits for its client, the longest wait first.
    """

    idle: ClassVar[dict["Connection", asyncio.TimerHandle]] = {}
    _stopping = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a new connection; if there are too many, close the one that has been idle longest."""
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
        """Stop the timer of a closed connection."""
        self._stop_watching()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read more of a request, and stop the timer once its head is complete."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Start the timer again after a response."""
        super().on_response_complete()
        self._watch()

    def shutdown(self) -> None:
        """Close the connection after the current request, or after one that may already be on its way.

        uvicorn's own method tells the application that the client has left, and drops connections that were just
        opened.
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
        """Process the received data; while the server stops, the connection is closed after this request."""
        super().handle_events()
        if self._stopping and self.cycle is not None:
            self.cycle.keep_alive = False

    def send_400_response(self, msg: str) -> None:
        """Answer data that is not valid HTTP; if a response has already begun, close the connection instead."""
        try:
            super().send_400_response(msg)
        except h11.LocalProtocolError:
            self.transport.abort()

    def _watch(self) -> None:
        """Run the timer if the server waits for the client, and stop it while a request is being processed."""
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
