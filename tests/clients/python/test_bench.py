"""Every measurement of `uproar bench` runs, at its smallest, and says in JSON what it promises.

No figure is judged here: a busy machine makes them poor, not wrong.
"""

from __future__ import annotations

import json
import subprocess
import xml.etree.ElementTree as ElementTree

import pytest

from uproar import BINARY

# Each run takes a second or two; the rest is for a machine with other work.
SECONDS_MAX = 120


def bench(subject: str, *flags: str) -> dict:
    command = [BINARY, "bench", subject, "--json", *flags]
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


def test_connect():
    result = bench("connect", "--total", "300", "--width", "8", "--held", "50", "--rooms", "2")
    assert (result["opened"], result["refused"], result["first_refusal"]) == (300, 0, None)
    assert result["handshakes_per_second"] > 0
    check_ages(result["latency_us"])
    assert set(result["server_cpu_us_per_handshake"]) == {"user", "system"}


def test_storm():
    result = bench("storm", "--clients", "200", "--rooms", "3", "--seconds", "1")
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


def test_floor():
    result = bench("floor", "--receivers", "10", "--messages", "1,4", "--seconds", "1")
    assert [point["messages_per_send"] for point in result["points"]] == [1, 4]
    assert all(point["deliveries_per_second"] > 0 for point in result["points"])


def test_idle():
    result = bench("idle", "--connections", "50")
    assert result["connections"] == 50


def test_tokens():
    result = bench("tokens", "--connections", "2", "--seconds", "1")
    assert result["tokens_per_second"] > 0
    check_ages(result["latency_us"])


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
    ],
)
def test_flags_that_make_no_sense_are_refused(flags, named):
    command = [BINARY, "bench", *flags]
    run = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_MAX)
    assert run.returncode == 2, run
    assert named in run.stderr
