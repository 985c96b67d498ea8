"""deploy/nats.conf as it is, with other addresses, paths and keys: three real brokers take it, an administrator's credential sets
the cluster up, and a node's suffices for a node and for nothing more."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import ssl
import subprocess
import sys
import tempfile
import time
import types
from pathlib import Path

import nats
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from nats.errors import Error as NatsError

from cluster import NAME, Node
from nats_brokers import Brokers
from rawws import WebSocket
from test_cluster_security import Authority, encoded, nkey
from uproar import BINARY, REPOSITORY, SCRATCH

WAIT_SECONDS_MAX = 90.0
STREAM = f"UP_{NAME}_LOG_0"


class Pair:
    """What nats-py asks of the package `nkeys`, which is no dependency of these tests."""

    def __init__(self, seed: bytes) -> None:
        text = seed.decode()
        raw = base64.b32decode(text + "=" * (-len(text) % 8))
        self.private = ed25519.Ed25519PrivateKey.from_private_bytes(raw[2:34])
        public = self.private.public_key().public_bytes(
            serialization.Encoding.Raw, serialization.PublicFormat.Raw
        )
        self.public_key = encoded(bytes([20 << 3]) + public).encode()

    def sign(self, nonce: bytes) -> bytes:
        return self.private.sign(nonce)

    def wipe(self) -> None:
        pass


sys.modules.setdefault("nkeys", types.SimpleNamespace(KeyPair=Pair, from_seed=lambda seed: Pair(bytes(seed))))


class Site:
    """Three brokers with the file, users' seeds, and a node's settings."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="site-", dir=SCRATCH.name))
        self.authority = Authority(self.directory)
        self.seeds, public = {}, {}
        for user in ["node", "admin", "stranger"]:
            self.seeds[user], public[user] = nkey()
            self.file(user).write_text(self.seeds[user])
        self.brokers = Brokers(self.directory / "brokers")
        for broker in self.brokers.all:
            (broker.directory / "nats.conf").write_text(self.configured(broker, public))
        self.secret = self.directory / "cluster.key"
        self.secret.write_bytes(os.urandom(32))
        self.secret.chmod(0o600)

    def configured(self, broker, public: dict[str, str]) -> str:
        """The file of one broker; each replacement must find its place."""
        certificate, key = self.authority.issue(broker.name)
        routes = ", ".join(f'"nats://127.0.0.1:{other.route_port}"' for other in self.brokers.all if other is not broker)
        text = (REPOSITORY / "deploy" / "nats.conf").read_text()
        for pattern, now in [
            (r"server_name: nats-1", f"server_name: {broker.name}"),
            (r'"0\.0\.0\.0:4222"', f'"127.0.0.1:{broker.port}"'),
            (r'"127\.0\.0\.1:8222"', f'"127.0.0.1:{broker.monitor_port}"'),
            (r'"/var/lib/nats"', f'"{broker.directory / "store"}"'),
            (r'"0\.0\.0\.0:6222"', f'"127.0.0.1:{broker.route_port}"'),
            (r"routes: \[.*\]", f"routes: [{routes}]"),
            (r"/etc/nats/cert\.pem", str(certificate)),
            (r"/etc/nats/key\.pem", str(key)),
            (r"/etc/nats/ca\.pem", str(self.authority.certificate)),
            (r"NODES_PUBLIC_KEY", public["node"]),
            (r"ADMINS_PUBLIC_KEY", public["admin"]),
            (r"up\.main\.", f"up.{NAME}."),
            (r"up_main_", f"up_{NAME}_"),
        ]:
            text, count = re.subn(pattern, now, text)
            assert count, pattern
        return text

    def file(self, user: str) -> Path:
        return self.directory / f"{user}.nk"

    @property
    def urls(self) -> list[str]:
        return [f"tls://127.0.0.1:{broker.port}" for broker in self.brokers.all]

    def node(self, user: str = "node") -> Node:
        return Node("node-1", self.urls, self.secret, {
            "cluster.credentials": str(self.file(user)), "cluster.tls_ca": str(self.authority.certificate),
        })

    async def connect(self, user: str, errors: list[str]):
        async def failed(error: Exception) -> None:
            errors.append(str(error))

        trust = ssl.create_default_context(cafile=str(self.authority.certificate))
        return await nats.connect(
            self.urls, nkeys_seed_str=self.seeds[user], tls=trust, error_cb=failed, allow_reconnect=False,
            inbox_prefix=f"up.{NAME}.inbox.{user}".encode(), connect_timeout=10,
        )

    def call(self, user: str, *subjects: str) -> tuple[list[object], list[str]]:
        """Asks the brokers as this user: the answers, and what they complain of."""
        errors: list[str] = []

        async def ask() -> list[object]:
            client, answers = await self.connect(user, errors), []
            for subject in subjects:
                try:
                    answers.append((await client.request(subject, b"", timeout=10)).data)
                except (NatsError, TimeoutError) as error:
                    answers.append(error)
            await client.flush()
            await client.close()
            return answers

        return asyncio.run(ask()), errors


@pytest.fixture(scope="module")
def site():
    built = Site()
    try:
        built.brokers.start()
        command = [str(BINARY), "cluster", "init", "--config", str(built.node("admin").file)]
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        done = subprocess.run(command, capture_output=True, text=True, timeout=deadline - time.monotonic())
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        yield built
    finally:
        built.brokers.stop()


def test_a_nodes_rights_suffice(site):
    """Goal: a node with the nodes' credential is ready, makes rooms, mints, joins, moves slots and answers `status` and
    `balance`, and no broker complains of anything."""
    node = site.node()
    node.launch()
    try:
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        node.await_ready(deadline)
        status, room = node.call("CreateRoom", {"name": "site"})
        assert status == 200, room
        viewer = WebSocket(node.messaging_port, node.mint(room["arn"], "ann"))
        assert viewer.send_json({"Action": "SEND_MESSAGE", "Content": "hello", "RequestId": "1"})
        assert viewer.receive()["Content"] == "hello"
        viewer.close()
        for order in ["status", "balance"]:
            done = subprocess.run(
                [str(BINARY), "cluster", order, "--config", str(node.file)],
                capture_output=True, text=True, timeout=WAIT_SECONDS_MAX,
            )
            assert done.returncode == 0, f"{order}: {done.stdout}\n{done.stderr}"
        assert "ermissions" not in node.whole_log(), node.log()
    finally:
        node.stop()
    for broker in site.brokers.all:
        assert "ermissions Violation" not in broker.log_path.read_text(), broker.log()


def test_a_node_may_not_delete_and_a_stranger_nothing(site):
    """Goal: a node's credential deletes, empties and changes no stream, and reads no other subject; somebody else's key does
    not even connect; an administrator's sees that all is there. Method: the brokers' own answers."""
    orders = [f"$JS.API.STREAM.{order}.{STREAM}" for order in ["DELETE", "PURGE", "UPDATE", "CREATE"]]
    answers, errors = site.call("node", *orders, f"$JS.API.STREAM.INFO.{STREAM}")
    *refused, info = answers
    assert all(isinstance(answer, Exception) for answer in refused), refused
    assert len([error for error in errors if "ermissions" in error]) == len(orders), errors
    assert isinstance(info, bytes) and b'"error"' not in info, info
    with pytest.raises(Exception, match="(?i)authorization"):
        site.call("stranger", f"$JS.API.STREAM.INFO.{STREAM}")
    [info], errors = site.call("admin", f"$JS.API.STREAM.INFO.{STREAM}")
    assert not errors and b'"error"' not in info, info
