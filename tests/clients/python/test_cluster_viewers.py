"""Viewers in a cluster: any node knows those of all, and forgets those of a node that dies."""

from __future__ import annotations

import pytest

from configured import KEY
from cluster_trial import started
from rawws import WebSocket
from test_server_speaks import api
from test_viewers import counted, counts

cluster = started(settings={"extensions.enabled": True})


@pytest.fixture(autouse=True)
def whole(cluster):
    cluster.heal()
    yield


def join(node, room: str, user: str, **attributes: str) -> WebSocket:
    body = {"roomIdentifier": room, "userId": user, "attributes": attributes}
    status, answer = node.call("CreateChatToken", body)
    assert status == 200, answer
    return WebSocket(node.messaging_port, answer["token"])


def until(look, wanted) -> None:
    """Counts travel once a second; the run's own limit ends this."""
    while (seen := look()) != wanted:
        print("seen", seen)


def test_every_node_knows_the_viewers_of_all(cluster):
    room, other = cluster.rooms(2, tags={"uproar:viewers": "1"})
    first, second, *_ = cluster.nodes
    alices = [join(node, room, "alice") for node in cluster.nodes]
    bob = join(second, room, "bob")
    overlay = join(first, room, "overlay", **{"uproar:hidden": "1"})
    lonely = join(first, other, "lonely")
    viewers = len(alices) + 1
    for node in cluster.nodes:
        client = api(node, *KEY)
        until(lambda: counts(client, room), (viewers, viewers + 1, 2, viewers))
        listed = client.list_room_users(roomIdentifier=room)["users"]
        assert [(user["userId"], user["connections"]) for user in listed] == [("alice", len(alices)), ("bob", 1)]
        page = client.list_room_users(roomIdentifier=room, maxResults=1)
        rest = client.list_room_users(roomIdentifier=room, nextToken=page["nextToken"])
        assert [user["userId"] for user in (*page["users"], *rest["users"])] == ["alice", "bob"]
        until(
            lambda: [(one["arn"], one["viewers"]) for one in client.list_active_rooms()["rooms"] if one["arn"] in (room, other)],
            [(room, viewers), (other, 1)],
        )
    for viewer in (*alices, bob, overlay):
        counted(viewer, viewers)
    bob.reset()
    for viewer in (*alices, overlay):
        counted(viewer, viewers - 1)
    counted(lonely, 1)


def test_a_dead_nodes_viewers_are_forgotten(cluster):
    (room,) = cluster.rooms(1, tags={"uproar:viewers": "1"})
    survivor, dies, *_ = cluster.nodes
    alice, lost = join(survivor, room, "alice"), [join(dies, room, "bob") for _ in range(3)]
    counted(alice, 4)
    dies.kill()
    told = counted(alice, 1)
    assert told["Attributes"]["Peak"] == "4" and told["Attributes"]["Left"] == "3"
    assert len(lost) == 3
    until(lambda: counts(api(survivor, *KEY), room), (1, 1, 1, 4))
