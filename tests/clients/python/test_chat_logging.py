"""Chat logs as their consumers find them, with boto3, in services that are not ours (moto's server).

Contract §5: record, key layout, log stream; at least once through SIGKILL and dead destinations.
"""

from __future__ import annotations

import gzip
import itertools
import json
import re
import socket
import time
import urllib.request

import pytest

from aws import Aws, TlsProxy, eventually, logging_environment
from rawws import WebSocket, instant
from ports import free_port
from uproar import ACCOUNT, REGION, Server

NAMES = itertools.count()
BUCKET = "chat-bucket"
GROUP = "/aws/ivs/chat"
STREAM = "chat-stream"
DELIVERED = "firehose-target"
KINDS = {
    "s3": {"s3": {"bucketName": BUCKET}},
    "cloudwatch": {"cloudWatchLogs": {"logGroupName": GROUP}},
    "firehose": {"firehose": {"deliveryStreamName": STREAM}},
}


@pytest.fixture(scope="module")
def aws(tmp_path_factory):
    """A bucket, a log group and a Firehose stream, and nobody without a key."""
    aws = Aws(tmp_path_factory.mktemp("moto") / "log.txt").start().authenticate()
    make(aws)
    yield aws
    aws.stop()


@pytest.fixture(scope="module")
def server(aws):
    with Server(quotas="open", wrapper=logging_environment(aws)) as server:
        yield server
        assert server.process.poll() is None and "panicked" not in server.log(), server.log()


def make(aws: Aws) -> None:
    s3 = aws.client("s3")
    for bucket in (BUCKET, DELIVERED):
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    aws.client("logs").create_log_group(logGroupName=GROUP)
    aws.client("firehose").create_delivery_stream(
        DeliveryStreamName=STREAM,
        ExtendedS3DestinationConfiguration={
            "RoleARN": f"arn:aws:iam::{ACCOUNT}:role/any",
            "BucketARN": f"arn:aws:s3:::{DELIVERED}",
        },
    )


def configuration(boto, *kinds: str) -> list[str]:
    """One of each kind, made once: an account has ten."""
    known = boto.list_logging_configurations()["loggingConfigurations"]
    arns = []
    for kind in kinds:
        same = [item["arn"] for item in known if item["destinationConfiguration"] == KINDS[kind]]
        arns += same[:1] or [
            boto.create_logging_configuration(destinationConfiguration=KINDS[kind])["arn"]
        ]
    return arns


def logged_room(boto, *kinds: str) -> dict:
    return boto.create_room(
        name=f"logged-{next(NAMES)}", loggingConfigurationIdentifiers=configuration(boto, *kinds)
    )


def records(lines: list[str], room: dict | None = None) -> list[dict]:
    found = [json.loads(line) for line in lines]
    return found if room is None else [record for record in found if told_apart(record, room)]


def told_apart(record: dict, room: dict) -> bool:
    """Firehose mixes rooms: contents begin with the room's id."""
    return room["id"] in json.dumps(record["payload"])


def chat(server: Server, room: dict, count: int, text: str = "m") -> list[dict]:
    """Says `count` messages; the frames as a client got them."""
    with WebSocket(server.messaging_port, server.token(room["arn"], "speaker")) as speaker:
        frames = []
        for index in range(count):
            speaker.say(f"{room['id']} {text}{index}", f"r{index}")
            frame, before = speaker.receive_until(lambda f, r=f"r{index}": f.get("RequestId") == r)
            assert frame["Type"] == "MESSAGE" and not before, frame
            frames.append(frame)
        return frames


def expected(frame: dict) -> dict:
    """Contract §5, spelled out."""
    seconds, _, fraction = frame["SendTime"].removesuffix("Z").partition(".")
    return {
        "event_timestamp": f"{seconds}.{fraction[:3].ljust(3, '0')}Z",
        "type": frame["Type"],
        "payload": frame,
        "version": "1.0",
    }


def in_bucket(aws: Aws, room: dict) -> list[dict]:
    """Records of a room's objects, in the order of their keys."""
    prefix = f"AWSLogs/{ACCOUNT}/IVSChatLogs/1.0/{REGION}/room_{room['id']}/"
    objects = aws.objects(BUCKET, prefix)
    return [record for key in sorted(objects) for record in records(objects[key])]


def in_group(aws: Aws, room: dict) -> list[dict]:
    return [json.loads(event["message"]) for event in aws.events(GROUP, stream_of(room))]


def in_firehose(aws: Aws, room: dict) -> list[dict]:
    lines = itertools.chain.from_iterable(aws.objects(DELIVERED).values())
    found = records(list(lines), room)
    return sorted(found, key=lambda record: instant(record["payload"]["SendTime"]))


def stream_of(room: dict) -> str:
    return f"aws/IVSChatLogs/1.0/room_{room['id']}"


def metric(server: Server, name: str, **labels: str) -> float:
    with urllib.request.urlopen(f"{server.control_url}/metrics", timeout=60) as answer:
        text = answer.read().decode()
    wanted = ",".join(f'{key}="{value}"' for key, value in labels.items())
    for line in text.splitlines():
        if line.startswith(f"uproar_{name}{{{wanted}}} ") or (
            not labels and line.startswith(f"uproar_{name} ")
        ):
            return float(line.rsplit(" ", 1)[1])
    raise AssertionError(f"no metric {name} {labels}")


def test_every_destination_gets_every_frame_as_clients_got_it(server, aws):
    """Goal: messages, application events, deletions and disconnects, with exactly the fields of the
    contract, in the room's order, at all three destinations of one room."""
    boto = server.boto_cached
    room = logged_room(boto, "s3", "cloudwatch", "firehose")
    watcher = WebSocket(server.messaging_port, server.token(room["arn"], "watcher"))
    token = server.token(room["arn"], "talker é", attributes={"SendTime": room["id"], "Type": "X"})
    talker = WebSocket(server.messaging_port, token)
    talker.say(f'{room["id"]} héllo 🔥 "quoted" \n', "r1", Attributes={"SendTime": "2020-01-01T00:00:00Z"})
    first = watcher.receive()
    boto.send_event(roomIdentifier=room["arn"], eventName="app:X", attributes={"room": room["id"]})
    boto.delete_message(roomIdentifier=room["arn"], id=first["Id"], reason=f"spam {room['id']}")
    boto.disconnect_user(roomIdentifier=room["arn"], userId="talker é", reason=room["id"])
    frames = [first, *(watcher.receive() for _ in range(3))]
    assert [frame["Type"] for frame in frames] == ["MESSAGE", "EVENT", "EVENT", "EVENT"]
    wanted = [expected(frame) for frame in frames]

    for look in (in_bucket, in_group, in_firehose):
        found = eventually(lambda look=look: look(aws, room), lambda found: len(found) >= 4)
        assert found == wanted, look.__name__
        for record, frame in zip(found, frames):
            assert list(record) == ["event_timestamp", "type", "payload", "version"]
            assert list(record["payload"]) == list(frame), "keys in the frame's own order"
    watcher.close()
    talker.close()


def test_objects_have_the_services_keys(server, aws):
    """Goal: prefix, hour folder, file name; gzip; one record a line; a key's minute is its records'."""
    room = logged_room(server.boto_cached, "s3")
    chat(server, room, 3)
    eventually(lambda: in_bucket(aws, room), lambda found: len(found) == 3)
    base = f"{ACCOUNT}_IVSChatLogs_1.0_{REGION}_room_{room['id']}"
    layout = re.compile(
        rf"AWSLogs/{ACCOUNT}/IVSChatLogs/1\.0/{REGION}/room_{room['id']}"
        rf"/(\d{{4}})/(\d\d)/(\d\d)/(\d\d)/{re.escape(base)}_(\d{{8}}T\d{{4}}Z)_[0-9a-f]{{8}}\.log\.gz"
    )
    for key, lines in aws.objects(BUCKET, f"AWSLogs/{ACCOUNT}/IVSChatLogs/1.0/{REGION}/room_{room['id']}").items():
        match = layout.fullmatch(key)
        assert match, key
        assert match[5].startswith("".join(match.groups()[:3]) + "T" + match[4])
        for record in records(lines):
            minute = record["event_timestamp"][:16].replace("-", "").replace(":", "") + "Z"
            assert minute == match[5]


def test_log_events_carry_the_time_of_the_message(server, aws):
    room = logged_room(server.boto_cached, "cloudwatch")
    frames = chat(server, room, 50)
    events = eventually(lambda: aws.events(GROUP, stream_of(room)), lambda found: len(found) >= 50)
    assert [json.loads(event["message"]) for event in events] == [expected(f) for f in frames]
    for event in events:
        stamp = json.loads(event["message"])["event_timestamp"]
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(event["timestamp"] / 1000))
        assert stamp == f"{seconds}.{event['timestamp'] % 1000:03}Z"


def test_only_rooms_that_ask_are_logged_and_only_while_they_do(server, aws):
    boto = server.boto_cached
    room = logged_room(boto, "cloudwatch")
    silent = boto.create_room(name="silent")
    chat(server, silent, 3)
    before = chat(server, room, 2, "before")
    arns = room["loggingConfigurationIdentifiers"]
    boto.update_room(identifier=room["arn"], loggingConfigurationIdentifiers=[])
    chat(server, room, 2, "between")
    boto.update_room(identifier=room["arn"], loggingConfigurationIdentifiers=arns)
    after = chat(server, room, 2, "after")
    found = eventually(lambda: in_group(aws, room), lambda found: len(found) >= 4)
    assert found == [expected(frame) for frame in before + after]
    assert in_group(aws, silent) == []


def test_a_missing_bucket_holds_records_until_it_is_made(server, aws):
    """Goal: nothing is lost, the trouble is counted, other configurations go on."""
    boto = server.boto_cached
    bucket = f"late-{next(NAMES)}-bucket"
    late = boto.create_logging_configuration(destinationConfiguration={"s3": {"bucketName": bucket}})
    arns = [late["arn"], *configuration(boto, "cloudwatch")]
    room = boto.create_room(loggingConfigurationIdentifiers=arns)
    troubles = metric(server, "log_delivery_errors_total", destination="s3", reason="not_found")
    frames = chat(server, room, 5)
    eventually(lambda: in_group(aws, room), lambda found: len(found) == 5)
    eventually(
        lambda: metric(server, "log_delivery_errors_total", destination="s3", reason="not_found"),
        lambda count: count > troubles,
    )
    aws.client("s3").create_bucket(
        Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    objects = eventually(lambda: aws.objects(bucket), lambda found: sum(map(len, found.values())) == 5)
    found = [record for key in sorted(objects) for record in records(objects[key])]
    assert sorted(found, key=lambda r: r["event_timestamp"]) == [expected(f) for f in frames]


def test_a_changed_configuration_delivers_elsewhere(server, aws):
    boto = server.boto_cached
    other = f"/other/{next(NAMES)}"
    aws.client("logs").create_log_group(logGroupName=other)
    own = boto.create_logging_configuration(destinationConfiguration=KINDS["cloudwatch"])["arn"]
    room = boto.create_room(loggingConfigurationIdentifiers=[own])
    chat(server, room, 2)
    eventually(lambda: in_group(aws, room), lambda found: len(found) == 2)
    boto.update_logging_configuration(
        identifier=own,
        destinationConfiguration={"cloudWatchLogs": {"logGroupName": other}},
    )
    frames = chat(server, room, 3, "elsewhere")
    events = eventually(lambda: aws.events(other, stream_of(room)), lambda found: len(found) >= 3)
    assert [json.loads(event["message"]) for event in events] == [expected(f) for f in frames]
    assert len(in_group(aws, room)) == 2


def test_an_instant_sorts_by_time():
    times = ["2026-11-30T03:29:58Z", "2026-11-30T03:29:58.89372Z", "2026-11-30T03:29:58.893728132Z"]
    assert sorted(times, key=instant) == times != sorted(times)


def test_a_busy_room_is_logged_whole_and_in_order(server, aws):
    """Goal: nothing lost, doubled or reordered at a rate that makes many batches and calls."""
    room = logged_room(server.boto_cached, "s3", "cloudwatch", "firehose")
    count = 2_000
    with WebSocket(server.messaging_port, server.token(room["arn"], "busy")) as speaker:
        frames = []
        for start in range(0, count, 100):
            for index in range(start, start + 100):
                speaker.say(f"{room['id']} {index} {'x' * 300}", str(index))
            frames += [speaker.receive() for _ in range(100)]
    wanted = [expected(frame) for frame in frames]
    assert [frame["RequestId"] for frame in frames] == [str(index) for index in range(count)]
    # Objects are listed by name, and messages of one turn have one SendTime: objects may share it.
    said = lambda record: (instant(record["payload"]["SendTime"]), int(record["payload"]["RequestId"]))
    found = eventually(lambda: in_bucket(aws, room), lambda found: len(found) >= count, 60)
    assert sorted(found, key=said) == wanted
    found = eventually(lambda: in_group(aws, room), lambda found: len(found) >= count, 60)
    assert found == wanted
    found = eventually(lambda: in_firehose(aws, room), lambda found: len(found) >= count, 60)
    assert sorted(found, key=said) == wanted
    assert metric(server, "log_frames_missed_total") == 0


def test_a_wrong_secret_is_refused_counted_and_costs_nothing(aws, tmp_path):
    """Goal: the destination checks our signatures, so a wrong key is seen; the right one delivers."""
    wrong = logging_environment(aws, secret_access_key="w" * 40)
    with Server(tmp_path, quotas="open", wrapper=wrong) as server:
        room = logged_room(server.boto_cached, "s3", "cloudwatch", "firehose")
        frames = chat(server, room, 3)
        for kind in KINDS:
            eventually(
                lambda kind=kind: metric(
                    server, "log_delivery_errors_total", destination=kind, reason="access_denied"
                ),
                lambda count: count > 0,
            )
    assert "w" * 40 not in server.log(), "secrets are not logged"
    with Server(tmp_path, quotas="open", wrapper=logging_environment(aws)):
        for look in (in_bucket, in_group, in_firehose):
            found = eventually(lambda look=look: look(aws, room), lambda found: len(found) >= 3)
            assert found == [expected(frame) for frame in frames]


@pytest.mark.parametrize("round_", range(4))
def test_what_was_seen_survives_a_kill_and_a_dead_destination(aws, tmp_path, round_):
    """Method: every destination is unreachable; SIGKILL right behind the last echo, with messages
    unanswered; start again with living ones. Every message that was echoed is delivered."""
    dead = free_port()
    urls = {f"{kind}_endpoint": f"http://127.0.0.1:{dead}" for kind in KINDS}
    server = Server(tmp_path, quotas="open", wrapper=logging_environment(aws, **urls)).start()
    room = logged_room(server.boto_cached, "s3", "cloudwatch", "firehose")
    speaker = WebSocket(server.messaging_port, server.token(room["arn"], "speaker"))
    for index in range(200):
        speaker.say(f"{room['id']} {index}", str(index))
    echoed = [speaker.receive() for _ in range(50 + 30 * round_)]
    server.kill()
    speaker.close()
    with Server(tmp_path, quotas="open", wrapper=logging_environment(aws)):
        for look in (in_bucket, in_group, in_firehose):
            wanted = {frame["Id"] for frame in echoed}
            ids = lambda found: {record["payload"]["Id"] for record in found}
            found = eventually(
                lambda look=look: look(aws, room), lambda found: wanted <= ids(found)
            )
            by_id = {record["payload"]["Id"]: record for record in found}
            for frame in echoed:
                assert by_id[frame["Id"]] == expected(frame)


def test_objects_hold_each_record_once_through_kills_in_delivery(aws, tmp_path):
    """Goal: a repeated delivery to object storage replaces objects, it does not double records.
    Method: objects of one second, a speaker that never pauses, seven kills at different moments of a
    delivery; in the end every echoed message stands in exactly one object."""
    rooms: list[dict] = []
    echoed: list[dict] = []
    for pause in (0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9):
        server = Server(tmp_path, quotas="open", wrapper=logging_environment(aws)).start()
        if not rooms:
            rooms.append(logged_room(server.boto_cached, "s3"))
        speaker = WebSocket(server.messaging_port, server.token(rooms[0]["arn"], "speaker"))
        until = time.monotonic() + 1.2 + pause
        while time.monotonic() < until:
            speaker.say(rooms[0]["id"])
            echoed.append(speaker.receive())
            time.sleep(0.0005)
        server.kill()
        speaker.close()
    wanted = {frame["Id"]: expected(frame) for frame in echoed}
    with Server(tmp_path, quotas="open", wrapper=logging_environment(aws)) as server:
        found = eventually(lambda: in_bucket(aws, rooms[0]), lambda found: len(found) >= len(wanted), 60)
        eventually(
            lambda: metric(server, "log_records_waiting", destination="s3"), lambda left: left == 0
        )
        found = in_bucket(aws, rooms[0])
    by_id = {record["payload"]["Id"]: record for record in found}
    assert len(by_id) == len(found), "no record twice"
    assert wanted.items() <= by_id.items()
    # A message said as the process died may be in the log without its echo: one for each kill.
    assert len(by_id) - len(wanted) <= 7


def test_an_https_endpoint_is_verified_with_the_systems_certificates(aws, tmp_path):
    """Method: a proxy in front of the services ends TLS with a certificate of its own authority, which
    the server trusts through SSL_CERT_FILE; without that, nothing is delivered and it is counted."""
    with TlsProxy(tmp_path, aws.port) as proxy:
        urls = {f"{kind}_endpoint": proxy.url for kind in KINDS}
        distrusting = logging_environment(aws, **urls)
        trusting = (*distrusting, f"SSL_CERT_FILE={proxy.authority}")
        with Server(tmp_path / "data", quotas="open", wrapper=distrusting) as server:
            room = logged_room(server.boto_cached, "s3", "cloudwatch", "firehose")
            frames = chat(server, room, 3)
            for kind in KINDS:
                eventually(
                    lambda kind=kind: metric(
                        server, "log_delivery_errors_total", destination=kind, reason="unreachable"
                    ),
                    lambda count: count > 0,
                )
        with Server(tmp_path / "data", quotas="open", wrapper=trusting):
            for look in (in_bucket, in_group, in_firehose):
                found = eventually(lambda look=look: look(aws, room), lambda found: len(found) >= 3)
                assert found == [expected(frame) for frame in frames]


def test_an_event_the_api_acknowledged_survives_a_kill(aws, tmp_path):
    """Goal: SendEvent's 200 means that the event is in the spool."""
    server = Server(tmp_path, quotas="open", wrapper=logging_environment(aws, stream_ms=60000)).start()
    room = logged_room(server.boto_cached, "cloudwatch")
    ids = [
        server.boto_cached.send_event(roomIdentifier=room["arn"], eventName=f"e{index}")["id"]
        for index in range(10)
    ]
    server.kill()
    with Server(tmp_path, quotas="open", wrapper=logging_environment(aws)):
        found = eventually(lambda: in_group(aws, room), lambda found: len(found) >= 10)
        assert [record["payload"]["Id"] for record in found] == ids


def test_a_dead_destination_harms_neither_chat_nor_the_others(aws, tmp_path):
    """Method: object storage accepts connections and never answers; chat and CloudWatch Logs go on.
    Then it comes to life, without a restart, and gets everything."""
    late = Aws(tmp_path / "moto.txt", free_port())
    hole = socket.create_server(("127.0.0.1", late.port), backlog=64)
    wrapper = logging_environment(aws, s3_endpoint=late.url)
    with Server(tmp_path / "data", quotas="open", wrapper=wrapper) as server:
        room = logged_room(server.boto_cached, "s3", "cloudwatch")
        frames = chat(server, room, 20)
        wanted = [expected(frame) for frame in frames]
        assert eventually(lambda: in_group(aws, room), lambda found: len(found) >= 20) == wanted
        more = chat(server, room, 100, "more")
        eventually(lambda: in_group(aws, room), lambda found: len(found) == 120)
        assert metric(server, "log_records_waiting", destination="s3") == 120
        hole.close()
        late.start()
        late.client("s3").create_bucket(
            Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION}
        )
        found = eventually(lambda: in_bucket(late, room), lambda found: len(found) >= 120, 90)
        found.sort(key=lambda record: instant(record["payload"]["SendTime"]))
        assert found == wanted + [expected(frame) for frame in more]
        eventually(
            lambda: metric(server, "log_records_waiting", destination="s3"), lambda left: left == 0
        )
        assert metric(server, "log_records_delivered_total", destination="s3") == 120
        assert metric(server, "log_records_spooled_total", destination="s3") == 120
    late.stop()


def test_without_endpoints_everything_is_written_to_files(tmp_path):
    """Goal: IVS's key layout below a directory; log and Firehose streams as lines in files; names that
    look like paths stay inside."""
    logs = tmp_path / "chat-logs"
    wrapper = logging_environment(None, directory=logs)
    with Server(tmp_path / "data", quotas="open", wrapper=wrapper) as server:
        boto = server.boto_cached
        climbing = boto.create_logging_configuration(
            destinationConfiguration={"cloudWatchLogs": {"logGroupName": "../../escape"}}
        )
        arns = [*configuration(boto, "s3", "firehose"), climbing["arn"]]
        room = boto.create_room(loggingConfigurationIdentifiers=arns)
        frames = chat(server, room, 5)
        wanted = [expected(frame) for frame in frames]

        def read(pattern: str) -> list[dict]:
            found = []
            for path in sorted(logs.glob(pattern)):
                data = path.read_bytes()
                text = gzip.decompress(data) if path.suffix == ".gz" else data
                assert text.endswith(b"\n")
                found += records(text.decode().splitlines())
            return sorted(found, key=lambda record: instant(record["payload"]["SendTime"]))

        key = f"s3/{BUCKET}/AWSLogs/{ACCOUNT}/IVSChatLogs/1.0/{REGION}/room_{room['id']}/*/*/*/*/*.log.gz"
        stream = f"cloudwatch/*/{stream_of(room)}/*.jsonl"
        for pattern in (key, stream, f"firehose/{STREAM}/*.jsonl"):
            assert eventually(lambda p=pattern: read(p), lambda found: len(found) >= 5) == wanted
        assert {path.name for path in tmp_path.iterdir()} == {"chat-logs", "data"}
        assert {path.name for path in logs.iterdir()} == {"s3", "cloudwatch", "firehose"}


def test_a_deleted_configuration_gives_up_its_spool(tmp_path):
    """Goal: nothing is kept for nobody; what was not delivered is counted."""
    wrapper = logging_environment(None, stream_ms=60000)
    with Server(tmp_path, quotas="open", wrapper=wrapper) as server:
        boto = server.boto_cached
        room = logged_room(boto, "cloudwatch")
        arn = room["loggingConfigurationIdentifiers"][0]
        chat(server, room, 4)
        assert (tmp_path / "spool" / arn.rsplit("/", 1)[1]).is_dir()
        boto.update_room(identifier=room["arn"], loggingConfigurationIdentifiers=[])
        boto.delete_logging_configuration(identifier=arn)
        eventually(lambda: list((tmp_path / "spool").iterdir()), lambda left: left == [])
        lost = {"destination": "cloudwatch", "reason": "deleted"}
        assert metric(server, "log_records_dropped_total", **lost) == 4
        assert metric(server, "log_spool_bytes", destination="cloudwatch") == 0


def test_a_full_disk_harms_no_chat(tmp_path):
    """Method: the spool's directory is a file, so no spool can be opened; chat goes on, counted."""
    data = tmp_path / "data"
    server = Server(data, quotas="open", wrapper=logging_environment(None)).start()
    room = logged_room(server.boto_cached, "cloudwatch")
    spool = data / "spool" / room["loggingConfigurationIdentifiers"][0].rsplit("/", 1)[1]
    assert server.stop() == 0
    for path in spool.iterdir():
        path.unlink()
    spool.rmdir()
    spool.write_text("in the way")
    with Server(data, quotas="open", wrapper=logging_environment(None)) as server:
        frames = chat(server, room, 5)
        lost = {"destination": "cloudwatch", "reason": "disk"}
        assert metric(server, "log_records_dropped_total", **lost) == len(frames)
        spool.unlink()
        kept = "log_records_spooled_total"

        def logs_again() -> float:
            chat(server, room, 1)
            return metric(server, kept, destination="cloudwatch")

        eventually(logs_again, lambda count: count > 0)
