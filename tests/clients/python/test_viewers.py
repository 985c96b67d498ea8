"""How many are in a room: the event of a tagged room, GetRoomStats, ListActiveRooms, ListRoomUsers."""

from __future__ import annotations

import json
import re
import subprocess

from aws import eventually, logging_environment
from doc_pages import blocks
from rawws import WebSocket
from test_chat_logging import configuration
from test_chat_modes import MODULES
from test_extensions import hears_nothing_else, join
from test_server_speaks import api, fields, refused
from uproar import REPOSITORY, Server


def is_count(frame: dict) -> bool:
    return frame.get("EventName") == "uproar:viewers"


def counted(socket: WebSocket, count: int) -> dict:
    """The next event that says so many; earlier numbers are passed over."""
    wanted = lambda frame: is_count(frame) and frame["Attributes"]["Count"] == str(count)
    return socket.receive_until(wanted)[0]


def tagged(boto, seconds: int = 1, **tags: str) -> str:
    return boto.create_room(tags={"uproar:viewers": str(seconds), "uproar:state": "off", **tags})["arn"]


def test_members_are_told_how_many_they_are(server, boto):
    room = tagged(boto)
    alice = join(server, room, "alice")
    frame = counted(alice, 1)
    assert list(frame) == ["Type", "Id", "RequestId", "EventName", "Attributes", "SendTime"]
    assert (frame["Type"], frame["RequestId"]) == ("EVENT", "")
    assert frame["Attributes"] == {"Count": "1", "Peak": "1", "Joined": "1", "Left": "0"}
    bobs = [join(server, room, "bob") for _ in range(2)]
    joined, frame = 0, {"Attributes": {"Count": ""}}
    while frame["Attributes"]["Count"] != "3":
        frame = alice.receive_until(is_count)[0]
        joined += int(frame["Attributes"]["Joined"])
    assert joined == 2 and frame["Attributes"]["Peak"] == "3"
    overlay = join(server, room, "overlay", attributes={"uproar:hidden": "1"})
    counted(overlay, 3)
    bobs[0].reset()
    frame = counted(alice, 2)
    assert (frame["Attributes"]["Peak"], frame["Attributes"]["Left"]) == ("3", "1")


def test_stats_have_what_is_asked_for(server, boto, room):
    client = api(server)
    assert counts(client, room) == (0, 0, 0, 0)
    assert "peakTime" not in client.get_room_stats(roomIdentifier=room)
    alice = join(server, room, "alice")
    bobs = [join(server, room, "bob") for _ in range(3)]
    overlay = join(server, room, "overlay", attributes={"uproar:hidden": "1"})
    assert counts(client, room) == (4, 5, 2, 4)
    bobs.pop().reset()
    while counts(client, room) != (3, 4, 2, 4):
        pass
    assert alice.say("x")
    for socket in (alice, overlay):
        socket.receive_until(lambda frame: frame["Type"] == "MESSAGE")
    assert client.get_room_stats(roomIdentifier=room)["messagesPerSecond"] > 0
    hears_nothing_else(alice, overlay)


def counts(client, room: str) -> tuple[int, ...]:
    stats = client.get_room_stats(roomIdentifier=room)
    return tuple(stats[name] for name in ("viewers", "connections", "uniqueUsers", "peak"))


def test_an_event_counts_for_no_rate_and_no_log(server, boto):
    room = tagged(boto)
    alice = join(server, room, "alice")
    counted(alice, 1)
    assert api(server).get_room_stats(roomIdentifier=room)["messagesPerSecond"] == 0


def test_users_of_a_room_page_by_page(server, room):
    client = api(server)
    names = ["a\"b", "élan", "x" * 128, *(f"user{n:02}" for n in range(7))]
    sockets = [join(server, room, name, attributes={"n": name[:9]}) for name in names]
    sockets.append(join(server, room, "user03", attributes={"n": "again"}))
    sockets.append(join(server, room, "overlay", attributes={"uproar:hidden": "1"}))
    found, token = [], {}
    while True:
        page = client.list_room_users(roomIdentifier=room, maxResults=3, **token)
        assert len(page["users"]) <= 3
        found += page["users"]
        if "nextToken" not in page:
            break
        token = {"nextToken": page["nextToken"]}
    assert [user["userId"] for user in found] == sorted(names, key=lambda name: name.encode())
    for user in found:
        assert user["attributes"] == {"n": user["userId"][:9]}
        assert user["connections"] == (2 if user["userId"] == "user03" else 1)
        assert user["since"].year >= 2025
    for arguments, field in [({"maxResults": 101}, "maxResults"), ({"nextToken": "*"}, "nextToken")]:
        status, _, answer = refused(client.list_room_users, roomIdentifier=room, **arguments)
        assert (status, fields(answer)) == (400, [field])


def test_active_rooms_come_by_viewers(tmp_path):
    with Server() as server:
        client, boto = api(server), server.boto()
        assert client.list_active_rooms()["rooms"] == []
        rooms = [boto.create_room()["arn"] for _ in range(5)]
        sockets = [join(server, room, f"u{n}") for size, room in enumerate(rooms) for n in range(size)]
        found, token = [], {}
        while True:
            page = client.list_active_rooms(maxResults=2, **token)
            found += [(room["arn"], room["viewers"], room["connections"]) for room in page["rooms"]]
            if "nextToken" not in page:
                break
            token = {"nextToken": page["nextToken"]}
        assert found == [(rooms[size], size, size) for size in (4, 3, 2, 1)]
        assert all(socket.say("x") for socket in sockets)


def test_an_unknown_room_has_no_list(server, room):
    ghost = room[:-4] + "zzzz"
    for call in (api(server).list_room_users, api(server).get_room_stats):
        assert refused(call, roomIdentifier=ghost)[0] == 404


def test_untagged_rooms_hear_nothing(server, boto, room):
    watched = tagged(boto)
    alice, bob, mark = join(server, room, "alice"), join(server, room, "bob"), join(server, watched, "mark")
    counted(mark, 1)
    other = join(server, watched, "other")
    counted(other, 2)
    hears_nothing_else(alice, bob)


def test_the_sums_go_on_over_an_upgrade():
    """Goal: who comes and goes around an upgrade is in the sums once, whichever process tells."""
    with Server() as server:
        room = tagged(server.boto())
        alice = join(server, room, "alice")
        counted(alice, 1)
        for _ in range(3):
            bobs = [join(server, room, "bob") for _ in range(3)]
            server.upgrade()
            joined, frame = 0, {"Attributes": {"Count": ""}}
            while frame["Attributes"]["Count"] != "4":
                frame = alice.receive_until(is_count)[0]
                joined += int(frame["Attributes"]["Joined"])
            assert joined == 3
            for bob in bobs:
                bob.reset()
            server.upgrade()
            left = 0
            while frame["Attributes"]["Count"] != "1":
                frame = alice.receive_until(is_count)[0]
                left += int(frame["Attributes"]["Left"])
            assert left == 3


def test_an_upgrade_keeps_peak_and_counts():
    with Server() as server:
        room = tagged(server.boto())
        alice = join(server, room, "alice")
        bobs = [join(server, room, "bob") for _ in range(3)]
        overlay = join(server, room, "overlay", attributes={"uproar:hidden": "1"})
        counted(alice, 4)
        bobs.pop().reset()
        counted(alice, 3)
        before = api(server).get_room_stats(roomIdentifier=room)
        users = api(server).list_room_users(roomIdentifier=room)["users"]
        server.upgrade()
        after = api(server).get_room_stats(roomIdentifier=room)
        assert counts(api(server), room) == (3, 4, 2, 4)
        assert after["peakTime"] == before["peakTime"]
        for one, other in zip(users, api(server).list_room_users(roomIdentifier=room)["users"], strict=True):
            assert abs((one.pop("since") - other.pop("since")).total_seconds()) < 5
            assert one == other
        frame = overlay.receive_until(lambda frame: is_count(frame) and frame["Attributes"]["Joined"] == "0")[0]
        assert frame["Attributes"]["Count"] == "3"
        bobs.pop().reset()
        counted(alice, 2)


def test_the_pages_client_shows_the_number(server, boto, tmp_path):
    """Goal: the client code of docs/features.md does what it says, with the official client."""
    pages = [block for block in blocks(REPOSITORY / "docs" / "features.md") if block.argument == "test_viewers.py"]
    assert len(pages) == 1
    room = tagged(boto)
    other = join(server, room, "other")
    (tmp_path / "node_modules").symlink_to(MODULES)
    (tmp_path / "viewers.mjs").write_text(pages[0].text)
    script = tmp_path / "run.mjs"
    script.write_text(
        'import { ChatRoom } from "amazon-ivs-chat-messaging";\n'
        'import { WebSocket } from "ws";\n'
        'import { showViewers } from "./viewers.mjs";\n'
        "globalThis.WebSocket = WebSocket;\n"
        "const [url, token] = process.argv.slice(2);\n"
        "const room = new ChatRoom({ regionOrUrl: url, tokenProvider: async () => ({ token }) });\n"
        "showViewers(room, (line) => { console.log('shown:', line); if (line.startsWith('1')) return; room.disconnect(); });\n"
        "room.connect();\n"
    )
    url = f"ws://127.0.0.1:{server.messaging_port}"
    done = subprocess.run(
        ["node", str(script), url, server.token(room, "alice")], capture_output=True, text=True, timeout=120, cwd=tmp_path,
    )
    assert re.findall("(?m)^shown: (.*)$", done.stdout)[-1] == "2 watching, 2 at most", done
    counted(other, 1)


def test_the_chat_log_has_no_numbers(tmp_path):
    """Goal: what was said is in the log, the numbers told between are not."""
    logs = tmp_path / "chat-logs"
    with Server(tmp_path / "data", quotas="open", wrapper=logging_environment(None, directory=logs)) as server:
        boto = server.boto_cached
        arns = configuration(boto, "firehose")
        room = boto.create_room(loggingConfigurationIdentifiers=arns, tags={"uproar:viewers": "1"})["arn"]
        alice = join(server, room, "alice")
        counted(alice, 1)
        bob = join(server, room, "bob")
        counted(bob, 2)
        assert alice.say("said")
        alice.receive_until(lambda frame: frame.get("Content") == "said")

        def logged() -> list[dict]:
            lines = [line for path in logs.glob("firehose/*/*.jsonl") for line in path.read_text().splitlines()]
            return [json.loads(line)["payload"] for line in lines]

        found = eventually(logged, lambda found: any(frame.get("Content") == "said" for frame in found))
        assert not any(is_count(frame) for frame in found)
