"""Tallies of a cluster: members of all nodes vote, the home of the room's hash slot counts, all members are told."""

from __future__ import annotations

import pytest

from cluster_trial import started
from configured import KEY
from rawws import WebSocket
from test_cluster_modes import join
from test_server_speaks import api, refused
from test_tallies import answer_to, ask, next_event, react, start, vote

cluster = started(settings={"extensions.enabled": True})


@pytest.fixture(autouse=True)
def whole(cluster):
    cluster.heal()
    yield


def tagged(cluster, count: int, tags: dict[str, str]) -> list[str]:
    """Rooms, once every node has told its members of their tags."""
    rooms = cluster.rooms(count)
    for arn in rooms:
        watchers = [join(node, arn, "watcher", []) for node in cluster.nodes]
        cluster.boto(cluster.nodes[0]).tag_resource(resourceArn=arn, tags=tags)
        for watcher in watchers:
            next_event(watcher, "uproar:room")
    return rooms


def test_members_of_all_nodes_vote_once(cluster):
    """Several rooms, so that homes are on several nodes."""
    first, second, *_ = cluster.nodes
    for arn in tagged(cluster, 4, {"uproar:reactions": "heart", "uproar:reactions-ms": "250"}):
        alice, again, bob = join(first, arn, "alice"), join(second, arn, "alice"), join(second, arn, "bob")
        assert start(api(first, *KEY), arn, change=False)["state"] == "open"
        assert refused(api(second, *KEY).start_tally, roomIdentifier=arn, id="p1", question="q", options=["a", "b"], seconds=9)[
            :2
        ] == (409, "ConflictException")
        for member in (alice, again, bob):
            assert next_event(member)["Counts"] == "[0,0]"
        assert vote(alice, 1) == "vote counted"
        assert vote(again, 2) == "403 already voted", "one vote a user id on all nodes"
        marks = [ask(bob, "vote", tally="p1", option=option) for option in ("3", "2", "1")]
        assert [answer_to(bob, mark) for mark in marks] == [
            "400 uproar:option must be an integer from 1 to 2", "vote counted", "403 already voted",
        ]
        for member in (alice, again, bob):
            assert next_event(member, Total="2")["Counts"] == "[1,1]"
        for node in cluster.nodes:
            late = join(node, arn, "late")
            assert next_event(late)["Total"] == "2", "who joins any node is told"
            assert api(node, *KEY).get_tally(roomIdentifier=arn, id="p1")["counts"] == [1, 1]
        assert [react(alice, "heart", 3), react(bob, "heart", 4)] == ["counted", "counted"]
        hearts = 0
        while hearts < 7:
            hearts += int(next_event(again, "uproar:reactions")["heart"])
        assert hearts == 7
        assert api(second, *KEY).stop_tally(roomIdentifier=arn, id="p1")["state"] == "closed"
        for member in (alice, again, bob):
            assert next_event(member, State="closed")["Counts"] == "[1,1]"
        assert vote(bob, 1) == "404 no tally of this id is open here"
        assert refused(api(first, *KEY).get_tally, roomIdentifier=arn, id="p2")[0] == 404


def test_a_home_that_moves_ends_its_tallies_with_their_counts(cluster):
    """Goal: when nodes hand over to a new process, members see the tally end with what was counted, wherever its home was."""
    (arn,) = tagged(cluster, 1, {"uproar:state": "on"})
    first, second, *_ = cluster.nodes
    alice, bob = join(first, arn, "alice"), join(second, arn, "bob")
    start(api(first, *KEY), arn)
    assert [vote(alice, 1), vote(bob, 2)] == ["vote counted", "vote counted"]
    for node in cluster.nodes:
        node.upgrade()
    for member in (alice, bob):
        assert next_event(member, State="closed", Id="p1")["Counts"] == "[1,1]"
    assert vote(bob, 1) == "404 no tally of this id is open here"
