"""How large the static binary is and how soon it serves."""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

from conftest import FIGURES, TARGET

from rawws import WebSocket
from uproar import BINARY, Server

STARTS = 15


def serves(server: Server) -> None:
    arn = server.boto_cached.create_room(name="kept")["arn"]
    viewer = WebSocket(server.messaging_port, server.token(arn, "bob"))
    viewer.say("hello", "r")
    assert viewer.receive()["Content"] == "hello"


def test_size_and_start():
    """Goal: the figures of packaging/README.md. No time decides: the machine may be busy."""
    times, resident = [], 0
    for _ in range(STARTS):
        server = Server()
        begun = time.monotonic()
        server.launch()
        # `start` looks 50 times a second only.
        while not server.ready():
            assert server.process.poll() is None, server.log()
            time.sleep(0.001)
        times.append(time.monotonic() - begun)
        try:
            resident = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            if len(times) == 1:
                serves(server)
        finally:
            assert server.stop() == 0
    megabytes = BINARY.stat().st_size / 1e6
    ready = f"{statistics.median(times) * 1000:.0f} ms (best {min(times) * 1000:.0f})"
    FIGURES.append(f"x86_64, static: {megabytes:.1f} MB, ready {ready} after its start, {resident / 2**20:.0f} MiB resident")
    for file in sorted((TARGET / "packages").iterdir()):
        FIGURES.append(f"{file.stat().st_size / 1e6:8.1f} MB  {file.name}")
    assert megabytes < 40
