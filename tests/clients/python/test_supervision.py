"""A thread that dies ends the process, a thread that hangs is named by its health, and what needs a thread
while none is to be had goes on.

Faults come from strace, which makes one thread's system calls fail or wait: the server is the one that ships.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from aws import eventually, logging_environment
from rawws import Closed, Refused, WebSocket
from uproar import Server

# A hang that outlasts the limits of health and of a question to a shard (5 s each).
HANG_MICROSECONDS = 12_000_000
# A sync fails, so the database is opened anew, and what is read then, behind its header, is rubbish: a bug's
# panic, since the database trusts its own pages.
FAILING_DISK = ("fdatasync:error=EIO:when=1", "pread64:poke_exit=@arg2=FFFFFFFF:when=3+")


def thread_of(server: Server, name: str) -> int:
    """A thread names itself, when it first runs."""
    if name == "main":
        return server.process.pid

    def named() -> list[int]:
        tasks = Path(f"/proc/{server.process.pid}/task").iterdir()
        return [int(task.name) for task in tasks if (task / "comm").read_text().strip() == name]

    return eventually(named, len)[0]


@contextlib.contextmanager
def injected(tmp_path: Path, thread: int, fault: str | tuple[str, ...], *more: str):
    """Runs strace on one thread until the end; entered when it is attached."""
    trace = tmp_path / "trace"
    faults = (fault,) if isinstance(fault, str) else fault
    calls = "trace=" + ",".join(each.split(":")[0] for each in faults)
    injections = [word for each in faults for word in ("-e", f"inject={each}")]
    strace = subprocess.Popen(
        ["strace", *more, "-o", str(trace), "-e", calls, *injections, "-p", str(thread)],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert "attached" in strace.stderr.readline()
        yield
    finally:
        strace.kill()
        strace.wait(30)
        strace.stderr.close()


def health(server: Server, path: str = "/livez") -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"{server.control_url}{path}", timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def stir(server: Server, tokens: list[str]) -> None:
    """Gives every thread something to do."""
    with contextlib.suppress(OSError, urllib.error.URLError):
        health(server)
    with contextlib.suppress(ClientError, BotoCoreError):
        server.boto_cached.create_room()
    for token in tokens:
        with contextlib.suppress(OSError, Refused, Closed, TimeoutError):
            WebSocket(server.messaging_port, token, seconds=1).close()


@pytest.mark.parametrize(
    ("io", "name", "fault"),
    [
        ("io_uring", "shard-0", "io_uring_enter:error=EBADF"),
        ("io_uring", "shard-1", "io_uring_enter:error=EBADR"),
        # For ever, not once: it is borne for ten seconds.
        ("io_uring", "shard-1", "io_uring_enter:error=ENOMEM"),
        # The shard's own epoll; the runtime's is asked by the call without the p.
        ("epoll", "shard-0", "epoll_pwait:error=EBADF"),
        ("auto", "shard-1", "epoll_wait:error=EBADF"),
        ("auto", "archive", "epoll_wait:error=EBADF"),
        ("auto", "store", FAILING_DISK),
        ("auto", "main", "epoll_wait:error=EBADF"),
    ],
)
def test_the_end_of_a_thread_is_the_end_of_the_process(tmp_path, io, name, fault):
    """Goal: exit code 1, and a log line with the thread's name. A failed ring is an error, a failed wait
    a panic. Version 0.1.0 went on without the thread, said that it was healthy, and exited with 0."""
    server = Server(tmp_path / "data", extra=() if io == "auto" else ("--io", io)).start()
    # Rooms at home on both shards.
    rooms = [server.boto_cached.create_room()["arn"] for _ in range(16)]
    tokens = iter([server.token(arn) for _ in range(20) for arn in rooms])
    with injected(tmp_path, thread_of(server, name), fault):
        deadline = time.monotonic() + 60
        while server.process.poll() is None and time.monotonic() < deadline:
            stir(server, [next(tokens)])
    assert server.process.poll() == 1, server.log()
    said = server.log_path.read_text().splitlines()
    assert any(f'"thread":"{name}"' in line for line in said), server.log()


def test_health_names_a_thread_that_hangs_and_no_question_waits_for_it(tmp_path):
    """Method: a shard whose wait takes 12 s longer than it should."""
    with Server(tmp_path / "data") as server:
        boto = server.boto()
        rooms = [boto.create_room()["arn"] for _ in range(16)]
        assert health(server) == (200, "ok\n") and health(server, "/readyz")[0] == 200
        shard = thread_of(server, "shard-1")
        with injected(tmp_path, shard, f"epoll_wait:delay_exit={HANG_MICROSECONDS}:when=2"):
            status, text = eventually(lambda: health(server), lambda seen: seen[0] != 200, 60)
            assert status == 503 and "shard-1" in text and "shard-0" not in text, text
        eventually(lambda: health(server), lambda seen: seen == (200, "ok\n"), 60)
        with injected(tmp_path, shard, f"epoll_wait:delay_exit={HANG_MICROSECONDS}:when=2"):
            answers = set()
            deadline = time.monotonic() + 60
            while 503 not in answers and time.monotonic() < deadline:
                for arn in rooms:
                    try:
                        boto.send_event(roomIdentifier=arn, eventName="e")
                        answers.add(200)
                    except ClientError as error:
                        answers.add(error.response["ResponseMetadata"]["HTTPStatusCode"])
            assert 503 in answers and answers <= {200, 429, 503}, answers
        eventually(lambda: health(server, "/readyz")[0], lambda seen: seen == 200, 60)
        assert server.stop() == 0, server.log()


def test_chat_logs_are_delivered_while_there_is_no_thread_to_be_had(tmp_path):
    """Method: from the start on no thread of the server can make another. In version 0.1.0 the first
    delivery panicked, and its destination was dead until a restart."""
    delivered = tmp_path / "delivered"
    server = Server(
        tmp_path / "data", wrapper=logging_environment(None, directory=str(delivered))
    )
    with server:
        boto = server.boto()
        archive = thread_of(server, "archive")
        with injected(tmp_path, archive, "clone3,clone:error=EAGAIN", "-f"):
            where = {"s3": {"bucketName": "chat-bucket"}}
            made = boto.create_logging_configuration(destinationConfiguration=where)["arn"]
            room = boto.create_room(loggingConfigurationIdentifiers=[made])["arn"]
            with WebSocket(server.messaging_port, server.token(room)) as speaker:
                speaker.say("kept", "r")
                speaker.receive_until(lambda frame: frame.get("RequestId") == "r")

            def lines() -> int:
                return sum(path.is_file() for path in delivered.rglob("*"))

            eventually(lines, lambda count: count > 0, 60)
        assert "uproar_supervised_restarts_total{task=\"log-delivery\"} 0" in server.metrics()
        assert server.stop() == 0, server.log()
