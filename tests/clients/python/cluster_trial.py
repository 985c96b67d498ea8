"""A trial: viewers chat in rooms of a cluster while a test does harm to it; then everything is checked.

`pause` notes how long the others waited. The table is printed when all tests are done; no test is decided by it.

`CLUSTER_TRIALS=full` is the size by hand: more viewers with official clients among them, more kills, more races.
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

import pytest

from cluster import NAME, Cluster
from cluster_log import LogReader, Order
from cluster_members import Members
from cluster_oracle import UNKNOWN, check, witnessed
from cluster_viewers import Request, Viewers
from uproar import BINARY

IS_FULL = os.environ.get("CLUSTER_TRIALS", "") == "full"
ROOMS = 20
VIEWERS, PER_SECOND = (300, 200) if IS_FULL else (120, 100)
OFFICIAL_CLIENTS = 30
FAULTS_SHOWN = 12
# docs/limits.md, CLUSTER_KEPT_MAX, less what an answer takes.
REQUEST_KEPT_SECONDS = 14.0


# What is tried by hand only. Not skipped but left out, so that what is skipped stays seen.
by_hand = pytest.mark.by_hand


def size(short, full):
    """How often or how long something is done: in CI, and by hand."""
    return full if IS_FULL else short

# What happened, and the longest wait of each room, in seconds.
PAUSES: dict[str, list[float]] = {}


class Trial:
    """A context manager: the viewers chat inside, and its end decides."""

    def __init__(
        self, cluster: Cluster, viewers: int = VIEWERS, rooms: int = ROOMS, rate: float = PER_SECOND, official: int = 0,
        content=None, is_log_harmed: bool = False, **settings: object,
    ) -> None:
        """`official` clients of JavaScript chat too; a message says `content(its RequestId)`; rooms have the settings.
        If the log itself is harmed, what one viewer saw in each room is the order that all others must have seen."""
        self.content, self.is_log_harmed = content, is_log_harmed
        self.cluster, self.count, self.rate, self.official = cluster, viewers, rate, official
        self.rooms = cluster.rooms(rooms, **settings)
        self.order: Order | None = None
        self.members: Members | None = None
        has_handler = bool(settings.get("messageReviewHandler"))
        self.reviewed = frozenset(room.rsplit("/", 1)[-1] for room in self.rooms if has_handler)

    def __enter__(self) -> Trial:
        self.log = LogReader(self.cluster.brokers, NAME)
        self.viewers = Viewers(self.cluster.viewers_port, self.cluster.mint)
        try:
            self.viewers.content = self.content or self.viewers.content
            self.viewers.join(self.rooms, self.count)
            if self.official:
                doors = self.cluster.viewers_port, self.cluster.api_port
                self.members = Members(*doors, self.rooms, self.official)
            self.begun = time.monotonic()
            self.chatting = self.viewers.chat(self.rate)
            self.chatting.__enter__()
        except BaseException:
            self.close()
            print(self.cluster.logs())
            raise
        return self

    def __exit__(self, kind, error, trace) -> None:
        self.chatting.__exit__(None, None, None)
        try:
            if kind is None:
                self.decide()
        except BaseException:
            print(self.cluster.logs())
            raise
        finally:
            self.close()

    def close(self) -> None:
        if self.members is not None:
            self.members.close()
        self.viewers.close()
        self.log.abandon()

    def decide(self) -> None:
        seconds = time.monotonic() - self.begun
        if self.members is not None:
            self.members.quiet()
        self.viewers.settle()
        self.order = Order({}, []) if self.is_log_harmed else self.log.finish(self.reviewed)
        by_room = witnessed(self.viewers.streams) if self.is_log_harmed else self.order.by_room(self.rooms)
        requests = list(self.viewers.requests.values())
        streams = list(self.viewers.streams)
        faults = self.order.faults + check(by_room, streams, requests)
        if self.members is not None:
            faults += self.members.finish(by_room)
        echoed = sum(request.echoed is not None for request in requests)
        print(
            f"figures: {len(self.rooms)} rooms, {self.count} viewers in {len(streams)} connections, {self.official_figures()}"
            f"{len(requests) / seconds:.0f} requests/s for {seconds:.0f} s, {echoed} of {len(requests)} echoed, "
            f"{self.order.batches} batches, {self.order.takeovers} takeovers, {machine()}; {dict(self.viewers.refusals)}"
        )
        assert echoed > 0, "nobody was heard"
        assert not faults, f"{len(faults)} faults:\n" + "\n".join(faults[:FAULTS_SHOWN])
        for node in self.cluster.nodes:
            assert "panicked" not in node.whole_log(), node.log()

    def official_figures(self) -> str:
        if self.members is None:
            return ""
        heard = self.members.heard
        again = sum(one["tokens"] - 1 for one in heard)
        return f"{len(heard)} official clients who came back {again} times, "

    def talk(self, seconds: float) -> None:
        """They chat on undisturbed."""
        time.sleep(seconds)

    def talk_until_heard(self, without: str = "") -> None:
        """They chat until what is sent from now on is echoed in every room, to those who are not on that node."""
        self.await_echoes(lambda node: node != without)

    def talk_until_heard_by(self, node: str) -> None:
        """They chat until, in every room where that node has viewers, one of those has been echoed."""
        self.await_echoes(lambda other: other == node)

    def await_echoes(self, counts) -> None:
        """In every room that has viewers on a node that `counts`: a room may have none there, for the balancer deals."""
        since, deadline = time.monotonic(), time.monotonic() + 90
        wanted = {stream.room for stream in list(self.viewers.open.values()) if counts(stream.node)}
        heard: set[str] = set()
        while not wanted <= heard:
            assert time.monotonic() < deadline, f"nothing is heard in {self.where(wanted - heard)}\n{self.cluster.logs()}"
            time.sleep(0.05)
            heard = {
                request.stream.room for request in self.viewers.since(since)
                if request.echoed and counts(request.stream.node)
            }

    def where(self, rooms: set[str]) -> dict[str, list[str]]:
        """The nodes of each room's viewers."""
        viewers = list(self.viewers.open.values())
        return {room: sorted(stream.node for stream in viewers if stream.room == room) for room in rooms}

    def refused(self, since: float, without: str = "") -> list[str]:
        """Requests that were refused although nothing was wrong with them. Not those whose whole room stood still for as long
        as a request is kept, which an election of brokers takes on a machine that is slow enough."""
        sent = self.viewers.since(since)
        return [
            f"{request.id} on {request.stream.node} in {request.stream.room[-12:]}: {request.refused} "
            f"{request.sent - since:.1f} s after"
            for request in sent
            if request.refused is not None and request.stream.node != without and not stood_still(request, sent)
        ]

    def pause(self, what: str, since: float, without: str = "") -> float:
        """Notes for the table how long each room waited since then; the longest, in seconds."""
        waits = self.viewers.pauses(since, without)
        PAUSES.setdefault(what, []).extend(waits)
        return max(waits, default=0)


def stood_still(request: Request, sent: list[Request]) -> bool:
    """Whether nothing that was said in the room with this request or later was heard before it was given up."""
    given_up = request.sent + REQUEST_KEPT_SECONDS
    later = (other for other in sent if other.stream.room == request.stream.room and other.sent >= request.sent)
    return request.refused in UNKNOWN and all(other.echoed is None or other.echoed > given_up for other in later)


def machine() -> str:
    """The build, the processors and the load: figures without them say nothing."""
    return f"{Path(BINARY).parent.name} build, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"


def table() -> list[str]:
    """The pauses, a line for each kind of harm, as docs/cluster.md has them."""
    if not PAUSES:
        return []
    title = f"longest wait for an echo in each room, of viewers on unharmed nodes, ms; {machine()}"
    lines = ["", title, f"{'':76}  median    p99   worst  count"]
    for what, waits in PAUSES.items():
        p99 = sorted(waits)[min(len(waits) * 99 // 100, len(waits) - 1)]
        figures = "".join(f"{1000 * value:8.0f}" for value in (statistics.median(waits), p99, max(waits)))
        lines.append(f"{what:76}{figures}{len(waits):7}")
    return lines


# The cluster of all modules that want no other one: a start is five seconds, and their tests leave it whole.
PLAIN: list[Cluster] = []


def started(**settings):
    """A fixture of a module: a cluster that is whole again before each test of it. Without settings it is the one that
    other modules have, too; `stop_plain` ends it."""

    @pytest.fixture(scope="module")
    def running():
        if settings:
            with Cluster(**settings) as cluster:
                yield cluster
            return
        if not PLAIN:
            PLAIN.append(Cluster().__enter__())
        yield PLAIN[0]

    running.is_plain = not settings
    return running


def stop_plain() -> None:
    while PLAIN:
        PLAIN.pop().stop()
