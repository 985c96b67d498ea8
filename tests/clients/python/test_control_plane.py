"""The control plane through boto3: every chat operation, typed refusals, validation, signatures."""

from __future__ import annotations

import datetime
import json
import re
import threading
import time
import urllib.error
import urllib.request

import pytest
from botocore.exceptions import ClientError

from conftest import COUNTER
from rawws import Closed, Refused, WebSocket
from uproar import ACCESS_KEY, ACCOUNT, ALL_CAPABILITIES, REGION, SECRET_KEY

ID = re.compile(r"[a-zA-Z0-9]{12}")
ARN = re.compile(rf"arn:aws:ivschat:{REGION}:{ACCOUNT}:room/[a-zA-Z0-9]{{12}}")
GHOST = f"arn:aws:ivschat:{REGION}:{ACCOUNT}:room/AAAAAAAAAAAA"


def refusal(call, *arguments, **rest) -> ClientError:
    """The `ClientError` that `call` ends in."""
    with pytest.raises(ClientError) as caught:
        call(*arguments, **rest)
    return caught.value


def code(error: ClientError) -> tuple[str, int]:
    return error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]


# -- rooms --


def test_create_room_fills_in_the_defaults(boto):
    room = boto.create_room()
    assert ARN.fullmatch(room["arn"]) and room["arn"].endswith(room["id"])
    assert ID.fullmatch(room["id"])
    assert room["maximumMessageRatePerSecond"] == 10
    assert room["maximumMessageLength"] == 500
    assert isinstance(room["createTime"], datetime.datetime)
    assert room["createTime"] <= room["updateTime"]
    assert "messageReviewHandler" not in room or not room["messageReviewHandler"].get("uri")
    assert room.get("tags", {}) == {}


def test_create_room_returns_what_get_room_returns(boto):
    created = boto.create_room(
        name="all-fields_1",
        maximumMessageRatePerSecond=100,
        maximumMessageLength=1,
        tags={"team": "é", "empty": ""},
    )
    found = boto.get_room(identifier=created["arn"])
    for answer in (created, found):
        answer.pop("ResponseMetadata")
    assert found == created
    assert found["tags"] == {"team": "é", "empty": ""}
    assert found["name"] == "all-fields_1"


def test_update_room_changes_what_it_names_and_keeps_the_rest(boto):
    created = boto.create_room(name="before", maximumMessageLength=7, tags={"k": "v"})
    time.sleep(0.005)
    updated = boto.update_room(identifier=created["arn"], maximumMessageRatePerSecond=42)
    assert updated["name"] == "before"
    assert updated["maximumMessageLength"] == 7
    assert updated["maximumMessageRatePerSecond"] == 42
    assert updated["tags"] == {"k": "v"}
    assert updated["createTime"] == created["createTime"]
    assert updated["updateTime"] > created["updateTime"]
    assert boto.update_room(identifier=created["arn"], name="after")["name"] == "after"
    assert boto.get_room(identifier=created["arn"])["maximumMessageRatePerSecond"] == 42


def test_update_room_reaches_the_running_room(server, boto):
    arn = boto.create_room()["arn"]
    with WebSocket(server.messaging_port, server.token(arn)) as socket:
        boto.update_room(identifier=arn, maximumMessageLength=3)
        socket.say("four", "r1")
        assert socket.receive()["ErrorMessage"] == "Message exceeds maximum length"
        socket.say("two", "r2")
        assert socket.receive()["Content"] == "two"


def test_delete_room_forgets_it_and_disconnects_its_clients(server, boto):
    arn = boto.create_room()["arn"]
    spare = server.token(arn, "late")
    with WebSocket(server.messaging_port, server.token(arn)) as socket:
        answer = boto.delete_room(identifier=arn)
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
        assert socket.receive_close().code == 1000
    for call in (
        lambda: boto.get_room(identifier=arn),
        lambda: boto.delete_room(identifier=arn),
        lambda: boto.update_room(identifier=arn, name="x"),
        lambda: boto.create_chat_token(roomIdentifier=arn, userId="u"),
        lambda: boto.send_event(roomIdentifier=arn, eventName="e"),
    ):
        assert code(refusal(call)) == ("ResourceNotFoundException", 404)
    with pytest.raises(Refused) as refused:
        WebSocket(server.messaging_port, spare)
    assert refused.value.response.status == 404


def test_a_review_handler_is_shown_as_it_was_given(boto):
    """Goal: infrastructure tools find what they wrote, so that they plan no change for ever."""
    handler = {"uri": "", "fallbackResult": "DENY"}
    made = boto.create_room(messageReviewHandler=handler)
    assert made["messageReviewHandler"] == handler
    arn = made["arn"]

    def read():
        room = boto.get_room(identifier=arn)
        listed = [one for one in boto.list_rooms(messageReviewHandlerUri="", maxResults=50)["rooms"] if one["arn"] == arn]
        assert listed and listed[0].get("messageReviewHandler") == room.get("messageReviewHandler")
        return room["messageReviewHandler"]

    assert read() == handler
    for _ in range(3):
        assert boto.update_room(identifier=arn, messageReviewHandler=read())["messageReviewHandler"] == handler
    # What was remembered decides when a function is attached.
    uri = "arn:aws:lambda:us-west-2:123456789012:function:review"
    boto.update_room(identifier=arn, messageReviewHandler={"uri": uri})
    assert boto.get_room(identifier=arn)["messageReviewHandler"] == {"uri": uri, "fallbackResult": "DENY"}
    boto.update_room(identifier=arn, messageReviewHandler={"uri": ""})
    assert read() == handler
    assert "messageReviewHandler" not in boto.get_room(identifier=boto.create_room()["arn"])


def test_no_review_is_asked_for_while_the_uri_is_empty(server, boto):
    arn = boto.create_room(messageReviewHandler={"uri": "", "fallbackResult": "DENY"})["arn"]
    with WebSocket(server.messaging_port, server.token(arn)) as socket:
        socket.say("nobody reviews it", "r")
        assert socket.receive()["Content"] == "nobody reviews it"


def test_a_logging_configuration_is_attached_once(boto):
    made = boto.create_logging_configuration(destinationConfiguration={"s3": {"bucketName": "once"}})
    logging = made["arn"]
    room = boto.create_room(loggingConfigurationIdentifiers=[logging, logging])
    assert room["loggingConfigurationIdentifiers"] == [logging]
    boto.update_room(identifier=room["arn"], loggingConfigurationIdentifiers=[logging] * 3)
    assert boto.get_room(identifier=room["arn"])["loggingConfigurationIdentifiers"] == [logging]


def test_list_rooms_pages_through_every_room_newest_update_first(boto):
    mark = f"list-{time.time_ns()}"
    made = [boto.create_room(name=mark)["arn"] for _ in range(7)]
    boto.update_room(identifier=made[2], maximumMessageLength=9)
    seen, token, pages = [], None, 0
    while True:
        page = boto.list_rooms(name=mark, maxResults=3, **({"nextToken": token} if token else {}))
        assert len(page["rooms"]) <= 3
        for room in page["rooms"]:
            assert room["name"] == mark
            assert "maximumMessageLength" not in room and "maximumMessageRatePerSecond" not in room
            seen.append(room)
        pages += 1
        token = page.get("nextToken")
        if not token:
            break
        assert len(token) <= 1024 and pages < 10
    assert {room["arn"] for room in seen} == set(made) and len(seen) == 7
    assert seen[0]["arn"] == made[2]
    times = [room["updateTime"] for room in seen]
    assert times == sorted(times, reverse=True)


def test_list_rooms_filters_by_exact_name(boto):
    mark = f"exact-{time.time_ns()}"
    boto.create_room(name=mark)
    boto.create_room(name=mark + "x")
    assert len(boto.list_rooms(name=mark)["rooms"]) == 1
    assert boto.list_rooms(name=mark[:-1])["rooms"] == []


def test_list_rooms_without_a_size_returns_at_most_fifty(boto):
    mark = f"fifty-{time.time_ns()}"
    for _ in range(52):
        boto.create_room(name=mark)
    first = boto.list_rooms(name=mark)
    assert len(first["rooms"]) == 50
    assert len(boto.list_rooms(name=mark, nextToken=first["nextToken"])["rooms"]) == 2


def test_pages_are_followed_by_hand_because_boto3_has_no_paginator_here(boto):
    for operation in ("list_rooms", "list_logging_configurations"):
        assert not boto.can_paginate(operation)


def test_list_rooms_refuses_a_page_token_it_did_not_make(boto):
    error = refusal(boto.list_rooms, nextToken="garbage")
    assert code(error) == ("ValidationException", 400)


def test_dev_has_a_room_named_lobby(boto):
    assert [room["name"] for room in boto.list_rooms(name="lobby")["rooms"]] == ["lobby"]


# -- tokens --


def test_create_chat_token_times_follow_the_session_length(boto, room):
    before = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    answer = boto.create_chat_token(
        roomIdentifier=room, userId="u", sessionDurationInMinutes=180, capabilities=ALL_CAPABILITIES
    )
    session = (answer["sessionExpirationTime"] - before).total_seconds()
    life = (answer["tokenExpirationTime"] - before).total_seconds()
    assert 180 * 60 <= session <= 180 * 60 + 5
    assert 120 <= life <= 61 * 60
    default = boto.create_chat_token(roomIdentifier=room, userId="u")
    assert 3600 <= (default["sessionExpirationTime"] - before).total_seconds() <= 3610


def test_create_chat_token_is_a_legal_subprotocol_and_opaque(boto, room):
    tokens = [
        boto.create_chat_token(
            roomIdentifier=room, userId="needle-user", attributes={"needle": "needle-value"}
        )["token"]
        for _ in range(20)
    ]
    assert len(set(tokens)) == 20
    for token in tokens:
        assert re.fullmatch(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", token)
        assert "needle" not in token


def test_the_largest_legal_token_opens_a_session(server, boto, room):
    """Goal: 128 four-byte characters of user id and 1 KB of attributes still fit one header."""
    user = "\U0001f525" * 128
    attributes = {"k" * 24: "v" * 1000}
    token = boto.create_chat_token(
        roomIdentifier=room, userId=user, attributes=attributes, capabilities=ALL_CAPABILITIES
    )["token"]
    with WebSocket(server.messaging_port, token) as socket:
        socket.say("hi")
        assert socket.receive()["Sender"] == {"UserId": user, "Attributes": attributes}


# -- moderation and events --


def test_send_event_reaches_the_room_under_the_id_it_returned(server, boto, room):
    with WebSocket(server.messaging_port, server.token(room, capabilities=[])) as socket:
        sent = boto.send_event(roomIdentifier=room, eventName="app:X", attributes={"k": "v é"})
        frame = socket.receive()
    assert ID.fullmatch(sent["id"])
    assert frame["Id"] == sent["id"]
    assert list(frame) == ["Type", "Id", "RequestId", "EventName", "Attributes", "SendTime"]
    assert (frame["Type"], frame["EventName"], frame["RequestId"]) == ("EVENT", "app:X", "")
    assert frame["Attributes"] == {"k": "v é"}


def test_delete_message_announces_both_spellings_of_the_id(server, boto, room):
    with WebSocket(server.messaging_port, server.token(room)) as socket:
        socket.say("bad words")
        message = socket.receive()
        answer = boto.delete_message(roomIdentifier=room, id=message["Id"], reason="spam")
        event = socket.receive()
    assert event["Id"] == answer["id"]
    assert event["EventName"] == "aws:DELETE_MESSAGE"
    assert event["Attributes"] == {
        "MessageID": message["Id"],
        "MessageId": message["Id"],
        "Reason": "spam",
    }


def test_disconnect_user_announces_and_closes_every_connection_of_the_user(server, boto, room):
    port = server.messaging_port
    with (
        WebSocket(port, server.token(room, "target")) as first,
        WebSocket(port, server.token(room, "target")) as second,
        WebSocket(port, server.token(room, "other")) as other,
    ):
        answer = boto.disconnect_user(roomIdentifier=room, userId="target", reason="rude")
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
        for socket in (first, second, other):
            event = socket.receive()
            assert event["EventName"] == "aws:DISCONNECT_USER"
            assert event["Attributes"] == {"Reason": "rude", "UserId": "target"}
        for socket in (first, second):
            closed = socket.receive_close()
            assert (closed.code, closed.reason) == (1000, "rude")
        other.say("still here")
        assert other.receive()["Content"] == "still here"


def test_disconnect_user_cuts_a_long_reason_on_a_character(server, boto, room):
    """Goal: 256 characters of reason never make an illegal Close frame (RFC 6455 5.5: 125 bytes)."""
    with WebSocket(server.messaging_port, server.token(room, "target")) as socket:
        boto.disconnect_user(roomIdentifier=room, userId="target", reason="é" * 256)
        assert socket.receive()["Attributes"]["Reason"] == "é" * 256
        closed = socket.receive_close()
    assert closed.code == 1000
    assert closed.reason and set(closed.reason) == {"é"}


def test_disconnect_user_of_nobody_is_no_error(boto, room):
    answer = boto.disconnect_user(roomIdentifier=room, userId="nobody")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200


# -- refusals --


def test_refusals_are_the_exception_classes_of_the_service_model(boto, room):
    with pytest.raises(boto.exceptions.ResourceNotFoundException) as caught:
        boto.get_room(identifier=GHOST)
    assert caught.value.response["resourceType"] == "ROOM"
    assert caught.value.response["resourceId"] == "AAAAAAAAAAAA"
    assert caught.value.response["Error"]["Message"]
    with pytest.raises(boto.exceptions.ValidationException) as caught:
        boto.create_room(maximumMessageLength=501)
    assert caught.value.response["reason"] == "FIELD_VALIDATION_FAILED"
    assert [f["name"] for f in caught.value.response["fieldList"]] == ["maximumMessageLength"]
    assert caught.value.response["Error"]["Message"]


INVALID = {
    "rate above 100": ("create_room", {"maximumMessageRatePerSecond": 101}),
    "length above 500": ("create_room", {"maximumMessageLength": 501}),
    "room name of 129": ("create_room", {"name": "n" * 129}),
    "room name with a blank": ("create_room", {"name": "a b"}),
    "51 tags": ("create_room", {"tags": {f"k{i}": "v" for i in range(51)}}),
    "tag key of 129": ("create_room", {"tags": {"k" * 129: "v"}}),
    "tag value of 257": ("create_room", {"tags": {"k": "v" * 257}}),
    "fallback result unknown": ("create_room", {"messageReviewHandler": {"fallbackResult": "MAYBE"}}),
    "handler is no Lambda ARN": ("create_room", {"messageReviewHandler": {"uri": "http://x"}}),
    "4 logging configurations": (
        "create_room",
        {
            "loggingConfigurationIdentifiers": [
                f"arn:aws:ivschat:{REGION}:{ACCOUNT}:logging-configuration/AAAAAAAAAAA{i}"
                for i in range(4)
            ]
        },
    ),
    "bare room id": ("get_room", {"identifier": "AAAAAAAAAAAA"}),
    "room ARN of 129": ("get_room", {"identifier": GHOST + "A" * 100}),
    "page of 51": ("list_rooms", {"maxResults": 51}),
    "update rate above 100": ("update_room", {"identifier": ..., "maximumMessageRatePerSecond": 101}),
    "session of 181 minutes": (
        "create_chat_token",
        {"roomIdentifier": ..., "userId": "u", "sessionDurationInMinutes": 181},
    ),
    "user id of 129": ("create_chat_token", {"roomIdentifier": ..., "userId": "u" * 129}),
    "token attributes above 1 KB": (
        "create_chat_token",
        {"roomIdentifier": ..., "userId": "u", "attributes": {"k": "v" * 1024}},
    ),
    "unknown capability": (
        "create_chat_token",
        {"roomIdentifier": ..., "userId": "u", "capabilities": ["VIEW_MESSAGE"]},
    ),
    "event name of 101": ("send_event", {"roomIdentifier": ..., "eventName": "e" * 101}),
    "event attributes above 1 KB": (
        "send_event",
        {"roomIdentifier": ..., "eventName": "e", "attributes": {"k": "v" * 1024}},
    ),
    "message id of 13": ("delete_message", {"roomIdentifier": ..., "id": "A" * 13}),
    "message id with a dash": ("delete_message", {"roomIdentifier": ..., "id": "A" * 11 + "-"}),
    "delete reason of 257": (
        "delete_message",
        {"roomIdentifier": ..., "id": "A" * 12, "reason": "r" * 257},
    ),
    "disconnect user id of 129": ("disconnect_user", {"roomIdentifier": ..., "userId": "u" * 129}),
    "disconnect reason of 257": (
        "disconnect_user",
        {"roomIdentifier": ..., "userId": "u", "reason": "r" * 257},
    ),
}


@pytest.mark.parametrize("case", INVALID)
def test_a_value_above_its_maximum_is_a_validation_exception(boto, room, case):
    """boto3 checks minima only; maxima, patterns and enums are the server's."""
    operation, arguments = INVALID[case]
    filled = {key: room if value is ... else value for key, value in arguments.items()}
    error = refusal(getattr(boto, operation), **filled)
    assert code(error) == ("ValidationException", 400)


VALID = {
    "smallest room": ("create_room", {"maximumMessageRatePerSecond": 1, "maximumMessageLength": 1}),
    "room name of 128": ("create_room", {"name": "n" * 128}),
    "empty room name": ("create_room", {"name": ""}),
    "50 tags": ("create_room", {"tags": {f"k{i}": "v" for i in range(50)}}),
    "largest tag": ("create_room", {"tags": {"k" * 128: "v" * 256}}),
    "user id of 128": ("create_chat_token", {"roomIdentifier": ..., "userId": "é" * 128}),
    "attributes of 1 KB": (
        "create_chat_token",
        {"roomIdentifier": ..., "userId": "u", "attributes": {"k": "v" * 1023}},
    ),
    "shortest session": (
        "create_chat_token",
        {"roomIdentifier": ..., "userId": "u", "sessionDurationInMinutes": 1},
    ),
    "event name of 100": ("send_event", {"roomIdentifier": ..., "eventName": "é" * 100}),
    "event attributes of 1 KB": (
        "send_event",
        {"roomIdentifier": ..., "eventName": "e", "attributes": {"k": "v" * 1023}},
    ),
    "reason of 256": (
        "delete_message",
        {"roomIdentifier": ..., "id": "A" * 12, "reason": "é" * 256},
    ),
}


@pytest.mark.parametrize("case", VALID)
def test_a_value_at_its_maximum_is_accepted(boto, room, case):
    operation, arguments = VALID[case]
    filled = {key: room if value is ... else value for key, value in arguments.items()}
    assert getattr(boto, operation)(**filled)["ResponseMetadata"]["HTTPStatusCode"] == 200


# -- signatures --

WRONG_CREDENTIALS = {
    "wrong secret": (
        {"aws_secret_access_key": "not-the-secret"},
        {"InvalidSignatureException", "SignatureDoesNotMatch"},
    ),
    "unknown key": (
        {"aws_access_key_id": "AKIDUNKNOWN000000000"},
        {"UnrecognizedClientException", "InvalidClientTokenId"},
    ),
    "wrong region": (
        {"region_name": "eu-west-1"},
        {"InvalidSignatureException", "SignatureDoesNotMatch"},
    ),
}


@pytest.mark.parametrize("case", WRONG_CREDENTIALS)
def test_a_wrong_signature_is_refused_and_does_nothing(server, boto, case):
    overrides, names = WRONG_CREDENTIALS[case]
    mark = f"forged-{time.time_ns()}"
    name, status = code(refusal(server.boto(**overrides).create_room, name=mark))
    assert status == 403
    assert name in names
    assert boto.list_rooms(name=mark)["rooms"] == []


def test_an_unsigned_request_is_refused(server):
    request = urllib.request.Request(
        f"{server.control_url}/ListRooms",
        data=b"{}",
        headers={"Content-Type": "application/json"},
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=60)
    assert caught.value.code == 403
    assert caught.value.headers["x-amzn-ErrorType"] == "MissingAuthenticationTokenException"
    assert json.loads(caught.value.read())["message"]


def test_a_body_changed_after_signing_is_refused(server):
    """Method: let botocore sign one body, then send another."""
    client = server.boto()

    def swap(request, **_):
        request.data = request.body = b'{"name": "changed"}'
        del request.headers["Content-Length"]
        request.headers["Content-Length"] = str(len(request.body))

    client.meta.events.register("before-send.ivschat.CreateRoom", swap)
    name, status = code(refusal(client.create_room, name="signed"))
    assert status == 403 and name in {"InvalidSignatureException", "SignatureDoesNotMatch"}


def test_an_unknown_operation_is_a_typed_refusal(server):
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    request = AWSRequest("POST", f"{server.control_url}/LaunchRocket", data=b"{}")
    request.headers["Content-Type"] = "application/json"
    SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), "ivschat", REGION).add_auth(request)
    prepared = urllib.request.Request(request.url, data=b"{}", headers=dict(request.headers))
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(prepared, timeout=60)
    assert caught.value.code in (400, 403, 404)
    assert caught.value.headers["x-amzn-ErrorType"]


def test_a_foreign_account_looks_like_an_unknown_room(boto, room):
    foreign = room.replace(ACCOUNT, "999999999999")
    name, status = code(refusal(boto.get_room, identifier=foreign))
    assert (name, status) in {("ResourceNotFoundException", 404), ("AccessDeniedException", 403)}
    ghost = GHOST.replace(ACCOUNT, "999999999999")
    assert code(refusal(boto.get_room, identifier=ghost)) == (name, status)


def test_health_pages_answer_without_credentials(server):
    for page in ("readyz", "livez"):
        with urllib.request.urlopen(f"{server.control_url}/{page}", timeout=60) as answer:
            assert answer.status == 200, page


# -- races --


def test_many_callers_at_once_each_get_their_own_answer(server):
    mark = f"crowd-{next(COUNTER)}-{time.time_ns()}"
    made, failures = [], []

    def create(index: int) -> None:
        try:
            client = server.boto()
            for _ in range(5):
                made.append(client.create_room(name=mark, tags={"i": str(index)})["arn"])
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=create, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not failures and len(set(made)) == 40
    assert len(server.boto_cached.list_rooms(name=mark)["rooms"]) == 40


def test_no_connection_of_before_survives_a_disconnect_call(server, boto, room):
    """Method: join while the same user is disconnected; who was open before the call must close."""
    for _ in range(5):
        sockets = [
            WebSocket(server.messaging_port, server.token(room, "victim")) for _ in range(4)
        ]
        boto.disconnect_user(roomIdentifier=room, userId="victim")
        for socket in sockets:
            closed = socket.receive_close()
            assert isinstance(closed, Closed) and closed.code == 1000
            socket.close()
