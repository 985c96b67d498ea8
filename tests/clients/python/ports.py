"""Ports for servers under test. The standard library only: the conformance run and the peers take them here, too."""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path


def free_port() -> int:
    """A loopback port nobody listens on, below those that outgoing connections get: whoever asks such a port
    whether its server is up yet may be connected to itself."""
    outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for _ in range(100):
        port = random.randrange(10_000, max(outgoing, 10_100))
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError(f"no free port between 10,000 and {outgoing:,}")
