"""Chat modes in a cluster: the room's home decides for members of all nodes, and learns from their nodes who they are."""

from __future__ import annotations

import pytest

from cluster_trial import started
from rawws import WebSocket
from test_chat_modes import LONG, SEND, outcome, wait

cluster = started()


@pytest.fixture(autouse=True)
def whole(cluster):
    cluster.heal()
    yield


def join(node, arn: str, user: str, capabilities=SEND, **attributes: str) -> WebSocket:
    ours = {f"uproar:{name}": value for name, value in attributes.items()}
    body = {"roomIdentifier": arn, "userId": user, "capabilities": capabilities, "attributes": ours}
    status, answer = node.call("CreateChatToken", body)
    assert status == 200, answer
    return WebSocket(node.messaging_port, answer["token"])


def tag(cluster, arn: str, tags: dict[str, str]) -> None:
    """Returns once every node has told its members: then the home, whichever it is, has the tags."""
    watchers = [join(node, arn, "watcher", []) for node in cluster.nodes]
    ours = {f"uproar:{name}": value for name, value in tags.items()}
    cluster.boto(cluster.nodes[0]).tag_resource(resourceArn=arn, tags=ours)
    for watcher in watchers:
        def is_told(frame: dict) -> bool:
            told = frame.get("Attributes") or {}
            return frame.get("EventName") == "uproar:room" and all(told[name.title()] == tags[name] for name in tags)
        watcher.receive_until(is_told)


def test_a_user_waits_on_every_node(cluster):
    """Several rooms, so that homes are on several nodes."""
    first, second, *_ = cluster.nodes
    for arn in cluster.rooms(6):
        tag(cluster, arn, {"slow": LONG})
        alice, again = join(first, arn, "alice"), join(second, arn, "alice")
        assert outcome(alice) == "said"
        assert 3000 < wait(again) <= 3600
        assert 3000 < wait(alice) <= 3600
        assert outcome(join(second, arn, "bob")) == "said"


def test_what_a_home_must_know_of_a_sender_goes_with_the_message(cluster):
    for arn in cluster.rooms(6):
        tag(cluster, arn, {"talk": "sub", "slow": LONG, "age": "600"})
        for number, node in enumerate(cluster.nodes):
            known = {"since": "1"}
            assert outcome(join(node, arn, f"plain{number}", **known)) == "403 chat is open to: sub"
            assert outcome(join(node, arn, f"new{number}", role="sub")) == "403 you may write in 600 s"
            assert outcome(join(node, arn, f"fan{number}", role="sub", **known)) == "said"
            for crew in (
                join(node, arn, f"host{number}", role="host"),
                join(node, arn, f"delete{number}", [*SEND, "DELETE_MESSAGE"]),
                join(node, arn, f"kick{number}", [*SEND, "DISCONNECT_USER"]),
            ):
                assert [outcome(crew), outcome(crew)] == ["said", "said"]


def test_what_a_moderator_sets_on_one_node_holds_on_all(cluster):
    """Goal: a value over a tag is in force for members of every node, and so is its end."""
    for arn in cluster.rooms(3):
        tag(cluster, arn, {"talk": "all"})
        for node in cluster.nodes:
            mod = join(node, arn, "mod", [*SEND, "DISCONNECT_USER"])
            viewers = [join(other, arn, f"viewer of {node.messaging_port}") for other in cluster.nodes]
            do = {"uproar:do": "set", "uproar:key": "talk", "uproar:value": "none", "uproar:seconds": "2"}
            assert mod.say("x", "set", Attributes=do)
            assert mod.receive_until(lambda frame: frame.get("RequestId") == "set")[0]["Content"] == "talk is none for 2 s"
            for viewer in viewers:
                viewer.receive_until(lambda frame: frame.get("EventName") == "uproar:room" and frame["Attributes"]["Talk"] == "none")
                assert outcome(viewer) == "403 chat is closed"
            for viewer in viewers:
                viewer.receive_until(lambda frame: frame.get("EventName") == "uproar:room" and frame["Attributes"]["Talk"] == "all")
