"""Three nodes are one server: what is said on one is heard on all in one order, and rules hold for all together."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from cluster_api import RACERS, race
from cluster_trial import PAUSES, Trial, size, started
from rawws import WebSocket

cluster = started()
MODERATIONS = size(60, 300)


def test_all_nodes_are_one_server(cluster):
    """Goal: viewers on three nodes see one order of each room, gapless, and every sender its echo. Method: 120 viewers
    come through the balancer and chat; the log is read beside them and compared with what each of them saw."""
    with Trial(cluster) as trial:
        trial.talk(2)
        since = time.monotonic()
        trial.talk(4)
        trial.pause("undisturbed", since)
    assert {stream.node for stream in trial.viewers.streams} == {node.name for node in cluster.nodes}
    assert len(trial.viewers.streams) == trial.count, "nobody had to come back"
    assert not trial.refused(0), trial.refused(0)[:10]
    homes = [node.figure("cluster_slots_home") for node in cluster.nodes]
    assert sum(homes) == 256 and min(homes) > 0, homes


def test_a_token_opens_one_connection_of_all_nodes(cluster):
    """Goal: single use is exact over nodes. Method: each token nine times at once, three times at each node; later once
    more at each."""
    (room,) = cluster.rooms(1)
    tokens = [cluster.mint(room, f"u{number}") for number in range(60)]
    with ThreadPoolExecutor(RACERS // 4) as pool:
        for statuses in pool.map(lambda token: race(cluster, token), tokens):
            assert statuses == [101] + [401] * 8
    for token in tokens[::10]:
        assert race(cluster, token, 1) == [401] * 3


def test_a_rooms_rate_is_one_for_all_nodes(cluster):
    """Goal: a room's rate is that of the room, not of each node. Method: 30 senders on all nodes say twice as much as
    all together may, and the log shows what was taken: in no second more than the rate and a burst of one second."""
    rate = 10
    trial = Trial(cluster, viewers=30, rooms=1, rate=6 * rate)
    trial.rooms = cluster.rooms(1, maximumMessageRatePerSecond=rate)
    with trial:
        trial.talk(8)
    (log,) = trial.order.by_room(trial.rooms).values()
    times = [seconds(payload) for payload in log.payloads]
    within = max(sum(begin <= moment < begin + 1 for moment in times) for begin in times)
    assert within <= 2 * rate, f"{within} messages in one second"
    assert len(times) <= rate * (times[-1] - times[0] + 2), f"{len(times)} in {times[-1] - times[0]} s"
    refused = [request for request in trial.viewers.requests.values() if request.refused == 429]
    assert {request.stream.node for request in refused} == {node.name for node in cluster.nodes}


def seconds(payload: bytes) -> float:
    """`SendTime` as seconds of the day."""
    clock = payload.split(b'"SendTime":"')[1].split(b"T")[1].split(b"Z")[0].decode()
    hours, minutes, rest = clock.split(":")
    return 3600 * int(hours) + 60 * int(minutes) + float(rest)


def joined(cluster, room: str, user: str) -> list[WebSocket]:
    """The same user on every node."""
    return [WebSocket(node.messaging_port, cluster.mint(room, user)) for node in cluster.nodes]


def test_deletes_kicks_and_events_reach_all_nodes(cluster):
    """Goal: API calls on any node act on all, in the room's order, and are answered when they are in the log. Method:
    a viewer of each user on each node; events through random nodes, and what each viewer saw of them."""
    (room,) = cluster.rooms(1)
    watchers, kicked = joined(cluster, room, "watcher"), joined(cluster, room, "kicked")
    calls = [
        ("SendEvent", {"eventName": "app:goal", "attributes": {"n": "1"}}, "app:goal"),
        ("DeleteMessage", {"id": "abcdefghijkl", "reason": "spam"}, "aws:DELETE_MESSAGE"),
        ("DisconnectUser", {"userId": "kicked", "reason": "rude"}, "aws:DISCONNECT_USER"),
        ("SendEvent", {"eventName": "app:end"}, "app:end"),
    ]
    for operation, body, _ in calls:
        status, answer = cluster.any().call(operation, {"roomIdentifier": room, **body})
        assert status in (200, 204), (operation, status, answer)
    seen = [[watcher.receive() for _ in calls] for watcher in watchers]
    assert [event["EventName"] for event in seen[0]] == [name for _, _, name in calls]
    assert seen[0] == seen[1] == seen[2], "the same events, Ids and times on every node"
    for viewer in kicked:
        events: list[dict] = []
        closed = viewer.receive_close_after(events)
        assert events == seen[0][:3] and closed.code is not None, (events, closed)
    # Whoever was kicked may come again.
    joined(cluster, room, "kicked")


def test_a_viewer_deletes_and_kicks_on_other_nodes(cluster):
    """Goal: the same by a viewer's own requests, to viewers on the other nodes, while others chat: without waiting for
    what is collected. Method: how long until the last of three nodes has sent it."""
    (room,) = cluster.rooms(1)
    moderator, *others = joined(cluster, room, "moderator")
    with Trial(cluster) as trial:
        trial.talk(1)
        for number in range(MODERATIONS):
            begun = time.monotonic()
            request = {"Action": "DELETE_MESSAGE", "RequestId": f"d{number}", "Id": f"abcdefghi{number:03}"}
            assert moderator.send_json(request)
            for viewer in (*others, moderator):
                event = viewer.receive()
                assert event["RequestId"] == f"d{number}", event
            PAUSES.setdefault("a delete under load, until all nodes have it", []).append(time.monotonic() - begun)
        for number in range(MODERATIONS // 4):
            kick(cluster, room, moderator, f"k{number}")
            for viewer in others:
                viewer.receive()


def kick(cluster, room: str, moderator: WebSocket, name: str) -> None:
    """A user who is on all three nodes."""
    targets = joined(cluster, room, name)
    begun = time.monotonic()
    request = {"Action": "DISCONNECT_USER", "RequestId": name, "UserId": name, "Reason": "r"}
    assert moderator.send_json(request)
    for target in targets:
        assert target.receive_close().code is not None
    PAUSES.setdefault("a kick under load, until all nodes have cut the user", []).append(time.monotonic() - begun)
    assert moderator.receive()["EventName"] == "aws:DISCONNECT_USER"


def test_the_api_is_true_on_every_node(cluster):
    """Goal: what one node answered with 2xx, every node knows at once; nothing is lost; pages are complete. Method:
    each call on a random node, and at once the question to another."""
    made: dict[str, str] = {}
    for number in range(24):
        status, room = cluster.any().call("CreateRoom", {"name": f"r{number}", "tags": {"n": str(number)}})
        assert status == 200, room
        made[room["arn"]] = f"r{number}"
        status, found = cluster.any().call("GetRoom", {"identifier": room["arn"]})
        assert status == 200 and found["name"] == f"r{number}", (status, found)
        if number % 3 == 0:
            made[room["arn"]] = f"changed{number}"
            status, _ = cluster.any().call("UpdateRoom", {"identifier": room["arn"], "name": f"changed{number}"})
            assert status == 200
            status, found = cluster.any().call("GetRoom", {"identifier": room["arn"]})
            assert found["name"] == f"changed{number}", found
        if number % 4 == 0:
            del made[room["arn"]]
            assert cluster.any().call("DeleteRoom", {"identifier": room["arn"]})[0] == 204
            assert cluster.any().call("GetRoom", {"identifier": room["arn"]})[0] == 404
    for node in cluster.nodes:
        assert {arn: name for arn, name in listed(node).items() if arn in made} == made, node.name
    assert len({frozenset(listed(node).items()) for node in cluster.nodes}) == 1, "all nodes list the same rooms"


def listed(node) -> dict[str, str]:
    """All rooms, page by page, by the official client."""
    found, more = {}, {}
    while True:
        page = node.boto_cached.list_rooms(maxResults=5, **more)
        found.update({room["arn"]: room.get("name", "") for room in page["rooms"]})
        if not page.get("nextToken"):
            return found
        more = {"nextToken": page["nextToken"]}


def test_updates_on_all_nodes_at_once_are_all_there(cluster):
    """Goal: no update is lost. Method: each node changes another property of one room at once, again and again; tags
    are properties, too."""
    (room,) = cluster.rooms(1)
    faults: list[object] = []

    def change(node, key: str) -> None:
        for number in range(15):
            node.boto_cached.tag_resource(resourceArn=room, tags={key: str(number)})
            time.sleep(random.random() / 50)

    def guarded(node, key: str) -> None:
        try:
            change(node, key)
        except Exception as error:
            faults.append(error)

    threads = [
        threading.Thread(target=guarded, args=(node, f"k{number}")) for number, node in enumerate(cluster.nodes)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not faults, faults
    for node in cluster.nodes:
        tags = node.boto_cached.list_tags_for_resource(resourceArn=room)["tags"]
        assert tags == {"k0": "14", "k1": "14", "k2": "14"}, (node.name, tags)
