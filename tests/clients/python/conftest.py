"""Fixtures: a shared server per module, and an arena in which attacks are watched by a bystander."""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from pathlib import Path

import pytest

from rawws import READ_SECONDS, WebSocket, Wire
from review_handler import FUNCTION, ReviewHandler
from uproar import BINARY, Server

COUNTER = itertools.count()


def pytest_configure(config: pytest.Config) -> None:
    if not Path(BINARY).exists():
        raise pytest.UsageError(f"{BINARY} does not exist: `cargo build --release` first")
    # Two clusters at once lock more memory for io_uring than a user may by default, so the second worker's nodes do without;
    # and so each lane has nodes in a cluster.
    if os.environ.get("CLUSTER_LANES") == "both" and os.environ.get("PYTEST_XDIST_WORKER") == "gw1":
        os.environ["UPROAR_SERVER__IO"] = "epoll"
    config.addinivalue_line("markers", "by_hand: a trial of a cluster that CLUSTER_TRIALS=full adds")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if (trial := sys.modules.get("cluster_trial")) is None:
        return
    if not trial.IS_FULL:
        left_out = [item for item in items if item.get_closest_marker("by_hand")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    # One after the other, those that share a cluster.
    items.sort(key=is_of_plain_cluster, reverse=True)


def is_of_plain_cluster(item: pytest.Item | None) -> bool:
    fixture = getattr(item.module, "cluster", None) if item is not None else None
    return getattr(fixture, "is_plain", False)


# When the last test's own fixtures are done with it.
@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    if (trial := sys.modules.get("cluster_trial")) and not is_of_plain_cluster(nextitem):
        trial.stop_plain()


def pytest_terminal_summary(terminalreporter) -> None:
    # Only where trials of a cluster ran.
    if trial := sys.modules.get("cluster_trial"):
        for line in trial.table():
            terminalreporter.write_line(line)


def shared_server(quotas: str):
    """A server for one test module."""
    yield from shared_server_of(Server(quotas=quotas))


def shared_server_of(server: Server):
    """Runs it for one test module; its log is shown when it misbehaved."""
    server.start()
    yield server
    alive = server.process.poll() is None
    code = server.stop()
    assert alive, f"the server died during the module, exit {code}:\n{server.log()}"
    assert code == 0, f"exit {code} after SIGTERM:\n{server.log()}"
    assert "panicked" not in server.log(), server.log()


@pytest.fixture(scope="module")
def server():
    """`uproar dev --quotas open`."""
    yield from shared_server("open")


@pytest.fixture(scope="module")
def aws_server():
    """`uproar dev --quotas aws`: with IVS's own rate limits."""
    yield from shared_server("aws")


@pytest.fixture
def boto(server):
    return server.boto_cached


@pytest.fixture
def room(boto):
    """A fresh room's ARN."""
    return boto.create_room(name=f"t{next(COUNTER)}", maximumMessageRatePerSecond=100)["arn"]


class Arena:
    """A room with a speaker and a bystander; whatever an attacker does there, they chat on."""

    def __init__(self, server: Server, arn: str) -> None:
        self.server = server
        self.arn = arn
        self.port = server.messaging_port
        self.speaker = self.join("speaker")
        self.bystander = self.join("bystander")
        self.opened = [self.speaker, self.bystander]

    def token(self, user: str = "attacker", **rest) -> str:
        return self.server.token(self.arn, user, **rest)

    def join(self, user: str = "attacker", **rest) -> WebSocket:
        socket = WebSocket(self.port, self.token(user, **rest))
        getattr(self, "opened", []).append(socket)
        return socket

    def wire(self) -> Wire:
        """A bare TCP connection to the messaging listener."""
        wire = Wire(self.port)
        self.opened.append(wire)
        return wire

    def verify(self, seconds: float = READ_SECONDS) -> list[dict]:
        """The bystander still receives; returns what the attack delivered to it before that.

        Every frame on the way was checked: unmasked, whole, UTF-8, JSON, an object with an `Id`.
        """
        deadline = time.monotonic() + seconds
        while True:
            marker = f"marker-{next(COUNTER)}"
            assert self.speaker.say(marker, marker), "the speaker is still connected"
            answer, _ = self.speaker.receive_until(lambda f: f.get("RequestId") == marker, seconds)
            if answer["Type"] == "MESSAGE":
                break
            # The attack may have used up the room's rate: that refusal is right, and short.
            assert answer["ErrorCode"] == 429 and time.monotonic() < deadline, answer
            time.sleep(0.1)
        _, before = self.bystander.receive_until(lambda f: f.get("Content") == marker, seconds)
        for frame in before:
            assert isinstance(frame, dict) and isinstance(frame.get("Id"), str), json.dumps(frame)
        return before

    def close(self) -> None:
        for socket in self.opened:
            socket.close()


@pytest.fixture
def arena(server, room):
    """The test ends with proof that another connected client still receives a message."""
    arena = Arena(server, room)
    try:
        yield arena
        arena.verify()
        assert server.process.poll() is None, server.log()
    finally:
        arena.close()


@pytest.fixture(scope="module")
def reviewing_server(tmp_path_factory, handler):
    """A server whose function `mapped` is the handler, and whose rooms spread over its shards from their first members on."""
    file = tmp_path_factory.mktemp("reviewing") / "uproar.toml"
    functions = json.dumps([f"{FUNCTION}mapped={handler.url}/check"])
    file.write_text(f"[delivery]\nspread_members = 1\n[review]\ntimeout_ms = 10000\nfunctions = {functions}\n")
    with Server(extra=("--config", str(file))) as server:
        yield server


@pytest.fixture(scope="module")
def handler():
    """A review handler that says what its test tells it to."""
    handler = ReviewHandler()
    yield handler
    handler.close()
