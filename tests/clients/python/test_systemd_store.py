"""The unit of `deploy/` and systemd's descriptor store: nobody who connects while the server is away is refused."""

from __future__ import annotations

import os
import signal
import threading

import boto3
from botocore.config import Config

from aws import eventually
from ports import free_port
from rawws import WebSocket
from systemd_manager import Manager
from test_systemd import Ports, manager  # noqa: F401


class Site(Ports):
    """A server with one room, as its callers see it."""

    def client(self):
        return boto3.session.Session().client(
            "ivschat",
            region_name="us-west-2",
            endpoint_url=f"http://127.0.0.1:{self.control}",
            aws_access_key_id="AKIDSYSTEMD000000000",
            aws_secret_access_key="a-secret-of-this-test-and-of-no-server",
            config=Config(retries={"total_max_attempts": 1}, connect_timeout=60, read_timeout=60),
        )

    def token(self, room: str) -> str:
        return self.client().create_chat_token(roomIdentifier=room, userId="u")["token"]


def come_and_go(site: Site, room: str, away, back) -> None:
    """A viewer connects and a caller calls after `away`; both are served after `back`."""
    token = site.token(room)
    away()
    served: dict = {}

    def view() -> None:
        served["viewer"] = WebSocket(site.messaging, token)

    def call() -> None:
        served["caller"] = site.client().get_room(identifier=room)["arn"]

    waiting = [threading.Thread(target=each) for each in (view, call)]
    for thread in waiting:
        thread.start()
    back()
    for thread in waiting:
        thread.join(60)
    assert served.pop("caller") == room
    served.pop("viewer").close()


def test_kills_and_restarts_refuse_nobody(manager: Manager):  # noqa: F811
    """Method: three kills in a row, which the unit answers by itself, then `systemctl restart`. The store keeps three
    sockets, not more each time; the process changes."""
    site = Site()
    manager.install(site.configuration())
    manager.systemctl("start", "uproar")
    room = site.client().create_room()["arn"]
    assert manager.property("NFileDescriptorStore") == "3", manager.journal()
    for _ in range(3):
        before = manager.main_pid()

        def again(before: int = before) -> None:
            eventually(manager.main_pid, lambda pid: pid not in (0, before), 60)

        come_and_go(site, room, lambda: os.kill(before, signal.SIGKILL), again)
        assert manager.property("NFileDescriptorStore") == "3"
    before = manager.main_pid()
    come_and_go(site, room, lambda: None, lambda: manager.systemctl("restart", "uproar"))
    assert manager.main_pid() != before
    assert manager.property("NFileDescriptorStore") == "3"
    assert "0 viewers, 1 rooms" in eventually(
        lambda: manager.property("StatusText"), lambda text: "1 rooms" in text, 60
    )
    manager.systemctl("reload", "uproar")
    assert manager.property("ActiveState") == "active", manager.journal()
    assert manager.property("Result") == "success"


def test_a_changed_port_and_a_wrong_configuration(manager: Manager):  # noqa: F811
    """The old sockets leave the store with their port; a configuration that no start accepts ends the restarts."""
    site = Site()
    manager.install(site.configuration())
    manager.systemctl("start", "uproar")
    room = site.client().create_room()["arn"]
    site.messaging = free_port()
    manager.install(site.configuration())
    manager.systemctl("restart", "uproar")
    WebSocket(site.messaging, site.token(room)).close()
    assert manager.property("NFileDescriptorStore") == "3", manager.journal()
    manager.install("nonsense = true\n")
    manager.systemctl("restart", "uproar", check=False)
    state = eventually(lambda: manager.property("ActiveState"), lambda state: state == "failed", 60)
    assert (state, manager.property("ExecMainStatus")) == ("failed", "2"), manager.journal()
