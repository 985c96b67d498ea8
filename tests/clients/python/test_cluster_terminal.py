"""Goal: the terminal's commands at one node of a cluster reach viewers of all nodes, through the cluster's log; rooms are
the cluster's, figures the node's. Method: three real brokers, two nodes; words at one, viewers at the other.
"""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from cluster import Cluster
from rawws import WebSocket
from uproar import BINARY


@pytest.fixture(scope="module")
def cluster():
    with Cluster(nodes=2) as running:
        yield running


def do(node, *words: str) -> str:
    command = [str(BINARY), *words, "--config", str(node.file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_words_cross_the_cluster(cluster):
    here, there = cluster.nodes
    room = do(here, "room", "create", "both", "--rate", "50").strip()
    assert json.loads(do(there, "room", "show", "both", "--json"))["arn"] == room
    hears = WebSocket(there.messaging_port, there.mint(room, "bob"))
    tap = subprocess.Popen(
        [str(BINARY), "tap", "both", "--json", "--count", "3", "--config", str(there.file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while json.loads(do(there, "room", "show", "both", "--json"))["viewers"] < 2:
        assert tap.poll() is None, tap.communicate()
    sent = do(here, "send", "both", "across", "--as", "host").strip()
    assert hears.receive()["Id"] == sent
    event = do(there, "event", "both", "goal").strip()
    assert hears.receive()["Id"] == event
    do(here, "room", "set", "both", "--name", "renamed")
    do(here, "delete", "renamed", sent)
    assert hears.receive()["EventName"] == "aws:DELETE_MESSAGE"
    shown, said = tap.communicate(timeout=60)
    assert [json.loads(line)["Type"] for line in shown.splitlines()] == ["MESSAGE", "EVENT", "EVENT"], said
    do(here, "kick", "renamed", "bob", "--reason", "Spam")
    assert hears.receive_close().code == 1000


def test_a_node_says_that_it_is_one(cluster):
    here, _ = cluster.nodes
    told = json.loads(do(here, "stats", "--json"))["cluster"]
    assert (told["node"], told["nodes"], told["unready"]) == (here.name, 2, None)
    assert told["slots"] == 256 and 0 < told["slots_home"] < 256, told
    assert re.search(rf"node {here.name} of .*, home of [1-9]\d* slots", do(here, "top", "--once"))
