"""Tags through boto3: the ARN is one escaped path segment, signed with its escapes escaped."""

from __future__ import annotations

import json

import pytest
from botocore.exceptions import ClientError

from raw_api import call
from test_control_plane import GHOST, code, refusal


@pytest.fixture(params=["room", "logging configuration"])
def resource(request, boto):
    """One of each kind."""
    if request.param == "room":
        yield boto.create_room(tags={"first": "1"})["arn"]
        return
    arn = boto.create_logging_configuration(
        destinationConfiguration={"s3": {"bucketName": "abc"}}, tags={"first": "1"}
    )["arn"]
    yield arn
    boto.delete_logging_configuration(identifier=arn)


def tags(boto, arn: str) -> dict[str, str]:
    return boto.list_tags_for_resource(resourceArn=arn)["tags"]


def test_tags_are_added_replaced_and_taken_away(boto, resource):
    assert tags(boto, resource) == {"first": "1"}
    answer = boto.tag_resource(resourceArn=resource, tags={"first": "2", "ü b": "", "c": "x"})
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert tags(boto, resource) == {"first": "2", "ü b": "", "c": "x"}
    answer = boto.untag_resource(resourceArn=resource, tagKeys=["ü b", "c", "never"])
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
    boto.untag_resource(resourceArn=resource, tagKeys=["c"])
    assert tags(boto, resource) == {"first": "2"}
    get = boto.get_room if ":room/" in resource else boto.get_logging_configuration
    assert get(identifier=resource)["tags"] == {"first": "2"}
    boto.untag_resource(resourceArn=resource, tagKeys=["first"])
    assert tags(boto, resource) == {}


@pytest.mark.parametrize("key", ["a b", "a+b", "a%2Fb", "a/b", "a=b&c", "ключ", "~-._", "*'()!"])
def test_a_key_with_any_character_is_found_again(boto, resource, key):
    """Goal: escapes in the query are read and signed as both SDKs write them."""
    boto.tag_resource(resourceArn=resource, tags={key: "v"})
    assert tags(boto, resource)[key] == "v"
    boto.untag_resource(resourceArn=resource, tagKeys=[key, "other"])
    assert key not in tags(boto, resource)


def test_fifty_tags_and_no_more(boto, resource):
    boto.untag_resource(resourceArn=resource, tagKeys=["first"])
    boto.tag_resource(resourceArn=resource, tags={f"k{index}": "v" for index in range(49)})
    boto.tag_resource(resourceArn=resource, tags={"k49": "v"})
    boto.tag_resource(resourceArn=resource, tags={"k49": "again"})
    error = refusal(boto.tag_resource, resourceArn=resource, tags={"k50": "v"})
    assert code(error) == ("ValidationException", 400)
    assert len(tags(boto, resource)) == 50
    boto.untag_resource(resourceArn=resource, tagKeys=[f"k{index}" for index in range(50)])
    assert tags(boto, resource) == {}


INVALID = {
    "51 tags": lambda boto, arn: boto.tag_resource(
        resourceArn=arn, tags={f"k{index}": "v" for index in range(51)}
    ),
    "tag key of 129": lambda boto, arn: boto.tag_resource(resourceArn=arn, tags={"k" * 129: "v"}),
    "tag value of 257": lambda boto, arn: boto.tag_resource(resourceArn=arn, tags={"k": "v" * 257}),
    "key of AWS": lambda boto, arn: boto.tag_resource(resourceArn=arn, tags={"k": "v", "aws:x": "v"}),
    "key of AWS in capitals": lambda boto, arn: boto.tag_resource(resourceArn=arn, tags={"AWS:": "v"}),
    "key of AWS on a new room": lambda boto, _: boto.create_room(tags={"aws:cloudformation:x": "v"}),
    "key of AWS to be taken away": lambda boto, arn: boto.untag_resource(
        resourceArn=arn, tagKeys=["aws:x"]
    ),
    "no keys": lambda boto, arn: boto.untag_resource(resourceArn=arn, tagKeys=[]),
    "51 keys": lambda boto, arn: boto.untag_resource(
        resourceArn=arn, tagKeys=[f"k{index}" for index in range(51)]
    ),
    "key of 129": lambda boto, arn: boto.untag_resource(resourceArn=arn, tagKeys=["k" * 129]),
    "no ARN": lambda boto, _: boto.list_tags_for_resource(resourceArn="TC6fLHr7ycLt"),
    "ARN of another service": lambda boto, arn: boto.list_tags_for_resource(
        resourceArn=arn.replace("ivschat", "ivs")
    ),
    "ARN of another kind": lambda boto, _: boto.list_tags_for_resource(
        resourceArn=GHOST.replace("room/", "stage/")
    ),
    "ARN of 129": lambda boto, _: boto.list_tags_for_resource(resourceArn=GHOST + "A" * 100),
}


@pytest.mark.parametrize("case", INVALID)
def test_a_value_outside_its_constraint_is_a_validation_exception(boto, resource, case):
    with pytest.raises(boto.exceptions.ValidationException) as caught:
        INVALID[case](boto, resource)
    assert caught.value.response["reason"] == "FIELD_VALIDATION_FAILED"
    assert tags(boto, resource) == {"first": "1"}


def test_a_resource_that_is_not_there_has_no_tags(boto):
    for ghost in (GHOST, GHOST.replace("room/", "logging-configuration/")):
        for call in (
            lambda: boto.list_tags_for_resource(resourceArn=ghost),
            lambda: boto.tag_resource(resourceArn=ghost, tags={"k": "v"}),
            lambda: boto.untag_resource(resourceArn=ghost, tagKeys=["k"]),
        ):
            with pytest.raises(boto.exceptions.ResourceNotFoundException) as caught:
                call()
            assert caught.value.response["resourceId"] == "AAAAAAAAAAAA"
            assert caught.value.response["resourceType"] == "ROOM"


def test_paths_with_and_without_escapes_name_the_same_resource(server, boto, room):
    boto.tag_resource(resourceArn=room, tags={"k": "v"})
    for spelling in (room, room.replace(":", "%3A").replace("/", "%2F"), room.replace(":", "%3a")):
        status, _, body = call(server, "GET", f"/tags/{spelling}", headers={})
        assert (status, json.loads(body)) == (200, {"tags": {"k": "v"}}), spelling


def test_other_methods_are_refused(server, room):
    for method in ("PUT", "PATCH", "HEAD"):
        status, headers, _ = call(server, method, f"/tags/{room}", headers={})
        assert status == 405, method
        assert headers["x-amzn-ErrorType"]
    with pytest.raises(ClientError):
        server.boto(aws_secret_access_key="wrong").list_tags_for_resource(resourceArn=room)
