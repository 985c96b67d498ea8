"""Viewers over TLS 1.3 stay connected while a new process takes over; OpenSSL at the other end, of this interpreter and
of `openssl s_client`, knows nothing of Uproar. Those over TLS 1.2 are cut and come back."""

from __future__ import annotations

import json
import os
import select
import shutil
import socket
import ssl
import subprocess
import time

import pytest

from rawws import READ_SECONDS, TEXT, Closed, WebSocket, encode, new_key, upgrade_head
from stalled_readers import miss_nothing
from uproar import Server

SUITES = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"]


class Sealer:
    """As a socket over TLS, whose records can be held back: `seal` returns them instead of sending them."""

    def __init__(self, below: socket.socket, context: ssl.SSLContext) -> None:
        self.below, self.arrived, self.made = below, ssl.MemoryBIO(), ssl.MemoryBIO()
        self.inner = context.wrap_bio(self.arrived, self.made, server_hostname="localhost")
        self.until_done(self.inner.do_handshake)

    def until_done(self, step):
        while True:
            try:
                done = step()
            except ssl.SSLWantReadError:
                self.below.sendall(self.made.read())
                data = self.below.recv(65536)
                self.arrived.write(data) if data else self.arrived.write_eof()
                continue
            self.below.sendall(self.made.read())
            return done

    def seal(self, data: bytes) -> bytes:
        self.inner.write(data)
        return self.made.read()

    def sendall(self, data: bytes) -> None:
        self.below.sendall(self.seal(data))

    def recv(self, most: int) -> bytes:
        try:
            return self.until_done(lambda: self.inner.read(most))
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            return b""

    def settimeout(self, seconds: float) -> None:
        self.below.settimeout(seconds)

    def close(self) -> None:
        self.below.close()


class Trust:
    """What `Wire` wraps its socket with."""

    def __init__(self, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> None:
        self.context = ssl.create_default_context()
        self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE
        self.context.minimum_version = self.context.maximum_version = version

    def wrap_socket(self, below: socket.socket, server_hostname: str) -> Sealer:
        return Sealer(below, self.context)


@pytest.fixture
def server():
    with Server(extra=("--tls",)) as server:
        yield server


def request(content: str) -> bytes:
    return json.dumps({"Action": "SEND_MESSAGE", "RequestId": content, "Content": content}).encode()


def test_records_cut_at_every_byte(server):
    """Goal: a record of which any part has arrived is completed by its rest in the new process, twice in a row; nobody is
    cut, and what is said meanwhile is heard by all. Method: a viewer for each byte at which the record can be cut."""
    arn = server.boto_cached.create_room(maximumMessageRatePerSecond=100)["arn"]

    def viewer(name: str) -> WebSocket:
        return WebSocket(server.messaging_port, server.token(arn, name), context=Trust())

    listener = viewer("listener")
    length = len(listener.socket.seal(encode(TEXT, request("0000"))))
    listener = viewer("another")
    cut = [viewer(f"u{at}") for at in range(length)]
    for round in range(2):
        rests = []
        for at, one in enumerate(cut):
            sealed = one.socket.seal(encode(TEXT, request(f"{round}{at:03}")))
            one.socket.below.sendall(sealed[:at])
            rests.append(sealed[at:])
        assert server.upgrade().viewers == length + 1
        for at, (one, rest) in enumerate(zip(cut, rests)):
            one.socket.below.sendall(rest)
            heard, _ = listener.receive_until(lambda frame: frame.get("Type") == "MESSAGE")
            assert heard["Content"] == f"{round}{at:03}"
    for one in cut:
        heard = [one.receive()["Content"] for _ in range(2 * length)]
        assert heard == [f"{round}{at:03}" for round in range(2) for at in range(length)]


def test_a_reader_who_is_behind_misses_nothing(server):
    """Goal: the rest of a send that the kernel took half of, and what follows it, is readable: no record is torn or made
    twice. Method: readers whose socket is full while three upgrades happen."""
    miss_nothing(server, rounds=4, context=Trust())


def test_tls_1_2_comes_back(server):
    """Goal: who speaks TLS 1.2 is cut without a Close frame, and let in again; the others stay."""
    arn = server.boto_cached.create_room()["arn"]
    old = Trust(ssl.TLSVersion.TLSv1_2)
    stays = WebSocket(server.messaging_port, server.token(arn, "new"), context=Trust())
    goes = WebSocket(server.messaging_port, server.token(arn, "old"), context=old)
    goes.say("hello")
    assert stays.receive()["Content"] == goes.receive()["Content"] == "hello"
    assert server.upgrade().viewers == 1
    with pytest.raises(Closed) as ended:
        goes.receive()
    assert ended.value.code is None
    again = WebSocket(server.messaging_port, server.token(arn, "old"), context=old)
    again.say("again")
    assert stays.receive()["Content"] == "again"


class OpenSsl:
    """`openssl s_client` as a viewer: it reads `K` and `k` at the beginning of its input as orders to change keys."""

    def __init__(self, port: int, suite: str, token: str) -> None:
        program = shutil.which("openssl")
        assert program, "openssl is missing: apt-get install openssl"
        command = [program, "s_client", "-connect", f"127.0.0.1:{port}", "-tls1_3", "-ciphersuites", suite]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.printed = b""
        self.await_printed(b"Verify return code")
        # A line at a time: what stands at the beginning of a read is what it takes for an order.
        self.write(upgrade_head(token, key=new_key()))
        self.await_printed(b"101 Switching Protocols")
        self.await_printed(b"\r\n\r\n")

    def write(self, data: bytes) -> None:
        os.write(self.process.stdin.fileno(), data)
        # The next write is to be the beginning of another read.
        time.sleep(0.1)

    def await_printed(self, wanted: bytes) -> None:
        deadline = time.monotonic() + READ_SECONDS
        while wanted not in self.printed:
            left = deadline - time.monotonic()
            assert left > 0 and self.process.poll() is None, (self.printed[-400:], wanted)
            if select.select([self.process.stdout], [], [], left)[0]:
                self.printed += os.read(self.process.stdout.fileno(), 65536)

    def say(self, content: str) -> None:
        self.write(encode(TEXT, request(content)))
        self.await_printed(f'"Content":"{content}"'.encode())

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            pipe.close()


@pytest.mark.parametrize("suite", SUITES)
def test_openssl_changes_its_keys_before_and_after(server, suite):
    """Goal: with each suite OpenSSL's key updates, with and without asking for ours, are followed before an upgrade and
    after it, and also one whose answer has not been sent when the upgrade comes."""
    arn = server.boto_cached.create_room(maximumMessageRatePerSecond=100)["arn"]
    viewer = OpenSsl(server.messaging_port, suite, server.token(arn, "openssl"))
    try:
        viewer.say("first")
        for number, order in enumerate([b"k\n", b"K\n", b"K\n"]):
            viewer.write(order)
            viewer.say(f"before {number}")
        viewer.write(b"K\n")
        assert server.upgrade().viewers == 1
        for number, order in enumerate([b"", b"k\n", b"K\n"]):
            if order:
                viewer.write(order)
            viewer.say(f"after {number}")
    finally:
        viewer.close()
