"""A broker's disk is full while people chat. Root only: the disk is a small tmpfs."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time

import pytest

from cluster import Cluster
from cluster_api import ApiCalls
from cluster_trial import PAUSES, Trial, by_hand

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who may mount a small tmpfs")
DISK_BYTES = 96 << 20


@pytest.fixture(scope="module")
def cluster():
    cluster = Cluster()
    store = cluster.brokers.all[0].store
    store.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "uproar-trial", str(store)]
    done = subprocess.run(mount, capture_output=True, text=True, timeout=30)
    if done.returncode != 0:
        pytest.skip(f"this user may not mount: {done.stderr}")
    try:
        with cluster:
            yield cluster
    finally:
        subprocess.run(["umount", "-l", str(store)], timeout=30)


@by_hand
def test_the_disk_of_a_broker_is_full(cluster):
    """Goal: the broker whose disk is full gives up what it leads, and the others go on: nothing lost or twice. With
    room again, and a restart as nats-server asks for it, it follows. Method: it leads as much as it can; then a file
    takes all that is left."""
    broker = cluster.brokers.all[0]
    with Trial(cluster) as trial, ApiCalls(cluster) as calls:
        trial.talk(2)
        since = time.monotonic()
        filler = broker.store / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        trial.talk(10)
        trial.talk_until_heard()
        trial.pause("the disk of a broker is full", since - 0.1)
        print(broker.log()[-1500:])
        filler.unlink()
        since = time.monotonic()
        broker.kill()
        broker.start()
        cluster.brokers.await_current()
        trial.talk_until_heard()
        PAUSES.setdefault("a broker with room again, until it follows", []).append(time.monotonic() - since)
        trial.talk(1)
    calls.check()
    assert not trial.refused(0), trial.refused(0)[:10]
