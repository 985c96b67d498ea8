"""What a node does before it knows everything: a start without brokers, and connections to rooms that another node has just made."""

from __future__ import annotations

import subprocess
import threading
import time
import urllib.error

import pytest

from cluster import Cluster
from cluster_trial import started
from rawws import Refused, WebSocket
from uproar import BINARY

WAIT_SECONDS_MAX = 90.0
ROOMS = 60

cluster = started()


def page(node, path: str) -> tuple[int, str]:
    """A page of the control listener, whatever its status."""
    try:
        status, body = node.page(path, timeout=10)[:2]
    except urllib.error.HTTPError as error:
        status, body = error.code, error.read()
    return status, body.decode() if isinstance(body, bytes) else body


def said(node, words: str) -> str:
    """What `/readyz` says, if it has these words."""
    text = page(node, "/readyz")[1]
    return text if words in text else ""


def until(holds, what: str):
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while True:
        try:
            if found := holds():
                return found
        except OSError as error:
            what = f"{what}: {error}"
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_a_room_is_known_everywhere_once_it_is_made(cluster):
    """Goal: a room that one node's API has answered, and a token minted there, open a connection on any other node at once.
    Method: many rooms in a row, each made and its token minted on one node and presented to the next."""
    for number in range(ROOMS):
        maker, other = cluster.nodes[number % 3], cluster.nodes[(number + 1) % 3]
        arn = maker.boto_cached.create_room(name=f"new{number}")["arn"]
        WebSocket(other.messaging_port, maker.mint(arn, "u")).close()


def test_a_room_that_is_gone_is_refused_behind_one_barrier(cluster):
    """Goal: connections to a room that does not exist are refused (404) as soon as their node knows all rooms, and however
    many they are they share barriers. Method: tokens of a deleted room, at once on one node; its barriers before and
    after."""
    maker, other = cluster.nodes[:2]
    arn = maker.boto_cached.create_room()["arn"]
    tokens = [maker.mint(arn, f"u{number}") for number in range(100)]
    maker.boto_cached.delete_room(identifier=arn)
    before = other.figure("cluster_barrier_seconds_count")
    begun, statuses = time.monotonic(), []

    def present(token: str) -> None:
        try:
            WebSocket(other.messaging_port, token).close()
            statuses.append(101)
        except Refused as refusal:
            statuses.append(refusal.response.status)

    threads = [threading.Thread(target=present, args=(token,)) for token in tokens]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_SECONDS_MAX)
    took, barriers = time.monotonic() - begun, other.figure("cluster_barrier_seconds_count") - before
    print(f"{len(tokens)} tokens of a room that is gone: refused in {took:.3f} s, {barriers:.0f} barriers")
    assert statuses == [404] * len(tokens), statuses
    assert 1 <= barriers < len(tokens) / 2


@pytest.fixture
def silent():
    """A cluster that was set up, whose brokers and nodes do not run."""
    running = Cluster(nodes=1)
    try:
        running.brokers.start()
        running.init()
        running.brokers.stop()
        yield running
    finally:
        running.stop()


def test_a_node_without_brokers_answers_and_goes_on_when_they_come(silent):
    """Goal: a node whose brokers are silent says so at once, on its pages, in its log and by its admin socket, obeys a
    reload, and serves when they come; a stop ends it before. Method: brokers start last."""
    (node,) = silent.nodes
    node.launch()
    status, text = until(lambda: page(node, "/readyz"), "the control listener answers")
    assert status == 503, text
    waiting = until(lambda: said(node, "waits for its brokers"), "it says why")
    assert silent.brokers.urls[0].split("//")[1] in waiting, waiting
    assert page(node, "/livez")[0] == 200
    assert "uproar_cluster_brokers_connected 0" in page(node, "/metrics")[1]
    until(lambda: "waiting for the brokers" in node.whole_log(), "the log says it")
    reloaded = subprocess.run(
        [str(BINARY), "reload", "--config", str(node.file)], capture_output=True, text=True, timeout=WAIT_SECONDS_MAX
    )
    assert reloaded.returncode == 0, reloaded.stderr
    silent.brokers.start()
    silent.await_ready(node)
    arn = node.boto_cached.create_room()["arn"]
    WebSocket(node.messaging_port, node.mint(arn, "u")).close()


def test_a_node_that_waits_for_brokers_can_be_stopped(silent):
    """Goal: SIGTERM ends a node that has never had brokers, with exit code 0."""
    (node,) = silent.nodes
    node.launch()
    until(lambda: page(node, "/readyz"), "the control listener answers")
    node.process.terminate()
    assert node.process.wait(WAIT_SECONDS_MAX) == 0, node.log()
