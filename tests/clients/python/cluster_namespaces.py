"""A cluster whose brokers and nodes have a network namespace each, on one bridge: packets between any two of them can be
dropped, in one direction or both, all or some, by nftables. Nothing is refused or reset, as where a cable is cut.

Needs root. What this machine's own namespace asks (balancer, tests, the log's reader) is never dropped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from authority import Authority
from cluster import Cluster, Node
from nats_brokers import Brokers, Place, Tls

NETWORK = "10.213.77"
HERE = f"{NETWORK}.254"
# Debian has it where only root's PATH leads.
NFT = shutil.which("nft", path=f"{os.environ['PATH']}:/usr/sbin")
RULES = "table inet trial { chain arriving { type filter hook input priority 0; policy accept; }; }"


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


def is_possible() -> bool:
    return os.geteuid() == 0 and bool(shutil.which("ip") and NFT)


class Namespaces:
    """One bridge and `names`, each a namespace with an address on it."""

    def __init__(self, names: list[str]) -> None:
        self.mark = f"t{os.getpid() % 100_000}"
        self.addresses = {name: f"{NETWORK}.{number}" for number, name in enumerate(names, 1)}

    def namespace(self, name: str) -> str:
        return f"{self.mark}-{name}"

    def place(self, name: str) -> Place:
        return Place(self.addresses[name], ("ip", "netns", "exec", self.namespace(name)))

    def make(self) -> Namespaces:
        run("ip", "link", "add", self.mark, "type", "bridge")
        run("ip", "address", "add", f"{HERE}/24", "dev", self.mark)
        run("ip", "link", "set", self.mark, "up")
        for number, (name, address) in enumerate(self.addresses.items()):
            space, link = self.namespace(name), f"{self.mark}v{number}"
            run("ip", "netns", "add", space)
            run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", space)
            run("ip", "link", "set", link, "master", self.mark, "up")
            for words in (f"address add {address}/24 dev eth0", "link set eth0 up", "link set lo up"):
                run("ip", "-n", space, *words.split())
            run("ip", "netns", "exec", space, NFT, RULES)
        return self

    def remove(self) -> None:
        for name in self.addresses:
            subprocess.run(["ip", "netns", "delete", self.namespace(name)], capture_output=True, timeout=30)
        subprocess.run(["ip", "link", "delete", self.mark], capture_output=True, timeout=30)

    # -- what is dropped --

    def drop(self, source: str, to: str, percent: int = 100) -> None:
        """Packets from one to the other are lost, that share of them."""
        some = f"numgen random mod 100 < {percent} " if percent < 100 else ""
        rule = f"add rule inet trial arriving ip saddr {self.addresses[source]} {some}drop"
        run("ip", "netns", "exec", self.namespace(to), NFT, rule)

    def part(self, here: list[str], there: list[str]) -> None:
        """Nothing passes between the two sides."""
        for one in here:
            for other in there:
                self.drop(one, other)
                self.drop(other, one)

    def mend(self) -> None:
        for name in self.addresses:
            run("ip", "netns", "exec", self.namespace(name), NFT, "flush", "chain", "inet", "trial", "arriving")


class NamespacedCluster(Cluster):
    """Brokers are reached over TLS, as off loopback they must be; every door is on loopback too, by the balancer."""

    BROKERS, NODES = [f"broker-{n}" for n in (1, 2, 3)], [f"node-{n}" for n in (1, 2, 3)]

    def __init__(self) -> None:
        self.net = Namespaces([*self.BROKERS, *self.NODES])
        super().__init__()
        authority = Authority(self.directory, tuple(self.net.addresses.values()))
        tls = Tls(authority.certificate, *authority.issue("broker"))
        places = [self.net.place(name) for name in self.BROKERS]
        self.brokers = Brokers(self.directory / "apart", places=places, tls=tls)
        self.nodes = [self.apart(node, tls) for node in self.nodes]

    def apart(self, node: Node, tls: Tls) -> Node:
        place = self.net.place(node.name)
        settings = {
            **node.settings, "cluster.tls_ca": str(tls.authority),
            "messaging.listen": f"{place.address}:{node.messaging_port}",
            "control.listen": f"{place.address}:{node.control_port}",
        }
        made = Node(node.name, self.brokers.urls, Path(node.settings["cluster.secret_file"]), {}, place)
        made.messaging_port, made.control_port = node.messaging_port, node.control_port
        settings |= {"server.data_dir": str(made.data_dir), "cluster.servers": self.brokers.urls}
        made.settings = settings
        made.write(settings)
        return made

    def start(self) -> Cluster:
        self.net.make()
        # It leads to the doors of nodes that are not there yet.
        self.start_balancer()
        return super().start()

    def start_balancer(self) -> None:
        if self.balancer is None:
            super().start_balancer()

    def more_doors(self) -> str:
        door = "listen {0}-{1}\n    mode tcp\n    bind 127.0.0.1:{2}\n    server far {3}:{2}\n"
        return "".join(
            door.format(node.name, kind, port, node.place.address)
            for node in self.nodes
            for kind, port in (("messaging", node.messaging_port), ("control", node.control_port))
        )

    def heal(self) -> None:
        self.net.mend()
        super().heal()

    def stop(self) -> None:
        try:
            super().stop()
        finally:
            self.net.remove()
