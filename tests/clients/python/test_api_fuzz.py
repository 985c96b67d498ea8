"""All operations with inputs drawn from the published model's constraints: no 500, no hang, no panic,
and the verdict the model demands.

Each case is an operation with members that keep or break the model's constraints. What keeps them all
is never a ValidationException, what breaks one always is. `UPROAR_API_CASES` says how many cases
(default 4,000), `UPROAR_API_SEED` which ones.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import re
from urllib.parse import quote

import pytest
from botocore.model import ListShape, MapShape, Shape, StructureShape

from raw_api import sign
from uproar import Server

CASES = int(os.environ.get("UPROAR_API_CASES", "4000"))
SEED = int(os.environ.get("UPROAR_API_SEED", "1"))
# Fifty keys of 128 emoji are a longer URI than HTTP libraries take.
URI_BYTES_MAX = 60_000
ANSWERS = {
    "ok": {200, 204},
    "ResourceNotFoundException": {404},
    "ConflictException": {409},
    "ServiceQuotaExceededException": {402},
}
# What the model leaves out (contract, sections 3.3, 3.4 and 11): 1 KB of attributes, names of the
# service's own events, page tokens, the missing `+` of the tag ARN's pattern.
ATTRIBUTES = {"ChatTokenAttributes", "EventAttributes"}
OPAQUE = {"PaginationToken"}
LETTERS = "abcxyzABCXYZ0189-_./#: é🔥\n\0\"\\%+&="


class Draft:
    """Draws values; remembers whether one of them broke a constraint."""

    def __init__(self, choices: random.Random, arns: dict[str, list[str]]) -> None:
        self.choices = choices
        self.arns = arns
        self.broken: list[str] = []
        # About every second case is to be valid as a whole.
        self.honest = choices.random() < 0.5

    def breaks(self, why: str) -> bool:
        """Whether to break a constraint here."""
        if not self.honest and self.choices.random() < 0.2:
            self.broken.append(why)
            return True
        return False

    def of(self, shape: Shape):
        if self.breaks(f"{shape.name}: type"):
            return self.wrong_type(shape)
        if isinstance(shape, StructureShape):
            return self.structure(shape)
        if isinstance(shape, ListShape):
            count = self.size(shape, default=4)
            return [self.of(shape.member) for _ in range(count)]
        if isinstance(shape, MapShape):
            return self.mapping(shape)
        if shape.type_name == "integer":
            return self.integer(shape)
        assert shape.type_name == "string", shape
        return self.string(shape)

    def wrong_type(self, shape: Shape):
        values = [1.5, True, -1, 10**30, "text", [], [1], {"a": 1}, {"a": {}}, [None], "\ud7ff"]
        kind = {"string": str, "integer": int, "list": list, "map": dict, "structure": dict}
        own = kind[shape.type_name]
        foreign = [
            value
            for value in values
            if type(value) is not own or (own is int and not 0 <= value < 2**31)
        ]
        return self.choices.choice(foreign)

    def structure(self, shape: StructureShape) -> dict:
        members = dict(shape.members)
        required = set(shape.required_members)
        drawn: dict = {}
        if getattr(shape, "is_tagged_union", False):
            names = self.choices.sample(sorted(members), 1)
            if self.breaks(f"{shape.name}: union"):
                names = sorted(members)[: self.choices.choice([0, 2, 3])]
            return {name: self.of(members[name]) for name in names}
        for name, member in members.items():
            if name in required:
                if self.breaks(f"{shape.name}.{name}: missing"):
                    if self.choices.random() < 0.5:
                        drawn[name] = None
                    continue
                drawn[name] = self.of(member)
                if member.serialization.get("location") == "querystring" and drawn[name] == []:
                    # An empty list leaves nothing in the query: missing.
                    self.broken.append(f"{shape.name}.{name}: missing")
            elif self.choices.random() < 0.6:
                drawn[name] = self.of(member)
            elif self.choices.random() < 0.2:
                drawn[name] = None
        if self.choices.random() < 0.1:
            drawn["unknown" + str(self.choices.randrange(9))] = [{"any": "thing"}]
        return drawn

    def size(self, shape: Shape, default: int) -> int:
        least, most = shape.metadata.get("min", 0), shape.metadata.get("max")
        if most is not None and self.breaks(f"{shape.name}: too many"):
            return most + self.choices.choice([1, 2, 100])
        return self.choices.randint(least, min(most or default, default))

    def mapping(self, shape: MapShape) -> dict:
        if shape.name in ATTRIBUTES:
            if self.breaks(f"{shape.name}: 1 KB"):
                return {"k": "é" * 512}
            if self.breaks(f"{shape.name}: value"):
                return {"k": self.wrong_type(shape.value)}
            return {self.text(1, 8): self.text(0, 60) for _ in range(self.choices.randrange(4))}
        most = shape.key.metadata["max"]
        count = self.size(shape, default=5)
        drawn = {f"{index}{self.text(1, most)}"[:most]: self.of(shape.value) for index in range(count)}
        if self.breaks(f"{shape.name}: key"):
            drawn[self.choices.choice(["", "k" * (most + 1)])] = "v"
        return drawn

    def integer(self, shape: Shape) -> int:
        least, most = shape.metadata.get("min", 0), shape.metadata.get("max", 1000)
        if self.breaks(f"{shape.name}: range"):
            return self.choices.choice([least - 1, most + 1, -(2**31), 2**31, 2**63])
        return self.choices.choice([least, most, self.choices.randint(least, most)])

    def text(self, least: int, most: int) -> str:
        count = self.choices.choice([least, most, self.choices.randint(least, most)])
        return "".join(self.choices.choices(LETTERS, k=count))

    def string(self, shape: Shape) -> str:
        pattern, enum = shape.metadata.get("pattern"), shape.metadata.get("enum")
        least, most = shape.metadata.get("min", 0), shape.metadata.get("max", 300)
        if shape.name in OPAQUE:
            if self.breaks(f"{shape.name}: not ours"):
                return self.choices.choice(["x", "é", "A" * 1025, "MTpBQUFBQUFBQUFBQQ=="])
            return ""
        if enum:
            if self.breaks(f"{shape.name}: enum"):
                return self.choices.choice(["", enum[0].lower(), enum[0] + "S"])
            return self.choices.choice(enum)
        if pattern is None:
            if least > 0 and self.breaks(f"{shape.name}: too short"):
                return ""
            if "max" in shape.metadata and self.breaks(f"{shape.name}: too long"):
                return "é" * (most + 1)
            text = self.text(max(least, 1) if "EventName" in shape.name else least, most)
            return "x" + text[1:] if shape.name == "EventName" else text
        good = self.matching(shape, pattern, least, most)
        if self.breaks(f"{shape.name}: pattern"):
            if shape.name == "LambdaArn":
                return self.choices.choice([" ", "http://a.example", "arn:aws:lambda:a:1:function:"])
            return self.choices.choice([good + " ", good + "é", " ", "a\n", "\0", good + "!" * 600])
        return good

    def matching(self, shape: Shape, pattern: str, least: int, most: int) -> str:
        """A text of the pattern."""
        if shape.name in self.arns:
            return self.choices.choice(self.arns[shape.name])
        alphabet = "".join(chr(code) for code in range(33, 127) if re.fullmatch(pattern, chr(code)))
        assert len(alphabet) > 30, f"no idea what {shape.name} looks like: {pattern}"
        count = self.choices.choice([least, most, self.choices.randint(least, most)])
        return "".join(self.choices.choices(alphabet, k=count))


def arns_of(boto) -> dict[str, list[str]]:
    """ARNs by shape: of things that exist, and of things that do not."""
    rooms = [boto.create_room(name=f"fuzz{index}")["arn"] for index in range(3)]
    destination = {"s3": {"bucketName": "fuzz"}}
    logging = [
        boto.create_logging_configuration(destinationConfiguration=destination)["arn"]
        for _ in range(2)
    ]
    foreign = [rooms[0].replace("us-west-2", "eu-west-1"), rooms[0][:-1] + "-"]
    own = [*rooms, *foreign, rooms[0][:-12] + "A" * 12]
    others = [*logging, logging[0][:-12] + "A" * 12]
    function = "arn:aws:lambda:us-west-2:123456789012:function:f"
    return {
        "RoomIdentifier": own,
        "RoomArn": own,
        "LoggingConfigurationIdentifier": others,
        "LoggingConfigurationArn": others,
        "LambdaArn": ["", function, function + ":1"],
        "ResourceArn": [*own, *others],
    }


def target(operation, drawn: dict) -> tuple[str, bytes]:
    """Path and body as botocore's serialiser would place the members."""
    uri = operation.http["requestUri"]
    if "{resourceArn}" not in uri:
        return uri, json.dumps(drawn).encode()
    arn = drawn.pop("resourceArn", None)
    path = "/tags/" + quote(arn if isinstance(arn, str) else json.dumps(arn), safe="")
    keys = drawn.pop("tagKeys", None)
    if isinstance(keys, list) and keys:
        pairs = (f"tagKeys={quote(key, safe='')}" for key in keys if isinstance(key, str))
        path += "?" + "&".join(pairs)
    body = json.dumps(drawn).encode() if operation.http["method"] == "POST" else b""
    return path, body


@pytest.fixture(scope="module")
def own_server():
    with Server() as server:
        yield server


class Caller:
    """One kept-alive connection."""

    def __init__(self, server) -> None:
        self.server = server
        self.connection = http.client.HTTPConnection("127.0.0.1", server.control_port, timeout=60)

    def __call__(self, method: str, path: str, body: bytes) -> tuple[str, int, dict]:
        headers = {"Content-Type": "application/json"} if body else {}
        signed = sign(self.server, method, path, body, headers)
        self.connection.request(method, path, body=body or None, headers=signed)
        answer = self.connection.getresponse()
        raw = answer.read()
        kind = answer.headers.get("x-amzn-ErrorType", "ok")
        return kind, answer.status, json.loads(raw) if raw else {}


def test_every_input_gets_the_verdict_its_constraints_demand(own_server):
    boto = own_server.boto_cached
    service = boto.meta.service_model
    choices = random.Random(SEED)
    arns = arns_of(boto)
    caller = Caller(own_server)
    kept = broken = 0
    operations = sorted(service.operation_names)
    for case in range(CASES):
        if case % 50 == 0:
            tidy(boto, arns)
        operation = service.operation_model(operations[case % len(operations)])
        draft = Draft(choices, arns)
        drawn = draft.structure(operation.input_shape)
        path, body = target(operation, dict(drawn))
        if len(path) > URI_BYTES_MAX:
            continue
        kind, status, answer = caller(operation.http["method"], path, body)
        what = f"case {case} of seed {SEED}: {operation.name} {path} {body!r:.2000}: {kind} {answer}"
        assert status < 500, what
        if kind == "ValidationException":
            assert status == 400 and answer["message"], what
            assert answer["reason"] in {"FIELD_VALIDATION_FAILED", "OTHER"}, what
            assert draft.broken, what
        else:
            assert status in ANSWERS[kind], what
            # A path and a query are text: types cannot be wrong there, nor members null.
            textual = not body and all("type" in why or "missing" in why for why in draft.broken)
            assert not draft.broken or textual, f"{draft.broken}: {what}"
        kept += not draft.broken
        broken += bool(draft.broken)
    assert min(kept, broken) > CASES // 4, f"{kept} kept and {broken} broke the constraints"
    assert own_server.process.poll() is None
    assert "panicked" not in own_server.log() and '"status":500' not in own_server.log()


def tidy(boto, arns) -> None:
    """What the cases made, so that quotas do not decide; and what they deleted is made again."""
    for room in boto.list_rooms()["rooms"]:
        boto.delete_room(identifier=room["arn"])
    for found in boto.list_logging_configurations()["loggingConfigurations"]:
        boto.delete_logging_configuration(identifier=found["arn"])
    arns.update(arns_of(boto))


GARBAGE = [
    b"",
    b"{",
    b"null",
    b"[]",
    b'"text"',
    b"{}{}",
    b"\xff\xfe",
    b'{"identifier": "\xc3"}',
    b'{"identifier": "\\ud800"}',
    b"\xef\xbb\xbf{}",
    b"{" * 5000,
    b"[" * 20000,
    b'{"a":' * 5000 + b"1" + b"}" * 5000,
    b'{"identifier": 1e999}',
    b'{"identifier": ' + b"9" * 5000 + b"}",
    b'{"identifier": NaN}',
    b'{"identifier": "a", "identifier": "b"}',
    b'{"\\u0069dentifier": "a", "identifier": "b"}',
    b"{'identifier': 'a'}",
    b'{"identifier": "a",}',
    b'{"identifier": "\n"}',
    b"{}" + b" " * 60_000,
    bytes(range(256)) * 100,
]


@pytest.mark.parametrize("operation", ["GetRoom", "CreateChatToken", "DeleteLoggingConfiguration"])
def test_bodies_that_are_no_input_are_validation_exceptions(own_server, operation):
    caller = Caller(own_server)
    for body in GARBAGE:
        kind, status, answer = caller("POST", f"/{operation}", body)
        assert (kind, status) == ("ValidationException", 400), f"{body[:60]!r}: {answer}"


def test_mutated_bodies_are_answered(own_server):
    """Method: flip, cut, double bytes of good bodies; anything but a 500 or a hang."""
    boto = own_server.boto_cached
    tidy(boto, arns := {})
    choices = random.Random(SEED)
    caller = Caller(own_server)
    room = arns["RoomArn"][0]
    good = [
        ("/CreateRoom", {"name": "n", "tags": {"k": "v"}, "messageReviewHandler": {"uri": ""}}),
        ("/CreateChatToken", {"roomIdentifier": room, "userId": "u", "attributes": {"a": "b"}}),
        ("/SendEvent", {"roomIdentifier": room, "eventName": "e", "attributes": {"a": "b"}}),
        ("/UpdateRoom", {"identifier": room, "maximumMessageLength": 5}),
    ]
    seen = set()
    for _ in range(CASES // 4):
        path, members = choices.choice(good)
        body = bytearray(json.dumps(members).encode())
        for _ in range(choices.randint(1, 4)):
            at = choices.randrange(len(body))
            match choices.randrange(4):
                case 0:
                    body[at] = choices.randrange(256)
                case 1:
                    del body[at : at + choices.randint(1, 9)]
                case 2:
                    body[at:at] = body[at : at + choices.randint(1, 9)]
                case _:
                    body[at:at] = choices.choice([b"null", b"\\u0000", b'"', b"{", b"\x80"])
            if not body:
                break
        kind, status, _ = caller("POST", path, bytes(body))
        assert status < 500, bytes(body)
        seen.add(kind)
    assert {"ok", "ValidationException"} <= seen
    assert re.search(r"panicked", own_server.log()) is None
