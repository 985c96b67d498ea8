"""The admin socket and its commands: who may use it, what they say when something is wrong, what it bounds."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import subprocess
import time
from pathlib import Path

import pytest

from rawws import WebSocket
from uproar import BINARY, Server

CONNECTIONS_MAX = 16
MESSAGE_BYTES_MAX = 65536


def uproar(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run([BINARY, *arguments], capture_output=True, text=True, timeout=60, **options)


def command(name: str, server: Server, *arguments: str) -> subprocess.CompletedProcess[str]:
    return uproar(name, "--data-dir", str(server.data_dir), *arguments)


def health(server: Server) -> dict:
    done = command("health", server, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class Admin:
    """A bare connection to the socket."""

    def __init__(self, data_dir: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(60)
        self.socket.connect(str(data_dir / "admin.sock"))

    def ask(self, message: object) -> dict:
        text = message if isinstance(message, bytes) else json.dumps(message).encode()
        self.socket.send(text)
        return self.answer()

    def answer(self) -> dict:
        return json.loads(self.socket.recv(2 * MESSAGE_BYTES_MAX))

    def close(self) -> None:
        self.socket.close()


@contextlib.contextmanager
def admin(server: Server):
    connection = Admin(server.data_dir)
    try:
        yield connection
    finally:
        connection.close()


def test_health_tells_of_the_process_its_viewers_and_its_rooms(server):
    arn = server.boto().create_room(name="health")["arn"]
    before = health(server)
    viewer = WebSocket(server.messaging_port, server.token(arn, "u"))
    told = health(server)
    assert told["pid"] == server.process.pid
    assert told["state"] == "serving" and told["ready"] is True
    assert told["viewers"] == before["viewers"] + 1
    assert told["rooms"] == 2, "the ready room, and ours"
    version = uproar("--version").stdout
    assert f"uproar {told['version']} (commit {told['commit']})" in version
    line = command("health", server)
    assert line.returncode == 0 and line.stdout.count("\n") == 1
    for part in (f"process {server.process.pid}", told["version"], "serving, ready", f"{told['viewers']} viewers"):
        assert part in line.stdout, line.stdout
    viewer.close()


def test_the_socket_is_its_users_alone(server):
    mode = (server.data_dir / "admin.sock").stat().st_mode
    assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_other_users_are_refused(server):
    """Goal: the kernel's word on who connects decides, not the file's mode alone. Method: modes that let
    everybody in, and a process of another user."""
    path = server.data_dir / "admin.sock"
    program = (
        "import os, socket, sys\n"
        "os.chdir(sys.argv[1])\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
        "s.connect('admin.sock')\n"
        "print(s.recv(65536).decode())\n"
    )
    os.chmod(path, 0o666)
    os.chmod(server.data_dir, 0o711)
    try:
        done = subprocess.run(
            ["python3", "-c", program, str(server.data_dir)], capture_output=True, text=True, timeout=60
        )
    finally:
        os.chmod(path, 0o600)
        os.chmod(server.data_dir, 0o700)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["error"]["code"] == "forbidden"


def test_what_is_no_order_is_refused_by_name(server):
    for message, code in [
        ({"order": "dance"}, "malformed"),
        ({"order": "health", "loud": True}, "malformed"),
        (b"not json", "malformed"),
        (b"\xff\xfe", "malformed"),
        (b"[" * MESSAGE_BYTES_MAX, "malformed"),
        (b" " * (MESSAGE_BYTES_MAX + 1), "too_long"),
        ({"order": "cancel_drain"}, "refused"),
    ]:
        with admin(server) as connection:
            assert connection.ask(message)["error"]["code"] == code, message
    assert health(server)["ready"] is True


def test_connections_are_bounded_and_silent_ones_are_ended(server):
    """Goal: who connects and says nothing keeps nobody out for long."""
    silent = [Admin(server.data_dir) for _ in range(CONNECTIONS_MAX)]
    with admin(server) as further:
        assert further.answer()["error"]["code"] == "busy"
    refused = command("health", server)
    assert refused.returncode == 1 and "16 commands are connected already" in refused.stderr
    for connection in silent:
        assert connection.answer()["error"]["code"] == "late"
        connection.close()
    assert health(server)["ready"] is True


@pytest.mark.parametrize("key", ["notice_s", "over_s"])
@pytest.mark.parametrize("seconds", [86_401, 2 * 10**15, 2**64 - 1])
def test_a_drain_of_more_than_a_day_is_refused(tmp_path, key, seconds):
    """Goal: the socket takes no number that the command would refuse, and none overflows. Method: a rate of tokens,
    which the pace is compared with, and a viewer."""
    with Server(tmp_path, quotas="aws") as server:
        viewer = WebSocket(server.messaging_port, server.token(server.boto_cached.create_room()["arn"]))
        answer = Admin(tmp_path).ask({"order": "drain", key: seconds})
        assert answer["error"]["code"] == "refused" and "at most 86400" in answer["error"]["message"]
        assert health(server)["state"] == "serving" and server.ready()
        viewer.say("still here", "r")
        assert viewer.receive()["Content"] == "still here"


def test_commands_that_go_early_cost_nothing(server):
    for _ in range(3 * CONNECTIONS_MAX):
        with admin(server):
            pass
        # Refused where so many are open at once that it has not seen them go: that is no place taken either.
        with admin(server) as connection, contextlib.suppress(BrokenPipeError):
            connection.socket.send(b'{"order":"health"}')
    deadline = time.monotonic() + 60
    while command("health", server).returncode != 0:
        assert time.monotonic() < deadline, "a place stays taken"


def test_reload_does_what_sighup_does(tmp_path):
    with Server(tmp_path) as server:
        done = command("reload", server)
        assert done.returncode == 0 and "no key of the configuration has changed" in done.stdout, done
        (server.data_dir / "token-keys").write_text("nonsense\n")
        failed = command("reload", server)
        assert failed.returncode == 2 and "nothing is reloaded: key file" in failed.stderr, failed
        assert str(server.data_dir / "token-keys") in failed.stderr
        assert health(server)["ready"] is True


def test_an_upgrade_to_nothing_is_refused_and_nobody_notices(server):
    before = health(server)
    done = command("upgrade", server, "--binary", str(server.data_dir / "no-such-file"))
    assert done.returncode == 1 and "no-such-file" in done.stderr, done.stderr
    assert health(server) == before


def test_without_a_server_the_commands_say_so(tmp_path):
    missing = tmp_path / "missing"
    for name in ("health", "drain", "reload", "upgrade"):
        done = uproar(name, "--data-dir", str(missing))
        assert done.returncode == 1 and str(missing) in done.stderr, done.stderr
        done = uproar(name, "--data-dir", str(tmp_path))
        assert done.returncode == 1 and f"no server serves in {tmp_path}" in done.stderr, done.stderr
        assert uproar(name, "--no-such-flag").returncode == 2


def test_the_configuration_leads_to_the_server(tmp_path):
    with Server(tmp_path / "data") as server:
        file = tmp_path / "uproar.toml"
        file.write_text(f'[server]\ndata_dir = "{server.data_dir}"\n')
        done = uproar("health", "--config", str(file))
        assert done.returncode == 0 and f"process {server.process.pid}" in done.stdout
        file.write_text("[server\n")
        assert uproar("health", "--config", str(file)).returncode == 2


def test_the_socket_of_a_killed_server_is_replaced(tmp_path):
    server = Server(tmp_path).start()
    server.kill()
    assert (tmp_path / "admin.sock").exists(), "nobody removed it"
    stale = uproar("health", "--data-dir", str(tmp_path))
    assert stale.returncode == 1 and "no server serves" in stale.stderr
    with server:
        assert health(server)["pid"] == server.process.pid
    assert not (tmp_path / "admin.sock").exists()


def test_a_deleted_socket_is_named(tmp_path):
    """Goal: somebody who cleans up too much learns what is missing, and that signals still work."""
    with Server(tmp_path) as server:
        (tmp_path / "admin.sock").unlink()
        done = command("health", server)
        assert done.returncode == 1
        for part in (f"process {server.process.pid}", "admin.sock is gone", "SIGTERM"):
            assert part in done.stderr, done.stderr


def test_paths_longer_than_a_socket_address_work(tmp_path):
    data_dir = tmp_path.joinpath(*["d" * 60] * 4)
    with Server(data_dir) as server:
        assert len(str(data_dir)) > 2 * 108
        assert health(server)["pid"] == server.process.pid
        done = uproar("health", "--data-dir", ".", cwd=data_dir)
        assert done.returncode == 0, done.stderr


def test_a_data_directory_without_sockets_serves_all_the_same(tmp_path):
    """Method: a directory stands where the socket should, so that it cannot be made."""
    (tmp_path / "admin.sock").mkdir()
    with Server(tmp_path) as server:
        assert "no admin socket" in server.await_log("no admin socket")
        assert command("health", server).returncode == 1


def test_drain_ends_the_server(tmp_path):
    server = Server(tmp_path).start()
    done = command("drain", server)
    assert done.returncode == 0, done.stderr
    assert server.process.wait(60) == 0
