"""Chat tokens: single use, sealed, one spelling; and `uproar token create` and `check`."""

from __future__ import annotations

import base64
import re
import shutil
import threading
import time

import pytest

from rawws import Refused, WebSocket, upgrade_head
from uproar import ALL_CAPABILITIES


def refused(port: int, token: str) -> int:
    with pytest.raises(Refused) as caught:
        WebSocket(port, token)
    body = caught.value.response.json()
    assert body["Type"] == "ERROR"
    assert body["ErrorCode"] == caught.value.response.status
    return caught.value.response.status


@pytest.mark.parametrize("round_", range(5))
def test_one_token_on_32_connections_at_once_opens_exactly_one(arena, round_):
    """Method: 32 sockets, which the kernel spreads over both shards, send the same head at once."""
    request = upgrade_head(arena.token(f"racer{round_}"))
    wires = [arena.wire() for _ in range(32)]
    gate = threading.Barrier(32)
    statuses: list[int] = []

    def race(wire) -> None:
        gate.wait()
        wire.send(request)
        statuses.append(wire.read_response().status)

    threads = [threading.Thread(target=race, args=(wire,)) for wire in wires]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(statuses) == [101] + [401] * 31


def test_a_used_token_is_refused_while_its_session_lives_and_after(arena):
    token = arena.token()
    socket = WebSocket(arena.port, token)
    assert refused(arena.port, token) == 401
    socket.say("not disturbed")
    assert socket.receive()["Content"] == "not disturbed"
    socket.close()
    assert refused(arena.port, token) == 401


def test_a_refused_handshake_does_not_use_the_token_up(arena):
    """Method: the token inside a head that is refused for another reason, then properly."""
    token = arena.token()
    wire = arena.wire()
    wire.send(upgrade_head(token).replace(b"Version: 13", b"Version: 12"))
    assert wire.read_response().status in (400, 426)
    WebSocket(arena.port, token).close()


def test_every_changed_character_is_refused_and_the_genuine_token_stays_good(arena):
    token = arena.token()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for index, old in enumerate(token):
        # Two neighbours in the alphabet: one flips the lowest bit, one the highest.
        place = alphabet.find(old)
        for other in {alphabet[place ^ 1], alphabet[place ^ 32]} if place >= 0 else {"A"}:
            forged = token[:index] + other + token[index + 1 :]
            assert refused(arena.port, forged) == 401, (index, old, other)
    WebSocket(arena.port, token).close()


def test_other_spellings_of_a_token_are_refused(arena):
    token = arena.token()
    for forged in (
        token[:-1],
        token[1:],
        token + "A",
        token + token,
        token.swapcase(),
        token[: len(token) // 2],
    ):
        assert refused(arena.port, forged) == 401
    WebSocket(arena.port, token).close()


def test_two_tokens_for_one_user_share_nothing_readable(arena):
    """Goal: no nonce reuse; the XOR of two sealed claims would show zeros where they agree."""
    def raw(token: str) -> bytes:
        body = max(re.findall(r"[A-Za-z0-9_-]+", token), key=len)
        return base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))

    first, second = (raw(arena.token("same-user", attributes={"a": "b" * 200})) for _ in range(2))
    assert len(first) == len(second)
    tail = min(len(first), 200)
    same = sum(a == b for a, b in zip(first[-tail:], second[-tail:]))
    assert same < tail // 8, "random bytes agree once in 256"


def test_the_command_line_mints_twenty_thousand_distinct_tokens(server, room):
    done = server.run(
        "token", "create", "--data-dir", str(server.data_dir), "--room", room,
        "--user", "crowd", "--count", "20000",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    tokens = done.stdout.split()
    assert len(tokens) == 20_000
    assert len(set(tokens)) == 20_000
    with WebSocket(server.messaging_port, tokens[12_345]) as socket:
        socket.say("viewers may not speak", "R")
        assert socket.receive()["ErrorCode"] == 403


def test_the_command_line_mints_what_it_was_asked_for(server, room):
    capabilities = [word for name in ALL_CAPABILITIES for word in ("--capability", name)]
    done = server.run(
        "token", "create", "--data-dir", str(server.data_dir), "--room", room, "--user", "bob é",
        *capabilities, "--attribute", "name=Bob", "--attribute", "mood=a=b",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with WebSocket(server.messaging_port, done.stdout.strip()) as socket:
        socket.say("hi")
        assert socket.receive()["Sender"] == {
            "UserId": "bob é",
            "Attributes": {"name": "Bob", "mood": "a=b"},
        }


def test_the_command_line_says_what_a_token_says(server, room):
    """Goal: a good one is exit 0, and expired, changed and foreign ones are exit 1 with the server's own reason; a name with
    control characters does not reach the terminal."""
    options = ("--data-dir", str(server.data_dir))
    make = lambda *rest: server.run("token", "create", *options, "--room", room, *rest).stdout.strip()
    good = make("--user", "bob\x1b[31m", "--capability", "SEND_MESSAGE", "--attribute", "mood=a=b")
    done = server.run("token", "check", good, *options)
    assert done.returncode == 0, done.stderr
    said = dict(line.split("  ", 1) for line in done.stdout.splitlines())
    said = {name: value.strip() for name, value in said.items()}
    assert (said["room"], said["may"], said["attributes"]) == (room, "SEND_MESSAGE", "mood=a=b")
    assert said["user"].startswith("bob") and "\x1b" not in done.stdout
    brief = make("--user", "u", "--session-seconds", "1")
    time.sleep(2.1)
    for token, reason, is_read in (
        (brief, "expired", True),
        (good[:-2] + ("AA" if not good.endswith("AA") else "BA"), "not genuine", False),
        ("x", "malformed", False),
    ):
        done = server.run("token", "check", token, *options)
        assert done.returncode == 1 and reason in done.stderr, done
        assert ("room" in done.stdout) == is_read
    assert refused(server.messaging_port, brief) == 401


def test_a_database_that_cannot_be_read_is_said(server, room, tmp_path):
    """Goal: what the command cannot know it does not call good in silence. Method: a directory with the keys alone."""
    token = server.run("token", "create", "--data-dir", str(server.data_dir), "--room", room, "--user", "u").stdout.strip()
    shutil.copy(server.data_dir / "token-keys", tmp_path)
    done = server.run("token", "check", token, "--data-dir", str(tmp_path))
    assert done.returncode == 0 and re.search("not known .*room exists.*banned.*used", done.stdout), done
    assert sorted(path.name for path in tmp_path.iterdir()) == ["token-keys"]


NOBODY = ["--room", "arn:aws:ivschat:us-west-2:123456789012:room/AAAAAAAAAAAA", "--user", "u"]


@pytest.mark.parametrize("command", [["create", *NOBODY], ["check", "x"], ["rotate-key"]])
def test_a_directory_without_a_server_yet_is_said(server, tmp_path, command):
    done = server.run("token", *command, "--data-dir", str(tmp_path))
    assert done.returncode == 1 and "no server has started in this data directory yet" in done.stderr, done
    assert list(tmp_path.iterdir()) == []


BAD_REQUESTS = {
    "no such room": ("--room", "arn:aws:ivschat:us-west-2:123456789012:room/AAAAAAAAAAAA"),
    "no ARN": ("--room", "lobby-of-nowhere"),
    "181 minutes": ("--session-minutes", "181"),
    "unknown capability": ("--capability", "FLY"),
    "attribute without a value": ("--attribute", "x"),
}


@pytest.mark.parametrize("case", BAD_REQUESTS)
def test_the_command_line_names_what_it_refuses(server, room, case):
    flag, value = BAD_REQUESTS[case]
    arguments = {"--room": room, "--user": "u", "--data-dir": str(server.data_dir), flag: value}
    done = server.run("token", "create", *(word for pair in arguments.items() for word in pair))
    if case == "no such room" and done.returncode == 0:
        # Minting needs the key only; the edge knows the room is missing.
        assert refused(server.messaging_port, done.stdout.strip()) == 404
        return
    assert done.returncode != 0
    assert value in done.stderr
