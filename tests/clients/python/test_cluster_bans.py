"""Bans in a cluster: made on one node, in force on all, also of a node that was away."""

from __future__ import annotations

import pytest

from configured import KEY
from cluster_trial import started
from rawws import Refused, WebSocket
from test_bans import ban, left, unban
from test_chat_modes import SEND, outcome
from test_cluster_modes import join
from test_server_speaks import api, refused

cluster = started(settings={"extensions.enabled": True})


@pytest.fixture(autouse=True)
def whole(cluster):
    cluster.heal()
    yield


def no_token(node, room: str, user: str) -> bool:
    return node.call("CreateChatToken", {"roomIdentifier": room, "userId": user})[0] == 403


def test_a_ban_of_one_node_holds_on_all(cluster):
    first, second, *_ = cluster.nodes
    (room,) = cluster.rooms(1)
    bobs = [join(node, room, "bob") for node in cluster.nodes]
    eves = [join(node, room, "eve") for node in cluster.nodes]
    token = second.mint(room, "bob")
    ban(api(first, *KEY), room, "bob", "ban", reason="out")
    assert {bob.receive_close().code for bob in bobs} == {1000}
    for eve in eves:
        assert eve.receive_until(lambda frame: frame.get("EventName") == "aws:DISCONNECT_USER")
    # Its connections there are closed: the ban is there.
    assert all(no_token(node, room, "bob") for node in cluster.nodes)
    with pytest.raises(Refused) as refusal:
        WebSocket(second.messaging_port, token)
    assert refusal.value.response.status == 403
    unban(api(second, *KEY), room, "bob")
    until_said(lambda: WebSocket(first.messaging_port, first.mint(room, "bob")))


def until_said(connect) -> None:
    """Other nodes follow within milliseconds; the run's own limit ends this."""
    while True:
        try:
            assert outcome(connect()) == "said"
            return
        except (Refused, AssertionError) as early:
            print("not yet", early)


def test_time_outs_and_shadows(cluster):
    first, second, *_ = cluster.nodes
    (room,) = cluster.rooms(1)
    crew = [join(node, room, "crew", [*SEND, "DELETE_MESSAGE"]) for node in cluster.nodes]
    bobs, eves = [[join(node, room, user) for node in cluster.nodes] for user in ("bob", "eve")]
    ban(api(first, *KEY), room, "bob", "timeout", seconds=3600)
    for mod in crew:
        told = mod.receive_until(lambda frame: frame.get("EventName") == "uproar:ban")[0]["Attributes"]
        assert (told["UserId"], told["Mode"]) == ("bob", "timeout")
    assert all(3000 < left(bob) <= 3600 for bob in bobs)
    ban(api(second, *KEY), room, "bob", "shadow")
    for mod in crew:
        assert mod.receive_until(lambda frame: frame.get("EventName") == "uproar:ban")[0]["Attributes"]["Mode"] == "shadow"
    assert bobs[0].say("hm", "r")
    frames = [bob.receive_until(lambda frame: frame.get("RequestId") == "r")[0] for bob in bobs]
    assert all(frame == frames[0] for frame in frames) and frames[0]["Type"] == "MESSAGE"
    assert eves[0].say("mark", "mark")
    for eve in eves:
        heard = eve.receive_until(lambda frame: frame.get("Content") == "mark")[1]
        assert heard == []


def test_an_erasure_tells_of_no_ban_again(cluster):
    """Goal: EraseUser takes a ban's texts away on all nodes, and moderators of none hear of the ban a second time."""
    first, second, *_ = cluster.nodes
    (room,) = cluster.rooms(1)
    crew = [join(node, room, "crew", [*SEND, "DELETE_MESSAGE"]) for node in cluster.nodes]
    ban(api(first, *KEY), room, "erased", "timeout", seconds=3600, reason="a name")
    for mod in crew:
        assert mod.receive_until(lambda frame: frame.get("EventName") == "uproar:ban")[0]["Attributes"]["Reason"] == "a name"
    assert api(second, *KEY).erase_user(userId="erased")["bans"] == 1
    for node in cluster.nodes:
        while api(node, *KEY).list_bans(roomIdentifier=room)["bans"][0]["reason"]:
            print("not yet")
    for mod, node in zip(crew, cluster.nodes):
        # Behind it, in the order of the registry: what is told of the first is told by now.
        ban(api(node, *KEY), room, f"behind {node.messaging_port}", "timeout", seconds=60)
        told = lambda frame: frame.get("EventName") == "uproar:ban" and frame["Attributes"]["UserId"].startswith("behind")
        heard = mod.receive_until(told)[1]
        assert not [frame for frame in heard if frame.get("EventName") == "uproar:ban" and frame["Attributes"]["UserId"] == "erased"]
        assert 3000 < left(join(node, room, "erased")) <= 3600, "the ban itself stays"


def test_a_shadow_waits_as_others_do(cluster):
    """Goal: the home judges a shadow's messages, from whichever node they come."""
    first, second, *_ = cluster.nodes
    (room,) = cluster.rooms(1)
    cluster.boto(first).tag_resource(resourceArn=room, tags={"uproar:slow": "3600", "uproar:state": "off"})
    ban(api(second, *KEY), room, "bob", "shadow")
    crew = [join(node, room, "crew", [*SEND, "DELETE_MESSAGE"]) for node in cluster.nodes]
    for node in cluster.nodes:
        while not any(one["userId"] == "bob" for one in api(node, *KEY).list_bans(roomIdentifier=room)["bans"]):
            print("not yet")
    bobs, eves = [[join(node, room, user) for node in cluster.nodes] for user in ("bob", "eve")]
    while outcome(eves[0], "slow?") == "said":
        print("the tag is not here yet")
    said = outcome(bobs[0], "first")
    assert said == "said" or said.startswith("429 slow mode"), said
    for bob in bobs:
        assert outcome(bob, "second").startswith("429 slow mode: wait ")
    assert all(one.say("mark", "mark") for one in crew)
    for eve in eves:
        for _ in crew:
            heard = eve.receive_until(lambda frame: frame.get("Content") == "mark")[1]
            assert not [frame for frame in heard if frame.get("Content") in ("first", "second")]


def test_a_kick_bans_once_for_all(cluster):
    first, second, *_ = cluster.nodes
    (room,) = cluster.rooms(1)
    cluster.boto(first).tag_resource(resourceArn=room, tags={"uproar:kick": "600"})
    watcher = join(second, room, "watcher", [])
    watcher.receive_until(lambda frame: frame.get("EventName") == "uproar:room")
    mod, bob = join(second, room, "mod", ["DISCONNECT_USER"]), join(first, room, "bob")
    assert mod.send_json({"Action": "DISCONNECT_USER", "UserId": "bob", "Reason": "out"})
    assert bob.receive_close().code == 1000
    mod.receive_until(lambda frame: frame.get("EventName") == "uproar:ban")
    listed = api(second, *KEY).list_bans(roomIdentifier=room)["bans"]
    assert [(one["userId"], one["by"]) for one in listed] == [("bob", "uproar:kick")]


def test_a_node_that_was_away_learns_of_it(cluster):
    first, second, *_ = cluster.nodes
    (room,) = cluster.rooms(1)
    second.kill()
    ban(api(first, *KEY), room, "bob", "ban")
    ban(api(first, *KEY), None, "carol", "timeout", seconds=3600)
    cluster.heal()
    assert no_token(second, room, "bob")
    assert 3000 < left(join(second, room, "carol")) <= 3600
    assert refused(api(second, *KEY).delete_ban, roomIdentifier=room, userId="nobody")[0] == 404


def test_a_ban_is_no_kick(cluster):
    """Goal: whichever node is asked, a ban's own disconnect leaves the ban as it was asked for."""
    (room,) = cluster.rooms(1)
    cluster.boto(cluster.nodes[0]).tag_resource(resourceArn=room, tags={"uproar:kick": "600"})
    mod = join(cluster.nodes[0], room, "mod", ["DISCONNECT_USER"])
    mod.receive_until(lambda frame: frame.get("EventName") == "uproar:room")
    for number, node in enumerate(cluster.nodes):
        bob = join(node, room, f"bob{number}")
        ban(api(node, *KEY), room, f"bob{number}", "ban", seconds=60)
        assert bob.receive_close().code == 1000
    last = join(cluster.nodes[0], room, "last")
    assert mod.send_json({"Action": "DISCONNECT_USER", "UserId": "last", "Reason": "out"})
    assert last.receive_close().code == 1000
    while True:
        by = {one["userId"]: one["by"] for one in api(cluster.nodes[0], *KEY).list_bans(roomIdentifier=room)["bans"]}
        if "last" in by:
            break
        print("not yet")
    assert len(by) == 1 + len(cluster.nodes) and [user for user, who in by.items() if who == "uproar:kick"] == ["last"]
