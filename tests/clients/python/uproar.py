"""One Uproar process under test: start it, wait until it serves, talk to it, stop it by process id.

Used by every test of this directory. Knows the command line and the development credentials, and
nothing about the server's insides.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import ssl
import subprocess
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import boto3
from botocore.config import Config

from paths import BINARY, REPOSITORY
from ports import free_port

REGION = "us-west-2"
ACCOUNT = "123456789012"
ACCESS_KEY = "AKIDUPROARDEV0000000"
SECRET_KEY = "uproar-dev-secret-not-for-production"
ALL_CAPABILITIES = ["SEND_MESSAGE", "DELETE_MESSAGE", "DISCONNECT_USER"]

# Data directories and logs of all servers of this process; gone with it.
SCRATCH = tempfile.TemporaryDirectory(prefix="uproar-tests-", ignore_cleanup_errors=True)

# A start is 0.1 s; the rest is for a machine that stands still meanwhile. So with all limits of time.
START_SECONDS_MAX = 60.0
# What every server must have chosen to move viewers' bytes with, where a run is about one of both: so
# that no test passes with the other one by mistake.
EXPECTED_IO = os.environ.get("UPROAR_TEST_IO")
# SIGTERM to exit: the server has no reason to wait for anyone this long.
STOP_SECONDS_MAX = 60.0


@dataclass(frozen=True)
class Upgraded:
    """What `uproar upgrade` says."""

    pid: int
    viewers: int
    pause_ms: int


def adopt_orphans() -> None:
    """A server that was started by a server becomes this process's child when that one ends."""
    set_child_subreaper = 36
    assert ctypes.CDLL(None).prctl(set_child_subreaper, 1, 0, 0, 0) == 0


class Successor:
    """A process that another server has started: as much of `subprocess.Popen` as `Server` uses."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            if done:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, seconds: float) -> int:
        deadline = time.monotonic() + seconds
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), seconds)
            time.sleep(0.005)
        return self.returncode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Server:
    """`uproar dev` with its own ports and data directory."""

    def __init__(
        self,
        data_dir: Path | str | None = None,
        *,
        quotas: str = "open",
        extra: tuple[str, ...] = (),
        wrapper: tuple[str, ...] = (),
        messaging_port: int | None = None,
        control_port: int | None = None,
    ) -> None:
        self.data_dir = Path(data_dir or tempfile.mkdtemp(prefix="data-", dir=SCRATCH.name))
        self.messaging_port = messaging_port or free_port()
        self.control_port = control_port or free_port()
        self.log_path = Path(tempfile.mkstemp(prefix="log-", suffix=".txt", dir=SCRATCH.name)[1])
        self.command = [
            *wrapper,
            str(BINARY),
            "dev",
            "--messaging-listen",
            f"127.0.0.1:{self.messaging_port}",
            "--control-listen",
            f"127.0.0.1:{self.control_port}",
            "--data-dir",
            str(self.data_dir),
            "--shards",
            "2",
            "--quotas",
            quotas,
            *extra,
        ]
        self.process: subprocess.Popen[bytes] | None = None

    # -- life --

    def launch(self) -> Server:
        """Starts the process and returns at once."""
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        return self

    def start(self) -> Server:
        """Starts the process and waits for `/readyz`."""
        return self.launch().await_ready()

    def await_ready(self) -> Server:
        """Waits for `/readyz` of a process that was launched."""
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"uproar exited {self.process.returncode}:\n{self.log()}")
            if self.ready():
                assert EXPECTED_IO is None or f'"io":"{EXPECTED_IO}"' in self.log(), self.log()
                return self
            time.sleep(0.02)
        self.kill()
        raise RuntimeError(f"uproar is not ready after {START_SECONDS_MAX} s:\n{self.log()}")

    def ready(self) -> bool:
        try:
            return self.page("/readyz", timeout=1)[0] == 200
        except OSError:
            return False

    def metrics(self) -> str:
        return self.page("/metrics")[1]

    def page(self, path: str, timeout: float = 60) -> tuple[int, str]:
        """Status and text of a page of the control listener; others than 2xx raise."""
        url = f"{self.control_url}{path}"
        with urllib.request.urlopen(url, timeout=timeout, context=self.context) as answer:
            return answer.status, answer.read().decode()

    def stop(self) -> int:
        """SIGTERM; the exit code. A server that does not leave is killed and that is an error."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                self.kill()
                raise RuntimeError(f"uproar ignored SIGTERM:\n{self.log()}") from None
        return self.process.returncode

    def upgrade(self, *rest: str, binary: Path | str | None = None) -> Upgraded:
        """`uproar upgrade`: from now on `process` is the one that serves, which is checked."""
        return self.follow(self.try_upgrade(*rest, binary=binary))

    def follow(self, done: subprocess.CompletedProcess[str]) -> Upgraded:
        """From now on `process` is the one that `done`, an `uproar upgrade`, says, which is checked."""
        assert done.returncode == 0, f"{done.stderr}\n{self.log()}"
        found = re.fullmatch(
            r"process (\d+) serves (\d+) viewers, who waited (\d+) ms; process (\d+) has ended\n", done.stdout
        )
        assert found, done.stdout
        pid, viewers, pause_ms, old = map(int, found.groups())
        assert old == self.process.pid, "another process was taken over from"
        assert self.process.wait(STOP_SECONDS_MAX) == 0, f"the old process failed:\n{self.log()}"
        self.process = Successor(pid)
        return Upgraded(pid, viewers, pause_ms)

    def try_upgrade(self, *rest: str, binary: Path | str | None = None) -> subprocess.CompletedProcess[str]:
        """The same, whatever comes out; `process` stays."""
        named = ("--binary", str(binary)) if binary else ()
        adopt_orphans()
        return self.run("upgrade", "--data-dir", str(self.data_dir), *named, *rest)

    def start_upgrade(self) -> subprocess.Popen[str]:
        """The same without waiting."""
        adopt_orphans()
        command = [str(BINARY), "upgrade", "--data-dir", str(self.data_dir)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def kill(self) -> None:
        """SIGKILL: no clean-up, as in a crash."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(STOP_SECONDS_MAX)

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")[-8000:]

    def await_log(self, text: str, start: int = 0, seconds: float = 60) -> str:
        """The log from its byte `start` on, once it holds `text`: a thread of its own writes it, behind the answers."""
        deadline = time.monotonic() + seconds
        while text not in (lines := self.log_path.read_bytes()[start:].decode(errors="replace")):
            assert time.monotonic() < deadline, f"{text!r} is not in the log:\n{lines[-8000:]}"
            time.sleep(0.02)
        return lines

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- clients --

    def is_secure(self) -> bool:
        """Whether its listeners speak TLS."""
        return "--tls" in self.command

    @property
    def context(self) -> ssl.SSLContext | None:
        """What connections to it need if it speaks TLS: its certificate is a throw-away one."""
        if not self.is_secure():
            return None
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context

    @property
    def control_url(self) -> str:
        scheme = "https" if self.context else "http"
        return f"{scheme}://127.0.0.1:{self.control_port}"

    def boto(self, **overrides: object):
        """The official Python client. One attempt per call, so that a refusal is seen as it is."""
        settings = {
            "region_name": REGION,
            "endpoint_url": self.control_url,
            "verify": self.context is None,
            "aws_access_key_id": ACCESS_KEY,
            "aws_secret_access_key": SECRET_KEY,
            "config": Config(retries={"total_max_attempts": 1}, connect_timeout=60, read_timeout=60),
            **overrides,
        }
        return boto3.session.Session().client("ivschat", **settings)

    def token(self, room_arn: str, user: str = "u", capabilities=ALL_CAPABILITIES, **rest) -> str:
        return self.boto_cached.create_chat_token(
            roomIdentifier=room_arn, userId=user, capabilities=list(capabilities), **rest
        )["token"]

    @property
    def boto_cached(self):
        if not hasattr(self, "_boto"):
            self._boto = self.boto()
        return self._boto

    def run(self, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Another `uproar` sub-command."""
        return subprocess.run(
            [str(BINARY), *arguments], capture_output=True, text=True, timeout=timeout
        )

    def descriptors(self) -> int:
        """Open file descriptors of the server process."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def resident_bytes(self, kind: str = "VmRSS") -> int:
        """Resident memory of the server process; of `kind` `RssAnon` without pages of files."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(f"{kind}:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError(f"no {kind} line")
