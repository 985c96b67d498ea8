"""Readers whose sockets are full while new processes take over, with TLS and without."""

from __future__ import annotations

from rawws import WebSocket
from uproar import Server

READERS = 5


def miss_nothing(server: Server, rounds: int, context=None) -> None:
    """Fails unless all of them hear all that a sender says, once and in order. An upgrade lies between two rounds."""
    arn = server.boto_cached.create_room(maximumMessageRatePerSecond=100)["arn"]

    def viewer(name: str) -> WebSocket:
        return WebSocket(server.messaging_port, server.token(arn, name), context=context)

    sender = viewer("sender")
    slow = [viewer(f"slow{i}") for i in range(READERS)]
    said = 0
    for left in reversed(range(rounds)):
        for _ in range(300):
            sender.say(f"{said:05}" + "x" * 400, "r")
            said += 1
        for number in range(said - 300, said):
            frame, _ = sender.receive_until(lambda frame: frame.get("Type") == "MESSAGE")
            assert frame["Content"].startswith(f"{number:05}")
        if left > 0:
            assert server.upgrade().viewers == READERS + 1
    for reader in slow:
        for number in range(said):
            assert reader.receive()["Content"].startswith(f"{number:05}")
