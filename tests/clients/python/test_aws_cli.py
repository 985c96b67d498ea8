"""The AWS command line against the control plane, by environment variables only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from rawws import WebSocket
from uproar import ACCESS_KEY, REGION, SECRET_KEY

AWS = Path(sys.executable).parent / "aws"


def aws(server, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL_IVSCHAT": server.control_url,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_PAGER": "",
    }
    return subprocess.run(
        [str(AWS), "ivschat", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
    )


def answer(server, *arguments: str) -> dict:
    done = aws(server, *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if done.stdout.strip() else {}


def test_the_command_line_makes_a_room_a_token_and_an_event(server):
    room = answer(server, "create-room", "--name", "from-cli", "--tags", "team=blue")
    token = answer(
        server,
        "create-chat-token",
        "--room-identifier",
        room["arn"],
        "--user-id",
        "cli",
        "--capabilities",
        "SEND_MESSAGE",
        "--attributes",
        "name=Bob",
    )
    with WebSocket(server.messaging_port, token["token"]) as socket:
        event = answer(
            server,
            "send-event",
            "--room-identifier",
            room["arn"],
            "--event-name",
            "app:CLI",
            "--attributes",
            "k=v",
        )
        frame = socket.receive(20)
        assert (frame["Id"], frame["EventName"]) == (event["id"], "app:CLI")
    listed = answer(server, "list-rooms", "--name", "from-cli")
    assert [found["arn"] for found in listed["rooms"]] == [room["arn"]]
    assert listed["rooms"][0]["tags"] == {"team": "blue"}


def test_the_command_line_names_the_refusal(server):
    ghost = f"arn:aws:ivschat:{REGION}:123456789012:room/AAAAAAAAAAAA"
    done = aws(server, "get-room", "--identifier", ghost)
    assert done.returncode != 0
    assert "(ResourceNotFoundException)" in done.stderr


def test_the_command_line_speaks_every_operation(server):
    """Goal: what the other test leaves out. Method: one life of a room and its logging."""
    logging = answer(
        server,
        "create-logging-configuration",
        *("--name", "cli", "--tags", "a=b"),
        *("--destination-configuration", "cloudWatchLogs={logGroupName=/chat}"),
    )
    assert logging["state"] == "ACTIVE"
    room = answer(
        server,
        "create-room",
        *("--logging-configuration-identifiers", logging["arn"]),
        *("--message-review-handler", "uri=,fallbackResult=DENY"),
    )
    assert room["loggingConfigurationIdentifiers"] == [logging["arn"]]
    named = answer(server, "update-room", "--identifier", room["arn"], "--name", "cli-room")
    assert answer(server, "get-room", "--identifier", room["arn"]) == named
    answer(server, "tag-resource", "--resource-arn", room["arn"], "--tags", '{"k": "v", "a b": "w"}')
    answer(server, "untag-resource", "--resource-arn", room["arn"], "--tag-keys", "a b", "x")
    tags = answer(server, "list-tags-for-resource", "--resource-arn", room["arn"])
    assert tags == {"tags": {"k": "v"}}
    in_room = ("--room-identifier", room["arn"])
    deletion = answer(server, "delete-message", *in_room, "--id", "aBcDeFgHiJkL", "--reason", "r")
    assert len(deletion["id"]) == 12
    assert answer(server, "disconnect-user", *in_room, "--user-id", "u") == {}
    its = ("--identifier", logging["arn"])
    stream = "firehose={deliveryStreamName=s}"
    moved = answer(
        server, "update-logging-configuration", *its, "--destination-configuration", stream
    )
    assert moved["destinationConfiguration"] == {"firehose": {"deliveryStreamName": "s"}}
    assert answer(server, "get-logging-configuration", *its) == moved
    listed = answer(server, "list-logging-configurations", "--max-results", "1")
    assert listed["loggingConfigurations"] == [moved]
    refused = aws(server, "delete-logging-configuration", *its)
    assert refused.returncode != 0 and "(ConflictException)" in refused.stderr
    assert answer(server, "delete-room", "--identifier", room["arn"]) == {}
    assert answer(server, "delete-logging-configuration", *its) == {}
