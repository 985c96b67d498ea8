"""The examples of README.md, run as their first lines say: a backend that hands out tokens, two viewers that talk."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ports import free_port
from uproar import REPOSITORY, Server

EXAMPLES = REPOSITORY / "examples"
CLIENTS = REPOSITORY / "tests" / "clients"
# A hang ends here; nothing else is judged by it.
WAIT_SECONDS = 60


class Program:
    """A program whose lines are read as they come."""

    def __init__(self, command: list[str], **environment: str) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **environment},
        )
        self.seen: list[str] = []
        self.lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self) -> None:
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def wait_for(self, wanted: str) -> str:
        """The next line that contains `wanted`."""
        while True:
            line = self.lines.get(timeout=WAIT_SECONDS)
            assert line is not None, f"ended without {wanted!r}: {self.seen}"
            self.seen.append(line)
            if wanted in line:
                return line

    def say(self, line: str) -> None:
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()


@pytest.fixture
def programs(tmp_path: Path):
    """Starts programs; ends those that are left."""
    started: list[Program] = []

    def start(*command: str, **environment: str) -> Program:
        started.append(Program(list(command), **environment))
        return started[-1]

    yield start
    for program in started:
        program.process.kill()
        program.process.wait(WAIT_SECONDS)


def test_backend_and_viewers_talk(tmp_path: Path, programs) -> None:
    """Goal: what a newcomer copies works, with the official SDKs on both sides.

    Method: the viewer is copied beside an installed SDK, as `npm install` leaves it.
    """
    (tmp_path / "node_modules").symlink_to(CLIENTS / "node_modules")
    viewer = tmp_path / "viewer.mjs"
    viewer.write_text((EXAMPLES / "viewer.mjs").read_text())
    port = str(free_port())
    server = Server().start()
    try:
        backend = programs(
            sys.executable,
            str(EXAMPLES / "backend.py"),
            PORT=port,
            AWS_ENDPOINT_URL_IVSCHAT=server.control_url,
        )
        backend.wait_for("tokens for arn:aws:ivschat:")
        environment = {
            "MESSAGING": f"ws://127.0.0.1:{server.messaging_port}",
            "BACKEND": f"http://127.0.0.1:{port}",
        }
        # Node 20 hides the constructor that browsers and Node 22 have.
        node = ["node", "--experimental-websocket", str(viewer)]
        alice = programs(*node, "alice", **environment)
        alice.wait_for("connected as alice")
        bob = programs(*node, "bob", **environment)
        bob.wait_for("connected as bob")
        alice.wait_for("* joining bob")
        bob.say("hello from bob")
        assert alice.wait_for("hello from bob") == "Bob: hello from bob"
        bob.say("x" * 501)
        bob.wait_for("refused: 400")
        bob.process.stdin.close()
        bob.wait_for("disconnected: clientDisconnect")
        assert bob.process.wait(WAIT_SECONDS) == 0
    finally:
        server.stop()
