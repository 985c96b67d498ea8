"""A cluster under test: three brokers, three nodes of one shard each, HAProxy in front of both of their doors.

Each node is a `uproar serve` with a file, a data directory and ports of its own, which stay over a restart.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
from pathlib import Path

from botocore.config import Config

import raw_api
from cluster_network import Network
from configured import KEY, Configured
from nats_brokers import Brokers, Place
from ports import free_port
from uproar import ALL_CAPABILITIES, BINARY, SCRATCH

NAME = "trial"
# From the start of the first broker to the last node's `/readyz`.
READY_SECONDS_MAX = 90.0

# As docs/proxies.md says; the header tells the tests which node a viewer is on.
HAPROXY = """
global
    maxconn 4000
defaults
    mode http
    timeout connect 2s
    timeout client 90s
    timeout server 90s
    timeout check 1s
frontend viewers
    bind 127.0.0.1:{viewers}
    default_backend nodes
backend nodes
    balance leastconn
    option httpchk GET /readyz
    option redispatch
    retries 3
    timeout tunnel 90s
    http-response set-header x-node %s
    default-server check inter 1s fall 1 rise 1
{messaging}
frontend api
    bind 127.0.0.1:{api}
    default_backend doors
backend doors
    balance roundrobin
    option httpchk GET /readyz
    option redispatch
    retries 3
    default-server check inter 1s fall 1 rise 1
{control}
"""


class Node(Configured):
    """One node. Its signed calls are made with the key that is in every node's file."""

    def __init__(
        self, name: str, brokers: list[str], secret_file: Path, settings: dict[str, object], place: Place = Place()
    ) -> None:
        super().__init__({
            "server.shards": 1,
            "cluster.name": NAME,
            "cluster.node": name,
            "cluster.servers": brokers,
            "cluster.secret_file": str(secret_file),
            "log.json": False,
            **settings,
        })
        self.name, self.place = name, place
        self.command = [*place.enter, *self.command]

    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def freeze(self) -> None:
        """SIGSTOP: connections stay and nothing answers."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def call(self, operation: str, body: object) -> tuple[int, dict]:
        """An operation, signed: status and JSON."""
        signed = {"key": KEY[0], "secret": KEY[1]}
        given = {"Content-Type": "application/json"}
        status, _, answer = raw_api.call(
            self, "POST", f"/{operation}", json.dumps(body).encode(), given, **signed
        )
        return status, json.loads(answer) if answer else {}

    def mint(self, room: str, user: str, minutes: int = 60) -> str:
        body = {
            "roomIdentifier": room, "userId": user, "capabilities": ALL_CAPABILITIES,
            "sessionDurationInMinutes": minutes,
        }
        status, answer = self.call("CreateChatToken", body)
        assert status == 200, (status, answer)
        return answer["token"]

    def figure(self, name: str) -> float:
        """The sum of a metric's series, by its name without `uproar_`; 0 if there are none."""
        lines = [line for line in self.metrics().splitlines() if line.startswith(f"uproar_{name}")]
        exact = [line for line in lines if line[len(f"uproar_{name}")] in " {"]
        return sum(float(line.split()[-1]) for line in exact)

    def is_ready(self) -> bool:
        with contextlib.suppress(OSError, urllib.error.HTTPError):
            return self.page("/readyz", timeout=2)[0] == 200
        return False

    def await_ready(self, deadline: float) -> None:
        """Waits for its `/readyz` until then, by the monotonic clock."""
        while not self.is_ready():
            assert self.is_alive(), f"{self.name} exited {self.process.returncode}:\n{self.log()}"
            assert time.monotonic() < deadline, f"{self.name} is not ready:\n{self.log()}"
            time.sleep(0.05)

    def whole_log(self) -> str:
        return self.log_path.read_text(errors="replace")


class Cluster:
    """Brokers, nodes and balancer; a context manager. `networked` nodes reach the brokers through `networks[name]`."""

    def __init__(
        self, nodes: int = 3, networked: tuple[str, ...] = (), settings: dict[str, object] | None = None
    ) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="cluster-", dir=SCRATCH.name))
        self.brokers = Brokers(self.directory / "brokers")
        secret = self.directory / "cluster.key"
        secret.write_bytes(os.urandom(32))
        secret.chmod(0o600)
        self.networks = {name: Network([broker.port for broker in self.brokers.all]) for name in networked}
        self.nodes = []
        for number in range(1, nodes + 1):
            name = f"node-{number}"
            urls = self.networks[name].urls if name in self.networks else self.brokers.urls
            self.nodes.append(Node(name, urls, secret, {"quotas.room_rates": True, **(settings or {})}))
        self.viewers_port, self.api_port = free_port(), free_port()
        self.balancer: subprocess.Popen[bytes] | None = None

    def node(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)

    def living(self) -> list[Node]:
        return [node for node in self.nodes if node.is_alive()]

    # -- life --

    def __enter__(self) -> Cluster:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def start(self) -> Cluster:
        self.brokers.start()
        self.init()
        for node in self.nodes:
            node.launch()
        self.await_ready()
        self.start_balancer()
        return self

    def init(self) -> None:
        """`uproar cluster init` with the first node's file."""
        command = [str(BINARY), "cluster", "init", "--config", str(self.nodes[0].file)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=READY_SECONDS_MAX)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"

    def await_ready(self, *nodes: Node, seconds: float = READY_SECONDS_MAX) -> Cluster:
        """Waits for `/readyz` of all living nodes, or of these."""
        deadline = time.monotonic() + seconds
        for node in nodes or self.living():
            node.await_ready(deadline)
        return self

    def start_balancer(self) -> None:
        found = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
        assert found, "haproxy is missing: apt-get install haproxy"
        line = "    server {0.name} {0.place.address}:{1} port {0.control_port}"
        file = self.directory / "haproxy.cfg"
        file.write_text(HAPROXY.format(
            viewers=self.viewers_port, api=self.api_port,
            messaging="\n".join(line.format(node, node.messaging_port) for node in self.nodes),
            control="\n".join(line.format(node, node.control_port) for node in self.nodes),
        ) + self.more_doors())
        with (self.directory / "haproxy.log").open("ab") as log:
            self.balancer = subprocess.Popen([found, "-db", "-f", str(file)], stdout=log, stderr=log)
        deadline = time.monotonic() + READY_SECONDS_MAX
        for port in (self.viewers_port, self.api_port):
            while True:
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", port), 5).close()
                    break
                log = (self.directory / "haproxy.log").read_text()
                assert self.balancer.poll() is None and time.monotonic() < deadline, log
                time.sleep(0.02)

    def more_doors(self) -> str:
        """What else the balancer does: a part of its file."""
        return ""

    def heal(self) -> None:
        """Everything runs again: what is dead is started, what stands still goes on, networks are whole."""
        for network in self.networks.values():
            network.mend()
        for broker in self.brokers.all:
            if broker.is_alive():
                broker.thaw()
            else:
                broker.start()
        self.brokers.await_quorum()
        for node in self.nodes:
            if node.is_alive():
                node.thaw()
            else:
                node.launch()
        self.await_ready()
        self.brokers.await_current()

    def stop(self) -> None:
        """Ends all of it, however it is."""
        for node in self.nodes:
            if node.is_alive():
                node.thaw()
                node.kill()
        if self.balancer is not None:
            self.balancer.terminate()
            self.balancer.wait(60)
        self.brokers.stop()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- clients --

    def any(self) -> Node:
        return random.choice(self.living())

    def mint(self, room: str, user: str) -> str:
        """A token of a random node; raises while that one cannot."""
        return self.any().mint(room, user)

    def mint_many(self, room: str, count: int) -> list[str]:
        """Tokens by the command line, of a node's own copy of the sealing key."""
        command = ["token", "create", "--data-dir", str(self.nodes[0].data_dir), "--room", room, "--user", "crowd"]
        made = subprocess.run(
            [str(BINARY), *command, "--count", str(count)], capture_output=True, text=True, timeout=READY_SECONDS_MAX
        )
        assert made.returncode == 0, made.stderr
        return made.stdout.split()

    def rooms(self, count: int, **settings: object) -> list[str]:
        """New rooms' ARNs, each made on another node."""
        made = []
        for number in range(count):
            node = self.living()[number % len(self.living())]
            status, answer = node.call("CreateRoom", {"maximumMessageRatePerSecond": 100, **settings})
            assert status == 200, (status, answer)
            made.append(answer["arn"])
        return made

    def boto(self, node: Node | None = None):
        """The official client through the balancer, which retries as SDKs do, or of one node without retries."""
        if node is not None:
            return node.boto()
        patient = Config(retries={"total_max_attempts": 5, "mode": "standard"}, connect_timeout=10, read_timeout=30)
        return self.nodes[0].boto(endpoint_url=f"http://127.0.0.1:{self.api_port}", config=patient)

    def logs(self) -> str:
        """The end of every node's log, for a failure's report."""
        return "\n".join(f"-- {node.name}\n{node.log()[-3000:]}" for node in self.nodes)


def serve() -> None:
    """For tests in other languages: starts a cluster and says where it is, then obeys lines `VERB NODE`, each answered
    by a line, until its input ends. A node that is restarted first waits until the balancer has seen its 503, as
    docs/proxies.md advises: nobody whom it cuts is sent back to it."""
    with Cluster(settings={"drain.notice_s": 3}) as running:
        nodes = [
            {"name": node.name, "messaging": node.messaging_port, "control": node.control_port}
            for node in running.nodes
        ]
        key = {"accessKeyId": KEY[0], "secretAccessKey": KEY[1]}
        doors = {"viewers": running.viewers_port, "api": running.api_port}
        print(json.dumps({**doors, "nodes": nodes, "key": key}), flush=True)
        for line in sys.stdin:
            verb, name = line.split()
            obey(running, verb, running.node(name))
            print("{}", flush=True)


def obey(cluster: Cluster, verb: str, node: Node) -> None:
    if verb == "kill":
        node.kill()
    elif verb == "start":
        node.launch()
        cluster.await_ready(node)
    elif verb == "restart":
        node.process.send_signal(signal.SIGTERM)
        assert node.process.wait(90) == 0, node.log()
        node.launch()
        cluster.await_ready(node)
    else:
        raise ValueError(f"no such order: {verb}")


if __name__ == "__main__":
    serve()
