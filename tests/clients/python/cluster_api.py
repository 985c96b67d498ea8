"""Calls of the API while a cluster is harmed: what was answered with 2xx must be there, on every node. And tokens that
are presented at all nodes at once."""

from __future__ import annotations

import threading

from cluster import Cluster
from rawws import Closed, Wire, upgrade_head


class ApiCalls(threading.Thread):
    """Makes, changes and deletes rooms through the balancer, as long as its block lasts."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(daemon=True)
        self.cluster, self.boto = cluster, cluster.boto()
        self.halt = threading.Event()
        self.rooms: dict[str, str] = {}
        self.unknown: set[str] = set()
        self.done, self.failed = 0, []

    def run(self) -> None:
        number = 0
        while not self.halt.wait(0.1):
            number += 1
            try:
                self.step(number)
                self.done += 1
            except Exception as error:  # whatever the SDK makes of a node that ends
                self.failed.append(repr(error)[:200])

    def step(self, number: int) -> None:
        arn = self.boto.create_room(name=f"api{number}")["arn"]
        self.rooms[arn] = f"api{number}"
        if number % 2 == 0:
            self.unknown.add(arn)
            self.boto.update_room(identifier=arn, name=f"new{number}")
            self.rooms[arn] = f"new{number}"
            self.unknown.discard(arn)
        if number % 5 == 0:
            self.unknown.add(arn)
            self.boto.delete_room(identifier=arn)
            del self.rooms[arn]

    def __enter__(self) -> ApiCalls:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.halt.set()
        self.join(60)

    def check(self) -> None:
        """Everything that was answered with 2xx is there, on every node."""
        print(f"{self.done} API steps done, {len(self.failed)} failed: {self.failed[:5]}")
        assert self.done > 0, self.failed[:5]
        for node in self.cluster.nodes:
            for arn, name in self.rooms.items():
                if arn not in self.unknown:
                    status, room = node.call("GetRoom", {"identifier": arn})
                    assert (status, room.get("name")) == (200, name), (node.name, arn, status, room)


def present(port: int, token: str, gate: threading.Barrier, statuses: list[int]) -> None:
    wire = Wire(port)
    gate.wait()
    wire.send(upgrade_head(token))
    try:
        statuses.append(wire.read_response().status)
    except Closed:
        statuses.append(0)
    wire.close()


def race(cluster: Cluster, token: str, copies: int = 3) -> list[int]:
    """The answers to a token presented at all nodes at once."""
    ports = [node.messaging_port for node in cluster.nodes] * copies
    gate, statuses = threading.Barrier(len(ports)), []
    threads = [threading.Thread(target=present, args=(port, token, gate, statuses)) for port in ports]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return sorted(statuses)
