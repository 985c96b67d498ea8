"""The network between one node and the brokers, as a TCP proxy of one port for each broker.

It can cut (connections are reset, new ones are refused), swallow (connections stay, bytes wait until it is mended, as
packets do that are sent again and again), and slow down.
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
import time

from ports import free_port


class Link:
    """One port that leads to another, while it does."""

    def __init__(self, target: int) -> None:
        self.target, self.port = target, free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self.flows = threading.Event()
        self.flows.set()
        self.delay = 0.0
        self.stalls = 0.0
        self.sockets: set[socket.socket] = set()
        self.listener: socket.socket | None = None
        self.mend()

    def mend(self) -> None:
        """As at the beginning: everything passes at once."""
        self.delay = self.stalls = 0.0
        self.flows.set()
        if self.listener is None:
            self.listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
            threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def cut(self) -> None:
        """Every connection is reset, and new ones are refused."""
        listener, self.listener = self.listener, None
        if listener is not None:
            # A close alone leaves a thread in `accept`, which would take one more.
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for end in list(self.sockets):
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RDWR)
        self.flows.set()

    def swallow(self) -> None:
        """Connections stay, and nothing comes through."""
        self.flows.clear()

    def slow(self, delay: float = 0.0, stalls: float = 0.0) -> None:
        """Each piece comes `delay` seconds late, and that share of them a second."""
        self.delay, self.stalls = delay, stalls

    def accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(near, listener), daemon=True).start()

    def serve(self, near: socket.socket, listener: socket.socket) -> None:
        self.flows.wait()
        try:
            far = socket.create_connection(("127.0.0.1", self.target), 5)
        except OSError:
            near.close()
            return
        far.settimeout(None)
        pair = (near, far)
        for end in pair:
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sockets.update(pair)
        if self.listener is not listener:
            # Cut meanwhile, perhaps before this pair was among those to reset.
            for end in pair:
                self.sockets.discard(end)
                end.close()
            return
        back = threading.Thread(target=self.copy, args=(far, near), daemon=True)
        back.start()
        self.copy(near, far)
        back.join()
        for end in pair:
            self.sockets.discard(end)
            end.close()

    def copy(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                self.flows.wait()
                if self.delay or self.stalls:
                    time.sleep(1.0 if random.random() < self.stalls else self.delay)
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Network:
    """All links of one node."""

    def __init__(self, targets: list[int]) -> None:
        self.links = [Link(target) for target in targets]

    @property
    def urls(self) -> list[str]:
        return [link.url for link in self.links]

    def mend(self) -> None:
        for link in self.links:
            link.mend()

    def cut(self) -> None:
        for link in self.links:
            link.cut()

    def swallow(self) -> None:
        for link in self.links:
            link.swallow()

    def slow(self, delay: float = 0.0, stalls: float = 0.0) -> None:
        for link in self.links:
            link.slow(delay, stalls)
