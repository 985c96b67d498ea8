"""`POST /emulator/clock` and `POST /emulator/reset`: expiries without waiting, a fresh server without a start."""

from __future__ import annotations

import concurrent.futures
import json
import time
import urllib.request

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from emulator import Emulator
from uproar import Server


@pytest.fixture
def server():
    with Emulator("--shards", "2") as server:
        yield server


def frames(viewer) -> list[dict]:
    """What a viewer still hears, to its end."""
    heard = []
    with pytest.raises(ConnectionClosed):
        while True:
            heard.append(json.loads(viewer.recv(60)))
    return heard


def refused(server, token: str) -> int:
    with pytest.raises(InvalidStatus) as refusal:
        server.viewer(token)
    return refusal.value.response.status_code


def test_a_session_ends_without_waiting(server):
    """Goal: an hour passes in no time: a session of a minute ends as ever, one of three hours goes on and hears what is
    said, though nobody was heard for an hour; the API takes calls that are signed by the real clock."""
    long = server.viewer(server.token(sessionDurationInMinutes=180))
    with server.viewer(server.token(sessionDurationInMinutes=1)) as short:
        begun = time.monotonic()
        told = server.advance(3600)
        assert time.monotonic() - begun < 30
        assert told["ahead_seconds"] == 3600
        last = frames(short)[-1]
        assert (last["Type"], last["ErrorCode"]) == ("ERROR", 401)
        assert short.close_code == 1000
    made = server.api.send_event(roomIdentifier=server.lobby, eventName="news")
    with long:
        heard = json.loads(long.recv(60))
        assert (heard["EventName"], heard["Id"]) == ("news", made["id"])
    created = server.api.create_room()["createTime"]
    assert 3500 < created.timestamp() - time.time() < 3700


def test_a_token_expires_without_waiting(server):
    """Goal: a token is refused once the time in which it may be used is over, and is good until then."""
    early, late = server.token(user="a"), server.token(user="b")
    server.advance(30)
    server.viewer(early).close()
    server.advance(24 * 3600)
    assert refused(server, late) in (401, 403)
    server.viewer(server.token()).close()


def test_a_reset_brings_the_start_back(server):
    """Goal: rooms, settings, viewers, tokens and the clock are as at the start; a server that is reset is as good as a new
    one. Method: everything is changed first."""
    api, lobby = server.api, server.lobby
    viewer, unused = server.viewer(server.token()), server.token(user="unused")
    for number in range(30):
        room = api.create_room(name=f"r{number}")["arn"]
    elsewhere = server.viewer(server.token(room))
    api.update_room(identifier=lobby, name="renamed", maximumMessageLength=10)
    api.tag_resource(resourceArn=lobby, tags={"a": "b"})
    logging = api.create_logging_configuration(destinationConfiguration={"s3": {"bucketName": "bucket"}})
    api.update_room(identifier=room, loggingConfigurationIdentifiers=[logging["arn"]])
    server.advance(500)
    begun = time.monotonic()
    assert server.reset() == {"rooms": {"lobby": lobby}}
    print(f"reset of 31 rooms: {(time.monotonic() - begun) * 1e3:.1f} ms")
    assert [room["arn"] for room in api.list_rooms()["rooms"]] == [lobby]
    fresh = api.get_room(identifier=lobby)
    assert (fresh["name"], fresh["maximumMessageLength"], fresh["tags"]) == ("lobby", 500, {})
    assert api.list_logging_configurations()["loggingConfigurations"] == []
    for gone in (viewer, elsewhere):
        assert frames(gone) == [] and gone.close_code == 1000
    assert refused(server, unused) in (401, 403)
    assert abs(fresh["createTime"].timestamp() - time.time()) < 60
    with server.viewer(server.token()) as anew:
        api.send_event(roomIdentifier=lobby, eventName="e")
        assert json.loads(anew.recv(60))["EventName"] == "e"


def test_a_reset_makes_what_was_deleted_and_ids_repeat():
    """Goal: a ready room that a test has deleted is there again, and with --seed the next ids are the first ones."""
    with Emulator("--seed", "3", "--room", "hall=hall00000000") as server:

        def ids() -> list[str]:
            made = [server.api.create_room()["arn"] for _ in range(2)]
            return [*made, server.api.send_event(roomIdentifier=made[0], eventName="e")["id"]]

        first = ids()
        server.api.delete_room(identifier=server.facts["rooms"]["hall"])
        server.api.delete_room(identifier=server.lobby)
        assert server.reset()["rooms"] == server.facts["rooms"]
        assert server.api.get_room(identifier=server.facts["rooms"]["hall"])["name"] == "hall"
        assert ids() == first


def test_a_reset_refills_budgets():
    """Goal: a test of throttling leaves nothing for the next test."""
    with Emulator("--quotas", "aws") as server:

        def created() -> int:
            count = 0
            with pytest.raises(server.api.exceptions.ClientError, match="Throttling"):
                while True:
                    server.api.create_room()
                    count += 1
            return count

        assert created() >= 5
        server.reset()
        assert created() >= 5


def test_resets_clocks_and_calls_at_once_leave_a_server_that_works(server):
    """Goal: changes of the whole server wait for each other, and no call hangs. Method: all at once, some rounds."""
    def create(number: int) -> None:
        server.api.create_room(name=f"n{number}")

    _made_before = server.api
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        work = [pool.submit(server.reset) for _ in range(4)]
        work += [pool.submit(server.advance, 1) for _ in range(4)]
        work += [pool.submit(create, number) for number in range(20)]
        for done in concurrent.futures.as_completed(work, timeout=120):
            done.result()
    server.reset()
    assert [room["arn"] for room in server.api.list_rooms()["rooms"]] == [server.lobby]


STRANGERS = [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Host": "evil.example"},
    {"Host": "127.0.0.1.evil.example:8081"},
]


@pytest.mark.parametrize("headers", STRANGERS, ids=str)
@pytest.mark.parametrize(
    "method, path", [("POST", "/emulator/reset"), ("POST", "/emulator/clock"), ("GET", "/emulator/clock")]
)
def test_a_page_in_a_browser_can_do_nothing(module_server, method, path, headers):
    """Goal: neither a page of another origin nor one that was loaded by a name of its own that points here."""
    server = module_server
    before = server.api.create_room()["arn"]
    names = {name.replace("-", "_"): value for name, value in headers.items()}
    status, answer = server.call(method, path, {"advance_seconds": 1}, **names)
    assert status == 403 and "message" in answer, answer
    assert before in [room["arn"] for room in server.api.list_rooms()["rooms"]]
    assert server.call("GET", "/emulator/clock")[1]["ahead_seconds"] == 0


def test_no_page_is_invited(module_server):
    """Goal: a preflight is refused, and no answer names origins that may read it."""
    url = f"{module_server.facts['control']}/emulator/clock"
    with urllib.request.urlopen(url, timeout=60) as answer:
        names = {name.lower() for name in answer.headers}
        assert not [name for name in names if name.startswith("access-control")]
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    asked = {"Origin": "http://a.example", "Access-Control-Request-Method": "POST"}
    status, _ = module_server.call("OPTIONS", "/emulator/reset", **asked)
    assert status == 403


@pytest.fixture(scope="module")
def module_server():
    with Emulator() as server:
        yield server


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b"{", b'{"advance_seconds": -1}', b'{"advance_seconds": 1e300}', b'{"advance_seconds": "1"}']
    + [b'{"advance_seconds": 1, "more": 2}', b'{"advance_seconds": 400000000}', b"\xff" * 1000, b"0" * 300_000],
    ids=lambda body: body[:24].decode(errors="replace"),
)
def test_wrong_bodies_change_nothing(module_server, body):
    url = f"{module_server.facts['control']}/emulator/clock"
    request = urllib.request.Request(url, data=body, method="POST")
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(request, timeout=60)
    assert refusal.value.code == 400 and json.loads(refusal.value.read())["message"]
    assert module_server.call("GET", "/emulator/clock")[1]["ahead_seconds"] == 0


def test_wrong_methods_and_paths(module_server):
    for method, path, status in [
        ("GET", "/emulator/reset", 405),
        ("DELETE", "/emulator/clock", 405),
        ("GET", "/emulator", 404),
        ("POST", "/emulator/nothing", 404),
    ]:
        assert module_server.call(method, path)[0] == status, (method, path)


def test_serve_has_no_emulator(tmp_path):
    """Goal: production cannot be reset. Method: `serve` with a key in its file."""
    config = tmp_path / "uproar.toml"
    key = '[[keys]]\nid = "AKIDEXAMPLE000000000"\nsecret = "a-secret-of-this-test-alone"\n'
    config.write_text(f'[server]\ndata_dir = "{tmp_path / "data"}"\n{key}')
    server = Server(tmp_path / "data")
    at = server.command.index("dev")
    server.command[at] = "serve"
    server.command += ["--config", str(config)]
    with server:
        for method, path in [("POST", "/emulator/reset"), ("POST", "/emulator/clock"), ("GET", "/emulator/clock")]:
            request = urllib.request.Request(f"{server.control_url}{path}", data=b"{}", method=method)
            with pytest.raises(urllib.error.HTTPError) as refusal:
                urllib.request.urlopen(request, timeout=60)
            assert refusal.value.code in (403, 404)
            assert "emulator" not in refusal.value.read().decode()
