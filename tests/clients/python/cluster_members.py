"""Official JavaScript chat clients among a trial's viewers: a process of Node, and what its clients heard against the log.

Each message that a client was told of must be the one behind the one before; one whose promise was kept must be in the
log; and nobody may have given up.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import threading
from pathlib import Path

from cluster_oracle import RoomLog
from configured import KEY
from uproar import BINARY

SCRIPT = Path(__file__).parents[1] / "node" / "cluster-members.mjs"
ANSWER_SECONDS_MAX = 240.0


class Members:
    """`count` official clients, dealt out over the rooms; they chat until `quiet`."""

    def __init__(self, viewers_port: int, api_port: int, rooms: list[str], count: int) -> None:
        node = shutil.which("node")
        assert node, "no Node.js: tests/run installs it"
        self.process = subprocess.Popen(
            [node, str(SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "UPROAR_BIN": str(BINARY)},
        )
        self.answers: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()
        key = {"accessKeyId": KEY[0], "secretAccessKey": KEY[1]}
        self.order({"viewers": viewers_port, "api": api_port, "key": key, "rooms": rooms, "count": count})

    def read(self) -> None:
        for line in self.process.stdout:
            self.answers.put(line)
        self.answers.put("")

    def order(self, words: object):
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()
        answer = self.answers.get(timeout=ANSWER_SECONDS_MAX)
        assert answer, f"the official clients ended: {self.process.wait(30)}"
        return json.loads(answer)

    def quiet(self) -> None:
        """They say nothing more, and all are connected."""
        self.order("quiet")

    def finish(self, order: dict[str, RoomLog]) -> list[str]:
        """What is wrong with what they heard."""
        last = {room: list(log.ids)[-1] for room, log in order.items() if log.ids}
        self.heard = self.order({"finish": last})
        return [f"{one['user']}: {fault}" for one in self.heard for fault in faults(one, order[one["room"]])]

    def close(self) -> None:
        self.process.kill()
        self.process.wait(30)


def faults(member: dict, log: RoomLog) -> list[str]:
    """Of one client, in sentences."""
    found = [f"it gave up: {state}" for state in member["states"] if state.startswith("disconnect")]
    found += [f"{one} was taken and is lost" for one in member["taken"] if one not in log.ids]
    ends = [*member["begins"][1:], len(member["heard"])]
    for begin, end in zip(member["begins"], ends):
        places = [log.ids.get(one) for one in member["heard"][begin:end]]
        if None in places:
            found.append("a message that is not in the log")
        elif places != list(range(places[0], places[0] + len(places))) if places else False:
            found.append(f"a stretch with gaps: {places[0]} to {places[-1]} has {len(places)}")
        if end == ends[-1] and places and places[-1] != len(log.payloads) - 1:
            found.append(f"connected to the end, its last is {places[-1]} of {len(log.payloads) - 1}")
    return found
