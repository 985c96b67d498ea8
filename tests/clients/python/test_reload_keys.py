"""Every key of the configuration at a reload: it changes behaviour, or it refuses the whole file by name."""

from __future__ import annotations

import time

import pytest
from botocore.exceptions import ClientError

from configured import KEY, Configured
from rawws import WebSocket

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
    "messaging.listen": ("127.0.0.1:1", UPGRADE),
    "control.listen": ("127.0.0.1:1", UPGRADE),
    "logging.directory": ("/tmp/another", UPGRADE),
    "log.json": (False, UPGRADE),
}


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


@pytest.mark.parametrize("key", NOT_LIVE)
def test_a_key_that_is_not_live_refuses_the_whole_file_by_name(server, key):
    """Method: the file changes a live key beside it, whose effect must not come."""
    value, step = NOT_LIVE[key]
    room = server.boto_cached.create_room(name="kept")["arn"]
    result, lines = server.reload({key: value, "quotas.operations": ["ListRooms=1"], "keys": [OTHER_KEY]})
    assert result == "error"
    (refusal,) = [line["error"] for line in lines if line["level"] == "ERROR"]
    assert key in refusal and step in refusal and "quotas.operations" not in refusal, refusal
    assert not changed(lines), lines
    for _ in range(20):
        assert room in [found["arn"] for found in server.boto_cached.list_rooms()["rooms"]]
    WebSocket(server.messaging_port, server.token(room)).close()


def test_an_unchanged_file_is_a_reload_without_changes(server):
    result, lines = server.reload()
    assert result == "ok" and not changed(lines), lines


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


def test_rates_of_the_api_and_the_profile(fresh):
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


def test_life_of_tokens(fresh):
    room = fresh.boto_cached.create_room()["arn"]

    def life() -> float:
        answer = fresh.boto_cached.create_chat_token(roomIdentifier=room, userId="u")
        return answer["tokenExpirationTime"].timestamp() - time.time()

    assert 3000 < life() <= 3601
    result, lines = fresh.reload({"tokens.life_minutes": 5})
    assert (result, changed(lines)) == ("ok", {"tokens.life_minutes": "60 → 5"})
    assert 200 < life() <= 301


def test_the_filter_of_the_log(fresh):
    said = lambda: '"DEBUG"' in fresh.log_path.read_text()
    fresh.boto_cached.list_rooms()
    assert not said()
    result, lines = fresh.reload({"log.filter": "debug"})
    assert result == "ok" and changed(lines) == {"log.filter": '"info" → "debug"'}
    fresh.boto_cached.list_rooms()
    fresh.await_log('"DEBUG"')
    assert fresh.reload({"log.filter": "uproar=trace,=="})[0] == "error"
