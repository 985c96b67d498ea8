"""Nodes die while a review handler decides what is said and chat logs go to S3: nothing that was not allowed is ever
said, every verdict holds, and each frame of the log reaches the bucket at least once."""

from __future__ import annotations

import json
import random
import time

import pytest

from aws import Aws, eventually
from cluster import Cluster
from cluster_trial import Trial, machine, size
from cluster_viewers import DENIED
from review_handler import FUNCTION
from uproar import ACCOUNT, REGION

BUCKET = "cluster-chat"
KILLS = size(2, 10)


@pytest.fixture(scope="module")
def aws(tmp_path_factory):
    aws = Aws(tmp_path_factory.mktemp("moto") / "log.txt").start().authenticate()
    aws.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    yield aws
    aws.stop()


@pytest.fixture(scope="module")
def cluster(handler, aws):
    settings = {
        "review.functions": [f"{FUNCTION}check={handler.url}/"],
        "review.timeout_ms": 5000,
        "logging.s3_endpoint": aws.url,
        "logging.access_key_id": aws.key_id,
        "logging.secret_access_key": aws.secret,
        "logging.object_seconds": 5,
    }
    with Cluster(settings=settings) as cluster:
        yield cluster


def logged(cluster) -> str:
    """The ARN of a logging configuration to the bucket, made once."""
    boto = cluster.boto()
    known = boto.list_logging_configurations()["loggingConfigurations"]
    made = known[0] if known else boto.create_logging_configuration(
        destinationConfiguration={"s3": {"bucketName": BUCKET}}
    )
    return made["arn"]


def spoken(name: str) -> str:
    """A message that the handler allows, denies, rewrites or lets wait, by its number."""
    number = int(name.split(".")[1])
    return (f"say {name}", f"deny {name}", f"rewrite {name} mild", f"slow {number % 150} {name}")[number % 4]


def verdict_faults(trial: Trial) -> list[str]:
    """What is said and was not allowed, or is not what the handler made of it."""
    found = []
    for log in trial.order.by_room(trial.rooms).values():
        for payload in log.payloads:
            frame = json.loads(payload)
            name = frame["RequestId"]
            wanted = spoken(name).removeprefix("rewrite ")
            if "." in name and frame["Content"] not in (wanted, "the last one") or frame["Content"].startswith("deny"):
                found.append(f"{name}: {frame['Content']!r}, wanted {wanted!r}")
    return found


def delivered(aws: Aws, rooms: list[str]) -> dict[str, list[str]]:
    """The Ids of the bucket's records, of each room."""
    found: dict[str, list[str]] = {room: [] for room in rooms}
    for key, lines in aws.objects(BUCKET, f"AWSLogs/{ACCOUNT}/IVSChatLogs/1.0/{REGION}/").items():
        for room in rooms:
            if f"/room_{room.rsplit('/', 1)[-1]}/" in key:
                found[room] += [json.loads(line)["payload"]["Id"] for line in lines]
    return found


def delivery_faults(aws: Aws, trial: Trial) -> tuple[list[str], int]:
    """Frames that are not in the bucket, or are there and nowhere else; and how many came again."""
    order, faults, again = trial.order.by_room(trial.rooms), [], 0
    for room, ids in delivered(aws, trial.rooms).items():
        said = set(order[room].ids)
        again += len(ids) - len(set(ids))
        if missing := said - set(ids):
            faults.append(f"{room}: {len(missing)} of {len(said)} are not in the bucket: {sorted(missing)[:3]}")
        if foreign := set(ids) - said:
            faults.append(f"{room}: {len(foreign)} are in the bucket and not in the log: {sorted(foreign)[:3]}")
    return faults, again


def test_homes_die_with_reviews_and_chat_logs(cluster, aws):
    """Goal: through SIGKILL of nodes, rooms with a handler say what it allowed, as it rewrote it, once, and nothing else:
    a review that died with its home begins anew. And chat logs have every frame at least once, although the home that
    had it died before it was delivered. Method: every fourth message is denied, rewritten, slow; the bucket's objects
    are compared with the log."""
    settings = {
        "messageReviewHandler": {"uri": f"{FUNCTION}check", "fallbackResult": "DENY"},
        "loggingConfigurationIdentifiers": [logged(cluster)],
    }
    trial = Trial(cluster, rooms=10, viewers=size(60, 150), rate=size(60, 100), content=spoken, **settings)
    with trial:
        trial.talk(3)
        for _ in range(KILLS):
            victim, since = random.choice(cluster.nodes), time.monotonic()
            victim.kill()
            trial.talk_until_heard(victim.name)
            trial.pause("SIGKILL of a node, rooms with reviews and chat logs", since - 0.1, victim.name)
            trial.talk(2 * random.random())
            victim.launch()
            cluster.await_ready(victim)
            trial.talk(2 * random.random())
    others = [r for r in trial.viewers.requests.values() if r.refused not in (None, DENIED) and r.stream.ended is None]
    assert not others, [(r.id, r.refused) for r in others[:5]]
    denied = sum(request.refused == DENIED for request in trial.viewers.requests.values())
    assert denied > 0, "nothing was denied"
    assert not verdict_faults(trial), verdict_faults(trial)[:10]
    faults, again = eventually(lambda: delivery_faults(aws, trial), lambda seen: not seen[0], 60)
    frames = sum(len(log.payloads) for log in trial.order.by_room(trial.rooms).values())
    print(f"figures: {KILLS} kills, {denied} denied, {frames} frames in S3, {again} of them again, {machine()}")
