"""Nobody is judged before the server knows every room, and no signal ends it by its default meaning."""

from __future__ import annotations

import hashlib
import json
import random
import signal
import string
import threading
import time
from pathlib import Path

import pytest

from rawws import Refused, WebSocket
from uproar import ACCOUNT, REGION, Server, Successor, adopt_orphans

# With the room of `uproar dev`, as many as an account may have.
ROOMS = 49_999
TOKENS = 100
RESTARTS = 3
SIGNALLED_STARTS = 20


def fill_store(server: Server, count: int) -> list[str]:
    """Rooms by the way of a restored copy; their ARNs."""
    letters = string.ascii_letters + string.digits
    lines, arns = ['{"uproar":"store","schema":2}\n'], []
    for number in range(count):
        room = "".join(random.choice(letters) for _ in range(12))
        arns.append(f"arn:aws:ivschat:{REGION}:{ACCOUNT}:room/{room}")
        value = {
            **{"id": room, "name": f"room-{number}", "tags": {}, "handler": None, "logging": None},
            **{"created_ms": number, "updated_ms": number},
            **{"message_rate": 10, "message_length": 500},
        }
        row = {"table": "rooms", "id": room, "value": value}
        lines.append(json.dumps(row, separators=(",", ":")) + "\n")
    sha256 = hashlib.sha256("".join(lines).encode()).hexdigest()
    lines.append(json.dumps({"rows": count, "sha256": sha256}) + "\n")
    copy = Path(server.data_dir) / "copy.txt"
    copy.write_text("".join(lines))
    restored = server.run("store", "restore", "--data-dir", str(server.data_dir), str(copy))
    assert restored.returncode == 0, restored.stderr
    return arns


def present(port: int, token: str, answers: list) -> None:
    """Presents a token in a tight loop until somebody accepts the connection; notes what came of it."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            answers.append(WebSocket(port, token))
            return
        except Refused as refused:
            answers.append(refused.response.status)
            return
        except ConnectionError:
            time.sleep(0.001)
    answers.append("nobody listened")


def test_every_valid_token_is_let_in_from_the_first_accepted_byte_on(tmp_path):
    """Method: kill the server, present tokens of 100 of its rooms from before the next start, and see
    what each of them gets. Version 0.1.0 answered 404 until it had told its shards of all rooms."""
    server = Server(tmp_path)
    arns = fill_store(server, ROOMS)
    server.start()
    for _ in range(RESTARTS):
        tokens = [server.token(arn) for arn in random.sample(arns, TOKENS)]
        server.kill()
        answers: list = []
        threads = [
            threading.Thread(target=present, args=(server.messaging_port, token, answers))
            for token in tokens
        ]
        for thread in threads:
            thread.start()
        server.start()
        for thread in threads:
            thread.join(60)
        let_in = [answer for answer in answers if isinstance(answer, WebSocket)]
        for socket in let_in:
            socket.close()
        refused = [answer for answer in answers if not isinstance(answer, WebSocket)]
        assert (len(let_in), refused) == (TOKENS, []), server.log()
    assert server.stop() == 0


def catches(process: int, number: int) -> bool:
    """Whether a process has a handler for a signal, as the kernel says."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def await_handler(server: Server, number: int) -> None:
    deadline = time.monotonic() + 60
    while not catches(server.process.pid, number):
        assert server.process.poll() is None, f"{server.process.returncode}: {server.log()}"
        assert time.monotonic() < deadline, "no handler is ever installed"


@pytest.mark.parametrize("name", ["SIGHUP", "SIGUSR1"])
def test_no_signal_ends_a_starting_server(tmp_path, name):
    """Method: signals at random instants of the first 200 ms, from when the process can have handlers."""
    number = getattr(signal, name)
    for start in range(SIGNALLED_STARTS):
        server = Server(tmp_path / str(start)).launch()
        await_handler(server, number)
        time.sleep(random.uniform(0, 0.2) * (start > 0))
        server.process.send_signal(number)
        server.await_ready()
        server.process.send_signal(number)
        server.await_ready()
        assert server.stop() == 0, server.log()


def test_an_upgrade_ordered_during_a_start_follows_it(tmp_path):
    """Method: SIGUSR2 at random instants of the first 50 ms. The order is kept until the server serves."""
    adopt_orphans()
    for start in range(10):
        server = Server(tmp_path / str(start)).launch()
        await_handler(server, signal.SIGUSR2)
        time.sleep(random.uniform(0, 0.05) * (start > 0))
        server.process.send_signal(signal.SIGUSR2)
        assert server.process.wait(60) == 0, server.log()
        server.process = Successor(int((tmp_path / str(start) / "lock").read_text()))
        server.await_ready()
        assert server.stop() == 0, server.log()


def test_sigterm_during_a_start_is_a_clean_end(tmp_path):
    for start in range(10):
        server = Server(tmp_path / str(start)).launch()
        await_handler(server, signal.SIGTERM)
        time.sleep(random.uniform(0, 0.05) * (start > 0))
        assert server.stop() == 0, server.log()


def syncs_of_start(data: Path, trace: Path) -> list[str]:
    """What a start brings to the disk until it is ready. It is killed then: its end syncs, too."""
    calls = "trace=fsync,fdatasync,sync,syncfs"
    server = Server(data, wrapper=("strace", "-D", "-f", "-y", "-o", str(trace), "-e", calls))
    server.start().kill()
    deadline = time.monotonic() + 60
    while "+++ killed by SIGKILL +++" not in (lines := trace.read_text()):
        assert time.monotonic() < deadline, lines
        time.sleep(0.01)
    return [line for line in lines.splitlines() if "sync(" in line]


def test_a_first_start_waits_for_the_disk_five_times_and_a_restart_once(tmp_path):
    """Goal: the disk does not decide when a server is ready. One barrier, of a file and its directory, for the new
    database; the database's own opening; and two for the first room. Keys and marks need none. It was 16 times."""
    first = syncs_of_start(tmp_path / "new", tmp_path / "first")
    assert 0 < len(first) <= 5, "\n".join(first)
    with Server(tmp_path / "old"):
        pass
    again = syncs_of_start(tmp_path / "old", tmp_path / "again")
    assert len(again) <= 1, "\n".join(again)


def test_signals_are_handled_before_anything_that_takes_time(tmp_path):
    """Method: strace. The handlers of all signals stand before the first file of the server's own is
    opened and before its first socket."""
    trace = tmp_path / "trace"
    calls = "trace=rt_sigaction,openat,mkdir,socket,clone3"
    server = Server(tmp_path / "data", wrapper=("strace", "-D", "-f", "-o", str(trace), "-e", calls))
    with server:
        pass
    lines = trace.read_text().splitlines()
    first = next(at for at, line in enumerate(lines) if str(server.data_dir) in line)
    before = "\n".join(lines[:first])
    for name in ("SIGHUP", "SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2", "SIGXFSZ"):
        assert f"rt_sigaction({name}, {{sa_handler=0x" in before, name
    assert "socket(AF_INET" not in before
