"""Listening sockets that outlive the server, and what the server tells the service manager that keeps them.

The manager is emulated (`descriptor_store`); `test_systemd.py` has the real one.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from descriptor_store import DescriptorStore
from ports import free_port
from rawws import WebSocket
from test_supervision import HANG_MICROSECONDS, injected, thread_of
from uproar import Server


class KeptServer(Server):
    """A server under the emulated manager."""

    def __init__(self, data_dir: Path, shards: int = 2, **rest) -> None:
        super().__init__(data_dir, **rest)
        self.store = DescriptorStore()
        self.watchdog: float | None = None
        self.set_shards(shards)

    def set_shards(self, shards: int) -> None:
        self.command[self.command.index("--shards") + 1] = str(shards)

    def launch(self) -> KeptServer:
        with self.log_path.open("ab") as log:
            self.process = self.store.launch(self.command, self.watchdog, stdout=log, stderr=log)
        return self

    def inherited(self) -> int:
        return int(re.search(r"^uproar_listeners_inherited (\d+)$", self.metrics(), re.M).group(1))

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self.store.close()


def listening_inodes(port: int) -> set[str]:
    """The listening sockets of a port, whoever holds them."""
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if words[3] == "0A" and int(words[1].split(":")[1], 16) == port:
            found.add(words[9])
    return found


@pytest.fixture
def kept(tmp_path):
    with KeptServer(tmp_path) as server:
        yield server


def test_viewers_and_callers_wait_for_the_next_process(kept):
    """Method: kill the server; while nobody serves, a viewer and a caller of the API connect; both are served by the
    next process, on the same sockets, whose names come in any order."""
    assert kept.store.names() == ["control", "messaging-0", "messaging-1"]
    assert kept.inherited() == 0
    arn = kept.boto_cached.create_room()["arn"]
    before = listening_inodes(kept.messaging_port) | listening_inodes(kept.control_port)
    for _ in range(3):
        token = kept.token(arn)
        kept.kill()
        answers: dict = {}

        def view(token: str = token, answers: dict = answers) -> None:
            answers["viewer"] = WebSocket(kept.messaging_port, token)

        def call(answers: dict = answers) -> None:
            answers["caller"] = kept.boto().get_room(identifier=arn)["arn"]

        waiting = [threading.Thread(target=each) for each in (view, call)]
        for thread in waiting:
            thread.start()
        time.sleep(0.3)
        assert answers == {}, "nobody serves"
        kept.start()
        for thread in waiting:
            thread.join(60)
        assert answers.pop("caller") == arn
        viewer = answers.pop("viewer")
        viewer.say("hello", "r")
        frame, _ = viewer.receive_until(lambda frame: frame.get("RequestId") == "r")
        assert frame["Type"] == "MESSAGE"
        viewer.close()
        assert kept.inherited() == 3
        assert kept.store.names() == ["control", "messaging-0", "messaging-1"]
        assert listening_inodes(kept.messaging_port) | listening_inodes(kept.control_port) == before


@pytest.mark.parametrize(("first", "then"), [(1, 3), (3, 1)])
def test_another_number_of_shards_loses_no_queue(tmp_path, first, then):
    """Method: fill the queues of all sockets while nobody serves, then start with more or fewer shards: each client
    is served, on whichever socket the kernel put it."""
    with KeptServer(tmp_path, first) as server:
        arn = server.boto_cached.create_room()["arn"]
        tokens = [server.token(arn) for _ in range(60)]
        server.kill()
        viewers: list[WebSocket] = []

        def knock(token: str) -> None:
            viewers.append(WebSocket(server.messaging_port, token))

        threads = [threading.Thread(target=knock, args=(token,)) for token in tokens]
        for thread in threads:
            thread.start()
        server.set_shards(then)
        server.start()
        for thread in threads:
            thread.join(60)
        assert len(viewers) == len(tokens), server.log()
        for viewer in viewers:
            viewer.close()
        assert server.inherited() == first + 1
        sockets = max(first, then)
        assert len(server.store.names()) == sockets + 1
        assert len(listening_inodes(server.messaging_port)) == sockets


def test_a_changed_port_removes_the_old_listener_from_the_store(kept):
    old = kept.messaging_port
    kept.kill()
    kept.messaging_port = free_port()
    kept.command[kept.command.index("--messaging-listen") + 1] = f"127.0.0.1:{kept.messaging_port}"
    kept.start()
    assert kept.inherited() == 1, "the control listener"
    assert kept.store.names() == ["control", "messaging-0", "messaging-1"]
    assert listening_inodes(old) == set(), "nobody waits where nobody will serve"
    assert f"it listens on 127.0.0.1:{old}" in kept.await_log("is closed")
    arn = kept.boto_cached.create_room()["arn"]
    WebSocket(kept.messaging_port, kept.token(arn)).close()


@pytest.mark.parametrize("names", [("uproar.socket", "uproar.socket"), ("messaging", "control")])
def test_sockets_of_a_socket_unit_are_taken(tmp_path, names):
    """Method: as a `.socket` unit does it: sockets of others' making, without SO_REUSEPORT, with a backlog of theirs,
    under the unit's name or FileDescriptorName=. Both shards share the one; nothing is asked to be kept."""
    server = KeptServer(tmp_path)
    for name, port in zip(names, (server.messaging_port, server.control_port)):
        made = socket.create_server(("127.0.0.1", port), backlog=1)
        server.store.kept.append((name, made.detach()))
    with server:
        assert server.inherited() == 2
        assert len(listening_inodes(server.messaging_port)) == 1
        assert server.store.names() == sorted(names)
        arn = server.boto_cached.create_room()["arn"]
        sockets = [WebSocket(server.messaging_port, server.token(arn)) for _ in range(20)]
        for each in sockets:
            each.close()


def test_passed_descriptors_that_are_no_listeners_are_closed(tmp_path):
    """Method: a pipe, a socket that does not listen and a connected one, under our names, beside nothing that fits."""
    server = KeptServer(tmp_path)
    reader, writer = os.pipe()
    plain = socket.socket()
    left, right = socket.socketpair()
    server.store.kept += [("control", reader), ("messaging-0", plain.detach())]
    server.store.kept += [("messaging-1", left.detach())]
    with server:
        assert server.inherited() == 0
        assert server.store.names() == ["control", "messaging-0", "messaging-1"]
        assert right.recv(1) == b"", "closed by all"
    os.close(writer)


def test_no_child_of_the_environment_is_fooled(tmp_path):
    """Variables that are another process's mean nothing: their descriptors are not this one's to close."""
    variables = {"LISTEN_PID": "1", "LISTEN_FDS": "3", "LISTEN_FDNAMES": "control:messaging-0"}
    wrapper = ("env", *(f"{name}={value}" for name, value in variables.items()))
    with Server(tmp_path, wrapper=wrapper) as server:
        assert "uproar_listeners_inherited 0\n" in server.metrics()


def test_the_manager_hears_of_start_reload_and_stop(kept):
    """Goal: exact datagrams. STATUS and WATCHDOG apart, which come by time."""
    kept.process.send_signal(signal.SIGHUP)
    kept.store.await_said("READY=1", count=2)
    assert kept.stop() == 0
    kept.store.await_said("STOPPING=1")
    said = [text for _, text in kept.store.said if not text.startswith(("STATUS=", "EXTEND_"))]
    stored = [f"FDSTORE=1\nFDNAME={name}\nFDPOLL=0" for name in ("control", "messaging-0", "messaging-1")]
    reloading = said.pop(4)
    stamp = re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=(\d+)", reloading)
    assert 0 <= time.monotonic() - int(stamp.group(1)) / 1e6 < 600
    assert said == [*stored, "READY=1", "READY=1", "STOPPING=1"]
    status = [text for _, text in kept.store.said if text.startswith("STATUS=")]
    assert status[0] == "STATUS=0 viewers, 1 rooms"


def test_the_manager_hears_how_far_a_drain_is(tmp_path):
    """Goal: SIGTERM with a drain asks for more time, and people see what is left. Method: over 16 s, after which the
    first extension is over, so that another one came; a status comes every five seconds."""
    file = tmp_path / "uproar.toml"
    file.write_text("[drain]\nover_s = 16\n")
    with KeptServer(tmp_path / "data", extra=("--config", str(file))) as kept:
        arn = kept.boto_cached.create_room()["arn"]
        viewers = [WebSocket(kept.messaging_port, kept.token(arn)) for _ in range(8)]
        assert kept.stop() == 0
        said = [text for _, text in kept.store.said]
        said = said[said.index("STOPPING=1") :]
        assert said.count("EXTEND_TIMEOUT_USEC=15000000") >= 2, said
        left = [re.fullmatch(r"STATUS=draining: (\d) viewers left, (\d+) s", text) for text in said]
        left = [tuple(map(int, found.groups())) for found in left if found]
        assert left == sorted(left, reverse=True) and len(set(left)) == len(left) >= 2, said
        assert all(viewers <= 8 and seconds < 16 for viewers, seconds in left), left
        for viewer in viewers:
            viewer.close()


def test_without_a_manager_nothing_is_sent(tmp_path):
    """Method: strace sees no datagram."""
    trace = tmp_path / "trace"
    calls = "trace=sendmsg,sendto,sendmmsg"
    wrapper = ("strace", "-D", "-f", "-o", str(trace), "-e", calls, "env", "-u", "NOTIFY_SOCKET")
    with Server(tmp_path / "data", wrapper=wrapper) as server:
        assert server.ready()
    assert "READY=1" not in trace.read_text()


@pytest.mark.parametrize(("thread", "call"), [("shard-1", "epoll_wait"), ("store", "futex")])
def test_the_watchdog_starves_while_a_thread_hangs(tmp_path, thread, call):
    """Method: strace holds one thread in a system call: no WATCHDOG=1 comes until it is let go."""
    server = KeptServer(tmp_path / "data")
    server.watchdog = 1.0
    with server:
        server.store.await_said("WATCHDOG=1", count=2)
        hang = f"{call}:delay_exit={HANG_MICROSECONDS}:when=2"
        with injected(tmp_path, thread_of(server, thread), hang):
            server.await_log("is not fed")
            said = [at for at, text in list(server.store.said) if text == "WATCHDOG=1"]
            # The one that found the thread silent asked for 5 s, in which none was sent.
            assert time.monotonic() - said[-1] > 4.0
            assert thread in server.await_log("is not fed")
        server.store.await_said("WATCHDOG=1", count=len(said) + 2)
