"""The database: a full disk, callers who leave, copies and back."""

from __future__ import annotations

import json
import os
import resource
import socket
import struct
import threading
import time
import urllib.request

import pytest
from botocore.exceptions import ClientError

from raw_api import sign
from test_control_plane import code, refusal
from test_kill_cycles import every_room
from aws import eventually
from uproar import ACCESS_KEY, SECRET_KEY, Server

# SIGXFSZ would end the process; a full disk only fails the write, and so does this.
LIMITED = ("sh", "-c", 'trap "" XFSZ; exec "$0" "$@"')


def names(client) -> list[str]:
    return sorted(room.get("name", "") for room in every_room(client).values())


def metric(server, name: str) -> int:
    with urllib.request.urlopen(f"{server.control_url}/metrics", timeout=60) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith(f"{name} "):
                return int(line.split()[1])
    raise AssertionError(f"no metric {name}")


def test_a_full_disk_refuses_writes_and_recovers(tmp_path):
    """Method: cap the size of files (RLIMIT_FSIZE) at what the database has; lift it again."""
    with Server(tmp_path, wrapper=LIMITED) as server:
        client, pid = server.boto(), server.process.pid
        kept = [client.create_room(name=f"kept-{index}")["arn"] for index in range(3)]
        size = (tmp_path / "rooms.redb").stat().st_size
        log_size = server.log_path.stat().st_size
        # The log is a file as well, and must still take the line about it.
        cap = max(size, log_size + 65_536)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (cap, resource.RLIM_INFINITY))
        tags = {f"{index:0>128}": "v" * 256 for index in range(50)}
        refused, made = 0, []
        for index in range(2_000):
            try:
                made.append(client.create_room(name=f"full-{index}", tags=tags)["arn"])
            except ClientError as error:
                assert code(error) == ("InternalServerException", 500)
                refused += 1
                if refused == 20:
                    break
        assert refused == 20, f"{len(made)} rooms and no refusal: the cap did not bite"
        server.await_log("the disk refuses writes")
        assert metric(server, "uproar_store_refused_writes_total") == 20
        # Reading goes on.
        assert client.get_room(identifier=kept[0])["name"] == "kept-0"
        assert client.create_chat_token(roomIdentifier=kept[0], userId="u")["token"]
        before = names(client)
        assert sum(name.startswith("full-") for name in before) == len(made)
        error = refusal(client.tag_resource, resourceArn=kept[1], tags=tags)
        assert code(error) == ("InternalServerException", 500)
        assert client.list_tags_for_resource(resourceArn=kept[1])["tags"] == {}
        resource.prlimit(
            pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        )
        client.create_room(name="after")
        # Log lines are written behind the answer.
        eventually(server.log, lambda log: "the disk takes writes again" in log)
        after = names(client)
        assert after == sorted([*before, "after"])
    with Server(tmp_path) as again:
        assert names(again.boto()) == after


def test_callers_who_leave_do_not_part_memory_from_disk(tmp_path):
    """Method: send a whole request and reset the connection at once; what the server then shows is
    what it shows after a kill."""
    server = Server(tmp_path).start()
    client = server.boto()
    doomed = [client.create_room(name=f"doomed-{index}")["arn"] for index in range(30)]
    for index in range(60):
        if index % 2:
            path, body = "/DeleteRoom", {"identifier": doomed[index // 2]}
        else:
            path, body = "/CreateRoom", {"name": f"left-{index}"}
        raw = json.dumps(body).encode()
        headers = sign(server, "POST", path, raw, {"Content-Type": "application/json"})
        headers["Content-Length"] = str(len(raw))
        headers["Host"] = f"127.0.0.1:{server.control_port}"
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        with socket.create_connection(("127.0.0.1", server.control_port)) as caller:
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            caller.sendall(f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + raw)
            # From none at all to longer than the write takes.
            time.sleep(index % 6 * 0.0005)
    deadline = time.monotonic() + 10
    while True:
        # A write that a caller left behind is done with once the count rests.
        seen = metric(server, "uproar_store_writes_total")
        time.sleep(0.2)
        if metric(server, "uproar_store_writes_total") == seen or time.monotonic() > deadline:
            break
    shown = names(client)
    left = sum(name.startswith("left-") for name in shown)
    gone = 30 - sum(name.startswith("doomed-") for name in shown)
    assert left and gone, f"{left} made and {gone} deleted: no request was taken"
    server.kill()
    with Server(tmp_path) as again:
        assert names(again.boto()) == shown


def backup(server, target, *, data_dir=None):
    return server.run("store", "backup", str(target), "--data-dir", str(data_dir or server.data_dir))


def restore(server, source, data_dir):
    return server.run("store", "restore", str(source), "--data-dir", str(data_dir))


def test_a_copy_made_under_writes_is_one_state_and_comes_back(tmp_path):
    """Goal: the copy is what the server was after one of its writes, here one room after the other."""
    with Server(tmp_path / "live") as server:
        client = server.boto()
        logging = client.create_logging_configuration(
            destinationConfiguration={"s3": {"bucketName": "abc"}}, tags={"ü": "\n"}
        )["arn"]
        room = client.create_room(name="room-0", loggingConfigurationIdentifiers=[logging])["arn"]
        stop, count = threading.Event(), [1]

        def write() -> None:
            writer = server.boto()
            while not stop.is_set() and count[0] < 2_000:
                writer.create_room(name=f"room-{count[0]}")
                count[0] += 1

        thread = threading.Thread(target=write)
        thread.start()
        try:
            copies = []
            for index in range(5):
                reached, deadline = count[0] + 5, time.monotonic() + 20
                while count[0] < reached and time.monotonic() < deadline:
                    time.sleep(0.001)
                before = count[0]
                target = tmp_path / f"copy-{index}"
                done = backup(server, target)
                assert done.returncode == 0, done.stderr
                copies.append((before, count[0], target))
        finally:
            stop.set()
            thread.join(30)
        assert copies[-1][1] > copies[0][0], "nothing was written meanwhile"
        for _, _, target in copies:
            assert oct(target.stat().st_mode & 0o777) == "0o600"
        # A running server's database is not replaced under it.
        refused = restore(server, copies[0][2], server.data_dir)
        assert refused.returncode == 1 and "in use" in refused.stderr
        live = names(client)

    for before, after, target in copies:
        fresh = tmp_path / f"{target.name}-restored"
        fresh.mkdir()
        done = restore(server, target, fresh)
        assert done.returncode == 0, done.stderr
        with Server(fresh) as restored:
            boto = restored.boto()
            rooms = {name for name in names(boto) if name.startswith("room-")}
            # room-0 to room-(n-1), without a gap; one may be written while the count is not yet up.
            assert rooms == {f"room-{index}" for index in range(len(rooms))}
            assert before <= len(rooms) <= after + 1
            assert boto.get_room(identifier=room)["loggingConfigurationIdentifiers"] == [logging]
            assert boto.get_logging_configuration(identifier=logging)["tags"] == {"ü": "\n"}

    # In place of what is there, which is kept.
    done = restore(server, copies[0][2], tmp_path / "live")
    assert done.returncode == 0 and "rooms.redb.before-0" in done.stdout
    assert (tmp_path / "live" / "rooms.redb.before-0").exists()
    with Server(tmp_path / "live") as server:
        assert len(names(server.boto())) < len(live) or copies[0][1] == count[0]


def test_a_copy_of_a_killed_server_is_whole(tmp_path):
    server = Server(tmp_path / "live").start()
    server.boto().create_room(name="kept")
    server.kill()
    assert backup(server, tmp_path / "copy").returncode == 0
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    assert restore(server, tmp_path / "copy", fresh).returncode == 0
    with Server(fresh) as again:
        assert "kept" in names(again.boto())


def test_half_a_copy_is_refused_and_changes_nothing(tmp_path):
    with Server(tmp_path / "live") as server:
        server.boto().create_room(name="kept")
        assert backup(server, tmp_path / "copy").returncode == 0
    lines = (tmp_path / "copy").read_text().splitlines(keepends=True)
    assert len(lines) >= 4
    damaged = {
        "empty": "",
        "cut at a line": "".join(lines[:-1]),
        "cut within a line": "".join(lines)[:-5],
        "a record missing": "".join(lines[:1] + lines[2:]),
        "a record changed": "".join(lines).replace("kept", "lost"),
        "a record twice": "".join(lines[:2] + lines[1:]),
        "of a later version": "".join(lines).replace('"schema":2', '"schema":99'),
        "something else": "hello\n",
        "no text": b"\xff\xfe\n".decode("latin-1"),
    }
    for case, text in damaged.items():
        (tmp_path / "damaged").write_text(text, encoding="latin-1" if case == "no text" else "utf-8")
        done = restore(server, tmp_path / "damaged", tmp_path / "live")
        assert done.returncode == 1 and "damaged" in done.stderr, case
    with Server(tmp_path / "live") as again:
        assert "kept" in names(again.boto())
    assert not [path for path in os.listdir(tmp_path / "live") if "before" in path]


def test_a_copy_needs_a_place(tmp_path):
    with Server(tmp_path / "live") as server:
        done = backup(server, tmp_path / "missing" / "copy")
        assert done.returncode == 1 and "missing" in done.stderr
        done = backup(server, tmp_path / "copy", data_dir=tmp_path / "nowhere")
        assert done.returncode == 1 and "nowhere" in done.stderr
        assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("secret", [ACCESS_KEY, SECRET_KEY])
def test_a_copy_has_no_secrets(tmp_path, secret):
    with Server(tmp_path / "live") as server:
        assert backup(server, tmp_path / "copy").returncode == 0
    assert secret not in (tmp_path / "copy").read_text()
