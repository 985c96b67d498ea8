"""The comparison with other servers: its arithmetic, and that it runs. The peers themselves are fetched by
`benches/peers/run --quick` only.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from uproar import BINARY, REPOSITORY

PEERS = REPOSITORY / "benches" / "peers"
SECONDS_MAX = 600


def rows(lines: list[dict]) -> list[list[str]]:
    sys.path.insert(0, str(PEERS))
    try:
        import table
        from measures import MEASURES
    finally:
        sys.path.remove(str(PEERS))
    measure = next(measure for measure in MEASURES if measure.name == "room-1000")
    return table.rows(measure, ["uproar", "bun", "nats"], lines, "bun", 386)


def line(index: int, server: str, deliveries: float) -> dict:
    result = {"deliveries_per_second": deliveries, "frame_bytes": 386, "lost_or_repeated": 0}
    return {"round": index, "measure": "room-1000", "server": server, "result": result}


def test_ratios_are_of_the_same_round():
    """A machine that doubles its speed every round: medians of ratios, not ratios of medians."""
    lines = [line(index, "bun", 100 * 2**index) for index in range(3)]
    lines += [line(0, "uproar", 500), line(1, "uproar", 600), line(2, "uproar", 2000)]
    lines.append({"round": 0, "measure": "room-1000", "server": "nats", "failed": "it is not there"})
    lines.append({"round": 0, "measure": "steady", "server": "nats", "failed": "another measure"})
    uproar, bun, nats = rows(lines)
    assert uproar[:4] == ["uproar", "600", "500 – 2,000", "5.00"]
    assert bun[:4] == ["bun", "200", "100 – 400", "1.00"]
    assert (nats[1], nats[-1]) == ("none", "it is not there")


def test_losses_are_summed_over_rounds():
    """Sums of counts, and the longest wait of any round and node."""
    sys.path.insert(0, str(PEERS))
    try:
        from losses import EVENTS, loss_rows
    finally:
        sys.path.remove(str(PEERS))
    counts = {"said": 1000, "lost": 2, "partly": 1, "repeated": 0, "reordered": 3}
    rounds = [
        {"events": {event.name: counts | {"longest_wait_ms": [5.0, 40.0 * turn]} for event in EVENTS}} for turn in (1, 30)
    ]
    rows = loss_rows({"redis-ws": rounds})
    assert len(rows) == 2 + len(EVENTS)
    assert rows[2] == "| nothing | redis-ws | 2,000 | 4 | 2 | 0 | 6 | 1.20 |"


def test_it_runs(tmp_path):
    """With Uproar alone, which needs no package; a peer that cannot be fetched is skipped, and says so."""
    environment = os.environ | {
        "UPROAR_BIN": str(BINARY),
        "UPROAR_PEERS_CACHE": str(tmp_path),
        "npm_config_registry": "http://127.0.0.1:9/",
        "npm_config_fetch_retries": "0",
    }
    flags = ["--quick", "--only", "uproar,bun", "--measures", "steady,idle"]
    run = subprocess.run(
        [sys.executable, PEERS / "run", *flags], env=environment, capture_output=True, text=True, timeout=SECONDS_MAX
    )
    assert run.returncode == 0, run.stderr
    lines = [json.loads(text) for text in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [(line["measure"], line["server"]) for line in lines] == [("steady", "uproar"), ("idle", "uproar")]
    assert all("result" in line for line in lines), lines
    assert "bun: skipped: " in run.stdout and "npm install" in run.stdout
    assert "| uproar |" in (tmp_path / "table.md").read_text()


def test_over_tls(tmp_path):
    """Uproar over TLS, with a server that has none named as such; what needs TLS is refused without."""
    environment = os.environ | {"UPROAR_BIN": str(BINARY), "UPROAR_PEERS_CACHE": str(tmp_path)}
    flags = ["--quick", "--tls", "--only", "uproar,nats", "--measures", "steady,resumed"]
    run = subprocess.run(
        [sys.executable, PEERS / "run", *flags], env=environment, capture_output=True, text=True, timeout=SECONDS_MAX
    )
    assert run.returncode == 0, run.stderr
    lines = [json.loads(text) for text in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [line["measure"] for line in lines] == ["steady", "resumed"]
    steady, resumed = (line["result"]["tls"] for line in lines)
    assert steady["sealed_per_room"] > 0 and resumed["resumed"] > 0
    assert "nats: skipped: speaks no TLS" in run.stdout
    plain = subprocess.run([sys.executable, PEERS / "run", "--measures", "resumed"], env=environment, capture_output=True, text=True)
    assert plain.returncode == 2 and "--tls" in plain.stderr


def test_a_name_nobody_has_is_refused():
    command = [sys.executable, PEERS / "run", "--only", "uproar,bum"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_MAX)
    assert run.returncode == 2 and "bum" in run.stderr
