"""Logging configurations through boto3: life, union, use by rooms, constraints, pages."""

from __future__ import annotations

import datetime
import re
import time

import pytest
from botocore.config import Config

from raw_api import post
from test_control_plane import GHOST, code, refusal
from uproar import ACCOUNT, REGION, Server

ARN = re.compile(
    rf"arn:aws:ivschat:{REGION}:{ACCOUNT}:logging-configuration/[a-zA-Z0-9]{{12}}"
)
GHOST_LOGGING = GHOST.replace("room/", "logging-configuration/")
S3 = {"s3": {"bucketName": "my-bucket.1"}}


@pytest.fixture(scope="module")
def server():
    """Its own: the quota of ten configurations belongs to the account."""
    with Server() as server:
        yield server


@pytest.fixture(autouse=True)
def empty(server):
    yield
    boto = server.boto_cached
    for room in boto.list_rooms()["rooms"]:
        if room.get("loggingConfigurationIdentifiers"):
            boto.delete_room(identifier=room["arn"])
    for found in boto.list_logging_configurations()["loggingConfigurations"]:
        boto.delete_logging_configuration(identifier=found["arn"])


def make(boto, **rest) -> dict:
    return boto.create_logging_configuration(**{"destinationConfiguration": S3, **rest})


@pytest.mark.parametrize(
    "destination",
    [
        {"s3": {"bucketName": "abc"}},
        {"s3": {"bucketName": "a" * 63}},
        {"cloudWatchLogs": {"logGroupName": "/aws/chat_#1.x-Y"}},
        {"cloudWatchLogs": {"logGroupName": "g" * 512}},
        {"firehose": {"deliveryStreamName": "S_t.r-1"}},
        {"firehose": {"deliveryStreamName": "s" * 64}},
    ],
)
def test_a_configuration_is_active_and_returned_as_it_was_made(boto, destination):
    made = boto.create_logging_configuration(
        name="lc-1_A", destinationConfiguration=destination, tags={"a": "b"}
    )
    assert ARN.fullmatch(made["arn"]) and made["arn"].endswith(made["id"])
    assert made["state"] == "ACTIVE"
    assert made["destinationConfiguration"] == destination
    assert made["tags"] == {"a": "b"} and made["name"] == "lc-1_A"
    assert isinstance(made["createTime"], datetime.datetime)
    assert made["createTime"] <= made["updateTime"]
    found = boto.get_logging_configuration(identifier=made["arn"])
    for answer in (made, found):
        answer.pop("ResponseMetadata")
    assert found == made


def test_an_update_changes_what_it_names_and_keeps_the_rest(boto):
    made = make(boto, name="before", tags={"k": "v"})
    time.sleep(0.005)
    renamed = boto.update_logging_configuration(identifier=made["arn"], name="after")
    assert renamed["name"] == "after" and renamed["state"] == "ACTIVE"
    assert renamed["destinationConfiguration"] == S3 and renamed["tags"] == {"k": "v"}
    assert renamed["createTime"] == made["createTime"]
    assert renamed["updateTime"] > made["updateTime"]
    firehose = {"firehose": {"deliveryStreamName": "s"}}
    moved = boto.update_logging_configuration(
        identifier=made["arn"], destinationConfiguration=firehose
    )
    assert moved["destinationConfiguration"] == firehose and moved["name"] == "after"


def test_a_deleted_configuration_is_gone(boto):
    arn = make(boto)["arn"]
    answer = boto.delete_logging_configuration(identifier=arn)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    for call in (
        lambda: boto.get_logging_configuration(identifier=arn),
        lambda: boto.update_logging_configuration(identifier=arn, name="x"),
        lambda: boto.delete_logging_configuration(identifier=arn),
        lambda: boto.create_room(loggingConfigurationIdentifiers=[arn]),
        lambda: boto.list_tags_for_resource(resourceArn=arn),
    ):
        with pytest.raises(boto.exceptions.ResourceNotFoundException) as caught:
            call()
        assert caught.value.response["resourceId"] == arn.rsplit("/", 1)[1]
        assert caught.value.response["resourceType"] == "ROOM"


def test_a_configuration_in_use_is_not_deleted(boto):
    arn = make(boto)["arn"]
    room = boto.create_room(loggingConfigurationIdentifiers=[arn])["arn"]
    with pytest.raises(boto.exceptions.ConflictException) as caught:
        boto.delete_logging_configuration(identifier=arn)
    assert code(caught.value) == ("ConflictException", 409)
    assert caught.value.response["resourceId"] == arn.rsplit("/", 1)[1]
    assert caught.value.response["resourceType"] == "ROOM"
    assert boto.get_logging_configuration(identifier=arn)["state"] == "ACTIVE"
    boto.update_room(identifier=room, loggingConfigurationIdentifiers=[])
    boto.delete_logging_configuration(identifier=arn)


def test_rooms_name_up_to_three_that_exist(boto):
    arns = [make(boto)["arn"] for _ in range(3)]
    room = boto.create_room(loggingConfigurationIdentifiers=arns)
    assert room["loggingConfigurationIdentifiers"] == arns
    for missing in ([GHOST_LOGGING], [arns[0], GHOST_LOGGING]):
        for call in (
            lambda: boto.create_room(loggingConfigurationIdentifiers=missing),
            lambda: boto.update_room(
                identifier=room["arn"], loggingConfigurationIdentifiers=missing
            ),
        ):
            with pytest.raises(boto.exceptions.ResourceNotFoundException) as caught:
                call()
            assert caught.value.response["resourceId"] == "AAAAAAAAAAAA"
    assert boto.get_room(identifier=room["arn"])["loggingConfigurationIdentifiers"] == arns
    replaced = boto.update_room(
        identifier=room["arn"], loggingConfigurationIdentifiers=arns[2:]
    )
    assert replaced["loggingConfigurationIdentifiers"] == arns[2:]
    kept = boto.update_room(identifier=room["arn"], name="kept")
    assert kept["loggingConfigurationIdentifiers"] == arns[2:]
    listed = boto.list_rooms(loggingConfigurationIdentifier=arns[2])["rooms"]
    assert [found["arn"] for found in listed] == [room["arn"]]
    assert boto.list_rooms(loggingConfigurationIdentifier=arns[0])["rooms"] == []
    cleared = boto.update_room(identifier=room["arn"], loggingConfigurationIdentifiers=[])
    assert cleared["loggingConfigurationIdentifiers"] == []


def test_a_listing_pages_newest_update_first(boto):
    made = [make(boto, name=f"n{index}")["arn"] for index in range(5)]
    time.sleep(0.005)
    boto.update_logging_configuration(identifier=made[1], name="newest")
    seen, token = [], None
    for _ in range(5):
        page = boto.list_logging_configurations(
            maxResults=2, **({"nextToken": token} if token else {})
        )
        assert len(page["loggingConfigurations"]) <= 2
        seen += page["loggingConfigurations"]
        token = page.get("nextToken")
        if not token:
            break
    assert {found["arn"] for found in seen} == set(made) and len(seen) == 5
    assert seen[0]["arn"] == made[1]
    times = [found["updateTime"] for found in seen]
    assert times == sorted(times, reverse=True)
    assert all(found["state"] == "ACTIVE" and "tags" in found for found in seen)


def test_the_eleventh_configuration_is_beyond_the_quota(boto):
    for _ in range(10):
        make(boto)
    with pytest.raises(boto.exceptions.ServiceQuotaExceededException) as caught:
        make(boto)
    assert code(caught.value) == ("ServiceQuotaExceededException", 402)
    assert caught.value.response["limit"] == 10
    assert caught.value.response["resourceType"] == "ROOM"
    assert caught.value.response["resourceId"].isalnum()


INVALID = {
    "bucket of 64": {"destinationConfiguration": {"s3": {"bucketName": "b" * 64}}},
    "bucket in upper case": {"destinationConfiguration": {"s3": {"bucketName": "Bucket"}}},
    "log group of 513": {
        "destinationConfiguration": {"cloudWatchLogs": {"logGroupName": "g" * 513}}
    },
    "log group with a blank": {
        "destinationConfiguration": {"cloudWatchLogs": {"logGroupName": "a b"}}
    },
    "stream of 65": {
        "destinationConfiguration": {"firehose": {"deliveryStreamName": "s" * 65}}
    },
    "stream with a slash": {
        "destinationConfiguration": {"firehose": {"deliveryStreamName": "a/b"}}
    },
    "name of 129": {"name": "n" * 129},
    "name with a dot": {"name": "a.b"},
    "51 tags": {"tags": {f"k{index}": "v" for index in range(51)}},
}


@pytest.mark.parametrize("case", INVALID)
def test_a_value_outside_its_constraint_is_a_validation_exception(boto, case):
    with pytest.raises(boto.exceptions.ValidationException) as caught:
        make(boto, **INVALID[case])
    assert caught.value.response["reason"] == "FIELD_VALIDATION_FAILED"
    assert caught.value.response["fieldList"]
    arn = make(boto)["arn"]
    arguments = {key: value for key, value in INVALID[case].items() if key != "tags"}
    if arguments:
        assert code(
            refusal(boto.update_logging_configuration, identifier=arn, **arguments)
        ) == ("ValidationException", 400)


@pytest.mark.parametrize(
    "destination",
    [
        None,
        {},
        {"s3": None},
        {"s3": {}},
        {"s3": "bucket"},
        {"s3": {"bucketName": "abc"}, "firehose": {"deliveryStreamName": "s"}},
        {"kinesis": {"name": "x"}},
        "s3",
        [],
    ],
)
def test_a_destination_is_exactly_one_of_three(server, destination):
    """Method: raw calls, because botocore refuses most of these itself."""
    status, body = post(
        server, "CreateLoggingConfiguration", {"destinationConfiguration": destination}
    )
    assert (status, body["reason"]) == (400, "FIELD_VALIDATION_FAILED"), body
    assert all(f["name"].startswith("destinationConfiguration") for f in body["fieldList"])


def test_configurations_and_their_use_survive_a_kill(tmp_path):
    server = Server(tmp_path).start()
    boto = server.boto()
    used, spare, gone = (make(boto, name=name)["arn"] for name in ("used", "spare", "gone"))
    room = boto.create_room(loggingConfigurationIdentifiers=[used])["arn"]
    boto.delete_logging_configuration(identifier=gone)
    boto.update_logging_configuration(
        identifier=spare, destinationConfiguration={"firehose": {"deliveryStreamName": "f"}}
    )
    boto.tag_resource(resourceArn=spare, tags={"k": "v"})
    server.kill()
    with Server(tmp_path) as again:
        boto = again.boto(config=Config(retries={"total_max_attempts": 1}))
        found = boto.get_logging_configuration(identifier=spare)
        assert found["destinationConfiguration"] == {"firehose": {"deliveryStreamName": "f"}}
        assert found["tags"] == {"k": "v"}
        assert boto.get_room(identifier=room)["loggingConfigurationIdentifiers"] == [used]
        assert code(refusal(boto.delete_logging_configuration, identifier=used))[1] == 409
        assert code(refusal(boto.get_logging_configuration, identifier=gone))[1] == 404
