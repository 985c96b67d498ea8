"""Goal: the API of a cluster is one server's: what a node has answered every node reads, no update is lost, and without a
quorum calls are refused in time. Method: three real brokers, three nodes, boto3 on each of them.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

import rawws
from cluster import Cluster
from configured import Configured
from nats_brokers import Brokers
from uproar import BINARY

ONCE = Config(retries={"total_max_attempts": 1}, read_timeout=30)
COMMAND_SECONDS_MAX = 120


@pytest.fixture(scope="module")
def cluster():
    with Cluster() as running:
        yield running


@pytest.fixture(scope="module")
def apis(cluster: Cluster):
    return [node.boto(config=ONCE) for node in cluster.nodes]


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BINARY), *arguments], capture_output=True, text=True, timeout=COMMAND_SECONDS_MAX
    )


def listed(api, **wanted: object) -> list[dict]:
    """All pages."""
    rooms, token = [], None
    while True:
        page = api.list_rooms(maxResults=7, **({"nextToken": token} if token else {}), **wanted)
        rooms += page["rooms"]
        token = page.get("nextToken")
        if not token:
            return rooms


def test_what_a_node_answered_every_node_reads(apis) -> None:
    for number in range(12):
        writer, reader, third = (apis[(number + step) % 3] for step in range(3))
        made = writer.create_room(name=f"read-{number}", tags={"n": str(number)})
        assert reader.get_room(identifier=made["arn"])["name"] == f"read-{number}"
        assert third.list_tags_for_resource(resourceArn=made["arn"])["tags"] == {"n": str(number)}
        assert third.create_chat_token(roomIdentifier=made["arn"], userId="u")["token"]
        reader.update_room(identifier=made["arn"], maximumMessageLength=100 + number)
        assert writer.get_room(identifier=made["arn"])["maximumMessageLength"] == 100 + number
        third.delete_room(identifier=made["arn"])
        for api in apis:
            with pytest.raises(ClientError) as gone:
                api.get_room(identifier=made["arn"])
            assert gone.value.response["Error"]["Code"] == "ResourceNotFoundException"


def test_a_new_room_is_open_on_every_node_at_once(cluster: Cluster, apis) -> None:
    """Goal: who gets a token of a room that was made a moment ago may take it to any node, and say something there."""
    for number in range(9):
        arn = apis[number % 3].create_room(name="new")["arn"]
        token = apis[(number + 1) % 3].create_chat_token(
            roomIdentifier=arn, userId="u", capabilities=["SEND_MESSAGE"]
        )["token"]
        sent = apis[(number + 2) % 3].send_event(roomIdentifier=arn, eventName="e")
        assert sent["id"]
        viewer = rawws.WebSocket(cluster.nodes[(number + 2) % 3].messaging_port, token)
        viewer.close()
        apis[number % 3].delete_room(identifier=arn)


def test_updates_on_all_nodes_at_once_lose_nothing(apis) -> None:
    arn = apis[0].create_room(name="tagged")["arn"]

    def tag(number: int) -> None:
        apis[number % 3].tag_resource(resourceArn=arn, tags={f"k{number}": "v"})

    with ThreadPoolExecutor(9) as pool:
        list(pool.map(tag, range(36)))
    for api in apis:
        assert len(api.list_tags_for_resource(resourceArn=arn)["tags"]) == 36
    apis[1].delete_room(identifier=arn)


def test_lists_are_whole_on_every_node(apis) -> None:
    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(lambda n: apis[n % 3].create_room(name="listed")["arn"], range(30)))
    for api in apis:
        assert sorted(room["arn"] for room in listed(api, name="listed")) == sorted(made)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda pair: apis[pair[0] % 3].delete_room(identifier=pair[1]), enumerate(made)))
    assert [listed(api, name="listed") for api in apis] == [[], [], []]


def test_a_configuration_in_use_is_deleted_nowhere(apis) -> None:
    destination = {"s3": {"bucketName": "chat-logs"}}
    logging = apis[0].create_logging_configuration(destinationConfiguration=destination)["arn"]
    room = apis[1].create_room(loggingConfigurationIdentifiers=[logging])["arn"]
    for api in apis:
        with pytest.raises(ClientError) as refused:
            api.delete_logging_configuration(identifier=logging)
        assert refused.value.response["Error"]["Code"] == "ConflictException"
        assert api.get_logging_configuration(identifier=logging)["state"] == "ACTIVE"
    apis[2].delete_room(identifier=room)
    apis[0].delete_logging_configuration(identifier=logging)
    with pytest.raises(ClientError) as gone:
        apis[1].create_room(loggingConfigurationIdentifiers=[logging])
    assert gone.value.response["Error"]["Code"] == "ResourceNotFoundException"


def test_keys_made_on_one_node_are_good_on_all(cluster: Cluster) -> None:
    first = cluster.nodes[0]
    made = command("keys", "create", "--role", "admin", "--config", str(first.file))
    assert made.returncode == 0, made.stderr
    key = dict(line.split("=", 1) for line in made.stdout.split())
    given = {"aws_access_key_id": key["AWS_ACCESS_KEY_ID"], "aws_secret_access_key": key["AWS_SECRET_ACCESS_KEY"]}

    def until(is_good: bool) -> None:
        """The key reaches a node, or leaves it, with its watch."""
        for node in cluster.nodes:
            deadline = time.monotonic() + 60
            while True:
                try:
                    node.boto(config=ONCE, **given).list_rooms()
                    found = True
                except ClientError:
                    found = False
                if found == is_good:
                    break
                assert time.monotonic() < deadline, node.log()
                time.sleep(0.05)

    until(True)
    # Without the configuration it would be made for this node alone.
    alone = command("keys", "create", "--role", "admin", "--data-dir", str(first.data_dir))
    assert alone.returncode == 2 and "--config" in alone.stderr, alone.stderr
    gone = command("keys", "revoke", given["aws_access_key_id"], "--config", str(cluster.nodes[1].file))
    assert gone.returncode == 0, gone.stderr
    until(False)


def test_sealing_keys_are_rotated_on_all_nodes(cluster: Cluster, apis) -> None:
    arn = apis[0].create_room(name="rotated")["arn"]
    before = apis[0].create_chat_token(roomIdentifier=arn, userId="u")["token"]
    rotated = command("token", "rotate-key", "--config", str(cluster.nodes[1].file))
    assert rotated.returncode == 0, rotated.stderr
    deadline = time.monotonic() + 60
    for api in apis:
        # The second step reaches a node with its watch.
        while api.create_chat_token(roomIdentifier=arn, userId="u")["token"][:7] == before[:7]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    rings = [(node.data_dir / "token-keys").read_text() for node in cluster.nodes]
    assert len(set(rings)) == 1 and rings[0].count("\n") == 3
    apis[1].delete_room(identifier=arn)


def test_secrets_do_not_reach_the_brokers(cluster: Cluster) -> None:
    made = command("keys", "create", "--role", "admin", "--config", str(cluster.nodes[1].file))
    assert made.returncode == 0, made.stderr
    given = dict(line.split("=", 1) for line in made.stdout.split())
    ring = [line.split()[0] for line in (cluster.nodes[0].data_dir / "token-keys").read_text().splitlines()[1:]]
    stores = [path for path in (cluster.directory / "brokers").rglob("*") if path.is_file()]
    content = b"".join(path.read_bytes() for path in stores)
    assert b"fact.cluster" in content
    assert ring and all(key.encode() not in content for key in ring)
    assert given["AWS_ACCESS_KEY_ID"].encode() in content, "the key itself is there, sealed"
    assert given["AWS_SECRET_ACCESS_KEY"].encode() not in content


def test_calls_go_on_while_a_broker_dies(cluster: Cluster, apis) -> None:
    """Goal: whatever was answered with 2xx while a broker was killed is there afterwards, on every node."""
    made: list[str] = []
    refused = 0
    ends = time.monotonic() + 12
    cluster.brokers.all[0].kill()
    number = 0
    while time.monotonic() < ends:
        number += 1
        try:
            made.append(apis[number % 3].create_room(name="killed")["arn"])
        except ClientError as error:
            assert error.response["ResponseMetadata"]["HTTPStatusCode"] in (500, 503), error
            refused += 1
    cluster.heal()
    assert made, f"{refused} were refused, none was made"
    for api in apis:
        there = {room["arn"] for room in listed(api, name="killed")}
        assert there.issuperset(made)
    for arn in listed(apis[0], name="killed"):
        apis[1].delete_room(identifier=arn["arn"])


def test_without_a_quorum_calls_are_refused_in_time(cluster: Cluster, apis) -> None:
    """Goal: 500 within 5 s, reads too, and afterwards all is as it was."""
    arn = apis[0].create_room(name="kept")["arn"]
    for broker in cluster.brokers.all[:2]:
        broker.kill()
    for call in (
        lambda: apis[0].create_room(name="lost"),
        lambda: apis[1].get_room(identifier=arn),
        lambda: apis[2].list_rooms(),
    ):
        begun = time.monotonic()
        with pytest.raises(ClientError) as refused:
            call()
        took = time.monotonic() - begun
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
        # 5 s are the server's; the rest is for a machine that stands still.
        assert took < 15, took
    # From memory.
    assert apis[0].create_chat_token(roomIdentifier=arn, userId="u")["token"]
    cluster.heal()
    for api in apis:
        assert api.get_room(identifier=arn)["name"] == "kept"
    apis[0].delete_room(identifier=arn)


def test_a_node_that_was_away_has_what_changed(cluster: Cluster, apis) -> None:
    away = cluster.nodes[2]
    arns = [apis[2].create_room(name=f"away-{n}")["arn"] for n in range(3)]
    away.kill()
    apis[0].delete_room(identifier=arns[0])
    apis[1].update_room(identifier=arns[1], name="changed")
    away.launch()
    cluster.await_ready(away)
    assert {room["name"] for room in listed(apis[2]) if room["arn"] in arns} == {"changed", "away-2"}
    for arn in arns[1:]:
        apis[2].delete_room(identifier=arn)


def test_a_directory_that_is_no_copy_is_refused(cluster: Cluster) -> None:
    alone = Configured().start()
    try:
        alone.boto().create_room(name="own")
    finally:
        alone.stop()
    settings = {key: value for key, value in cluster.nodes[0].settings.items() if key.startswith("cluster.")}
    alone.write({**alone.settings, **settings, "cluster.node": "stranger"})
    started = subprocess.run(alone.command, capture_output=True, text=True, timeout=COMMAND_SECONDS_MAX)
    assert started.returncode == 2, started.stderr
    said = started.stdout + started.stderr
    assert "1 records" in said and "cluster init" in said and str(alone.data_dir) in said, said
    again = command("cluster", "init", "--config", str(alone.file))
    assert again.returncode == 1 and "exists on these brokers already" in again.stderr, again.stderr
    whole = command("cluster", "restore", "--config", str(alone.file))
    assert whole.returncode == 1 and "no copy" in whole.stderr, whole.stderr


ROOMS = 2000


def test_a_server_becomes_a_cluster_and_one_server_again() -> None:
    """Goal: all rooms and keys of a server are the cluster's after `init`, also on a second node; and without the table
    the server is one of its own again, with all of it, and refuses tokens made before."""
    with Brokers() as brokers:
        first = Configured({"quotas.profile": "open"}).start()
        key = command("keys", "create", "--role", "admin", "--data-dir", str(first.data_dir))
        assert key.returncode == 0, key.stderr
        api = first.boto()
        with ThreadPoolExecutor(16) as pool:
            arns = set(pool.map(lambda n: api.create_room(name=f"many-{n}")["arn"], range(ROOMS)))
        first.stop()
        secret = str(first.data_dir) + ".key"
        of_cluster = {
            "cluster.name": "many", "cluster.servers": brokers.urls, "cluster.secret_file": secret,
        }
        alone = first.settings
        first.write({**alone, **of_cluster, "cluster.node": "first"})
        refused = subprocess.run(first.command, capture_output=True, text=True, timeout=COMMAND_SECONDS_MAX)
        assert refused.returncode == 2 and secret in refused.stderr, refused.stderr
        made = command("cluster", "init", "--config", str(first.file))
        assert made.returncode == 0 and f"{ROOMS + 2} records and keys" in made.stdout, made
        again = command("cluster", "init", "--config", str(first.file))
        assert again.returncode == 0 and "is there already" in again.stdout, again
        second = Configured({**of_cluster, "cluster.node": "second"})
        for server in (first, second):
            server.launch()
        await_ready(first, second)
        assert {room["arn"] for room in listed(second.boto())} == arns
        added = second.boto().create_room(name="added")["arn"]
        given = dict(line.split("=", 1) for line in key.stdout.split())
        created = {"aws_access_key_id": given["AWS_ACCESS_KEY_ID"], "aws_secret_access_key": given["AWS_SECRET_ACCESS_KEY"]}
        assert second.boto(**created).get_room(identifier=added)["name"] == "added"
        assert first.boto().get_room(identifier=added)["name"] == "added"
        ring = (first.data_dir / "token-keys").read_text()
        for server in (first, second):
            server.stop()
        first.write(alone)
        first.start()
        assert {room["arn"] for room in listed(first.boto(**created))} == arns | {added}
        assert set(ring.splitlines()[1:]).isdisjoint((first.data_dir / "token-keys").read_text().splitlines()[1:])
        first.stop()
        # Its records are its own now: the cluster does not take it back as it is.
        first.write({**alone, **of_cluster, "cluster.node": "first"})
        refused = subprocess.run(first.command, capture_output=True, text=True, timeout=COMMAND_SECONDS_MAX)
        assert refused.returncode == 2 and f"{ROOMS + 1} records" in refused.stderr, refused.stderr


def test_what_the_brokers_lost_is_restored() -> None:
    """Goal: after the loss of all brokers' data no node starts on an empty registry; `restore` puts everything back from
    one node, and the other one follows."""
    with Brokers() as brokers:
        secret = str(brokers.all[0].directory.parent / "cluster.key")
        settings = {"cluster.name": "lost", "cluster.servers": brokers.urls, "cluster.secret_file": secret}
        nodes = [Configured({**settings, "cluster.node": name}) for name in ("one", "two")]
        made = command("cluster", "init", "--config", str(nodes[0].file))
        assert made.returncode == 0, made.stderr
        for node in nodes:
            node.launch()
        await_ready(*nodes)
        arns = {nodes[n % 2].boto().create_room(name=f"kept-{n}")["arn"] for n in range(5)}
        gone = nodes[0].boto().create_room(name="gone")["arn"]
        nodes[1].boto().delete_room(identifier=gone)
        ring = (nodes[1].data_dir / "token-keys").read_text()
        for node in nodes:
            node.stop()
        for broker in brokers.all:
            broker.kill()
            shutil.rmtree(broker.directory / "store")
        brokers.start()
        # The streams alone do not make a registry.
        early = command("cluster", "init", "--config", str(nodes[0].file))
        assert early.returncode == 1 and "cluster restore" in early.stderr, early.stderr
        restored = command("cluster", "restore", "--config", str(nodes[0].file))
        assert restored.returncode == 0 and "6 records and keys were put back" in restored.stdout, restored
        whole = command("cluster", "restore", "--config", str(nodes[0].file))
        assert whole.returncode == 0 and "nothing was missing" in whole.stdout, whole
        for node in nodes:
            node.launch()
        await_ready(*nodes)
        for node in nodes:
            assert {room["arn"] for room in listed(node.boto())} == arns
            assert (node.data_dir / "token-keys").read_text() == ring
            node.stop()


def await_ready(*servers: Configured) -> None:
    deadline = time.monotonic() + 90
    for server in servers:
        while True:
            with contextlib.suppress(OSError):
                if server.page("/readyz", timeout=2)[0] == 200:
                    break
            assert server.process.poll() is None and time.monotonic() < deadline, server.log()
            time.sleep(0.05)


def test_a_nodes_copy_is_put_back() -> None:
    """Goal: a copy of one node, made while it runs, is a node again: of the cluster that goes on, with what has changed since; and
    of one whose brokers and nodes have all lost their disks, with what the copy has. Method: docs/backup.md."""
    with Brokers() as brokers:
        secret = str(brokers.all[0].directory.parent / "cluster.key")
        settings = {"cluster.name": "copied", "cluster.servers": brokers.urls, "cluster.secret_file": secret}
        one, two, three = [Configured({**settings, "cluster.node": name}) for name in ("one", "two", "three")]
        made = command("cluster", "init", "--config", str(one.file))
        assert made.returncode == 0, made.stderr
        for node in (one, two):
            node.launch()
        await_ready(one, two)
        key = command("keys", "create", "--role", "admin", "--config", str(one.file))
        assert key.returncode == 0, key.stderr
        given = dict(line.split("=", 1) for line in key.stdout.split())
        created = {"aws_access_key_id": given["AWS_ACCESS_KEY_ID"], "aws_secret_access_key": given["AWS_SECRET_ACCESS_KEY"]}
        kept = {one.boto().create_room(name=f"kept-{n}")["arn"] for n in range(5)}
        gone = one.boto().create_room(name="gone")["arn"]
        deadline = time.monotonic() + COMMAND_SECONDS_MAX
        while True:
            try:
                assert {room["arn"] for room in listed(two.boto(**created))} == kept | {gone}
                break
            except ClientError:
                assert time.monotonic() < deadline, "the key does not come to the other node"
                time.sleep(0.1)
        copy = str(brokers.all[0].directory.parent / "copy")
        copied = command("store", "backup", copy, "--with-keys", "--config", str(two.file))
        assert copied.returncode == 0, copied.stderr
        one.boto().delete_room(identifier=gone)
        new = one.boto().create_room(name="new")["arn"]

        def put_back(node: Configured) -> None:
            shutil.rmtree(node.data_dir, ignore_errors=True)
            node.data_dir.mkdir(mode=0o700)
            done = command("store", "restore", copy, "--with-keys", "--config", str(node.file))
            assert done.returncode == 0, done.stderr

        put_back(three)
        three.launch()
        await_ready(three)
        assert {room["arn"] for room in listed(three.boto(**created))} == kept | {new}
        for node in (one, two, three):
            node.stop()
        for broker in brokers.all:
            broker.kill()
            shutil.rmtree(broker.directory / "store")
        brokers.start()
        for node in (one, two):
            shutil.rmtree(node.data_dir)
            node.data_dir.mkdir(mode=0o700)
        put_back(three)
        restored = command("cluster", "restore", "--config", str(three.file))
        assert restored.returncode == 0, restored
        for node in (three, one):
            node.launch()
        await_ready(three, one)
        for node in (three, one):
            assert {room["arn"] for room in listed(node.boto(**created))} == kept | {gone}
            node.stop()
