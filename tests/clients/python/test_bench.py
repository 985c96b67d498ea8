"""Every measurement of `uproar bench` runs, at its smallest, and says in JSON what it promises.

No figure is judged here: a busy machine makes them poor, not wrong.
"""

from __future__ import annotations

import json
import os
import subprocess
import xml.etree.ElementTree as ElementTree

import pytest

from uproar import BINARY, Server

# Each run takes seconds; this only ends one that hangs.
SECONDS_MAX = 600


def bench(subject: str, *flags: str) -> dict:
    """A subject with a measure, as in "features votes", is two words."""
    command = [BINARY, "bench", *subject.split(), "--json", *flags]
    run = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_MAX)
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout)
    assert "Linux" in result["machine"]
    return result


def check_ages(ages: dict) -> None:
    assert 0 < ages["p50"] <= ages["p99"] <= ages["max"], ages


FANOUT = ("fanout", "--receivers", "20", "--rate", "50", "--seconds", "1", "--runs", "1")


def test_fanout_with_floor_and_plot(tmp_path):
    plot = tmp_path / "latency.svg"
    result = bench(*FANOUT, "--floor", "--plot", str(plot))
    assert result["lost_or_repeated"] == result["refused"] == 0
    assert result["deliveries_per_second"] > 0
    # Every message is at least one send's share, whatever the load.
    assert result["messages_per_send"] >= 1
    check_ages(result["latency_us"])
    assert result["floor"]["receivers"] == 20
    assert result["floor"]["share"] > 0
    picture = ElementTree.parse(plot).getroot()
    assert picture.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(picture.findall("{*}circle")) == 2


@pytest.mark.parametrize("io", ["io_uring", "epoll"])
def test_both_ways_of_moving_bytes_can_be_compared(io):
    """Goal: a figure says what it is of. Method: the server's own word, not the flag."""
    assert bench(*FANOUT, "--io", io)["io"] == io
    assert bench("connect", "--total", "50", "--width", "4", "--held", "10", "--io", io)["io"] == io


def test_connect():
    result = bench("connect", "--total", "300", "--width", "8", "--held", "50", "--rooms", "2")
    assert (result["opened"], result["refused"], result["first_refusal"]) == (300, 0, None)
    assert result["handshakes_per_second"] > 0
    check_ages(result["latency_us"])
    assert set(result["server_cpu_us_per_handshake"]) == {"user", "system"}


def test_reconnect():
    result = bench("reconnect", "--clients", "200", "--rooms", "3", "--seconds", "1")
    assert (result["clients"], result["bystander_wrong"]) == (200, 0)
    assert result["last_back_ms"] > result["cut_ms"] > 0
    check_ages(result["handshake_us"])
    check_ages(result["bystander_us_before"])


def test_ingest():
    flags = ("--senders", "20", "--rooms", "4", "--rate", "10", "--seconds", "1")
    result = bench("ingest", *flags)
    assert (result["sent"], result["accepted"]) == (200, 200)
    assert result["refused"] == result["lost_or_repeated"] == 0
    check_ages(result["latency_us"])


def test_ingest_counts_refusals(tmp_path):
    """One sender above its connection's rate: each message is answered, one way or the other."""
    config = tmp_path / "uproar.toml"
    config.write_text("[quotas]\nconnection_requests = 10\n")
    flags = ("--senders", "1", "--rooms", "1", "--rate", "200", "--seconds", "1")
    result = bench("ingest", *flags, "--", "--config", str(config))
    assert result["refused"] > 0 and result["lost_or_repeated"] == 0, result
    assert result["accepted"] + result["refused"] == result["sent"] == 200


@pytest.mark.parametrize("how", [(), ("--memory-file",)], ids=["send", "sendfile"])
def test_floor(how):
    result = bench("floor", "--receivers", "10", "--messages", "1,4", "--seconds", "1", *how)
    assert [point["messages_per_send"] for point in result["points"]] == [1, 4]
    assert all(point["deliveries_per_second"] > 0 for point in result["points"])


def test_fanout_over_tls():
    """All but the sampled leave their records sealed; what they count is what was sent."""
    result = bench(*FANOUT, "--samples", "3", "--tls", "--floor")
    assert result["lost_or_repeated"] == result["refused"] == 0
    tls = result["tls"]
    assert (tls["opened_per_room"], tls["sealed_per_room"]) == (4, 16)
    # At 50 messages a second nearly each is a record of its own.
    assert tls["content_bytes_per_record"] >= result["frame_bytes"] - 1
    check_ages(result["latency_us"])
    line = result["floor"]
    assert line["suite"] == tls["suite"] == "TLS13_AES_128_GCM_SHA256"
    assert line["share"] > 0 and line["ns_per_seal"] > 0


def test_floor_over_tls():
    for suite in ("aes-128-gcm", "chacha20-poly1305"):
        flags = ("--tls", "--suite", suite, "--receivers", "10", "--messages", "1,64", "--seconds", "1")
        result = bench("floor", *flags)
        for point in result["points"]:
            assert point["deliveries_per_second"] > 0
            assert point["sealed_deliveries_per_second"] > 0


CONNECT = ("connect", "--total", "300", "--width", "8", "--held", "50", "--rooms", "2", "--tls")


def test_connect_over_tls():
    result = bench(*CONNECT)
    assert (result["opened"], result["refused"]) == (300, 0)
    assert (result["tls"]["full"], result["tls"]["resumed"]) == (300, 0)


def test_connect_with_tickets():
    result = bench(*CONNECT, "--resume")
    assert (result["opened"], result["refused"]) == (300, 0)
    assert (result["tls"]["full"], result["tls"]["resumed"]) == (0, 300)


def test_other_measurements_over_tls():
    """Sealed viewers are reached by every message, whoever holds them."""
    assert bench("idle", "--tls", "--connections", "50")["tls"] == "TLS13_AES_128_GCM_SHA256"
    result = bench("reconnect", "--clients", "100", "--rooms", "3", "--seconds", "1", "--tls", "--resume")
    assert (result["clients"], result["bystander_wrong"]) == (100, 0)
    assert result["tls"]["resumed"] > 0
    flags = ("--connections", "130", "--part", "50", "--stages", "1", "--messages", "2", "--rooms", "3")
    (stage,) = bench("crowd", *flags, "--tls")["stages"]
    assert stage["gone"] == 0
    assert [message["lost"] for message in stage["messages"]] == [0, 0]


def test_tls_is_refused_where_it_means_nothing():
    for flags in (("tokens", "--tls"), ("fanout", "--nats", "127.0.0.1:1", "--tls"), ("connect", "--resume")):
        refused = subprocess.run([BINARY, "bench", *flags], capture_output=True, text=True, timeout=60)
        assert refused.returncode != 0 and "--tls" in refused.stderr, refused.stderr


def test_loopback_packets_are_shown_and_set():
    """In a network of its own, so that nothing changes for others; without the right to make one, the refusal."""
    before = bench("loopback")["packet_bytes"]
    command = [BINARY, "bench", "loopback", "--packets", "131072"]
    alone = subprocess.run(["unshare", "--net", *command, "--json"], capture_output=True, text=True, timeout=60)
    if alone.returncode == 0:
        result = json.loads(alone.stdout)
        assert (result["packet_bytes_before"], result["packet_bytes"]) == (65536, 131072)
        assert "loopback packets of 131072 bytes" in result["machine"]
    else:
        assert os.geteuid() != 0, alone.stderr
        refused = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert refused.returncode == 1 and "CAP_NET_ADMIN" in refused.stderr
    assert bench("loopback")["packet_bytes"] == before


def test_idle():
    result = bench("idle", "--connections", "50")
    assert result["connections"] == 50


def test_tokens():
    result = bench("tokens", "--connections", "2", "--seconds", "1")
    assert result["tokens_per_second"] > 0
    check_ages(result["latency_us"])


def test_crowd():
    """Three client processes, two steps: everybody is reached by every message."""
    flags = ("--connections", "130", "--part", "50", "--stages", "2", "--messages", "2", "--rooms", "3")
    result = bench("crowd", *flags)
    assert (result["asked"], result["held"], result["client_processes"]) == (130, 130, 3)
    assert [stage["held"] for stage in result["stages"]] == [66, 130]
    for stage in result["stages"]:
        assert (stage["tried_again"], stage["gone"], stage["gave_up"]) == (0, 0, False)
        assert len(stage["messages"]) == 2
        for message in stage["messages"]:
            assert (message["wanted"], message["lost"]) == (stage["held"] - 3, 0)
            assert 0 < message["first_us"] <= message["latency_us"]["max"] + 1
            check_ages(message["latency_us"])
    assert result["calculated"]["connections"] == 1e6


def test_crowd_says_what_it_did_not_get(tmp_path):
    """A full server: the rest is given up, and who stands is reached."""
    config = tmp_path / "uproar.toml"
    config.write_text("[quotas]\nconnections = 100\n")
    with Server(extra=("--config", str(config))) as server:
        room = server.boto().create_room(name="crowd")["arn"]
        target = f"127.0.0.1:{server.messaging_port}"
        flags = ("--target", target, "--data-dir", str(server.data_dir), "--room", room)
        result = bench("crowd", "--connections", "400", "--stages", "1", "--messages", "1", *flags)
    assert (result["asked"], result["held"]) == (400, 100)
    (stage,) = result["stages"]
    assert stage["gave_up"] and "429" in stage["first_refusal"]
    assert stage["messages"][0]["lost"] == 0
    assert result["calculated"] is None


def test_noisy_neighbour(tmp_path):
    plot = tmp_path / "neighbours.svg"
    flags = ("--crowd", "60", "--part", "30", "--rates", "5,20", "--seconds", "1", "--plot", str(plot))
    result = bench("noisy-neighbour", *flags)
    silent, *loaded = result["rows"]
    assert (silent["huge_messages_per_second"], silent["huge_latency_us"]) == (0, None)
    assert [row["huge_messages_per_second"] for row in loaded] == [5, 20]
    for row in result["rows"]:
        assert row["small_lost_repeated_refused"] == row["huge_lost_repeated_refused"] == 0
        check_ages(row["small_latency_us"])
    for row in loaded:
        check_ages(row["huge_latency_us"])
        assert row["huge_deliveries_per_second"] > 0
    picture = ElementTree.parse(plot).getroot()
    assert len(picture.findall("{*}circle")) == 5


def sweep(over: str, values: str, *flags: str) -> list[dict]:
    flags = ("--over", over, "--values", values, "--seconds", "1", *flags)
    result = bench("sweep", *flags)
    assert result["over"] == over
    assert [row["value"] for row in result["rows"]] == [int(value) for value in values.split(",")]
    return result["rows"]


@pytest.mark.parametrize(
    ("over", "values", "deliveries"),
    [("receivers", "2,20", [40, 400]), ("rooms", "1,2", [2000, 4000])],
)
def test_sweep_at_a_rate(over, values, deliveries, tmp_path):
    """25 messages in 1.25 seconds to each receiver; a busy machine may take longer to deliver them."""
    plot = tmp_path / "sweep.svg"
    rows = sweep(over, values, "--rate", "20", "--runs", "2", "--plot", str(plot))
    for row, most in zip(rows, deliveries):
        assert row["lost_or_repeated"] == row["refused"] == 0
        assert row["lowest"] <= row["deliveries_per_second"] <= row["highest"] <= 1.1 * most
        check_ages(row["latency_us"])
    picture = ElementTree.parse(plot).getroot()
    # One panel for deliveries, one for latency.
    assert len(picture.findall("{*}circle")) == 2 * len(rows)


def test_sweep_finds_the_highest_rate():
    """Ten seconds of latency are kept by something on the busiest machine."""
    for row in sweep("receivers", "2,4", "--p99-ms", "10000"):
        assert row["lost_or_repeated"] == row["refused"] == 0
        assert 0 < row["latency_us"]["p99"] <= 10_000_000


def test_sweep_over_size_grows_frames():
    small, large = sweep("size", "32,500", "--rate", "20")
    assert large["frame_bytes"] - small["frame_bytes"] == pytest.approx(468, abs=10)


def test_sweep_over_connections_keeps_the_room_alone():
    """Deliveries count the measured room's members, not the idle ones beside it."""
    for row in sweep("connections", "0,30", "--rate", "20"):
        assert row["lost_or_repeated"] == 0
        assert row["deliveries_per_second"] <= 1.1 * 20_000


def test_sweep_over_coalescing_has_the_kernels_line(tmp_path):
    plot = tmp_path / "sweep.svg"
    for row in sweep("coalescing", "5,50", "--plot", str(plot)):
        assert row["floor"]["messages_per_send"] == row["messages_per_send"] >= 1
        assert row["floor"]["ns_per_send"] > 0
    # Deliveries and processor time, each beside the kernel's line, and latency.
    assert len(ElementTree.parse(plot).getroot().findall("{*}circle")) == 2 * 5


def test_scale_compares_shards():
    more = min(2, len(os.sched_getaffinity(0)))
    flags = ("--shards", f"1,{more}", "--receivers", "20", "--messages", "4", "--chunks", "5")
    result = bench("scale", *flags, "--bursts", "2", "--runs", "2")
    assert [run["shards"] for run in result["runs"]] == [1, more, 1, more]
    for run in result["runs"]:
        assert run["lost_or_repeated"] == 0
        assert run["deliveries_per_second"] > 0
        assert run["sends_per_second_of_busiest_shard"] > run["sends_per_second"]
        # A chunk waits for the one before it: no send carries more than one.
        assert 1 <= run["messages_per_send"] <= 4
    (ratio,) = result["ratios"]
    assert ratio["shards"] == more
    assert ratio["deliveries_lowest"] <= ratio["deliveries"] <= ratio["deliveries_highest"]


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("fanout", "--plain", "127.0.0.1:1", "--floor"), "--floor"),
        (("fanout", "--plain", "127.0.0.1:1", "--target", "127.0.0.1:1"), "--target"),
        (("fanout", "--plain", "127.0.0.1:1", "--nats", "127.0.0.1:1"), "--nats"),
        (("connect", "--nats", "127.0.0.1:1"), "--nats"),
        (("fanout", "--near", "1000", "--rate", "1"), "--near"),
        (("fanout", "--size", "501"), "--size"),
        (("storm", "--rooms", "1"), "--rooms"),
        (("idle", "--pid", "1"), "--target"),
        (("sweep",), "--over"),
        (("sweep", "--over", "coalescing", "--rate", "9"), "--rate"),
        (("sweep", "--over", "size", "--values", "501"), "--values"),
        (("sweep", "--over", "receivers", "--values", "10,1000001"), "1000001"),
        (("scale", "--receivers", "1000000", "--chunks", "1000"), "net.ipv4.tcp_mem"),
        (("scale", "--shards", "1,1024"), "--shards"),
    ],
)
def test_flags_that_make_no_sense_are_refused(flags, named):
    command = [BINARY, "bench", *flags]
    run = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_MAX)
    assert run.returncode == 2, run
    assert named in run.stderr


@pytest.mark.parametrize(("old", "new"), [("storm", "reconnect"), ("neighbours", "noisy-neighbour")])
def test_old_names_still_work(old, new):
    run = subprocess.run([BINARY, "bench", old, "--help"], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0 and f"bench {new} " in run.stdout


def refused(*words: str) -> str:
    """What `uproar bench` says to what it cannot do; it must not be a panic."""
    run = subprocess.run(
        [BINARY, "bench", *words], capture_output=True, text=True, timeout=SECONDS_MAX
    )
    assert run.returncode in (1, 2) and "panicked" not in run.stderr, run.stderr
    return run.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("fanout", "--receivers", "0"),
        ("fanout", "--rooms", "0"),
        ("fanout", "--samples", "0"),
        ("fanout", "--rate", "0"),
        ("fanout", "--rate", "nan"),
        ("fanout", "--near", "0"),
        ("fanout", "--shards", "0"),
        ("idle", "--connections", "0"),
        ("sweep", "--over", "rooms", "--shards", "0"),
    ],
)
def test_none_is_not_an_amount_to_measure(words):
    assert f"invalid value '{words[-1]}' for '{words[-2]}" in refused(*words)


def test_an_unknown_option_is_not_advised_to_go_to_the_server():
    assert "--total" in refused("connect", "--seconds", "5")
    text = refused("ingest", "--minutes", "5")
    assert "unexpected argument '--minutes'" in text and "-- --minutes" not in text


def test_tokens_of_a_running_server(tmp_path):
    with Server(tmp_path) as server:
        messaging = f"127.0.0.1:{server.messaging_port}"
        control = f"127.0.0.1:{server.control_port}"
        room = server.boto_cached.create_room()["arn"]
        target = ("--target", messaging, "--data-dir", str(server.data_dir), "--room", room)
        assert "--control" in refused("tokens", *target)
        result = bench("tokens", *target, "--control", control, "--seconds", "1", "--connections", "2")
        assert result["tokens_per_second"] > 0


def test_across_accounts_for_every_message(tmp_path):
    """One server as if it were two nodes: both hear all that is said at both, in one order."""
    with Server(tmp_path) as server:
        messaging = f"127.0.0.1:{server.messaging_port}"
        room = server.boto_cached.create_room()["arn"]
        target = ("--node", f"{messaging},{messaging}", "--data-dir", str(server.data_dir), "--room", room)
        load = ("--senders", "2", "--viewers", "3", "--rate", "100", "--seconds", "1")
        result = bench("across", *target, *load, "--pid", str(server.process.pid))
    assert result["said"] >= result["messages"] >= 90, result
    assert result["deliveries_per_message"] == 6
    assert result["lost"] == result["repeated"] == result["reordered"] == result["refused"] == 0, result
    assert len(result["cpu_us_per_message"]) == 1 and len(result["longest_wait_ms"]) == 2
    check_ages(result["latency_us"])


def test_plan_kills_a_node_the_same_way_by_each_seed():
    crowd = ("--viewers", "1000000", "--rooms", "20", "--rate", "2", "--nodes", "6", "--simulate")
    command = [BINARY, "bench", "plan", "--json", *crowd, "--seed"]
    runs = [subprocess.run([*command, seed], capture_output=True, text=True, timeout=SECONDS_MAX) for seed in "779"]
    first, again, other = (json.loads(run.stdout)["node_killed"] for run in runs)
    assert first == again != other
    assert first["elsewhere"]["lost"] == first["elsewhere"]["repeated"] == 0
    assert first["its_viewers"]["back_s"]["all"] >= first["its_viewers"]["back_s"]["p50"] > 0
    assert "--nodes 1" in refused("plan", *crowd[:-3], "--nodes", "1", "--simulate")


def test_fanout_says_that_rates_made_it_lose_messages(tmp_path):
    """Method: a server with the default rates, and twice as many messages as a room may have."""
    with Server(tmp_path, quotas="aws") as server:
        target = ("--target", f"127.0.0.1:{server.messaging_port}", "--data-dir", str(server.data_dir))
        room = server.boto_cached.create_room()["arn"]
        text = refused(*FANOUT[:4], "20", *FANOUT[5:], *target, "--room", room)
    assert "--quotas open" in text and "refused" in text


def test_features_votes():
    result = bench("features votes", "--voters", "10", "--rate", "10", "--seconds", "1")
    assert (result["sent"], result["counted"], result["refused"]) == (100, 100, 0)
    check_ages(result["latency_us"])


def test_features_moderation():
    flags = ("--viewers", "50", "--beside", "5", "--rate", "5", "--seconds", "2", "--behind", "20")
    result = bench("features moderation", *flags)
    assert result["behind"]["pause_ms"] == 20
    for measured in (result, result["behind"]):
        assert (measured["sent"], measured["complete"], measured["refused"]) == (10, 10, 0)
        for ages in ("last_viewer_us", "each_viewer_us", "beside_us"):
            check_ages(measured[ages])
        assert measured["moderation_seconds_p99_bound"] > 0
        assert measured["moderation_seconds_mean"] > 0
        # 100 messages a second to 5 beside are 2 sends a deletion and viewer.
        assert measured["sends_per_deletion_and_viewer"] > 3


def test_features_viewers():
    result = bench("features viewers", "--viewers", "20", "--rate", "20", "--every", "1", "--seconds", "3")
    assert result["without"]["messages"] == result["with"]["messages"] == 20 * 60
    assert result["without"]["events"] == 0 and result["with"]["events"] >= 20
    assert result["with"]["event_bytes"] > 100 * result["with"]["events"]


def test_features_history():
    result = bench("features history", "--joins", "50", "--messages", "20")
    assert (result["full"], result["refused"]) == (50, 0)
    assert result["bytes_per_join"] > 20 * 100
    check_ages(result["latency_us"])
    assert bench("features history", "--joins", "50", "--messages", "0")["bytes_per_join"] == 0


def test_a_herd_of_joins_keeps_to_the_budget(tmp_path):
    """Goal: 10,000 joins as quick as they go get no more bytes than the configuration allows, and all are let in."""
    budget = 1_000_000
    config = tmp_path / "uproar.toml"
    config.write_text(f"[history]\nbytes_per_second = {budget}\n")
    result = bench("features history", "--joins", "10000", "--", "--config", str(config))
    assert result["full"] + result["refused"] == 10_000
    assert result["refused"] > 0, result
    seconds = 10_000 / result["joins_per_second"]
    # A second's worth is there at once, and the last join may go over it by its own size.
    assert result["full"] * result["bytes_per_join"] <= budget * (seconds + 1) * 1.01 + result["bytes_per_join"]
