"""A WebSocket client that can misbehave: RFC 6455 by hand over a plain socket, standard library only.

The official clients cannot send what an attacker sends; this one sends any bytes and shows exactly
what came back. Every read has a deadline.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
import struct
import time
import zlib
from dataclasses import dataclass

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
ACCEPT_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
READ_SECONDS = 60.0


class Refused(Exception):
    """The upgrade was answered with something other than 101."""

    def __init__(self, response: Response) -> None:
        super().__init__(f"{response.status} {response.body!r}")
        self.response = response


class Closed(Exception):
    """The peer ended the connection; `code` and `reason` when it sent a Close frame."""

    def __init__(self, code: int | None, reason: str = "") -> None:
        super().__init__(f"closed: code {code}, reason {reason!r}")
        self.code = code
        self.reason = reason


@dataclass
class Response:
    """An HTTP answer. `headers` keeps order and case; `rest` is what came behind it."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    rest: bytes

    def header(self, name: str) -> str | None:
        found = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(found) <= 1, f"header {name} {len(found)} times: {found}"
        return found[0] if found else None

    def json(self):
        return json.loads(self.body)


@dataclass
class Frame:
    opcode: int
    payload: bytes
    fin: bool = True


class Wire:
    """A socket with a read buffer and deadlines. A reset counts as the end of the stream."""

    def __init__(
        self,
        port: int,
        seconds: float = READ_SECONDS,
        context=None,
        source: str | None = None,
        preface: bytes = b"",
    ) -> None:
        """From the loopback address `source`; `preface` goes out before anything else, TLS included."""
        self.socket = socket.create_connection(
            ("127.0.0.1", port), timeout=seconds, source_address=(source, 0) if source else None
        )
        self.socket.sendall(preface)
        self.inflated = 0  # compressed frames received
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
        self.buffer = b""
        self.ended = False

    def send(self, data: bytes) -> bool:
        """False when the peer has already hung up: for hostile input that is a legal answer."""
        try:
            self.socket.sendall(data)
            return True
        except (BrokenPipeError, ConnectionResetError):
            return False

    def fill(self, deadline: float) -> bool:
        """Reads once more; False at the end of the stream."""
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"no more bytes; so far {self.buffer[:200]!r}")
        self.socket.settimeout(left)
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            data = b""
        except TimeoutError:
            raise TimeoutError(f"no more bytes; so far {self.buffer[:200]!r}") from None
        if not data:
            self.ended = True
            return False
        self.buffer += data
        return True

    def take(self, count: int, deadline: float) -> bytes:
        while len(self.buffer) < count:
            if not self.fill(deadline):
                raise Closed(None)
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def read_response(self, seconds: float = READ_SECONDS) -> Response:
        """One HTTP answer. `Closed` when the peer ended the connection without any."""
        deadline = time.monotonic() + seconds
        while b"\r\n\r\n" not in self.buffer:
            if not self.fill(deadline):
                raise Closed(None)
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = []
        for line in lines:
            name, _, value = line.partition(":")
            headers.append((name, value.strip()))
        response = Response(int(first.split(" ")[1]), headers, b"", b"")
        length = int(response.header("content-length") or 0)
        if response.status != 101 and length:
            response.body = self.take(length, deadline)
        return response

    def read_to_end(self, seconds: float = READ_SECONDS) -> bytes:
        """Everything until the peer closes."""
        deadline = time.monotonic() + seconds
        while not self.ended:
            self.fill(deadline)
        rest, self.buffer = self.buffer, b""
        return rest

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        """Ends with RST instead of FIN."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def upgrade_head(token: str | bytes | None, *, extra: tuple[bytes, ...] = (), key: str = "") -> bytes:
    """A correct upgrade request as `ws` sends it, with `extra` header lines added."""
    lines = [
        b"GET / HTTP/1.1",
        b"Host: 127.0.0.1",
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: " + (key or new_key()).encode(),
    ]
    if token is not None:
        raw = token if isinstance(token, bytes) else token.encode("latin-1")
        lines.append(b"Sec-WebSocket-Protocol: " + raw)
    return b"\r\n".join([*lines, *extra, b"", b""])


def no_such_number(text: str):
    """Python's parser takes `NaN` and `Infinity`; JSON has neither."""
    raise ValueError(f"{text} is not JSON")


def new_key() -> str:
    return base64.b64encode(os.urandom(16)).decode()


def encode(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bool = True,
    claim: int | None = None,
) -> bytes:
    """One frame. `claim` writes another length than the payload has."""
    length = len(payload) if claim is None else claim
    first = (0x80 if fin else 0) | (rsv << 4) | opcode
    masked = 0x80 if mask else 0
    if length < 126:
        head = struct.pack("!BB", first, masked | length)
    elif length < 1 << 16:
        head = struct.pack("!BBH", first, masked | 126, length)
    else:
        head = struct.pack("!BBQ", first, masked | 127, length)
    if not mask:
        return head + payload
    key = os.urandom(4)
    repeated = (key * (len(payload) // 4 + 1))[: len(payload)]
    body = (
        int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
    ).to_bytes(len(payload), "big")
    return head + key + body


def deflate(data: bytes, level: int = 9) -> bytes:
    """A message's payload by RFC 7692, compressed on its own."""
    squeezer = zlib.compressobj(level, wbits=-15)
    out = squeezer.compress(data) + squeezer.flush(zlib.Z_SYNC_FLUSH)
    assert out.endswith(b"\x00\x00\xff\xff")
    return out[:-4]


def inflate(payload: bytes) -> bytes:
    """A message out of its payload, with nothing left over from the message before."""
    return zlib.decompressobj(wbits=-15).decompress(payload + b"\x00\x00\xff\xff")


def instant(time: str) -> tuple[str, str]:
    """What `SendTime` sorts by: its fraction has as many digits as it needs, and a `Z` is behind any of them."""
    whole, _, fraction = time.removesuffix("Z").partition(".")
    return whole, fraction.ljust(9, "0")


class WebSocket(Wire):
    """An open chat connection."""

    def __init__(self, port: int, token: str, *, extra: tuple[bytes, ...] = (), **rest) -> None:
        super().__init__(port, **rest)
        key = new_key()
        self.send(upgrade_head(token, extra=extra, key=key))
        response = self.read_response()
        if response.status != 101:
            self.close()
            raise Refused(response)
        digest = hashlib.sha1(key.encode() + ACCEPT_GUID).digest()
        assert response.header("sec-websocket-accept") == base64.b64encode(digest).decode()
        assert response.header("sec-websocket-protocol") == token, "the token is echoed verbatim"
        agreed = response.header("sec-websocket-extensions")
        offered = any(line.lower().startswith(b"sec-websocket-extensions:") for line in extra)
        assert agreed is None or offered, "no extension was offered"
        self.deflate = agreed is not None
        self.response = response

    def send_frame(self, opcode: int, payload: bytes = b"", **shape) -> bool:
        return self.send(encode(opcode, payload, **shape))

    def send_text(self, text: str) -> bool:
        return self.send_frame(TEXT, text.encode("utf-8", "surrogatepass"))

    def send_json(self, request: object) -> bool:
        return self.send_text(json.dumps(request))

    def receive_frame(self, seconds: float = READ_SECONDS) -> Frame:
        """The next frame of any kind; `Closed` at the end of the stream without one."""
        deadline = time.monotonic() + seconds
        first, second = self.take(2, deadline)
        assert not second & 0x80, "a server frame is never masked"
        assert not first & 0x30, "no RSV bit without an extension"
        assert not first & 0x40 or self.deflate, "RSV1 was not agreed"
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack("!H", self.take(2, deadline))
        elif length == 127:
            (length,) = struct.unpack("!Q", self.take(8, deadline))
        assert length <= 64 * 1024, f"a chat frame of {length} bytes"
        payload = self.take(length, deadline)
        if first & 0x40:
            assert first & 0x0F in (TEXT, BINARY), "RSV1 on a control or continuation frame"
            payload = inflate(payload)
            self.inflated += 1
        return Frame(first & 0x0F, payload, bool(first & 0x80))

    def receive(self, seconds: float = READ_SECONDS) -> dict:
        """The next chat frame; answers pings; `Closed` with the code at a Close frame."""
        deadline = time.monotonic() + seconds
        while True:
            frame = self.receive_frame(deadline - time.monotonic())
            if frame.opcode == PING:
                self.send_frame(PONG, frame.payload)
            elif frame.opcode == CLOSE:
                code = struct.unpack("!H", frame.payload[:2])[0] if frame.payload else 1005
                raise Closed(code, frame.payload[2:].decode("utf-8"))
            elif frame.opcode == TEXT:
                assert frame.fin, "chat frames are not fragmented"
                return json.loads(frame.payload.decode("utf-8"), parse_constant=no_such_number)
            else:
                assert frame.opcode == PONG, f"opcode {frame.opcode} from a chat server"

    def receive_until(self, wanted, seconds: float = READ_SECONDS) -> tuple[dict, list[dict]]:
        """The first chat frame for which `wanted(frame)` holds, and those before it."""
        deadline = time.monotonic() + seconds
        before: list[dict] = []
        while True:
            frame = self.receive(max(deadline - time.monotonic(), 0.001))
            if wanted(frame):
                return frame, before
            before.append(frame)

    def receive_close(self, seconds: float = READ_SECONDS) -> Closed:
        """Reads on until the connection ends and tells how."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.receive(max(deadline - time.monotonic(), 0.001))
            except Closed as closed:
                return closed

    def receive_close_after(self, frames: list[dict], seconds: float = READ_SECONDS) -> Closed:
        """As `receive_close`; what comes before goes to `frames`."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                frames.append(self.receive(max(deadline - time.monotonic(), 0.001)))
            except Closed as closed:
                return closed

    def say(self, content: str, request_id: str = "", **rest) -> bool:
        return self.send_json(
            {"Action": "SEND_MESSAGE", "RequestId": request_id, "Content": content, **rest}
        )
