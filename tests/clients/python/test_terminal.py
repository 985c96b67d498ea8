"""What an operator does from a terminal: rooms, figures, words in a room, a live picture; and what hostile orders get."""

from __future__ import annotations

import array
import contextlib
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import termios
import time

import pytest

from rawws import WebSocket
from test_admin import admin, command, uproar
from uproar import BINARY, Server

SECONDS_MAX = 60


def do(server: Server, *words: str) -> str:
    """Runs a command that must succeed; `words` begin with its name."""
    done = uproar(*words, "--data-dir", str(server.data_dir))
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(server: Server, *words: str, code: int = 1) -> str:
    done = uproar(*words, "--data-dir", str(server.data_dir))
    assert done.returncode == code and not done.stdout, (done.stdout, done.stderr)
    return done.stderr


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def viewer(server: Server, room: str, user: str = "u", **rest) -> WebSocket:
    return WebSocket(server.messaging_port, server.token(room, user, **rest))


@contextlib.contextmanager
def tap(server: Server, room: str, *words: str, **options):
    """A running `uproar tap --json`, once it is a member."""
    before = viewers_of(server, room)
    process = subprocess.Popen(
        [BINARY, "tap", room, "--json", *words, "--data-dir", str(server.data_dir)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )
    try:
        until(lambda: viewers_of(server, room) > before)
        yield process
    finally:
        process.kill()
        process.communicate(timeout=SECONDS_MAX)


def viewers_of(server: Server, room: str) -> int:
    return json.loads(do(server, "room", "show", room, "--json"))["viewers"]


def until(holds) -> None:
    deadline = time.monotonic() + SECONDS_MAX
    while not holds():
        assert time.monotonic() < deadline, "it never holds"
        time.sleep(0.02)


def test_rooms_are_made_shown_changed_and_deleted(server):
    """Goal: the command and the API see the same room, by any of its names. Method: each change is read by the other."""
    arn = do(server, "room", "create", "made", "--rate", "50", "--length", "200").strip()
    api = server.boto_cached.get_room(identifier=arn)
    assert (api["maximumMessageRatePerSecond"], api["maximumMessageLength"]) == (50, 200)
    for called in (arn, api["id"], "made"):
        shown = json.loads(do(server, "room", "show", called, "--json"))
        assert (shown["arn"], shown["name"], shown["viewers"]) == (arn, "made", 0)
        assert shown["settings"]["maximumMessageRatePerSecond"] == 50
    assert "messages a second" in do(server, "room", "set", "made", "--rate", "7", "--name", "made-anew")
    assert server.boto_cached.get_room(identifier=arn)["maximumMessageRatePerSecond"] == 7
    assert "made-anew" in do(server, "room", "show", api["id"])
    inside = viewer(server, arn)
    do(server, "room", "delete", "made-anew")
    assert inside.receive_close().code == 1000
    assert "no room has the ARN, id or name made-anew" in refused(server, "room", "show", "made-anew")
    assert "maximumMessageRatePerSecond" in refused(server, "room", "create", "x", "--rate", "1000000")
    assert "nothing to set" in refused(server, "room", "set", "lobby", code=2)


def test_an_ambiguous_name_is_refused_with_the_candidates(server):
    first, second = (do(server, "room", "create", "twice").strip() for _ in range(2))
    said = refused(server, "send", "twice", "hello")
    for arn in (first, second):
        assert arn.rsplit("/", 1)[1] in said, said
    own_id = first.rsplit("/", 1)[1]
    namesake = do(server, "room", "create", own_id).strip()
    said = refused(server, "room", "show", own_id)
    assert namesake.rsplit("/", 1)[1] in said, "a room whose name is another's id"
    assert json.loads(do(server, "room", "show", first, "--json"))["arn"] == first
    assert {room["arn"] for room in lines(do(server, "room", "list", "--name", "twice", "--json"))} == {first, second}
    foreign = first.replace("us-west-2", "eu-west-1")
    assert "no room" in refused(server, "room", "show", foreign)


def test_rooms_are_listed_by_viewers_by_rate_and_whole(server):
    """Goal: the largest and the busiest rooms come first, and pages of all rooms hold each once. Method: three rooms
    whose order by one figure is not that by the other, among 60."""
    names = [f"listed-{number}" for number in range(60)]
    arns = {server.boto_cached.create_room(name=name)["arn"]: name for name in names}
    (large, busy, both), crowd = list(arns)[:3], []
    for room, viewers, messages in ((large, 5, 0), (busy, 1, 40), (both, 3, 10)):
        members = [viewer(server, room, f"u{number}") for number in range(viewers)]
        for number in range(messages):
            members[0].say(str(number))
            members[0].receive()
        crowd += members
    ours = lambda text: [room["name"] for room in lines(text) if room["arn"] in (large, busy, both)]
    assert ours(do(server, "room", "list", "--json")) == ["listed-0", "listed-2", "listed-1"]
    by_rate = lines(do(server, "room", "list", "--by", "rate", "--json", "--count", "3"))
    assert len(by_rate) == 3
    assert [room["name"] for room in by_rate if room["per_minute"]][:2] == ["listed-1", "listed-2"]
    whole = [room["arn"] for room in lines(do(server, "room", "list", "--all", "--json"))]
    assert len(whole) == len(set(whole)) and set(arns) <= set(whole)
    table = do(server, "room", "list").splitlines()
    assert table[0].split() == ["VIEWERS", "PER", "MIN", "ID", "NAME"] and all(len(line) <= 80 for line in table)
    named = json.loads(do(server, "room", "show", large, "--viewers", "20", "--json"))["named"]
    assert sorted(sender["UserId"] for sender in named) == [f"u{number}" for number in range(5)]
    for member in crowd:
        member.close()


def test_what_is_said_from_the_terminal_is_heard(server):
    """Goal: a sent message, an event, a deletion and a kick reach a viewer as everybody's do, under the ids that the
    commands print."""
    room = do(server, "room", "create", "heard").strip()
    hears = viewer(server, room, "bob")
    sent = json.loads(do(server, "send", "heard", 'say "hi" \\ <é>', "--as", "host", "--attributes", '{"a":"b"}', "--json"))
    message = hears.receive()
    assert message == sent and message["Content"] == 'say "hi" \\ <é>'
    assert message["Sender"]["UserId"] == "host" and message["Attributes"] == {"a": "b"}
    event = do(server, "event", "heard", "goal", "--attributes", '{"team":"home"}').strip()
    got = hears.receive()
    assert (got["Id"], got["EventName"], got["Attributes"]) == (event, "goal", {"team": "home"})
    deletion = do(server, "delete", "heard", message["Id"], "--reason", "Rules").strip()
    got = hears.receive()
    assert got["Id"] == deletion and got["EventName"] == "aws:DELETE_MESSAGE"
    assert got["Attributes"]["MessageID"] == message["Id"] and got["Attributes"]["Reason"] == "Rules"
    do(server, "kick", "heard", "bob", "--reason", "Spam")
    closed = hears.receive_close()
    assert (closed.code, closed.reason) == (1000, "Spam")
    assert "bob" not in do(server, "room", "show", "heard", "--viewers", "20")
    requests = server.metrics()
    assert 'uproar_api_requests_total{operation="DisconnectUser",status="200"}' in requests


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("send", "lobby", "x" * 501), "refused:"),
        (("send", "lobby", ""), "refused:"),
        (("send", "lobby", "x", "--as", ""), "userId"),
        (("send", "lobby", "x", "--as", "u" * 129), "userId"),
        (("send", "nowhere", "x"), "no room has"),
        (("event", "lobby", "e" * 101), "eventName"),
        (("event", "lobby", "e", "--attributes", json.dumps({"k": "v" * 1100})), "ttributes"),
        (("kick", "lobby", ""), "userId"),
        (("delete", "lobby", "not an id"), "id"),
        (("room", "show", ""), "is empty: is a variable not set?"),
        (("room", "delete", ""), "is empty: is a variable not set?"),
        (("kick", "", "bob"), "is empty: is a variable not set?"),
    ],
)
def test_what_viewers_and_callers_are_refused_is_refused_here(server, words, said):
    assert said in refused(server, *words)


def test_attributes_are_texts(server):
    for wrong in ("[]", "{", '{"a":1}', '"x"'):
        assert "a JSON object of texts" in refused(server, "event", "lobby", "e", "--attributes", wrong, code=2)


def test_rates_hold_for_the_terminal_too(server_of_slow_room):
    server, room = server_of_slow_room
    said = [uproar("send", room, str(number), "--data-dir", str(server.data_dir)) for number in range(20)]
    over = [done for done in said if done.returncode]
    assert over and all("429" in done.stderr for done in over), said


@pytest.fixture(scope="module")
def server_of_slow_room(aws_server):
    return aws_server, aws_server.boto_cached.create_room(name="slow", maximumMessageRatePerSecond=1)["arn"]


def test_tap_shows_what_a_room_says(server):
    """Goal: each frame once, in order, as viewers get it; the end is told with its reason; a viewer's words cannot
    drive the terminal."""
    room = do(server, "room", "create", "tapped").strip()
    speaks = viewer(server, room, "ann")
    with tap(server, room, "--count", "50") as process:
        heard = []
        for number in range(50):
            speaks.say(str(number))
            heard.append(speaks.receive())
        assert lines(process.communicate(timeout=SECONDS_MAX)[0]) == heard and process.returncode == 0
    for end, why in ((("kick", "tapped", "operator", "--reason", "Enough"), "Enough"), (("room", "delete", "tapped"), "")):
        with tap(server, room) as process:
            do(server, *end)
            _, said = process.communicate(timeout=SECONDS_MAX)
            assert process.returncode == 1 and "the server closed the connection" in said and why in said


def test_a_viewer_cannot_drive_the_terminal(server):
    room = do(server, "room", "create", "hostile").strip()
    speaks = viewer(server, room, "ann\x1b]0;owned\x07")
    process = subprocess.Popen(
        [BINARY, "tap", room, "--count", "1", "--data-dir", str(server.data_dir)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    until(lambda: viewers_of(server, room) == 2)
    speaks.say("a\x1b[2Jb\u009b31mc\u202ed\ne", Attributes={"k": "\x1b[H"})
    shown, _ = process.communicate(timeout=SECONDS_MAX)
    assert shown.count("\n") == 1 and re.search(r"ann.*: a.\[2Jb.31mc.d.e", shown), shown
    assert not [letter for letter in shown[:-1] if ord(letter) < 32 or letter in "\x7f\x9b\u202e"], shown
    named = do(server, "room", "show", room, "--viewers", "20")
    assert "\x1b" not in named and "\x07" not in named


def test_a_tap_that_stands_still_costs_the_room_nothing(server):
    """Goal: viewers hear every message though the terminal takes none, and the tap says how many it left out. Method:
    nobody reads its output for 20,000 messages; then everything is read: shown and left out make the whole."""
    room, count = do(server, "room", "create", "flood", "--rate", "100").strip(), 20_000
    speaks = viewer(server, room)
    with tap(server, room) as process:
        for start in range(0, count, 500):
            for number in range(start, start + 500):
                speaks.say(str(number))
            heard = [speaks.receive()["Content"] for _ in range(500)]
            assert heard == [str(number) for number in range(start, start + 500)]
        told, shown = 0, []
        do(server, "event", room, "end")
        for line in process.stdout:
            frame = json.loads(line)
            if frame["Type"] == "LEFT_OUT":
                told += frame["Count"]
            elif frame["Type"] == "EVENT":
                break
            else:
                shown.append(int(frame["Content"]))
            if shown and told and len(shown) + told == count:
                break
        assert told > 0 and shown == sorted(set(shown)) and len(shown) + told <= count + 1


def test_a_tap_survives_an_upgrade():
    """Goal: a member that came by the admin socket is handed over as any viewer is."""
    with Server() as server:
        room = do(server, "room", "create", "kept").strip()
        with tap(server, room, "--count", "2") as process:
            do(server, "send", room, "before")
            assert server.upgrade().viewers == 1
            do(server, "send", room, "after")
            shown = lines(process.communicate(timeout=SECONDS_MAX)[0])
            assert [frame["Content"] for frame in shown] == ["before", "after"]


def test_stats_count(server):
    room = do(server, "room", "create", "counted").strip()
    before = json.loads(do(server, "stats", "--json"))
    members = [viewer(server, room, f"u{number}") for number in range(3)]
    for number in range(10):
        members[0].say(str(number))
        for member in members:
            member.receive()
    members[0].say("x" * 501)
    assert members[0].receive()["ErrorCode"] == 400
    after = json.loads(do(server, "stats", "--json"))
    grown = {key: after["totals"][key] - before["totals"][key] for key in after["totals"]}
    assert (grown["opened"], grown["received"], grown["delivered"], grown["refused"]) == (3, 10, 30, 1)
    assert after["viewers"] == before["viewers"] + 3 and after["pid"] == server.process.pid
    assert sum(shard["connections"] for shard in after["shards"]) >= 3 and len(after["shards"]) == 2
    assert after["cluster"] is None and after["state"] == "serving" and after["memory"]["resident"] > 1e6
    assert sum(after["fanout"]["counts"]) > sum(before["fanout"]["counts"])
    assert f"pid {server.process.pid}" in do(server, "stats").splitlines()
    for member in members:
        member.close()
    until(lambda: json.loads(do(server, "stats", "--json"))["viewers"] == before["viewers"])


def test_top_for_scripts(server):
    room = do(server, "room", "create", "top-room").strip()
    member = viewer(server, room)
    picture = do(server, "top", "--once")
    assert "\x1b" not in picture and all(len(line) <= 80 for line in picture.splitlines())
    for part in (f"process {server.process.pid}", "serving, ready", "viewers", "shard 1", "top-room", "memory"):
        assert part in picture, picture
    (look,) = lines(do(server, "top", "--once", "--json"))
    assert look["rates"]["delivered"] >= 0 and look["by_viewers"][0]["viewers"] >= 1
    assert "--once prints one picture" in refused(server, "top", code=2), "no terminal"
    member.close()


@pytest.mark.parametrize("end", ["q", "\x03", signal.SIGTERM, signal.SIGINT])
def test_top_leaves_the_terminal_as_it_was(server, end):
    """Goal: whatever ends it, the terminal's modes and its screen are as before. Method: a terminal of our own."""
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    process = subprocess.Popen(
        [BINARY, "top", "--data-dir", str(server.data_dir)], stdin=theirs, stdout=theirs, stderr=subprocess.PIPE
    )
    shown = b""
    while b"memory" not in shown:
        assert select.select([ours], [], [], SECONDS_MAX)[0], shown
        shown += os.read(ours, 65536)
    assert termios.tcgetattr(theirs) != before, "it is ours"
    if isinstance(end, str):
        os.write(ours, end.encode())
    else:
        process.send_signal(end)
    assert process.wait(SECONDS_MAX) == 0, process.stderr.read()
    while select.select([ours], [], [], 0.1)[0]:
        shown += os.read(ours, 65536)
    assert termios.tcgetattr(theirs) == before
    assert shown.startswith(b"\x1b[?1049h\x1b[?25l") and shown.endswith(b"\x1b[?25h\x1b[?1049l")
    os.close(ours)
    os.close(theirs)


def test_top_says_when_the_server_ends():
    """Goal: the terminal is given back before the reason is told."""
    with Server() as server:
        ours, theirs = pty.openpty()
        before = termios.tcgetattr(theirs)
        process = subprocess.Popen(
            [BINARY, "top", "--data-dir", str(server.data_dir)], stdin=theirs, stdout=theirs, stderr=subprocess.PIPE
        )
        os.read(ours, 100)
        server.kill()
        _, said = process.communicate(timeout=SECONDS_MAX)
        assert process.returncode == 1 and said, said
        assert termios.tcgetattr(theirs) == before
        os.close(ours)
        os.close(theirs)


def test_an_operator_works_beside_a_drain():
    """Goal: during a drain the operator still sees and speaks. Method: a drain of a minute."""
    with Server() as server:
        room = do(server, "room", "create", "draining").strip()
        members = [viewer(server, room, f"u{number}") for number in range(3)]
        do(server, "drain", "--over", "60", "--notice", "0")
        until(lambda: json.loads(do(server, "stats", "--json"))["state"] == "cutting")
        last = members[-1]
        do(server, "event", room, "leaving")
        assert last.receive_until(lambda frame: frame.get("EventName") == "leaving")
        assert "cutting" in do(server, "top", "--once")
        do(server, "drain", "--cancel")
        until(lambda: json.loads(do(server, "stats", "--json"))["state"] == "serving")


@pytest.mark.parametrize(
    ("order", "code", "said"),
    [
        ({"order": "rooms", "count": 0}, "refused", "1 to 50"),
        ({"order": "rooms", "by": "viewers", "count": 101}, "refused", "1 to 100"),
        ({"order": "rooms", "by": "rate", "token": "x"}, "refused", "without `by`"),
        ({"order": "rooms", "token": "AAAA"}, "refused", "nextToken"),
        ({"order": "rooms", "count": -1}, "malformed", ""),
        ({"order": "rooms", "by": "id"}, "malformed", "viewers"),
        ({"order": "room", "room": "lobby", "viewers": 21}, "refused", "20"),
        ({"order": "room"}, "malformed", "room"),
        ({"order": "room", "room": "x" * 60_000}, "refused", "no room"),
        ({"order": "call", "operation": "ListTagsForResource"}, "refused", "CreateRoom"),
        ({"order": "call", "operation": "Shutdown"}, "refused", "CreateRoom"),
        ({"order": "call", "operation": "CreateRoom", "input": []}, "malformed", ""),
        ({"order": "call", "operation": "CreateRoom", "input": {"name": 1}}, "refused", "name"),
        ({"order": "call", "operation": "GetRoom", "input": {}}, "refused", "identifier"),
        ({"order": "join", "room": "lobby"}, "malformed", "user"),
        ({"order": "join", "room": "lobby", "user": "a", "capabilities": ["ROOT"]}, "refused", "capabilities"),
        ({"order": "join", "room": "lobby", "user": "a", "attributes": {"a": 1}}, "refused", "attributes"),
        ({"order": "join", "room": "lobby", "user": "a", "attributes": {"a": "x" * 2000}}, "refused", "ttributes"),
        ({"order": "stats", "verbose": True}, "malformed", "verbose"),
    ],
)
def test_hostile_orders_are_refused(server, order, code, said):
    with admin(server) as connection:
        refusal = connection.ask(order)["error"]
        assert refusal["code"] == code and said in refusal["message"], refusal


def test_a_member_by_the_socket_alone(server):
    """Goal: another language can be a member: the descriptor comes with the answer, and what is said on it is judged
    as a viewer's. Method: the bare protocol."""
    with admin(server) as connection:
        connection.socket.send(json.dumps({"order": "join", "room": "lobby", "user": "raw"}).encode())
        answer, (descriptor,), _, _ = socket.recv_fds(connection.socket, 65536, 1)
        assert json.loads(answer)["ok"]["name"] == "lobby"
        assert connection.socket.recv(1) == b"", "the order's connection ends"
    with socket.socket(fileno=descriptor) as member:
        member.settimeout(SECONDS_MAX)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += member.recv(1)
        assert head.startswith(b"HTTP/1.1 101 ")
        # Unmasked: no client may send that.
        member.send(b"\x81\x02hi")
        rest = b""
        while part := member.recv(65536):
            rest += part
        assert rest[:1] == b"\x88", "a Close frame"


def test_descriptors_of_members_come_back(server):
    """Goal: joins that nobody follows leave nothing behind. Method: commands that take their descriptor and go, and
    some that go before the answer."""
    until(lambda: viewers_of(server, "lobby") == 0)
    before = server.descriptors()
    for number in range(60):
        with admin(server) as connection:
            connection.socket.send(json.dumps({"order": "join", "room": "lobby", "user": "raw"}).encode())
            if number % 2:
                _, taken, _, _ = socket.recv_fds(connection.socket, 65536, 1)
                [os.close(descriptor) for descriptor in array.array("i", taken)]
    until(lambda: viewers_of(server, "lobby") == 0 and server.descriptors() <= before)


def test_many_at_once(server):
    """Goal: orders of many commands at once are all answered, or refused as busy."""
    running = [
        subprocess.Popen(
            [BINARY, "room", "list", "--json", "--data-dir", str(server.data_dir)],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(24)
    ]  # fmt: skip
    for process in running:
        _, said = process.communicate(timeout=SECONDS_MAX)
        assert process.returncode == 0 or "16 commands are connected" in said, said
    assert command("health", server).returncode == 0


