"""Viewers are in the tables of the shards' rings: a small limit on open files does not bound them."""

from __future__ import annotations

import re
import resource

import pytest

from rawws import Closed, WebSocket
from uproar import Server

VIEWERS = 1_500
LIMIT = 600


def test_more_viewers_than_open_files_chat_and_leave(tmp_path):
    """Goal: viewers beyond the first ring's table get messages in order, keep their own identity, and
    their places are used again. Method: a limit of 600 open files, 1,500 viewers, every second one
    leaves, as many new ones come."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4 * VIEWERS), hard))
    # With epoll a viewer takes a descriptor.
    wrapper = ("prlimit", f"--nofile={LIMIT}:{LIMIT}")
    server = Server(tmp_path, quotas="open", wrapper=wrapper, extra=("--io", "io_uring"))
    sockets: list[WebSocket] = []
    try:
        with server:
            arn = server.boto_cached.create_room(name="many")["arn"]
            join = lambda index: WebSocket(
                server.messaging_port, server.token(arn, f"viewer-{index}")
            )
            sockets = [join(index) for index in range(VIEWERS)]
            pid = server.process.pid
            assert resource.prlimit(pid, resource.RLIMIT_NOFILE)[1] == LIMIT
            rings = int(re.search(r"^uproar_rings (\d+)$", server.metrics(), re.M)[1])
            assert rings >= 3, "1,500 viewers do not fit the tables of two rings of 600"

            say_and_hear(sockets, 0, "first")
            for index in range(0, VIEWERS, 2):
                sockets[index].close()
                sockets[index] = join(VIEWERS + index)
            say_and_hear(sockets, VIEWERS - 1, "second")

            # Whoever is kicked is the one named, wherever its place is.
            server.boto_cached.disconnect_user(roomIdentifier=arn, userId="viewer-1001")
            sockets[1001].receive_until(lambda frame: frame["Type"] == "EVENT")
            with pytest.raises(Closed) as closed:
                sockets[1001].receive()
            assert closed.value.code == 1000
            for index in (1, 1000, 1003, 1499):
                sockets[index].receive_until(lambda frame: frame["Type"] == "EVENT")
                sockets[index].say(f"still here: {index}")
                sockets[index].receive_until(
                    lambda frame, index=index: frame.get("Content") == f"still here: {index}"
                )
        assert "panicked" not in server.log()
    finally:
        for socket in sockets:
            socket.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def say_and_hear(sockets: list[WebSocket], speaker: int, text: str) -> None:
    """One viewer says three things; every viewer hears them in order and once."""
    said = [f"{text}-{number}" for number in range(3)]
    for content in said:
        sockets[speaker].say(content)
    for index, socket in enumerate(sockets):
        assert [socket.receive()["Content"] for _ in said] == said, index
