"""The figures as Prometheus' own tool judges them, and what reading them costs others: nothing."""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import os
import re
import resource
import shutil
import socket
import subprocess
import threading
import time
import urllib.request

import pytest

from raw_api import call
from rawws import WebSocket
from uproar import REPOSITORY, Server


def families(text: str) -> dict[str, str]:
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))


def value(text: str, series: str) -> float:
    (found,) = re.findall(rf"^{re.escape(series)} (\S+)$", text, re.M)
    return float(found)


def used(server) -> None:
    """Some of everything, so that labels and histograms are there."""
    boto = server.boto_cached
    arn = boto.create_room(name="metrics", maximumMessageRatePerSecond=100)["arn"]
    viewer = WebSocket(server.messaging_port, server.token(arn, "u"))
    viewer.say("hello", "r")
    viewer.receive_until(lambda frame: frame.get("Content") == "hello")
    viewer.close()
    call(server, "POST", "/uproar/v1/GetRoomStats", json.dumps({"roomIdentifier": arn}).encode())
    ban = {"roomIdentifier": arn, "userId": "troll", "mode": "ban", "seconds": 60}
    call(server, "POST", "/uproar/v1/CreateBan", json.dumps(ban).encode())
    rules = [{"id": "words", "kind": "words", "patterns": ["metric"], "action": "mask", "reason": ""}]
    call(server, "POST", "/uproar/v1/PutRuleSet", json.dumps({"name": "metrics", "rules": rules}).encode())
    boto.tag_resource(resourceArn=arn, tags={"uproar:rules": "metrics"})
    viewer = WebSocket(server.messaging_port, server.token(arn, "u", ["SEND_MESSAGE"]))
    viewer.say("a metric", "r2")
    viewer.receive_until(lambda frame: frame.get("Content") == "a ***")
    viewer.close()


def test_promtool_has_nothing_to_say(server):
    """Lint included: it exits 3 for a name or a unit that is not as Prometheus names things."""
    assert shutil.which("promtool"), "promtool is missing: Debian package prometheus"
    used(server)
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=server.metrics(), capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def labels(text: str, family: str) -> set[str]:
    """Labels of a family's series; `le` belongs to the format."""
    series = re.findall(rf"^{family}(?:_bucket|_sum|_count)?\{{(.*)\}} ", text, re.M)
    return {label for found in series for label in re.findall(r'(\w+)="', found)} - {"le"}


def test_each_family_is_described(server):
    """Goal: docs/metrics.md has each figure's name, type and labels, and no other figure.
    Method: compare its table with the page of a server that has done some of everything."""
    used(server)
    page = server.metrics()
    table = (REPOSITORY / "docs" / "metrics.md").read_text()
    described = {}
    for name, kind, named in re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*)\|", table, re.M):
        whole = name if name.startswith("process_") else f"uproar_{name}"
        described[whole] = (kind, set(re.findall(r"`(\w+)`", named)))
    shown = {name: (kind, labels(page, name)) for name, kind in families(page).items()}
    # This server speaks no TLS, so it has no certificate; it names no rooms, and is no node of a cluster.
    described.pop("uproar_tls_certificate_not_after_timestamp_seconds")
    # It orders none either: test_acme.py has those.
    for name in ("failures", "next_order_timestamp_seconds", "orders_total"):
        described.pop(f"uproar_tls_acme_{name}")
    apart = table.partition("## Rooms")[2]
    for name in re.findall(r"^\| `(\w+)` \|", apart, re.M):
        described.pop(f"uproar_{name}")
    assert shown == described


def test_the_process_is_described_as_the_kernel_sees_it(server):
    used(server)
    text = server.metrics()
    pid = server.process.pid
    assert value(text, "process_max_fds") == resource.prlimit(pid, resource.RLIMIT_NOFILE)[0]
    assert 0 < value(text, "process_open_fds") < 1_000
    assert 0 < value(text, "uproar_data_disk_free_bytes") <= value(text, "uproar_data_disk_bytes")
    assert value(text, "process_threads") == len(os.listdir(f"/proc/{pid}/task"))
    assert value(text, "process_resident_memory_bytes") > 1 << 20
    started = value(text, "process_start_time_seconds")
    assert abs(started - os.stat(f"/proc/{pid}").st_mtime) < 3_600
    assert value(text, "process_cpu_seconds_total") > 0
    (build,) = re.findall(r"^uproar_build_info\{(.*)\} 1$", text, re.M)
    version = server.run("--version").stdout.split()[1]
    assert f'version="{version}"' in build


def test_open_files_are_counted(server):
    before = value(server.metrics(), "process_open_fds")
    streams = [socket.create_connection(("127.0.0.1", server.control_port)) for _ in range(50)]
    server.metrics()  # accepted behind them
    assert value(server.metrics(), "process_open_fds") >= before + 50
    for stream in streams:
        stream.close()


def test_readers_of_figures_delay_nobody(server):
    """Eight scrape without a pause, twenty ask and never read; calls and viewers are served all the same."""
    ask = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
    asleep = []
    for _ in range(20):
        stream = socket.create_connection(("127.0.0.1", server.control_port))
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stream.setblocking(False)
        try:
            while stream.send(ask * 100):
                pass
        except BlockingIOError:
            pass
        asleep.append(stream)
    over, scraped = threading.Event(), [0] * 8

    def scrape(index: int) -> None:
        while not over.is_set():
            with urllib.request.urlopen(f"{server.control_url}/metrics", timeout=60) as answer:
                assert answer.status == 200 and answer.read()
            scraped[index] += 1

    threads = [threading.Thread(target=scrape, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    memory = server.resident_bytes()
    try:
        for _ in range(20):
            used(server)
            with urllib.request.urlopen(f"{server.control_url}/livez", timeout=60) as answer:
                assert answer.status == 200
    finally:
        over.set()
        for thread in threads:
            thread.join()
        for stream in asleep:
            stream.close()
    assert all(scraped), scraped
    assert server.resident_bytes() - memory < 64 << 20, "answers that nobody reads are bounded"


def test_times_of_messages_connections_and_calls(server):
    """Goal: each of the times is counted when it passes, in the class of its room. Method: a room of 20 viewers on two
    shards, 50 messages that all hear, then everybody leaves."""
    boto = server.boto_cached
    arn = boto.create_room(name="times", maximumMessageRatePerSecond=100)["arn"]
    before = server.metrics()
    viewers = [WebSocket(server.messaging_port, server.token(arn, f"u{number}")) for number in range(20)]
    for number in range(50):
        viewers[0].say(str(number))
        for viewer in viewers:
            viewer.receive_until(lambda frame, wanted=str(number): frame.get("Content") == wanted)
    after = server.metrics()
    grown = lambda series: value(after, series) - (value(before, series) if f"\n{series} " in before else 0)
    assert grown('uproar_fanout_seconds_count{size="11-100"}') >= 50
    assert 0 < grown('uproar_fanout_seconds_sum{size="11-100"}') < 50 * 60
    assert grown("uproar_delivery_seconds_count") >= 1
    assert grown("uproar_handshake_seconds_count") == 20
    assert grown('uproar_api_request_seconds_count{operation="CreateChatToken",status="2xx"}') == 20
    assert value(after, 'uproar_memory_bytes{area="connections"}') > 0
    assert value(after, "uproar_connections_max") >= value(after, "uproar_connections")
    assert sum(map(float, re.findall(r"^uproar_shard_cpu_seconds_total\{.*\} (\S+)$", after, re.M))) > 0
    busy = [float(ratio) for ratio in re.findall(r"^uproar_core_busy_ratio\{.*\} (\S+)$", after, re.M)]
    assert len(busy) == 2 and all(0 <= ratio <= 1 for ratio in busy)
    deadline = time.monotonic() + 60
    # Counted once a second, and a room that everybody has left has no log.
    while value(server.metrics(), 'uproar_memory_bytes{area="room_logs"}') == 0:
        assert time.monotonic() < deadline, "the log is not counted"
        viewers[0].say("more")
        time.sleep(0.05)
    for viewer in viewers:
        viewer.close()
    ended = lambda: value(server.metrics(), "uproar_connection_lifetime_seconds_count")
    while ended() < value(before, "uproar_connection_lifetime_seconds_count") + 20:
        assert time.monotonic() < deadline, "the ends are not counted"
        time.sleep(0.05)


def test_limits_stand_beside_what_they_bound(server):
    """Goal: "80 % full" is a rule without a constant. Method: two shards, whose bounds are those of docs/limits.md."""
    text = server.metrics()
    limits = (REPOSITORY / "docs" / "limits.md").read_text()
    for figure, bound in {"tokens_remembered": "USED_TOKENS_MAX", "rings": "RINGS_MAX", "handshakes": "HANDSHAKES_MAX"}.items():
        (each,) = re.findall(rf"^\| `{bound}` \| ([\d,]+) \|", limits, re.M)
        most = value(text, f"uproar_{figure}_max")
        # A small limit on open files lowers that of handshakes.
        assert 0 < most <= 2 * int(each.replace(",", "")), figure
        assert most == 2 * int(each.replace(",", "")) or figure == "handshakes"
        assert value(text, f"uproar_{figure}") <= most


@pytest.fixture(scope="module")
def naming(tmp_path_factory):
    path = tmp_path_factory.mktemp("naming") / "uproar.toml"
    path.write_text("[control]\nmetrics_rooms = 2\n")
    with Server(quotas="aws", extra=("--config", str(path))) as server:
        yield server


def test_the_first_rooms_are_named(naming):
    """Goal: the two rooms with most viewers, the two with most messages, and no others; what they refused. Method: four
    rooms, of which one has neither; promtool judges the page."""
    boto = naming.boto_cached
    rooms = [boto.create_room(name=f"r{n}", maximumMessageRatePerSecond=10 * n + 1)["arn"] for n in range(4)]
    stay = []
    for arn, count in zip(rooms, (4, 3, 1, 0)):
        viewers = [WebSocket(naming.messaging_port, naming.token(arn, f"u{n}")) for n in range(count)]
        stay += viewers
        if count in (1, 4):
            for n in range(8):
                viewers[0].say(str(n))
                # The first room takes one message a second; the others are refused.
                viewers[0].receive()
    ids = [arn.rsplit("/", 1)[1] for arn in rooms]
    text = naming.metrics()
    named = dict(re.findall(r'^uproar_room_viewers\{room="(\w+)"\} (\d+)$', text, re.M))
    assert named == {ids[0]: "4", ids[1]: "3", ids[2]: "1"}
    assert value(text, f'uproar_room_messages_per_second{{room="{ids[2]}"}}') > 0
    assert value(text, f'uproar_room_messages_refused_total{{room="{ids[0]}"}}') >= 5
    assert value(text, f'uproar_room_messages_refused_total{{room="{ids[2]}"}}') == 0
    table = (REPOSITORY / "docs" / "metrics.md").read_text().partition("## Rooms")[2].partition("\n## ")[0]
    shown = {name for name in families(text) if name.startswith("uproar_room_")}
    assert shown == {f"uproar_{name}" for name in re.findall(r"^\| `(\w+)` \|", table, re.M)}
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_longest_turn_is_shown(server):
    """Goal: turns of each shard are timed as they pass, in seconds. Method: viewers on both shards; a turn takes some
    microseconds at least, and nothing here stands still for a minute."""
    arn = server.boto_cached.create_room(name="turns", maximumMessageRatePerSecond=100)["arn"]
    viewers = [WebSocket(server.messaging_port, server.token(arn, f"u{number}")) for number in range(16)]
    for viewer in viewers:
        viewer.say("hello")
    turns = re.findall(r'^uproar_shard_turn_seconds_max\{shard="(\d)"\} (\S+)$', server.metrics(), re.M)
    assert [shard for shard, _ in turns] == ["0", "1"]
    assert all(1e-6 < float(seconds) < 60 for _, seconds in turns), turns
    for viewer in viewers:
        viewer.close()


def test_a_turned_clock_is_no_long_turn():
    """Goal: an emulator whose clock is turned does not show a turn of an hour. Method: turn it while viewers talk, and look."""
    with Server() as server:
        arn = server.boto_cached.create_room(name="turned", maximumMessageRatePerSecond=100)["arn"]
        viewer = WebSocket(server.messaging_port, server.token(arn, "u"))
        for _ in range(5):
            viewer.say("hello")
            turned = json.dumps({"advance_seconds": 3_600}).encode()
            urllib.request.urlopen(f"{server.control_url}/emulator/clock", turned, timeout=60).close()
        turns = re.findall(r"^uproar_shard_turn_seconds_max\{.*\} (\S+)$", server.metrics(), re.M)
        assert len(turns) == 2 and all(float(seconds) < 600 for seconds in turns), turns


def test_calls_in_progress_are_in_the_queue(server):
    """Goal: a call that waits for the disk is counted while it does, and not afterwards. Method: eight callers create
    rooms, each of which is synced to the disk, until a look sees one; then all end."""
    queue = lambda kind: value(server.metrics(), f'uproar_control_queue{{kind="{kind}"}}')
    over = threading.Event()

    def create(number: int) -> None:
        while not over.is_set():
            call(server, "POST", "/CreateRoom", json.dumps({"name": f"queue-{number}"}).encode())

    with concurrent.futures.ThreadPoolExecutor(8) as callers:
        creating = [callers.submit(create, number) for number in range(8)]
        deadline = time.monotonic() + 60
        try:
            while queue("calls") == 0:
                assert time.monotonic() < deadline, "no call is seen in progress"
        finally:
            over.set()
        for one in creating:
            one.result()
    while queue("calls") > 0:
        assert time.monotonic() < deadline, "calls that have ended are counted"
    assert queue("commands") == queue("reviews") == 0


def test_the_configuration_is_told_by_its_hash(tmp_path):
    """Goal: the hash is that of what `--print-config` prints, before and after a reload; a refused one leaves it, and a secret
    does not change it. Method: a file that is changed four times."""
    path = tmp_path / "uproar.toml"
    key = '[[keys]]\nid = "AKIDOFTHEMETRICS1"\nsecret = "{}"\n'
    plain = lambda minutes, secret: f"[tokens]\nlife_minutes = {minutes}\n" + key.format(secret * 8)
    path.write_text(plain(5, "one-"))
    with Server(extra=("--config", str(path))) as server:
        shown = lambda: re.findall(r'^uproar_config_info\{sha256="(.*)"\} 1$', server.metrics(), re.M)
        reload = lambda: server.run("reload", "--data-dir", str(server.data_dir)).returncode

        def printed() -> list[str]:
            text = subprocess.run([*server.command, "--print-config"], capture_output=True, check=True).stdout
            assert b"life_minutes" in text and b"one-one" not in text
            return [hashlib.sha256(text).hexdigest()]

        first = shown()
        assert first == printed()
        path.write_text(plain(6, "one-"))
        assert shown() == first, "nothing is taken over yet"
        assert reload() == 0
        second = shown()
        assert second == printed() != first
        path.write_text(plain("0 # not allowed", "one-"))
        assert reload() != 0 and shown() == second
        path.write_text(plain(6, "two-"))
        assert reload() == 0 and shown() == second == printed()


def test_rooms_are_counted_by_their_viewers():
    """Goal: each room is in one class, by its viewers on all shards, and leaves it when they go."""
    with Server() as server:
        boto = server.boto_cached
        before = len(boto.list_rooms()["rooms"])
        rooms = [boto.create_room(maximumMessageRatePerSecond=100)["arn"] for _ in range(4)]
        join = lambda room, count: [WebSocket(server.messaging_port, server.token(room, f"u{n}")) for n in range(count)]
        viewers = join(rooms[0], 1) + join(rooms[1], 10) + join(rooms[2], 11)
        classes = lambda: {
            size: int(rooms)
            for size, rooms in re.findall(r'^uproar_rooms_by_viewers\{size="(.*)"\} (\d+)$', server.metrics(), re.M)
            if rooms != "0"
        }
        until(lambda: classes() == {"0": before + 1, "1-10": 2, "11-100": 1}, classes)
        for viewer in viewers:
            viewer.close()
        until(lambda: classes() == {"0": before + 4}, classes)


def test_a_message_that_does_not_get_out_has_an_age():
    """Goal: a shard whose sends do not end says so while it lasts. Method: viewers who read nothing until their sockets are
    full, and a talker who hears everything; then all leave."""
    with Server() as server:
        arn = server.boto_cached.create_room(maximumMessageRatePerSecond=100)["arn"]
        talker, *stalled = (WebSocket(server.messaging_port, server.token(arn, f"u{number}")) for number in range(6))
        ages = lambda: re.findall(r'^uproar_unsent_message_age_seconds\{shard="\d"\} (\S+)$', server.metrics(), re.M)
        said = 0

        def talk() -> bool:
            nonlocal said
            for _ in range(100):
                talker.say(f"{said:05}" + "x" * 450)
                said += 1
            for number in range(said - 100, said):
                talker.receive_until(lambda frame, number=number: frame.get("Content", "").startswith(f"{number:05}"))
            return max(map(float, ages())) > 0.5

        assert len(ages()) == 2
        until(talk, ages)
        fanout = re.findall(r'^uproar_shard_fanout_seconds_count\{shard="\d"\} (\d+)$', server.metrics(), re.M)
        assert len(fanout) == 2 and sum(map(int, fanout)) > 0
        for viewer in (talker, *stalled):
            viewer.close()
        until(lambda: max(map(float, ages())) == 0, ages)
        depths = re.findall(r'^uproar_mailbox_depth_max\{shard="\d"\} (\d+)$', server.metrics(), re.M)
        assert len(depths) == 2 and max(map(int, depths)) >= 1, "commands went between the shards"


def until(holds, shown) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline, shown()
        time.sleep(0.05)
