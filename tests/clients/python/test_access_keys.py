"""`uproar keys`: made, limited, listed and revoked while the server runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import pytest
from botocore.exceptions import ClientError

from raw_api import call
from test_control_plane import GHOST, code, refusal
from uproar import BINARY, Server

DENIED = ("AccessDeniedException", 403)
# README: a revoked key is refused within a tenth of a second; a loaded machine is given more.
REVOKED_SECONDS_MAX = 30.0
STAY = "access keys stay as they were"


def keys(data_dir, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BINARY), "keys", *arguments, "--data-dir", str(data_dir)],
        capture_output=True,
        text=True,
        timeout=30,
    )


def create(server, *arguments: str) -> dict[str, str]:
    """What boto3 and [`call`] take, of a key just made."""
    done = keys(server.data_dir, "create", *arguments)
    assert done.returncode == 0, done.stderr
    made = dict(line.split("=", 1) for line in done.stdout.splitlines())
    return {"id": made["AWS_ACCESS_KEY_ID"], "secret": made["AWS_SECRET_ACCESS_KEY"]}


def boto(server, key: dict[str, str]):
    return server.boto(aws_access_key_id=key["id"], aws_secret_access_key=key["secret"])


ROOM = "arn:aws:ivschat:us-west-2:123456789012:room/AAAAAAAAAAAA"
LOGGING = ROOM.replace("room/", "logging-configuration/")
# One call of each operation, about a room or configuration that does not exist.
CALLS = {
    "CreateChatToken": {"roomIdentifier": ROOM, "userId": "u"},
    "CreateLoggingConfiguration": {"destinationConfiguration": {"s3": {"bucketName": "abc"}}},
    "CreateRoom": {},
    "DeleteLoggingConfiguration": {"identifier": LOGGING},
    "DeleteMessage": {"roomIdentifier": ROOM, "id": "aBcDeFgHiJkL"},
    "DeleteRoom": {"identifier": ROOM},
    "DisconnectUser": {"roomIdentifier": ROOM, "userId": "u"},
    "GetLoggingConfiguration": {"identifier": LOGGING},
    "GetRoom": {"identifier": ROOM},
    "ListLoggingConfigurations": {},
    "ListRooms": {},
    "ListTagsForResource": {"resourceArn": ROOM},
    "SendEvent": {"roomIdentifier": ROOM, "eventName": "e"},
    "TagResource": {"resourceArn": ROOM, "tags": {"k": "v"}},
    "UntagResource": {"resourceArn": ROOM, "tagKeys": ["k"]},
    "UpdateLoggingConfiguration": {"identifier": LOGGING},
    "UpdateRoom": {"identifier": ROOM},
}
ROLES = {
    "mint": {"CreateChatToken"},
    "moderate": {"SendEvent", "DeleteMessage", "DisconnectUser"},
}


def outcome(client, operation: str) -> str:
    method = re.sub(r"(?<!^)(?=[A-Z])", "_", operation).lower()
    try:
        getattr(client, method)(**CALLS[operation])
    except ClientError as error:
        return code(error)[0]
    return "ok"


def test_an_admin_key_is_good_at_once_and_refused_once_revoked(server):
    key = create(server, "--role", "admin", "--name", "of a test")
    client = boto(server, key)
    arn = client.create_room()["arn"]
    assert client.get_room(identifier=arn)["arn"] == arn
    assert keys(server.data_dir, "revoke", key["id"]).returncode == 0
    deadline = time.monotonic() + REVOKED_SECONDS_MAX
    while True:
        try:
            client.get_room(identifier=arn)
        except ClientError as error:
            assert code(error) == ("UnrecognizedClientException", 403)
            break
        assert time.monotonic() < deadline, "the revoked key is still good"
    again = keys(server.data_dir, "revoke", key["id"])
    assert again.returncode == 1 and key["id"] in again.stderr


@pytest.mark.parametrize("role", ROLES)
def test_a_role_has_its_operations_and_no_other(server, role):
    client = boto(server, create(server, "--role", role))
    operations = client.meta.service_model.operation_names
    assert set(CALLS) == set(operations) and len(CALLS) == 17
    for operation in operations:
        expected = "ResourceNotFoundException" if operation in ROLES[role] else DENIED[0]
        assert outcome(client, operation) == expected, operation


def test_a_denial_is_the_typed_exception_and_names_what_was_denied(server, room):
    key = create(server, "--operation", "GetRoom", "--operation", "ListRooms")
    client = boto(server, key)
    assert client.get_room(identifier=room)["arn"] == room
    assert client.list_rooms()["rooms"]
    with pytest.raises(client.exceptions.AccessDeniedException) as caught:
        client.delete_room(identifier=room)
    assert code(caught.value) == DENIED
    message = caught.value.response["Error"]["Message"]
    assert key["id"] in message and "ivschat:DeleteRoom" in message
    assert client.get_room(identifier=room)["arn"] == room


def test_a_key_of_one_room_reaches_no_other(server):
    admin = server.boto_cached
    own, other = admin.create_room()["arn"], admin.create_room()["arn"]
    client = boto(server, create(server, "--role", "admin", "--room", own))
    client.update_room(identifier=own, name="mine")
    client.tag_resource(resourceArn=own, tags={"k": "v"})
    assert client.create_chat_token(roomIdentifier=own, userId="u")["token"]
    # A room that exists and one that does not are refused alike.
    for arn in (other, GHOST):
        for refused in (
            lambda: client.get_room(identifier=arn),
            lambda: client.update_room(identifier=arn, name="x"),
            lambda: client.delete_room(identifier=arn),
            lambda: client.create_chat_token(roomIdentifier=arn, userId="u"),
            lambda: client.send_event(roomIdentifier=arn, eventName="e"),
            lambda: client.delete_message(roomIdentifier=arn, id="aBcDeFgHiJkL"),
            lambda: client.disconnect_user(roomIdentifier=arn, userId="u"),
            lambda: client.list_tags_for_resource(resourceArn=arn),
            lambda: client.tag_resource(resourceArn=arn, tags={"k": "v"}),
            lambda: client.untag_resource(resourceArn=arn, tagKeys=["k"]),
        ):
            assert code(refusal(refused)) == DENIED
    for about_all in (
        client.list_rooms,
        client.create_room,
        client.list_logging_configurations,
        lambda: client.get_logging_configuration(identifier=LOGGING),
    ):
        assert code(refusal(about_all)) == DENIED
    assert "name" not in admin.get_room(identifier=other)


def test_patterns_reach_what_they_match(server):
    admin = server.boto_cached
    arn = admin.create_room()["arn"]
    client = boto(server, create(server, "--role", "mint", "--room", f"{arn[:-1]}?"))
    assert client.create_chat_token(roomIdentifier=arn, userId="u")["token"]
    none = boto(server, create(server, "--role", "mint", "--room", f"{arn}?"))
    assert code(refusal(none.create_chat_token, roomIdentifier=arn, userId="u")) == DENIED


def test_an_arn_in_disguise_is_denied_as_well(server, room):
    """Goal: what is checked is what is done. Method: other spellings of a foreign room's ARN."""
    own = server.boto_cached.create_room()["arn"]
    key = create(server, "--role", "admin", "--room", own)
    identity = {"key": key["id"], "secret": key["secret"]}
    escaped = quote(room, safe="")
    for path in (room, escaped, f"{escaped}?resourceArn={quote(own, safe='')}"):
        status, headers, _ = call(server, "GET", f"/tags/{path}", headers={}, **identity)
        assert (headers["x-amzn-ErrorType"], status) == DENIED, path
    for body in (
        {"identifier": room, "roomIdentifier": own},
        {"identifier": [own]},
        {"identifier": None},
        {"Identifier": own},
        {},
    ):
        raw = json.dumps(body).encode()
        status, headers, _ = call(server, "POST", "/GetRoom", raw, **identity)
        assert (headers["x-amzn-ErrorType"], status) == DENIED, body
    twice = f'{{"identifier": "{own}", "identifier": "{room}"}}'.encode()
    status, headers, _ = call(server, "POST", "/GetRoom", twice, **identity)
    assert (headers["x-amzn-ErrorType"], status) == ("ValidationException", 400)


def test_the_list_shows_rights_and_no_secret(server):
    key = create(server, "--role", "moderate", "--name", "shown", "--room", "*:room/X*")
    done = keys(server.data_dir, "list")
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if key["id"] in line]
    assert "shown" in line and "*:room/X*" in line
    assert {"DeleteMessage", "DisconnectUser", "SendEvent", "DecideHeld"} <= set(line.split()[3].split(","))
    assert key["secret"] not in done.stdout
    for path in server.data_dir.rglob("*"):
        if path.is_file():
            assert key["secret"].encode() not in path.read_bytes(), path
    assert key["secret"] not in server.log()


def test_mistakes_on_the_command_line_are_refused(tmp_path):
    for wrong in (
        (),
        ("--operation", "LaunchRocket"),
        ("--role", "emperor"),
        ("--role", "mint", "--room", "my room"),
        ("--role", "mint", "--name", "two\nlines"),
    ):
        assert keys(tmp_path, "create", *wrong).returncode == 2, wrong
    assert list(tmp_path.iterdir()) == []
    for command in (("list",), ("revoke", "AKUPAAAAAAAAAAAAAAAA")):
        missing = keys(tmp_path / "nowhere", *command)
        assert missing.returncode == 1 and "nowhere" in missing.stderr


def test_keys_can_be_made_before_the_first_start(tmp_path):
    """The directory is made for its owner alone, and said; the server starts with no other key."""
    data_dir = tmp_path / "new"
    configuration = tmp_path / "uproar.toml"
    configuration.write_text(f'[server]\ndata_dir = "{data_dir}"\n')
    made = subprocess.run(
        [str(BINARY), "keys", "create", "--role", "admin", "--config", str(configuration)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert made.returncode == 0 and str(data_dir) in made.stderr, made.stderr
    assert data_dir.stat().st_mode & 0o777 == 0o700
    with Server(data_dir) as server:
        key = dict(line.split("=", 1) for line in made.stdout.splitlines())
        pair = {"id": key["AWS_ACCESS_KEY_ID"], "secret": key["AWS_SECRET_ACCESS_KEY"]}
        assert boto(server, pair).list_rooms()["rooms"] is not None


@pytest.mark.skipif(os.geteuid() != 0, reason="needs two users")
def test_a_server_of_another_user_is_told_whose_the_directory_is():
    """Goal: root makes a key where the directory's parent is the server's user's, and that user's server starts; where the
    parent is root's, the server says that it may not look, rather than that there is no key."""
    user = 65532
    as_the_server = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    with tempfile.TemporaryDirectory(prefix="uproar-owners-") as name:
        place = Path(name)
        place.chmod(0o755)
        program = place / "uproar"
        shutil.copy(BINARY, program)
        for parent, owner in (("theirs", user), ("roots", 0)):
            (place / parent).mkdir()
            os.chown(place / parent, owner, owner)
            data_dir = place / parent / "below" / "data"
            made = subprocess.run(
                [program, "keys", "create", "--role", "admin", "--data-dir", data_dir], capture_output=True, text=True
            )
            assert made.returncode == 0 and f"belongs to user {owner}" in made.stderr, made.stderr
            found = [(path.stat().st_uid, path.stat().st_mode & 0o777) for path in (data_dir, data_dir.parent)]
            assert found == [(owner, 0o700), (owner, 0o755)]
            flags = ["--messaging-listen=127.0.0.1:0", "--control-listen=127.0.0.1:0", "--data-dir", data_dir]
            server = subprocess.Popen([*as_the_server, program, "serve", *flags], stderr=subprocess.PIPE, text=True)
            said = ""
            for line in server.stderr:
                said += line
                if '"ready"' in line:
                    server.terminate()
            code = server.wait(60)
            if owner == user:
                assert code == 0, said
            else:
                assert code == 2 and "Permission denied" in said and str(data_dir) in said, said
        refused = subprocess.run(
            [*as_the_server, program, "keys", "create", "--role", "admin", "--data-dir", place / "roots" / "new"],
            capture_output=True,
            text=True,
        )
        remedy = f"as root: install -d -m 700 -o {user} {place}/roots/new"
        assert refused.returncode == 1 and remedy in refused.stderr, refused.stderr


@pytest.mark.parametrize("name", ["UPROAR_KEYS__SECRET", "UPROAR_KEYS__SECRET_FILE"])
def test_one_key_by_variables_alone(tmp_path, monkeypatch, name):
    """Goal: a server without a configuration file, as in a container, has one key; a child of it, as an upgrade makes it, too."""
    secret = "of-the-environment-1"
    value = secret
    if name.endswith("FILE"):
        path = tmp_path / "secret"
        path.touch(mode=0o400)
        path.write_text(secret + "\n")
        value = str(path)
    monkeypatch.setenv("UPROAR_KEYS__ID", "AKIDBYVARIABLES00001")
    monkeypatch.setenv(name, value)
    server = Server(tmp_path / "data")
    server.command[1:2] = ["serve"]
    with server:
        pair = {"id": "AKIDBYVARIABLES00001", "secret": secret}
        assert boto(server, pair).list_rooms()["rooms"] == []
        upgraded = server.run("upgrade", "--data-dir", str(server.data_dir))
        assert upgraded.returncode == 0, upgraded
        try:
            assert boto(server, pair).list_rooms()["rooms"] == []
            assert secret not in server.log()
        finally:
            # Nobody's child here.
            os.kill(int(re.match(r"process (\d+) serves", upgraded.stdout)[1]), signal.SIGTERM)


def test_a_file_that_others_can_read_stops_the_start_with_a_remedy(tmp_path):
    assert keys(tmp_path, "create", "--role", "admin").returncode == 0
    (tmp_path / "access-keys").chmod(0o644)
    server = Server(tmp_path).launch()
    assert server.process.wait(20) == 1
    server.await_log("access-keys has mode 0644")


def test_serve_runs_with_keys_of_the_data_directory_alone(tmp_path):
    refused = subprocess.run(
        [str(BINARY), "serve", "--data-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert refused.returncode == 2 and "uproar keys create" in refused.stderr
    made = keys(tmp_path, "create", "--role", "admin").stdout
    server = Server(tmp_path)
    server.command[1:2] = ["serve"]
    with server:
        lines = dict(line.split("=", 1) for line in made.splitlines())
        client = server.boto(
            aws_access_key_id=lines["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=lines["AWS_SECRET_ACCESS_KEY"],
        )
        assert client.create_room()["arn"]
        assert code(refusal(server.boto().list_rooms)) == ("UnrecognizedClientException", 403)


def test_a_key_file_written_by_anything_is_noticed(server):
    """Goal: what the file holds counts. Method: restored from a copy in place, with the time it had; then with a
    mode that is refused, which `chmod` alone mends."""
    path = server.data_dir / "access-keys"
    first = create(server, "--role", "admin")
    wait_for(lambda: outcome(boto(server, first), "ListRooms") == "ok")
    copy, made = path.read_bytes(), path.stat()
    second = create(server, "--role", "admin")
    assert outcome(boto(server, second), "ListRooms") == "ok"
    path.write_bytes(copy)
    os.utime(path, ns=(made.st_atime_ns, made.st_mtime_ns))
    wait_for(lambda: outcome(boto(server, second), "ListRooms") == "UnrecognizedClientException")
    assert outcome(boto(server, first), "ListRooms") == "ok"
    path.chmod(0o644)
    path.write_bytes(json.dumps({"keys": []}).encode())
    # The file is looked at when somebody calls.
    wait_for(lambda: outcome(boto(server, first), "ListRooms") == "ok" and STAY in server.log())
    assert outcome(boto(server, first), "ListRooms") == "ok"
    path.chmod(0o600)
    wait_for(lambda: outcome(boto(server, first), "ListRooms") == "UnrecognizedClientException")
    assert server.log().count(STAY) == 1


def wait_for(happened) -> None:
    deadline = time.monotonic() + REVOKED_SECONDS_MAX
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)
