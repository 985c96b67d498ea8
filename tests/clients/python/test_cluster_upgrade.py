"""Nodes of a cluster are upgraded while people chat: each viewer's stream is the log's order, and nobody is closed."""

from __future__ import annotations

import time

import pytest

from cluster_trial import Trial, started

cluster = started()


@pytest.fixture(autouse=True)
def whole(cluster):
    cluster.heal()
    yield
    cluster.heal()


def closed(trial) -> list[str]:
    return [f"{stream.user} on {stream.node}: {stream.why}" for stream in trial.viewers.streams if stream.ended is not None]


def test_nodes_are_upgraded_one_after_the_other(cluster):
    """Goal: a rolling upgrade loses nothing, doubles nothing, reorders nothing and closes nobody: slots move before the
    hand-over, and the new process reads each log on from where members were given it. Method: `uproar upgrade` of each
    node, under load; the oracle reads the log."""
    with Trial(cluster) as trial:
        trial.talk(1)
        for node in cluster.nodes:
            since = time.monotonic()
            upgraded = node.upgrade()
            trial.talk_until_heard()
            trial.pause("upgrade of a node", since - 0.1, node.name)
            print(node.name, upgraded)
            cluster.await_ready(node)
            trial.talk(2)
        assert not closed(trial), closed(trial)[:10]
        assert not trial.refused(0), trial.refused(0)[:10]
