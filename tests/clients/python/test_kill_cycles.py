"""Nothing acknowledged is lost and nothing is half-written, wherever the process is killed.

`UPROAR_KILL_CYCLES` says how often (default 24; a night is a few thousand).
"""

from __future__ import annotations

import os
import random
import threading
import time
from dataclasses import dataclass, field

from botocore.exceptions import BotoCoreError, ClientError

from uproar import Server

CYCLES = int(os.environ.get("UPROAR_KILL_CYCLES", "24"))
WRITERS = 4
SEED = 20_260_101
GONE = None


def shape(version: int) -> dict:
    """What one write sets; a half-written room would show parts of two versions."""
    return {
        "name": f"v{version}",
        "maximumMessageLength": version % 500 + 1,
        "maximumMessageRatePerSecond": version % 100 + 1,
    }


@dataclass
class Known:
    """What a writer may find of its rooms: by ARN, every version that is possible."""

    rooms: dict[str, list] = field(default_factory=dict)
    # Versions of creations nobody answered.
    unanswered: list[int] = field(default_factory=list)
    tags: dict[str, list] = field(default_factory=dict)


def write(client, known: Known, choices: random.Random, stop: threading.Event) -> None:
    """Creates, changes, tags and deletes rooms, one call at a time, until the server is gone."""
    while not stop.is_set():
        version = choices.randrange(1, 10**9)
        arns = [arn for arn, states in known.rooms.items() if states != [GONE]]
        action = choices.choice(["create", "update", "update", "tag", "delete"])
        if not arns or len(arns) < 3:
            action = "create"
        arn = choices.choice(arns) if action != "create" else None
        try:
            if action == "create":
                known.unanswered.append(version)
                made = client.create_room(**shape(version))["arn"]
                known.unanswered.remove(version)
                known.rooms[made] = [version]
            elif action == "update":
                known.rooms[arn].append(version)
                client.update_room(identifier=arn, **shape(version))
                known.rooms[arn] = [version]
            elif action == "tag":
                known.tags.setdefault(arn, [GONE]).append(str(version))
                client.tag_resource(resourceArn=arn, tags={"v": str(version)})
                known.tags[arn] = [str(version)]
            else:
                known.rooms[arn].append(GONE)
                client.delete_room(identifier=arn)
                known.rooms[arn] = [GONE]
        except (BotoCoreError, ClientError) as error:
            assert not isinstance(error, ClientError), f"a refusal: {error}"
            return


def every_room(client) -> dict[str, dict]:
    found, token = {}, None
    for _ in range(10_000):
        page = client.list_rooms(**({"nextToken": token} if token else {}))
        found |= {room["arn"]: room for room in page["rooms"]}
        token = page.get("nextToken")
        if not token:
            return found
    raise AssertionError("the listing does not end")


def verify(client, writers: list[Known]) -> int:
    """Every room is whole and one that may be; settles what was open. How many writes were open."""
    found = every_room(client)
    found = {arn: room for arn, room in found.items() if room["name"] != "lobby"}
    open_writes = 0
    for known in writers:
        for arn, states in known.rooms.items():
            open_writes += len(states) > 1
            if arn not in found:
                assert GONE in states, f"{arn} was acknowledged as {states} and is lost"
                known.rooms[arn] = [GONE]
                continue
            room = client.get_room(identifier=arn)
            version = int(room["name"][1:])
            assert {name: room[name] for name in shape(version)} == shape(version), room
            assert version in states, f"{arn} is {version}, not one of {states}"
            known.rooms[arn] = [version]
            if arn in known.tags:
                tag = room["tags"].get("v")
                assert tag in known.tags[arn], f"{arn} has tag {tag}, not one of {known.tags[arn]}"
                known.tags[arn] = [tag]
    ours = {arn for known in writers for arn in known.rooms}
    unanswered = {version for known in writers for version in known.unanswered}
    for arn in found.keys() - ours:
        room = client.get_room(identifier=arn)
        version = int(room["name"][1:])
        assert version in unanswered, f"{arn} was never asked for"
        assert {name: room[name] for name in shape(version)} == shape(version), room
        writers[0].rooms[arn] = [version]
    for known in writers:
        open_writes += len(known.unanswered)
        known.unanswered.clear()
    return open_writes


def test_every_acknowledged_write_survives_every_kill(tmp_path):
    """Method: writers create, change, tag and delete; kill under them; look; again, on one directory."""
    choices = random.Random(SEED)
    writers = [Known() for _ in range(WRITERS)]
    open_writes = answered = 0
    for cycle in range(CYCLES):
        server = Server(tmp_path).start()
        try:
            open_writes += verify(server.boto(), writers)
            stop = threading.Event()
            threads = [
                threading.Thread(
                    target=write,
                    args=(server.boto(), known, random.Random(choices.random()), stop),
                )
                for known in writers
            ]
            for thread in threads:
                thread.start()
            time.sleep(choices.uniform(0.02, 0.3))
        finally:
            server.kill()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
        stop.set()
        answered = sum(len(known.rooms) for known in writers)
        assert "panicked" not in server.log(), f"cycle {cycle}:\n{server.log()}"
    with Server(tmp_path) as server:
        open_writes += verify(server.boto(), writers)
    assert answered > CYCLES, f"{answered} rooms in {CYCLES} cycles: the writers got nowhere"
    assert open_writes > CYCLES // 2, f"{open_writes} kills hit a write: the case is not covered"
