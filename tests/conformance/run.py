#!/usr/bin/env python3
"""Autobahn's own WebSocket cases against the frame and ring code of the server.

Starts the `echo` example (the chat endpoint answers requests, it does not echo), drives it with
`kosoku`, which runs the cases of the Autobahn test suite, and compares the report with what is
possible: 301 cases without compression, 298 passed and 3 informational. Not one of them may be
non-strict, because a non-strict pass means that invalid UTF-8 was found later than it could be.

Groups 12 and 13 are compression: 216 cases of 1,000 messages each. They take most of the time, nearly
all of it in kosoku, so several of them run at once.

Usage: run.py --kosoku PATH --echo PATH [--out DIRECTORY]
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "clients" / "python"))
from ports import free_port  # noqa: E402

# Group: cases in it, and how many of those can only inform (they judge nothing).
GROUPS = {
    "1": (16, 0),  # framing
    "2": (11, 0),  # pings and pongs
    "3": (7, 0),  # reserved bits
    "4": (10, 0),  # opcodes
    "5": (20, 0),  # fragmentation
    "6": (145, 0),  # UTF-8
    "7": (37, 3),  # close
    "9": (54, 0),  # limits and performance
    "10": (1, 0),  # automatic fragmentation
    **{f"12.{kind}": (18, 0) for kind in range(1, 6)},  # compression: kinds of content
    **{f"13.{offer}": (18, 0) for offer in range(1, 8)},  # compression: offers
}
COMPRESSION = [group for group in GROUPS if "." in group]
GROUP_SECONDS_MAX = 600
START_SECONDS_MAX = 10


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kosoku", required=True, type=Path)
    parser.add_argument("--echo", required=True, type=Path, help="the built `echo` example")
    parser.add_argument("--out", default=Path("target/conformance"), type=Path)
    options = parser.parse_args()

    shutil.rmtree(options.out, ignore_errors=True)
    port = free_port()
    with subprocess.Popen([str(options.echo), "--listen", f"127.0.0.1:{port}"]) as server:
        try:
            wait_for(port, server)
            results = {}
            plain = [[group] for group in GROUPS if group not in COMPRESSION]
            for groups in [*plain, COMPRESSION]:
                # kosoku is one thread; its cases have limits of time, so no more of it than cores.
                with concurrent.futures.ThreadPoolExecutor(min(os.cpu_count() or 1, 4)) as pool:
                    for found in pool.map(lambda group: run_group(options, port, group), groups):
                        results |= found
                if server.poll() is not None:
                    print(f"the echo server died in group {groups[0]}: exit {server.returncode}")
                    return 1
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
    return judge(results)


def wait_for(port: int, server: subprocess.Popen) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        if server.poll() is not None:
            sys.exit(f"the echo server did not start: exit {server.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.02)
    sys.exit(f"the echo server does not listen on {port} after {START_SECONDS_MAX} s")


def run_group(options: argparse.Namespace, port: int, group: str) -> dict[str, dict]:
    """Case id to its row of the report. kosoku's exit code repeats what the report says."""
    out = options.out / f"group-{group}"
    out.mkdir(parents=True)
    started = time.monotonic()
    done = subprocess.run(
        [
            *(str(options.kosoku), "-m", "fuzzingclient"),
            *("-i", f"{group}.*", "-o", str(out), f"ws://127.0.0.1:{port}"),
        ],
        capture_output=True,
        text=True,
        timeout=GROUP_SECONDS_MAX,
    )
    (out / "kosoku.txt").write_text(done.stdout + done.stderr)
    index = out / "index.json"
    if not index.exists():
        print(f"group {group}: no report\n{done.stderr[-2000:]}")
        return {}
    (agent,) = json.loads(index.read_text()).values()
    print(f"group {group}: {len(agent)} cases in {time.monotonic() - started:.1f} s", flush=True)
    return agent


def judge(results: dict[str, dict]) -> int:
    """Prints the table and everything that is not as it should be."""
    rows: dict[str, collections.Counter] = {group: collections.Counter() for group in GROUPS}
    wrong = []
    for case, row in sorted(results.items(), key=lambda item: [int(n) for n in item[0].split(".")]):
        major, minor, *_ = case.split(".")
        group = f"{major}.{minor}" if f"{major}.{minor}" in GROUPS else major
        rows[group][row["behavior"]] += 1
        passed = row["behavior"] in ("OK", "INFORMATIONAL")
        if not passed or row["behaviorClose"] not in ("OK", "INFORMATIONAL"):
            wrong.append(f"case {case}: {row['behavior']}, close {row['behaviorClose']}")
    for group, (cases, informational) in GROUPS.items():
        counted = rows[group]
        if counted["OK"] != cases - informational or counted["INFORMATIONAL"] != informational:
            wrong.append(
                f"group {group}: expected {cases - informational} OK and {informational}"
                f" INFORMATIONAL, got {dict(counted) or 'nothing'}"
            )
    columns = ["OK", "INFORMATIONAL", "NON-STRICT"]
    columns += sorted({name for row in rows.values() for name in row} - set(columns))
    print(f"{'group':>8}" + "".join(f"{name:>15}" for name in columns))
    total = sum(rows.values(), collections.Counter())
    for group, row in [*rows.items(), ("all", total)]:
        print(f"{group:>8}" + "".join(f"{row[name]:>15}" for name in columns))
    for line in wrong:
        print(line)
    bad_cases = len(results) - total["OK"] - total["INFORMATIONAL"]
    missing = sum(cases for cases, _ in GROUPS.values()) - len(results)
    failed = max(bad_cases + missing, 1 if wrong else 0)
    print(f"conformance: {total['OK'] + total['INFORMATIONAL']} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
