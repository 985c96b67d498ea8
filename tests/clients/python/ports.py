"""Ports for servers under test. The standard library only: the conformance run and the peers take them here, too."""

from __future__ import annotations

import contextlib
import os
import random
import re
import socket
from pathlib import Path

# Test processes that run beside each other take ports of different classes, by the remainder: otherwise one could
# be given a port that another has just found free, or whose server it is about to start again. Node's have 3 to 7.
CLASSES = 8
WORKERS_MAX = 3
_worker = re.fullmatch(r"gw(\d+)", os.environ.get("PYTEST_XDIST_WORKER", "gw0"))
CLASS = int(_worker[1]) if _worker else 0
assert CLASS < WORKERS_MAX, f"more than {WORKERS_MAX} workers: their ports are not told apart"
# Nor is one given out twice here: its first server may be about to start again.
GIVEN: set[int] = set()


def free_port() -> int:
    """A loopback port nobody listens on, below those that outgoing connections get: whoever asks such a port
    whether its server is up yet may be connected to itself."""
    outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for attempt in range(1000):
        port = random.randrange(10_000 + CLASS, max(outgoing, 10_100), CLASSES)
        # Where outgoing connections leave only few: better again than none.
        if port in GIVEN and attempt < 900:
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            GIVEN.add(port)
            return port
    raise OSError(f"no free port between 10,000 and {outgoing:,}")
