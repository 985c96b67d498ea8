"""Every key of the configuration at a reload: it changes behaviour, or it refuses the whole file by name."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import time
import tomllib


import pytest
from botocore.exceptions import ClientError

import test_room_memory as memory
from bad_sink import BadSink
from configured import KEY, Configured, toml
from ports import free_port
from rawws import Closed, Refused, WebSocket
from review_handler import FUNCTION, ReviewHandler
from test_access_keys import boto, create
from test_reload import certificate, presented
from uproar import BINARY

OTHER_KEY = ("AKIDCONFIGURED000002", "fedcba9876543210")

# Another value of each key that no running server takes over, and what the refusal says.
UPGRADE = "use `uproar upgrade`, which carries viewers over"
NEVER = "start another server"
NOT_LIVE = {
    "server.region": ("eu-central-1", NEVER),
    "server.account": ("000000000001", NEVER),
    "server.data_dir": ("/tmp/another", NEVER),
    "server.shards": (1, UPGRADE),
    "server.pin": (False, UPGRADE),
    "server.io": ("epoll", UPGRADE),
    "messaging.listen": ("127.0.0.1:1", UPGRADE),
    "control.listen": ("127.0.0.1:1", UPGRADE),
    "control.console": (False, UPGRADE),
    "logging.directory": ("/tmp/another", UPGRADE),
    "log.json": (False, UPGRADE),
    "extensions.enabled": (False, UPGRADE),
    "audit.enabled": (True, UPGRADE),
    "audit.mib": (65, UPGRADE),
    "tokens.uses": ("reconnect", UPGRADE),
    "tls.acme_domains": (["chat.example.org"], UPGRADE),
    "tls.acme_terms_agreed": (True, UPGRADE),
    "tls.acme_directory": ("https://127.0.0.1:1/dir", UPGRADE),
    "tls.acme_contact": (["mailto:ops@example.org"], UPGRADE),
    "tls.acme_challenge": ("http-01", UPGRADE),
    "tls.acme_http_listen": ("127.0.0.1:1", UPGRADE),
    "tls.acme_root": ("/tmp/root.pem", UPGRADE),
    "tls.acme_account_id": ("kid-1", UPGRADE),
    "tls.acme_account_secret": ("zWNDZM6eQGHWpSRTPal5eIUYFTu7EajV", UPGRADE),
    "cluster.name": ("main", NEVER),
    "cluster.node": ("chat-1", NEVER),
    "cluster.servers": (["nats://127.0.0.1:1"], UPGRADE),
    "cluster.credentials": ("/tmp/nats.nk", UPGRADE),
    "cluster.tls_ca": ("/tmp/ca.pem", UPGRADE),
    "cluster.tls_certificate": ("/tmp/node.pem", UPGRADE),
    "cluster.tls_key": ("/tmp/node-key.pem", UPGRADE),
    "cluster.secret_file": ("/tmp/cluster.key", UPGRADE),
    "cluster.replicas": (1, UPGRADE),
    "cluster.linger_ms": (20, UPGRADE),
    "cluster.isolated_cut_seconds": (60, UPGRADE),
}
# A file with a part of them only is refused before it is compared.
CLUSTER = {key: value for key, (value, _) in NOT_LIVE.items() if key.startswith("cluster.")}
ACME = {key: value for key, (value, _) in NOT_LIVE.items() if key.startswith("tls.acme_")}
# Live keys that a test of this file covers, by `covers`.
LIVE: set[str] = set()
# Live keys whose effect needs thousands of connections or days: unit tests have it (`set_limits`, `set_ceiling`,
# `goes_elsewhere` and others), and here it is seen that a reload takes them over.
SEEN_IN_UNIT_TESTS = {
    "messaging.address_handshakes_percent": 50,
    "control.address_connections_percent": 50,
    "control.metrics_rooms": 5,
    "delivery.pace_ceiling_ms": 10,
    "logging.spool_bytes": 33554432,
    "logging.spool_hours": 1,
}


def covers(*keys: str):
    LIVE.update(keys)
    return lambda test: test


@pytest.fixture(scope="module")
def server():
    with Configured({"server.pin": True}) as server:
        yield server


@pytest.fixture
def fresh():
    with Configured() as server:
        yield server


def changed(lines: list[dict]) -> dict[str, str]:
    """The changes that the log names, by key."""
    return {line["key"]: line["change"] for line in lines if line["message"] == "configuration changed"}


def throttled(call) -> bool:
    try:
        call()
    except ClientError as error:
        assert error.response["Error"]["Code"] == "ThrottlingException", error
        return True
    return False


def rejected(client) -> bool:
    try:
        client.list_rooms()
    except ClientError as error:
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 403, error
        return True
    return False


def room(server: Configured, **rest) -> str:
    return server.boto_cached.create_room(**rest)["arn"]


def join(server: Configured, arn: str, **rest) -> WebSocket:
    return WebSocket(server.messaging_port, server.token(arn), **rest)


def status(server: Configured, arn: str, **rest) -> int:
    """Of a handshake."""
    try:
        join(server, arn, **rest).close()
    except Refused as refused:
        return refused.response.status
    except Closed:
        return 0
    return 101


def said(viewer: WebSocket, count: int) -> int:
    """How many of so many messages at once are not over a rate."""
    for number in range(count):
        assert viewer.say(f"m{number}", f"r{number}")
    answers = [viewer.receive() for _ in range(count)]
    refused = [answer for answer in answers if answer["Type"] == "ERROR"]
    assert all(answer["ErrorCode"] == 429 for answer in refused), refused
    return count - len(refused)


def metric(server: Configured, name: str) -> float:
    lines = re.findall(rf"^uproar_{re.escape(name)} (\d+)", server.metrics(), re.M)
    return sum(map(float, lines))


def eventually(happened, seconds: float = 60):
    deadline = time.monotonic() + seconds
    while not (outcome := happened()):
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.02)
    return outcome


# -- the tables --


def test_every_key_is_decided():
    sample = subprocess.run([BINARY, "config", "sample"], capture_output=True, text=True, check=True).stdout
    lines = [re.sub(r"^# (?=[a-z0-9_]+ = )", "", line) for line in sample.splitlines()]
    sections = tomllib.loads("\n".join(lines))
    keys = {f"{name}.{key}" for name, section in sections.items() if name != "keys" for key in section}
    decided = LIVE | set(NOT_LIVE) | set(SEEN_IN_UNIT_TESTS)
    assert keys | {"keys"} == decided, "a test must show what a reload does with each key"
    assert len(decided) == len(LIVE) + len(NOT_LIVE) + len(SEEN_IN_UNIT_TESTS), "no key is in two tables"


@pytest.mark.parametrize("key", NOT_LIVE)
def test_a_key_that_is_not_live_refuses_the_whole_file_by_name(server, key):
    """Method: the file changes live keys beside it, whose effect must not come."""
    value, step = NOT_LIVE[key]
    arn = room(server)
    beside = {"quotas.operations": ["ListRooms=1"], "keys": [OTHER_KEY], "messaging.origins": ["https://a.example"]}
    with_it = next((whole for whole in (CLUSTER, ACME) if key in whole), {})
    result, lines = server.reload({key: value, **with_it, **beside})
    assert result == "error"
    (refusal,) = [line["error"] for line in lines if line["level"] == "ERROR"]
    assert key in refusal and step in refusal and "quotas.operations" not in refusal, refusal
    assert not changed(lines), lines
    for _ in range(20):
        assert arn in [found["arn"] for found in server.boto_cached.list_rooms()["rooms"]]
    assert status(server, arn, extra=(b"Origin: https://b.example",)) == 101


@pytest.mark.parametrize("key", SEEN_IN_UNIT_TESTS)
def test_a_key_without_an_effect_to_see_is_taken_over(server, key):
    result, lines = server.reload({key: SEEN_IN_UNIT_TESTS[key]})
    assert result == "ok" and changed(lines)[key].endswith(f"→ {SEEN_IN_UNIT_TESTS[key]}"), lines
    assert not changed(server.reload()[1])


# -- what is no change, and what is no file --


def test_an_unchanged_file_is_a_reload_without_changes(server):
    begun = int(time.time())
    result, lines = server.reload()
    assert result == "ok" and not changed(lines), lines
    assert metric(server, "config_last_reload_success_timestamp_seconds") >= begun


def test_a_value_that_a_flag_hides_is_no_change():
    settings = {"quotas.profile": "aws", "server.shards": 2}
    with Configured(settings, flags=("--quotas", "open", "--shards", "2")) as server:
        result, lines = server.reload({"quotas.profile": "open", "server.shards": 1})
        assert result == "ok" and not changed(lines), lines


@pytest.mark.parametrize(
    ("text", "blamed"),
    [
        ("[quotas\n", "expected"),
        ("[quotas]\nconnexions = 7\n", "did you mean quotas.connections?"),
        ("[log]\nfilter = \"==\"\n", "log.filter"),
        ("[tls]\ncertificate = \"/nowhere\"\nkey = \"/nowhere\"\n", "/nowhere"),
        ("[tls]\ncertificate = \"/nowhere\"\n", "tls.key"),
        (None, "No such file"),
    ],
)
def test_a_fault_refuses_the_whole_file(server, text, blamed):
    """Method: beside a live key whose effect must not come."""
    arn = room(server)
    if text is None:
        server.file.unlink()
    else:
        settings = {key: value for key, value in server.settings.items() if not text.startswith(f"[{key.split('.')[0]}")}
        settings["messaging.origins"] = ["https://a.example"]
        server.file.write_text(text + toml(settings))
    result, lines = server.hang_up()
    server.write(server.settings)
    assert result == "error"
    (refusal,) = [line["error"] for line in lines if line["level"] == "ERROR"]
    assert blamed in refusal, refusal
    assert status(server, arn, extra=(b"Origin: https://b.example",)) == 101


def test_a_pair_that_does_not_match_refuses_the_whole_file(fresh, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        certificate(tmp_path / name, name)
    tls = {"tls.certificate": str(tmp_path / "a/cert.pem"), "tls.key": str(tmp_path / "b/key.pem")}
    result, lines = fresh.reload({**tls, "tokens.life_minutes": 5})
    assert result == "error" and "not the key of the first certificate" in json.dumps(lines)
    assert status(fresh, room(fresh)) == 101


def test_a_file_that_is_being_written_is_read_when_it_is_whole(fresh):
    """Goal: half a file, which is a valid one, is not taken over. Method: SIGHUP while the file grows in steps."""
    whole = fresh.file.read_text()
    head, tail = whole.split("[quotas]")
    before = fresh.counts()
    with fresh.file.open("w") as file:
        file.write(head)
        file.flush()
        fresh.process.send_signal(signal.SIGHUP)
        for line in ("[quotas]" + tail).splitlines(keepends=True):
            file.write(line)
            file.flush()
            time.sleep(0.005)
    eventually(lambda: fresh.counts() != before)
    assert fresh.counts()["ok"] == before["ok"] + 1
    assert '"configuration changed"' not in fresh.log()


def test_a_pipe_is_refused(tmp_path):
    """Method: as a shell's `--config <(…)`; its second reading would be an empty file, all defaults."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    server = Configured()
    text = server.file.read_text()
    server.command[-1] = str(fifo)
    server.launch()
    fifo.write_text(text)
    server.await_ready()
    try:
        result, lines = server.hang_up()
        assert result == "error" and "no regular file" in json.dumps(lines)
    finally:
        assert server.stop() == 0


def test_a_link_that_points_elsewhere_is_read(tmp_path):
    """Method: as Kubernetes changes a mounted ConfigMap."""
    server = Configured()
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "uproar.toml").write_text(server.file.read_text())
    mounted = tmp_path / "uproar.toml"
    (tmp_path / "..data").symlink_to("old")
    mounted.symlink_to("..data/uproar.toml")
    server.command[-1] = str(mounted)
    with server:
        with (tmp_path / "new/uproar.toml").open("a") as file:
            file.write("[tokens]\nlife_minutes = 5\n")
        (tmp_path / "..tmp").symlink_to("new")
        (tmp_path / "..tmp").rename(tmp_path / "..data")
        assert changed(server.hang_up()[1]) == {"tokens.life_minutes": "60 → 5"}


def test_the_command_says_what_the_log_says(fresh):
    """Goal: exit 0 with each change, exit 2 with the refused key and the next step."""
    fresh.write({**fresh.settings, "quotas.connections": 7, "keys": [KEY, OTHER_KEY]})
    done = fresh.run("reload", "--data-dir", str(fresh.data_dir))
    lines = [f"keys: added {OTHER_KEY[0]}", "quotas.connections: 50000 → 7"]
    assert (done.returncode, done.stdout.splitlines()) == (0, lines), done
    fresh.write({**fresh.settings, "server.shards": 1})
    done = fresh.run("reload", "--data-dir", str(fresh.data_dir))
    assert done.returncode == 2 and "server.shards: 2 → 1" in done.stderr and UPGRADE in done.stderr, done


# -- control plane --


@covers("keys")
def test_access_keys(fresh):
    """Goal: added and removed ones count at once, a new secret too, and no secret is logged."""
    key_id, secret = OTHER_KEY
    other = fresh.boto(aws_access_key_id=key_id, aws_secret_access_key=secret)
    assert rejected(other) and not rejected(fresh.boto_cached)
    result, lines = fresh.reload({"keys": [KEY, OTHER_KEY]})
    assert (result, changed(lines)) == ("ok", {"keys": f"added {key_id}"})
    assert not rejected(other) and not rejected(fresh.boto_cached)
    result, lines = fresh.reload({"keys": [KEY, (key_id, "a new secret of it")]})
    assert (result, changed(lines)) == ("ok", {"keys": f"new secret of {key_id}"})
    assert rejected(other)
    assert fresh.reload({"keys": [(key_id, secret)]})[0] == "ok"
    assert not rejected(other) and rejected(fresh.boto_cached)
    assert secret not in fresh.log_path.read_text() and "a new secret" not in fresh.log_path.read_text()


def test_keys_of_the_file_and_of_the_data_directory(fresh):
    """Goal: the last key leaves the file only if the data directory has one; then that one serves."""
    assert fresh.reload({"keys": None})[0] == "error" and not rejected(fresh.boto_cached)
    stored = create(fresh, "--role", "admin")
    assert fresh.reload({"keys": None})[0] == "ok"
    assert rejected(fresh.boto_cached) and not rejected(boto(fresh, stored))


def test_a_secret_in_a_file_is_renewed_by_a_reload(fresh, tmp_path):
    """Goal: the new content counts, the old is refused; a file that others may read, or an empty one, changes nothing."""
    key_id, secret = OTHER_KEY
    path = tmp_path / "secret"
    path.touch(mode=0o600)
    path.write_text(secret + "\n")
    whole = fresh.file.read_text()
    fresh.file.write_text(f'{whole}[[keys]]\nid = "{key_id}"\nsecret_file = "{path}"\n')
    other = fresh.boto(aws_access_key_id=key_id, aws_secret_access_key=secret)
    result, lines = fresh.hang_up()
    assert (result, changed(lines)) == ("ok", {"keys": f"added {key_id}"}) and not rejected(other)
    for content, mode, blamed in (("a new secret of it", 0o644, "mode 0644"), ("", 0o600, "empty")):
        path.write_text(content)
        path.chmod(mode)
        result, lines = fresh.hang_up()
        assert result == "error" and blamed in json.dumps(lines) and not rejected(other)
    path.write_text("a new secret of it")
    result, lines = fresh.hang_up()
    assert (result, changed(lines)) == ("ok", {"keys": f"new secret of {key_id}"})
    assert rejected(other)
    assert not rejected(fresh.boto(aws_access_key_id=key_id, aws_secret_access_key="a new secret of it"))
    assert "a new secret" not in fresh.log_path.read_text() and secret not in fresh.log_path.read_text()


@covers("quotas.operations", "quotas.api_rates")
def test_rates_of_the_api(fresh):
    rooms = fresh.boto_cached
    calls = lambda count: [throttled(rooms.list_rooms) for _ in range(count)]
    assert not any(calls(30))
    result, lines = fresh.reload({"quotas.operations": ["ListRooms=1"]})
    assert (result, changed(lines)) == ("ok", {"quotas.operations": '[] → ["ListRooms=1"]'})
    assert any(calls(30))
    assert fresh.reload({"quotas.operations": ["ListRooms=0"], "quotas.api_rates": True})[0] == "ok"
    assert not any(calls(30))
    assert fresh.reload({"quotas.operations": None})[0] == "ok"
    assert any(calls(30))


@covers("tokens.life_minutes")
def test_life_of_tokens(fresh):
    arn = room(fresh)

    def life() -> float:
        answer = fresh.boto_cached.create_chat_token(roomIdentifier=arn, userId="u")
        return answer["tokenExpirationTime"].timestamp() - time.time()

    assert 3000 < life() <= 3601
    result, lines = fresh.reload({"tokens.life_minutes": 5})
    assert (result, changed(lines)) == ("ok", {"tokens.life_minutes": "60 → 5"})
    assert 200 < life() <= 301


@covers("history.bytes_per_second", "extensions.purge_event")
def test_what_a_room_remembers_and_how_it_is_taken_back(fresh):
    arn = memory.room(fresh, history="5")
    speaker = memory.join(fresh, arn, "alice")
    memory.say(speaker, "one")
    assert memory.greeting(memory.join(fresh, arn, "bob"))[0] == memory.told(1)
    result, lines = fresh.reload({"history.bytes_per_second": 0})
    assert (result, changed(lines)) == ("ok", {"history.bytes_per_second": "134217728 → 0"})
    viewer = memory.join(fresh, arn, "carol")
    assert memory.greeting(viewer)[0] == memory.told(0, complete=False)
    result, lines = fresh.reload({"extensions.purge_event": "app:GONE"})
    assert (result, changed(lines)) == ("ok", {"extensions.purge_event": '"app:DELETE_BY_USER" → "app:GONE"'})
    speaker.say("x", "p", Attributes={"uproar:do": "purge", "uproar:user": "alice"})
    viewer.receive_until(lambda frame: frame.get("EventName") == "app:GONE")


@covers("log.filter")
def test_the_filter_of_the_log(fresh):
    says = lambda: '"DEBUG"' in fresh.log_path.read_text()
    fresh.boto_cached.list_rooms()
    assert not says()
    result, lines = fresh.reload({"log.filter": "debug"})
    assert result == "ok" and changed(lines) == {"log.filter": '"info" → "debug"'}
    fresh.boto_cached.list_rooms()
    fresh.await_log('"DEBUG"')
    assert fresh.reload({"log.filter": "uproar=trace,=="})[0] == "error"


def call_from(server: Configured, preface: bytes, header: bytes) -> str:
    """The address that the log gives an API call which comes in this way; empty if it is refused."""
    start = server.log_path.stat().st_size
    with socket.create_connection(("127.0.0.1", server.control_port), timeout=60) as client:
        body = b"{}"
        head = b"POST /ListRooms HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n" + header + b"\r\n"
        client.sendall(preface + head + body)
        try:
            answer = client.recv(1000)
        except ConnectionResetError:
            answer = b""
    if b" 403 " not in answer.split(b"\r\n")[0]:
        return ""
    lines = server.await_log('"api"', start)
    return re.search(r'"ip": ?"([^"]+)"', lines)[1]


@covers("control.trusted_proxies", "control.forwarded_header")
def test_proxies_of_the_control_listener():
    preface, by_x, by_f = b"PROXY TCP4 203.0.113.9 127.0.0.1 1 2\r\n", b"X-Forwarded-For: 203.0.113.7\r\n", b"Forwarded: for=203.0.113.8\r\n"
    with Configured({"log.filter": "debug"}) as server:
        assert call_from(server, b"", by_x + by_f) == "127.0.0.1"
        assert call_from(server, preface, b"") == ""
        assert server.reload({"control.trusted_proxies": ["127.0.0.1"]})[0] == "ok"
        assert call_from(server, preface, b"") == "203.0.113.9"
        assert call_from(server, b"", by_x + by_f) == "203.0.113.7"
        assert server.reload({"control.forwarded_header": "forwarded"})[0] == "ok"
        assert call_from(server, b"", by_x + by_f) == "203.0.113.8"


# -- doors --


@covers("messaging.origins")
def test_origins(fresh):
    arn, foreign = room(fresh), (b"Origin: https://b.example",)
    assert status(fresh, arn, extra=foreign) == 101
    kept = join(fresh, arn, extra=foreign)
    result, lines = fresh.reload({"messaging.origins": ["https://a.example"]})
    assert (result, changed(lines)) == ("ok", {"messaging.origins": '[] → ["https://a.example"]'})
    assert status(fresh, arn, extra=foreign) == 403
    assert status(fresh, arn, extra=(b"Origin: https://a.example",)) == 101
    assert said(kept, 1) == 1


@covers("messaging.compression")
def test_compression(fresh):
    """Goal: it is for connections from now on; those that agreed to it before keep it, with everything they get."""
    arn, offer = room(fresh), (b"Sec-WebSocket-Extensions: permessage-deflate",)
    plain = join(fresh, arn, extra=offer)
    assert fresh.reload({"messaging.compression": True})[0] == "ok"
    squeezed = join(fresh, arn, extra=offer)
    assert (plain.deflate, squeezed.deflate) == (False, True)
    assert fresh.reload({"messaging.compression": False})[0] == "ok"
    late = join(fresh, arn, extra=offer)
    assert not late.deflate
    late.say("x" * 400, "r")
    assert {viewer.receive()["Content"] for viewer in (plain, squeezed, late)} == {"x" * 400}
    assert squeezed.inflated == 1


@covers("messaging.address_connections", "messaging.trusted_proxies", "messaging.forwarded_header")
def test_connections_of_an_address_and_who_names_it():
    with Configured({"server.shards": 1}) as server:
        arn = room(server)
        # It came before they were counted.
        uncounted = join(server, arn)
        assert server.reload({"messaging.address_connections": 1})[0] == "ok"
        kept = join(server, arn)
        assert status(server, arn) == 429
        preface = b"PROXY TCP4 203.0.113.9 127.0.0.1 1 2\r\n"
        assert status(server, arn, preface=preface) in (0, 400, 505)
        assert server.reload({"messaging.trusted_proxies": ["127.0.0.1"]})[0] == "ok"
        kept_too = join(server, arn, preface=preface)
        assert status(server, arn, preface=preface) == 429
        named = (b"Forwarded: for=203.0.113.7", b"X-Forwarded-For: 203.0.113.8")
        one = join(server, arn, extra=named)
        assert status(server, arn, extra=(b"X-Forwarded-For: 203.0.113.8",)) == 429
        assert server.reload({"messaging.forwarded_header": "forwarded"})[0] == "ok"
        other = join(server, arn, extra=named)
        assert status(server, arn, extra=(b"Forwarded: for=203.0.113.7",)) == 429
        assert server.reload({"messaging.address_connections": None})[0] == "ok"
        assert status(server, arn, extra=named) == 101
        for viewer in (uncounted, kept, kept_too, one, other):
            viewer.send_frame(9)
            assert viewer.receive_frame().opcode == 10


@covers("messaging.address_refusals")
def test_refusals_of_an_address():
    with Configured({"server.shards": 1}) as server:
        answered = lambda: [status_of_no_token(server) for _ in range(20)]
        assert set(answered()) == {401}
        assert server.reload({"messaging.address_refusals": 1})[0] == "ok"
        assert 0 in answered()


def status_of_no_token(server: Configured) -> int:
    try:
        WebSocket(server.messaging_port, "no-token").close()
    except Refused as refused:
        return refused.response.status
    except Closed:
        return 0
    return 101


@covers("tls.certificate", "tls.key", "tls.listeners", "tls.more_certificates")
def test_tls_is_turned_on_renamed_and_turned_off(fresh, tmp_path):
    """Goal: new connections follow; a viewer that is there stays, whatever its connection speaks."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        certificate(tmp_path / name, name)
    der = lambda name: ssl.PEM_cert_to_DER_cert((tmp_path / name / "cert.pem").read_text())
    files = lambda name: {f"tls.{key}": str(tmp_path / name / f"{file}.pem") for key, file in (("certificate", "cert"), ("key", "key"))}
    arn = room(fresh)
    viewer, tokens = join(fresh, arn), [fresh.token(arn) for _ in range(3)]
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    # Only the messaging listener, so that /metrics stays readable here.
    result, lines = fresh.reload({**files("a"), "tls.listeners": "messaging"})
    assert result == "ok" and set(changed(lines)) == {"tls.certificate", "tls.key", "tls.listeners"}
    assert presented(fresh.messaging_port) == der("a")
    secure = WebSocket(fresh.messaging_port, tokens.pop(), context=context)
    assert fresh.reload(files("b"))[0] == "ok"
    assert presented(fresh.messaging_port) == der("b")
    # The files of now are watched.
    certificate(tmp_path / "b", "renewed")
    eventually(lambda: presented(fresh.messaging_port) == der("b"))
    (tmp_path / "c").mkdir()
    certificate(tmp_path / "c", "c", "DNS:c.example")
    more = "=".join(files("c").values())
    assert fresh.reload({"tls.more_certificates": [more]})[0] == "ok"
    assert presented(fresh.messaging_port, "c.example") == der("c")
    assert presented(fresh.messaging_port) == der("b")
    gone = ("tls.certificate", "tls.key", "tls.listeners", "tls.more_certificates")
    assert fresh.reload(dict.fromkeys(gone))[0] == "ok"
    last = WebSocket(fresh.messaging_port, tokens.pop())
    last.say("to all", "r")
    assert [each.receive()["Content"] for each in (viewer, secure, last)] == ["to all"] * 3
    fresh.write({**fresh.settings, **files("a")})
    fresh.process.send_signal(signal.SIGHUP)

    def control_presents() -> bytes:
        try:
            return presented(fresh.control_port)
        except OSError:
            return b""

    assert eventually(control_presents) == der("a")


# -- rates and bounds of viewers --


@covers("quotas.connection_requests", "quotas.profile")
def test_requests_of_a_connection(fresh):
    """Goal: the rate changes for viewers that are there, and what they have used of it stays used."""
    viewer = join(fresh, room(fresh, maximumMessageRatePerSecond=100))
    assert said(viewer, 40) == 40
    assert fresh.reload({"quotas.connection_requests": 5})[0] == "ok"
    assert 5 <= said(viewer, 40) < 15
    for rate in (6, 5, 6):
        assert fresh.reload({"quotas.connection_requests": rate})[0] == "ok"
    # Refilled thrice it would be 15 more at once; in the meantime some come back.
    quick = time.monotonic()
    granted = said(viewer, 20)
    assert granted <= 6 + 6 * (time.monotonic() - quick + 0.1), granted
    result, lines = fresh.reload({"quotas.connection_requests": None, "quotas.profile": "aws"})
    assert result == "ok" and changed(lines)["quotas.connection_requests"] == "6 → 10"
    assert changed(lines)["quotas.profile"] == '"open" → "aws"' and changed(lines)["quotas.room_rates"] == "false → true"


@covers("quotas.room_rates")
def test_rates_of_rooms(fresh):
    viewer = join(fresh, room(fresh, maximumMessageRatePerSecond=1))
    assert said(viewer, 20) == 20
    assert fresh.reload({"quotas.room_rates": True})[0] == "ok"
    assert said(viewer, 20) < 20


@covers("quotas.account_sends", "quotas.account_moderations")
def test_rates_of_the_account(fresh):
    arn = room(fresh, maximumMessageRatePerSecond=100)
    viewer = join(fresh, arn)
    delete = lambda: fresh.boto_cached.delete_message(roomIdentifier=arn, id="x" * 12)
    assert said(viewer, 20) == 20 and not any(throttled(delete) for _ in range(10))
    while viewer.say("end", "end") and viewer.receive_until(lambda frame: frame["RequestId"] == "end"):
        break
    assert fresh.reload({"quotas.account_sends": 1, "quotas.account_moderations": 1})[0] == "ok"
    assert said(viewer, 20) < 20 and any(throttled(delete) for _ in range(10))


@covers("quotas.connections")
def test_number_of_connections(fresh):
    """Goal: fewer than there are: nobody is sent away, and nobody more admitted until some have gone."""
    arn = room(fresh)
    viewers = [join(fresh, arn) for _ in range(4)]
    assert fresh.reload({"quotas.connections": 2})[0] == "ok"
    assert status(fresh, arn) == 429
    viewers[0].say("all are here", "r")
    assert [viewer.receive()["Content"] for viewer in viewers] == ["all are here"] * 4
    for viewer in viewers[1:]:
        viewer.close()
    eventually(lambda: status(fresh, arn) == 101)
    assert fresh.reload({"quotas.connections": 50_000})[0] == "ok"
    assert status(fresh, arn) == 101


@covers("drain.notice_s", "drain.over_s")
def test_what_sigterm_does():
    """Goal: SIGTERM drains as the file says now. Method: without a notice and a pace the viewer would be cut at once."""
    with Configured() as server:
        viewer = join(server, room(server))
        result, lines = server.reload({"drain.notice_s": 600, "drain.over_s": 600})
        assert (result, changed(lines)) == ("ok", {"drain.notice_s": "0 → 600", "drain.over_s": "0 → 600"})
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: not server.ready())
        viewer.say("still here", "r")
        assert viewer.receive()["Content"] == "still here"
        # The second one ends it at once.
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(60)


# -- delivery --


def skipped(server: Configured) -> float:
    """How many frames a viewer does not get that reads nothing while 6 MB are said, which no kernel buffers, and then
    reads all."""
    arn = room(server)
    viewer, talker = join(server, arn), join(server, arn)
    viewer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    before = metric(server, 'messages_shed_total{policy="skip"}')
    for number in range(3_000):
        talker.say("\N{SPEECH BALLOON}" * 500, f"f{number}")
        if number % 4 == 3:
            talker.receive_until(lambda frame: frame["RequestId"] == f"f{number}")
    viewer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    while True:
        # What is said while it still reads old frames may be among the skipped ones.
        talker.say("end", "end")
        try:
            viewer.receive_until(lambda frame: frame["RequestId"] == "end", 3)
            break
        except TimeoutError:
            pass
    return metric(server, 'messages_shed_total{policy="skip"}') - before


WIDE = {"delivery.window_bytes": 1 << 30, "delivery.window_age_ms": 600_000}


@covers("delivery.window_bytes", "delivery.slow_client")
def test_slow_viewers():
    with Configured(WIDE) as server:
        assert skipped(server) == 0
        assert server.reload({"delivery.window_bytes": 20_480})[0] == "ok"
        assert skipped(server) > 0
        assert server.reload({"delivery.slow_client": "disconnect"})[0] == "ok"
        with pytest.raises(Closed):
            skipped(server)


@covers("delivery.window_age_ms")
def test_age_of_what_slow_viewers_get():
    with Configured(WIDE) as server:
        assert server.reload({"delivery.window_age_ms": 1})[0] == "ok"
        assert skipped(server) > 0


@covers("delivery.spread_members")
def test_rooms_are_spread(fresh):
    arn = room(fresh)
    on_shards = lambda: sorted(map(int, re.findall(r'^uproar_shard_connections\{shard="\d"\} (\d+)', fresh.metrics(), re.M)))
    viewers = [join(fresh, arn) for _ in range(4)]
    assert on_shards() == [0, 4]
    assert fresh.reload({"delivery.spread_members": 0})[0] == "ok"
    viewers += [join(fresh, arn) for _ in range(4)]
    assert on_shards() == [4, 4]


# -- review handlers --


@covers("review.functions", "review.omitted_attributes", "review.timeout_ms")
def test_review_handlers_by_url(fresh):
    """Goal: a pending message is decided by the handler it was given to, also if that one is taken out."""
    first, second = ReviewHandler(), ReviewHandler()
    try:
        mapped = lambda handler: {"review.functions": [f"{FUNCTION}f={handler.url}/?key=hidden"]}
        arn = room(fresh, messageReviewHandler={"uri": FUNCTION + "f", "fallbackResult": "DENY"})
        viewer = join(fresh, arn)

        def answer(text: str, attributes=None) -> dict:
            viewer.say(text, text, Attributes=attributes or {})
            return viewer.receive_until(lambda frame: frame["RequestId"] == text)[0]

        assert answer("nobody decides")["ErrorCode"] == 406
        result, lines = fresh.reload({**mapped(first), "review.timeout_ms": 10_000})
        assert result == "ok" and "hidden" not in json.dumps(lines) and first.url in json.dumps(lines)
        assert answer("m1")["Type"] == "MESSAGE" and len(first.asked) == 1
        assert answer("rewrite x", {"a": "b"})["Attributes"] == {"a": "b"}
        assert fresh.reload({"review.omitted_attributes": "drop", **mapped(second)})[0] == "ok"
        assert not answer("rewrite y", {"a": "b"}).get("Attributes") and len(second.asked) == 1
        viewer.say("hang on", "hang")
        second.wait_for(1, "hang on")
        assert fresh.reload({"review.functions": None, "review.timeout_ms": 300})[0] == "ok"
        viewer.say("after it", "after")
        second.released.set()
        frames = {frame["RequestId"]: frame["Type"] for frame in (viewer.receive(), viewer.receive())}
        assert frames == {"hang": "MESSAGE", "after": "ERROR"}
        # The shorter time.
        second.released.clear()
        assert fresh.reload(mapped(second))[0] == "ok"
        assert answer("hang for ever")["ErrorCode"] == 406
    finally:
        first.close()
        second.close()


@covers(
    "review.lambda_endpoint",
    "review.lambda_access_key_id",
    "review.lambda_secret_access_key",
    "review.lambda_session_token",
)
def test_review_handlers_by_lambda(fresh):
    handler = ReviewHandler()
    try:
        arn = room(fresh, messageReviewHandler={"uri": FUNCTION + "f", "fallbackResult": "DENY"})
        viewer = join(fresh, arn)

        def asked(text: str):
            viewer.say(text, text)
            frame, _ = viewer.receive_until(lambda frame: frame["RequestId"] == text)
            assert frame["Type"] == "MESSAGE", frame
            return handler.wait_for(1, text)[0]

        assert fresh.reload({"review.timeout_ms": 10_000, "review.lambda_endpoint": handler.url})[0] == "ok"
        assert "authorization" not in asked("unsigned").headers
        for secret, session in (("secret1", None), ("secret2", "session2"), ("secret2", "session3")):
            changes = {
                "review.lambda_access_key_id": "AKIDLAMBDA0000000000",
                "review.lambda_secret_access_key": secret,
                "review.lambda_session_token": session,
            }
            result, lines = fresh.reload(changes)
            assert result == "ok" and changed(lines), lines
            signed = asked(f"{secret} {session}")
            assert signed.headers["authorization"] == signed.expected_authorization("AKIDLAMBDA0000000000", secret)
            assert signed.headers.get("x-amz-security-token") == session
        assert "secret" not in fresh.log_path.read_text().replace("lambda_secret_access_key", "")
        assert "session3" not in fresh.log_path.read_text()
    finally:
        handler.close()


# -- chat logs --


KINDS = {
    "s3": {"s3": {"bucketName": "bucket"}},
    "cloudwatch": {"cloudWatchLogs": {"logGroupName": "group"}},
    "firehose": {"firehose": {"deliveryStreamName": "stream"}},
}


@covers("logging.stream_ms", "logging.object_seconds")
def test_when_chat_logs_are_delivered():
    """Goal: records that wait already are due by the new times. Method: an hour; then at once."""
    with Configured({"logging.stream_ms": 60_000, "logging.object_seconds": 3600}) as server:
        boto = server.boto_cached
        arns = {kind: boto.create_logging_configuration(destinationConfiguration=KINDS[kind])["arn"] for kind in KINDS}
        arn = room(server, loggingConfigurationIdentifiers=list(arns.values()))
        assert said(join(server, arn), 3) == 3
        files = lambda: [path for path in (server.data_dir / "chat-logs").rglob("*") if path.is_file()]
        assert not files()
        assert server.reload({"logging.stream_ms": 0})[0] == "ok"
        eventually(lambda: len(files()) == 2)
        assert server.reload({"logging.object_seconds": 1})[0] == "ok"
        eventually(lambda: len(files()) == 3)


@covers(
    "logging.s3_endpoint",
    "logging.cloudwatch_endpoint",
    "logging.firehose_endpoint",
    "logging.access_key_id",
    "logging.secret_access_key",
    "logging.session_token",
)
def test_where_chat_logs_are_delivered():
    """Goal: endpoints and credentials count for what waits already. Method: a place where nobody listens at first."""
    nowhere = "http://127.0.0.1:9"
    settings = {
        **{f"logging.{kind}_endpoint": nowhere for kind in KINDS},
        "logging.access_key_id": "AKIDNOBODY0000000000",
        "logging.secret_access_key": "secret-of-nobody",
        "logging.stream_ms": 0,
        "logging.object_seconds": 1,
    }
    sink = BadSink("good", bad=0)
    heads: list[dict] = []
    answer = sink.answer
    sink.answer = lambda operation, http, body: (
        heads.append({name.lower(): value for name, value in http.headers.items()}),
        answer(operation, http, body),
    )[1]
    try:
        with Configured(settings) as server:
            boto = server.boto_cached
            arns = [boto.create_logging_configuration(destinationConfiguration=KINDS[kind])["arn"] for kind in KINDS]
            viewer = join(server, room(server, loggingConfigurationIdentifiers=arns))
            assert said(viewer, 3) == 3
            time.sleep(2)
            for number, kind in enumerate(KINDS):
                change = {f"logging.{kind}_endpoint": sink.url}
                if number == 2:
                    change |= {"logging.access_key_id": "AKIDSOMEBODY00000000", "logging.session_token": "session7"}
                if number == 1:
                    change |= {"logging.secret_access_key": "secret-of-somebody"}
                done = sink.requests.total()
                result, lines = server.reload(change)
                assert result == "ok" and set(changed(lines)) == set(change), lines
                eventually(lambda: sink.requests.total() > done)
            assert all("AKIDSOMEBODY" in head["authorization"] for head in heads if "AKIDNOBODY" not in head["authorization"])
            assert heads[-1]["x-amz-security-token"] == "session7"
            assert {"PutObject", "PutLogEvents", "PutRecordBatch"} <= set(sink.requests)
            assert "secret-of" not in server.log_path.read_text() and "session7" not in server.log_path.read_text()
    finally:
        sink.stop()


# -- what a refusal advises --


@contextlib.contextmanager
def upgradable(settings: dict[str, object]):
    """A server whose process may be another one at the end."""
    server = Configured(settings).start()
    try:
        yield server
    finally:
        health = server.run("health", "--json", "--data-dir", str(server.data_dir))
        if health.returncode == 0:
            os.kill(json.loads(health.stdout)["pid"], signal.SIGTERM)
        eventually(lambda: server.run("health", "--data-dir", str(server.data_dir)).returncode != 0)
        server.stop()


# A server alone has no use for the keys of a cluster; test_cluster_upgrade.py has one of them. Those of ACME need an
# authority: test_acme.py.
@pytest.mark.parametrize(
    "key", [key for key, (_, step) in NOT_LIVE.items() if step == UPGRADE and key not in CLUSTER | ACME]
)
def test_an_upgrade_does_what_a_reload_refuses(key):
    """Goal: the next step is a true one: after `uproar upgrade` the value is taken over, the viewer is still there, and
    the new process reloads."""
    value = NOT_LIVE[key][0]
    if key.endswith(".listen"):
        value = f"127.0.0.1:{free_port()}"
    with upgradable({"server.pin": True}) as server:
        arn = room(server)
        viewer = join(server, arn)
        command = lambda name: server.run(name, "--data-dir", str(server.data_dir))
        server.write({**server.settings, key: value})
        assert command("reload").returncode == 2
        upgraded = command("upgrade")
        assert upgraded.returncode == 0, upgraded
        viewer.say("still here", "r")
        assert viewer.receive()["Content"] == "still here"
        server.write({**server.settings, key: value, "tokens.life_minutes": 7})
        done = command("reload")
        assert (done.returncode, done.stdout) == (0, "tokens.life_minutes: 60 → 7\n"), done


@pytest.mark.parametrize("key", [key for key, (_, step) in NOT_LIVE.items() if step == NEVER])
def test_an_upgrade_makes_no_other_server(key, tmp_path):
    """Goal: what tells which server this is stays, and the viewer with it."""
    value = str(tmp_path / "another") if key == "server.data_dir" else NOT_LIVE[key][0]
    with upgradable({}) as server:
        viewer = join(server, room(server))
        server.write({**server.settings, key: value})
        upgraded = server.run("upgrade", "--data-dir", str(server.data_dir))
        assert upgraded.returncode != 0, upgraded
        viewer.say("still here", "r")
        assert viewer.receive()["Content"] == "still here"
