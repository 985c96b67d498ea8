"""`uproar dev` as a CI job meets it: several at once, a room that fixtures can name, a page whose words work here."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from uproar import ACCOUNT, BINARY, REGION, START_SECONDS_MAX, Server

LOBBY = f"arn:aws:ivschat:{REGION}:{ACCOUNT}:room/lobby0000000"


class Dev:
    """`uproar dev` with both ports left to the kernel, and with no data directory named."""

    def __init__(self, runtime: Path) -> None:
        self.log_path = runtime / f"log-{time.monotonic_ns()}"
        command = [str(BINARY), "dev", "--messaging-listen", "127.0.0.1:0"]
        command += ["--control-listen", "127.0.0.1:0", "--shards", "1"]
        environment = {**os.environ, "XDG_RUNTIME_DIR": str(runtime)}
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def page(self) -> str:
        """The address of the page, once the banner is there."""
        deadline = time.monotonic() + START_SECONDS_MAX
        while "Ctrl-C" not in (text := self.log_path.read_text()):
            assert self.process.poll() is None and time.monotonic() < deadline, text
            time.sleep(0.02)
        return re.search(r"Chat now +(\S+)", text)[1]

    def ticket(self) -> dict:
        with urllib.request.urlopen(f"{self.page()}demo/token?user=u", timeout=30) as answer:
            return json.load(answer)

    def end(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        return self.process.wait(60)


def directories(runtime: Path) -> list[str]:
    return sorted(path.name for path in runtime.iterdir() if path.is_dir())


def test_several_at_once_do_not_collide_and_leave_nothing(tmp_path):
    """Goal: each has a directory of its own, which goes with it; what a killed one leaves, the next removes."""
    with contextlib.ExitStack() as stack:
        servers = [Dev(tmp_path) for _ in range(3)]
        for server in servers:
            stack.callback(server.process.kill)
        tickets = [server.ticket() for server in servers]
        assert len({ticket["control"] for ticket in tickets}) == 3
        own = [f"uproar-dev-{server.process.pid}" for server in servers]
        assert directories(tmp_path) == sorted(own)
        assert servers[0].end(signal.SIGTERM) == 0
        assert directories(tmp_path) == sorted(own[1:])
        servers[1].end(signal.SIGKILL)
        assert directories(tmp_path) == sorted(own[1:])
        another = Dev(tmp_path)
        stack.callback(another.process.kill)
        another.page()
        assert directories(tmp_path) == sorted([own[2], f"uproar-dev-{another.process.pid}"])
        assert servers[2].end(signal.SIGINT) == another.end(signal.SIGTERM) == 0
    assert directories(tmp_path) == []


def test_the_page_names_this_server(tmp_path):
    """Goal: the address of the API is the one that the kernel gave, and the command makes a token of this
    server's keys."""
    server = Dev(tmp_path)
    try:
        ticket = server.ticket()
        assert urllib.parse.urlsplit(ticket["control"]).port > 0
        with urllib.request.urlopen(f"{ticket['control']}/readyz", timeout=30) as answer:
            assert answer.status == 200
        assert f"uproar-dev-{server.process.pid}" in ticket["command"]
    finally:
        server.end(signal.SIGTERM)


def test_the_command_of_the_page_makes_a_token_of_this_server(tmp_path):
    """Method: a directory whose name a shell would take apart."""
    with Server(tmp_path / "it's a directory") as server:
        url = f"http://127.0.0.1:{server.messaging_port}/demo/token?user=u"
        with urllib.request.urlopen(url, timeout=30) as answer:
            ticket = json.load(answer)
        command = f"{ticket['command']} --room {ticket['room']} --user bob"
        made = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
        assert made.returncode == 0, made.stderr
        assert opens(server, made.stdout.strip())


def opens(server: Server, token: str) -> bool:
    from websockets.sync.client import connect

    with connect(f"ws://127.0.0.1:{server.messaging_port}/", subprotocols=[token], open_timeout=30):
        return True


def test_lobby_has_one_arn_for_ever(tmp_path):
    """Goal: a fixture can name it, after a restart too, and also when somebody renamed or deleted it meanwhile."""
    with Server(tmp_path) as server:
        api = server.boto_cached
        assert [room["arn"] for room in api.list_rooms()["rooms"]] == [LOBBY]
        api.update_room(identifier=LOBBY, name="hall", maximumMessageLength=100)
    with Server(tmp_path) as server:
        api = server.boto_cached
        assert [room["name"] for room in api.list_rooms()["rooms"]] == ["hall"]
        assert api.get_room(identifier=LOBBY)["maximumMessageLength"] == 100
        api.delete_room(identifier=LOBBY)
    with Server(tmp_path) as server:
        room = server.boto_cached.get_room(identifier=LOBBY)
        assert (room["name"], room["maximumMessageLength"]) == ("lobby", 500)


def test_a_strangers_name_gets_no_token():
    with Server() as server:
        for host, status in (("evil.example", 403), (f"evil.example:{server.messaging_port}", 403), ("localhost", 200), ("[::1]", 200)):
            url = f"http://127.0.0.1:{server.messaging_port}/demo/token?user=u&role=moderator"
            request = urllib.request.Request(url, headers={"Host": host})
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    found = answer.status
            except urllib.error.HTTPError as error:
                found = error.code
            assert found == status, host
