"""docs/tokens.md: its snippets, exactly as printed, make tokens that open connections."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from rawws import Refused, WebSocket
from uproar import REPOSITORY

DOCUMENT = (REPOSITORY / "docs" / "tokens.md").read_text()


def snippet(language: str) -> str:
    found = re.findall(rf"```{language}[^\n]*\n(.*?)```", DOCUMENT, re.DOTALL)
    assert len(found) == 1
    return found[0]


def python_token(key_path: str, arn: str, user: str, **claims) -> str:
    names: dict = {}
    exec(compile(snippet("python"), "docs/tokens.md", "exec"), names)
    return names["make_token"](names["read_key"](key_path), arn, user, **claims)


def node_token(key_path: str, arn: str, user: str, **claims) -> str:
    arguments = json.dumps([arn, user, claims])
    script = snippet("javascript") + (
        f"const [arn, user, claims] = {arguments};\n"
        f"process.stdout.write(makeToken(readKey({json.dumps(key_path)}), arn, user, claims));"
    )
    done = subprocess.run(["node", "-e", script], capture_output=True, text=True, check=True)
    return done.stdout


MAKERS = pytest.mark.parametrize("make", [python_token, node_token])


@MAKERS
def test_a_token_made_as_documented_carries_its_claims(arena, make):
    key_path = str(arena.server.data_dir / "token-keys")
    token = make(
        key_path, arena.arn, "zoë", rights=["SEND_MESSAGE"], attributes={"name": "Zoë", "team": "a"}
    )
    socket = WebSocket(arena.port, token)
    socket.say("made elsewhere")
    sender = socket.receive()["Sender"]
    assert sender == {"UserId": "zoë", "Attributes": {"name": "Zoë", "team": "a"}}
    with pytest.raises(Refused) as caught:
        WebSocket(arena.port, token)
    assert caught.value.response.status == 401


@MAKERS
def test_what_the_token_does_not_grant_is_refused(arena, make):
    key_path = str(arena.server.data_dir / "token-keys")
    socket = WebSocket(arena.port, make(key_path, arena.arn, "reader"))
    socket.say("not allowed")
    assert socket.receive()["ErrorCode"] == 403
    with pytest.raises(Refused) as caught:
        WebSocket(arena.port, make(key_path, arena.arn, "late", life=-1))
    assert caught.value.response.status == 401
