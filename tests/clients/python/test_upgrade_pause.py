"""How long viewers wait for a hand-over, what they miss, and what it costs the two processes.

A small run by default. The one of docs/results, which prints its figures:
`PAUSE_VIEWERS=10000 PAUSE_ROOMS=200 PAUSE_UPGRADES=50 pytest -s tests/clients/python/test_upgrade_pause.py`
"""

from __future__ import annotations

import http.client
import json
import os
import re
import select
import statistics
import subprocess
import time
from pathlib import Path

from raw_api import sign
from rawws import PING, PONG, TEXT, WebSocket, encode
from uproar import Server, Upgraded

VIEWERS = int(os.environ.get("PAUSE_VIEWERS", "400"))
ROOMS = int(os.environ.get("PAUSE_ROOMS", "8"))
UPGRADES = int(os.environ.get("PAUSE_UPGRADES", "4"))
RATE = int(os.environ.get("PAUSE_DELIVERIES", "2000"))  # deliveries per second to all viewers together

# Content: number in the room and time of sending in microseconds.
CONTENT = re.compile(rb'"Content":"(\d+) (\d+)"')
# Service without and behind the hand-overs, and between two.
CONTROL_SECONDS, BETWEEN_SECONDS = 5.0, 0.5
# Between two looks at the descriptors of both processes.
LOOK_SECONDS = 0.003


class Crowd:
    """Viewers in rooms whose first viewers say numbers, one room after the other. Every number is accounted for."""

    def __init__(self, server: Server) -> None:
        self.poll = select.epoll()
        self.sockets, self.rooms, self.buffers, self.next = {}, {}, {}, {}
        self.speakers, self.said = [], [0] * ROOMS
        self.twice = self.lost = self.closed = self.heard = self.oldest = 0
        self.due, self.turn = time.monotonic(), 0
        self.interval = VIEWERS / ROOMS / RATE
        arns = [server.boto_cached.create_room(maximumMessageRatePerSecond=100)["arn"] for _ in range(ROOMS)]
        api = http.client.HTTPConnection("127.0.0.1", server.control_port)
        for number in range(VIEWERS):
            body = json.dumps({"roomIdentifier": arns[number % ROOMS], "userId": f"u{number}", "capabilities": ["SEND_MESSAGE"]})
            headers = sign(server, "POST", "/CreateChatToken", body.encode(), {"Content-Type": "application/json"})
            api.request("POST", "/CreateChatToken", body=body, headers=headers)
            viewer = WebSocket(server.messaging_port, json.loads(api.getresponse().read())["token"])
            viewer.socket.settimeout(None)
            place = viewer.socket.fileno()
            self.sockets[place], self.buffers[place] = viewer, viewer.buffer
            self.rooms[place], self.next[place] = number % ROOMS, 0
            self.poll.register(place, select.EPOLLIN)
            if number < ROOMS:
                self.speakers.append(viewer)
        api.close()

    def serve(self, seconds: float, speak: bool = True) -> None:
        """Speaks when it is time to, and hears."""
        until = time.monotonic() + seconds
        while (now := time.monotonic()) < until:
            if not speak:
                self.due = now + seconds
            while self.due <= now:
                self.due = max(self.due + self.interval, now - 1)
                room = self.turn = (self.turn + 1) % ROOMS
                self.speakers[room].say(f"{self.said[room]} {time.monotonic_ns() // 1000}", "r")
                self.said[room] += 1
            for place, _ in self.poll.poll(max(0, min(self.due, until) - now)):
                self.hear(place)
        self.due = min(self.due, time.monotonic())

    def hear(self, place: int) -> None:
        try:
            data = self.sockets[place].socket.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            self.closed += 1
            self.poll.unregister(place)
            return
        data = self.buffers[place] + data
        at, now = 0, time.monotonic_ns() // 1000
        while len(data) >= at + 2:
            head, length = 2, data[at + 1]
            if length == 126:
                head, length = 4, int.from_bytes(data[at + 2 : at + 4], "big")
            assert length <= 65535, "no frame of a chat server is this long"
            if len(data) < at + head + length:
                break
            payload = data[at + head : at + head + length]
            self.frame(place, data[at] & 0xF, payload, now)
            at += head + length
        self.buffers[place] = data[at:]

    def frame(self, place: int, opcode: int, payload: bytes, now: int) -> None:
        if opcode == PING:
            self.sockets[place].send(encode(PONG, payload))
            return
        found = CONTENT.search(payload)
        assert opcode == TEXT and found, payload
        number, sent = map(int, found.groups())
        expected = self.next[place]
        if number < expected:
            self.twice += 1
            return
        self.lost += number - expected
        self.next[place] = number + 1
        self.heard += 1
        self.oldest = max(self.oldest, now - sent)

    def await_all(self, seconds: float = 30) -> None:
        """Hears everything that was said; what does not come is lost."""
        until = time.monotonic() + seconds
        while self.missing() and time.monotonic() < until:
            self.serve(0.05, speak=False)
        self.lost += self.missing()

    def missing(self) -> int:
        return sum(self.said[self.rooms[place]] - number for place, number in self.next.items())

    def reset(self) -> tuple[int, float]:
        """Deliveries since the last call, and the oldest one's age in milliseconds."""
        told = (self.heard, self.oldest / 1000)
        self.heard = self.oldest = 0
        return told


def descriptors(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


def children(pid: int) -> list[int]:
    try:
        tasks = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return []
    return [int(child) for task in tasks for child in task]


def upgrade(server: Server, crowd: Crowd) -> tuple[Upgraded, int, int]:
    """One, while the crowd is served; also the most descriptors that were seen in the old and the new process."""
    command, old, new = server.start_upgrade(), 0, 0
    successors: list[int] = []
    while command.poll() is None:
        crowd.serve(LOOK_SECONDS)
        old = max(old, descriptors(server.process.pid))
        successors = successors or children(server.process.pid)
        new = max([new, *map(descriptors, successors)])
    done = subprocess.CompletedProcess(command.args, command.returncode, *command.communicate())
    return server.follow(done), old, new


def test_viewers_notice_a_pause_at_most():
    """Goal: nothing is lost, repeated, out of order or cut by many hand-overs in a row, none of the processes holds the
    viewers' descriptors, and none grows. Method: numbered messages; a control without hand-over before."""
    with Server() as server:
        crowd = Crowd(server)
        crowd.serve(CONTROL_SECONDS)
        crowd.await_all()
        print(f"\n{VIEWERS} viewers in {ROOMS} rooms, load {os.getloadavg()[0]:.1f}")
        print("control: {} deliveries, the oldest {:.0f} ms".format(*crowd.reset()))
        pauses, ages, memory, own, held = [], [], [], [], 0
        for _ in range(UPGRADES):
            upgraded, old, new = upgrade(server, crowd)
            assert upgraded.viewers == VIEWERS
            held = max(held, old, new)
            crowd.serve(BETWEEN_SECONDS)
            pauses.append(upgraded.pause_ms)
            ages.append(crowd.reset()[1])
            memory.append(server.resident_bytes())
            own.append(server.resident_bytes("RssAnon"))
        crowd.await_all()
        print(
            f"pause: median {statistics.median(pauses):.0f} ms, max {max(pauses)} ms of {UPGRADES}; "
            f"oldest delivery: median {statistics.median(ages):.0f} ms, max {max(ages):.0f} ms\n"
            f"lost {crowd.lost}, twice or out of order {crowd.twice}, closed {crowd.closed}\n"
            f"descriptors: at most {held}\n"
            f"resident, own pages and all: {own[0] >> 10}, {memory[0] >> 10} KiB after the first, "
            f"{own[-1] >> 10}, {memory[-1] >> 10} KiB after the last, max {max(own) >> 10}, {max(memory) >> 10} KiB; "
            f"load {os.getloadavg()[0]:.1f}"
        )
        assert (crowd.lost, crowd.twice, crowd.closed) == (0, 0, 0)
        assert held <= 1000
        # Pages of the program's file come and go with what else the machine does. Of a small process some pages more
        # are more than 5 %.
        assert own[-1] <= own[0] * 1.05 + (1 << 20)
