"""What an application's tests look like, with a server of their own each."""

import json

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus


def token(chat, user: str, *capabilities: str, **rest) -> str:
    made = chat.client().create_chat_token(
        roomIdentifier=chat.lobby, userId=user, capabilities=list(capabilities), **rest
    )
    return made["token"]


def test_two_viewers_talk(chat):
    with chat.join(token(chat, "alice", "SEND_MESSAGE")) as alice, chat.join(token(chat, "bob")) as bob:
        alice.send(json.dumps({"Action": "SEND_MESSAGE", "Content": "hello"}))
        heard = json.loads(bob.recv(30))
        assert (heard["Content"], heard["Sender"]["UserId"]) == ("hello", "alice")


def test_a_viewer_without_the_right_is_refused(chat):
    with chat.join(token(chat, "bob")) as bob:
        bob.send(json.dumps({"Action": "SEND_MESSAGE", "Content": "hello"}))
        assert json.loads(bob.recv(30))["ErrorCode"] == 403


def test_the_application_announces(chat):
    """What was sent is asserted at the server: no viewer is needed."""
    chat.client().send_event(roomIdentifier=chat.lobby, eventName="goal", attributes={"team": "red"})
    sent = [kept["frame"] for kept in chat.call("/emulator/frames")["frames"]]
    assert [(frame["EventName"], frame["Attributes"]) for frame in sent] == [("goal", {"team": "red"})]


def test_a_session_ends_after_an_hour(chat):
    """The clock is turned; nobody waits."""
    with chat.join(token(chat, "bob", sessionDurationInMinutes=60)) as bob:
        chat.call("/emulator/clock", {"advance_seconds": 3601})
        assert json.loads(bob.recv(30))["ErrorCode"] == 401
        with pytest.raises(ConnectionClosed):
            bob.recv(30)


def test_a_reset_is_faster_than_a_start(chat):
    """For suites that share one server: rooms, viewers, tokens and clocks as at the start."""
    before = token(chat, "bob")
    chat.client().create_room(name="left-over")
    chat.call("/emulator/reset", {})
    assert [room["arn"] for room in chat.client().list_rooms()["rooms"]] == [chat.lobby]
    with pytest.raises(InvalidStatus):
        chat.join(before)
