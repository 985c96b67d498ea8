"""Each file of tests/golden is a story of requests and the answers they get, byte for byte but for
what is new each time.

In answers, `<time>` `<second>` `<id>` `<token>` stand for values of that shape, and `<room arn as
ROOM>` names one: `$ROOM` and `$ROOM_ID` are it from there on, in requests as well. A wanted change is
written with UPROAR_GOLDEN=update, and reviewed as a diff.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from urllib.parse import quote

import pytest

from raw_api import call
from uproar import ACCOUNT, REGION, Server

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
UPDATE = os.environ.get("UPROAR_GOLDEN") == "update"
SHAPES = {
    "<time>": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z",
    "<second>": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ",
    "<id>": r"[a-zA-Z0-9]{12}",
    "<token>": r"[a-zA-Z0-9_-]{80,}",
}
NAMED = re.compile(r"<(room|logging) arn as ([A-Z]+)>")
KINDS = {"room": "room", "logging": "logging-configuration"}


def fill(value, names: dict[str, str]):
    """`value` with `$NAME` replaced, in strings at any depth."""
    if isinstance(value, dict):
        return {key: fill(member, names) for key, member in value.items()}
    if isinstance(value, list):
        return [fill(member, names) for member in value]
    if isinstance(value, str) and value.startswith("$"):
        return names[value[1:]]
    return value


def settle(expected, actual, names: dict[str, str]):
    """What stays in the file: `expected` wherever `actual` agrees with it, else `actual`."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        return {key: settle(expected.get(key), value, names) for key, value in actual.items()}
    if isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        return [settle(*pair, names) for pair in zip(expected, actual, strict=True)]
    if isinstance(expected, str) and isinstance(actual, str):
        named = NAMED.fullmatch(expected)
        if named:
            kind, name = named.groups()
            arn = rf"arn:aws:ivschat:{REGION}:{ACCOUNT}:{KINDS[kind]}/[a-zA-Z0-9]{{12}}"
            if re.fullmatch(arn, actual):
                names[name], names[f"{name}_ID"] = actual, actual.rsplit("/", 1)[1]
                return expected
        if re.fullmatch(SHAPES.get(expected, re.escape(expected)), actual):
            return expected
        if expected.startswith("$") and names.get(expected[1:]) == actual:
            return expected
    return expected if expected == actual and type(expected) is type(actual) else actual


@pytest.fixture(scope="module")
def clean():
    with Server() as server:
        yield server


@pytest.fixture(autouse=True)
def empty(clean):
    """Each story begins without logging configurations: ten are all there may be."""
    yield
    boto = clean.boto_cached
    for room in boto.list_rooms()["rooms"]:
        boto.delete_room(identifier=room["arn"])
    for found in boto.list_logging_configurations()["loggingConfigurations"]:
        boto.delete_logging_configuration(identifier=found["arn"])


@pytest.mark.parametrize("story", sorted(path.stem for path in GOLDEN.glob("*.json")))
def test_every_answer_is_the_recorded_one(clean, story):
    path = GOLDEN / f"{story}.json"
    exchanges = json.loads(path.read_text())
    names: dict[str, str] = {}
    settled = []
    for exchange in exchanges:
        request = exchange["request"]
        target = re.sub(
            r"\$([A-Z_]+)", lambda name: quote(names[name[1]], safe=""), request["path"]
        )
        body, headers = b"", {}
        if "body" in request:
            body = json.dumps(fill(request["body"], names)).encode()
            headers["Content-Type"] = "application/json"
        status, headers, raw = call(clean, request["method"], target, body, headers)
        assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", headers["x-amzn-RequestId"])
        answer = {"status": status}
        if "x-amzn-ErrorType" in headers:
            answer["error"] = headers["x-amzn-ErrorType"]
        if raw:
            assert headers["Content-Type"] == "application/json"
            answer["body"] = json.loads(raw)
        settled.append({"request": request, "answer": settle(exchange["answer"], answer, names)})
    if UPDATE:
        path.write_text(json.dumps(settled, indent=2, ensure_ascii=False) + "\n")
    assert settled == exchanges


def test_every_operation_has_a_story(clean):
    """Method: botocore's own model says which operations there are."""
    operations = set(clean.boto_cached.meta.service_model.operation_names)
    assert len(operations) == 17
    assert operations <= {path.stem for path in GOLDEN.glob("*.json")}
