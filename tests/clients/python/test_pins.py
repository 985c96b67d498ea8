"""Pins: by a back end, by moderators' commands and slash commands; told with the room's state, durable, gone with their message."""

from __future__ import annotations

import json
import time
import urllib.request

import pytest

from cluster_trial import started
from configured import KEY
from doc_pages import blocks
from rawws import WebSocket
from test_clocks import AHEAD, LIBRARY, Clock
from test_cluster_modes import join as join_node
from test_server_speaks import api, fields, refused
from test_tallies import answer_to, ask, command, join, next_event, room
from uproar import REPOSITORY, Server

MOD = ["SEND_MESSAGE", "DELETE_MESSAGE"]

cluster = started(settings={"extensions.enabled": True})


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    file = tmp_path_factory.mktemp("pins") / "uproar.toml"
    file.write_text("[delivery]\nspread_members = 1\n")
    with Server(extra=("--config", str(file))) as server:
        yield server


def pinned(socket: WebSocket, **wanted: str) -> dict:
    """The next state that has these values."""
    return next_event(socket, "uproar:room", **wanted)


def slash(socket: WebSocket, text: str) -> str:
    assert socket.say(text, f"slash {text}")
    return answer_to(socket, f"slash {text}")


def say(socket: WebSocket, text: str) -> dict:
    assert socket.say(text, text)
    return socket.receive_until(lambda frame: frame.get("RequestId") == text)[0]


def test_a_pin_of_the_api_is_told_and_outlasts_a_kill(tmp_path):
    with Server() as server:
        client, arn = api(server), room(server)
        alice = join(server, arn, "alice")
        assert pinned(alice)["Pinned"] == ""
        made = client.pin_message(roomIdentifier=arn, content='Be "kind"', userId="host")
        told = pinned(alice, Pinned=made["messageId"])
        assert (told["PinnedText"], told["PinnedUser"], told["PinnedBy"], told["PinnedUntil"]) == ('Be "kind"', "host", "", "")
        second = client.pin_message(roomIdentifier=arn, content="another", seconds=3600)
        assert pinned(alice, Pinned=second["messageId"])["PinnedText"] == "another", "one pin a room"
        assert 3500 < second["until"].timestamp() - time.time() < 3601
        server.kill()
        server.start()
        late = join(server, arn, "late")
        first = late.receive()
        assert (first["EventName"], first["Attributes"]["Pinned"]) == ("uproar:room", second["messageId"])
        server.upgrade()
        client = api(server)
        assert client.unpin_message(roomIdentifier=arn)["unpinned"] is True
        assert "PinnedText" not in pinned(late, Pinned="")
        assert client.unpin_message(roomIdentifier=arn)["unpinned"] is False


def test_what_ends_by_time_ends_whichever_process_serves():
    """Goal: a pin and a mode for some seconds end after an upgrade and a restart as they would have, also while no process
    ran, and with the emulator's clock. The rare look for what was missed comes each 30 s: half of that is too late."""
    with Server() as server:
        arn = room(server)
        alice, mod = join(server, arn, "alice"), join(server, arn, "mod", [*MOD, "DISCONNECT_USER"])

        def pin_and_slow(seconds: int) -> None:
            api(server).pin_message(roomIdentifier=arn, content="for now", seconds=seconds)
            assert command(mod, "set", key="slow", value="30", seconds=str(seconds)).startswith("slow is 30")
            pinned(alice, PinnedText="for now", Slow="30")

        pin_and_slow(3)
        server.upgrade()
        begun = time.monotonic()
        pinned(alice, Pinned="", Slow="")
        assert time.monotonic() - begun < 18
        pin_and_slow(2)
        server.kill()
        time.sleep(2)
        server.start()
        begun = time.monotonic()
        pinned(join(server, arn, "late"), Pinned="", Slow="")
        assert time.monotonic() - begun < 15
        alice, mod = join(server, arn, "alice"), join(server, arn, "mod", [*MOD, "DISCONNECT_USER"])
        pin_and_slow(600)
        body = json.dumps({"advance_seconds": 601}).encode()
        urllib.request.urlopen(urllib.request.Request(f"{server.control_url}/emulator/clock", body, method="POST"), timeout=60)
        begun = time.monotonic()
        pinned(alice, Pinned="", Slow="")
        assert time.monotonic() - begun < 15


@pytest.mark.skipif(LIBRARY is None, reason="needs libfaketime: apt-get install faketime")
def test_a_clock_that_steps_ends_nothing_early_and_keeps_nothing(tmp_path):
    clock = Clock(tmp_path)
    with Server(tmp_path / "data", wrapper=clock.wrapper) as server:
        arn, lasting = room(server), room(server)
        alice, mod = join(server, arn, "alice"), join(server, arn, "mod", [*MOD, "DISCONNECT_USER"])
        bob, other = join(server, lasting, "bob"), join(server, lasting, "mod", [*MOD, "DISCONNECT_USER"])
        command(other, "set", key="slow", value="30", seconds=str(AHEAD // 2))
        api(server).pin_message(roomIdentifier=lasting, content="stays", seconds=AHEAD // 2)
        pinned(bob, PinnedText="stays", Slow="30")
        clock.step(server, AHEAD)
        command(mod, "set", key="slow", value="30", seconds="4")
        command(mod, "pin", text="soon over", seconds="5")
        pinned(alice, PinnedText="soon over", Slow="30")
        clock.step(server, -AHEAD)
        # A viewer waits a minute at most, and by the wall clock it would be far more. Both may end in one look.
        if pinned(alice, Slow="")["Pinned"]:
            pinned(alice, Pinned="")
        clock.step(server, 0)
        told = join(server, lasting, "late").receive()["Attributes"]
        assert (told["PinnedText"], told["Slow"]) == ("stays", "30")


def test_one_that_replaces_another_lasts_its_own_time(server):
    """Goal: a value that is set again, and another pin, end by their own times and not by those of the ones before."""
    client, arn = api(server), room(server)
    alice, mod = join(server, arn, "alice"), join(server, arn, "mod", [*MOD, "DISCONNECT_USER"])
    for seconds in (1, 600, 3):
        begun = time.monotonic()
        command(mod, "set", key="slow", value=f"{seconds}", seconds=str(seconds))
        client.pin_message(roomIdentifier=arn, content=f"for {seconds} s", seconds=seconds)
    pinned(alice, PinnedText="for 3 s", Slow="3")
    ended = pinned(alice, Slow="")
    assert time.monotonic() - begun > 2.9
    # Both may end in one look.
    if ended["Pinned"]:
        pinned(alice, Pinned="")


def test_a_pin_has_the_attributes_of_its_message(server):
    client, arn = api(server), room(server, {"uproar:history": "10"})
    alice, mod = join(server, arn, "alice"), join(server, arn, "mod", MOD)
    given = {"link": 'https://example.com/?a="b"', "é": ""}
    client.pin_message(roomIdentifier=arn, content="with a link", attributes=given)
    told = pinned(alice, PinnedText="with a link")
    assert json.loads(told["PinnedAttributes"]) == given
    client.pin_message(roomIdentifier=arn, content="without")
    assert "PinnedAttributes" not in pinned(alice, PinnedText="without")
    assert alice.say("said", "said", Attributes={"color": "red"})
    said = alice.receive_until(lambda frame: frame.get("RequestId") == "said")[0]
    assert command(mod, "pin", id=said["Id"]) == "pinned"
    assert json.loads(pinned(alice, PinnedText="said")["PinnedAttributes"]) == {"color": "red"}
    client.pin_message(roomIdentifier=arn, messageId=said["Id"], attributes={"by": "host"})
    assert json.loads(pinned(alice, PinnedText="said", PinnedBy="")["PinnedAttributes"]) == {"by": "host"}
    for wrong in ({"uproar:held": "1"}, {"k": "v" * 1025}, {"k": 1}):
        status, _, answer = refused(client.pin_message, roomIdentifier=arn, content="x", attributes=wrong)
        assert status == 400 and fields(answer)[0].startswith("attributes"), answer


def test_a_pin_is_gone_with_a_purge_of_its_user_or_room(server):
    """Goal: whoever takes back all messages takes back the pinned one; an announcement in nobody's name stays."""
    client, arn = api(server), room(server, {"uproar:history": "10"})
    mod, alice = join(server, arn, "mod", MOD), join(server, arn, "alice")
    take_back = [
        lambda: command(mod, "purge", user="bob"),
        lambda: command(mod, "clear"),
        lambda: client.delete_user_messages(roomIdentifier=arn, userId="bob"),
        lambda: client.clear_room(roomIdentifier=arn),
        lambda: client.create_ban(roomIdentifier=arn, userId="bob", mode="ban", purge=True),
    ]
    bob = join(server, arn, "bob")
    for number, takes_back in enumerate(take_back):
        said = say(bob, f"rude {number}")
        assert command(mod, "pin", id=said["Id"]) == "pinned"
        assert pinned(alice, Pinned=said["Id"])["PinnedUser"] == "bob"
        takes_back()
        assert pinned(alice, Pinned="")
    client.pin_message(roomIdentifier=arn, content="house rules")
    assert pinned(alice, PinnedText="house rules")
    client.delete_user_messages(roomIdentifier=arn, userId="eve")
    client.clear_room(roomIdentifier=arn)
    assert join(server, arn, "late").receive()["Attributes"]["PinnedText"] == "house rules"


@pytest.mark.parametrize("way", ["purge", "clear", "event"])
def test_who_comes_behind_a_purge_of_the_api_has_no_pin(tmp_path, way):
    """Goal: once the API has answered, the text is nowhere: not in the first state of who joins then, and not behind a kill. Method:
    a token made before, and a join at once; then the server is killed without another word."""
    with Server(tmp_path) as server:
        client, arn = api(server), room(server)
        take_back = {
            "purge": lambda: client.delete_user_messages(roomIdentifier=arn, userId="bob", reason="spam"),
            "clear": lambda: client.clear_room(roomIdentifier=arn),
            "event": lambda: server.boto_cached.send_event(
                roomIdentifier=arn, eventName="app:DELETE_BY_USER", attributes={"userId": "bob"}
            ),
        }[way]
        for number in range(20):
            client.pin_message(roomIdentifier=arn, content="Buy here", userId="bob")
            token = server.token(arn, f"u{number}")
            take_back()
            late = WebSocket(server.messaging_port, token)
            first = late.receive()
            assert (first["EventName"], first["Attributes"]["Pinned"]) == ("uproar:room", ""), number
            late.close()
        client.pin_message(roomIdentifier=arn, content="Buy here", userId="bob")
        take_back()
        server.kill()
        server.start()
        first = join(server, arn, "newcomer").receive()
        assert (first["EventName"], first["Attributes"]["Pinned"]) == ("uproar:room", "")


def test_a_pin_with_words_of_ones_own_is_its_senders_all_the_same(server):
    """Goal: a remembered message that is pinned with another text has its sender and attributes, so that a purge and an erasure
    take it off; words are whose the caller says only if nobody knows better."""
    client, arn = api(server), room(server, {"uproar:history": "10"})
    mod, alice, bob = join(server, arn, "mod", MOD), join(server, arn, "alice"), join(server, arn, "bob")
    ways = [
        (lambda id: command(mod, "pin", id=id, text="short"), lambda: command(mod, "purge", user="bob")),
        (lambda id: client.pin_message(roomIdentifier=arn, messageId=id, content="short", userId="eve"), lambda: client.erase_user(userId="bob")),
    ]
    for number, (pin, take_back) in enumerate(ways):
        assert bob.say("a long story", f"said {number}", Attributes={"color": "red"})
        said = bob.receive_until(lambda frame: frame.get("RequestId") == f"said {number}")[0]["Id"]
        pin(said)
        told = pinned(alice, Pinned=said)
        assert (told["PinnedText"], told["PinnedUser"]) == ("short", "bob")
        assert json.loads(told["PinnedAttributes"]) == {"color": "red"}
        take_back()
        assert pinned(alice, Pinned="")
    client.pin_message(roomIdentifier=arn, messageId="AAAAAAAAAAAA", content="short", userId="eve")
    assert pinned(alice, Pinned="AAAAAAAAAAAA")["PinnedUser"] == "eve"


@pytest.mark.parametrize("way", ["deleted", "purged", "cleared"])
def test_a_pin_races_with_what_takes_its_message_back(server, way):
    """Goal: whatever the order, no text that was taken back is pinned afterwards. Method: a moderator pins while another one takes
    the message back, a little sooner or later each time."""
    client, arn = api(server), room(server, {"uproar:history": "10"})
    mod, other, bob = join(server, arn, "mod", MOD), join(server, arn, "other", MOD), join(server, arn, "bob")
    answers = []
    for attempt in range(40):
        said = say(bob, f"said {attempt}")["Id"]
        asked = ask(mod, "pin", id=said)
        time.sleep(attempt % 10 / 2_000)
        if way == "deleted":
            assert other.send_json({"Action": "DELETE_MESSAGE", "Id": said, "RequestId": said})
            other.receive_until(lambda frame: frame.get("RequestId") == said)
        elif way == "purged":
            assert command(other, "purge", user="bob").endswith("messages of bob are removed")
        else:
            assert command(other, "clear") == "all messages are removed"
        answers.append(answer_to(mod, asked))
        begun = time.monotonic()
        while join(server, arn, "late").receive()["Attributes"]["Pinned"]:
            assert time.monotonic() - begun < 5, (attempt, answers[-1])
    assert all(answer == "pinned" or answer.startswith("404 ") for answer in answers), answers


def test_a_send_event_of_a_purge_takes_back_all_of_it(server):
    """Goal: SendEvent of the purge's event is a purge: memory, pin, held messages, single deletions; with the caller's attributes."""
    client = api(server)
    arn = room(server, {"uproar:history": "10", "uproar:rules": "purging"})
    words = {"id": "w", "kind": "words", "patterns": ["bad"], "action": "hold"}
    client.put_rule_set(name="purging", rules=[words])
    mod, alice, bob = join(server, arn, "mod", MOD), join(server, arn, "alice"), join(server, arn, "bob")
    for key in ("userId", "UserId"):
        said, held = say(bob, f"said {key}")["Id"], say(bob, f"bad {key}")
        assert held["Attributes"]["uproar:held"] == "1"
        assert command(mod, "pin", id=said) == "pinned"
        assert pinned(alice, Pinned=said)
        attributes = {key: "bob", "Reason": "rude", "Case": "7"}
        server.boto_cached.send_event(roomIdentifier=arn, eventName="app:DELETE_BY_USER", attributes=attributes)
        # The pin goes before anything is announced.
        assert pinned(alice, Pinned="")
        deleted = next_event(alice, "aws:DELETE_MESSAGE")
        assert (deleted["MessageID"], deleted["Reason"]) == (said, "rude")
        assert next_event(alice, "app:DELETE_BY_USER") == attributes
        assert command(mod, "allow", id=held["Id"]).startswith("404 ")
        assert client.list_held(roomIdentifier=arn)["messages"] == []
    late = join(server, arn, "late")
    assert next_event(late, "uproar:history")["Count"] == "0"
    # In a room without tags it is an event, as on IVS Chat.
    plain = server.boto_cached.create_room()["arn"]
    eve, speaker = join(server, plain, "eve"), join(server, plain, "bob")
    say(speaker, "hello")
    server.boto_cached.send_event(roomIdentifier=plain, eventName="app:DELETE_BY_USER", attributes={"userId": "bob"})
    heard = eve.receive_until(lambda frame: frame.get("EventName") == "app:DELETE_BY_USER")[1]
    assert [frame["Type"] for frame in heard] == ["MESSAGE"]


def test_moderators_pin_and_others_do_not(server):
    arn = room(server, {"uproar:commands": "slash"})
    mods = [join(server, arn, f"mod{number}", MOD) for number in range(2)]
    alice = join(server, arn, "alice")
    for mod, name in zip(mods, ("mod0", "mod1")):
        assert command(mod, "pin", text="read the rules") == "pinned"
        assert pinned(alice, PinnedBy=name)["PinnedText"] == "read the rules"
        assert slash(mod, "/pin hello, all of you") == "pinned"
        assert pinned(alice, PinnedText="hello, all of you")["PinnedBy"] == name
        assert slash(mod, "/unpin") == "unpinned"
        assert pinned(alice, Pinned="")
        assert slash(mod, "/unpin") == "nothing is pinned"
        assert command(mod, "pin", id="AAAAAAAAAAAA").startswith("404 ")
        assert command(mod, "pin", id="short").startswith("400 uproar:id")
        assert command(mod, "pin", text="x" * 501).startswith("400 ")
    assert command(alice, "pin", text="mine").startswith("403 ")
    assert command(alice, "unpin").startswith("403 ")
    assert say(alice, "/pin mine")["Type"] == "MESSAGE", "other people's are messages"


def test_a_pin_ends_by_its_time_and_with_its_message(server):
    client, arn = api(server), room(server)
    mod, alice = join(server, arn, "mod", MOD), join(server, arn, "alice")
    assert command(mod, "pin", text="soon over", seconds="1") == "pinned"
    assert pinned(alice, PinnedText="soon over")
    assert pinned(alice, Pinned="")
    for delete in ("client", "api", "many"):
        said = say(alice, f"to be deleted by {delete}")
        other = say(alice, f"another for {delete}")
        assert command(mod, "pin", id=said["Id"], text=said["Content"]) == "pinned"
        assert pinned(alice, Pinned=said["Id"])["PinnedText"] == said["Content"]
        for message in (other["Id"], said["Id"]):
            if delete == "client":
                assert mod.send_json({"Action": "DELETE_MESSAGE", "Id": message, "RequestId": message})
            elif delete == "api":
                server.boto_cached.delete_message(roomIdentifier=arn, id=message)
            else:
                client.delete_messages(roomIdentifier=arn, ids=[message])
            if message == other["Id"]:
                assert join(server, arn, "late").receive()["Attributes"]["Pinned"] == said["Id"], "another message's deletion"
        assert "PinnedText" not in pinned(alice, Pinned="")
        assert join(server, arn, "late").receive()["Attributes"]["Pinned"] == ""


def test_what_is_wrong_with_a_pin_is_named(server):
    client, arn = api(server), room(server)
    for wrong, names in [
        ({}, ["content"]), ({"content": ""}, ["content"]), ({"content": "x" * 501}, ["content"]),
        ({"messageId": "short", "content": "x"}, ["messageId"]), ({"content": "x", "seconds": 0}, ["seconds"]),
        ({"content": "x", "seconds": 2_592_001}, ["seconds"]), ({"content": "x", "userId": "u" * 129}, ["userId"]),
    ]:
        status, code, answer = refused(client.pin_message, roomIdentifier=arn, **wrong)
        assert (status, code, fields(answer)) == (400, "ValidationException", names), wrong
    assert refused(client.pin_message, roomIdentifier=arn, messageId="AAAAAAAAAAAA")[:2] == (404, "ResourceNotFoundException")
    plain = server.boto_cached.create_room()["arn"]
    assert refused(client.pin_message, roomIdentifier=plain, content="x")[:2] == (409, "ConflictException")
    assert refused(client.unpin_message, roomIdentifier=arn[:-4] + "zzzz")[0] == 404


def test_the_page(server):
    """Goal: the code of docs/features.md does what it says."""
    (page,) = [block for block in blocks(REPOSITORY / "docs" / "features.md") if block.argument == "test_pins.py"]
    arn = room(server)
    alice = join(server, arn, "alice")
    exec(compile(page.text, "docs/features.md", "exec"), {"uproar": api(server), "room": arn})
    assert pinned(alice, PinnedText="Links of today: example.com")["PinnedUntil"] != ""


def test_all_nodes_of_a_cluster_tell_of_a_pin(cluster):
    first, second, *_ = cluster.nodes
    for arn in cluster.rooms(3):
        cluster.boto(first).tag_resource(resourceArn=arn, tags={"uproar:state": "on"})
        mod, alice = join_node(first, arn, "mod", MOD), join_node(second, arn, "alice")
        members = alice, join_node(first, arn, "bob")
        said = say(alice, "pin me")
        assert answer_to(mod, ask(mod, "pin", id=said["Id"], text="pin me")) == "pinned"
        for member in members:
            assert pinned(member, Pinned=said["Id"])["PinnedBy"] == "mod"
        assert mod.send_json({"Action": "DELETE_MESSAGE", "Id": said["Id"], "RequestId": "d"})
        for member in members:
            assert pinned(member, Pinned="")
        made = api(second, *KEY).pin_message(roomIdentifier=arn, content="from the API")
        for member in members:
            assert pinned(member, Pinned=made["messageId"])
