"""The server speaks on whichever node it is asked, and is heard on all."""

from __future__ import annotations

from datetime import datetime

from configured import KEY
from cluster_trial import started
from rawws import WebSocket
from test_server_speaks import api

cluster = started(settings={"extensions.enabled": True})


def joined(cluster, node, room: str, user: str) -> WebSocket:
    return WebSocket(node.messaging_port, cluster.mint(room, user))


def test_every_node_speaks_to_the_viewers_of_all(cluster):
    """Goal: messages and deletions asked of any node are one order on all, answered with the id and the time that viewers get;
    an event for bob is sent through his connections on all nodes, and their sum is the answer."""
    (room,) = cluster.rooms(1)
    bobs = [joined(cluster, node, room, "bob") for node in cluster.nodes for _ in range(2)]
    eve = joined(cluster, cluster.nodes[0], room, "eve")
    for number, node in enumerate(cluster.nodes):
        client = api(node, *KEY)
        said = client.send_message(roomIdentifier=room, content=f"m{number}", sender={"userId": "shop"}, exempt=True)
        many = client.send_messages(
            roomIdentifier=room, messages=[{"content": f"{number}.{n}", "sender": {"userId": "shop"}} for n in range(5)],
        )["results"]
        deleted = client.delete_messages(roomIdentifier=room, ids=[said["id"]])["ids"]
        wanted = [said["id"], *(one["id"] for one in many), *deleted]
        for viewer in (*bobs, eve):
            heard = [viewer.receive() for _ in wanted]
            assert [frame["Id"] for frame in heard] == wanted
            sent = datetime.fromisoformat(heard[0]["SendTime"].replace("Z", "+00:00"))
            assert abs(sent.timestamp() - said["sendTime"].timestamp()) < 1e-5
        told = client.send_user_event(roomIdentifier=room, userId="bob", eventName="shop:won", attributes={"n": str(number)})
        assert told["connections"] == len(bobs)
        events = [bob.receive() for bob in bobs]
        assert all(event == events[0] for event in events)
        assert (events[0]["EventName"], events[0]["Attributes"]) == ("shop:won", {"n": str(number)})
    last = api(cluster.nodes[-1], *KEY).send_message(roomIdentifier=room, content="last", sender={"userId": "shop"})
    assert eve.receive()["Id"] == last["id"], "no event came to eve"
