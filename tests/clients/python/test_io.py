"""What moves viewers' bytes: io_uring, or epoll where that is forbidden or configured; and what an operator is told."""

from __future__ import annotations

import errno
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rawws import WebSocket
from test_reload_keys import upgradable
from uproar import BINARY, Server

FORBID = Path(__file__).with_name("forbid.py")
IO = re.compile(r'^uproar_io_info\{backend="(\w+)"\} 1$', re.M)


def forbidden(error: int = errno.EPERM) -> tuple[str, ...]:
    return (sys.executable, str(FORBID), str(error))


def talk(server: Server) -> None:
    """Two viewers hear each other, by tokens of the official client."""
    arn = server.boto_cached.create_room(name="io", maximumMessageRatePerSecond=100)["arn"]
    viewers = [WebSocket(server.messaging_port, server.token(arn, user)) for user in ("bob", "eve")]
    for index, viewer in enumerate(viewers):
        viewer.say(f"from {index}", f"r{index}")
        assert [other.receive()["Content"] for other in viewers] == [f"from {index}"] * 2


@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOSYS, errno.EINVAL, errno.ENOMEM])
def test_a_server_without_io_uring_serves_with_epoll_and_says_why(tmp_path, error):
    """Goal: by itself, whatever the kernel answers; said in the start line, /metrics, health and the banner."""
    with Server(tmp_path, wrapper=forbidden(error)) as server:
        talk(server)
        assert IO.findall(server.metrics()) == ["epoll"]
        assert re.search(r"^uproar_rings 0$", server.metrics(), re.M)
        log = server.log()
        assert '"io":"epoll"' in log
        assert re.search(r'"message":"io_uring cannot be used: viewers are served with epoll","why":"[^"]+os error', log)
        assert re.search(r"^  Served with +epoll, because io_uring cannot be used: ", log, re.M)
        health = server.run("health", "--data-dir", str(server.data_dir)).stdout
        assert "rooms, epoll\nio_uring cannot be used: " in health
        health = json.loads(server.run("health", "--json", "--data-dir", str(server.data_dir)).stdout)
        assert health["io"] == "epoll" and "os error" in health["io_uring_refused"]


@pytest.mark.parametrize("io", ["io_uring", "epoll"])
def test_what_is_configured_is_used(tmp_path, io):
    with Server(tmp_path, extra=("--io", io)) as server:
        talk(server)
        assert IO.findall(server.metrics()) == [io]
        assert "cannot be used" not in server.log()
        assert ("Served with" in server.log()) == (io == "epoll")


def test_doctor_judges_the_backend_that_a_server_would_use(tmp_path):
    """Goal: refused rings are no obstacle for `auto`, and are one for `io_uring`; epoll needs a descriptor a viewer."""
    command = lambda *rest: [*forbidden(), str(BINARY), "doctor", "--json", "--connections", "1000", *rest]
    report = lambda *rest: json.loads(subprocess.run(command(*rest), capture_output=True, text=True).stdout)
    auto = report()
    assert auto["io"] == "epoll"
    found = {finding["check"]: finding for finding in auto["findings"]}
    assert found["server.io"]["found"].startswith("epoll: io_uring cannot be used: ")
    assert found["fs.epoll.max_user_watches"]["verdict"] == "ok"
    assert "one for each viewer" in found["open files"]["reason"]
    explicit = report("--io", "io_uring")
    assert explicit["io"] == "io_uring"
    found = {finding["check"]: finding["verdict"] for finding in explicit["findings"]}
    assert found["io_uring ring"] == "change"


def test_each_viewer_takes_a_descriptor_and_the_limit_says_so(tmp_path):
    """Goal: with epoll the connection limit fits the limit on open files, and the log names both; with io_uring the same
    limit allows far more."""
    few = ("prlimit", "--nofile=1024:1024")
    with Server(tmp_path / "epoll", wrapper=few, extra=("--io", "epoll")) as server:
        line = next(line for line in server.log().splitlines() if "allows fewer connections" in line)
        warning = json.loads(line)
        # 1,024 without the 544 that the server needs, and a quarter of the rest.
        assert (warning["allowed"], warning["open_files"]) == (360, 1024)
        assert "counts each viewer with epoll" in warning["message"]
    with Server(tmp_path / "io_uring", wrapper=few, extra=("--io", "io_uring")) as server:
        assert "allows fewer connections" not in server.log()


def test_viewers_stay_when_an_upgrade_changes_the_backend():
    """Goal: io_uring to epoll, epoll to epoll and back: the viewers stay, and every message comes once and in order."""
    with upgradable({"server.io": "io_uring"}) as server:
        arn = server.boto().create_room(name="io", maximumMessageRatePerSecond=100)["arn"]
        token = lambda user: server.boto().create_chat_token(
            roomIdentifier=arn, userId=user, capabilities=["SEND_MESSAGE"]
        )["token"]
        viewers = [WebSocket(server.messaging_port, token(f"u{index}")) for index in range(12)]
        assert IO.findall(server.metrics()) == ["io_uring"]
        for turn, io in enumerate(["epoll", "epoll", "io_uring"]):
            server.write({**server.settings, "server.io": io})
            upgraded = server.run("upgrade", "--data-dir", str(server.data_dir))
            assert upgraded.returncode == 0, upgraded
            assert IO.findall(server.metrics()) == [io]
            for number in range(5):
                viewers[turn].say(f"{turn}.{number}", f"r{turn}.{number}")
            for viewer in viewers:
                assert [viewer.receive()["Content"] for _ in range(5)] == [f"{turn}.{number}" for number in range(5)]
