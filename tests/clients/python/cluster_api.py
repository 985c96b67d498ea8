"""Calls of the API while a cluster is harmed: what was answered with 2xx must be there, on every node. And tokens that
are presented at all nodes at once."""

from __future__ import annotations

import collections
import http.client
import random
import threading
import urllib.parse
from dataclasses import dataclass, field

from cluster import Cluster
from rawws import Closed, Wire, upgrade_head

CALLERS = 3
# A loser of a race waits for half a second, by CLUSTER_RETRY, and meanwhile others race.
RACERS = 40
RACES_SECONDS_MAX = 600.0


class ApiCalls:
    """Callers who make, change, tag, list and delete rooms on random nodes, as long as the block lasts.

    What one node has answered with 2xx another is asked for at once: it must know, or say 5xx. A call without such an
    answer may have taken effect or not, so its room is not judged any more.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.halt = threading.Event()
        self.callers = [Caller(self, number) for number in range(CALLERS)]
        self.shared = cluster.rooms(1)[0]

    def __enter__(self) -> ApiCalls:
        for caller in self.callers:
            caller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.halt.set()
        for caller in self.callers:
            caller.join(60)

    def check(self) -> None:
        """Everything that was answered with 2xx is there, on every node, and nothing was read that was not so."""
        done = sum((caller.done for caller in self.callers), collections.Counter())
        failed = sum((caller.failed for caller in self.callers), collections.Counter())
        print(f"figures: API calls done {dict(done)}, failed {dict(failed)}")
        faults = [fault for caller in self.callers for fault in caller.faults]
        assert done["CreateRoom"] > 0 and done["ListRooms"] > 0, failed
        for node in self.cluster.nodes:
            for caller in self.callers:
                faults += caller.look(node)
        assert not faults, f"{len(faults)} faults:\n" + "\n".join(faults[:10])


class Caller(threading.Thread):
    """One of them. Rooms and tags are its own, but for one room that all of them tag."""

    def __init__(self, calls: ApiCalls, number: int) -> None:
        super().__init__(daemon=True)
        self.calls, self.number, self.dice = calls, number, random.Random(number)
        # Rooms whose last call was answered; None: deleted.
        self.rooms: dict[str, str | None] = {}
        # The value of its tag of the shared room that was answered last, and the one that was tried last.
        self.tag, self.tried = 0, 0
        self.done: collections.Counter[str] = collections.Counter()
        self.failed: collections.Counter[str] = collections.Counter()
        self.faults: list[str] = []

    def run(self) -> None:
        turn = 0
        while not self.calls.halt.wait(0.05):
            turn += 1
            try:
                self.step(turn)
            except Exception as error:  # a thread has nobody else to tell
                self.faults.append(repr(error))

    def call(self, operation: str, body: dict, node=None, path: str = "") -> tuple[int, dict]:
        """On a random node; 0 if nobody answers. `path`: if it is not the operation's name."""
        node = node or self.dice.choice(self.calls.cluster.nodes)
        try:
            status, answer = node.call(path or operation, body)
        except (OSError, http.client.HTTPException):
            status, answer = 0, {}
        is_done = 200 <= status < 300
        (self.done if is_done else self.failed)[operation if is_done else f"{operation} {status}"] += 1
        if status not in (0, 200, 204, 404, 500, 503):
            self.faults.append(f"{operation} on {node.name}: {status} {answer}")
        return status, answer

    def step(self, turn: int) -> None:
        status, made = self.call("CreateRoom", {"name": f"api{turn}"})
        if status == 200:
            self.change(turn, made["arn"])
        self.tag_shared()
        if turn % 5 == 0:
            self.list()

    def change(self, turn: int, arn: str) -> None:
        """A new room: read on another node, changed, read, and every third deleted."""
        self.rooms[arn] = f"api{turn}"
        self.read(arn)
        body = {"identifier": arn, "name": f"new{turn}"}
        if not self.write("UpdateRoom", body, arn, f"new{turn}"):
            return
        if turn % 3 == 0:
            self.write("DeleteRoom", {"identifier": arn}, arn, None)

    def write(self, operation: str, body: dict, arn: str, name: str | None) -> bool:
        """Whether it is known to be so now; read on another node."""
        del self.rooms[arn]
        status, _ = self.call(operation, body)
        if status == 404:
            self.faults.append(f"{operation}: {arn} is gone")
        if not 200 <= status < 300:
            return False
        self.rooms[arn] = name
        self.read(arn)
        return True

    def read(self, arn: str) -> None:
        self.faults += self.compare(arn, *self.call("GetRoom", {"identifier": arn}))

    def compare(self, arn: str, status: int, room: dict) -> list[str]:
        wanted = (404, None) if self.rooms[arn] is None else (200, self.rooms[arn])
        if status in (0, 500, 503) or (status, room.get("name")) == wanted:
            return []
        return [f"{arn}: {status} {room}, wanted {wanted}"]

    def tag_shared(self) -> None:
        self.tried += 1
        body = {"tags": {f"k{self.number}": str(self.tried)}}
        path = f"tags/{urllib.parse.quote(self.calls.shared, safe='')}"
        status, _ = self.call("TagResource", body, path=path)
        if 200 <= status < 300:
            self.tag = self.tried

    def list(self) -> None:
        """Every room of its own that is there during the whole walk is on the pages."""
        before = {arn for arn, name in self.rooms.items() if name is not None}
        found, more = set(), {}
        node = self.dice.choice(self.calls.cluster.nodes)
        while True:
            status, page = self.call("ListRooms", {"maxResults": 20, **more}, node)
            if status != 200:
                return
            found.update(room["arn"] for room in page["rooms"])
            if not page.get("nextToken"):
                break
            more = {"nextToken": page["nextToken"]}
        self.faults += [f"{node.name} does not list {arn}" for arn in before - found]

    def look(self, node) -> list[str]:
        """What is not on a node that is whole, at the end."""
        found = []
        for arn in self.rooms:
            status, room = node.call("GetRoom", {"identifier": arn})
            found += self.compare(arn, status, room) or ([f"{node.name}: {status}"] if status >= 500 else [])
        _, room = node.call("GetRoom", {"identifier": self.calls.shared})
        value = int(room.get("tags", {}).get(f"k{self.number}", 0))
        if not self.tag <= value <= self.tried:
            found.append(f"{node.name}: tag {value}, answered {self.tag}, tried {self.tried}")
        return found


def present(ports: list[int], token: str) -> list[int]:
    """The token at all these doors at once, in this order: the answers, 0 where there is none. The connections are made
    first, so that the requests are within a fraction of a millisecond."""
    wires: list[Wire | None] = []
    for port in ports:
        try:
            wires.append(Wire(port))
        except OSError:
            wires.append(None)
    for wire in wires:
        if wire is not None:
            wire.send(upgrade_head(token))
    statuses = []
    for wire in wires:
        try:
            statuses.append(0 if wire is None else wire.read_response().status)
        except Closed:
            statuses.append(0)
    # Not before all are answered: a node that loses sight of a client may drop its request.
    for wire in wires:
        if wire is not None:
            wire.close()
    return statuses


def race(cluster: Cluster, token: str, copies: int = 3) -> list[int]:
    """The answers to a token presented at all nodes at once, sorted."""
    return sorted(present([node.messaging_port for node in cluster.nodes] * copies, token))


@dataclass
class Races:
    """Many tokens, each presented once at all nodes at once, by several threads, while a test does harm."""

    cluster: Cluster
    tokens: list[str]
    # Of each token that was presented the answers.
    answers: dict[str, list[int]] = field(default_factory=dict)
    threads: list[threading.Thread] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def __enter__(self) -> Races:
        self.left = iter(self.tokens)
        self.turn = threading.Lock()
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(RACERS)]
        for thread in self.threads:
            thread.start()
        return self

    def run(self) -> None:
        try:
            while (token := self.take()) is not None:
                ports = [node.messaging_port for node in self.cluster.nodes]
                random.shuffle(ports)
                self.answers[token] = present(ports, token)
        except Exception as error:  # a thread has nobody else to tell
            self.failed.append(repr(error))

    def take(self) -> str | None:
        with self.turn:
            return next(self.left, None)

    def is_over(self) -> bool:
        return not any(thread.is_alive() for thread in self.threads)

    def __exit__(self, *_: object) -> None:
        for thread in self.threads:
            thread.join(RACES_SECONDS_MAX)

    def faults(self) -> list[str]:
        """A token had more than one winner, or none though every node gave its verdict, or another answer than these."""
        found = list(self.failed)
        for token, statuses in self.answers.items():
            has_verdict = set(statuses) <= {101, 401}
            if statuses.count(101) > 1 or has_verdict and 101 not in statuses or not set(statuses) <= {0, 101, 401, 503}:
                found.append(f"{token[:20]}: {statuses}")
        return found

    def counts(self) -> collections.Counter[str]:
        """How the races ended."""
        return collections.Counter("-".join(map(str, sorted(statuses))) for statuses in self.answers.values())
