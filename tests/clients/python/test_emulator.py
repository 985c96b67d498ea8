"""A server per test: `uproar dev --free-ports --ready-file`, `uproar wait`, ready rooms, repeatable ids."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

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


def rooms(server: Emulator) -> dict[str, str]:
    """Ids by names."""
    return {room["arn"][-12:]: room["name"] for room in server.api.list_rooms(maxResults=50)["rooms"]}


def make(server: Emulator, *names: str) -> list[str]:
    return [server.api.create_room(name=name)["arn"] for name in names]


def said(viewer, *texts: str) -> list[str]:
    """The ids of messages that a viewer says."""
    ids = []
    for text in texts:
        viewer.send(json.dumps({"Action": "SEND_MESSAGE", "RequestId": text, "Content": text}))
        while (frame := json.loads(viewer.recv(60))).get("RequestId") != text:
            pass
        ids.append(frame["Id"])
    return ids


@pytest.mark.parametrize("kept", ["all", "no count of starts"])
def test_a_seeded_start_in_a_kept_data_directory_replaces_nothing(tmp_path, kept):
    """Goal: what is there stays as it is, whatever ids repeat. Method: rooms and a logging configuration, then a second start with
    the seed; in one case without the file that counts starts, so that the very same ids are drawn again."""
    flags = ("--seed", "7", "--data-dir", str(tmp_path / "d"))
    where = {"s3": {"bucketName": "bucket"}}
    with Emulator(*flags) as server:
        old = make(server, "old0", "old1")
        logging = server.api.create_logging_configuration(destinationConfiguration=where)["arn"]
        said_before = server.api.send_event(roomIdentifier=old[0], eventName="e")["id"]
    if kept != "all":
        (tmp_path / "d" / "seeded-starts").unlink()
    with Emulator(*flags) as server:
        new = make(server, "new0", "new1")
        new_logging = server.api.create_logging_configuration(destinationConfiguration=where)["arn"]
        assert sorted(rooms(server).values()) == ["lobby", "new0", "new1", "old0", "old1"]
        assert not set(new) & set(old) and new_logging != logging
        assert server.api.get_room(identifier=old[0])["name"] == "old0"
        said_after = server.api.send_event(roomIdentifier=old[0], eventName="e")["id"]
        assert (said_after != said_before) == (kept == "all")


def test_a_count_of_starts_that_is_no_number_is_named(tmp_path):
    (tmp_path / "seeded-starts").write_text("many")
    command = [str(BINARY), "dev", "--free-ports", "--seed", "7", "--data-dir", str(tmp_path)]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 1 and "seeded-starts" in refused.stderr and "remove it" in refused.stderr, refused.stderr


def test_seeded_ids_go_on_behind_an_upgrade():
    """Goal: a process that takes over repeats no id of a message or a room, since clients drop messages that they know; but the
    whole story repeats with the seed. Method: a viewer says something before and after the upgrade, twice."""
    adopt_orphans()

    def story() -> tuple[list[str], list[str]]:
        server = Emulator("--seed", "7")
        first = make(server, "a")
        with server.viewer(server.token(first[0])) as viewer:
            before = first + said(viewer, "1", "2", "3")
            command = [str(BINARY), "upgrade", "--data-dir", server.facts["data_dir"]]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, done.stderr + server.log()
            after = said(viewer, *(str(number) for number in range(4, 24)))
        after += make(server, *(f"b{number}" for number in range(8)))
        assert len(rooms(server)) == 10
        assert server.process.wait(60) == 0
        successor = Successor(json.loads(wait("--ready-file", str(server.ready_file)).stdout)["pid"])
        successor.send_signal(signal.SIGTERM)
        assert successor.wait(60) == 0
        return before, after

    before, after = story()
    assert len({*before, *after}) == len(before) + len(after)
    assert (before, after) == story()


@pytest.mark.parametrize("shards", ["1", "2"])
def test_a_reset_brings_the_first_seeded_ids_again(shards):
    """Goal: the same calls get the ids of a new server after every reset, also of rooms that tell of themselves."""

    def ids(server: Emulator) -> list[str]:
        room, told = (server.api.create_room(name=name, tags=tags)["arn"] for name, tags in [("x", {}), ("y", {"uproar:state": "on"})])
        with server.viewer(server.token(room)) as viewer, server.viewer(server.token(told)) as of_told:
            found = [room, told, *said(viewer, "1", "2"), *said(of_told, "3")]
        return [*found, *make(server, "z")]

    flags = ("--seed", "7", "--shards", shards, "--room", "hall=hall00000000")
    with Emulator(*flags) as server:
        first = ids(server)
        again = []
        for _ in range(3):
            server.reset()
            again.append(ids(server))
        assert again == [first] * 3
    with Emulator(*flags) as server:
        assert ids(server) == first


def test_rooms_that_share_a_name_or_an_id_are_refused():
    """Goal: exit 2 with both values, before anything starts."""
    for one, other in [("a=aaaaaaaaaaaa", "b=aaaaaaaaaaaa"), ("a=aaaaaaaaaaaa", "a=bbbbbbbbbbbb"), ("b=lobby0000000", "lobby=lobby0000000")]:
        command = [str(BINARY), "dev", "--free-ports", "--room", one, *([] if other.startswith("lobby") else ["--room", other])]
        refused = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert refused.returncode == 2, refused
        assert f"--room {one}" in refused.stderr and f"--room {other}" in refused.stderr, refused.stderr


def test_the_lobby_takes_the_id_that_it_is_given(tmp_path):
    """Goal: one lobby, the same in the ready file, the banner, on the demo page, in the API and after a reset."""
    flags = ("--room", "lobby=hall00000000", "--room", "stage=stage0000000")
    with Emulator(*flags, runtime=tmp_path) as server:
        ready = {"lobby": arn("hall00000000"), "stage": arn("stage0000000")}
        assert server.facts["rooms"] == ready
        while "Ctrl-C" not in server.log():
            time.sleep(0.01)
        assert re.search(r"Lobby +(\S+)", server.log())[1] == ready["lobby"]
        page = server.facts["messaging"].replace("ws", "http", 1)
        with urllib.request.urlopen(f"{page}/demo/token?user=u", timeout=60) as answer:
            assert json.load(answer)["room"] == ready["lobby"]
        by_id = {"hall00000000": "lobby", "stage0000000": "stage"}
        assert rooms(server) == by_id
        assert server.reset() == {"rooms": ready}
        assert rooms(server) == by_id


def test_two_servers_do_not_share_a_ready_file(tmp_path):
    """Goal: the second is refused with the first one's process, whose file stays; after its end, however that came, the file is free."""
    with Emulator(runtime=tmp_path) as server:
        command = [str(BINARY), "dev", "--free-ports", "--ready-file", str(server.ready_file)]
        refused = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert refused.returncode == 1 and str(server.process.pid) in refused.stderr, refused.stderr
        assert json.loads(server.ready_file.read_text()) == server.facts


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
    """Goal: a server that has nothing to do is smaller than its start made it, and works on. Method: the memory of the process,
    and the most that it ever was; a part must be given back while nobody calls."""
    with Emulator() as server:
        status = Path(f"/proc/{server.process.pid}/status")
        resident = lambda kind: int(re.search(rf"^{kind}:\s+(\d+) kB$", status.read_text(), re.M).group(1))
        deadline = time.monotonic() + 60
        while (now := resident("VmRSS")) > resident("VmHWM") * 0.85:
            assert time.monotonic() < deadline, f"{now} of {resident('VmHWM')} KiB are in memory"
            time.sleep(0.02)
        assert server.api.get_room(identifier=server.lobby)["name"] == "lobby"
