"""TLS sessions are resumed by tickets: across connections, shards, reloads and upgrades, until their keys are forgotten. OpenSSL
at the other end, of this interpreter and of `openssl s_client`, knows nothing of Uproar."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import urllib.request

import pytest

from rawws import WebSocket
from test_reload import wait_until
from test_upgrade_tls import Sealer, Trust
from uproar import Server

ROTATED = "TLS session tickets have another key"
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


class Returning(Trust):
    """One client's memory of sessions: each connection offers the one before."""

    def __init__(self, version: ssl.TLSVersion) -> None:
        super().__init__(version)
        self.last: Sealer | None = None
        self.name = "localhost"

    def wrap_socket(self, below, server_hostname):
        session = self.last.inner.session if self.last else None
        self.last = Offering(below, self.context, self.name, session)
        return self.last

    def connect(self, server: Server, arn: str, name: str) -> tuple[WebSocket, bool]:
        """A viewer who has said something, and whether the session was resumed."""
        viewer = WebSocket(server.messaging_port, server.token(arn, name), context=self)
        viewer.say(f"hello of {name}")
        assert viewer.receive()["Content"] == f"hello of {name}"
        return viewer, self.last.inner.session_reused


class Offering(Sealer):
    def __init__(self, below, context: ssl.SSLContext, name: str, session) -> None:
        self.below, self.arrived, self.made = below, ssl.MemoryBIO(), ssl.MemoryBIO()
        self.inner = context.wrap_bio(self.arrived, self.made, server_hostname=name, session=session)
        self.until_done(self.inner.do_handshake)


def handshakes(server: Server) -> dict[str, int]:
    page = server.metrics()
    return {kind: int(count) for kind, count in re.findall(r'^uproar_tls_handshakes_total{kind="(\w+)"} (\d+)', page, re.M)}


@pytest.fixture
def server():
    with Server(extra=("--tls",)) as server:
        yield server


@pytest.mark.parametrize("version", VERSIONS)
def test_a_viewer_who_comes_back_resumes(server, version):
    """Goal: on whichever shard, after a reload and after an upgrade, one session after the other; what is said then is read,
    so records are counted right behind tickets. Method: enough connections that every shard gets some."""
    arn = server.boto_cached.create_room(maximumMessageRatePerSecond=100)["arn"]
    client = Returning(version)
    _, resumed = client.connect(server, arn, "first")
    assert not resumed
    count = 12
    for number in range(count):
        viewer, resumed = client.connect(server, arn, f"again {number}")
        assert resumed, number
        viewer.close()
    assert handshakes(server) == {"full": 1, "resumed": count}
    done = server.run("reload", "--data-dir", str(server.data_dir))
    assert done.returncode == 0, done.stderr
    stays, resumed = client.connect(server, arn, "behind a reload")
    assert resumed
    for round in range(2):
        # One who has resumed crosses as others do, and one who has not been here comes to the new process.
        is_carried = version == ssl.TLSVersion.TLSv1_3
        before = server.upgrade().viewers
        if is_carried:
            assert before >= 1
            stays.say(f"stays {round}")
            stays.receive_until(lambda frame: frame.get("Content") == f"stays {round}")
        _, resumed = client.connect(server, arn, f"behind upgrade {round}")
        assert resumed
        assert handshakes(server) == {"full": 0, "resumed": 1}


def test_who_has_no_ticket_or_a_foreign_one_shakes_hands_in_full(server):
    """Goal: a ticket of another server, whose keys this one has not, does no harm."""
    client = Returning(ssl.TLSVersion.TLSv1_3)
    with Server(extra=("--tls",)) as other:
        arn = other.boto_cached.create_room()["arn"]
        client.connect(other, arn, "elsewhere")
        assert client.connect(other, arn, "elsewhere again")[1]
    arn = server.boto_cached.create_room()["arn"]
    assert not client.connect(server, arn, "here")[1]
    assert client.connect(server, arn, "here again")[1]
    assert handshakes(server) == {"full": 1, "resumed": 1}


def test_a_server_that_was_stopped_has_forgotten(tmp_path):
    """Goal: keys lie in no file: the next start on the same directory knows none of the old tickets."""
    client = Returning(ssl.TLSVersion.TLSv1_3)
    for _ in range(2):
        with Server(tmp_path / "data", extra=("--tls",)) as server:
            arn = server.boto_cached.create_room()["arn"]
            assert not client.connect(server, arn, "first")[1]
            assert client.connect(server, arn, "second")[1]


@pytest.mark.parametrize("version", VERSIONS)
def test_keys_are_forgotten(server, version):
    """Goal: a ticket is good for one period of its key and the next, whatever was connected meanwhile; the clock of `uproar dev`
    turns."""
    arn = server.boto_cached.create_room()["arn"]
    kept = Returning(version)
    kept.connect(server, arn, "first")
    first = kept.last
    turn(server, 7)
    kept.last = first
    assert kept.connect(server, arn, "in the next period")[1]
    # The first ticket's key opened that one too; now it is gone, and the key after it is the previous one.
    second = kept.last
    turn(server, 7)
    kept.last = first
    assert not kept.connect(server, arn, "two periods later")[1]
    kept.last = second
    assert kept.connect(server, arn, "one period later")[1]


def turn(server: Server, hours: int) -> None:
    """Turns the clock, and waits until the server has looked at it."""
    seen = server.log().count(ROTATED)
    body = json.dumps({"advance_seconds": hours * 3600}).encode()
    request = urllib.request.Request(f"{server.control_url}/emulator/clock", data=body, method="POST")
    with urllib.request.urlopen(request, timeout=60, context=server.context) as answer:
        assert answer.status == 200
    wait_until(lambda: server.log().count(ROTATED) == seen + 1)


def s_client(server: Server, *options: str) -> str:
    """`openssl s_client` that ends when the server has answered a request for a page."""
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{server.messaging_port}", "-ign_eof", *options],
        input="GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", capture_output=True, text=True, timeout=60,
    )
    return done.stdout


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_keeps_its_session_in_a_file(server, tmp_path, version):
    """Goal: as above with `-sess_out` and `-sess_in`; one ticket comes with each handshake of TLS 1.3, good for no early data."""
    session = tmp_path / "session"
    first = s_client(server, version, "-sess_out", str(session))
    assert re.search(r"^New, TLSv", first, re.M) and session.exists(), first
    lifetime = re.findall(r"ticket lifetime hint: (\d+)", first)
    assert set(lifetime) == {"21600"}, first
    if version == "-tls1_3":
        assert first.count("Post-Handshake New Session Ticket arrived") == 1, first
        assert "Max Early Data: 0" in first, first
    again = s_client(server, version, "-sess_in", str(session))
    assert re.search(r"^Reused, TLSv", again, re.M), again
    server.upgrade()
    again = s_client(server, version, "-sess_in", str(session))
    assert re.search(r"^Reused, TLSv", again, re.M), again
