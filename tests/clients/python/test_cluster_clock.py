"""A node whose wall clock is an hour wrong is not ready and homes nothing; the order of rooms minds no clock."""

from __future__ import annotations

import time

import pytest

from cluster import Cluster
from cluster_trial import Trial
from test_clocks import LIBRARY, Clock

pytestmark = pytest.mark.skipif(LIBRARY is None, reason="needs libfaketime: apt-get install faketime")
WRONG = "node-3"


@pytest.fixture(scope="module")
def clock(tmp_path_factory):
    return Clock(tmp_path_factory.mktemp("clock"))


@pytest.fixture(scope="module")
def cluster(clock):
    cluster = Cluster()
    node = cluster.node(WRONG)
    node.command = [*clock.wrapper, *node.command]
    with cluster:
        yield cluster


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_a_node_with_a_wrong_clock(cluster, clock, seconds):
    """Goal: `SendTime` never goes back in any room and nothing is lost, though a home's clock steps; the node says that
    it is not ready and gives its slots away, and takes some again when its clock is right. Method: libfaketime steps the
    wall clock of one node while people chat."""
    node = cluster.node(WRONG)
    with Trial(cluster, viewers=60, rate=60) as trial:
        trial.talk(2)
        clock.set(seconds)
        await_state(node, lambda: not node.is_ready() and node.figure("cluster_slots_home") == 0)
        trial.talk_until_heard()
        clock.set(0)
        await_state(node, lambda: node.is_ready() and node.figure("cluster_slots_home") > 0)
        trial.talk(1)


def await_state(node, holds) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, f"{node.figure('cluster_slots_home')} slots\n{node.log()}"
        time.sleep(0.1)
