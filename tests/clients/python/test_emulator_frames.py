"""`GET /emulator/frames`: what an application has sent and its viewers were sent, to be asserted."""

from __future__ import annotations

import json

import pytest
from websockets.exceptions import ConnectionClosed

from emulator import Emulator


@pytest.fixture(scope="module")
def server():
    with Emulator("--frames", "1000", "--shards", "2") as server:
        yield server


@pytest.fixture(autouse=True)
def fresh(server):
    server.reset()


def frames(server, query: str = "") -> list[dict]:
    status, answer = server.call("GET", f"/emulator/frames{query}")
    assert status == 200, answer
    return answer["frames"]


def test_both_ways_in_order(server):
    """Goal: a request as its user made it, and what the room was sent; numbers are one order; a moderator's act, an event of the
    API and the end of a connection too."""
    viewer = server.viewer(server.token(user="bob"))
    viewer.send(json.dumps({"Action": "SEND_MESSAGE", "RequestId": "r1", "Content": "hi é", "Attributes": {"a": "b"}}))
    said = json.loads(viewer.recv(60))
    server.api.send_event(roomIdentifier=server.lobby, eventName="news", attributes={"x": "y"})
    viewer.recv(60)
    server.api.disconnect_user(roomIdentifier=server.lobby, userId="bob", reason="enough")
    with pytest.raises(ConnectionClosed):
        while True:
            viewer.recv(60)
    kept = frames(server)
    assert [frame["number"] for frame in kept] == list(range(len(kept)))
    seen = [(frame["direction"], frame["user"], frame["room"]) for frame in kept]
    lobby = "lobby0000000"
    assert seen == [
        ("in", "bob", lobby),
        ("out", None, lobby),
        ("out", None, lobby),
        ("out", None, lobby),
        ("out", "bob", lobby),
    ]
    request, message, event, kicked, close = (frame["frame"] for frame in kept)
    assert request == {
        "Action": "SEND_MESSAGE", "Content": "hi é", "Attributes": {"a": "b"}, "RequestId": "r1",
    }
    assert message == said
    assert (event["EventName"], event["Attributes"]) == ("news", {"x": "y"})
    assert kicked["EventName"] == "aws:DISCONNECT_USER"
    assert close["Close"] == 1000


def test_refusals_are_the_users_own():
    """Goal: an ERROR frame is found by its user, wherever it was decided."""
    with Emulator("--quotas", "aws", "--frames", "100", "--shards", "2") as server:
        room = server.api.create_room(maximumMessageRatePerSecond=1)["arn"]
        with server.viewer(server.token(room, "eve")) as viewer:
            for content in ("one", "two", ""):
                viewer.send(json.dumps({"Action": "SEND_MESSAGE", "Content": content}))
            heard = [json.loads(viewer.recv(60)) for _ in range(3)]
        refused = [frame["frame"] for frame in frames(server, "?user=eve") if frame["direction"] == "out"]
    errors = [frame for frame in heard if frame["Type"] == "ERROR"]
    key = lambda frame: frame.get("Id", "")
    assert sorted((frame for frame in refused if "Close" not in frame), key=key) == sorted(errors, key=key)
    assert {frame["ErrorCode"] for frame in errors} == {400, 429}


def test_a_query_selects(server):
    rooms = [server.api.create_room()["arn"] for _ in range(3)]
    for room in rooms:
        for number in range(4):
            server.api.send_event(roomIdentifier=room, eventName=f"e{number}")
    one = frames(server, f"?room={rooms[1]}")
    assert [frame["frame"]["EventName"] for frame in one] == ["e0", "e1", "e2", "e3"]
    later = frames(server, f"?room={rooms[1].rsplit('/')[-1]}&from={one[2]['number']}&count=1")
    assert later == [one[2]]


@pytest.mark.parametrize("query", ["?room=x", "?from=-1", "?count=a", "?more=1", "?user=%ff"])
def test_wrong_queries_are_refused(server, query):
    status, answer = server.call("GET", f"/emulator/frames{query}")
    assert status == 400 and answer["message"]


def test_a_page_cannot_read_them(server):
    assert server.call("GET", "/emulator/frames", Origin="http://evil.example")[0] == 403
    assert server.call("GET", "/emulator/frames", Host="evil.example")[0] == 403


def test_only_the_last_are_kept_and_none_without_the_flag():
    with Emulator("--frames", "3") as server:
        for number in range(5):
            server.api.send_event(roomIdentifier=server.lobby, eventName=f"e{number}")
        status, answer = server.call("GET", "/emulator/frames")
        assert (status, answer["oldest"], answer["next"]) == (200, 2, 5)
        assert [frame["frame"]["EventName"] for frame in answer["frames"]] == ["e2", "e3", "e4"]
    with Emulator() as server:
        status, answer = server.call("GET", "/emulator/frames")
        assert status == 409 and "--frames" in answer["message"]
