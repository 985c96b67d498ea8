"""Brokers die, stand still and are restarted while people chat: no message that was taken is lost or comes twice."""

from __future__ import annotations

import random
import time

import pytest

from cluster import NAME
from cluster_api import ApiCalls, Races, present
from cluster_trial import Trial, by_hand, machine, size, started
from nats_brokers import Broker

RACES, RACES_AGAIN = size(300, 10_000), size(60, 2000)
STANDSTILLS = size([12], [5, 12, 25, 40])
LEADERLESS_SECONDS_MAX = 60.0

cluster = started()


@pytest.fixture(autouse=True)
def whole(cluster):
    cluster.heal()
    yield
    cluster.heal()


def leading(cluster, kind: str = "LOG") -> Broker:
    """The broker that leads most streams of a kind."""
    with cluster.brokers.client() as client:
        leads = cluster.brokers.leads(client, f"UP_{NAME}_{kind}")
    most = max(leads, key=leads.get)
    return next(broker for broker in cluster.brokers.all if broker.name == most)


def kill_brokers(cluster, choose, what: str) -> None:
    """Kills the broker that `choose` finds, and starts it again; neither messages nor answered calls may be lost."""
    with Trial(cluster) as trial, ApiCalls(cluster) as calls:
        trial.talk(2)
        for _ in range(size(1, 5)):
            victim, since = choose(cluster), time.monotonic()
            victim.kill()
            trial.talk_until_heard()
            trial.pause(what, since - 0.1)
            victim.start()
            cluster.brokers.await_current()
            trial.talk(1)
    assert not trial.refused(0), trial.refused(0)[:10]
    calls.check()


def test_the_leading_broker_is_killed(cluster):
    """Goal: SIGKILL of the broker that leads most streams delays its slots by an election, and loses nothing. An
    election takes 4-9 s; requests are kept for 15 s, so none may be refused."""
    kill_brokers(cluster, leading, "SIGKILL of the leading broker")


def one_that_leads_nothing(cluster) -> Broker:
    """A broker whose streams were given to the others, and which does not place streams either."""
    brokers, deadline = cluster.brokers, time.monotonic() + LEADERLESS_SECONDS_MAX
    placing = brokers.all[0].monitor("jsz")["meta_cluster"]["leader"]
    victim = next(broker for broker in brokers.all if broker.name != placing)
    with brokers.client() as client:
        while led := [
            stream["config"]["name"] for stream in client.streams()
            if (stream.get("cluster") or {}).get("leader") == victim.name
        ]:
            assert time.monotonic() < deadline, led
            for stream in led:
                client.api(f"STREAM.LEADER.STEPDOWN.{stream}")
                brokers.leader(client, stream)
    return victim


@by_hand
def test_a_broker_that_leads_nothing_is_killed(cluster):
    """Goal: SIGKILL of a broker that leads nothing is noticed by those whose node was connected to it, and loses nothing: neither
    messages nor calls that were answered."""
    kill_brokers(cluster, one_that_leads_nothing, "SIGKILL of a broker that leads nothing")


def test_a_token_is_used_once_whatever_dies(cluster):
    """Goal: no race of a token has two winners, whichever node or broker dies meanwhile, and each has one unless a node
    that might have let it in died or could not know. Who cannot be told is told 503, never 101. Method: each token at
    all nodes at once; nodes are killed again and again, and in between the broker that leads most logs of uses; later
    the tokens once more, at a random node each."""
    (room,) = cluster.rooms(1)
    tokens = cluster.mint_many(room, RACES)
    begun, kills, broker = time.monotonic(), 0, None
    with Races(cluster, tokens) as races:
        while not races.is_over():
            time.sleep(random.uniform(0.5, 2))
            if kills == 1:
                broker = leading(cluster, "TOK")
                broker.kill()
            victim = random.choice(cluster.nodes)
            victim.kill()
            kills += 1
            time.sleep(random.uniform(0.5, 2))
            victim.launch()
            cluster.await_ready(victim)
            if kills == 3 and broker is not None:
                broker.start()
    seconds = time.monotonic() - begun
    cluster.heal()
    print(f"figures: {len(races.answers)} races in {seconds:.0f} s, {kills} kills of nodes, {races.counts()}, {machine()}")
    assert not races.faults(), races.faults()[:10]
    assert len(races.answers) == RACES
    won = {token for token, statuses in races.answers.items() if 101 in statuses}
    assert len(won) > RACES / 4, f"{len(won)} of {RACES} connected"
    for token in random.sample(tokens, RACES_AGAIN):
        (status,) = present([cluster.any().messaging_port], token)
        assert status == 401 if token in won else status in (101, 401), (races.answers[token], status)


@pytest.mark.parametrize("seconds", STANDSTILLS)
def test_a_broker_stands_still(cluster, seconds):
    """Goal: the same for one that is stopped, for longer than an election takes or as short as that, and goes on as if
    it still led."""
    with Trial(cluster) as trial:
        trial.talk(2)
        victim, since = leading(cluster), time.monotonic()
        victim.freeze()
        trial.talk(seconds)
        if seconds > 8:
            trial.talk_until_heard()
        victim.thaw()
        cluster.brokers.await_current()
        trial.talk_until_heard()
        trial.pause(f"SIGSTOP of the leading broker for {seconds} s", since - 0.1)
        trial.talk(1)
    assert not trial.refused(0), trial.refused(0)[:10]


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
