"""What nobody plans for: everything dies at once, data directories come back from a copy, operators delete what nodes
live on, strangers write where only nodes should. Each ends in a whole cluster or in a refusal that says why; never in
another order, a loss that nobody counts, or a token used twice."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import time

import pytest

from cluster import NAME, Cluster, Node
from cluster_api import present
from cluster_log import PARTITIONS
from cluster_trial import PAUSES, Trial, by_hand, started
from uproar import BINARY

cluster = started()
WAIT_SECONDS_MAX = 90.0


@pytest.fixture(autouse=True)
def whole(cluster):
    cluster.heal()
    yield
    cluster.heal()


def used_tokens(cluster, count: int = 12) -> list[str]:
    """Tokens that have opened a connection, dealt out over nodes."""
    tokens = cluster.mint_many(cluster.rooms(1)[0], count)
    for number, token in enumerate(tokens):
        assert present([cluster.nodes[number % 3].messaging_port], token) == [101]
    return tokens


def assert_used(cluster, tokens: list[str]) -> None:
    for token in tokens:
        assert present([node.messaging_port for node in cluster.nodes], token) == [401] * 3


@pytest.mark.parametrize("what", [pytest.param("nodes", marks=by_hand), "nodes and brokers"])
def test_everything_dies_at_once(cluster, what):
    """Goal: what was echoed before is in the log, once, and nobody is heard again who was not; tokens used before stay
    used; everybody comes back. Method: SIGKILL of all three nodes, and of all brokers too."""
    tokens = used_tokens(cluster)
    with Trial(cluster) as trial:
        trial.talk(3)
        since = time.monotonic()
        for process in (*cluster.nodes, *(cluster.brokers.all if "brokers" in what else ())):
            process.kill()
        cluster.heal()
        PAUSES.setdefault(f"all {what} killed at once, until all are ready", []).append(time.monotonic() - since)
        trial.viewers.await_all()
        trial.talk_until_heard()
        trial.talk(1)
    assert_used(cluster, tokens)


@by_hand
def test_a_node_comes_back_with_an_old_copy_of_its_data(cluster):
    """Goal: a restored data directory is brought up to date before the node serves: no deleted room comes back, no new
    one is missing, used tokens stay used."""
    node, other = cluster.nodes[0], cluster.nodes[1]
    kept, deleted = cluster.rooms(2)
    tokens = used_tokens(cluster)
    node.kill()
    copy = node.data_dir.with_suffix(".copy")
    shutil.copytree(node.data_dir, copy, ignore=shutil.ignore_patterns("*.sock"))
    node.launch()
    cluster.await_ready(node)
    used = used_tokens(cluster)
    made = cluster.rooms(3)
    for room in made:
        assert other.call("UpdateRoom", {"identifier": room, "name": "changed"})[0] == 200
    assert other.call("UpdateRoom", {"identifier": kept, "name": "changed"})[0] == 200
    assert other.call("DeleteRoom", {"identifier": deleted})[0] == 204
    node.kill()
    shutil.rmtree(node.data_dir)
    copy.rename(node.data_dir)
    node.launch()
    cluster.await_ready(node)
    for room in (kept, *made):
        assert node.call("GetRoom", {"identifier": room})[1]["name"] == "changed"
    assert node.call("GetRoom", {"identifier": deleted})[0] == 404
    assert other.call("GetRoom", {"identifier": deleted})[0] == 404
    assert_used(cluster, tokens + used)
    with Trial(cluster, viewers=60) as trial:
        trial.talk(2)


def stranger(cluster, **changed: object) -> Node:
    """One more node of this cluster, with these settings of its own."""
    one = cluster.nodes[0]
    settings = {"quotas.room_rates": True, **{f"cluster.{name}": value for name, value in changed.items()}}
    return Node("node-4", cluster.brokers.urls, one.settings["cluster.secret_file"], settings)


def until_said(node: Node, words: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not re.search(words, node.whole_log()):
        assert time.monotonic() < deadline, f"{words!r} is not in\n{node.log()}"
        time.sleep(0.05)


def test_two_nodes_have_one_name(cluster):
    """Goal: the one that came later says so, is not ready and homes nothing; the cluster goes on."""
    with Trial(cluster, viewers=60) as trial:
        # A node that has been alone with its name for 3 s was there first.
        trial.talk(8)
        twin = stranger(cluster, node="node-1")
        twin.launch()
        try:
            until_said(twin, "another node has this one's name")
            trial.talk(7)
            assert twin.figure("cluster_slots_home") == 0 and not twin.is_ready()
            assert all(node.is_ready() for node in cluster.nodes), "the others are as they were"
            assert "another node has this one's name" in cluster.nodes[0].whole_log(), "the first says so, too"
        finally:
            twin.kill()


@by_hand
def test_a_node_with_another_secret(cluster, tmp_path):
    """Goal: it cannot read what the others have sealed, says so and what to do, and takes no part; nor may it `init`.
    The others go on."""
    secret = tmp_path / "other.key"
    secret.write_bytes(os.urandom(32))
    secret.chmod(0o600)
    with Trial(cluster, viewers=60) as trial:
        one = stranger(cluster, secret_file=str(secret))
        one.launch()
        try:
            until_said(one, "secret_file is not that of the cluster")
            trial.talk(7)
            assert one.is_alive() and not one.is_ready()
            assert sum(node.figure("cluster_slots_home") for node in cluster.nodes) == 256, "it homes something"
        finally:
            one.kill()
    command = [str(BINARY), "cluster", "init", "--config", str(one.file)]
    again = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_SECONDS_MAX)
    assert again.returncode == 1 and "secret_file" in again.stderr, again
    assert all(node.is_ready() for node in cluster.nodes)


def test_an_operator_purges_the_logs(cluster):
    """Goal: the cluster goes on by itself: one order for everybody, nobody hears anything twice, and what a node cannot
    have any more it counts. Method: all eight streams are emptied, again and again, while people chat."""
    with Trial(cluster, is_log_harmed=True) as trial, cluster.brokers.client() as client:
        trial.talk(2)
        for _ in range(3):
            since = time.monotonic()
            for partition in range(PARTITIONS):
                client.api(f"STREAM.PURGE.UP_{NAME}_LOG_{partition}")
            trial.talk_until_heard()
            trial.pause("an operator purges the logs", since - 0.1)
            trial.talk(2 * random.random())
        # Who speaks first where a log was emptied may be told 500, not known: the next trial begins when a home has
        # written into each of them again, which it does every 15 s.
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while slots(client) < 256:
            assert time.monotonic() < deadline, f"{slots(client)} of 256 logs have a record"
            time.sleep(0.1)


def slots(client) -> int:
    """Logs that have a record."""
    states = (client.api(f"STREAM.INFO.UP_{NAME}_LOG_{partition}")["state"] for partition in range(PARTITIONS))
    return sum(state.get("num_subjects", 0) for state in states)


FORGED = [b"", b"garbage", b"\x01\x03", b"\x02" + bytes(60), b"\x01\x03\xff\xff\xff\xff", os.urandom(200), bytes(5000)]


@by_hand
def test_a_stranger_writes_into_the_log(cluster):
    """Goal: bytes that no node wrote stop nobody: the slot is taken anew behind them, and every node says so. Nothing is
    lost, nothing twice. Method: whoever has the nodes' credentials can write; garbage on log subjects."""
    with Trial(cluster, is_log_harmed=True) as trial, cluster.brokers.client() as client:
        trial.talk(2)
        since = time.monotonic()
        for slot in range(0, 256, 16):
            client.append(f"up.{NAME}.log.{slot % PARTITIONS}.{slot}", random.choice(FORGED[1:]))
        trial.talk_until_heard()
        trial.pause("garbage in the log", since - 0.1)
        trial.talk(2)
    for node in cluster.nodes:
        assert "cannot be read" in node.whole_log(), node.log()


@by_hand
def test_a_stranger_speaks_to_nodes(cluster):
    """Goal: garbage and forged copies on the subjects between nodes harm nobody. Method: on signs of life, on published
    records and on every node's own subject."""
    with Trial(cluster) as trial, cluster.brokers.client() as client:
        trial.talk(1)
        since = time.monotonic()
        subjects = [f"up.{NAME}.here", *(f"up.{NAME}.out.{slot % PARTITIONS}.{slot}" for slot in range(0, 256, 5))]
        subjects += [f"up.{NAME}.to.{home}" for home in homes(cluster)]
        for subject in subjects:
            for payload in FORGED:
                client.wait(client.nc.publish(subject, payload))
        client.wait(client.nc.flush())
        trial.talk(3)
        trial.pause("garbage between nodes", since)
    assert not trial.refused(0), trial.refused(0)[:5]
    assert all(node.is_ready() for node in cluster.nodes)


FLOOD_BYTES = 48 << 20


@by_hand
def test_a_broker_cuts_a_node_that_does_not_read(cluster):
    """Goal: it comes back, and its own viewers get in order what they missed. Method: the node stands still while more
    is published than the kernel's buffers and the broker keep for it."""
    node = cluster.nodes[2]
    with Trial(cluster) as trial, cluster.brokers.client() as client:
        trial.talk(2)
        since = time.monotonic()
        slow = sum(broker.monitor("varz")["slow_consumers"] for broker in cluster.brokers.all)
        node.freeze()
        for _ in range(FLOOD_BYTES // 500_000):
            client.wait(client.nc.publish(f"up.{NAME}.out.0.0", bytes(500_000)))
            client.wait(client.nc.flush())
        trial.talk_until_heard(node.name)
        assert sum(broker.monitor("varz")["slow_consumers"] for broker in cluster.brokers.all) > slow, "nobody was cut"
        node.thaw()
        cluster.await_ready(node)
        trial.talk_until_heard()
        trial.pause("a node that does not read is cut by its broker", since - 0.1, node.name)
        trial.talk(1)
    assert not trial.refused(since, node.name), trial.refused(since, node.name)[:5]


def homes(cluster) -> set[str]:
    """Incarnations of the nodes, as subjects have them."""
    command = [str(BINARY), "cluster", "status", "--json", "--config", str(cluster.nodes[0].file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_SECONDS_MAX)
    return set(re.findall(r"\b[0-9a-f]{16}\b", done.stdout))


@by_hand
def test_an_operator_deletes_the_logs():
    """Goal: nodes without logs say what is missing and are not ready. The logs are made anew by `init` with one node
    stopped; the others follow without a restart, and their viewers stay."""
    with Cluster() as cluster, cluster.brokers.client() as client:
        cluster.nodes[0].stop()
        with Trial(cluster, is_log_harmed=True, viewers=60, rate=40) as trial:
            trial.talk(2)
            for partition in range(PARTITIONS):
                client.api(f"STREAM.DELETE.UP_{NAME}_LOG_{partition}")
            await_unready(cluster.nodes[1:])
            until_said(cluster.nodes[1], "stream not found")
            since = time.monotonic()
            cluster.init()
            cluster.nodes[0].launch()
            cluster.await_ready(*cluster.nodes)
            trial.talk_until_heard()
            trial.pause("logs made anew after a deletion", since)
            trial.talk(1)


@by_hand
def test_an_operator_deletes_the_registry():
    """Goal: no call is answered as if nothing were there; chat goes on from memory. `restore` with one node stopped puts
    everything back, and the other nodes follow."""
    with Cluster() as cluster, cluster.brokers.client() as client:
        rooms = cluster.rooms(5)
        client.api(f"STREAM.DELETE.KV_up_{NAME}_registry")
        for node in cluster.nodes:
            calls = [("ListRooms", {}), ("GetRoom", {"identifier": rooms[0]}), ("CreateRoom", {})]
            assert [node.call(*call)[0] for call in calls] == [500] * 3, node.log()
        cluster.nodes[0].stop()
        command = [str(BINARY), "cluster", "restore", "--config", str(cluster.nodes[0].file)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_SECONDS_MAX)
        assert done.returncode == 0, done.stderr
        cluster.nodes[0].launch()
        cluster.await_ready(cluster.nodes[0])
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        for node in cluster.nodes:
            while {node.call("GetRoom", {"identifier": room})[0] for room in rooms} != {200}:
                assert time.monotonic() < deadline, f"{node.name} does not follow\n{node.log()}"
                time.sleep(0.2)
        made = cluster.rooms(3)
        for node in cluster.nodes:
            assert {node.call("GetRoom", {"identifier": room})[0] for room in made} == {200}


def await_unready(nodes: list[Node]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while any(node.is_ready() for node in nodes):
        assert time.monotonic() < deadline, "nodes without their streams are ready"
        time.sleep(0.1)
