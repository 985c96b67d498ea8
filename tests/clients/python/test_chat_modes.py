"""Chat modes: tags that boto3 sets, and what raw clients get. Members are spread over both shards, so that what a home must know
of a sender goes there with the message."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import time

import pytest

from doc_pages import MODULES, blocks
from rawws import WebSocket
from review_handler import FUNCTION
from uproar import REPOSITORY, Server

MARK = itertools.count()
SEND = ["SEND_MESSAGE"]
WAIT = re.compile(r"slow mode: wait (\d+) s")
# Long enough that no test meets its end.
LONG = "3600"


@pytest.fixture(scope="module")
def server(reviewing_server):
    return reviewing_server


def extended(tmp_path, is_on: bool, **rest) -> Server:
    file = tmp_path / "uproar.toml"
    file.write_text(f"[extensions]\nenabled = {json.dumps(is_on)}\n")
    return Server(extra=("--config", str(file)), **rest)


def room(server, tags: dict[str, str], rate: int = 100, **settings) -> str:
    boto = server.boto_cached
    arn = boto.create_room(maximumMessageRatePerSecond=rate, **settings)["arn"]
    tag(server, arn, tags)
    return arn


def tag(server, arn: str, tags: dict[str, str]) -> None:
    server.boto_cached.tag_resource(resourceArn=arn, tags={f"uproar:{name}": value for name, value in tags.items()})


def join(server, arn: str, user: str, capabilities=SEND, role: str | None = None, **attributes: str) -> WebSocket:
    ours = {"uproar:role": role} if role else {}
    ours |= {f"uproar:{name}": value for name, value in attributes.items()}
    return WebSocket(server.messaging_port, server.token(arn, user, capabilities, attributes=ours))


def say(socket: WebSocket, text: str = "hello") -> dict:
    """The answer to a message: the message itself, or an ERROR."""
    mark = f"r{next(MARK)}"
    assert socket.say(text, mark)
    return socket.receive_until(lambda frame: frame.get("RequestId") == mark)[0]


def outcome(socket: WebSocket, text: str = "hello") -> str:
    """`said`, or code and text of the refusal."""
    answer = say(socket, text)
    if answer["Type"] == "MESSAGE":
        return "said"
    return f"{answer['ErrorCode']} {answer['ErrorMessage']}"


def wait(socket: WebSocket, text: str = "hello") -> int:
    """The seconds that slow mode tells."""
    answer = say(socket, text)
    assert (answer["Type"], answer["ErrorCode"]) == ("ERROR", 429), answer
    seconds = int(WAIT.fullmatch(answer["ErrorMessage"])[1])
    assert answer["RetryAfter"] == seconds
    return seconds


def rejected(server, reason: str) -> float:
    found = re.findall(rf'uproar_messages_rejected_total{{code="\d+",reason="{reason}"}} (\d+)', server.metrics())
    assert len(found) == 1
    return float(found[0])


def test_slow_mode_is_a_users_own_and_survives_reconnects(server):
    """Goal: the second message of a user is refused on any connection of his, others' and moderators' are not, and
    UntagResource lifts it."""
    arn = room(server, {"slow": LONG})
    before = rejected(server, "slow")
    alice, bob = join(server, arn, "alice"), join(server, arn, "bob")
    assert alice.receive()["Attributes"]["Slow"] == bob.receive()["Attributes"]["Slow"] == LONG
    assert outcome(alice, "one") == "said"
    assert 3000 < wait(alice) <= 3600
    alice.close()
    for attributes in ({}, {"since": "1"}):
        again = join(server, arn, "alice", **attributes)
        assert 3000 < wait(again) <= 3600
    assert outcome(bob, "two") == "said"
    for capability in ("DELETE_MESSAGE", "DISCONNECT_USER"):
        for number in range(4):
            crew = join(server, arn, f"mod-{capability}-{number}", [*SEND, capability])
            assert [outcome(crew, "crew"), outcome(crew, "crew")] == ["said", "said"]
    server.boto_cached.untag_resource(resourceArn=arn, tagKeys=["uproar:slow"])
    assert [outcome(again, "three"), outcome(again, "four")] == ["said", "said"]
    last, heard = bob.receive_until(lambda frame: frame.get("Content") == "four")
    texts = [frame["Content"] for frame in heard if frame["Type"] == "MESSAGE"]
    assert [text for text in texts if text != "crew"] == ["three"] and texts.count("crew") == 16, heard
    assert "RetryAfter" not in last
    assert rejected(server, "slow") == before + 3


def test_both_shards_have_members(server):
    """Goal: the tests of this file are of both ways to a home."""
    arn = room(server, {"slow": LONG})
    sockets = [join(server, arn, f"u{number}") for number in range(8)]
    held = re.findall(r"uproar_shard_connections\{.*\} (\d+)", server.metrics())
    assert len(held) == 2 and all(int(count) >= 4 for count in held), held
    assert [outcome(socket) for socket in sockets] == ["said"] * 8
    assert all(wait(socket) > 3000 for socket in sockets)


def test_another_time_counts_from_the_same_message(server):
    arn = room(server, {"slow": "1000"})
    alice = join(server, arn, "alice")
    assert outcome(alice) == "said"
    tag(server, arn, {"slow": LONG})
    assert 3000 < wait(alice) <= 3600
    tag(server, arn, {"slow": "900"})
    assert wait(alice) <= 900
    tag(server, arn, {"slow": "1"})
    deadline = time.monotonic() + 60
    while outcome(alice) != "said":
        assert time.monotonic() < deadline, "a second passes"
        # Below the connection's rate of refusals.
        time.sleep(0.2)


def test_talk(server):
    arn = room(server, {"talk": "none"})
    viewers = [join(server, arn, f"viewer{number}") for number in range(2)]
    fans = [join(server, arn, f"fan{number}", role="sub") for number in range(2)]
    for role in ("host", "mod", "bot"):
        hosts = [join(server, arn, f"{role}{number}", role=role) for number in range(2)]
        assert [outcome(host) for host in hosts] == ["said", "said"], role
    assert [outcome(socket) for socket in (*viewers, *fans)] == ["403 chat is closed"] * 4
    tag(server, arn, {"talk": "sub+vip"})
    assert [outcome(fan) for fan in fans] == ["said", "said"]
    assert [outcome(viewer) for viewer in viewers] == ["403 chat is open to: sub, vip"] * 2
    tag(server, arn, {"talk": "all"})
    assert [outcome(viewer) for viewer in viewers] == ["said", "said"]
    assert rejected(server, "talk") == 6


def test_age(server):
    arn = room(server, {"age": "86400"})
    now = int(time.time())
    for number in range(2):
        assert outcome(join(server, arn, f"old{number}", since=str(now - 90_000))) == "said"
        answer = say(join(server, arn, f"new{number}", since=str(now - 400)))
        seconds = int(re.fullmatch(r"you may write in (\d+) s", answer["ErrorMessage"])[1])
        assert answer["ErrorCode"] == 403 and answer["RetryAfter"] == seconds
        assert 80_000 < seconds <= 86_001
    assert outcome(join(server, arn, "unknown")) == "403 you may write in 86400 s"
    assert rejected(server, "age") == 3


def test_unique(server):
    arn = room(server, {"unique": "user:600"})
    alice, bob = join(server, arn, "alice"), join(server, arn, "bob")
    assert [outcome(alice, "Hi all"), outcome(alice, "other")] == ["said", "said"]
    assert outcome(alice, "  hi   ALL") == "406 repeated message"
    assert outcome(bob, "hi all") == "said"
    tag(server, arn, {"unique": "room:600"})
    assert outcome(alice, "Go!") == "said"
    assert outcome(bob, "go!") == "406 repeated message"
    mod = join(server, arn, "mod", [*SEND, "DELETE_MESSAGE"])
    assert [outcome(mod, "go!"), outcome(mod, "go!")] == ["said", "said"]
    assert rejected(server, "unique") == 2


def test_emotes_only_and_what_is_refused_is_not_charged(tmp_path):
    """Goal: a room of one message a second takes one after many refusals, each with its own reason."""
    with extended(tmp_path, True, quotas="aws") as server:
        arn = room(server, {"emotes": "only"}, rate=1)
        alice = join(server, arn, "alice")
        assert [outcome(alice, "words") for _ in range(5)] == ["406 only emotes"] * 5
        assert outcome(alice, ":wave: 🔥!") == "said"
        assert rejected(server, "emotes") == 5


def test_a_denied_message_keeps_its_place(server, handler):
    """Goal: slow mode counts from the acceptance for review, so that a user waits whatever the verdict."""
    arn = room(server, {"slow": LONG}, messageReviewHandler={"uri": FUNCTION + "mapped", "fallbackResult": "DENY"})
    alice, bob = join(server, arn, "alice"), join(server, arn, "bob")
    assert outcome(alice, "deny no such words") == "406 no such words"
    assert wait(alice, "allow") > 3000
    assert outcome(bob, "allow") == "said"
    assert wait(bob, "allow") > 3000
    mod = join(server, arn, "mod", [*SEND, "DELETE_MESSAGE"])
    assert [outcome(mod, "allow"), outcome(mod, "allow")] == ["said", "said"]


def test_an_upgrade_carries_the_waits_and_a_crash_ends_them():
    with Server() as server:
        arn = room(server, {"slow": LONG, "unique": "room:600"})
        alice, bob = join(server, arn, "alice"), join(server, arn, "bob")
        assert outcome(alice, "hello") == "said"
        server.upgrade()
        assert 3000 < wait(alice, "other") <= 3600
        assert outcome(bob, "HELLO") == "406 repeated message"
        assert 3000 < wait(join(server, arn, "alice"), "other") <= 3600
        server.kill()
        server.start()
        assert outcome(join(server, arn, "alice"), "hello") == "said"


def test_without_extensions_the_tags_are_inert(tmp_path):
    with extended(tmp_path, False) as server:
        arn = room(server, {"slow": LONG, "talk": "none", "unique": "room:600", "age": "600", "emotes": "only"})
        alice = join(server, arn, "alice")
        assert [outcome(alice), outcome(alice)] == ["said", "said"]


def test_the_pages_client_shows_the_wait(server, tmp_path):
    """Goal: the client code of docs/features.md does what it says, with the official client."""
    pages = [block for block in blocks(REPOSITORY / "docs" / "features.md") if block.argument == "test_chat_modes.py"]
    assert len(pages) == 1
    arn = room(server, {"slow": LONG})
    (tmp_path / "node_modules").symlink_to(MODULES)
    (tmp_path / "say.mjs").write_text(pages[0].text)
    script = tmp_path / "run.mjs"
    script.write_text(
        'import { ChatRoom } from "amazon-ivs-chat-messaging";\n'
        'import { WebSocket } from "ws";\n'
        'import { say } from "./say.mjs";\n'
        "globalThis.WebSocket = WebSocket;\n"
        "const [url, token] = process.argv.slice(2);\n"
        "const room = new ChatRoom({ regionOrUrl: url, tokenProvider: async () => ({ token }) });\n"
        'room.addListener("connect", async () => {\n'
        '  for (const text of ["one", "two"]) await say(room, text, (line) => console.log("shown:", line));\n'
        "  room.disconnect();\n"
        "});\n"
        "room.connect();\n"
    )
    url = f"ws://127.0.0.1:{server.messaging_port}"
    done = subprocess.run(
        ["node", str(script), url, server.token(arn, "alice", SEND)],
        capture_output=True, text=True, timeout=120, cwd=tmp_path,
    )
    shown = re.findall("(?m)^shown: (.*)$", done.stdout)
    assert len(shown) == 1 and re.fullmatch(r"you may write again in 3\d\d\d s", shown[0]), done
