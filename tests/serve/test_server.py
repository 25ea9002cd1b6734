"""Tests of the server's socket; test_faults tests the rest with a running server."""

import socket

from fashion_infer.serve.server import _listening


def test_accepted_connections_send_small_packets_at_once() -> None:
    with _listening("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
