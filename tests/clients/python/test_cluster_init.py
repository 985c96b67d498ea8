"""`uproar cluster init` of a server that has many rooms, and back: nothing is missing anywhere. By hand with more of them:
`TEST_INIT_ROOMS=49999`, since one more is made in the cluster and the quota is 50,000."""

from __future__ import annotations

import os
import re
import threading
import time

from cluster import Cluster

ROOMS = int(os.environ.get("TEST_INIT_ROOMS", "300"))
WRITERS = 4


def make(node, first: int) -> None:
    for number in range(first, ROOMS, WRITERS):
        status, answer = node.call("CreateRoom", {"name": f"r{number}", "tags": {"n": str(number)}})
        assert status == 200, answer


def listed(node) -> dict[str, str]:
    found, more = {}, {}
    while True:
        page = node.call("ListRooms", {"maxResults": 50, **more})[1]
        found.update({room["arn"]: room["name"] for room in page["rooms"]})
        if not page.get("nextToken"):
            return found
        more = {"nextToken": page["nextToken"]}


def until_ready(node) -> None:
    node.await_ready(time.monotonic() + 600)


def test_a_server_with_many_rooms_becomes_a_cluster_and_goes_back():
    """Goal: every room of a server alone is there on a second node after `init`, and, with one made in the cluster, on the
    first alone again. Method: each room's name by its ARN, compared as a whole; `init` again changes nothing."""
    running = Cluster(nodes=2)
    first, second = running.nodes
    alone = {name: value for name, value in first.settings.items() if not name.startswith("cluster.")}
    try:
        first.write(alone)
        first.launch()
        until_ready(first)
        begun = time.monotonic()
        writers = [threading.Thread(target=make, args=(first, number)) for number in range(WRITERS)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        before = listed(first)
        assert len(before) == ROOMS
        made = time.monotonic()
        first.stop()
        first.write(first.settings)
        running.brokers.start()
        up = time.monotonic()
        running.init()
        initialised = time.monotonic()
        running.init()
        first.launch()
        until_ready(first)
        ready = time.monotonic()
        second.launch()
        until_ready(second)
        print(
            f"{ROOMS} rooms: made alone in {made - begun:.1f} s, init {initialised - up:.1f} s,"
            f" first node ready after {ready - initialised:.1f} s, second after {time.monotonic() - ready:.1f} s"
        )
        assert listed(second) == before
        status, added = second.call("CreateRoom", {"name": "added"})
        assert status == 200, added
        before[added["arn"]] = "added"
        # A barrier: then the first node has it on its disk, too.
        assert first.call("GetRoom", {"identifier": added["arn"]})[0] == 200
        first.stop()
        second.stop()
        first.write(alone)
        first.launch()
        until_ready(first)
        assert listed(first) == before, "and back"
        assert re.search("no node of a cluster any more", first.whole_log()), first.log()
    finally:
        running.stop()
