"""What a client inside may send instead of a chat request: one ERROR with its `RequestId`, nothing for
the others."""

from __future__ import annotations

import json
import random

import pytest

from rawws import TEXT, Closed

OK = "delivered"


def request(**fields) -> str:
    return json.dumps({"Action": "SEND_MESSAGE", "RequestId": "R", "Content": "c", **fields})


# name: (text, legal error codes or OK, whether the RequestId "R" must come back)
REQUESTS: dict[str, tuple[str, set, bool]] = {
    "empty text": ("", {400}, False),
    "not JSON": ("hello", {400}, False),
    "array": ("[]", {400}, False),
    "string": ('"x"', {400}, False),
    "number": ("1", {400}, False),
    "null": ("null", {400}, False),
    "empty object": ("{}", {400}, False),
    "cut": (request()[:-1], {400}, True),
    "two documents": (request() + request(), {400}, True),
    "trailing comma": (request()[:-1] + ",}", {400}, True),
    "trailing text": (request() + "x", {400}, True),
    "byte order mark": ("\ufeff" + request(), {400, OK}, True),
    "comment": ("/**/" + request(), {400}, True),
    "single quotes": (request().replace('"', "'"), {400}, False),
    "NaN": ('{"Action":"SEND_MESSAGE","RequestId":"R","Content":NaN}', {400}, True),
    "1e400": ('{"Action":"SEND_MESSAGE","RequestId":"R","Content":"c","X":1e400}', {400, OK}, True),
    "number of 4,000 digits": (request()[:-1] + ',"X":' + "9" * 4000 + "}", {400, OK}, True),
    "raw control character": (request().replace('"c"', '"\x01"'), {400}, True),
    "raw newline in a string": (request().replace('"c"', '"a\nb"'), {400}, True),
    "bad escape": (request().replace('"c"', '"\\x41"'), {400}, True),
    "lone high surrogate": (request().replace('"c"', '"\\ud800"'), {400, OK}, True),
    "lone low surrogate": (request().replace('"c"', '"\\udc00"'), {400, OK}, True),
    "swapped surrogates": (request().replace('"c"', '"\\udd25\\ud83d"'), {400, OK}, True),
    "escaped NUL": (request().replace('"c"', '"\\u0000"'), {400, OK}, False),
    "depth 17": (request()[:-1] + ',"X":' + "[" * 17 + "]" * 17 + "}", {400, 413}, True),
    "depth 5,000": ("[" * 5000 + "]" * 5000, {400, 413}, False),
    "unclosed depth 10,000": ('{"a":' * 3000, {400, 413}, False),
    "depth in an ignored member": (
        request()[:-1] + ',"X":' + '{"a":' * 1000 + "1" + "}" * 1000 + "}",
        {400, 413},
        True,
    ),
    "stray quote before the id": ('{"Action:"SEND_MESSAGE","RequestId":"R"}', {400}, True),
    "bracket missing before the id": ('{"Attributes":{"a":"1","RequestId":"R"}', {400}, True),
    "65 members": (request(**{f"x{i}": 1 for i in range(65)}), {400, 413}, True),
    "duplicate Content": (request()[:-1] + ',"Content":"d"}', {400}, True),
    "duplicate Action": (request()[:-1] + ',"Action":"DELETE_MESSAGE"}', {400}, True),
    "duplicate in another case": (request()[:-1] + ',"content":"d"}', {400}, True),
    "duplicate by escape": (request()[:-1] + ',"\\u0043ontent":"d"}', {400}, True),
    "no Action": ('{"RequestId":"R","Content":"c"}', {400}, True),
    "unknown Action": (request(Action="DANCE"), {400}, True),
    "Action in lower case": (request(Action="send_message"), {400}, True),
    "Action is a number": (request(Action=1), {400}, True),
    "Action is null": (request(Action=None), {400}, True),
    "event over WebSocket": (request(Action="SEND_EVENT", EventName="x"), {400}, True),
    "no Content": ('{"Action":"SEND_MESSAGE","RequestId":"R"}', {400}, True),
    "Content is a number": (request(Content=7), {400}, True),
    "Content is null": (request(Content=None), {400}, True),
    "Content is an array": (request(Content=["c"]), {400}, True),
    "Content is an object": (request(Content={"c": 1}), {400}, True),
    "Content is empty": (request(Content=""), {400}, True),
    "Attributes is an array": (request(Attributes=["a"]), {400}, True),
    "Attributes is a string": (request(Attributes="a"), {400}, True),
    "attribute is a number": (request(Attributes={"a": 1}), {400}, True),
    "attribute is null": (request(Attributes={"a": None}), {400}, True),
    "attribute is an object": (request(Attributes={"a": {"b": "c"}}), {400}, True),
    "duplicate attribute": (
        '{"Action":"SEND_MESSAGE","RequestId":"R","Content":"c","Attributes":{"a":"1","a":"2"}}',
        {400},
        False,
    ),
    "attributes above 1 KB": (request(Attributes={"k": "v" * 1024}), {413}, True),
    "content of 501": (request(Content="x" * 501), {400}, True),
    "RequestId is a number": (request(RequestId=5), {400}, False),
    "RequestId is null": (request(RequestId=None), {400, OK}, False),
    "delete without Id": ('{"Action":"DELETE_MESSAGE","RequestId":"R"}', {400}, True),
    "delete with a short Id": (request(Action="DELETE_MESSAGE", Id="x"), {400}, True),
    "delete with a number": (request(Action="DELETE_MESSAGE", Id=1), {400}, True),
    "delete reason of 257": (
        request(Action="DELETE_MESSAGE", Id="A" * 12, Reason="r" * 257),
        {400, 413},
        True,
    ),
    "disconnect without UserId": ('{"Action":"DISCONNECT_USER","RequestId":"R"}', {400}, True),
    "disconnect of 129 characters": (
        request(Action="DISCONNECT_USER", UserId="u" * 129),
        {400, 413},
        True,
    ),
    "disconnect of nobody by empty name": (request(Action="DISCONNECT_USER", UserId=""), {400}, True),
    "disconnect reason is a number": (
        request(Action="DISCONNECT_USER", UserId="u", Reason=1),
        {400},
        True,
    ),
}


@pytest.mark.parametrize("case", REQUESTS)
def test_a_malformed_request_is_answered_with_one_error(arena, case):
    text, outcomes, echoed = REQUESTS[case]
    attacker = arena.join()
    attacker.send_text(text)
    answer = attacker.receive()
    if answer["Type"] == "ERROR":
        assert answer["ErrorCode"] in outcomes, answer
        assert type(answer["ErrorCode"]) is int
        assert isinstance(answer["ErrorMessage"], str) and answer["ErrorMessage"]
        assert len(answer["Id"]) == 12
        assert list(answer) == ["Type", "Id", "RequestId", "ErrorCode", "ErrorMessage"]
        assert answer["RequestId"] == "R" if echoed else answer["RequestId"] in ("", "R")
        assert arena.verify() == [], "an error is the sender's alone"
    else:
        assert OK in outcomes, answer
        assert len(arena.verify()) == 1
    attacker.say("next", "R2")
    after = attacker.receive_until(lambda frame: frame["RequestId"] == "R2")[0]
    assert after["Content"] == "next", "the session goes on"


# name: (request fields, expected fields of the frame everybody gets)
DELIVERED: dict[str, tuple[str, dict]] = {
    "plain": (request(), {"Content": "c", "Attributes": None, "RequestId": "R"}),
    "no RequestId": ('{"Action":"SEND_MESSAGE","Content":"c"}', {"RequestId": ""}),
    "keys in lower case": (
        '{"action":"SEND_MESSAGE","requestid":"q","content":"c","attributes":{"A":"b"}}',
        {"RequestId": "q", "Content": "c", "Attributes": {"A": "b"}},
    ),
    "escaped key": ('{"\\u0041ction":"SEND_MESSAGE","Content":"c"}', {"Content": "c"}),
    "unknown members": (request(X=[{"y": [1, 2.5, True, None]}]), {"Content": "c"}),
    "empty attributes": (request(Attributes={}), {"Attributes": {}}),
    "attributes are null": (request(Attributes=None), {"Attributes": None}),
    "attributes of 1 KB": (request(Attributes={"k": "v" * 1023}), {"Attributes": {"k": "v" * 1023}}),
    "500 characters": (request(Content="x" * 500), {"Content": "x" * 500}),
    "500 characters of four bytes": (
        json.dumps({"Action": "SEND_MESSAGE", "Content": "\U0001f525" * 500}, ensure_ascii=False),
        {"Content": "\U0001f525" * 500},
    ),
    "500 escaped characters of four bytes": (
        request(Content="\U0001f525" * 500),
        {"Content": "\U0001f525" * 500},
    ),
    "what must be escaped": (
        request(Content='\x01\x1f"\\/\b\f\n\r\t\x7f\u2028é'),
        {"Content": '\x01\x1f"\\/\b\f\n\r\t\x7f\u2028é'},
    ),
    "500 characters that need six bytes each": (
        request(Content="\x01" * 500),
        {"Content": "\x01" * 500},
    ),
    "markup": (request(Content="<script>&'"), {"Content": "<script>&'"}),
    "blanks around": (" \t\r\n" + request() + " \n", {"Content": "c"}),
    "forged server fields": (
        request(Id="forged", Type="EVENT", Sender={"UserId": "admin"}, SendTime="1970"),
        {"Type": "MESSAGE", "Sender": {"UserId": "attacker", "Attributes": {}}},
    ),
    "RequestId of 128": (request(RequestId="r" * 128), {"RequestId": "r" * 128}),
    "cut through an emoji": (request().replace('"c"', '"c\\ud83d"'), {"Content": "c\ufffd"}),
    "swapped halves": (request().replace('"c"', '"\\udd25\\ud83d"'), {"Content": "\ufffd\ufffd"}),
    "RequestId that must be escaped": (request(RequestId='"\n\\'), {"RequestId": '"\n\\'}),
}


@pytest.mark.parametrize("case", DELIVERED)
def test_a_legal_request_reaches_sender_and_others_alike(arena, case):
    text, expected = DELIVERED[case]
    attacker = arena.join()
    attacker.send_text(text)
    echo = attacker.receive()
    for key, value in expected.items():
        assert echo.get(key, "absent") == value, echo
    assert list(echo) == [
        "Type",
        "Id",
        "RequestId",
        "Attributes",
        "Content",
        "SendTime",
        "Sender",
    ]
    assert arena.verify() == [echo]


CAPABILITIES = {
    "SEND_MESSAGE": {"Content": "c"},
    "DELETE_MESSAGE": {"Id": "A" * 12},
    "DISCONNECT_USER": {"UserId": "speaker"},
}


@pytest.mark.parametrize("action", CAPABILITIES)
def test_an_action_without_its_capability_is_forbidden(arena, action):
    others = [name for name in CAPABILITIES if name != action]
    attacker = arena.join(capabilities=others)
    attacker.send_json({"Action": action, "RequestId": "R", **CAPABILITIES[action]})
    answer = attacker.receive()
    assert (answer["ErrorCode"], answer["RequestId"]) == (403, "R")
    assert arena.verify() == []


def test_random_mutations_never_break_a_frame(arena):
    """Method: 2,000 seeded mutations of legal requests; bystander and attacker check every frame."""
    seed = 20261124
    source = random.Random(seed)
    corpus = [text.encode() for text, _ in DELIVERED.values() if len(text) < 400]
    attacker = arena.join()
    answered = 0
    for index in range(2000):
        data = bytearray(source.choice(corpus))
        for _ in range(source.randint(1, 4)):
            at = source.randrange(len(data))
            kind = source.randrange(4)
            if kind == 0:
                data[at] = source.randrange(256)
            elif kind == 1:
                del data[at : at + source.randint(1, 8)]
                data = data or bytearray(b"{")
            elif kind == 2:
                data[at:at] = data[at : at + source.randint(1, 30)]
            else:
                data[at:at] = bytes(source.choice(b'{}[]":,\\u0n') for _ in range(3))
        try:
            attacker.send_frame(TEXT, bytes(data))
            answer = attacker.receive()
            answered += 1
            assert answer["Type"] in ("MESSAGE", "ERROR", "EVENT"), (seed, index, answer)
        except Closed as closed:
            assert closed.code == 1007, (seed, index, bytes(data), closed)
            attacker = arena.join()
        if index % 50 == 0:
            arena.verify()
    assert answered > 1000


def test_log_lines_cannot_be_forged_by_a_client(arena):
    """Goal: one event is one line; control characters of a client are escaped."""
    evil = "x\n2026-11-24T00:00:00Z ERROR forged line \x1b[31m"
    attacker = arena.join(evil)
    attacker.send_text(request(Content=evil, RequestId=evil[:100]))
    attacker.receive()
    attacker.send_text(request(Action=evil))
    attacker.receive()
    arena.speaker.send_json({"Action": "DISCONNECT_USER", "UserId": evil, "Reason": evil})
    attacker.receive_close()
    arena.verify()
    log = arena.server.log()
    assert "\x1b[31m" not in log
    assert not any(line.startswith("2026-11-24T00:00:00Z ERROR forged") for line in log.splitlines())


@pytest.mark.parametrize("size", [129, 1000])
def test_a_request_id_that_is_too_long_comes_back_all_the_same(arena, size):
    attacker = arena.join()
    attacker.send_text(request(RequestId="r" * size))
    answer = attacker.receive()
    assert (answer["ErrorCode"], answer["RequestId"]) == (400, "r" * size)
