"""`uproar upgrade`: a new process takes over, and neither viewers nor callers of the API notice."""

from __future__ import annotations

import signal
import stat
import subprocess
from pathlib import Path

import pytest

from rawws import Refused, WebSocket
from uproar import BINARY, Server, Successor, adopt_orphans


def numbered(viewers: list[WebSocket], sender: WebSocket, first: int, count: int) -> None:
    """`sender` says `count` numbers, and every viewer hears each once, in order, and nothing else."""
    for number in range(first, first + count):
        sender.say(str(number), f"r{number}")
    for viewer in viewers:
        heard = [viewer.receive()["Content"] for _ in range(count)]
        assert heard == [str(number) for number in range(first, first + count)]


def test_viewers_rooms_and_tokens_stay():
    """Goal: rooms, used tokens, the data directory, the admin socket and the exit code are as before an upgrade.
    Method: two in a row."""
    with Server() as server:
        arn = server.boto_cached.create_room(name="kept", maximumMessageRatePerSecond=100)["arn"]
        used = server.token(arn, "used")
        viewers = [WebSocket(server.messaging_port, used)]
        viewers += [WebSocket(server.messaging_port, server.token(arn, f"u{i}")) for i in range(20)]
        numbered(viewers, viewers[1], 0, 5)
        for turn in (1, 2):
            upgraded = server.upgrade()
            assert upgraded.viewers == len(viewers)
            numbered(viewers, viewers[1], 5 * turn, 5)
            with pytest.raises(Refused) as refused:
                WebSocket(server.messaging_port, used)
            assert refused.value.response.status == 401
            assert Path(server.data_dir, "lock").read_text() == f"{upgraded.pid}\n"
            health = server.run("health", "--data-dir", str(server.data_dir)).stdout
            assert health.startswith(f"process {upgraded.pid},") and f"{len(viewers)} viewers" in health
            assert [room["arn"] for room in server.boto_cached.list_rooms(name="kept")["rooms"]] == [arn]
            metrics = server.metrics()
            assert f"\nuproar_connections_taken_over_total {len(viewers)}\n" in metrics
            assert '\nuproar_takeovers_total{result="taken_over"} 1\n' in metrics
        assert server.stop() == 0
        assert "panicked" not in server.log()
        assert not Path(server.data_dir, "admin.sock").exists()


def test_a_signal_upgrades_too():
    """Goal: SIGUSR2 does what the command does, with the server's own program."""
    adopt_orphans()
    with Server() as server:
        arn = server.boto_cached.create_room(maximumMessageRatePerSecond=100)["arn"]
        viewer = WebSocket(server.messaging_port, server.token(arn))
        server.process.send_signal(signal.SIGUSR2)
        assert server.process.wait(60) == 0
        server.process = Successor(int(Path(server.data_dir, "lock").read_text()))
        numbered([viewer], viewer, 0, 3)


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_programs_that_cannot_are_refused_and_nothing_happens(tmp_path):
    """Goal: whatever the file is, the command says what is wrong, and the server serves on. Method: no file, no right to
    execute it, no program, one that fails at once, one that is something else and says so, and a configuration that
    has changed so that no start accepts it."""
    config = tmp_path / "uproar.toml"
    config.write_text("[tokens]\nlife_minutes = 60\n")
    no_right = tmp_path / "no-right"
    no_right.write_text("")
    no_program = script(tmp_path / "no-program", "")
    no_program.write_bytes(b"\x7fELF and no more")
    with Server(extra=("--config", str(config))) as server:
        arn = server.boto_cached.create_room(maximumMessageRatePerSecond=100)["arn"]
        viewer = WebSocket(server.messaging_port, server.token(arn))
        old = server.process.pid
        for binary, words in (
            (tmp_path / "missing", ["missing cannot be started", "--binary"]),
            (no_right, ["make it executable"]),
            (no_program, ["it must be a program for this machine"]),
            (script(tmp_path / "fails", "exit 7"), ["exit status: 7", "it said nothing"]),
            (script(tmp_path / "other", "echo I am not a server >&2"), ["I am not a server"]),
        ):
            done = server.try_upgrade(binary=binary)
            assert done.returncode == 1 and done.stdout == "", done
            for word in (*words, "The server serves as before"):
                assert word in done.stderr, done.stderr
            numbered([viewer], viewer, 0, 2)
        config.write_text("[tokens]\nlife_minutes = 1\n")
        done = server.try_upgrade()
        assert done.returncode == 1 and "tokens.life_minutes" in done.stderr, done.stderr
        assert server.process.poll() is None and server.process.pid == old
        numbered([viewer], viewer, 0, 2)


@pytest.mark.parametrize("init", [None, "tini"])
def test_a_container_that_would_end_is_no_place_for_an_upgrade(tmp_path, init):
    """Goal: an upgrade that would end the container is refused, and says why. Method: process namespaces whose process 1
    is the server itself, or a script named as an init that ends with its child."""
    inits = [str(script(tmp_path / init, '"$@" &\nwait $!'))] if init else []
    wrapper = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *inits)
    server = Server(wrapper=wrapper).start()
    try:
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
        [first] = children.read_text().split()
        inside = ["nsenter", f"--pid=/proc/{first}/ns/pid", f"--mount=/proc/{first}/ns/mnt"]
        command = [*inside, str(BINARY), "upgrade", "--data-dir", str(server.data_dir)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 1, done
        assert ("process 1, tini, ends" if init else "is process 1") in done.stderr
        assert "The server serves as before" in done.stderr and server.ready()
    finally:
        server.kill()
