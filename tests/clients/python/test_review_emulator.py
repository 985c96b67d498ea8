"""Message review through somebody else's Lambda: moto's. It forgets the escapes of a path before it would
check a signature, so signatures are judged in test_review.py, by botocore.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
import urllib.request
import zipfile

import boto3
import pytest

from test_review import Chat, config, metrics
from ports import free_port
from uproar import ACCOUNT, REGION

START_SECONDS_MAX = 60


class Moto:
    """An AWS of our own on a loopback port, without containers."""

    def __init__(self, directory) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.log = (directory / "moto.log").open("w+")
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + START_SECONDS_MAX
        while not self.answers():
            alive = self.process.poll() is None and time.monotonic() < deadline
            assert alive, f"moto did not start: {self.output()}"
            time.sleep(0.1)
        self.post("/moto-api/config", json.dumps({"lambda": {"use_docker": False}}))

    def output(self) -> str:
        self.log.seek(0)
        return self.log.read()

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/moto-api/config", timeout=1):
                return True
        except OSError:
            return False

    def post(self, path: str, body: str) -> None:
        kind = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, body.encode(), kind)
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.status in (200, 201)

    def client(self, service: str):
        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=self.url,
            aws_access_key_id="AKIAADMIN00000000000",
            aws_secret_access_key="admin",
        )

    def returns(self, *answers: object) -> None:
        """What the function returns next."""
        body = {
            "results": [json.dumps(answer) for answer in answers],
            "account_id": ACCOUNT,
            "region": REGION,
        }
        self.post("/moto-api/static/lambda-simple/response", json.dumps(body))

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(30)
        self.log.close()


@pytest.fixture(scope="module")
def moto(tmp_path_factory):
    moto = Moto(tmp_path_factory.mktemp("moto"))
    yield moto
    moto.close()


@pytest.fixture(scope="module")
def function(moto):
    """A function without code worth the name: moto returns what it is told."""
    role = moto.client("iam").create_role(RoleName="r", AssumeRolePolicyDocument="{}")["Role"]
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("f.py", "def handler(event, context): ...")
    moto.client("lambda").create_function(
        FunctionName="check",
        Runtime="python3.12",
        Role=role["Arn"],
        Handler="f.handler",
        Code={"ZipFile": code.getvalue()},
    )
    return "check"


@pytest.fixture
def server(tmp_path, moto, function):
    with config(tmp_path, moto, functions=[]) as server:
        yield server


def test_an_emulator_allows_rewrites_and_denies(server, moto, function):
    chat = Chat(server, function, "DENY")
    moto.returns(
        {"ReviewResult": "ALLOW", "Content": "one"},
        {"ReviewResult": "ALLOW", "Content": "two", "Attributes": {"a": "1"}},
        {"ReviewResult": "DENY", "Attributes": {"Reason": "spam"}},
        "no verdict",
    )
    assert chat.say("x", Attributes={"k": "v"})["Content"] == "one"
    two = chat.say("x")
    assert (two["Content"], two["Attributes"]) == ("two", {"a": "1"})
    assert "spam" in chat.say("x")["ErrorMessage"]
    assert chat.say("x")["ErrorCode"] == 406
    counted = metrics(server)
    for result, count in (("allow", 2), ("deny", 1), ("invalid", 1)):
        assert counted[f'uproar_review_requests_total{{result="{result}"}}'] == count
    chat.close()
