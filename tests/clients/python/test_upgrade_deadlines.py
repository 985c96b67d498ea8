"""Deadlines of viewers hold through upgrades: pings, silence, the end of a session. In a file of its own, since it takes
the minute that the shortest session and the longest silence take, and nothing else meanwhile."""

from __future__ import annotations

import threading
import time

from rawws import PING, Closed, WebSocket
from uproar import Server

SESSION_SECONDS = SILENCE_SECONDS = 60
# What the two may differ by: granules of deadlines on either side, threads here that wait for a core.
APART_SECONDS = 3


def life(viewer: WebSocket, started: float, talks: bool) -> list[tuple[str, float]]:
    """What a viewer gets, and when, in seconds since it came. `talks`: it says something from time to time, so that it is
    not silent, and answers pings."""
    seen = []

    def note(what: str) -> None:
        seen.append((what, time.monotonic() - started))

    while True:
        try:
            frame = viewer.receive(3) if talks else viewer.receive_frame(90)
        except TimeoutError:
            viewer.say("I am here", "r")
        except Closed as closed:
            note(f"closed {closed.code}")
            return seen
        else:
            if not talks and frame.opcode == PING:
                note("ping")


def test_pings_silence_and_sessions_end_as_they_would_have():
    """Goal: no deadline begins anew in the new process. Method: a server that changes its process six times in a minute and
    one that does not; on each a viewer that answers nothing and one whose session is the shortest. All must see the same,
    at the same time as their like. A deadline that began anew would be later by ten seconds and more."""
    servers = [Server().start(), Server().start()]
    lives: dict[tuple[int, bool], list[tuple[str, float]]] = {}
    threads = []
    for index, server in enumerate(servers):
        # A room each: who hears others talk is still silent.
        for talks in (False, True):
            arn = server.boto_cached.create_room()["arn"]
            minutes = {"sessionDurationInMinutes": 1} if talks else {}
            token = server.token(arn, **minutes)
            viewer, started = WebSocket(server.messaging_port, token), time.monotonic()

            def live(key=(index, talks), viewer=viewer, started=started, talks=talks) -> None:
                lives[key] = life(viewer, started, talks)

            threads.append(threading.Thread(target=live))
            threads[-1].start()
    for _ in range(6):
        time.sleep(8)
        assert servers[0].upgrade().viewers == 2
    for thread in threads:
        thread.join()
    for talks in (False, True):
        upgraded, control = lives[0, talks], lives[1, talks]
        assert [what for what, _ in upgraded] == [what for what, _ in control], (upgraded, control)
        for (what, at), (_, undisturbed) in zip(upgraded, control):
            assert abs(at - undisturbed) < APART_SECONDS, (what, at, undisturbed)
    assert [what for what, _ in lives[1, False]][0] == "ping"
    assert lives[1, False][-1][1] >= SILENCE_SECONDS - 1 and lives[1, True][-1][1] >= SESSION_SECONDS - 1
    for server in servers:
        assert server.stop() == 0
