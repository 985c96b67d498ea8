"""Where a request ends (RFC 9112 §6): what parsers are known to disagree about is refused, on every listener.

Method: raw sockets, plain and TLS, whole and in single bytes; behind each doubtful request comes a good one, which
must never be answered.
"""

from __future__ import annotations

import re
import socket

import pytest

from conftest import shared_server_of
from raw_api import sign
from uproar import Server

SECONDS = 60  # Only ends a hang.


@pytest.fixture(scope="module", params=["plain", "tls"])
def host(request):
    """A server without and one with TLS on both listeners."""
    yield from shared_server_of(Server(extra=("--tls",) if request.param == "tls" else ()))


def connect(server, port: int | None = None) -> socket.socket:
    plain = socket.create_connection(("127.0.0.1", port or server.control_port), timeout=SECONDS)
    context = server.context
    return context.wrap_socket(plain) if context else plain


def exchange(server, pieces, port: int | None = None) -> bytes:
    """All that is answered until the server ends the connection."""
    with connect(server, port) as connection:
        for piece in pieces:
            connection.sendall(piece)
        data = b""
        while more := connection.recv(65_536):
            data += more
        return data


def signed(server, fields: str, body: bytes = b"{}", version: str = "1.1") -> bytes:
    """A good ListRooms but for its framing."""
    headers = sign(server, "POST", "/ListRooms", b"{}", {"Content-Type": "application/json"})
    headers["Host"] = f"127.0.0.1:{server.control_port}"
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST /ListRooms HTTP/{version}\r\n{head}{fields}\r\n".encode() + body


CHUNKED = b"2\r\n{}\r\n0\r\n\r\n"
DOUBTFUL = {
    "a length, then a coding": ("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", CHUNKED),
    "a coding, then a length": ("Transfer-Encoding: chunked\r\nContent-Length: 2\r\n", CHUNKED),
    "a coding and the length of it": ("Transfer-Encoding: chunked\r\nContent-Length: 12\r\n", CHUNKED),
    "two lengths": ("Content-Length: 2\r\nContent-Length: 3\r\n", b"{}"),
    "the same length twice": ("Content-Length: 2\r\nContent-Length: 2\r\n", b"{}"),
    "a list of lengths": ("Content-Length: 2, 2\r\n", b"{}"),
    "a length with a sign": ("Content-Length: +2\r\n", b"{}"),
    "a length in hexadecimal": ("Content-Length: 0x2\r\n", b"{}"),
    "no length": ("Content-Length: \r\n", b"{}"),
    "a length of twenty digits": ("Content-Length: 00000000000000000002\r\n", b"{}"),
    "a coding behind chunked": ("Transfer-Encoding: chunked, identity\r\n", CHUNKED),
    "a coding before chunked": ("Transfer-Encoding: gzip, chunked\r\n", CHUNKED),
    "chunked twice": ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", CHUNKED),
    "identity": ("Transfer-Encoding: identity\r\n", b"{}"),
    "a name with a blank": ("Transfer-Encoding : chunked\r\n", CHUNKED),
    "a folded coding": ("Transfer-Encoding:\r\n chunked\r\n", CHUNKED),
    "a folded line": ("X: y\r\n Transfer-Encoding: chunked\r\nContent-Length: 2\r\n", b"{}"),
    "a bare line feed": ("X: y\nContent-Length: 2\r\n", b"{}"),
    "a bare carriage return": ("X: y\rContent-Length: 2\r\n", b"{}"),
    "a head that ends with line feeds": ("Content-Length: 2\n\n", b"{}"),
    "a NUL": ("X: y\0\r\nContent-Length: 2\r\n", b"{}"),
}


@pytest.mark.parametrize("how", ["whole", "bytewise"])
@pytest.mark.parametrize("case", DOUBTFUL)
def test_a_doubtful_request_is_refused_and_nothing_behind_it_is_read(host, case, how):
    fields, body = DOUBTFUL[case]
    good = signed(host, "Content-Length: 2\r\n")
    stream = signed(host, fields, body) + good
    pieces = [stream] if how == "whole" else [bytes([byte]) for byte in stream]
    try:
        data = exchange(host, [good, *pieces])
    except (BrokenPipeError, ConnectionResetError):
        pytest.fail("the answer was lost in a reset")
    statuses = re.findall(rb"HTTP/1\.1 (\d+)", data)
    assert statuses == [b"200", b"400"], data


def test_http_1_0_has_no_codings(host):
    data = exchange(host, [signed(host, "Transfer-Encoding: chunked\r\n", CHUNKED, "1.0")])
    assert re.findall(rb"HTTP/1\.[01] (\d+)", data) == [b"400"], data


def test_a_chunked_call_is_good_and_its_connections_last(host):
    """Goal: where chunks end is read by one parser only, so nothing behind them is taken for a request."""
    chunked = signed(host, "Transfer-Encoding: chunked\r\n", CHUNKED)
    data = exchange(host, [chunked + signed(host, "Content-Length: 2\r\n")])
    assert re.findall(rb"HTTP/1\.1 (\d+)", data) == [b"200"]
    assert b"\r\nconnection: close\r\n" in data.lower()


def test_what_is_no_doubt_is_answered(host):
    good = signed(host, "content-length:\t2 \r\nX-Content-Length: 9\r\nX: chunked\r\n")
    last = b"GET /livez HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    data = exchange(host, [b"\r\n", good, b"\r\n\r\n", good, last])
    assert re.findall(rb"HTTP/1\.1 (\d+)", data) == [b"200"] * 3


def test_a_doubt_is_counted_and_logged_with_its_reason(host):
    before = counted(host)
    exchange(host, [signed(host, *DOUBTFUL["a length, then a coding"])])
    assert counted(host) == before + 1
    assert "Content-Length and Transfer-Encoding must appear once" in host.log_path.read_text()


def counted(server) -> int:
    name = r'uproar_api_requests_total\{operation="unknown",status="400"\} (\d+)'
    found = re.search(name, server.metrics())
    return int(found[1]) if found else 0


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        ("Content-Length: 2\r\n", b"{}"),
        ("Transfer-Encoding: chunked\r\n", CHUNKED),
        ("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", CHUNKED),
        ("Content-Length: 0\r\nContent-Length: 0\r\n", b""),
        ("Content-Length: 1000000\r\n", b"x" * 1_000_000),
        ("X: y\n", b""),
        ("X: y\r\n z\r\n", b""),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_handshake_has_no_body(host, method, fields, body):
    """Goal: refused from the head, and the answer arrives although the body was not read."""
    head = (
        f"{method} / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{fields}\r\n"
    )
    data = exchange(host, [head.encode() + body], host.messaging_port)
    statuses = re.findall(rb"HTTP/1\.1 (\d+)", data)
    assert statuses == [b"400"], data
