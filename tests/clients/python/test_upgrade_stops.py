"""An upgrade during which either process stands still for two seconds, at any of its points: shorter than every deadline,
so that nothing is taken back, and nobody is lost. test_upgrade_faults.py has those that last,
and the one behind the old process's last word."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest

from test_upgrade_faults import VIEWERS, Story, processes, until

STANDSTILL_SECONDS = 2
OLD = [
    f"old.{point}"
    for point in (
        "load",
        "load.done",
        "freeze",
        "freeze.done",
        "rooms",
        "rooms.done",
        "viewers",
        "viewers.done",
        "commit",
    )
]
NEW = [
    f"new.{point}"
    for point in (
        "hello",
        "start.done",
        "rooms",
        "rooms.done",
        "viewers",
        "viewers.done",
        "acknowledge",
        "acknowledge.done",
        "serve",
    )
]


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.parametrize("point", OLD + NEW)
def test_a_standstill_delays_an_upgrade_and_no_more(monkeypatch, point):
    """Goal: the new process serves with every viewer, and the old one never again: two servers would both answer.
    Method: SIGSTOP at the point, SIGCONT two seconds later; then viewers, the store and a used token are asked."""
    story = Story(monkeypatch, f"{point}:stop")
    old = story.server.process.pid
    command = story.server.start_upgrade()
    until(lambda: stopped(story), f"a process stops\n{story.server.log()}")
    [pid] = stopped(story)
    assert (pid == old) == point.startswith("old.")
    assert len(processes(story.server)) <= 2
    time.sleep(STANDSTILL_SECONDS)
    os.kill(pid, signal.SIGCONT)
    said, complained = command.communicate(timeout=60)
    assert command.returncode == 0, f"{complained}\n{story.server.log()}"
    assert story.server.process.wait(60) == 0
    assert story.one_serves() != old
    # An old process waits two seconds at most to be told.
    assert re.search(rf"serves ({VIEWERS}|an unknown number of) viewers", said), said
    story.drain_late()
    story.all_hear()
    story.stop()


def stopped(story: Story) -> list[int]:
    return [pid for pid in processes(story.server) if state(pid) == "T"]
