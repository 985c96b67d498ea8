"""The network between one node and the brokers is cut, swallows or is slow; the others go on."""

from __future__ import annotations

import time

import pytest

from cluster_trial import Trial, by_hand, size, started

ISOLATED = "node-2"
cluster = started(networked=(ISOLATED,))
HARMS = {
    "cut": lambda network: network.cut(),
    "swallowed": lambda network: network.swallow(),
}


@pytest.fixture(autouse=True)
def whole(cluster):
    cluster.heal()
    yield
    cluster.heal()


@pytest.mark.parametrize("harm", size(["cut"], list(HARMS)))
def test_a_node_is_cut_off(cluster, harm):
    """Goal: a node without brokers says so and harms nobody else: its slots move, and when it is back, its own viewers
    get what they missed, in order, without having been cut. Method: a proxy between it and all brokers."""
    node, network = cluster.node(ISOLATED), cluster.networks[ISOLATED]
    with Trial(cluster) as trial:
        trial.talk(2)
        before, since = set(trial.viewers.open.values()), time.monotonic()
        HARMS[harm](network)
        trial.talk_until_heard(ISOLATED)
        deadline = time.monotonic() + 60
        while node.is_ready():
            assert time.monotonic() < deadline, "it says that it is ready"
            time.sleep(0.1)
        trial.pause(f"a node's network {harm}", since - 0.1, ISOLATED)
        assert all(other.is_ready() for other in cluster.nodes if other is not node)
        network.mend()
        cluster.await_ready(node)
        trial.talk_until_heard()
        trial.talk(1)
    assert not trial.refused(since, ISOLATED), trial.refused(since, ISOLATED)[:10]
    assert all(stream.ended is None for stream in before), "viewers were cut"


def test_a_node_behind_a_slow_network(cluster):
    """Goal: 100 ms on the way and a piece in a hundred a second late change times, and nothing else."""
    with Trial(cluster) as trial:
        trial.talk(1)
        since = time.monotonic()
        cluster.networks[ISOLATED].slow(0.1, 0.01)
        trial.talk(8)
        trial.pause("a node's network is slow", since, ISOLATED)
        cluster.networks[ISOLATED].mend()
        trial.talk_until_heard()
        trial.talk(1)


@by_hand
def test_a_node_that_is_cut_off_for_too_long(cluster):
    """Goal: with `cluster.isolated_cut_seconds` such a node drains and ends, its viewers find the others, and these
    notice nothing. Method: the proxy cuts it off for as long as it takes."""
    node = cluster.node(ISOLATED)
    node.kill()
    node.write({**node.settings, "cluster.isolated_cut_seconds": 15})
    node.launch()
    cluster.await_ready(node)
    with Trial(cluster) as trial:
        trial.talk(2)
        since = time.monotonic()
        cluster.networks[ISOLATED].cut()
        ended = None
        while (ended := node.process.poll()) is None:
            assert time.monotonic() < since + 120, "it serves on"
            trial.talk(1)
        assert ended == 0, node.log()
        assert "cluster.isolated_cut_seconds" in node.whole_log()
        trial.talk_until_heard()
        trial.pause("a node is cut off and drains", since - 0.1, ISOLATED)
        cluster.networks[ISOLATED].mend()
        node.launch()
        cluster.await_ready(node)
        trial.talk_until_heard_by(ISOLATED)
