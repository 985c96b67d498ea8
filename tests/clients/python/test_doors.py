"""Who fills a listener shuts nobody out: half-open connections by the thousand, from one address and from
thousands, while honest viewers and application servers come and go."""

from __future__ import annotations

import resource
import re
import socket
import threading
import time
import urllib.request

import pytest

from rawws import Closed, Refused, WebSocket
from aws import eventually
from uproar import Server

FLOOD = 9_000
RECORD = bytes.fromhex("1603010200010001fc0303")  # the first bytes of a TLS ClientHello, and no more


@pytest.fixture(autouse=True, scope="module")
def descriptors():
    """This process holds the clients' ends; the server has a limit of its own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < FLOOD + 1000:
        pytest.fail(f"{hard} open files are too few for {FLOOD} connections: raise the hard limit")
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def figure(server: Server, name: str) -> int:
    text = server.metrics()
    found = re.search(rf"^uproar_{re.escape(name)} (\d+)$", text, re.MULTILINE)
    assert found, f"no figure {name}"
    return int(found[1])


def half_open(port: int, source: str, first: bytes) -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    client.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
    client.bind((source, 0))
    client.connect(("127.0.0.1", port))
    client.sendall(first)
    return client


class Flood:
    """Holds as many half-open connections as it can: whichever is cut is opened again."""

    def __init__(self, port: int, first: bytes, sources) -> None:
        self.port, self.first, self.sources = port, first, sources
        self.clients = [self.open(number) for number in range(FLOOD)]
        self.stopped = threading.Event()
        self.reopened = 0
        self.thread = threading.Thread(target=self.keep)
        self.thread.start()

    def open(self, number: int) -> socket.socket:
        return half_open(self.port, self.sources(number), self.first)

    def keep(self) -> None:
        while not self.stopped.is_set():
            for number, client in enumerate(self.clients):
                if self.stopped.is_set():
                    return
                try:
                    client.setblocking(False)
                    gone = client.recv(4096) == b""
                except BlockingIOError:
                    gone = False
                except OSError:
                    gone = True
                if gone:
                    client.close()
                    try:
                        self.clients[number] = self.open(number)
                        self.reopened += 1
                    except OSError:
                        pass
            # A flood, and a processor for others.
            self.stopped.wait(0.05)

    def __enter__(self) -> Flood:
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self.thread.join()
        for client in self.clients:
            client.close()


def of_one_address(_: int) -> str:
    return "127.0.0.2"


def of_many_addresses(number: int) -> str:
    return f"127.1.{number >> 8}.{number & 255}"


def enter(server: Server, tokens: list[str], context) -> list[float]:
    """Honest viewers from 127.0.0.1, one after the other; how long each handshake took."""
    taken = []
    for token in tokens:
        started = time.monotonic()
        WebSocket(server.messaging_port, token, context=context).close()
        taken.append(time.monotonic() - started)
    return taken


def tokens_of(server: Server, count: int) -> list[str]:
    boto = server.boto()
    arn = boto.create_room(name="door")["arn"]
    return [
        boto.create_chat_token(roomIdentifier=arn, userId=f"u{n}")["token"] for n in range(count)
    ]


@pytest.mark.parametrize("sources", [of_one_address, of_many_addresses])
@pytest.mark.parametrize("kind", ["half a TLS hello", "half a request head", "silence"])
def test_half_open_connections_shut_no_viewer_out(kind, sources):
    tls = kind == "half a TLS hello"
    first = {"half a TLS hello": RECORD, "half a request head": b"GET / HTTP/1.1\r\nHost:", "silence": b""}
    with Server(extra=("--tls",) if tls else ()) as server:
        tokens = tokens_of(server, 200 if tls else 50)
        with Flood(server.messaging_port, first[kind], sources):
            # Silent ones are accepted a second later: viewers come when the table is full.
            displaced = 'handshakes_rejected_total{reason="displaced"}'
            eventually(lambda: figure(server, displaced), lambda count: count > 0, 60)
            taken = enter(server, tokens, server.context)
        assert len(taken) == len(tokens), "each of them was let in at once"
        print(f"{kind}: slowest {max(taken):.3f} s")
        assert figure(server, 'handshakes_rejected_total{reason="limit"}') == 0


def test_descriptors_run_out_and_viewers_come_in_all_the_same():
    """Fewer descriptors than half-open connections: the oldest give way all the same."""
    with Server(wrapper=("prlimit", "--nofile=800:800")) as server:
        tokens = tokens_of(server, 50)
        with Flood(server.messaging_port, b"GET /", of_one_address):
            assert len(enter(server, tokens, None)) == 50


def test_connections_of_one_address_have_a_bound_if_wanted(monkeypatch):
    monkeypatch.setenv("UPROAR_MESSAGING__ADDRESS_CONNECTIONS", "20")
    with Server() as server:
        # Each of two shards admits 10 and 16, at most 20.
        tokens = tokens_of(server, 90)
        inside = []
        for token in tokens[:60]:
            try:
                inside.append(WebSocket(server.messaging_port, token))
            except Refused as refused:
                assert refused.response.status == 429
                assert "address" in refused.response.json()["ErrorMessage"]
        assert 20 <= len(inside) <= 40
        assert figure(server, 'handshakes_rejected_total{reason="address"}') == 60 - len(inside)
        # Another address is not concerned; a token that was refused is not spent.
        refused = tokens[60:]
        WebSocket(server.messaging_port, refused.pop(), source="127.0.0.9").close()
        # Whoever leaves makes room.
        for socket_ in inside:
            socket_.close()
        deadline = time.monotonic() + 60
        while True:
            try:
                WebSocket(server.messaging_port, refused[-1]).close()
                break
            except Refused:
                assert time.monotonic() < deadline
                time.sleep(0.05)


def test_refusals_of_one_address_beyond_a_rate_are_not_answered(monkeypatch):
    monkeypatch.setenv("UPROAR_MESSAGING__ADDRESS_REFUSALS", "5")
    with Server() as server:
        answered = unanswered = 0
        good = tokens_of(server, 1)[0]
        for _ in range(300):
            try:
                WebSocket(server.messaging_port, "no-token").close()
            except Refused as refused:
                assert refused.response.status == 401
                answered += 1
            except (Closed, ConnectionError):
                unanswered += 1
        assert answered and unanswered > 100
        assert figure(server, "handshakes_unanswered_total") == unanswered
        # The fool's neighbour has a valid token.
        WebSocket(server.messaging_port, good).close()


# -- the control listener --


@pytest.mark.parametrize("sources", [of_one_address, of_many_addresses])
def test_silent_connections_shut_neither_callers_nor_health_out(sources):
    with Server() as server:
        boto, started = server.boto(), time.monotonic()
        with Flood(server.control_port, b"", sources):
            for number in range(20):
                boto.create_room(name=f"r{number}")
                fresh = server.boto()
                fresh.list_rooms()
                for page in ["livez", "readyz", "metrics"]:
                    with urllib.request.urlopen(f"{server.control_url}/{page}", timeout=60) as got:
                        assert got.status == 200
        assert figure(server, 'control_connections_refused_total{reason="displaced"}') > 0
        assert figure(server, 'control_connections_refused_total{reason="busy"}') == 0
        # Thousands were cut: a line a second says so.
        lines = [line for line in server.log_path.read_text().splitlines() if "control:" in line]
        seconds = time.monotonic() - started
        assert len(lines) <= seconds + 10, f"{len(lines)} lines in {seconds} s"
