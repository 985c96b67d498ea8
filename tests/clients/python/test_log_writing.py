"""A log that cannot be written changes nothing: full disk, reader gone or asleep, closed descriptor.

The log goes to standard error. Whatever is there, every call is answered and carried out, viewers
chat, health is 200, SIGTERM ends with exit 0, and what was lost is counted and said.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import threading
import time
import urllib.request

import pytest

from rawws import Refused, WebSocket, Wire
from uproar import BINARY, STOP_SECONDS_MAX, Server

# Enough lines to fill a pipe of 64 KiB and the queue of 8,192 lines behind it.
FLOOD = 20_000


class Logged(Server):
    """A server whose standard error is `stderr`, with a line for each call, so that there is a flood."""

    def __init__(self, stderr, *, filter: str = "info,uproar=debug", **rest) -> None:
        super().__init__(**rest)
        self.stderr = stderr
        self.environment = {**os.environ, "UPROAR_LOG__FILTER": filter, "UPROAR_LOG__JSON": "true"}

    def launch(self) -> Server:
        self.process = subprocess.Popen(
            self.command,
            stdout=subprocess.DEVNULL,
            stderr=self.stderr,
            stdin=subprocess.DEVNULL,
            env=self.environment,
        )
        return self


def lost_lines(server: Server) -> int:
    for line in server.metrics().splitlines():
        if line.startswith("uproar_log_lost_lines_total "):
            return int(line.split()[1])
    raise AssertionError("no uproar_log_lost_lines_total")


def everything_works(server: Server) -> None:
    """Calls are answered and carried out, viewers chat, health is well."""
    boto = server.boto()
    rooms = [boto.create_room(name=f"r{n}", maximumMessageRatePerSecond=100)["arn"] for n in range(5)]
    assert {room["arn"] for room in boto.list_rooms()["rooms"]} >= set(rooms)
    with pytest.raises(boto.exceptions.ResourceNotFoundException):
        boto.get_room(identifier=rooms[0][:-12] + "NoSuchRoom00")
    alice, bob = (WebSocket(server.messaging_port, server.token(rooms[0], user)) for user in "ab")
    assert alice.say("hello", "r1")
    for viewer in (alice, bob):
        viewer.receive_until(lambda frame: frame.get("Content") == "hello")
        viewer.close()
    with pytest.raises(Refused):
        WebSocket(server.messaging_port, "not-a-token")
    boto.delete_room(identifier=rooms[1])
    for path in ("livez", "readyz"):
        with urllib.request.urlopen(f"{server.control_url}/{path}", timeout=30) as answer:
            assert answer.status == 200


def flood(server: Server, lines: int = FLOOD) -> None:
    """Causes `lines` log lines at least, by refused calls with a line of debug each."""
    request = b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"
    wire = Wire(server.control_port)
    asked = 0
    while asked < lines:
        wire.socket.sendall(request * 100)
        asked += 100
        answered = 0
        while answered < 100:
            data = wire.socket.recv(1 << 20)
            assert data, "the control thread hung up"
            answered += data.count(b"HTTP/1.1 404")
    wire.close()


@pytest.mark.parametrize("what", ["full", "closed", "gone", "read_only"])
def test_nothing_changes_when_no_line_can_be_written(what):
    if what == "full":
        stderr = os.open("/dev/full", os.O_WRONLY)
    elif what == "gone":
        reader, stderr = os.pipe()
        os.close(reader)
    else:
        stderr = os.open("/dev/null", os.O_RDONLY)
    server = Logged(stderr)
    if what == "closed":
        server.command = ["sh", "-c", 'exec "$@" 2>&-', "sh", *server.command]
    try:
        server.start()
        everything_works(server)
        if what != "closed":  # the runtime opens /dev/null in its place, which takes everything
            assert lost_lines(server) > 0
        assert server.stop() == 0
    finally:
        server.kill()
        os.close(stderr)


def test_a_reader_that_sleeps_stops_nothing_and_hears_how_many_lines_it_missed():
    reader, stderr = os.pipe()
    fcntl.fcntl(stderr, fcntl.F_SETPIPE_SZ, 4096)
    server = Logged(stderr)
    try:
        server.start()
        os.close(stderr)
        flood(server)
        everything_works(server)
        lost = lost_lines(server)
        assert lost > 0, "the flood was no flood"

        # The reader wakes up. A line says what is missing, between whole lines of JSON.
        text = b""
        while b"log lines were lost" not in text:
            piece = os.read(reader, 1 << 16)
            assert piece
            text += piece
            if text.count(b"\n") > 1_000_000:
                pytest.fail("no line said that lines were lost")
        while not text.endswith(b"\n"):
            text += os.read(reader, 1)
        events = [json.loads(line) for line in text.splitlines()]
        (said,) = [event for event in events if "log lines were lost" in event["message"]]
        assert said["level"] == "WARN" and said["lost"] >= lost
        drain = threading.Thread(target=drain_all, args=(reader,))
        drain.start()
        assert lost_lines(server) >= lost
        assert server.stop() == 0
        drain.join()
    finally:
        server.kill()


def drain_all(reader: int) -> None:
    while os.read(reader, 1 << 16):
        pass
    os.close(reader)


def test_a_reader_that_sleeps_does_not_hold_back_the_stop():
    reader, stderr = os.pipe()
    fcntl.fcntl(stderr, fcntl.F_SETPIPE_SZ, 4096)
    server = Logged(stderr)
    try:
        server.start()
        flood(server)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(STOP_SECONDS_MAX) == 0
    finally:
        server.kill()
        os.close(reader)
        os.close(stderr)


def test_a_start_that_fails_keeps_its_exit_code_whatever_standard_error_is(tmp_path):
    """Usage 2, address in use 3, also for whoever cannot be told; and the text is there if it can."""
    with Server() as taken:
        in_use = ["dev", "--data-dir", str(tmp_path), "--messaging-listen",
                  f"127.0.0.1:{taken.messaging_port}", "--control-listen", "127.0.0.1:0"]  # fmt: skip
        usage = ["serve", "--config", "/nowhere/uproar.toml"]
        for arguments, code in ((in_use, 3), (usage, 2)):
            told = subprocess.run([BINARY, *arguments], capture_output=True, text=True, timeout=60)
            assert told.returncode == code and "uproar: " in told.stderr, told
            reader, asleep = os.pipe()
            fill(asleep)
            gone_reader, gone = os.pipe()
            os.close(gone_reader)
            with open("/dev/full", "wb") as full:
                for stderr in (full.fileno(), asleep, gone):
                    done = subprocess.run(
                        [BINARY, *arguments], stderr=stderr, stdout=subprocess.DEVNULL, timeout=60
                    )
                    assert done.returncode == code, (arguments, done)
            for descriptor in (reader, asleep, gone):
                os.close(descriptor)


def fill(pipe: int) -> None:
    """Until it takes nothing more; blocking again for whoever inherits it."""
    os.set_blocking(pipe, False)
    try:
        while os.write(pipe, b"x" * 4096):
            pass
    except OSError as error:
        assert error.errno == errno.EAGAIN
    os.set_blocking(pipe, True)


def test_standard_output_that_nobody_reads_stops_nothing():
    """`uproar dev` prints what to paste next; a reader that sleeps there must not hold the API."""
    reader, asleep = os.pipe()
    fill(asleep)
    server = Logged(subprocess.DEVNULL)
    server.process = subprocess.Popen(server.command, stdout=asleep, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not server.ready():
            assert time.monotonic() < deadline and server.process.poll() is None
            time.sleep(0.05)
        everything_works(server)
        assert server.stop() == 0
    finally:
        server.kill()
        os.close(reader)
        os.close(asleep)
