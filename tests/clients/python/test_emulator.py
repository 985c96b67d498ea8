"""A server per test: `uproar dev --free-ports --ready-file`, `uproar wait`, ready rooms, repeatable ids."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

from emulator import Emulator, wait
from paths import BINARY
from uproar import ACCESS_KEY, ACCOUNT, REGION, SECRET_KEY, Successor, adopt_orphans


def arn(room: str) -> str:
    return f"arn:aws:ivschat:{REGION}:{ACCOUNT}:room/{room}"


def test_the_ready_file_says_all_that_a_client_needs(tmp_path):
    """Goal: its names and meanings are an interface. Method: the whole file is compared; boto3 uses it."""
    with Emulator("--room", "hall=hall00000000", "--room", "stage=stage0000000", runtime=tmp_path) as server:
        facts = dict(server.facts)
        assert facts.pop("messaging").startswith("ws://127.0.0.1:")
        assert facts.pop("control").startswith("http://127.0.0.1:")
        assert facts.pop("io") in ("io_uring", "epoll")
        assert facts.pop("version").count(".") == 2
        assert facts == {
            "format": 1,
            "pid": server.process.pid,
            "region": REGION,
            "account": ACCOUNT,
            "access_key_id": ACCESS_KEY,
            "secret_access_key": SECRET_KEY,
            "rooms": {"lobby": arn("lobby0000000"), "hall": arn("hall00000000"), "stage": arn("stage0000000")},
            "data_dir": str(tmp_path / f"uproar-dev-{server.process.pid}"),
            "certificate": None,
        }
        assert server.api.get_room(identifier=facts["rooms"]["hall"])["name"] == "hall"
        assert server.ready_file.stat().st_mode & 0o077 == 0, "it has a secret"
    assert not server.ready_file.exists(), "it goes with the server"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log"], "and so does all else"


def test_a_ready_file_of_a_killed_server_is_not_taken_for_another_ones(tmp_path):
    """Method: the next start fails before it is ready; the old file must be gone by then, and `wait` must not believe it
    before either."""
    killed = Emulator(runtime=tmp_path)
    killed.stop(signal.SIGKILL)
    assert killed.ready_file.exists()
    waited = wait("--ready-file", str(killed.ready_file), "--timeout", "0.1")
    assert waited.returncode == 1 and "refused" in waited.stderr, waited.stderr
    with Emulator(runtime=tmp_path) as server:
        assert server.facts["pid"] == server.process.pid


def test_an_upgrade_hands_the_ready_file_over(tmp_path):
    """Goal: it names the process that serves, whose end removes it; the old one's end does not."""
    adopt_orphans()
    server = Emulator(runtime=tmp_path)
    command = [str(BINARY), "upgrade", "--data-dir", server.facts["data_dir"]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr + server.log()
    assert server.process.wait(60) == 0
    facts = json.loads(wait("--ready-file", str(server.ready_file)).stdout)
    assert facts["pid"] != server.facts["pid"]
    assert {**facts, "pid": 0} == {**server.facts, "pid": 0}
    successor = Successor(facts["pid"])
    successor.send_signal(signal.SIGTERM)
    assert successor.wait(60) == 0 and not server.ready_file.exists()


def test_a_tls_server_names_its_certificate(tmp_path):
    with Emulator("--tls", runtime=tmp_path) as server:
        facts = server.facts
        assert facts["messaging"].startswith("wss://") and facts["control"].startswith("https://")
        assert Path(facts["certificate"]).read_text().startswith("-----BEGIN CERTIFICATE-----")


def test_wait_says_what_it_waits_for(tmp_path):
    """Goal: exit 1 and the reason, in time; what cannot be asked is refused at once."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
    nobody = wait("--control", f"http://127.0.0.1:{port}", "--timeout", "0.2")
    assert nobody.returncode == 1 and "not ready after 0.2 s" in nobody.stderr, nobody.stderr
    missing = wait("--ready-file", str(tmp_path / "nothing"), "--timeout", "0.05")
    assert missing.returncode == 1 and "No such file" in missing.stderr, missing.stderr
    refused = wait("--control", "https://127.0.0.1:8081")
    assert refused.returncode == 2 and "--ready-file" in refused.stderr, refused.stderr
    with Emulator() as server:
        answered = wait("--control", server.facts["control"], "--timeout", "60")
        assert (answered.returncode, answered.stdout) == (0, "ready\n")


def test_seeded_ids_repeat():
    """Goal: the same calls get the same ids of rooms and messages after each start, others with another seed; tokens
    stay hard to guess."""

    def ids(seed: str) -> tuple[list[str], str]:
        with Emulator("--seed", seed) as server:
            made = [server.api.create_room(name=f"r{number}")["arn"] for number in range(3)]
            made.append(server.api.send_event(roomIdentifier=made[0], eventName="e")["id"])
            return made, server.token(made[0])

    (first, token), (second, other), (third, _) = ids("7"), ids("7"), ids("8")
    assert first == second and not set(first) & set(third)
    assert token != other


def test_other_machines_only_by_a_flag_that_names_the_risk(tmp_path):
    """Goal: `dev`, whose key is public, listens beyond loopback by that flag alone; clients on this machine are told
    an address that they reach."""
    command = [str(BINARY), "dev", "--messaging-listen", "0.0.0.0:0", "--data-dir", str(tmp_path / "d")]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 2 and "--allow-remote-with-public-key" in refused.stderr, refused.stderr
    with Emulator("--allow-remote-with-public-key", runtime=tmp_path) as server:
        assert server.facts["control"].startswith("http://127.0.0.1:")
        ready = None
        # The file that says ready is there before the line.
        while ready is None:
            started = [json.loads(line) for line in server.log().splitlines() if line.startswith("{") and line.endswith("}")]
            ready = next((line for line in started if line["message"] == "ready"), None)
            time.sleep(0.01)
        assert ready["messaging"].startswith("0.0.0.0:") and ready["control"].startswith("0.0.0.0:")


def test_what_only_the_start_needed_is_given_back():
    """Goal: a server that has nothing to do is smaller than its start made it, and works on. Method: pages of files in memory,
    of which the program's own are most; they must fall by a third, while nobody calls."""
    with Emulator() as server:
        status = Path(f"/proc/{server.process.pid}/status")
        resident = lambda kind: int(re.search(rf"^{kind}:\s+(\d+) kB$", status.read_text(), re.M).group(1))
        peak, deadline = resident("RssFile"), time.monotonic() + 60
        while (now := resident("RssFile")) > peak * 2 / 3:
            peak = max(peak, now)
            assert time.monotonic() < deadline, f"{now} of {peak} KiB are in memory"
            time.sleep(0.02)
        assert resident("VmRSS") < resident("VmHWM")
        assert server.api.get_room(identifier=server.lobby)["name"] == "lobby"
