"""Nodes of a cluster are upgraded while people chat: each viewer's stream is the log's order, and nobody is closed.

What each trial's end decides, `cluster_oracle` says. `TRIAL_MOVES=60` measures more moves of slots.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from cluster import NAME, Cluster, Node
from cluster_records import TAKEOVER, record
from cluster_trial import PAUSES, Trial, started
from rawws import WebSocket
from uproar import BINARY, Successor

cluster = started()
MOVES = int(os.environ.get("TRIAL_MOVES", "8"))
DONE = re.compile(r"process (\d+) serves (\d+|an unknown number of) viewers")


@pytest.fixture(autouse=True)
def whole(cluster):
    cluster.heal()
    yield
    for node in cluster.nodes:
        # A process that a failed test has not followed to.
        for pid in servers(node):
            if pid != node.process.pid:
                os.kill(pid, signal.SIGKILL)
    cluster.heal()


def closed(trial: Trial, without: str = "") -> list[str]:
    streams = [stream for stream in trial.viewers.streams if stream.ended is not None and stream.node != without]
    return [f"{stream.user} on {stream.node}: {stream.why}" for stream in streams]


def order(node: Node, *arguments: str) -> str:
    done = subprocess.run([str(BINARY), "cluster", *arguments, "--config", str(node.file)],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    return done.stdout


def home_of(node: Node, room: str) -> tuple[int, str]:
    """The slot of a room, and the name of its home."""
    said = order(node, "status", "--room", room)
    found = re.search(r"slot (\d+), home (\S+)", said)
    assert found, said
    return int(found[1]), found[2]


def program(cluster: Cluster, **environment: str) -> Path:
    """The program, with an environment of its own: as another version, or where something fails."""
    path = cluster.directory / f"program-{time.monotonic_ns()}"
    lines = "".join(f"export {name}='{value}'\n" for name, value in environment.items())
    path.write_text(f'#!/bin/sh\n{lines}exec "{BINARY}" "$@"\n')
    path.chmod(0o755)
    return path


def succeed(node: Node, deadline: float = 60) -> None:
    """The node's process is whatever serves its data directory now."""
    until, before, found = time.monotonic() + deadline, None, servers(node)
    # One that is being killed is there still for a moment.
    while len(found) != 1 or found != before or (found == [node.process.pid] and node.process.poll() is not None):
        assert time.monotonic() < until, f"{found}\n{node.log()}"
        time.sleep(0.2)
        before, found = found, servers(node)
    if found[0] != node.process.pid:
        node.process.wait(60)
        node.process = Successor(found[0])


def servers(node: Node) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().split(b"\0")
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if b"serve" in command and str(node.file).encode() in command and state != "Z":
                found.append(int(entry.name))
    return found


def test_nodes_are_upgraded_one_after_the_other(cluster):
    """Goal: a rolling upgrade loses nothing, doubles nothing, reorders nothing and closes nobody, also while slots are
    moved by hand to the node and away from it; the last one by SIGUSR2. Old and new processes are nodes together.
    Method: `uproar upgrade` of each node, under load; the oracle reads the log."""
    first, second, third = cluster.nodes
    with Trial(cluster) as trial:
        slots = [home_of(first, room)[0] for room in trial.rooms[:4]]
        for node in cluster.nodes:
            since, old = time.monotonic(), node.process.pid
            if node is first:
                # What a reload refuses, an upgrade takes over, as the refusal says.
                node.write({**node.settings, "cluster.linger_ms": 6})
                refused = node.run("reload", "--data-dir", str(node.data_dir))
                assert refused.returncode == 2 and "uproar upgrade" in refused.stderr, refused
            if node is third:
                node.process.send_signal(signal.SIGUSR2)
                node.process.wait(60)
                succeed(node)
            else:
                command = node.start_upgrade()
                for slot in slots:
                    # Refused while the node says nothing: then it does not move.
                    subprocess.run([str(BINARY), "cluster", "move", str(slot), node.name, "--config", str(third.file)],
                                   capture_output=True, timeout=60)
                done = subprocess.CompletedProcess(command.args, command.wait(60), *command.communicate())
                print(node.name, node.follow(done))
            assert node.process.pid != old
            cluster.await_ready(node)
            trial.talk_until_heard()
            trial.pause("upgrade of a node", since - 0.1, node.name)
            trial.talk(0.5)
        assert not closed(trial), closed(trial)[:10]
        assert not trial.refused(0), trial.refused(0)[:10]
    assert trial.order.slots_moved
    deadline = time.monotonic() + 60
    while not all(node.figure("cluster_slots_home") > 40 for node in cluster.nodes):
        assert time.monotonic() < deadline, "the new processes get slots back"
        time.sleep(0.2)


def test_an_upgrade_that_fails_at_any_point(cluster):
    """Goal: whatever fails before COMMIT, the old process is a node as before and closes nobody; once all is handed over the
    old one may die. One that dies earlier costs its own viewers their connections. A program that cannot be the node
    says so before anything happens; brokers that it does not reach are named. Method: faults by
    `UPROAR_TAKE_OVER_FAULT`, one after the other, under load; the oracle reads the log."""
    first, second, third = cluster.nodes
    with Trial(cluster) as trial:
        lost = program(cluster, UPROAR_CLUSTER__SERVERS="nats://127.0.0.1:1")
        unreachable = subprocess.Popen(
            [str(BINARY), "upgrade", "--data-dir", str(third.data_dir), "--binary", str(lost)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for environment, words in [
            ({"UPROAR_TAKE_OVER_FAULT": "hello:lacks=cluster"}, "cannot hand over or take over a node of a cluster"),
            ({"UPROAR_CLUSTER__NODE": "node-9"}, "its node is node-9 of cluster trial, this server's is node-1"),
            ({"UPROAR_TAKE_OVER_FAULT": "new.viewers.done:kill"}, "the new process"),
            ({"UPROAR_TAKE_OVER_FAULT": "new.acknowledge:kill"}, "the new process"),
        ]:
            done = first.try_upgrade(binary=program(cluster, **environment))
            assert done.returncode == 1 and words in done.stderr, done
            assert servers(first) == [first.process.pid]
        said, complained = unreachable.communicate(timeout=60)
        assert unreachable.returncode == 1 and "no broker answers (nats://127.0.0.1:1)" in complained, complained
        cluster.await_ready()
        trial.talk_until_heard()
        assert not closed(trial), closed(trial)[:10]
        # The next process of each node has what makes it fail as an old one, and keeps it.
        points = {first: "old.commit:kill", third: "old.freeze.done:fail", second: "old.rooms.done:kill"}
        for node, point in points.items():
            node.upgrade(binary=program(cluster, UPROAR_TAKE_OVER_FAULT=point))
            # One that no probe has come back to yet refuses.
            cluster.await_ready(node)
            old = node.process.pid
            done = node.try_upgrade()
            assert done.returncode == 1, done
            succeed(node)
            assert (node.process.pid == old) == point.endswith("fail")
            cluster.await_ready(node)
            trial.talk_until_heard()
            assert not closed(trial, second.name if node is second else ""), closed(trial)[:10]
    assert not trial.refused(0, second.name), trial.refused(0)[:10]
    for node in cluster.nodes:
        node.kill()


def test_an_upgrade_without_a_leader_and_without_other_nodes(cluster):
    """Goal: two nodes are upgraded at once while the leading broker is dead: each is upgraded or serves as before, and
    nothing is lost. A node that is alone keeps its slots, and its new process takes them over. Method: SIGKILL of the
    broker, then both orders at once; then the others end."""
    first, second, third = cluster.nodes
    with Trial(cluster) as trial:
        trial.talk(0.5)
        with cluster.brokers.client() as client:
            leads = cluster.brokers.leads(client, f"UP_{NAME}_LOG_")
        victim = next(broker for broker in cluster.brokers.all if broker.name == max(leads, key=leads.get))
        victim.kill()
        commands = [(node, node.start_upgrade()) for node in (first, second)]
        for node, command in commands:
            said, complained = command.communicate(timeout=90)
            print(node.name, said, complained)
            succeed(node)
        trial.talk_until_heard()
        assert not closed(trial), closed(trial)[:10]
        victim.start()
        cluster.brokers.await_current()
        cluster.await_ready()
        for node in (second, third):
            node.process.send_signal(signal.SIGTERM)
            assert node.process.wait(90) == 0, node.log()
        trial.talk_until_heard_by(first.name)
        cluster.await_ready(first)
        since = time.monotonic()
        print("alone", first.upgrade())
        trial.talk_until_heard_by(first.name)
        trial.pause("upgrade of the only node", since - 0.1)
        assert not closed(trial, second.name) or not [end for end in closed(trial) if first.name in end]


def test_a_newer_version_of_the_layout_is_not_misread(cluster):
    """Goal: records and signs of life of a newer layout are skipped and counted, and who cannot read a slot's newest record
    does not take it over. Method: a foreign program appends and sends version 2, then a home of version 1 that is dead
    takes over from it."""
    first, second, _ = cluster.nodes
    (room,) = cluster.rooms(1)
    slot, _ = home_of(first, room)
    log, stream = f"up.{NAME}.log.{slot % 8}.{slot}", f"UP_{NAME}_LOG_{slot % 8}"
    viewer = WebSocket(second.messaging_port, second.mint(room, "u"))
    before = second.figure("cluster_unreadable_total")
    with cluster.brokers.client() as client:
        client.wait(client.nc.publish(f"up.{NAME}.here", b"\2new"))
        def last() -> int:
            return client.api(f"STREAM.MSG.GET.{stream}", {"last_by_subj": log})["message"]["seq"]
        while True:
            try:
                newer = client.append(log, b"\2a record of the future", last())
                break
            except Exception:  # the home was faster
                time.sleep(0.001)
        deadline = time.monotonic() + 30
        while second.figure("cluster_unreadable_total") < before + 2:
            assert time.monotonic() < deadline, second.log()
            time.sleep(0.05)
        # It has no home that anybody knows: what is asked now is kept.
        viewer.say("kept", "r1")
        time.sleep(2)
        assert last() == newer, "nobody takes over what it cannot read"
        fake = 0xF00D
        taken = client.append(log, record(TAKEOVER, newer, fake, newer), newer)
        assert taken > newer
    # The fake home is dead: a node takes over, and the kept request is in the log.
    viewer.receive_until(lambda frame: frame.get("Content") == "kept")
    viewer.close()


def test_moves_of_a_slot_are_short(cluster):
    """Goal: a planned move pauses a slot for an instant. Method: two rooms with 50 messages a second each; a slot is moved
    from node to node; the longest wait for an echo around each move, and around moments without one, for the table."""
    with Trial(cluster, rooms=2) as trial:
        slots = [home_of(cluster.nodes[0], room)[0] for room in trial.rooms]
        for number in range(MOVES):
            for what, room in [("no move", None), ("move of a slot", number % 2)]:
                time.sleep(0.3)
                since = time.monotonic()
                if room is not None:
                    node = cluster.nodes[(number // 2 + 1) % 3]
                    order(cluster.nodes[0], "move", str(slots[room]), node.name)
                time.sleep(0.3)
                trial.viewers.unanswered()
                waits = waits_of(trial, since - 0.05, trial.rooms[room or 0])
                PAUSES.setdefault(what, []).append(max(waits))
        assert not closed(trial) and not trial.refused(0)
    order(cluster.nodes[0], "balance")


def waits_of(trial: Trial, since: float, room: str) -> list[float]:
    requests = [request for request in list(trial.viewers.requests.values()) if request.sent >= since]
    return [request.echoed - request.sent for request in requests if request.stream.room == room and request.echoed]
