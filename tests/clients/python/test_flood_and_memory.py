"""Connections that are cut: floods of what is no request, and the kernel memory of those who do not read."""

from __future__ import annotations

import re
import socket
import time

import pytest

from rawws import BINARY, PING, TEXT, Closed, WebSocket, encode, upgrade_head
from uproar import Server


def closed(server: Server, reason: str) -> int:
    found = re.search(rf'connections_closed_total{{reason="{reason}"}} (\d+)', server.metrics())
    assert found, f"no figure for {reason}"
    return int(found[1])


@pytest.mark.parametrize(
    "name", ["binary", "empty text", "no JSON", "ping", "wrong action"], ids=lambda name: name
)
def test_a_flood_that_is_read_is_cut_and_counted(arena, name):
    frame = {
        "binary": encode(BINARY, b"x"),
        "empty text": encode(TEXT, b""),
        "no JSON": encode(TEXT, b"x"),
        "ping": encode(PING, b"x"),
        "wrong action": encode(TEXT, b'{"Action":"SHOUT","RequestId":"r"}'),
    }[name]
    before = closed(arena.server, "flood")
    flooder = arena.join()
    sent = 0
    with pytest.raises(Closed):
        while sent < 20_000 and flooder.send(frame * 100):
            sent += 100
            # It reads what it gets, so it is not slow.
            for _ in range(100):
                flooder.receive_frame()
        flooder.receive_close()
        raise Closed(None)
    assert sent < 20_000, "the flood was never cut"
    assert closed(arena.server, "flood") == before + 1


def test_a_client_with_a_few_hundred_mistakes_is_told_of_each(arena):
    client = arena.join()
    for _ in range(500):
        client.send_frame(BINARY, b"x")
        assert client.receive()["ErrorCode"] == 400
    client.say("still here", "r")
    client.receive_until(lambda frame: frame.get("RequestId") == "r")


# -- kernel memory --


def unsent(port: int) -> tuple[int, int]:
    """Sockets of the server's port that still hold bytes for their clients, and how many bytes."""
    count = total = 0
    with open("/proc/net/tcp", encoding="ascii") as table:
        next(table)
        for line in table:
            _, local, _, _, queues, *_ = line.split()
            if int(local.split(":")[1], 16) == port:
                waiting = int(queues.split(":")[0], 16)
                count += waiting > 0
                total += waiting
    return count, total


def silent_reader(server: Server, arn: str) -> WebSocket:
    """A viewer with a tiny receive buffer that never reads again."""
    viewer = WebSocket.__new__(WebSocket)
    viewer.socket = socket.socket()
    viewer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    viewer.socket.connect(("127.0.0.1", server.messaging_port))
    viewer.buffer, viewer.ended = b"", False
    viewer.send(upgrade_head(server.token(arn, "silent")))
    assert viewer.read_response().status == 101
    return viewer


# Only a hang gets there: viewers are cut 20 s after they stop reading, which takes 50 s here on busy cores.
def wait_until(what, seconds: float = 240.0):
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)
    return found


def test_kernel_memory_of_slow_viewers_is_free_when_they_are_cut(server, room):
    readers = [silent_reader(server, room) for _ in range(20)]
    speaker = WebSocket(server.messaging_port, server.token(room, "speaker"))
    before = closed(server, "slow")
    while unsent(server.messaging_port)[1] < 2_000_000:
        speaker.say("x" * 500, Attributes={"a": "y" * 900})
        speaker.receive_until(lambda frame: frame["Type"] == "MESSAGE")
    # They are cut when a send has stalled for 20 s. Half a megabyte each goes with them, although the
    # clients stay as they are.
    for _ in range(600):
        speaker.say("x" * 500, Attributes={"a": "y" * 900})
        speaker.receive_until(lambda frame: frame["Type"] == "MESSAGE")
    wait_until(lambda: closed(server, "slow") == before + len(readers))
    wait_until(lambda: unsent(server.messaging_port)[0] == 0)
    for reader in readers:
        reader.close()


def test_a_client_that_ends_without_closing_leaves_nothing_in_the_kernel(server, room):
    reader = silent_reader(server, room)
    speaker = WebSocket(server.messaging_port, server.token(room, "speaker"))
    while unsent(server.messaging_port)[1] < 100_000:
        speaker.say("x" * 500, Attributes={"a": "y" * 900})
        speaker.receive_until(lambda frame: frame["Type"] == "MESSAGE")
    reader.socket.shutdown(socket.SHUT_WR)
    wait_until(lambda: unsent(server.messaging_port)[0] == 0)
    reader.close()


def test_what_was_said_before_a_kick_is_delivered_to_who_reads_late(server, room):
    """A clean close keeps its bytes: the client finds everything, Close frame included."""
    reader = silent_reader(server, room)
    speaker = WebSocket(server.messaging_port, server.token(room, "speaker"))
    for number in range(40):
        speaker.say("x" * 500, f"r{number}")
        speaker.receive_until(lambda frame: frame["Type"] == "MESSAGE")
    server.boto_cached.disconnect_user(roomIdentifier=room, userId="silent", reason="out")
    before = closed(server, "kicked")
    # Later than the server waits for an answer to its Close frame.
    wait_until(lambda: open_connections(server) == 1)
    frames: list[dict] = []
    reader.deflate = False
    end = reader.receive_close_after(frames)
    assert (end.code, end.reason) == (1000, "out")
    assert sum(frame["Type"] == "MESSAGE" for frame in frames) == 40
    assert before == 1


def open_connections(server: Server) -> int:
    return int(re.search(r"uproar_connections (\d+)", server.metrics())[1])
