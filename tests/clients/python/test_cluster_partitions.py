"""Networks that are cut between any of nodes and brokers, by packets that vanish: what a cable, a switch or a firewall does.

Root only: each process has a network namespace of its own. test_cluster_network.py has what a proxy can do without."""

from __future__ import annotations

import time

import pytest

from cluster_api import ApiCalls
from cluster_namespaces import NamespacedCluster, is_possible
from cluster_trial import PAUSES, Trial, size

pytestmark = pytest.mark.skipif(not is_possible(), reason="needs root and nft: apt-get install nftables")
CUT_SECONDS = size(6, 12)
B1, B2, B3 = NamespacedCluster.BROKERS
N1, N2, N3 = NamespacedCluster.NODES


@pytest.fixture(scope="module")
def cluster():
    with NamespacedCluster() as running:
        yield running


@pytest.fixture(autouse=True)
def whole(cluster):
    cluster.heal()
    yield
    cluster.heal()


def leading(cluster) -> str:
    with cluster.brokers.client() as client:
        leads = cluster.brokers.leads(client, "UP_")
    return max(leads, key=leads.get)


def broker_of(cluster, node: str) -> str:
    """A broker that the node is connected to."""
    address = cluster.net.addresses[node]
    for broker in cluster.brokers.all:
        if any(one["ip"] == address for one in broker.monitor("connz")["connections"]):
            return broker.name
    raise AssertionError(f"{node} is connected to no broker")


def node_alone(cluster) -> str:
    """Its slots move, its own viewers stay and get what they missed."""
    cluster.net.part([N2], [B1, B2, B3])
    return N2


def node_from_its_broker(cluster) -> str:
    """It goes to another broker, and nobody is refused anything."""
    cluster.net.part([N2], [broker_of(cluster, N2)])
    return ""


def leading_broker_alone(cluster) -> str:
    """All nodes still reach it, and it has no majority any more: nodes go to those that have."""
    lone = leading(cluster)
    cluster.net.part([lone], [name for name in cluster.BROKERS if name != lone])
    return ""


def site_alone(cluster) -> str:
    """A node and the broker that led, who see each other and nobody else, say nothing in anybody's name."""
    lone = leading(cluster)
    others = [name for name in cluster.BROKERS if name != lone]
    cluster.net.part([lone, N3], [*others, N1, N2])
    return N3


def nothing_arrives(cluster) -> str:
    """A node that is heard and hears nothing is as one that is cut off."""
    for broker in cluster.BROKERS:
        cluster.net.drop(broker, N2)
    return N2


def nothing_leaves(cluster) -> str:
    """A node that hears and is not heard is, too."""
    for broker in cluster.BROKERS:
        cluster.net.drop(N2, broker)
    return N2


def packets_lost(cluster) -> str:
    """One packet in a hundred lost between all of them costs time and nothing else."""
    for one in cluster.net.addresses:
        for other in cluster.net.addresses:
            if one != other:
                cluster.net.drop(one, other, 1)
    return ""


CUTS = {
    "a node cut off from all brokers": node_alone,
    "the leading broker cut off from the others": leading_broker_alone,
}
# By hand.
MORE_CUTS = {
    "a node whose packets do not leave": nothing_leaves,
    "a node cut off from its broker alone, its own viewers too": node_from_its_broker,
    "a node and the leading broker cut off from the rest": site_alone,
    "a node whom no packets reach": nothing_arrives,
    "1 % of all packets lost": packets_lost,
}


@pytest.mark.parametrize("what", size(CUTS, CUTS | MORE_CUTS))
def test_a_network_is_cut(cluster, what):
    """Goal: through any partition nothing is lost, heard twice or in another order, nobody who is not cut off is refused
    anything, no viewer is cut, every 2xx of the API holds; and soon after the network is mended all is well. Method:
    packets vanish for a while, while people chat and the API is called; each cut says above what it is."""
    with Trial(cluster) as trial, ApiCalls(cluster) as calls:
        trial.talk(2)
        before, since = set(trial.viewers.open.values()), time.monotonic()
        harmed = (CUTS | MORE_CUTS)[what](cluster)
        trial.talk(CUT_SECONDS)
        trial.talk_until_heard(harmed)
        trial.pause(what, since - 0.1, harmed)
        cluster.net.mend()
        mended = time.monotonic()
        cluster.await_ready()
        trial.talk_until_heard()
        for node in cluster.nodes:
            trial.talk_until_heard_by(node.name)
        PAUSES.setdefault(f"{what}; mended, until all have heard", []).append(time.monotonic() - mended)
        cluster.brokers.await_current()
        trial.talk(1)
    calls.check()
    refused = trial.refused(since, harmed)
    assert not refused, f"{len(refused)}: {refused[:10]}\n{cluster.logs()}"
    assert all(stream.ended is None for stream in before), "viewers were cut"
