"""What happens to a cluster meanwhile, and what it loses by it."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from typing import Callable

from trios import Trio

BEFORE_SECONDS = 2.0
GONE_SECONDS = 3.0
STILL_SECONDS = 5.0


def nothing(_: Trio) -> None:
    pass


def killed(trio: Trio, name: str) -> None:
    time.sleep(BEFORE_SECONDS)
    trio.kill(name)
    time.sleep(GONE_SECONDS)
    trio.start(name)


def broker_killed(trio: Trio) -> None:
    trio.aim()
    killed(trio, trio.broker)


def node_killed(trio: Trio) -> None:
    trio.aim()
    killed(trio, trio.node)


def node_still(trio: Trio) -> None:
    trio.aim()
    time.sleep(BEFORE_SECONDS)
    pid = trio.pid(trio.node)
    os.kill(pid, signal.SIGSTOP)
    time.sleep(STILL_SECONDS)
    os.kill(pid, signal.SIGCONT)


@dataclass
class Event:
    name: str
    happen: Callable[[Trio], None]


EVENTS = (
    Event("nothing", nothing),
    Event("a broker is killed, back after 3 s", broker_killed),
    Event("a node is killed, back after 3 s", node_killed),
    Event("a node stands still for 5 s", node_still),
)


def loss_rows(found: dict[str, list[dict]]) -> list[str]:
    """Sums over all rounds, and the longest wait of any."""
    rows = ["| what happens | server | said | lost | of them heard by some | repeated | in another order | longest wait s |"]
    rows.append("|---" * 8 + "|")
    for event in EVENTS:
        for server, rounds in found.items():
            all_rounds = [one["events"][event.name] for one in rounds]
            total = {key: sum(one[key] for one in all_rounds) for key in ("said", "lost", "partly", "repeated", "reordered")}
            longest = max(max(one["longest_wait_ms"]) for one in all_rounds) / 1000
            cells = [total["said"], total["lost"], total["partly"], total["repeated"], total["reordered"]]
            rows.append(f"| {event.name} | {server} | {' | '.join(f'{cell:,}' for cell in cells)} | {longest:.2f} |")
    return rows
