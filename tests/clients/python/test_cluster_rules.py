"""Rules in a cluster: made on one node, in force on all; a held message is decided from any node, and forgotten with its home;
what is reviewed after its delivery is deleted on all nodes."""

from __future__ import annotations

import pytest

from configured import KEY
from cluster import Cluster
from review_handler import FUNCTION
from test_bans import left
from test_chat_modes import SEND, outcome, say
from test_cluster_modes import join
from test_rules import event, hears, rule
from test_server_speaks import api, refused

CREW = [*SEND, "DELETE_MESSAGE"]


@pytest.fixture(scope="module")
def cluster(handler):
    with Cluster(settings={"extensions.enabled": True, "review.functions": [f"{FUNCTION}check={handler.url}/"]}) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def whole(cluster):
    cluster.heal()
    yield


def tagged(cluster, tags: dict[str, str]) -> str:
    """A room whose tags every node has."""
    (arn,) = cluster.rooms(1)
    watchers = [join(node, arn, "watcher", []) for node in cluster.nodes]
    cluster.boto(cluster.nodes[0]).tag_resource(resourceArn=arn, tags=tags)
    for watcher in watchers:
        event(watcher, "uproar:room")
    return arn


def ruled(cluster, name: str, *rules: dict) -> str:
    """A room whose rules are in force on every node."""
    first, *_ = cluster.nodes
    api(first, *KEY).put_rule_set(name=name, rules=list(rules))
    arn = tagged(cluster, {"uproar:rules": name})
    for node in cluster.nodes:
        assert api(node, *KEY).get_rule_set(name=name)["ruleCount"] == len(rules)
    return arn


def told(socket, name: str, message: dict) -> dict:
    """What this event says of a message."""
    def is_it(frame: dict) -> bool:
        return frame.get("EventName") == name and frame["Attributes"]["MessageId"] == message["Id"]

    return socket.receive_until(is_it)[0]["Attributes"]


def test_a_set_of_one_node_holds_on_all(cluster):
    for number in range(3):
        arn = ruled(
            cluster, f"all{number}",
            rule(reason="no"), rule(patterns=["meh"], action="mask", id="m"), rule(patterns=["odd"], action="shadow", id="s"),
            rule(patterns=["worst"], action="timeout", seconds=3600, id="t"),
        )
        alices = [join(node, arn, "alice") for node in cluster.nodes]
        eves = [join(node, arn, "eve") for node in cluster.nodes]
        assert {outcome(alice, "b a d") for alice in alices} == {"406 no"}
        masked = say(alices[0], "a meh day")
        assert masked["Content"] == "a *** day"
        assert [hears(eve) for eve in eves] == [masked] * len(eves)
        echo = say(alices[1], "odd")
        for alice in alices[:1] + alices[2:]:
            assert alice.receive_until(lambda frame: frame.get("Id") == echo["Id"])[0] == echo
        assert say(eves[0], "mark")["Content"] == "mark"
        for eve in eves[1:]:
            assert hears(eve)["Content"] == "mark", "nobody else had the shadow's"
        assert outcome(alices[0], "worst").startswith("406")
        # Each node learns of it in its own time.
        for alice in alices:
            while not (held := outcome(alice)).startswith("403 timed out"):
                print("not yet", held)
            assert 3000 < left(alice) <= 3600


def test_a_held_message_is_decided_from_any_node(cluster):
    first, second, *_ = cluster.nodes
    arn = ruled(cluster, "hold", rule(action="hold"))
    alice = join(first, arn, "alice")
    eves, mods = ([join(node, arn, user, caps) for node in cluster.nodes] for user, caps in (("eve", SEND), ("mod", CREW)))
    for number, node in enumerate(cluster.nodes):
        echo = say(alice, f"bad {number}")
        assert echo["Attributes"] == {"uproar:held": "1"}
        for mod in mods:
            told(mod, "uproar:held", echo)
        for other in cluster.nodes:
            (waits,) = api(other, *KEY).list_held(roomIdentifier=arn)["messages"]
            assert (waits["messageId"], waits["content"], waits["rule"]) == (echo["Id"], f"bad {number}", "hold/r")
            assert waits["sender"]["userId"] == "alice" and waits["endsAt"] > waits["sendTime"]
        assert mods[number].say("x", "d", Attributes={"uproar:do": "allow", "uproar:id": echo["Id"]})
        for eve in eves:
            heard = hears(eve)
            assert (heard["Id"], heard["Content"], heard["Attributes"]) == (echo["Id"], f"bad {number}", None)
        for socket in (*mods, alice):
            assert told(socket, "uproar:decided", echo)["Result"] == "allowed"
        denied = say(alice, "bad again")
        done = api(node, *KEY).decide_held(roomIdentifier=arn, messageId=denied["Id"], decision="deny", reason="no")
        assert "sendTime" not in done
        result = told(alice, "uproar:decided", denied)
        assert (result["Result"], result["Reason"]) == ("denied", "no")
        assert refused(api(node, *KEY).decide_held, roomIdentifier=arn, messageId=denied["Id"], decision="allow")[0] == 404
        assert api(node, *KEY).list_held(roomIdentifier=arn)["messages"] == []
    assert say(eves[0], "mark")["Content"] == "mark"
    for eve in eves[1:]:
        assert hears(eve)["Content"] == "mark"


def test_a_node_that_was_away_learns_of_them(cluster):
    first, second, *_ = cluster.nodes
    arn = ruled(cluster, "away", rule(reason="one"))
    second.kill()
    api(first, *KEY).put_rule_set(name="away", rules=[rule(patterns=["worse"], reason="two")])
    cluster.heal()
    alice = join(second, arn, "alice")
    assert (outcome(alice, "worse"), outcome(alice, "bad")) == ("406 two", "said")


def test_what_is_held_dies_with_its_home(cluster):
    """Every node dies once, so that the home does."""
    arn = ruled(cluster, "dies", rule(action="hold"))
    for victim in cluster.nodes:
        other = next(node for node in cluster.nodes if node is not victim)
        echo = say(join(other, arn, "alice"), "bad")
        victim.kill()
        cluster.heal()
        client = api(victim, *KEY)
        try:
            done = client.decide_held(roomIdentifier=arn, messageId=echo["Id"], decision="deny")
            assert done["messageId"] == echo["Id"]
        except client.exceptions.ResourceNotFoundException:
            return
    raise AssertionError("no node was the home")


def test_what_a_review_denies_afterwards_is_deleted_on_all_nodes(cluster, handler):
    """Goal: whoever says it, a member or a back end, on whatever node: its home asks once, and each node's members are told.
    Several rooms, so that homes are on several nodes."""
    for number in range(3):
        arn = tagged(cluster, {"uproar:after-review": f"{FUNCTION}check"})
        eves = [join(node, arn, "eve") for node in cluster.nodes]
        for eve in eves:
            event(eve, "uproar:room")
        for at, node in enumerate(cluster.nodes):
            texts = [f"deny member {number}.{at}", f"deny shop {number}.{at}", f"fine {number}.{at}"]
            say(join(node, arn, "alice"), texts[0])
            api(node, *KEY).send_message(roomIdentifier=arn, content=texts[1], sender={"userId": "shop"})
            assert outcome(join(node, arn, "bob"), texts[2]) == "said"
            for eve in eves:
                heard, gone = {}, {}
                while texts[2] not in heard.values() or len(gone) < 2:
                    frame = eve.receive()
                    if frame["Type"] == "MESSAGE":
                        heard[frame["Id"]] = frame["Content"]
                    else:
                        gone[frame["Attributes"]["MessageID"]] = frame["Attributes"]["Reason"]
                assert sorted(gone.values()) == [text[5:] for text in texts[:2]]
                # Whoever has a denied one not yet when it is deleted never gets it.
                denied = {id: content[5:] for id, content in heard.items() if content != texts[2]}
                assert denied.items() <= gone.items()
            asked = [one.question["Content"] for one in handler.asked]
            assert [asked.count(text) for text in texts] == [1, 1, 1]
