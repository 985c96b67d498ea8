"""A start that cannot work ends with an exit code other than 0 and a sentence naming the cause."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess

import pytest

from uproar import BINARY, Server

# "exit != 0 within 5 s" is the promise; the rest is for a loaded machine.
EXIT_SECONDS_MAX = 60


def failed_start(server: Server) -> str:
    """The output of a start that must fail."""
    server.launch()
    try:
        code = server.process.wait(EXIT_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        server.kill()
        pytest.fail(f"the server did not exit:\n{server.log()}")
    assert code != 0, server.log()
    log = server.log()
    assert "panicked" not in log, log
    return log


@pytest.mark.parametrize("which", ["messaging_port", "control_port"])
def test_a_taken_port_is_named(tmp_path, which):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        log = failed_start(Server(tmp_path, **{which: port}))
    assert str(port) in log
    assert "in use" in log.lower()


def test_a_second_instance_on_the_same_ports_is_refused(tmp_path):
    """Goal: SO_REUSEPORT never lets a stranger share the messaging port."""
    with Server(tmp_path / "a") as first:
        log = failed_start(Server(tmp_path / "b", messaging_port=first.messaging_port))
        assert str(first.messaging_port) in log
        first.await_ready()


def test_a_locked_data_directory_is_named(tmp_path):
    with Server(tmp_path) as first:
        log = failed_start(Server(tmp_path))
        assert str(tmp_path) in log
        assert "lock" in log.lower() or "in use" in log.lower() or "another" in log.lower()
        first.await_ready()


def test_a_data_directory_that_is_a_file_is_named(tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    assert str(path) in failed_start(Server(path))


def test_an_unwritable_data_directory_is_named(tmp_path):
    path = tmp_path / "shut"
    path.mkdir()
    wrapper: tuple[str, ...] = ()
    if os.geteuid() == 0:
        # Root may write anywhere; as `nobody` the directory is shut.
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            pytest.skip("running as root and `setpriv` is missing: permissions do not bind")
        reachable = tmp_path
        while reachable != reachable.parent:
            if reachable.stat().st_mode & 0o005 != 0o005:
                reachable.chmod(reachable.stat().st_mode | 0o055)
            reachable = reachable.parent
        if subprocess.run(
            [setpriv, "--reuid=65534", "--regid=65534", "--clear-groups", str(BINARY), "--version"],
            capture_output=True,
        ).returncode:
            pytest.skip(f"user 65534 may not run {BINARY}: permissions cannot be tried here")
        wrapper = (setpriv, "--reuid=65534", "--regid=65534", "--clear-groups")
    path.chmod(0o555)
    log = failed_start(Server(path, wrapper=wrapper))
    assert str(path) in log
    assert "denied" in log.lower() or "writ" in log.lower()


def test_few_descriptors_start_or_name_the_limit(tmp_path):
    """Either it serves within what it was given, or it says which limit was too small."""
    limits = [("--nofile=16:16", "nofile"), ("--nofile=64:64", "nofile")]
    for limit, name in limits:
        start_or_name(Server(tmp_path / limit, wrapper=("prlimit", limit)), (name, "descriptor"))


def test_little_lockable_memory_starts_or_names_the_limit(tmp_path):
    """Rings of kernels before 5.12 charge `RLIMIT_MEMLOCK`; newer ones the control group."""
    start_or_name(Server(tmp_path, wrapper=("prlimit", "--memlock=4096:4096")), ("memlock",))


def start_or_name(server: Server, names: tuple[str, ...]) -> None:
    try:
        server.start()
    except RuntimeError:
        log = server.log()
        assert server.process.returncode not in (0, None), log
        assert "panicked" not in log, log
        assert any(name in log.lower() for name in names), log
        return
    assert server.boto().list_rooms(name="lobby")["rooms"]
    assert server.stop() == 0, server.log()


BAD_COMMANDS = {
    "unknown flag": (("dev", "--no-such-flag"), "--no-such-flag"),
    "unknown command": (("fly",), "fly"),
    "port out of range": (("dev", "--messaging-listen", "127.0.0.1:99999"), "99999"),
    "no address": (("dev", "--control-listen", "nowhere"), "nowhere"),
    "no shards": (("dev", "--shards", "0"), "shards"),
    "shards are no number": (("dev", "--shards", "many"), "many"),
    "unknown quotas": (("dev", "--quotas", "none-such"), "none-such"),
}


@pytest.mark.parametrize("case", BAD_COMMANDS)
def test_a_bad_flag_is_named_and_exits_two(case, tmp_path):
    arguments, cause = BAD_COMMANDS[case]
    done = subprocess.run(
        [str(BINARY), *arguments],
        capture_output=True,
        text=True,
        timeout=EXIT_SECONDS_MAX,
        cwd=tmp_path,
    )
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    assert cause in done.stderr
    assert "panicked" not in done.stderr


def test_dev_refuses_an_address_that_is_not_loopback(tmp_path):
    """The development credentials are public knowledge; they must not be served to a network.

    192.0.2.1 is reserved for documentation (RFC 5737): if the refusal were missing, nothing listens.
    """
    done = subprocess.run(
        [str(BINARY), "dev", "--messaging-listen", "192.0.2.1:8080", "--data-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=EXIT_SECONDS_MAX,
    )
    assert done.returncode != 0
    assert "loopback" in (done.stdout + done.stderr).lower()
