"""`uproar doctor` on the machine at hand: its table, its JSON, its exit code, and the files it writes."""

from __future__ import annotations

import json
import re
import resource
import shutil
import subprocess
from pathlib import Path

import pytest

from uproar import BINARY, Server

CHECKS = {
    "kernel",
    "io_uring allowed",
    "io_uring ring",
    "open files",
    "open files, soft",
    "fs.nr_open",
    "fs.file-max",
    "locked memory",
    "net.core.somaxconn",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_max_orphans",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_mem",
    "net.ipv4.tcp_wmem",
    "net.ipv4.tcp_rmem",
    "net.netfilter.nf_conntrack_max",
    "memory",
    "cgroup memory.max",
    "cgroup pids.max",
    "cgroup cpu.max",
    "transparent huge pages",
    "processors",
}
# More than any machine has memory for: there is always something to change.
TOO_MANY = "1000000000"


def doctor(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    command = [str(BINARY), "doctor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, **options)


def report(*arguments: str, **options) -> tuple[int, dict]:
    ran = doctor("--json", *arguments, **options)
    return ran.returncode, json.loads(ran.stdout)


def found(findings: dict, check: str) -> dict:
    return next(one for one in findings["findings"] if one["check"] == check)


@pytest.mark.parametrize("connections", ["1", "10000", TOO_MANY])
def test_every_check_has_a_verdict_and_the_exit_code_follows(connections):
    code, shown = report("--connections", connections)
    checks = {one["check"] for one in shown["findings"]}
    assert CHECKS <= checks
    assert all(check.endswith(" receives on") for check in checks - CHECKS)
    assert {one["verdict"] for one in shown["findings"]} <= {"ok", "change", "unknown"}
    assert all(one["reason"] and "\n" not in one["reason"] for one in shown["findings"])
    changes = [one["check"] for one in shown["findings"] if one["verdict"] == "change"]
    assert code == (1 if changes else 0)
    assert shown["worst"] in (changes or [None])
    # This machine runs the other tests, so its rings work.
    assert found(shown, "io_uring ring")["verdict"] == "ok"


def numberless(text: str) -> str:
    """Words on one line; what is open now differs from one report to the next."""
    return re.sub(r"\d[\d,]*", "N", " ".join(text.split()))


def test_the_table_says_the_same_within_the_width_of_a_terminal():
    """Goal: the words fit; below what must change, and only there, stands why."""
    _, shown = report("--connections", TOO_MANY)
    table = doctor("--connections", TOO_MANY)
    lines = table.stdout.splitlines()
    assert lines[0].split() == ["verdict", "check", "found", "needed"]
    assert max(map(len, lines)) <= 80, table.stdout
    heads = [line for line in lines[1:] if not line.startswith(" ")]
    assert len(heads) == len(shown["findings"])
    for line, one in zip(heads, shown["findings"]):
        assert re.match(rf"{one['verdict']} +{re.escape(one['check'])}\b", line), line
    words = numberless(table.stdout)
    for one in shown["findings"]:
        assert (numberless(one["reason"]) in words) == (one["verdict"] != "ok"), one
    assert f"first: {shown['worst']}" in table.stderr


def test_descriptors_are_judged_by_the_limit_of_the_process():
    """Method: lower the hard limit of the child, and ask for one connection more than it allows."""
    limits = (1_000, 1_000)
    arguments = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limits)}
    _, shown = report("--connections", "10", "--shards", "2", **arguments)
    most = found(shown, "open files")["connections_max"]
    # A descriptor holds no viewer but a further ring, whose table has 1,000 places.
    assert most == 1_000 * (2 + (1_000 - 544) // 2)
    for connections, verdict in ((most, "ok"), (most + 1, "change")):
        _, shown = report("--connections", str(connections), "--shards", "2", **arguments)
        assert found(shown, "open files")["verdict"] == verdict
    assert found(shown, "open files")["remedy"] == {
        "unit": {"directive": "LimitNOFILE", "value": "1001"}
    }


def test_a_running_server_is_looked_at():
    with Server() as server:
        pid = server.process.pid
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (2_000, 2_000))
        _, shown = report("--pid", str(pid))
        assert found(shown, "open files")["found"] == "2,000"
    assert doctor("--pid", "4194999").returncode == 2


def test_files_parse_and_hold_what_must_change(tmp_path):
    """The directory is made, as tuning.md's example needs."""
    tmp_path = tmp_path / "not" / "there"
    code, shown = report("--connections", TOO_MANY, "--load-generator", "--write", str(tmp_path))
    assert code == 1
    remedies = [one["remedy"] for one in shown["findings"] if one["remedy"]]
    kernel = {r["sysctl"]["key"]: r["sysctl"]["value"] for r in remedies if "sysctl" in r}
    unit = {r["unit"]["directive"]: r["unit"]["value"] for r in remedies if "unit" in r}
    assert {"fs.nr_open", "net.ipv4.tcp_mem"} <= kernel.keys() and "LimitNOFILE" in unit

    written = settings(tmp_path / "90-uproar.conf", r"([a-z0-9_]+(?:\.[a-z0-9_-]+)+) = ([0-9 ]+)")
    assert written == kernel
    limits = tmp_path / "limits.conf"
    assert settings(limits, r"([A-Z][A-Za-z]+)=(infinity|[0-9]+%?)", "[Service]") == unit
    # Where the tools have a trial run, they read it as well.
    sysctl = shutil.which("sysctl", path="/usr/sbin:/sbin:/usr/bin:/bin")
    trial = subprocess.run([sysctl or "true", "--help"], capture_output=True, text=True, timeout=10)
    if "--dry-run" in trial.stdout:
        command = [sysctl, "--dry-run", "-p", str(tmp_path / "90-uproar.conf")]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=10)
        assert ran.returncode == 0 and ran.stderr == ""
        assert len(ran.stdout.splitlines()) == len(kernel)


def settings(path: Path, grammar: str, section: str | None = None) -> dict[str, str]:
    """The settings of a drop-in; every other line is a comment, empty, or the one section."""
    read = {}
    for line in path.read_text().splitlines():
        if not line or line.startswith("#") or line == section:
            continue
        match = re.fullmatch(grammar, line)
        assert match, f"{path.name}: {line!r}"
        assert match[1] not in read
        read[match[1]] = match[2]
    return read


def test_a_file_that_is_there_is_never_replaced(tmp_path):
    """Goal: a second run, which finds all well because of the first one's file, does not take it away."""
    mine = tmp_path / "90-uproar.conf"
    mine.write_text("mine\n")
    ran = doctor("--connections", TOO_MANY, "--write", str(tmp_path))
    assert ran.returncode == 2 and str(mine) in ran.stderr
    assert mine.read_text() == "mine\n"


def test_nothing_is_written_where_nothing_must_change(tmp_path):
    ran = doctor("--connections", "1", "--shards", "1", "--write", str(tmp_path))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert list(tmp_path.iterdir()) == []
