"""Who was refused, and why, can be found again: the very Id that a client got is in the log.

Each kind of refusal is provoked once (a kind is said once a second), and looked for by the Id of the
ERROR frame, of the refused upgrade's body, or by the request id of the API's answer.
"""

from __future__ import annotations

import json
import resource
import socket
import time
from contextlib import contextmanager

import pytest

from raw_api import call, send
from rawws import Refused, WebSocket, Wire, upgrade_head
from review_handler import FUNCTION, ReviewHandler
from test_access_keys import create
from test_log_writing import flood
from uproar import ACCESS_KEY, Server

WAIT_SECONDS_MAX = 60.0


def events(server: Server) -> list[dict]:
    """The log, which is JSON but for what `dev` prints."""
    lines = server.log_path.read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def line_of(server: Server, wanted) -> dict:
    """The one event for which `wanted` holds, once it is there."""
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while time.monotonic() < deadline:
        found = [event for event in events(server) if wanted(event)]
        if found:
            assert len(found) == 1, found
            return found[0]
        time.sleep(0.05)
    raise AssertionError("no such line in:\n" + server.log())


@contextmanager
def configured(tmp_path, text: str, **rest):
    path = tmp_path / "uproar.toml"
    path.write_text(text)
    with Server(extra=("--config", str(path)), **rest) as server:
        yield server


def refused(server: Server, token: str | None, **rest) -> str:
    """The Id of a refused upgrade."""
    with Wire(server.messaging_port) as wire:
        wire.send(upgrade_head(token, **rest))
        answer = wire.read_response()
        assert answer.status != 101
        return answer.json()["Id"]


def expired_token(server: Server, room: str, user: str) -> str:
    made = server.run(
        "token", "create", "--room", room, "--user", user, "--session-seconds", "1",
        "--data-dir", str(server.data_dir),
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    time.sleep(2.5)
    return made.stdout.strip()


def test_each_refused_handshake_is_found_by_its_id(server, room, boto):
    room_id = room.rsplit("/", 1)[1]
    gone = boto.create_room(name="gone")["arn"]
    gone_id, gone_token = gone.rsplit("/", 1)[1], server.token(gone, "late")
    boto.delete_room(identifier=gone)
    used = server.token(room, "twice\n\x1b[31m\u202e")
    WebSocket(server.messaging_port, used).close()
    unnamed = (None, None)
    tries = [
        ("used", used, (room_id, "twice\n\x1b[31m\u202e"), "already been used"),
        ("no room", gone_token, (gone_id, "late"), "does not exist"),
        ("expired", expired_token(server, room, "slow"), (room_id, "slow"), "expired"),
        ("forged", used[:-4] + "AAAA", unnamed, "token"),
        ("missing", None, unnamed, "required"),
    ]
    for what, token, (of_room, user), reason in tries:
        refused_id = refused(server, token)
        event = line_of(server, lambda event: event.get("id") == refused_id)
        assert event["level"] == "WARN" and event["message"] == "handshake refused", what
        assert event["ip"] == "127.0.0.1" and reason in event["reason"], (what, event)
        assert (event.get("room"), event.get("user")) == (of_room, user), (what, event)
        assert event["suppressed"] == 0, (what, event)

    with Wire(server.messaging_port) as wire:
        wire.send(b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        malformed = wire.read_response().json()["Id"]
    assert line_of(server, lambda event: event.get("id") == malformed)["reason"]


def test_limits_and_origins_are_said_with_user_and_room(tmp_path):
    text = '[quotas]\nconnections = 1\n[messaging]\norigins = ["https://good.example"]\n'
    with configured(tmp_path, text) as server:
        room = server.boto_cached.create_room(name="r")["arn"]
        first = WebSocket(server.messaging_port, server.token(room, "in"))
        full = refused(server, server.token(room, "out"))
        event = line_of(server, lambda event: event.get("id") == full)
        assert event["user"] == "out" and "limit" in event["reason"]
        assert event["room"] == room.rsplit("/", 1)[1]
        evil = refused(server, server.token(room, "eve"), extra=(b"Origin: https://evil.example",))
        event = line_of(server, lambda event: event.get("id") == evil)
        assert event["user"] == "eve" and "Origin" in event["reason"]
        first.close()


def test_handshakes_without_an_answer_are_said_with_the_address():
    """What is no TLS, and who does not go on within ten seconds."""
    server = Server(extra=("--tls",)).launch()
    try:
        line_of(server, lambda event: event["message"] == "ready")
        with Wire(server.messaging_port) as plain, Wire(server.messaging_port) as slow:
            plain.send(b"\x00 neither TLS nor a request without it\r\n\r\n")
            slow.send(bytes([0x16, 0x03, 0x01, 0x02]))
            reasons = [
                line_of(server, lambda event: word in event.get("reason", ""))
                for word in ("message", "longer than 10 s")
            ]
        for event in reasons:
            assert event["message"] == "handshake refused" and event["ip"] == "127.0.0.1"
            assert event["level"] == "WARN"
    finally:
        server.stop()


def message_refusals(socket: WebSocket):
    """What one client does wrong; the code it is told."""
    yield 400, lambda: socket.say("", "empty")
    yield 403, lambda: socket.send_json({"Action": "DELETE_MESSAGE", "Id": "aBcDeFgHiJkL", "RequestId": "no"})


@pytest.mark.parametrize("viewers", [1, 8])
def test_each_refused_message_is_found_by_its_id(server, boto, viewers):
    """Method: several viewers, so that some are on the room's home shard and some are not."""
    room = boto.create_room(name="m", maximumMessageRatePerSecond=100)["arn"]
    for number in range(viewers):
        user = f"u{number}"
        socket = WebSocket(server.messaging_port, server.token(room, user, ["SEND_MESSAGE"]))
        for code, ask in message_refusals(socket):
            time.sleep(1.1)  # a kind is said once a second
            ask()
            error = socket.receive()
            assert error["Type"] == "ERROR" and error["ErrorCode"] == code
            event = line_of(server, lambda event: event.get("id") == error["Id"])
            assert event["level"] == "WARN" and event["message"] == "message refused"
            assert (event["ip"], event["user"], event["code"]) == ("127.0.0.1", user, code)
            assert event["room"] == room.rsplit("/", 1)[1]
            assert event["reason"] == error["ErrorMessage"]
        socket.close()


def test_rates_and_denials_are_said_for_viewers_of_every_shard(tmp_path):
    """Method: three rooms, each with one home shard of two, and viewers spread over both shards."""
    handler = ReviewHandler()
    try:
        text = (
            f'[review]\nfunctions = ["{FUNCTION}moderator={handler.url}/check"]\n'
            "timeout_ms = 10000\n[delivery]\nspread_members = 1\n"
        )
        with configured(tmp_path, text, quotas="aws") as server:
            boto = server.boto_cached
            reviewed = boto.create_room(
                name="reviewed",
                maximumMessageRatePerSecond=100,
                messageReviewHandler={"uri": FUNCTION + "moderator", "fallbackResult": "ALLOW"},
            )["arn"]
            busy = boto.create_room(name="busy", maximumMessageRatePerSecond=1)["arn"]
            for room, content, code in ((reviewed, "deny", 406), (busy, "again", 429)):
                sockets = [
                    WebSocket(server.messaging_port, server.token(room, f"u{number}"))
                    for number in range(4)
                ]
                for number, socket in enumerate(sockets):
                    event = provoked(server, socket, content, code)
                    assert (event["user"], event["ip"]) == (f"u{number}", "127.0.0.1")
                    assert event["code"] == code
                for socket in sockets:
                    socket.close()
    finally:
        handler.close()


def provoked(server: Server, socket: WebSocket, content: str, code: int) -> dict:
    """Says `content` until the Id of a refusal is in the log: a kind is said once a second."""
    deadline, told = time.monotonic() + WAIT_SECONDS_MAX, set()
    while time.monotonic() < deadline:
        socket.say(content, "mine")
        answer, _ = socket.receive_until(lambda frame: frame.get("RequestId") == "mine")
        if answer["Type"] == "ERROR" and answer["ErrorCode"] == 429 != code:
            # Too often for the connection: it has ten requests a second.
            time.sleep(0.2)
            continue
        if answer["Type"] == "ERROR":
            assert answer["ErrorCode"] == code
            told.add(answer["Id"])
        found = [event for event in events(server) if event.get("id") in told]
        if found:
            return found[0]
        time.sleep(0.05)
    raise AssertionError(f"none of {len(told)} refusals is in the log")


def test_each_refused_call_is_found_by_its_request_id(server, room):
    limited = create(server, "--operation", "GetRoom", "--room", room)
    missing = room[:-12] + "NoSuchRoom00"
    body = json.dumps({"identifier": room}).encode()
    nowhere = json.dumps({"identifier": missing}).encode()
    forged = b'{"identifier":"\\n{\\"level\\":\\"ERROR\\"}"}'
    other = {"key": limited["id"], "secret": limited["secret"]}
    mine, unproven = {"key": ACCESS_KEY}, {"claimed_key": ACCESS_KEY}
    # operation, body, identity, status, who the log says it was, resource, reason
    tries = [
        ("GetRoom", nowhere, {}, 404, mine, missing, "does not exist"),
        ("GetRoom", forged, {}, 400, mine, json.loads(forged)["identifier"], "identifier"),
        ("DeleteRoom", body, other, 403, {"key": limited["id"]}, room, "not authorized"),
        ("ListRooms", b"{}", {"secret": "wrong"}, 403, unproven, None, "signature"),
        ("ListRooms", b"{}", {"key": "AKIDNOBODY0000000000"}, 403,
         {"claimed_key": "AKIDNOBODY0000000000"}, None, ""),
    ]  # fmt: skip
    for operation, body, identity, status, who, about, reason in tries:
        time.sleep(1.1)
        got, headers, _ = call(server, "POST", f"/{operation}", body, **identity)
        assert got == status
        request_id = headers["x-amzn-RequestId"]
        event = line_of(server, lambda event: event.get("request_id") == request_id)
        assert event["level"] == "WARN" and event["message"] == "api call refused"
        assert (event["operation"], event["status"]) == (operation, status)
        assert {name: event.get(name) for name in ("key", "claimed_key") if event.get(name)} == who
        assert event.get("resource") == about and reason in event["reason"], event
        assert event["ip"] == "127.0.0.1"

    time.sleep(1.1)
    _, headers, _ = send(server, "POST", "/%0a" + "x" * 5_000)
    request_id = headers["x-amzn-RequestId"]
    event = line_of(server, lambda event: event.get("request_id") == request_id)
    assert event["operation"] == "unknown" and len(event["path"]) < 300
    # Nothing that anybody chose has made a line of its own.
    lines = server.log_path.read_text().split("\n")
    assert not any(line.startswith(('{"level"', "x1b")) for line in lines)


def test_what_goes_well_is_no_line(server, room):
    """Neither calls nor messages nor sessions: 8,500 tokens a second would be 2 MB of log a second."""
    WebSocket(server.messaging_port, server.token(room, "warm")).close()
    before = len(events(server))
    for number in range(20):
        viewer = WebSocket(server.messaging_port, server.token(room, f"v{number}"))
        viewer.say("hello", "r")
        viewer.receive_until(lambda frame: frame.get("Content") == "hello")
        viewer.close()
    assert len(events(server)) == before


def test_debug_shows_calls_and_sessions(tmp_path):
    with configured(tmp_path, '[log]\nfilter = "uproar=debug"\n') as server:
        room = server.boto_cached.create_room(name="r")["arn"]
        viewer = WebSocket(server.messaging_port, server.token(room, "kicked"))
        server.boto_cached.disconnect_user(roomIdentifier=room, userId="kicked")
        viewer.receive_close()
        named = {"user": "kicked", "room": room.rsplit("/", 1)[1], "ip": "127.0.0.1"}
        for message, reason in (("session began", None), ("session ended", "Kicked")):
            event = line_of(server, lambda event: event["message"] == message)
            assert event["level"] == "DEBUG" and named.items() <= event.items(), event
            assert event.get("reason") == reason
        event = line_of(server, lambda event: event.get("operation") == "DisconnectUser")
        assert (event["message"], event["status"], event["key"]) == ("api", 200, ACCESS_KEY)


def suppressed(server: Server) -> dict[str, int]:
    counts = {}
    for line in server.metrics().splitlines():
        if line.startswith("uproar_log_suppressed_total{"):
            counts[line.split('"')[1]] = int(line.split()[-1])
    return counts


def test_strangers_who_are_refused_cannot_flood_the_log():
    """Goal: 5,000 refused handshakes, calls and connections each are a handful of lines, every one
    of them counted in a line and in a metric, the last ones as well.
    """
    flooded = 5_000
    # A quick client has more refusals a second than one address is answered.
    every_one = ("env", "UPROAR_MESSAGING__ADDRESS_REFUSALS=0")
    with Server(wrapper=every_one) as server:
        flood(server, flooded)
        for number in range(flooded):
            with pytest.raises(Refused):
                WebSocket(server.messaging_port, f"not-a-token-{number}")
        for kind, message in (
            ("handshake_bad_token", "handshake refused"),
            ("api_unauthenticated", "api call refused"),
        ):
            deadline, told = time.monotonic() + WAIT_SECONDS_MAX, 0
            while told < flooded and time.monotonic() < deadline:
                of_kind = [
                    event
                    for event in events(server)
                    if event["message"] == message or event.get("kind") == kind
                ]
                lines = [event for event in of_kind if event["message"] == message]
                told = len(lines) + sum(event["suppressed"] for event in of_kind)
                time.sleep(0.2)
            assert told == flooded, (kind, told)
            assert suppressed(server)[kind] == flooded - len(lines)
        assert len(events(server)) < 300


def test_silent_sockets_cannot_flood_the_log():
    """Method: more silent sockets than the control listener takes, then more that try."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4_400
    if hard < wanted + 200:
        pytest.skip(f"a limit of {hard} open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted + 200), hard))
    silent = []
    try:
        with Server() as server:
            for _ in range(wanted):
                silent.append(socket.create_connection(("127.0.0.1", server.control_port)))
            for _ in range(2_000):
                socket.create_connection(("127.0.0.1", server.control_port)).close()
            assert server.stop() == 0
            assert len(events(server)) < 100
    finally:
        for stream in silent:
            stream.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
