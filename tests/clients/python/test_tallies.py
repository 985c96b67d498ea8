"""Tallies and reactions: back ends ask by boto3, raw members vote. Members are spread over both shards."""

from __future__ import annotations

import gzip
import itertools
import json
import re
import subprocess
import time

import pytest

from aws import eventually
from doc_pages import MODULES, blocks
from rawws import WebSocket
from test_server_speaks import api, fields, refused
from uproar import REPOSITORY, Server

MARK = itertools.count()
SEND = ["SEND_MESSAGE"]
ON = {"uproar:state": "on"}
# Longer than any test takes.
LONG = 3600


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    file = tmp_path_factory.mktemp("tallies") / "uproar.toml"
    file.write_text("[delivery]\nspread_members = 1\n")
    with Server(extra=("--config", str(file))) as server:
        yield server


def room(server, tags: dict[str, str] = ON) -> str:
    return server.boto_cached.create_room(tags=tags)["arn"]


def join(server, arn: str, user: str, capabilities=SEND, **attributes: str) -> WebSocket:
    ours = {f"uproar:{name}": value for name, value in attributes.items()}
    return WebSocket(server.messaging_port, server.token(arn, user, capabilities, attributes=ours))


def ask(socket: WebSocket, do: str, **arguments: str) -> str:
    """A mark to be found in the answer."""
    mark = f"r{next(MARK)}"
    ours = {f"uproar:{name}": value for name, value in arguments.items()}
    assert socket.say(do, mark, Attributes={"uproar:do": do, **ours})
    return mark


def answer_to(socket: WebSocket, mark: str) -> str:
    answer = socket.receive_until(lambda frame: frame.get("RequestId") == mark)[0]
    if answer["Type"] == "ERROR":
        return f"{answer['ErrorCode']} {answer['ErrorMessage']}"
    assert answer["Attributes"]["uproar:private"] == "1" and answer["Attributes"]["uproar:result"] == "ok"
    return answer["Content"]


def command(socket: WebSocket, do: str, **arguments: str) -> str:
    return answer_to(socket, ask(socket, do, **arguments))


def vote(socket: WebSocket, option, tally: str = "p1") -> str:
    return command(socket, "vote", tally=tally, option=str(option))


def react(socket: WebSocket, key: str, n) -> str:
    return command(socket, "react", key=key, n=str(n))


def start(client, arn: str, id: str = "p1", seconds: int = LONG, options=("Red", "Blue"), **rest) -> dict:
    return client.start_tally(
        roomIdentifier=arn, id=id, question="Who wins?", options=list(options), seconds=seconds, **rest
    )


def next_event(socket: WebSocket, name: str = "uproar:tally", **attributes: str) -> dict:
    def is_wanted(frame: dict) -> bool:
        found = frame.get("Attributes") or {}
        return frame.get("EventName") == name and all(found.get(key) == value for key, value in attributes.items())

    return socket.receive_until(is_wanted)[0]["Attributes"]


def figure(server, name: str, label: str = "") -> float:
    found = re.findall(rf"(?m)^uproar_{name}{re.escape(label)} (\S+)$", server.metrics())
    assert len(found) == 1, (name, label)
    return float(found[0])


def test_a_hundred_vote_twice_and_all_see_the_counts(server):
    """Goal: one vote a user id, whatever the connection and the shard; who watches sees the beginning, the counts and the
    last event, and no vote as a message."""
    client, arn = api(server), room(server)
    open_before, voters_before = figure(server, "tallies_open"), figure(server, "tally_voters")
    watchers = [join(server, arn, f"watcher{number}") for number in range(3)]
    started = start(client, arn)
    assert (started["state"], started["counts"], started["total"]) == ("open", [0, 0], 0)
    voters = [join(server, arn, f"voter{number}") for number in range(100)]
    for voter in voters:
        first = voter.receive_until(lambda frame: frame["Type"] == "EVENT" and frame["EventName"] != "uproar:room")[0]
        assert (first["EventName"], first["Attributes"]["Id"]) == ("uproar:tally", "p1"), "a late joiner is told"
    marks = [(voter, ask(voter, "vote", tally="p1", option=str(1 + number % 2))) for number, voter in enumerate(voters)]
    assert {answer_to(voter, mark) for voter, mark in marks} == {"vote counted"}
    marks = [(voter, ask(voter, "vote", tally="p1", option="1")) for voter in voters]
    assert {answer_to(voter, mark) for voter, mark in marks} == {"403 already voted"}
    assert vote(join(server, arn, "voter7"), 1) == "403 already voted"
    assert (figure(server, "tallies_open"), figure(server, "tally_voters")) == (open_before + 1, voters_before + 100)
    ended = client.stop_tally(roomIdentifier=arn, id="p1")
    assert (ended["state"], ended["counts"], ended["total"]) == ("closed", [50, 50], 100)
    for watcher in watchers:
        last, before = watcher.receive_until(lambda frame: (frame.get("Attributes") or {}).get("State") == "closed")
        assert last["Attributes"]["Counts"] == "[50,50]" and last["Attributes"]["Total"] == "100"
        assert json.loads(last["Attributes"]["Options"]) == ["Red", "Blue"]
        assert [frame["EventName"] for frame in before] == ["uproar:room"] + ["uproar:tally"] * (len(before) - 1)
        totals = [int(frame["Attributes"]["Total"]) for frame in before[1:]]
        assert totals[0] == 0 and totals == sorted(set(totals)), "once for each change"
    assert vote(voters[0], 1) == "404 no tally of this id is open here"
    eventually(lambda: figure(server, "tally_voters"), lambda voters: voters == voters_before)
    assert client.get_tally(roomIdentifier=arn, id="p1") | {"ResponseMetadata": 0} == ended | {"ResponseMetadata": 0}
    late = join(server, arn, "late")
    assert late.receive()["EventName"] == "uproar:room"
    assert late.say("hello", "r")
    assert late.receive()["RequestId"] == "r", "an ended tally is not told"


def test_a_tally_ends_by_itself_and_the_last_event_is_urgent(server):
    client, arn = api(server), room(server)
    watcher = join(server, arn, "watcher")
    began = time.monotonic()
    start(client, arn, seconds=2)
    assert next_event(watcher)["State"] == "open"
    assert vote(watcher, 2) == "vote counted"
    assert next_event(watcher, State="closed")["Counts"] == "[0,1]"
    assert 1.9 <= time.monotonic() - began
    assert client.get_tally(roomIdentifier=arn, id="p1")["state"] == "closed"
    start(client, arn, seconds=LONG)
    assert next_event(watcher)["Counts"] == "[0,0]", "the id is free again"


def test_roles_and_changes(server):
    client, arn = api(server), room(server)
    start(client, arn, roles=["sub", "vip"], change=True, options=("a", "b", "c"))
    plain, sub = join(server, arn, "plain"), join(server, arn, "sub", role="sub")
    assert vote(plain, 1) == "403 the tally is open to: sub, vip"
    assert [vote(sub, 1), vote(sub, 3), vote(sub, 3)] == ["vote counted", "vote changed", "vote changed"]
    assert client.get_tally(roomIdentifier=arn, id="p1")["counts"] == [0, 0, 1]


def test_wrong_votes(server):
    client, arn = api(server), room(server)
    start(client, arn)
    members = [join(server, arn, f"m{number}") for number in range(4)]
    before = {name: figure(server, "tally_votes_total", f'{{result="{name}"}}') for name in ("option", "closed")}
    for member in members:
        for option in ("0", "3", "255"):
            assert vote(member, option) == "400 uproar:option must be an integer from 1 to 2"
        for option in ("256", "-1", "+1", "", "1.0", "²"):
            assert vote(member, option) == "400 uproar:option must be the number of an option, from 1"
        assert vote(member, 1, tally="p2") == "404 no tally of this id is open here"
        assert vote(member, 1, tally="p 1") == "400 uproar:tally must be the id of a tally"
    assert figure(server, "tally_votes_total", '{result="option"}') == before["option"] + 12
    assert figure(server, "tally_votes_total", '{result="closed"}') == before["closed"] + 4
    assert client.get_tally(roomIdentifier=arn, id="p1")["total"] == 0


def test_what_is_wrong_with_a_call_is_named(server):
    client, arn = api(server), room(server)
    good = {"roomIdentifier": arn, "id": "p", "question": "q", "options": ["a", "b"], "seconds": 60}
    for wrong, names in [
        ({"id": ""}, ["id"]), ({"id": "a b"}, ["id"]), ({"id": "x" * 33}, ["id"]), ({"question": ""}, ["question"]),
        ({"options": ["a"]}, ["options"]), ({"options": ["a"] * 11}, ["options"]), ({"options": ["a", ""]}, ["options"]),
        ({"options": ["a", 7]}, ["options"]), ({"seconds": 0}, ["seconds"]), ({"seconds": 86_401}, ["seconds"]),
        ({"roles": ["a b"]}, ["roles"]), ({"change": "yes"}, ["change"]), ({"question": "q" * 1024}, ["question"]),
        ({"options": ["ö" * 300, "b" * 424]}, ["question"]), ({"id": None, "seconds": None}, ["id", "seconds"]),
    ]:
        arguments = {key: value for key, value in (good | wrong).items() if value is not None}
        status, code, answer = refused(client.start_tally, **arguments)
        assert (status, code) == (400, "ValidationException") and fields(answer) == names, (wrong, answer)
    assert client.start_tally(**good | {"options": ["ö" * 300, "b" * 423]})["state"] == "open", "1 KB in all"
    assert refused(client.start_tally, **good)[:2] == (409, "ConflictException")
    for number in range(3):
        client.start_tally(**good | {"id": f"p{number}"})
    status, code, answer = refused(client.start_tally, **good | {"id": "fifth"})
    assert (status, code, answer["limit"]) == (402, "ServiceQuotaExceededException", 4)
    for call in (client.get_tally, client.stop_tally):
        status, code, answer = refused(call, roomIdentifier=arn, id="none")
        assert (status, code, answer["resourceId"]) == (404, "ResourceNotFoundException", "none")
    assert refused(client.get_tally, roomIdentifier=arn[:-4] + "zzzz", id="p")[0] == 404
    plain = server.boto_cached.create_room()["arn"]
    status, code, answer = refused(client.start_tally, **good | {"roomIdentifier": plain})
    assert (status, code) == (409, "ConflictException") and "uproar:state=on" in answer["message"]


def test_options_are_texts_whatever_they_look_like(server):
    client, arn = api(server), room(server)
    watcher = join(server, arn, "watcher")
    tricky = ['","Total":"9', "[1,2]", '\u0001\\"', "}", "<b>&"]
    assert start(client, arn, options=tricky)["options"] == tricky
    event = next_event(watcher)
    assert json.loads(event["Options"]) == tricky and event["Total"] == "0"
    assert vote(watcher, 4) == "vote counted"
    assert next_event(watcher)["Counts"] == "[0,0,0,1,0]"


def test_reactions_are_summed_and_nobody_hears_a_message(server):
    arn = room(server, {"uproar:reactions": "heart+fire", "uproar:reactions-ms": "1000"})
    members = [join(server, arn, f"m{number}") for number in range(6)]
    before = figure(server, "reactions_total")
    marks = [(member, ask(member, "react", key="heart", n="7")) for member in members]
    marks += [(member, ask(member, "react", key="fire", n="1")) for member in members[:2]]
    assert {answer_to(member, mark) for member, mark in marks} == {"counted"}
    watcher = join(server, arn, "watcher")
    for n in ("0", "51", "-1", "1e1", ""):
        assert react(watcher, "heart", n) == "400 uproar:n must be an integer from 1 to 50"
    assert react(watcher, "clap", 1) == "400 The room has no such reaction"
    assert react(watcher, "heart", 50) == "counted"
    assert figure(server, "reactions_total") == before + 6 * 7 + 2 + 50
    sums = {"heart": 0, "fire": 0}
    while sums != {"heart": 92, "fire": 2}:
        event, passed = members[0].receive_until(lambda frame: frame.get("EventName") == "uproar:reactions")
        assert all(frame["Type"] == "EVENT" for frame in passed)
        told = dict(event["Attributes"])
        assert told.pop("WindowMs") == "1000" and told
        for key, value in told.items():
            sums[key] += int(value)
            assert sums[key] <= 92
    assert members[0].say("mark", "mark")
    assert members[0].receive()["RequestId"] == "mark", "nothing came, so nothing is told"


def test_the_last_event_is_logged_and_no_other(tmp_path):
    file, target = tmp_path / "uproar.toml", tmp_path / "logs"
    target.mkdir()
    file.write_text(f'[extensions]\nenabled = true\n[logging]\ndirectory = "{target}"\nobject_seconds = 1\n')
    with Server(extra=("--config", str(file))) as server:
        boto, client = server.boto_cached, api(server)
        configuration = boto.create_logging_configuration(destinationConfiguration={"s3": {"bucketName": "chat-logs"}})
        tags = {"uproar:reactions": "heart", "uproar:reactions-ms": "250"}
        arn = boto.create_room(loggingConfigurationIdentifiers=[configuration["arn"]], tags=tags)["arn"]
        alice = join(server, arn, "alice")
        start(client, arn)
        assert next_event(alice)["State"] == "open"
        assert [react(alice, "heart", 1), vote(alice, 1)] == ["counted", "vote counted"]
        assert next_event(alice, "uproar:reactions")["heart"] == "1"
        client.stop_tally(roomIdentifier=arn, id="p1")
        assert alice.say("last", "last")

        def logged() -> list[dict]:
            objects = [gzip.decompress(path.read_bytes()) for path in sorted(target.rglob("*.gz"))]
            return [json.loads(line)["payload"] for one in objects for line in one.splitlines()]

        payloads = eventually(logged, lambda found: any(payload.get("Content") == "last" for payload in found))
        tallies = [payload["Attributes"] for payload in payloads if payload.get("EventName") == "uproar:tally"]
        assert [(told["State"], told["Counts"]) for told in tallies] == [("closed", "[1,0]")]
        assert len(payloads) == 2, payloads


def test_an_upgrade_carries_votes_and_a_crash_ends_the_tally():
    with Server() as server:
        client, arn = api(server), room(server, {"uproar:reactions": "heart"})
        start(client, arn)
        alice, bob = join(server, arn, "alice"), join(server, arn, "bob")
        assert vote(alice, 1) == "vote counted"
        ended = start(client, arn, id="before")
        client.stop_tally(roomIdentifier=arn, id="before")
        server.upgrade()
        client = api(server)
        assert vote(alice, 2) == "403 already voted"
        assert vote(join(server, arn, "alice"), 2) == "403 already voted"
        assert vote(bob, 2) == "vote counted"
        assert next_event(bob, Total="2")["Counts"] == "[1,1]"
        assert client.get_tally(roomIdentifier=arn, id="before")["question"] == ended["question"]
        late = join(server, arn, "late")
        assert next_event(late)["Id"] == "p1"
        server.kill()
        server.start()
        client = api(server)
        assert refused(client.get_tally, roomIdentifier=arn, id="p1")[0] == 404
        alice = join(server, arn, "alice")
        assert vote(alice, 1) == "404 no tally of this id is open here"
        start(client, arn)
        assert vote(alice, 1) == "vote counted"


def test_a_room_is_deleted_and_a_moderator_leaves_in_the_middle(server):
    client, arn = api(server), room(server)
    before = figure(server, "tally_voters")
    start(client, arn, seconds=1)
    mod = join(server, arn, "mod", [*SEND, "DELETE_MESSAGE"])
    assert vote(mod, 1) == "vote counted"
    mod.close()
    start(client, arn, id="p2")
    alice = join(server, arn, "alice")
    assert vote(alice, 1, tally="p2") == "vote counted"
    server.boto_cached.delete_room(identifier=arn)
    assert refused(client.get_tally, roomIdentifier=arn, id="p2")[0] == 404
    eventually(lambda: figure(server, "tally_voters"), lambda voters: voters == before)


def test_votes_raced_with_the_end_are_counted_or_refused(server):
    """Goal: the last event has exactly the votes that were answered as counted."""
    client, arn = api(server), room(server)
    voters = [join(server, arn, f"v{number}") for number in range(60)]
    watcher = join(server, arn, "watcher")
    start(client, arn, seconds=1)
    marks = []
    began = time.monotonic()
    for number, voter in enumerate(voters):
        time.sleep(max(0.0, began + number * 0.025 - time.monotonic()))
        marks.append((voter, ask(voter, "vote", tally="p1", option="1")))
    answers = [answer_to(voter, mark) for voter, mark in marks]
    counted = answers.count("vote counted")
    assert counted + answers.count("404 no tally of this id is open here") == len(voters)
    assert next_event(watcher, State="closed")["Total"] == str(counted)


def test_without_extensions_votes_are_messages(tmp_path):
    file = tmp_path / "uproar.toml"
    file.write_text("[extensions]\nenabled = false\n")
    with Server(extra=("--config", str(file))) as server:
        arn = room(server)
        alice, bob = join(server, arn, "alice"), join(server, arn, "bob")
        ask(alice, "vote", tally="p1", option="1")
        assert bob.receive()["Attributes"] == {"uproar:do": "vote", "uproar:tally": "p1", "uproar:option": "1"}


def test_the_pages_client_votes(server, tmp_path):
    """Goal: the client code of docs/features.md does what it says, with the official client."""
    pages = [block for block in blocks(REPOSITORY / "docs" / "features.md") if block.argument == "test_tallies.py"]
    back_end, page = pages
    arn = room(server, {"uproar:reactions": "heart"})
    client = api(server)
    exec(compile(back_end.text, "docs/features.md", "exec"), {"uproar": client, "room": arn})
    (tmp_path / "node_modules").symlink_to(MODULES)
    (tmp_path / "poll.mjs").write_text(page.text)
    script = tmp_path / "run.mjs"
    script.write_text(
        'import { ChatRoom } from "amazon-ivs-chat-messaging";\n'
        'import { WebSocket } from "ws";\n'
        'import { react, showTallies, vote } from "./poll.mjs";\n'
        "globalThis.WebSocket = WebSocket;\n"
        "const [url, token] = process.argv.slice(2);\n"
        "const room = new ChatRoom({ regionOrUrl: url, tokenProvider: async () => ({ token }) });\n"
        "showTallies(room, (line) => {\n"
        '  console.log("shown:", line);\n'
        '  if (line.endsWith("1 votes")) room.disconnect();\n'
        "});\n"
        'room.addListener("connect", async () => {\n'
        '  await react(room, "heart", 3);\n'
        '  await vote(room, "winner", 2);\n'
        "});\n"
        "room.connect();\n"
    )
    url = f"ws://127.0.0.1:{server.messaging_port}"
    done = subprocess.run(
        ["node", str(script), url, server.token(arn, "alice", SEND)],
        capture_output=True, text=True, timeout=120, cwd=tmp_path,
    )
    shown = re.findall("(?m)^shown: (.*)$", done.stdout)
    assert shown[0] == "Who wins? Red 0, Blue 0; 0 votes", done
    assert shown[-1] == "Who wins? Red 0, Blue 1; 1 votes", done
