"""Viewers of a cluster who chat: raw connections through the balancer that keep every frame as it came.

They come back with a new token when a connection ends, as official clients do, and each connection is a stream of
its own: what a viewer was promised, it was promised for one connection.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import json
import select
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from rawws import CLOSE, PING, PONG, TEXT, Closed, Refused, WebSocket, inflate

# How long a viewer waits before it comes back, as the official clients do at first.
AGAIN_SECONDS = 0.2
SETTLE_SECONDS_MAX = 90.0
# By a message review handler.
DENIED = 406


@dataclass(eq=False)
class Stream:
    """One connection of a viewer, from its `101` on. Times are of `time.monotonic`."""

    user: str
    room: str
    node: str
    socket: WebSocket
    joined: float
    frames: list[tuple[float, bytes]] = field(default_factory=list)
    ended: float | None = None
    why: str = ""


@dataclass(eq=False)
class Request:
    """One SEND_MESSAGE and what became of it."""

    id: str
    stream: Stream
    sent: float
    echoed: float | None = None
    refused: int | None = None


class Viewers:
    """`join` brings them, `chat` makes them talk, `settle` waits until every request has its answer."""

    def __init__(self, balancer: int, mint) -> None:
        """Connections go to the port `balancer`; `mint(room, user)` makes a token and may raise while nobody can."""
        self.balancer, self.mint = balancer, mint
        self.streams: list[Stream] = []
        self.requests: dict[str, Request] = {}
        # The same in the order of their times, for whoever asks about the last moments of a long trial.
        self.sent: list[Request] = []
        self.open: dict[int, Stream] = {}
        self.refusals: collections.Counter[str] = collections.Counter()
        self.stopping = False
        self.wanted = 0
        self.numbers = itertools.count()
        # What a message with this RequestId says.
        self.content = lambda name: f"{name} {'x' * 80}"
        self.turn = 0
        self.epoll = select.epoll()
        self.joining = ThreadPoolExecutor(8)
        self.threads = [threading.Thread(target=self.read, daemon=True)]
        self.threads[0].start()

    # -- coming and going --

    def join(self, rooms: list[str], count: int) -> Viewers:
        """`count` viewers, dealt out over the rooms; returns when all are connected."""
        self.wanted += count
        for number in range(count):
            self.joining.submit(self.enter, f"u{number}", rooms[number % len(rooms)])
        return self.await_all()

    def await_all(self, seconds: float = SETTLE_SECONDS_MAX) -> Viewers:
        deadline = time.monotonic() + seconds
        while len(self.open) < self.wanted:
            assert time.monotonic() < deadline, f"{len(self.open)} of {self.wanted} are connected: {self.refusals}"
            time.sleep(0.02)
        return self

    def enter(self, user: str, room: str) -> None:
        while not self.stopping:
            try:
                viewer = WebSocket(self.balancer, self.mint(room, user), seconds=20)
            except Exception as error:  # any: the client of the API has many of its own
                self.refusals[describe(error)] += 1
                time.sleep(AGAIN_SECONDS)
                continue
            node = viewer.response.header("x-node") or "?"
            stream = Stream(user, room, node, viewer, time.monotonic())
            self.streams.append(stream)
            self.take(stream, b"")
            viewer.socket.settimeout(5)
            self.open[viewer.socket.fileno()] = stream
            self.epoll.register(viewer.socket.fileno(), select.EPOLLIN)
            return

    def leave(self, stream: Stream, why: str) -> None:
        """A connection has ended: its viewer comes back."""
        stream.ended, stream.why = time.monotonic(), why
        descriptor = stream.socket.socket.fileno()
        self.open.pop(descriptor, None)
        with contextlib.suppress(OSError):
            self.epoll.unregister(descriptor)
        stream.socket.close()
        if not self.stopping and why != "kicked":
            self.joining.submit(self.come_back, stream)

    def come_back(self, stream: Stream) -> None:
        time.sleep(AGAIN_SECONDS)
        self.enter(stream.user, stream.room)

    # -- reading --

    def read(self) -> None:
        while not self.stopping:
            for descriptor, _ in self.epoll.poll(0.1):
                if stream := self.open.get(descriptor):
                    self.read_some(stream)

    def read_some(self, stream: Stream) -> None:
        try:
            data = stream.socket.socket.recv(65536, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError as error:
            return self.leave(stream, describe(error))
        if not data:
            return self.leave(stream, "end of stream")
        self.take(stream, data)

    def take(self, stream: Stream, data: bytes) -> None:
        """All whole frames of the buffer; the rest stays there."""
        buffer, at, now = stream.socket.buffer + data, 0, time.monotonic()
        while (found := whole_frame(buffer, at)) is not None:
            first, payload, at = found
            opcode = first & 0x0F
            if opcode == TEXT:
                self.note(stream, inflate(payload) if first & 0x40 else payload, now)
            elif opcode == PING:
                stream.socket.send_frame(PONG, payload)
            elif opcode == CLOSE:
                code = struct.unpack("!H", payload[:2])[0] if payload else 1005
                return self.leave(stream, f"close {code} {payload[2:].decode()}")
        stream.socket.buffer = buffer[at:]

    def note(self, stream: Stream, payload: bytes, now: float) -> None:
        stream.frames.append((now, payload))
        # Only the sender's own frames are worth parsing now.
        own = payload.find(b'"RequestId":"' + stream.user.encode() + b".")
        if own < 0 and b'"ERROR"' not in payload:
            return
        frame = json.loads(payload)
        request = self.requests.get(frame.get("RequestId", ""))
        if request is None or request.stream is not stream:
            return
        if frame["Type"] == "ERROR":
            request.refused = frame["ErrorCode"]
            # A handler's words are another for each message.
            words = "" if frame["ErrorCode"] == DENIED else f" {frame['ErrorMessage']}"
            self.refusals[f"ERROR {frame['ErrorCode']}{words}"] += 1
        elif request.echoed is None:
            request.echoed = now

    # -- talking --

    @contextlib.contextmanager
    def chat(self, rate: float):
        """While the block runs, they say `rate` messages a second between them, each in its turn."""
        halt = threading.Event()
        talking = threading.Thread(target=self.talk, args=(rate, halt), daemon=True)
        talking.start()
        try:
            yield
        finally:
            halt.set()
            talking.join(30)

    def talk(self, rate: float, halt: threading.Event) -> None:
        due = time.monotonic()
        while not halt.is_set():
            self.say_next()
            due = max(due + 1 / rate, time.monotonic() - 1)
            halt.wait(max(due - time.monotonic(), 0))

    def say_next(self) -> Request | None:
        streams = list(self.open.values())
        if not streams:
            return None
        # A step that shares no factor with the number of viewers walks through all rooms and nodes.
        self.turn += 7919
        return self.say(streams[self.turn % len(streams)])

    def say(self, stream: Stream, content: str = "") -> Request:
        name = f"{stream.user}.{next(self.numbers)}"
        request = Request(name, stream, time.monotonic())
        self.requests[name] = request
        self.sent.append(request)
        with contextlib.suppress(OSError):
            stream.socket.say(content or self.content(name), name)
        return request

    def unanswered(self) -> list[Request]:
        """Requests without echo or ERROR whose connections live."""
        return [
            request for request in list(self.requests.values())
            if request.echoed is None and request.refused is None and request.stream.ended is None
        ]

    def settle(self, seconds: float = SETTLE_SECONDS_MAX) -> Viewers:
        """Waits until all are connected, every request is answered and a last message has reached everybody.
        An answer that never comes is a broken promise, so this fails then."""
        self.await_all(seconds)
        deadline = time.monotonic() + seconds
        while unanswered := self.unanswered():
            assert time.monotonic() < deadline, f"no answer to {[(r.id, r.stream.node) for r in unanswered][:10]}"
            time.sleep(0.05)
        self.say_last(deadline)
        return self

    def say_last(self, deadline: float) -> None:
        """One message a room that all of its streams have."""
        for room in {stream.room for stream in self.open.values()}:
            while time.monotonic() < deadline:
                present = [stream for stream in list(self.open.values()) if stream.room == room]
                request = self.say(present[0], "the last one")
                needle = f'"{request.id}"'.encode()
                while time.monotonic() < deadline and request.refused is None and present[0].ended is None:
                    if all(s.ended or any(needle in payload for _, payload in s.frames[-50:]) for s in present):
                        break
                    time.sleep(0.02)
                else:
                    continue
                break
            assert time.monotonic() < deadline, f"the last message does not reach everybody in {room}"

    def close(self) -> None:
        self.stopping = True
        self.joining.shutdown(wait=True, cancel_futures=True)
        for thread in self.threads:
            thread.join(10)
        for stream in self.streams:
            stream.socket.close()
        self.epoll.close()

    # -- what it was like --

    def since(self, moment: float) -> list[Request]:
        """Requests that were sent then or later."""
        first = len(self.sent)
        while first > 0 and self.sent[first - 1].sent >= moment:
            first -= 1
        return self.sent[first:]

    def pauses(self, since: float, without: str = "") -> list[float]:
        """For each room the longest wait for an echo, in seconds, of requests since then. Without those of a node's
        viewers, who are not the others."""
        longest: dict[str, float] = {}
        for request in self.since(since):
            stream = request.stream
            if request.echoed is not None and stream.node != without:
                longest[stream.room] = max(longest.get(stream.room, 0), request.echoed - request.sent)
        return sorted(longest.values())


def whole_frame(buffer: bytes, at: int) -> tuple[int, bytes, int] | None:
    """First byte and payload of the frame at `at`, and where the next one begins; `None` if it is not all there."""
    if len(buffer) < at + 2:
        return None
    length, begin = buffer[at + 1] & 0x7F, at + 2
    wide = {126: ("!H", 2), 127: ("!Q", 8)}.get(length)
    if wide:
        if len(buffer) < begin + wide[1]:
            return None
        (length,) = struct.unpack_from(wide[0], buffer, begin)
        begin += wide[1]
    if len(buffer) < begin + length:
        return None
    return buffer[at], buffer[begin : begin + length], begin + length


def describe(error: Exception) -> str:
    if isinstance(error, Refused):
        return f"refused {error.response.status}"
    if isinstance(error, Closed):
        return "closed before its answer"
    return f"{type(error).__name__}: {error}"[:120]
