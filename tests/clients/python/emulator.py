"""`uproar dev` as a test of an application starts it: free ports, a directory of its own, a ready file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import boto3
from botocore.config import Config
from websockets.sync.client import connect

from paths import BINARY
from uproar import SCRATCH, START_SECONDS_MAX


class Emulator:
    """One `uproar dev`, ready when the constructor is left."""

    def __init__(self, *extra: str, runtime: Path | None = None) -> None:
        self.runtime = Path(runtime or tempfile.mkdtemp(prefix="emulator-", dir=SCRATCH.name))
        self.ready_file = self.runtime / "ready.json"
        self.log_path = self.runtime / "log"
        command = [str(BINARY), "dev", "--free-ports", "--ready-file", str(self.ready_file)]
        for flag, value in [("--shards", "1"), ("--quotas", "open")]:
            command += [] if flag in extra else [flag, value]
        command += extra
        environment = {**os.environ, "XDG_RUNTIME_DIR": str(self.runtime)}
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        waited = wait("--ready-file", str(self.ready_file), "--timeout", str(START_SECONDS_MAX))
        assert waited.returncode == 0, f"{waited.stderr}{self.log()}"
        self.facts = json.loads(waited.stdout)

    def __enter__(self) -> Emulator:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.stop() == 0, self.log()

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(60)

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")[-8000:]

    @property
    def lobby(self) -> str:
        return self.facts["rooms"]["lobby"]

    @property
    def api(self):
        """boto3's client, made once: to make one takes longer than to start a server."""
        if not hasattr(self, "_api"):
            self._api = boto3.session.Session().client(
                "ivschat",
                region_name=self.facts["region"],
                endpoint_url=self.facts["control"],
                aws_access_key_id=self.facts["access_key_id"],
                aws_secret_access_key=self.facts["secret_access_key"],
                config=Config(retries={"total_max_attempts": 1}),
            )
        return self._api

    def token(self, room: str | None = None, user: str = "u", **rest) -> str:
        capabilities = ["SEND_MESSAGE", "DELETE_MESSAGE", "DISCONNECT_USER"]
        made = self.api.create_chat_token(
            roomIdentifier=room or self.lobby, userId=user, capabilities=capabilities, **rest
        )
        return made["token"]

    def viewer(self, token: str):
        """A WebSocket client that has joined."""
        return connect(self.facts["messaging"], subprotocols=[token], open_timeout=60)

    def advance(self, seconds: float) -> dict:
        status, time = self.call("POST", "/emulator/clock", {"advance_seconds": seconds})
        assert status == 200, time
        return time

    def reset(self) -> dict:
        status, answer = self.call("POST", "/emulator/reset")
        assert status == 200, answer
        return answer

    def call(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, object]:
        """Status and JSON (or text) of a call of the emulator's own endpoints."""
        url = f"{self.facts['control']}{path}"
        data = None if body is None else json.dumps(body).encode()
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(url, data=data, method=method, headers=names)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, parsed(answer.read())
        except urllib.error.HTTPError as refused:
            return refused.code, parsed(refused.read())


def parsed(text: bytes) -> object:
    try:
        return json.loads(text or b"null")
    except ValueError:
        return text.decode()


def wait(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(BINARY), "wait", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)

