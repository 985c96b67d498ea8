"""Goal: a `.creds` file, a user's JWT and seed as `nsc` makes them, is enough for a node and for `init`; one of a stranger is not.
Method: a broker with an operator, whose JWTs are made here; the user has the permissions of docs/cluster.md.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from cluster import NAME, Node
from nats_brokers import Brokers
from rawws import WebSocket
from test_cluster_security import PUBLISH, SUBSCRIBE, WAIT_SECONDS_MAX, encoded, serving, until
from uproar import BINARY, SCRATCH

# The first letter of a key: operator, account, user.
OPERATOR, ACCOUNT, USER = 14 << 3, 0, 20 << 3
SEED = 18 << 3
UNLIMITED = {"subs": -1, "data": -1, "payload": -1}


class Key:
    """A pair that signs JWTs."""

    def __init__(self, kind: int) -> None:
        self.private = ed25519.Ed25519PrivateKey.generate()
        raw = self.private.private_bytes(
            serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption()
        )
        public = self.private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        self.seed = encoded(bytes([SEED | kind >> 5, (kind & 31) << 3]) + raw)
        self.public = encoded(bytes([kind]) + public)

    def issue(self, subject: str, name: str, nats: dict) -> str:
        """The JWT that this key's owner gives to a subject."""
        claims = {"iat": int(time.time()), "iss": self.public, "name": name, "sub": subject, "nats": {**nats, "version": 2}}
        digest = hashlib.sha512(json.dumps(claims).encode()).digest()[:32]
        claims["jti"] = base64.b32encode(digest).decode().rstrip("=")
        text = f"{part({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{part(claims)}"
        return f"{text}.{url64(self.private.sign(text.encode()))}"


def url64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def part(value: dict) -> str:
    return url64(json.dumps(value).encode())


def credentials(account: Key, name: str, permissions: dict) -> str:
    """What `nsc generate creds` writes."""
    user = Key(USER)
    jwt = account.issue(user.public, name, {"type": "user", **UNLIMITED, **permissions})
    return (
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
    )


class Site:
    """One broker with an operator, and files of an administrator, a node and a stranger."""

    def __init__(self) -> None:
        self.directory = Path(SCRATCH.name) / f"credentials-{time.monotonic_ns()}"
        self.directory.mkdir()
        operator, account, other, system = Key(OPERATOR), Key(ACCOUNT), Key(ACCOUNT), Key(ACCOUNT)
        limits = {"conn": -1, "leaf": -1, "imports": -1, "exports": -1, "wildcards": True, **UNLIMITED}
        storage = {"mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1}
        self.brokers = Brokers(self.directory / "brokers", count=1)
        (self.broker,) = self.brokers.all
        store = self.broker.directory / "store"
        preloaded = {
            account.public: operator.issue(account.public, "chat", {"type": "account", "limits": {**limits, **storage}}),
            system.public: operator.issue(system.public, "SYS", {"type": "account", "limits": limits}),
        }
        (self.broker.directory / "nats.conf").write_text(
            f'listen: "127.0.0.1:{self.broker.port}"\nhttp: "127.0.0.1:{self.broker.monitor_port}"\n'
            f'max_payload: 1MB\njetstream {{ store_dir: "{store}", max_file_store: 64GB }}\n'
            f"operator: {operator.issue(operator.public, 'operator', {'type': 'operator'})}\n"
            f"system_account: {system.public}\nresolver: MEMORY\n"
            "resolver_preload: {\n" + "".join(f"  {name}: {jwt}\n" for name, jwt in preloaded.items()) + "}\n"
        )
        node = {"pub": {"allow": PUBLISH}, "sub": {"allow": SUBSCRIBE}}
        nobody = {"pub": {}, "sub": {}}
        for user, of, permissions in [("admin", account, nobody), ("node", account, node), ("stranger", other, nobody)]:
            self.file(user).write_text(credentials(of, user, permissions))
        self.secret = self.directory / "cluster.key"
        self.secret.write_bytes(os.urandom(32))
        self.secret.chmod(0o600)

    def file(self, user: str) -> Path:
        return self.directory / f"{user}.creds"

    def node(self, user: str) -> Node:
        settings = {"cluster.credentials": str(self.file(user)), "cluster.replicas": 1}
        return Node("node-1", [f"nats://127.0.0.1:{self.broker.port}"], self.secret, settings)

    def init(self, user: str) -> subprocess.CompletedProcess[str]:
        command = [str(BINARY), "cluster", "init", "--config", str(self.node(user).file)]
        return subprocess.run(command, capture_output=True, text=True, timeout=WAIT_SECONDS_MAX)


@pytest.fixture(scope="module")
def site():
    made = Site()
    with serving(made.broker):
        yield made


def test_a_file_of_credentials_is_enough(site: Site) -> None:
    done = site.init("admin")
    assert done.returncode == 0 and f"cluster {NAME} is made" in done.stdout, done
    node = site.node("node")
    node.launch()
    try:
        node.await_ready(time.monotonic() + WAIT_SECONDS_MAX)
        status, room = node.call("CreateRoom", {"name": "credentials"})
        assert status == 200, room
        WebSocket(node.messaging_port, node.mint(room["arn"], "ann")).close()
        assert "ermissions" not in node.whole_log(), node.log()
    finally:
        node.stop()
    assert "ermissions Violation" not in site.broker.log_path.read_text()


def test_a_strangers_file_is_not(site: Site) -> None:
    node = site.node("stranger")
    node.launch()
    try:
        until(node, "uthorization")
        assert not node.is_ready()
    finally:
        node.stop()
