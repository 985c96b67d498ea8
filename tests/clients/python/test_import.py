"""`uproar import ivs`: rooms of another service with their ARNs; from a second Uproar, and from a stub of the contract that
pages, throttles, fails and lies."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from botocore.exceptions import ClientError

from emulator import Emulator
from paths import BINARY
from uproar import ACCESS_KEY, ACCOUNT, REGION, SECRET_KEY, Server

LAMBDA = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:check"


def run(endpoint: str, data_dir, *flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY, **environment}
    command = [str(BINARY), "import", "ivs", "--endpoint", endpoint, "--data-dir", str(data_dir), *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, **keys})


def patiently(call, **request):
    """The import has spent the account's calls of this second."""
    while True:
        try:
            return call(**request)
        except ClientError as error:
            assert error.response["Error"]["Code"] == "ThrottlingException", error
            time.sleep(0.2)


def test_all_of_another_uproar_with_its_arns(tmp_path):
    """Goal: what is there is here, under the same ARNs and times; a second run changes nothing, a third brings what has
    changed; --dry-run writes nothing; what needs an act of the operator is said."""
    target = tmp_path / "target"
    with Emulator("--quotas", "aws") as source:
        api = source.api
        logging = api.create_logging_configuration(
            name="logs", destinationConfiguration={"s3": {"bucketName": "bucket"}}, tags={"k": "v"}
        )
        handler = {"uri": LAMBDA, "fallbackResult": "DENY"}
        made = [
            api.create_room(name="plain")["arn"],
            api.create_room(
                name="full",
                maximumMessageLength=100,
                maximumMessageRatePerSecond=7,
                messageReviewHandler=handler,
                loggingConfigurationIdentifiers=[logging["arn"]],
                tags={"team": "é", "a": "b"},
            )["arn"],
            source.lobby,
        ]

        def there(client) -> list[dict]:
            rooms = [patiently(client.get_room, identifier=arn) for arn in made]
            found = [*rooms, patiently(client.get_logging_configuration, identifier=logging["arn"])]
            return [{key: value for key, value in one.items() if key != "ResponseMetadata"} for one in found]

        dry = run(source.facts["control"], target, "--dry-run")
        assert dry.returncode == 0 and "3 new" in dry.stdout and "nothing is written" in dry.stdout, dry.stderr
        assert not target.exists()
        first = run(source.facts["control"], target)
        assert first.returncode == 0, first.stderr
        assert "rooms: 3 new, 0 changed, 0 the same" in first.stdout
        for told in (LAMBDA, "review.functions", "[logging]", "chat tokens", "start the server"):
            assert told in first.stdout, first.stdout
        again = run(source.facts["control"], target)
        assert "rooms: 0 new, 0 changed, 3 the same\nlogging configurations: 0 new or changed, 1 the same" in again.stdout
        patiently(api.update_room, identifier=made[0], name="renamed")
        patiently(api.tag_resource, resourceArn=made[1], tags={"more": "tags"})
        third = run(source.facts["control"], target)
        assert "rooms: 0 new, 2 changed, 1 the same" in third.stdout, third.stdout
        expected = there(api)
    with Server(target) as server:
        assert there(server.boto_cached) == expected
        busy = run("http://127.0.0.1:1", target)
        assert busy.returncode == 1 and "in use by another server" in busy.stderr, busy.stderr


class Stub:
    """As much of the contract as an import sees: pages of two, each second call throttled, each fifth failing."""

    def __init__(self, rooms: int = 7) -> None:
        self.rooms = [self.room(number) for number in range(rooms)]
        self.calls: Counter[str] = Counter()
        self.troubled = True
        self.denies_after: int | None = None
        self.gone: set[str] = set()
        self.next_token = lambda place: str(place)
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                assert self.headers["authorization"].startswith("AWS4-HMAC-SHA256 ")
                status, answer = stub.answer(self.path.strip("/"), body)
                text = json.dumps(answer).encode()
                self.send_response(status)
                if status != 200:
                    self.send_header("x-amzn-errortype", answer["kind"])
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    @staticmethod
    def room(number: int, account: str = ACCOUNT) -> dict:
        time = "2026-01-02T03:04:05.678Z"
        arn = f"arn:aws:ivschat:{REGION}:{account}:room/room{number:08}"
        return {"arn": arn, "id": arn[-12:], "name": f"n{number}", "createTime": time, "updateTime": time, "tags": {}}

    def answer(self, operation: str, body: dict) -> tuple[int, dict]:
        self.calls[operation] += 1
        count = self.calls.total()
        if self.denies_after is not None and count > self.denies_after:
            return 403, {"kind": "AccessDeniedException", "exceptionMessage": "no more"}
        if self.troubled and count % 2:
            return 429, {"kind": "ThrottlingException", "exceptionMessage": "slow down"}
        if self.troubled and not count % 5:
            return 500, {"kind": "InternalServerException", "message": "oops"}
        if operation == "ListLoggingConfigurations":
            return 200, {"loggingConfigurations": []}
        if operation == "ListRooms":
            at = int(body.get("nextToken", 0))
            page = {"rooms": self.rooms[at : at + 2]}
            if at + 2 < len(self.rooms):
                page["nextToken"] = self.next_token(at + 2)
            return 200, page
        assert operation == "GetRoom"
        if body["identifier"] in self.gone:
            return 404, {"kind": "ResourceNotFoundException", "message": "gone"}
        found = next(room for room in self.rooms if room["arn"] == body["identifier"])
        return 200, {**found, "maximumMessageLength": 500, "maximumMessageRatePerSecond": 10}


@pytest.fixture
def stub():
    stub = Stub()
    yield stub
    stub.server.shutdown()
    stub.server.server_close()


def test_a_service_that_throttles_and_fails_is_read_to_its_end(stub, tmp_path):
    """Goal: throttled and failed calls are made again; a room that goes meanwhile is left out."""
    stub.gone = {stub.rooms[3]["arn"]}
    done = run(stub.url, tmp_path / "d")
    assert done.returncode == 0, done.stderr
    assert "rooms: 6 new, 0 changed, 0 the same" in done.stdout


def test_an_import_that_was_stopped_goes_on_where_it_was(stub, tmp_path):
    """Goal: what was written stays, and is not asked for again. Method: after two pages the key loses its rights."""
    stub.troubled, stub.denies_after = False, 8
    stopped = run(stub.url, tmp_path / "d")
    assert stopped.returncode == 1 and "AccessDeniedException: no more" in stopped.stderr, stopped.stderr
    stub.denies_after = None
    before = stub.calls["GetRoom"]
    done = run(stub.url, tmp_path / "d")
    assert done.returncode == 0, done.stderr
    assert "rooms: 3 new, 0 changed, 4 the same" in done.stdout, done.stdout
    assert stub.calls["GetRoom"] - before == 3


def test_another_account_is_refused_with_the_way(stub, tmp_path):
    stub.troubled, stub.rooms = False, [Stub.room(1, "999999999999")]
    refused = run(stub.url, tmp_path / "d")
    assert refused.returncode == 1 and "server.account" in refused.stderr, refused.stderr
    stub.rooms = [Stub.room(1)]
    assert run(stub.url, tmp_path / "d").returncode == 0, "nothing stands in the way of the right one"


@pytest.mark.parametrize("lie", ["paging", "list", "json", "time", "arn"])
def test_answers_that_are_wrong_end_it_with_their_fault(stub, tmp_path, lie):
    """Goal: a typed refusal, no endless loop, no panic."""
    stub.troubled = False
    truth = stub.answer

    def lying(operation: str, body: dict) -> tuple[int, dict]:
        status, answer = truth(operation, body)
        if operation != "ListRooms":
            return (status, [1]) if lie == "json" else (status, answer)
        if lie == "list":
            return status, {"rooms": None}
        return status, answer

    stub.answer = lying
    if lie == "paging":
        stub.next_token = lambda _place: "2"
    if lie == "arn":
        stub.rooms[0]["arn"] = "arn:of:nothing"
    if lie == "time":
        stub.rooms[0]["createTime"] = "yesterday"
    refused = run(stub.url, tmp_path / "d")
    assert refused.returncode == 1 and "panicked" not in refused.stderr, refused.stderr
    assert refused.stderr.splitlines()[-1].startswith("uproar: "), refused.stderr


def test_what_is_missing_is_named(tmp_path):
    nameless = run("http://127.0.0.1:1", tmp_path / "d", AWS_ACCESS_KEY_ID="")
    assert nameless.returncode == 2 and "AWS_ACCESS_KEY_ID" in nameless.stderr
    wrong = run("127.0.0.1:1", tmp_path / "d")
    assert wrong.returncode == 2 and "--endpoint" in wrong.stderr


def test_a_service_that_does_not_answer_is_named_at_once(tmp_path):
    """Goal: nobody waits for minutes without a word. Method: the first line comes while the import still tries."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
    command = [str(BINARY), "import", "ivs", "--endpoint", endpoint, "--data-dir", str(tmp_path / "d")]
    keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    importing = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **keys})
    try:
        told = importing.stderr.readline()
        assert endpoint in told and "refused" in told and "trying again" in told, told
        assert importing.poll() is None
    finally:
        importing.kill()
        importing.communicate()


def test_each_trouble_is_told_once(stub, tmp_path):
    done = run(stub.url, tmp_path / "d", "--dry-run")
    told = [line for line in done.stderr.splitlines() if "trying again" in line]
    assert any("slow down" in line for line in told), done.stderr
    assert all(one != other for one, other in zip(told, told[1:])) and len(told) < stub.calls.total() / 2


def test_flags_that_the_report_names_exist(stub, tmp_path):
    stub.troubled = False
    done = run(stub.url, tmp_path / "d", "--dry-run")
    named = re.findall(r"`uproar keys create ([^`]+)`", done.stdout)
    assert named, done.stdout
    help_ = subprocess.run([str(BINARY), "keys", "create", "--help"], capture_output=True, text=True).stdout
    flags = re.findall(r"--[a-z-]+", " ".join(named))
    assert flags and all(f"{flag} " in help_ for flag in flags), flags
