"""The brokers that a cluster stands on, as Uproar uses them: what the design takes for granted, shown without Uproar."""

from __future__ import annotations

import time

import pytest
from nats.errors import Error as NatsError

from cluster_log import PARTITIONS, LogReader
from cluster_network import Network
from cluster_records import BATCH, TAKEOVER, record
from nats_brokers import Brokers, NatsClient, WrongLast

STREAM, SUBJECT = "T_LOG", "t.log.7"
LOG = {"subjects": ["t.log.*"], "allow_direct": True, "duplicate_window": 1_000_000_000}


@pytest.fixture
def brokers():
    with Brokers() as brokers:
        yield brokers


def test_a_conditional_append_survives_the_death_of_the_leader(brokers):
    """Goal: appends on the condition of the last sequence are in the log once and in order, although the broker that
    leads is killed amid them. Method: one writer, one append at a time; then everything is read back."""
    with brokers.client() as client:
        client.create_stream(STREAM, **LOG)
        last = client.append(SUBJECT, b"0", 0)
        with pytest.raises(WrongLast):
            client.append(SUBJECT, b"again", 0)
        for number in range(1, 60):
            if number == 30:
                brokers.leader(client, STREAM).kill()
            last = client.append(SUBJECT, b"%d" % number, last)
        dead = next(broker for broker in brokers.all if not broker.is_alive())
        dead.start()
        brokers.await_current()
        records = client.read_through(STREAM, last)
    assert [record.payload for record in records] == [b"%d" % number for number in range(60)]
    assert [record.sequence for record in records] == sorted({record.sequence for record in records})


def test_a_stopped_leader_and_a_lame_duck_lose_nothing(brokers):
    """Goal: the same when the leader stands still for a while, and when it leaves in order."""
    with brokers.client() as client:
        client.create_stream(STREAM, **LOG)
        last = 0
        for number in range(90):
            if number == 30:
                frozen = brokers.leader(client, STREAM)
                frozen.freeze()
            if number == 60:
                frozen.thaw()
                brokers.await_current()
                leaving = brokers.leader(client, STREAM)
                leaving.begin_lame_duck()
            last = client.append(SUBJECT, b"%d" % number, last)
        leaving.await_end()
        leaving.start()
        brokers.await_current()
        assert [record.payload for record in client.read_through(STREAM, last)] == [b"%d" % number for number in range(90)]


def test_the_network_in_between_cuts_and_swallows(brokers):
    """Goal: the proxy that later trials cut nodes off with does what it says, to the official client."""
    network = Network([broker.port for broker in brokers.all])
    client = NatsClient(network.urls)
    reaches = lambda: client.request("$JS.API.INFO", seconds=1).data.startswith(b"{")
    assert reaches()
    for harm in (network.cut, network.swallow):
        harm()
        with pytest.raises((NatsError, TimeoutError, OSError)):
            for _ in range(20):
                reaches()
        network.mend()
        deadline = time.monotonic() + 60
        while True:
            try:
                assert reaches()
                break
            except (NatsError, TimeoutError, OSError):
                assert time.monotonic() < deadline, "it never comes back"
    client.close()


def test_the_reader_of_the_log_misses_nothing_while_a_broker_dies(brokers):
    """Goal: the oracle's own reader sees every record once, whichever replica answers it. Method: a writer of batches to
    eight streams, a kill and a standstill of leaders, and the reader beside it."""
    name = "t"
    with brokers.client() as client:
        for partition in range(PARTITIONS):
            settings = {**LOG, "subjects": [f"up.{name}.log.{partition}.*"]}
            client.create_stream(f"UP_{name}_LOG_{partition}", **settings)
            brokers.leader(client, f"UP_{name}_LOG_{partition}")
        reader = LogReader(brokers, name, every=0.2)
        last = [0] * PARTITIONS
        for number in range(1, 41):
            if number == 10:
                dead = brokers.leader(client, f"UP_{name}_LOG_0")
                dead.kill()
            if number == 20:
                dead.start()
                brokers.await_current()
                frozen = brokers.leader(client, f"UP_{name}_LOG_1")
                frozen.freeze()
            if number == 30:
                frozen.thaw()
            for partition in range(PARTITIONS):
                subject, before = f"up.{name}.log.{partition}.{partition}", last[partition]
                kind, rest = (TAKEOVER, (0,)) if number == 1 else (BATCH, (1, number))
                payload = record(kind, before, 1, *rest)
                last[partition] = client.append(subject, payload, before)
        order = reader.finish()
        reader.abandon()
    assert not order.faults, order.faults[:5]
    assert (order.takeovers, order.batches) == (PARTITIONS, 39 * PARTITIONS)
