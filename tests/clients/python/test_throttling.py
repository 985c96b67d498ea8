"""Quotas as rates: the managed service's figures by profile, single operations by configuration."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.config import Config

from test_access_keys import CALLS, outcome
from test_control_plane import code
from uproar import Server

AWS_RATES = {
    "CreateChatToken": 200,
    **dict.fromkeys(["SendEvent", "DeleteMessage", "DisconnectUser"], 100),
    **dict.fromkeys(["CreateRoom", "GetRoom", "UpdateRoom", "DeleteRoom", "ListRooms"], 5),
    **dict.fromkeys([name for name in CALLS if "LoggingConfiguration" in name], 3),
    **dict.fromkeys(["TagResource", "UntagResource", "ListTagsForResource"], 10),
}
# Botocore's name of the method for each operation, through `outcome`.
assert set(AWS_RATES) == set(CALLS)


@pytest.mark.parametrize("operation", sorted(AWS_RATES))
def test_each_operation_has_the_managed_services_rate(aws_server, operation):
    """Method: call until the first refusal; no more calls were answered than the rate and the time
    taken allow, and not fewer than a second's worth."""
    limit = AWS_RATES[operation]
    client = aws_server.boto()
    started, answered, refused = time.monotonic(), 0, False
    for _ in range(4 * limit + 40):
        refused = outcome(client, operation) == "ThrottlingException"
        if refused:
            break
        answered += 1
    elapsed = time.monotonic() - started
    assert answered <= limit + elapsed * limit + 1, f"{answered} calls in {elapsed:.2f} s"
    # A machine that just makes so many calls a second is never refused.
    assert answered >= limit or not refused


def test_the_exception_has_its_members(aws_server):
    client = aws_server.boto()
    ghost = CALLS["GetLoggingConfiguration"]["identifier"]
    for _ in range(50):
        try:
            client.get_logging_configuration(identifier=ghost)
        except client.exceptions.ResourceNotFoundException:
            continue
        except client.exceptions.ThrottlingException as error:
            assert code(error) == ("ThrottlingException", 429)
            assert error.response["limit"] == 3
            assert error.response["resourceType"] == "ROOM"
            assert error.response["resourceId"].isalnum()
            assert "3" in error.response["Error"]["Message"]
            return
    pytest.fail("50 calls in a row were answered")


def test_the_official_client_waits_and_tries_again(aws_server):
    """Goal: botocore takes our answer for what it is, and an application never sees it."""
    client = aws_server.boto(config=Config(retries={"mode": "standard", "total_max_attempts": 20}))
    # Eight at once: one after the other a slow machine would stay below the rate.
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.list_rooms(), range(24)))
    assert sum(answer["ResponseMetadata"]["RetryAttempts"] for answer in answers)


def test_single_operations_are_configured(tmp_path):
    config = tmp_path / "uproar.toml"
    config.write_text('[quotas]\noperations = ["GetRoom=2", "CreateChatToken=0"]\n')
    with Server(tmp_path / "data", quotas="aws", extra=("--config", str(config))) as server:
        client = server.boto()
        arn = client.list_rooms()["rooms"][0]["arn"]
        started, answered = time.monotonic(), 0
        for _ in range(200):
            try:
                client.get_room(identifier=arn)
            except client.exceptions.ThrottlingException as error:
                assert error.response["limit"] == 2
                break
            answered += 1
        else:
            pytest.fail("200 calls in a row were answered")
        assert 2 <= answered <= 3 + 2 * (time.monotonic() - started)
        for _ in range(450):
            client.create_chat_token(roomIdentifier=arn, userId="u")


def create(client, name: str) -> bool:
    try:
        client.create_room(name=name)
        return True
    except client.exceptions.ThrottlingException:
        return False


def test_what_was_throttled_did_nothing(aws_server):
    client = aws_server.boto()
    mark = f"throttled-{time.time_ns()}"
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(lambda _: create(client, mark), range(40)))
    made, refused = outcomes.count(True), outcomes.count(False)
    assert made and refused
    time.sleep(0.3)
    assert len(client.list_rooms(name=mark)["rooms"]) == made
