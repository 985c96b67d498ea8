"""What rooms have beyond IVS Chat: tags that mean something, their faults, the state of a room, the API under /uproar/v1."""

from __future__ import annotations

import itertools
import json

import pytest

from raw_api import call, send
from rawws import WebSocket
from test_control_plane import refusal
from uproar import Server

MARK = itertools.count()
SLOW = {"Slow": "10", "Unique": "", "Talk": "all", "Age": "", "Emotes": ""}
OFF = {"Slow": "", "Unique": "", "Talk": "all", "Age": "", "Emotes": ""}


def join(server, arn: str, user: str = "u", **rest) -> WebSocket:
    return WebSocket(server.messaging_port, server.token(arn, user, **rest))


def state(frame: dict) -> tuple[str, dict]:
    """Version and values of a frame that tells of a room's state."""
    assert (frame["Type"], frame["EventName"], frame["RequestId"]) == ("EVENT", "uproar:room", "")
    values = dict(frame["Attributes"])
    return values.pop("Version"), values


def next_state(socket: WebSocket) -> dict:
    return socket.receive_until(lambda frame: frame.get("EventName") == "uproar:room")[0]


def hears_nothing_else(*sockets: WebSocket) -> None:
    """Nothing is on its way to them: what is said now is the next that each gets."""
    mark = f"mark-{next(MARK)}"
    assert sockets[0].say(mark, mark)
    for socket in sockets:
        _, before = socket.receive_until(lambda frame: frame.get("Content") == mark)
        assert before == []


def test_a_wrong_tag_is_refused_by_its_name(boto, room):
    for tags, name, parts in [
        ({"uproar:slow": "abc"}, "tags.uproar:slow", ["integer from 1 to 3600"]),
        ({"uproar:slwo": "10"}, "tags.uproar:slwo", ["Did you mean uproar:slow?"]),
        ({"uproar:zzzzzzzzzz": "10"}, "tags.uproar:zzzzzzzzzz", ["no tag of this server"]),
        ({"uproar:talk": "a b"}, "tags.uproar:talk", ["roles joined by +"]),
    ]:
        for refused in (
            refusal(boto.tag_resource, resourceArn=room, tags={"team": "a", **tags}),
            refusal(boto.create_room, tags=tags),
        ):
            assert refused.response["Error"]["Code"] == "ValidationException"
            fields = refused.response["fieldList"]
            assert [field["name"] for field in fields] == [name]
            assert all(part in fields[0]["message"] for part in parts), fields
    assert boto.get_room(identifier=room)["tags"] == {}, "nothing of a refused call is done"


def test_the_state_comes_first_and_when_it_changes(server, boto):
    arn = boto.create_room(tags={"uproar:slow": "10"})["arn"]
    alice, bob = join(server, arn, "alice"), join(server, arn, "bob")
    told = [socket.receive() for socket in (alice, bob)]
    assert told[0] == told[1], "one frame for all"
    assert state(told[0]) == ("1", SLOW)
    boto.tag_resource(resourceArn=arn, tags={"uproar:talk": "sub+vip", "team": "a"})
    changed = [socket.receive() for socket in (alice, bob)]
    assert changed[0] == changed[1] and state(changed[0]) == ("2", SLOW | {"Talk": "sub+vip"})
    boto.tag_resource(resourceArn=arn, tags={"team": "b"})
    assert join(server, arn, "carol").receive() == changed[0], "the same version has the same bytes"
    boto.untag_resource(resourceArn=arn, tagKeys=["uproar:talk", "uproar:slow"])
    gone = [socket.receive() for socket in (alice, bob)]
    assert gone[0] == gone[1] and state(gone[0]) == ("3", OFF)
    assert len({told[0]["Id"], changed[0]["Id"], gone[0]["Id"]}) == 3
    hears_nothing_else(alice, bob, join(server, arn, "dave"))


def test_a_hidden_state_and_a_plain_room_say_nothing(server, boto, room):
    hidden = boto.create_room(tags={"uproar:slow": "1", "uproar:state": "off"})["arn"]
    for arn in (hidden, room):
        socket = join(server, arn)
        boto.tag_resource(resourceArn=arn, tags={"team": "x"})
        hears_nothing_else(socket)


def test_settings_are_in_force_on_all_shards_when_the_call_is_answered(server, boto, room):
    """Goal: no member anywhere is joined with old settings behind the answer. Method: who joins then gets the new state first,
    50 times, on whichever shard."""
    for round_ in range(1, 51):
        boto.tag_resource(resourceArn=room, tags={"uproar:slow": str(round_)})
        version, values = state(join(server, room, f"u{round_}").receive())
        assert (version, values["Slow"]) == (str(round_), str(round_))


def test_tags_and_versions_survive_a_crash_and_an_upgrade():
    with Server() as server:
        boto = server.boto()
        arn = boto.create_room(tags={"uproar:slow": "10"})["arn"]
        boto.tag_resource(resourceArn=arn, tags={"uproar:slow": "20"})
        before = join(server, arn).receive()
        server.kill()
        server.start()
        assert join(server, arn).receive() == before
        viewer = join(server, arn, "viewer")
        assert viewer.receive() == before
        server.upgrade()
        assert join(server, arn).receive() == before
        boto.tag_resource(resourceArn=arn, tags={"uproar:slow": "30"})
        assert state(viewer.receive()) == ("3", SLOW | {"Slow": "30"})


def test_get_room_stats(server, boto, room):
    body = json.dumps({"roomIdentifier": room}).encode()
    alice, _bob = join(server, room, "alice"), join(server, room, "bob")
    assert alice.say("hello", "1")
    alice.receive_until(lambda frame: frame.get("RequestId") == "1")
    status, _, answer = call(server, "POST", "/uproar/v1/GetRoomStats", body)
    stats = json.loads(answer)
    assert (status, stats["viewers"], stats["connections"]) == (200, 2, 2)
    assert stats["messagesPerSecond"] > 0
    ghost = json.dumps({"roomIdentifier": room[:-4] + "zzzz"}).encode()
    assert call(server, "POST", "/uproar/v1/GetRoomStats", ghost)[0] == 404
    assert call(server, "POST", "/uproar/v1/GetRoomStats", b"{}")[0] == 400
    assert call(server, "POST", "/uproar/v1/GetNothing", body)[0] == 404
    assert send(server, "POST", "/uproar/v1/GetRoomStats", body)[0] in (400, 403), "unsigned"


def test_nobody_sends_an_event_of_the_servers(server, boto, room):
    refused = refusal(boto.send_event, roomIdentifier=room, eventName="uproar:room")
    assert [field["name"] for field in refused.response["fieldList"]] == ["eventName"]
    boto.send_event(roomIdentifier=room, eventName="uproar")


@pytest.fixture(scope="module")
def plain_server(tmp_path_factory):
    """With the extensions switched off."""
    file = tmp_path_factory.mktemp("plain") / "uproar.toml"
    file.write_text("[extensions]\nenabled = false\n")
    with Server(extra=("--config", str(file))) as server:
        yield server


def test_switched_off_tags_are_stored_and_inert(plain_server):
    boto = plain_server.boto_cached
    tags = {"uproar:slow": "abc", "uproar:what": "ever"}
    arn = boto.create_room(tags=tags)["arn"]
    boto.tag_resource(resourceArn=arn, tags={"uproar:talk": "none"})
    assert boto.get_room(identifier=arn)["tags"] == tags | {"uproar:talk": "none"}
    alice, bob = join(plain_server, arn, "alice"), join(plain_server, arn, "bob")
    hears_nothing_else(alice, bob)
    boto.send_event(roomIdentifier=arn, eventName="uproar:room")
    for path in ("GetRoomStats", "GetNothing"):
        status, _, answer = call(plain_server, "POST", f"/uproar/v1/{path}", b"{}")
        assert (status, json.loads(answer)["message"]) == (404, "Unknown operation")
