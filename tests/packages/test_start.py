"""How large the static binary is, how soon it serves, and what it keeps in memory."""

from __future__ import annotations

import os
import re
import statistics
import time
from pathlib import Path

from conftest import FIGURES, TARGET

from emulator import Emulator
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


def test_a_ready_server_is_small():
    """Goal: at most 15 MB for a `dev` server that waits for its first caller. Method: until it has given back what only its
    start needed; with two shards, and no page of the operator's or a scrape in between."""
    with Emulator("--shards", "2") as server:
        status = Path(f"/proc/{server.process.pid}/status")
        resident = lambda: int(re.search(r"^VmRSS:\s+(\d+) kB$", status.read_text(), re.M).group(1))
        begun, deadline = resident(), time.monotonic() + 60
        while (now := resident()) > 15_000:
            assert time.monotonic() < deadline, f"{now} KiB are resident"
            time.sleep(0.02)
        FIGURES.append(f"x86_64, static, `dev` of two shards: {begun / 1024:.1f} MiB resident when ready, {now / 1024:.1f} a second later")
