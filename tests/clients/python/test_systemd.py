"""The unit of `deploy/` under a real systemd, with its filters."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

import pytest

from ports import free_port
from systemd_manager import ROOM, Manager


@pytest.fixture
def manager():
    with Manager() as manager:
        yield manager


class Ports:
    """The listeners of one server."""

    def __init__(self) -> None:
        self.messaging, self.control = free_port(), free_port()

    def configuration(self) -> str:
        return f"""
            server.data_dir = "{ROOM}/data"
            server.shards = 2
            messaging.listen = "127.0.0.1:{self.messaging}"
            control.listen = "127.0.0.1:{self.control}"
            [[keys]]
            id = "AKIDSYSTEMD000000000"
            secret = "a-secret-of-this-test-and-of-no-server"
        """

    def status(self, page: str) -> int:
        """The HTTP status of a page of the control listener."""
        address = f"http://127.0.0.1:{self.control}{page}"
        try:
            with urllib.request.urlopen(address, timeout=60) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code


def test_the_unit_starts_with_all_its_filters_and_stops(manager):
    ports = Ports()
    manager.install(ports.configuration())
    manager.systemctl("start", "uproar")
    pid = manager.main_pid()
    assert pid != 0, manager.journal()
    status = Path(f"/proc/{pid}/status").read_text()
    # CAP_NET_BIND_SERVICE alone, no new privileges, system calls filtered.
    assert "CapBnd:\t0000000000000400\n" in status
    assert "NoNewPrivs:\t1\n" in status and "Seccomp:\t2\n" in status
    assert ports.status("/readyz") == 200
    manager.systemctl("stop", "uproar")
    assert manager.property("ActiveState") == "inactive", manager.journal()
    assert manager.property("Result") == "success"
