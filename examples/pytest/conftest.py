"""A chat server for each test: ready in milliseconds, gone without a trace.

    pip install pytest boto3 websockets
    pytest examples/pytest

`uproar` is on the PATH, or UPROAR names it. Nothing here depends on ports, on other tests, or on what was there before; so
tests may run at once (pytest-xdist).
"""

import json
import os
import subprocess
from dataclasses import dataclass

import boto3
import pytest
from websockets.sync.client import connect

UPROAR = os.environ.get("UPROAR", "uproar")


@dataclass
class Chat:
    """One server. `facts` is its ready file: addresses, key, ARNs, process id."""

    facts: dict

    @property
    def lobby(self) -> str:
        return self.facts["rooms"]["lobby"]

    def environment(self) -> dict[str, str]:
        """For an application under test that makes its own client: every AWS SDK reads these."""
        return {
            "AWS_ENDPOINT_URL_IVSCHAT": self.facts["control"],
            "AWS_REGION": self.facts["region"],
            "AWS_DEFAULT_REGION": self.facts["region"],
            "AWS_ACCESS_KEY_ID": self.facts["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": self.facts["secret_access_key"],
        }

    def client(self):
        return boto3.client(
            "ivschat",
            endpoint_url=self.facts["control"],
            region_name=self.facts["region"],
            aws_access_key_id=self.facts["access_key_id"],
            aws_secret_access_key=self.facts["secret_access_key"],
        )

    def join(self, token: str):
        """A viewer's connection; `recv` and `send` take JSON text."""
        return connect(self.facts["messaging"], subprotocols=[token])

    def call(self, path: str, body: dict | None = None) -> dict:
        """An endpoint of the emulator: a body makes it a POST."""
        import urllib.request

        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(self.facts["control"] + path, data=data, timeout=30) as answer:
            return json.load(answer)


@pytest.fixture
def chat(tmp_path):
    ready = tmp_path / "uproar.json"
    flags = ["--free-ports", "--ready-file", str(ready), "--quotas", "open", "--shards", "1", "--frames", "1000"]
    with open(tmp_path / "uproar.log", "wb") as log:
        server = subprocess.Popen([UPROAR, "dev", *flags], stdout=log, stderr=log)
    try:
        waited = subprocess.run(
            [UPROAR, "wait", "--ready-file", str(ready)], stdout=subprocess.PIPE, check=True
        )
        yield Chat(json.loads(waited.stdout))
    finally:
        server.terminate()
        server.wait(30)
