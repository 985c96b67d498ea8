"""What a newcomer gets wrong, and what is said: addresses, variables, files, ports; and which program it is."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import subprocess
import urllib.error
import urllib.request

import pytest

from test_certificates import Secure, configured, long_lived
from uproar import BINARY, REPOSITORY, Server


def uproar(*arguments, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BINARY), *map(str, arguments)],
        capture_output=True, text=True, timeout=60, env={**os.environ, **environment},
    )


@pytest.mark.parametrize("flag", ["--messaging-listen", "--control-listen"])
@pytest.mark.parametrize("given", ["9000", ":9000", "localhost:9000"])
def test_half_an_address_gets_an_example(flag, given):
    done = uproar("dev", flag, given, "--print-config")
    assert done.returncode == 2
    for words in [flag, f"'{given}'", "127.0.0.1:9000", "0.0.0.0:9000"]:
        assert words in done.stderr, done.stderr


def test_a_number_of_shards_is_a_whole_one():
    done = uproar("dev", "--shards", "many")
    assert done.returncode == 2 and "whole number" in done.stderr, done.stderr
    done = uproar("dev", "--print-config", UPROAR_SERVER__SHARDS="many")
    assert done.returncode == 2
    assert 'server.shards is "many"; it must be a whole number' in done.stderr
    assert "usize" not in done.stderr


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [("UPROAR_LOG", "debug", "did you mean UPROAR_LOG__FILTER"), ("UPROAR_FOO", "1", "UPROAR_FOO is not known")],
)
def test_an_unknown_variable_stops_the_start(name, value, words):
    done = uproar("dev", "--print-config", **{name: value})
    assert done.returncode == 2 and words in done.stderr, (done.returncode, done.stderr)


def test_variables_of_others_are_left_alone():
    """Those of these tests, and what Kubernetes sets in a namespace with services of our name."""
    others = {
        "UPROAR_BIN": "x", "UPROAR_SERVICE_HOST": "10.0.0.11", "UPROAR_SERVICE_PORT": "8080",
        "UPROAR_PORT": "tcp://10.0.0.11:8080", "UPROAR_PORT_8080_TCP_ADDR": "10.0.0.11",
        "UPROAR_CONTROL_SERVICE_PORT_HTTP": "8081",
    }
    done = uproar("dev", "--print-config", **others)
    assert done.returncode == 0, done.stderr


def test_a_variable_that_is_no_text_is_refused(tmp_path):
    environment = {**os.environb, b"UPROAR_SERVER__DATA_DIR": os.fsencode(tmp_path) + b"/\xff"}
    done = subprocess.run(
        [BINARY, "dev", "--print-config"], capture_output=True, text=True, timeout=60, env=environment
    )
    assert done.returncode == 2 and "server.data_dir is no UTF-8" in done.stderr, done.stderr


def test_what_is_no_copy_is_not_restored(tmp_path):
    for index, content in enumerate([b"[server]\n", b'{"rooms":[]}\n', b"\x7fELF\xff\xff\n", b"", b"x" * 100]):
        path = tmp_path / f"wrong-{index}"
        path.write_bytes(content)
        done = uproar("store", "restore", path, "--data-dir", tmp_path / "data")
        assert done.returncode == 1
        assert f"{path}, line 1: this is no copy of a database" in done.stderr, done.stderr
        assert "Nothing was restored" in done.stderr


def test_the_control_listener_lists_its_pages():
    with Server() as server:
        with urllib.request.urlopen(server.control_url, timeout=60) as answer:
            text = answer.read().decode()
        pages = re.findall(r"^(/\w+) ", text, re.M)
        assert pages == ["/livez", "/readyz", "/metrics", "/console"]
        for page in pages:
            with urllib.request.urlopen(f"{server.control_url}{page}", timeout=60) as answer:
                assert answer.status == 200
        request = urllib.request.Request(server.control_url, method="HEAD")
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert (answer.status, answer.read()) == (200, b"")


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    directory = tmp_path_factory.mktemp("secure")
    long_lived(directory)
    server = Secure(configured(directory)).start()
    yield server
    assert server.stop() == 0, server.log()


@pytest.mark.parametrize("listener", ["messaging_port", "control_port"])
def test_http_to_a_port_that_speaks_tls_is_told_so(secure, listener):
    port = getattr(secure, listener)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60)
    assert refused.value.code == 400
    assert "This port speaks TLS" in refused.value.read().decode()
    # Slowly, and with more behind it than is read.
    with socket.create_connection(("127.0.0.1", port), timeout=60) as stream:
        stream.sendall(b"P")
        received = stream.recv(12)
        assert received.startswith(b"HTTP/1.1 400")
        try:
            for _ in range(1_000):
                stream.sendall(b"x" * 65_536)
        except OSError:
            pass
        else:
            pytest.fail("everything was read")
    # Who speaks TLS is served, who speaks neither is not answered in HTTP.
    with socket.create_connection(("127.0.0.1", port), timeout=60) as stream:
        stream.sendall(b"\x00\x01\x02\x03 noise that is no record")
        assert not stream.recv(4096).startswith(b"HTTP")
    assert secure.ready()
    with socket.create_connection(("127.0.0.1", secure.messaging_port), timeout=60) as plain:
        with secure.context.wrap_socket(plain) as stream:
            stream.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert stream.recv(4096).startswith(b"HTTP/1.1 ")


def test_plain_http_is_counted_and_said(secure):
    figure = re.compile(r'^uproar_handshakes_rejected_total{reason="tls"} (\d+)$', re.M)
    before = int(figure.search(secure.metrics()).group(1))
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(f"http://127.0.0.1:{secure.messaging_port}/", timeout=60)
    assert int(figure.search(secure.metrics()).group(1)) == before + 1
    assert "This port speaks TLS" in secure.log()


def test_the_program_says_which_it_is():
    version = uproar("--version").stdout
    shown = re.fullmatch(
        r"uproar (\d+\.\d+\.\d+) \(commit (unknown|[0-9a-f]{12,}(?:-dirty)?)\), features ([a-z,-]+), (\S+-linux-\w+)\n",
        version,
    )
    assert shown, version
    assert uproar("version").stdout == version
    with Server() as server:
        lines = [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]
        (start,) = [line for line in lines if line["message"] == "starting"]
        assert (start["version"], start["commit"]) == shown.groups()[:2]
        assert start["pid"] == server.process.pid and start["shards"] == 2
        assert start["cores"] == len(os.sched_getaffinity(0))
        assert start["data_dir"] == str(server.data_dir)
        labels = f'version="{shown.group(1)}",commit="{shown.group(2)}"'
        (build,) = [line for line in server.metrics().splitlines() if line.startswith("uproar_build_info{")]
        assert build.startswith(f"uproar_build_info{{{labels}")
        assert f'features="{shown.group(3)}",target="{shown.group(4)}"' in build


def test_the_unit_does_not_restart_what_cannot_start():
    unit = (REPOSITORY / "deploy" / "uproar.service").read_text()
    assert "RestartPreventExitStatus=2" in unit.splitlines()
    # The exit code of a command before the main one is not looked at.
    assert "\nExecStartPre=" not in unit


ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files for others")


@ROOT
def test_what_root_does_leaves_the_directory_to_its_owner(tmp_path):
    """`sudo uproar …` without `-u`: afterwards the service's user must still be able to use every file."""
    owner, data_dir = 65534, tmp_path / "data"
    with Server(data_dir) as server:
        server.boto().create_room(name="kept")
    (data_dir / "lock").unlink()
    for path in [data_dir, *data_dir.rglob("*")]:
        os.chown(path, owner, owner)
    place = ("--data-dir", data_dir)
    copy = tmp_path / "copy"
    for command in [
        ("keys", "create", "--role", "admin"), ("keys", "list"), ("token", "rotate-key"),
        ("store", "backup", copy, "--with-keys"), ("store", "restore", copy, "--with-keys"),
    ]:
        done = uproar(*command, *place)
        assert done.returncode == 0, (command, done.stderr)
        for path in [data_dir, *data_dir.rglob("*")]:
            assert path.stat().st_uid == owner, (command, path.name)
    assert (data_dir / "lock").exists(), "restore holds it"


def test_commands_beside_the_server_say_which_directory_they_use(tmp_path):
    """Without --data-dir and --config it is that of `uproar dev`; one that is not there is refused by name."""
    away = {"XDG_RUNTIME_DIR": "", "TMPDIR": str(tmp_path)}
    for command in [
        ("keys", "list"), ("keys", "revoke", "AKUPAAAAAAAAAAAAAAAA"), ("token", "rotate-key"),
        ("store", "backup", tmp_path / "copy"),
    ]:
        done = uproar(*command, **away)
        named = f"{tmp_path}/uproar-dev-{os.getuid()}"
        assert done.returncode == 1 and f"for the server in {named}" in done.stderr, (command, done.stderr)
        assert f"{named}: there is no such data directory" in done.stderr
    # The configuration's is used, and nothing more is said.
    data_dir, config = tmp_path / "data", tmp_path / "uproar.toml"
    config.write_text(f'[server]\ndata_dir = "{data_dir}"\n')
    made = uproar("keys", "create", "--role", "admin", "--config", config)
    listed = uproar("keys", "list", "--config", config, **away)
    key = made.stdout.splitlines()[0].split("=")[1]
    assert (listed.returncode, listed.stderr) == (0, "") and key in listed.stdout


def test_a_copy_with_keys_brings_them_back(tmp_path):
    """Into an empty directory, whose server then takes the old key; the copies are nobody else's to read."""
    first, second, copy = tmp_path / "first", tmp_path / "second", tmp_path / "copy"
    with Server(first) as server:
        server.boto().create_room(name="kept")
        lines = uproar("keys", "create", "--role", "admin", "--data-dir", first).stdout.splitlines()
        done = uproar("store", "backup", copy, "--with-keys", "--data-dir", first)
        assert done.returncode == 0, done.stderr
    for name in ["copy.access-keys", "copy.master-key"]:
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    second.mkdir(0o700)
    done = uproar("store", "restore", copy, "--with-keys", "--data-dir", second)
    assert done.returncode == 0, done.stderr
    key, secret = (line.split("=", 1)[1] for line in lines)
    with Server(second) as server:
        client = server.boto(aws_access_key_id=key, aws_secret_access_key=secret)
        assert "kept" in [room.get("name") for room in client.list_rooms()["rooms"]]


def test_doctor_makes_the_directory_it_writes_to(tmp_path):
    target = tmp_path / "not" / "there"
    done = uproar("doctor", "--connections", "90000000", "--write", target)
    assert done.returncode == 1, done.stderr
    assert (target / "90-uproar.conf").exists()


def test_a_list_without_a_server_is_the_refusal_alone(tmp_path):
    done = uproar("room", "list", "--data-dir", tmp_path)
    assert done.returncode == 1 and done.stdout == "" and "no server serves" in done.stderr, done


def test_a_wrong_field_is_named_once(server, room):
    done = server.run("kick", room, "", "--data-dir", str(server.data_dir))
    assert done.returncode == 1 and done.stderr.count("userId") == 1, done.stderr
