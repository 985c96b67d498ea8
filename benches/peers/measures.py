"""What is measured: each is one call of `uproar bench`, the same for every server but for how it is named."""

from __future__ import annotations

import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from servers import Server, stop

# Content of Uproar's messages; the peers' are longer by what Uproar's frames are.
CONTENT_BYTES = 200
# For one call; the tool bounds itself well below.
SECONDS_MAX = 420


class Failed(Exception):
    """A measurement gave no figure, and why."""


@dataclass
class Bench:
    """The tool, and what is common to all calls of a run."""

    binary: Path
    # Length of a step of a search.
    seconds: int
    tls: bool = False
    frame_bytes: float = 0.0

    def call(self, subject: str, flags: list[object], server: Server | None, at: tuple[str, int] | None) -> dict:
        command = [str(self.binary), "bench", subject, "--json", *map(str, flags)]
        command += ["--tls"] if self.tls else []
        if server is not None:
            address, pid = at
            command += [server.flag, address, "--pid", str(pid)]
        if subject == "fanout":
            size = CONTENT_BYTES if server is None else round(self.frame_bytes) - server.frame_head
            command += ["--size", str(size)]
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=errors)
            try:
                code = process.wait(SECONDS_MAX)
            except subprocess.TimeoutExpired:
                raise Failed(f"took longer than {SECONDS_MAX} s") from None
            finally:
                stop(process)
            if code != 0:
                errors.seek(0)
                lines = errors.read().strip().splitlines() or [f"exit code {code}"]
                raise Failed(lines[-1].removeprefix("uproar: ").removeprefix("error: "))
            out.seek(0)
            return json.load(out)

    def calibrate(self) -> None:
        """Learns the length of Uproar's frames."""
        flags = ["--receivers", 2, "--rate", 20, "--seconds", 1, "--runs", 1]
        self.frame_bytes = self.call("fanout", flags, None, None)["frame_bytes"]


@dataclass
class Measure:
    name: str
    title: str
    subject: str
    # From the run's bench, whether it is quick, and a guess of the result.
    flags: Callable[[Bench, bool, float | None], list[object]]
    # From the tool's JSON: the figure that is compared.
    figure: Callable[[dict], float]
    unit: str
    # Whether the figure is better when it is lower.
    low: bool = False
    # Whose result is a guess of this one's, if there is none of its own.
    like: str | None = None
    # The protocol that cannot be measured so, by its flag, and why.
    not_for: tuple[str, str] | None = None
    # Whether it means anything without TLS.
    only_tls: bool = False


def reach(rooms: int, receivers: int, p99_ms: int, small: tuple[int, int]):
    def flags(bench: Bench, quick: bool, near: float | None) -> list[object]:
        here = small if quick else (rooms, receivers)
        flags = ["--rooms", here[0], "--receivers", here[1], "--p99-ms", p99_ms, "--seconds", bench.seconds, "--runs", 1]
        if here[0] > 1:
            # Ten of a hundred would have the tool parse a tenth of all deliveries, which is its bound, not the servers'.
            flags += ["--samples", 2]
        return [*flags, "--near", round(near)] if near else flags

    return flags


def steady(bench: Bench, quick: bool, near: float | None) -> list[object]:
    receivers, rate = (100, 36) if quick else (1000, 36)
    return ["--receivers", receivers, "--rate", rate, "--seconds", 1 if quick else 6, "--runs", 1]


def handshakes(bench: Bench, quick: bool, near: float | None) -> list[object]:
    # Not all are held: the kernel looks the longer for a free port, the more of them are taken.
    return ["--total", 1000 if quick else 20_000, "--width", 64, "--held", 500 if quick else 5000]


def resumed(bench: Bench, quick: bool, near: float | None) -> list[object]:
    return [*handshakes(bench, quick, near), "--resume"]


def idle(bench: Bench, quick: bool, near: float | None) -> list[object]:
    return ["--connections", 200 if quick else 10_000]


def deliveries(result: dict) -> float:
    return result["deliveries_per_second"]


def cpu(result: dict) -> float:
    return sum(result["server_cpu_ns_per_delivery"].values())


MEASURES = (
    Measure(
        "room-1000", "1 room × 1,000, p99 ≤ 100 ms", "fanout", reach(1, 1000, 100, (1, 100)), deliveries, "deliveries/s"
    ),
    Measure(
        "room-10000", "1 room × 10,000, p99 ≤ 1 s", "fanout", reach(1, 10_000, 1000, (1, 300)), deliveries,
        "deliveries/s", like="room-1000",
    ),
    Measure(
        "rooms-400", "100 rooms × 100, p99 ≤ 400 ms", "fanout", reach(100, 100, 400, (10, 10)), deliveries,
        "deliveries/s", like="room-1000",
    ),
    Measure(
        "rooms-100", "100 rooms × 100, p99 ≤ 100 ms", "fanout", reach(100, 100, 100, (10, 10)), deliveries,
        "deliveries/s", like="rooms-400",
    ),
    Measure("steady", "1 room × 1,000 at 36 messages/s", "fanout", steady, cpu, "ns of processor a delivery", low=True),
    Measure(
        "handshakes", "handshakes, 64 under way", "connect", handshakes, lambda result: result["handshakes_per_second"],
        "handshakes/s", not_for=("--nats", "no WebSocket handshake"),
    ),
    Measure(
        "resumed", "handshakes by tickets, 64 under way", "connect", resumed,
        lambda result: result["handshakes_per_second"], "handshakes/s", only_tls=True,
    ),
    Measure(
        "idle", "idle connections, user memory", "idle", idle, lambda result: result["user_bytes_per_connection"],
        "bytes a connection", low=True,
    ),
)  # fmt: skip
# Small enough for a smoke, and each way of using the tool once.
QUICK = ("room-1000", "rooms-100", "steady", "handshakes", "idle")
# What viewers over TLS see.
TLS = ("room-1000", "room-10000", "steady", "handshakes", "resumed", "idle")
