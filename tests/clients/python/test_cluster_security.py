"""Brokers that ask for certificates and keys, brokers that are too old, and what a node says of them.

The permissions that docs/cluster.md names are the ones given here: what a node needs beyond them fails these tests.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from authority import Authority
from cluster import NAME, Node
from nats_brokers import Broker, Brokers
from ports import free_port
from rawws import WebSocket
from uproar import BINARY, SCRATCH

WAIT_SECONDS_MAX = 90.0
# Of a node: its own subjects, the bucket, and calls that change no stream.
PUBLISH = [
    f"up.{NAME}.>", f"$KV.up_{NAME}_registry.>", "$JS.API.STREAM.INFO.*", "$JS.API.STREAM.MSG.GET.*",
    "$JS.API.DIRECT.GET.*", f"$JS.API.CONSUMER.CREATE.KV_up_{NAME}_registry",
    "$JS.FC.>",
]
SUBSCRIBE = [f"up.{NAME}.>"]


def nkey() -> tuple[str, str]:
    """A user's seed and public key, as `nk -gen user -pubout` makes them."""
    private = ed25519.Ed25519PrivateKey.generate()
    raw = private.private_bytes(
        serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption()
    )
    public = private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    seed, user = 18 << 3, 20 << 3
    return encoded(bytes([seed | user >> 5, (user & 31) << 3]) + raw), encoded(bytes([user]) + public)


def encoded(data: bytes) -> str:
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return base64.b32encode(data + crc.to_bytes(2, "little")).decode().rstrip("=")


class Secured:
    """One broker with TLS, verified clients, and two users: one may make streams, one is a node."""

    def __init__(self) -> None:
        self.directory = Path(SCRATCH.name) / f"secured-{time.monotonic_ns()}"
        self.directory.mkdir()
        self.authority = Authority(self.directory)
        self.users = {}
        for user in ["init", "node"]:
            seed, public = nkey()
            self.users[user] = public
            self.file(user).write_text(seed)
        self.brokers = Brokers(self.directory / "brokers", count=1)
        (self.broker,) = self.brokers.all
        certificate, key = self.authority.issue("broker")
        rights = json.dumps({"publish": PUBLISH, "subscribe": SUBSCRIBE})
        # Alone: no routes, so no cluster of brokers.
        (self.broker.directory / "nats.conf").write_text(
            f'listen: "127.0.0.1:{self.broker.port}"\nhttp: "127.0.0.1:{self.broker.monitor_port}"\n'
            f'max_payload: 1MB\njetstream {{ store_dir: "{self.broker.directory / "store"}" }}\n'
            f'tls {{ cert_file: "{certificate}", key_file: "{key}", ca_file: "{self.authority.certificate}"'
            ", verify: true }\n"
            f"authorization {{ users: [ {{ nkey: {self.users['init']} }}"
            f", {{ nkey: {self.users['node']}, permissions: {rights} }} ] }}\n"
        )
        self.secret = self.directory / "cluster.key"
        self.secret.write_bytes(os.urandom(32))
        self.secret.chmod(0o600)

    def file(self, user: str) -> Path:
        return self.directory / f"{user}.nk"

    def node(self, **settings: object) -> Node:
        certificate, key = self.authority.issue("node")
        given = {
            "cluster.credentials": str(self.file("node")), "cluster.tls_ca": str(self.authority.certificate),
            "cluster.tls_certificate": str(certificate), "cluster.tls_key": str(key), "cluster.replicas": 1,
            **{f"cluster.{name}": value for name, value in settings.items()},
        }
        given = {name: value for name, value in given.items() if value is not None}
        return Node("node-1", [f"tls://127.0.0.1:{self.broker.port}"], self.secret, given)

    def init(self) -> None:
        node = self.node(credentials=str(self.file("init")))
        command = [str(BINARY), "cluster", "init", "--config", str(node.file)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_SECONDS_MAX)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@contextlib.contextmanager
def serving(broker: Broker) -> Iterator[None]:
    """Runs one, whose clients need credentials that `Brokers.start` has not."""
    broker.start()
    try:
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while not is_healthy(broker):
            assert broker.is_alive() and time.monotonic() < deadline, broker.log()
            time.sleep(0.05)
        yield
    finally:
        broker.kill()


@pytest.fixture(scope="module")
def secured():
    made = Secured()
    with serving(made.broker):
        made.init()
        yield made


def is_healthy(broker) -> bool:
    try:
        return broker.monitor("healthz")["status"] == "ok"
    except OSError:
        return False


def until(node: Node, words: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while words not in node.whole_log():
        assert node.is_alive(), f"exited {node.process.returncode}:\n{node.log()}"
        assert time.monotonic() < deadline, f"{words!r} is not in\n{node.log()}"
        time.sleep(0.05)


def test_a_node_needs_no_more_than_the_documented_rights(secured):
    """Goal: TLS with verified clients and an nkey with the documented permissions are enough for everything: readiness, which
    needs the whole path, the registry, a token's use. Method: the broker complains of whatever it does not permit."""
    node = secured.node()
    node.launch()
    try:
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        node.await_ready(deadline)
        status, room = node.call("CreateRoom", {"name": "secured"})
        assert status == 200, room
        token = node.mint(room["arn"], "ann")
        WebSocket(node.messaging_port, token).close()
        # Figures are those of a moment ago.
        while node.figure("cluster_token_uses_total") != 1:
            assert time.monotonic() < deadline, node.metrics()
            time.sleep(0.05)
        assert "ermissions" not in node.whole_log(), node.log()
    finally:
        node.stop()
    assert "ermissions Violation" not in secured.broker.log_path.read_text()


@pytest.mark.parametrize(("settings", "words"), [
    ({"credentials": None}, "uthorization"),
    ({"tls_ca": None}, "certificate"),
    ({"tls_certificate": None, "tls_key": None}, "waiting for the brokers"),
])
def test_a_stranger_waits_and_says_why(secured, settings, words):
    """Goal: without the key, or without trust in the broker's certificate, nothing is sent, and the log names the cause."""
    node = secured.node(**settings)
    node.launch()
    try:
        until(node, "waiting for the brokers")
        until(node, words)
        assert not node.is_ready()
    finally:
        node.kill()


def greet(listener: socket.socket, version: str) -> None:
    """Answers as a broker of this version does, as far as a client needs to learn it."""
    info = {
        "server_id": "N", "server_name": "old", "version": version, "proto": 1, "host": "127.0.0.1", "port": 4222,
        "headers": True, "max_payload": 1 << 20, "jetstream": True, "client_id": 1,
    }
    while True:
        try:
            accepted, _ = listener.accept()
        except OSError:
            return
        accepted.sendall(b"INFO " + json.dumps(info).encode() + b"\r\n")
        threading.Thread(target=pong, args=[accepted], daemon=True).start()


def pong(accepted: socket.socket) -> None:
    with accepted:
        while data := accepted.recv(65536):
            if b"PING" in data:
                accepted.sendall(b"PONG\r\n")


@pytest.mark.parametrize("version", ["2.9.10", "2.14.9"])
def test_an_old_broker_is_refused_by_name(version):
    """Goal: a broker on which the promises do not hold ends the start, with its name, its version and the remedy."""
    listener = socket.create_server(("127.0.0.1", free_port()))
    threading.Thread(target=greet, args=[listener, version], daemon=True).start()
    secret = Path(SCRATCH.name) / "old.key"
    secret.write_bytes(os.urandom(32))
    secret.chmod(0o600)
    node = Node("node-1", [f"nats://127.0.0.1:{listener.getsockname()[1]}"], secret, {})
    node.launch()
    try:
        assert node.process.wait(WAIT_SECONDS_MAX) == 1, node.log()
        for words in ["broker old", f"nats-server {version}", "2.15.0 is needed"]:
            assert words in node.whole_log(), node.log()
    finally:
        node.kill()
        listener.close()
