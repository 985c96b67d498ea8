"""Brokers die, stand still and are restarted while people chat: no message that was taken is lost or comes twice."""

from __future__ import annotations

import time

import pytest

from cluster import NAME
from cluster_api import ApiCalls, race
from cluster_trial import Trial, started
from nats_brokers import Broker

cluster = started()


@pytest.fixture(autouse=True)
def whole(cluster):
    cluster.heal()
    yield
    cluster.heal()


def leading(cluster, kind: str = "LOG") -> Broker:
    """The broker that leads most streams of a kind."""
    with cluster.brokers.client() as client:
        leads = cluster.brokers.leads(client, f"UP_{NAME}_{kind}_")
    most = max(leads, key=leads.get)
    return next(broker for broker in cluster.brokers.all if broker.name == most)


def test_the_leading_broker_is_killed(cluster):
    """Goal: SIGKILL of the broker that leads most streams delays its slots by an election, and loses nothing. §5 of the
    design: 4-9 s; requests are kept for 15 s, so none may be refused."""
    with Trial(cluster) as trial, ApiCalls(cluster) as calls:
        trial.talk(2)
        victim, since = leading(cluster), time.monotonic()
        victim.kill()
        trial.talk_until_heard()
        trial.pause("SIGKILL of the leading broker", since - 0.1)
        victim.start()
        cluster.brokers.await_current()
        trial.talk(1)
    assert not trial.refused(since), trial.refused(since)[:10]
    calls.check()


def test_a_token_is_used_once_while_a_broker_dies(cluster):
    """Goal: no race of a token has two winners, whenever the broker dies that keeps its use. Who cannot be told is told
    503, never 101. Method: 60 tokens, each presented at all nodes at once, a few before the kill and the rest during
    the elections."""
    (room,) = cluster.rooms(1)
    tokens = [cluster.mint(room, f"u{number}") for number in range(60)]
    won = 0
    for number, token in enumerate(tokens):
        if number == 10:
            leading(cluster, "TOK").kill()
        statuses = race(cluster, token, 1)
        assert statuses.count(101) <= 1 and set(statuses) <= {101, 401, 503}, statuses
        won += statuses.count(101)
    assert won > 10, f"{won} of {len(tokens)} connected"
    for token in tokens[::6]:
        assert 101 not in race(cluster, token, 1)[1:], "one at most"


def test_a_broker_stands_still(cluster):
    """Goal: the same for one that is stopped for longer than an election takes, and goes on as if it still led."""
    with Trial(cluster) as trial:
        trial.talk(2)
        victim, since = leading(cluster), time.monotonic()
        victim.freeze()
        trial.talk_until_heard()
        trial.talk(2)
        victim.thaw()
        cluster.brokers.await_current()
        trial.talk_until_heard()
        trial.pause("SIGSTOP of the leading broker", since - 0.1)


def test_two_of_three_brokers_are_killed(cluster):
    """Goal: without a quorum nothing is said and nothing is lost; with it everything goes on. Senders of that time may
    be told 500, which means not known."""
    with Trial(cluster) as trial:
        trial.talk(2)
        since = time.monotonic()
        for broker in cluster.brokers.all[:2]:
            broker.kill()
        trial.talk(5)
        for broker in cluster.brokers.all[:2]:
            broker.start()
        trial.talk_until_heard()
        trial.pause("two of three brokers away for 5 s", since - 0.1)
        cluster.brokers.await_current()
        trial.talk(1)


def test_all_brokers_are_away(cluster):
    """Goal: without brokers nodes say that they are not ready, keep their viewers, and answer every sender; afterwards
    all is as before. Method: away for longer than requests are kept."""
    with Trial(cluster, viewers=60, rate=20) as trial:
        trial.talk(1)
        for broker in cluster.brokers.all:
            broker.kill()
        away = trial.viewers.say_next()
        deadline = time.monotonic() + 90
        while any(node.is_ready() for node in cluster.nodes):
            assert time.monotonic() < deadline, "nodes without brokers are ready"
            time.sleep(0.2)
        while away.refused is None:
            assert away.echoed is None and away.stream.ended is None, away
            assert time.monotonic() < deadline, "a sender is never answered"
            time.sleep(0.1)
        assert away.refused in (500, 429), away.refused
        assert len(trial.viewers.streams) == trial.count, "viewers were cut"
        for broker in cluster.brokers.all:
            broker.start()
        trial.talk_until_heard()
        cluster.await_ready()
        cluster.brokers.await_current()
        trial.talk(1)
    assert len(trial.viewers.streams) == trial.count, "viewers were cut"


def test_brokers_restart_one_after_the_other(cluster):
    """Goal: a broker that leaves in order (lame duck) costs a short pause. Each is current again before the next."""
    with Trial(cluster) as trial:
        trial.talk(1)
        for broker in cluster.brokers.all:
            since = time.monotonic()
            broker.begin_lame_duck()
            broker.await_end()
            trial.talk_until_heard()
            trial.pause("lame duck of a broker", since)
            broker.start()
            cluster.brokers.await_current()
    assert not trial.refused(0), trial.refused(0)[:10]
