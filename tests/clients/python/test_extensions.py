"""What rooms have beyond IVS Chat: tags that mean something, their faults, the state of a room, the API under /uproar/v1."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import boto3
import botocore.session
import pytest
from botocore.config import Config

from raw_api import call, send
from rawws import WebSocket
from test_control_plane import refusal
from uproar import ACCESS_KEY, REGION, REPOSITORY, SECRET_KEY, Server

MARK = itertools.count()
SLOW = {"Slow": "10", "Unique": "", "Talk": "all", "Age": "", "Emotes": "", "Pinned": ""}
OFF = {"Slow": "", "Unique": "", "Talk": "all", "Age": "", "Emotes": "", "Pinned": ""}


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
    switch = "Unknown operation: it is switched off on this server; extensions.enabled = true offers it"
    for path, message in (("GetRoomStats", switch), ("GetNothing", "Unknown operation")):
        status, headers, answer = call(plain_server, "POST", f"/uproar/v1/{path}", b"{}")
        assert (status, json.loads(answer)["message"]) == (404, message)
        assert headers["x-amzn-errortype"] == "UnknownOperationException"


MODEL = REPOSITORY / "deploy" / "botocore"


@pytest.fixture
def client(server, monkeypatch):
    """boto3 with the shipped model."""
    monkeypatch.setenv("AWS_DATA_PATH", str(MODEL))
    return boto3.session.Session(botocore_session=botocore.session.Session()).client(
        "uproar", region_name=REGION, endpoint_url=server.control_url, aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY, config=Config(retries={"total_max_attempts": 1}),
    )


def test_the_shipped_model_is_a_client(server, client, room):
    """Goal: boto3 calls our operations by the model, as by AWS's own; refusals are its exceptions."""
    _alice = join(server, room, "alice")
    stats = client.get_room_stats(roomIdentifier=room)
    assert (stats["viewers"], stats["connections"]) == (1, 1)
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_room_stats(roomIdentifier=room[:-4] + "zzzz")
    with pytest.raises(client.exceptions.ValidationException):
        client.get_room_stats(roomIdentifier="no arn")


@pytest.mark.parametrize("operation,asked,kind,named", [
    ("get_room_stats", {}, "ROOM", None),
    ("pin_message", {"messageId": "M2YcHkgffEvU"}, "MESSAGE", "M2YcHkgffEvU"),
    ("decide_held", {"messageId": "M2YcHkgffEvU", "decision": "allow"}, "HELD_MESSAGE", "M2YcHkgffEvU"),
    ("delete_ban", {"userId": "nobody"}, "BAN", "nobody"),
    ("get_tally", {"id": "poll"}, "TALLY", "poll"),
    ("get_rule_set", {"name": "nothing"}, "RULE_SET", "nothing"),
    ("delete_rule_set", {"name": "nothing"}, "RULE_SET", "nothing"),
])
def test_what_is_not_there_is_told_by_its_kind(boto, client, operation, asked, kind, named):
    """Goal: whoever asks for a message, a ban or a set of rules that is not there is not told that the room is missing."""
    room = boto.create_room(tags={"uproar:state": "on", "uproar:history": "10"})["arn"]
    if kind == "ROOM":
        boto.delete_room(identifier=room)
    if kind != "RULE_SET":
        asked = {"roomIdentifier": room, **asked}
    with pytest.raises(client.exceptions.ResourceNotFoundException) as caught:
        getattr(client, operation)(**asked)
    told = caught.value.response
    assert (told["resourceType"], told["resourceId"]) == (kind, named or room.rsplit("/", 1)[1])
    assert ("Resource does not exist" in told["Error"]["Message"]) == (kind == "ROOM")


def test_the_cli_takes_the_shipped_model(server, room, tmp_path):
    """Goal: the commands of docs/features.md, as they stand there."""
    cli = Path(sys.executable).with_name("aws")
    if not cli.exists():
        pytest.skip("no AWS CLI beside this Python")
    page = (REPOSITORY / "docs" / "features.md").read_text()
    commands = re.search(r"```sh by test_extensions\.py\n(.*?)```", page, re.DOTALL)[1]
    assert "add-model" in commands and "http://127.0.0.1:8081" in commands
    environment = os.environ | {
        "HOME": str(tmp_path), "AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": REGION, "ROOM": room, "PATH": f"{cli.parent}:{os.environ['PATH']}",
    }
    here = commands.replace("http://127.0.0.1:8081", server.control_url)
    done = subprocess.run(
        ["bash", "-e", "-c", here], env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["viewers"] == 0


def bearer(server, path: str, body: dict, secret: str = SECRET_KEY) -> tuple[int, dict]:
    headers = {"Authorization": f"Bearer {ACCESS_KEY}:{secret}", "Content-Type": "application/json"}
    status, _, answer = send(server, "POST", path, json.dumps(body).encode(), headers)
    return status, json.loads(answer)


def test_key_and_secret_do_for_who_cannot_sign(server):
    status, room = bearer(server, "/CreateRoom", {"tags": {"uproar:state": "on"}})
    assert status == 200
    status, stats = bearer(server, "/uproar/v1/GetRoomStats", {"roomIdentifier": room["arn"]})
    assert (status, stats["viewers"]) == (200, 0)
    token = {"roomIdentifier": room["arn"], "userId": "u"}
    assert bearer(server, "/CreateChatToken", token)[0] == 200
    for secret in ("", "wrong", SECRET_KEY[:-1], SECRET_KEY + "x"):
        assert bearer(server, "/CreateChatToken", token, secret)[0] == 403, secret
    assert bearer(server, "/GetRoom", {"identifier": room["arn"]})[0] in (400, 403), "signed calls stay signed"


def test_only_granted_keys_give_attributes_of_the_servers(server, boto, room):
    """Goal: a back end that copies what a browser sent makes nobody a host."""
    def key(*rights: str):
        made = server.run("keys", "create", "--data-dir", str(server.data_dir), *rights)
        assert made.returncode == 0, made.stderr
        return [line.partition("=")[2] for line in made.stdout.splitlines()]

    asked = {"roomIdentifier": room, "userId": "u", "attributes": {"uproar:role": "host", "name": "u"}}
    for rights, granted in [
        (("--role", "mint"), False),
        (("--role", "mint", "--operation", "TokenAttributes"), True),
        (("--role", "admin"), True),
    ]:
        identity, secret = key(*rights)
        client = server.boto(aws_access_key_id=identity, aws_secret_access_key=secret)
        if granted:
            assert client.create_chat_token(**asked)["token"], rights
        else:
            fields = refusal(client.create_chat_token, **asked).response["fieldList"]
            assert [field["name"] for field in fields] == ["attributes.uproar:role"]
            assert client.create_chat_token(roomIdentifier=room, userId="u", attributes={"name": "u"})["token"]


def command(socket: WebSocket, **attributes: str) -> dict:
    """The answer to a command, and nothing of it to anybody else."""
    mark = f"mark-{next(MARK)}"
    given = {f"uproar:{name}": value for name, value in attributes.items()}
    assert socket.send_json({"Action": "SEND_MESSAGE", "Content": "x", "RequestId": mark, "Attributes": given})
    return socket.receive_until(lambda frame: frame.get("RequestId") == mark)[0]


def test_a_mode_set_for_a_time_ends_and_one_without_survives():
    with Server() as server:
        boto = server.boto()
        arn = boto.create_room(tags={"uproar:slow": "10"})["arn"]
        mod, viewer = join(server, arn, "mod"), join(server, arn, "viewer", capabilities=[])
        assert state(next_state(viewer)) == ("1", SLOW)
        assert command(mod, do="set", key="slow", value="30", seconds="1")["Content"] == "slow is 30 for 1 s"
        assert state(next_state(viewer)) == ("2", SLOW | {"Slow": "30"})
        assert state(next_state(viewer)) == ("3", SLOW), "it has ended by itself"
        assert command(mod, do="set", key="slow", value="off")["Attributes"] == {
            "uproar:do": "set", "uproar:private": "1", "uproar:result": "ok",
        }
        assert state(next_state(viewer)) == ("4", OFF)
        assert boto.get_room(identifier=arn)["tags"] == {"uproar:slow": "10"}, "Terraform sees no drift"
        refused = command(viewer, do="set", key="slow")
        assert (refused["Type"], refused["ErrorCode"]) == ("ERROR", 403)
        counted = 'uproar_extension_requests_total{operation="set",result="ok"} 2'
        assert counted in server.metrics().splitlines()
        server.upgrade()
        assert command(mod, do="set", key="emotes", value="only")["Content"] == "emotes is only"
        assert state(next_state(viewer)) == ("5", OFF | {"Emotes": "only"})
        server.kill()
        server.start()
        assert state(join(server, arn).receive()) == ("5", OFF | {"Emotes": "only"})
