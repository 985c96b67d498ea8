"""A trial: viewers chat in rooms of a cluster while a test does harm to it; then everything is checked.

`pause` notes how long the others waited. The table is printed when all tests are done; no test is decided by it.
"""

from __future__ import annotations

import statistics
import time

import pytest

from cluster import NAME, Cluster
from cluster_log import LogReader, Order
from cluster_oracle import check
from cluster_viewers import Viewers

ROOMS, VIEWERS, PER_SECOND = 20, 120, 100
FAULTS_SHOWN = 12

# What happened, and the longest wait of each room, in seconds.
PAUSES: dict[str, list[float]] = {}


class Trial:
    """A context manager: the viewers chat inside, and its end decides."""

    def __init__(self, cluster: Cluster, viewers: int = VIEWERS, rooms: int = ROOMS, rate: float = PER_SECOND) -> None:
        self.cluster, self.count, self.rate = cluster, viewers, rate
        self.rooms = cluster.rooms(rooms)
        self.order: Order | None = None

    def __enter__(self) -> Trial:
        self.log = LogReader(self.cluster.brokers, NAME)
        self.viewers = Viewers(self.cluster.viewers_port, self.cluster.mint)
        try:
            self.viewers.join(self.rooms, self.count)
            self.chatting = self.viewers.chat(self.rate)
            self.chatting.__enter__()
        except BaseException:
            self.viewers.close()
            self.log.abandon()
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
            self.viewers.close()
            self.log.abandon()

    def decide(self) -> None:
        self.viewers.settle()
        self.order = self.log.finish()
        requests = list(self.viewers.requests.values())
        streams = list(self.viewers.streams)
        faults = self.order.faults + check(self.order.by_room(self.rooms), streams, requests)
        echoed = sum(request.echoed is not None for request in requests)
        print(
            f"{len(requests)} requests, {echoed} echoed, {len(streams)} connections of {self.count} viewers, "
            f"{self.order.batches} batches, {self.order.takeovers} takeovers; {dict(self.viewers.refusals)}"
        )
        assert echoed > 0, "nobody was heard"
        assert not faults, f"{len(faults)} faults:\n" + "\n".join(faults[:FAULTS_SHOWN])
        for node in self.cluster.nodes:
            assert "panicked" not in node.whole_log(), node.log()

    def talk(self, seconds: float) -> None:
        """They chat on undisturbed."""
        time.sleep(seconds)

    def talk_until_heard(self, without: str = "") -> None:
        """They chat until what is sent from now on is echoed in every room, to those who are not on that node."""
        since, deadline = time.monotonic(), time.monotonic() + 90
        heard: set[str] = set()
        while len(heard) < len(self.rooms):
            assert time.monotonic() < deadline, f"nothing is heard in {set(self.rooms) - heard}\n{self.cluster.logs()}"
            time.sleep(0.05)
            heard = {
                request.stream.room for request in list(self.viewers.requests.values())
                if request.sent > since and request.echoed and request.stream.node != without
            }

    def talk_until_heard_by(self, node: str) -> None:
        """They chat until, in every room where that node has viewers, one of those has been echoed."""
        since, deadline = time.monotonic(), time.monotonic() + 90
        wanted = {stream.room for stream in list(self.viewers.open.values()) if stream.node == node}
        heard: set[str] = set()
        while not wanted <= heard:
            assert time.monotonic() < deadline, f"nothing is heard in {wanted - heard}\n{self.cluster.logs()}"
            time.sleep(0.05)
            heard = {
                request.stream.room for request in list(self.viewers.requests.values())
                if request.sent > since and request.echoed and request.stream.node == node
            }

    def refused(self, since: float, without: str = "") -> list[str]:
        """Requests that were refused although nothing was wrong with them."""
        return [
            f"{request.id} on {request.stream.node}: {request.refused}"
            for request in list(self.viewers.requests.values())
            if request.sent >= since and request.refused is not None and request.stream.node != without
        ]

    def pause(self, what: str, since: float, without: str = "") -> float:
        """Notes for the table how long each room waited since then; the longest, in seconds."""
        waits = self.viewers.pauses(since, without)
        PAUSES.setdefault(what, []).extend(waits)
        return max(waits, default=0)


def table() -> list[str]:
    """The pauses, a line for each kind of harm."""
    if not PAUSES:
        return []
    title = "longest wait for an echo in each room, of viewers on unharmed nodes, ms"
    lines = ["", title, f"{'':44}  median   worst  count"]
    for what, waits in PAUSES.items():
        lines.append(f"{what:44}{1000 * statistics.median(waits):8.0f}{1000 * max(waits):8.0f}{len(waits):7}")
    return lines


def started(**settings):
    """A fixture of a module: a cluster that is whole again before each test of it."""

    @pytest.fixture(scope="module")
    def running():
        with Cluster(**settings) as cluster:
            yield cluster

    return running
