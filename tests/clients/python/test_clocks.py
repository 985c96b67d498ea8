"""Wall clocks that step, for a real process: single use of tokens and the length of sessions hold.

libfaketime (Debian's package `faketime`) stands between the process and its wall clock; the monotonic clock
stays the machine's.
"""

from __future__ import annotations

import glob
import time
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from rawws import Refused, WebSocket
from uproar import Server

LIBRARY = next(iter(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")), None)
AHEAD = 7200
# Ends a hang; decides nothing.
PATIENCE_SECONDS = 60

pytestmark = pytest.mark.skipif(LIBRARY is None, reason="needs libfaketime: apt-get install faketime")


class Clock:
    """The wall clock of a server, so many seconds beside the machine's."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "offset"
        self.set(0)

    def set(self, seconds: int) -> None:
        self.file.write_text(f"{seconds:+d}\n")

    @property
    def wrapper(self) -> tuple[str, ...]:
        return (
            "env",
            f"LD_PRELOAD={LIBRARY}",
            f"FAKETIME_TIMESTAMP_FILE={self.file}",
            "FAKETIME_NO_CACHE=1",
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
            "FAKETIME_DONT_RESET=1",
        )

    def step(self, server: Server, seconds: int) -> None:
        """Steps it, and waits until the server has seen that: it takes signatures of the right time only."""
        self.set(seconds)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            try:
                server.boto_cached.list_rooms()
                right = True
            except ClientError:
                right = False
            if right == (seconds == 0):
                return
            time.sleep(0.05)
        raise AssertionError(f"the server does not see its clock {seconds} s ahead")


def opens(server: Server, token: str) -> bool:
    try:
        WebSocket(server.messaging_port, token).close()
    except Refused as refused:
        assert refused.response.status == 401
        return False
    return True


def turns(server: Server) -> int:
    line = next(line for line in server.metrics().splitlines() if line.startswith("uproar_loop_turns_total "))
    return int(float(line.split()[1]))


@pytest.fixture
def clock(tmp_path):
    return Clock(tmp_path)


def test_a_used_token_stays_used_while_the_clock_is_ahead_and_afterwards(clock, tmp_path):
    """Method: two hours ahead for four seconds, as when a machine takes over a wrong time and drops it."""
    with Server(tmp_path / "data", wrapper=clock.wrapper) as server:
        room = server.boto_cached.create_room()["arn"]
        used, kept = server.token(room), server.token(room)
        member = WebSocket(server.messaging_port, server.token(room))
        assert opens(server, used)
        assert not opens(server, used)
        clock.step(server, AHEAD)
        before = turns(server)
        time.sleep(4)
        assert turns(server) > before
        clock.step(server, 0)
        assert not opens(server, used)
        assert opens(server, kept)
        # Its session has lasted some seconds of an hour.
        member.send_json({"Action": "SEND_MESSAGE", "Content": "still here", "RequestId": "r"})
        assert member.receive()["Content"] == "still here"


@pytest.mark.parametrize("seconds", [AHEAD, -AHEAD])
def test_a_wrong_clock_at_a_start_makes_no_used_token_good(clock, tmp_path, seconds):
    data_dir = tmp_path / "data"
    server = Server(data_dir, wrapper=clock.wrapper).start()
    room = server.boto_cached.create_room()["arn"]
    used = [server.token(room) for _ in range(5)]
    assert all(opens(server, token) for token in used)
    server.kill()
    clock.set(seconds)
    server.start()
    server.kill()
    clock.set(0)
    with server:
        assert not any(opens(server, token) for token in used)
        # One made in the second in which the last of them was made may be refused as well.
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not opens(server, server.token(room)):
            assert time.monotonic() < deadline
            time.sleep(0.1)
