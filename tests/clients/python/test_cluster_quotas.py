"""Quotas of the account hold for all nodes together, wherever the senders are: rates of messages and of the API, and the
number of viewers."""

from __future__ import annotations

import threading
import time

import pytest

from cluster_trial import started
from rawws import Refused, WebSocket

SENDS, TOKENS, CONNECTIONS = 60, 50, 24
SECONDS = 6
WAIT_SECONDS_MAX = 60.0

cluster = started(settings={
    "quotas.account_sends": SENDS,
    "quotas.connections": CONNECTIONS,
    "quotas.operations": [f"CreateChatToken={TOKENS}"],
})


class Sender(threading.Thread):
    """Sends at a rate and takes the answers: when each echo came, and how many were refused."""

    def __init__(self, socket: WebSocket, rate: float) -> None:
        super().__init__(daemon=True)
        self.socket, self.rate = socket, rate
        self.granted: list[float] = []
        self.refused = 0

    def run(self) -> None:
        count = int(self.rate * SECONDS)
        begun = time.monotonic()
        reader = threading.Thread(target=self.read, args=(count,), daemon=True)
        reader.start()
        for number in range(count):
            time.sleep(max(0.0, begun + number / self.rate - time.monotonic()))
            assert self.socket.send_json({"Action": "SEND_MESSAGE", "Content": "x", "RequestId": f"{id(self)}.{number}"})
        reader.join(WAIT_SECONDS_MAX)

    def read(self, count: int) -> None:
        while len(self.granted) + self.refused < count:
            frame = self.socket.receive()
            if frame["Type"] == "ERROR":
                assert frame["ErrorCode"] == 429, frame
                self.refused += 1
            elif frame.get("RequestId", "").startswith(f"{id(self)}."):
                self.granted.append(time.monotonic())


def within_a_second(moments: list[float]) -> int:
    return max(sum(begin <= moment < begin + 1 for moment in moments) for begin in moments)


@pytest.mark.parametrize("where", ["all nodes", "one node", "one room"])
def test_an_accounts_rate_is_one_for_all_nodes(cluster, where):
    """Goal: the account's rate is granted whole and no more than once, wherever senders and homes of rooms are. Method:
    twice the rate for some seconds; grants are at least the rate, and no more than a burst and 5 % beyond it."""
    nodes = cluster.nodes if where == "all nodes" else cluster.nodes[:1]
    rooms = cluster.rooms(1 if where == "one room" else 9)
    places = [(nodes[number % len(nodes)], rooms[number % len(rooms)]) for number in range(9)]
    sockets = [
        WebSocket(node.messaging_port, patient_token(node, room, f"u{number}"))
        for number, (node, room) in enumerate(places)
    ]
    # A whole budget, wherever the test before took it.
    time.sleep(2)
    senders = [Sender(socket, 2 * SENDS / len(sockets)) for socket in sockets]
    begun = time.monotonic()
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(WAIT_SECONDS_MAX)
    took = time.monotonic() - begun
    for socket in sockets:
        socket.close()
    moments = sorted(moment for sender in senders for moment in sender.granted)
    refused = sum(sender.refused for sender in senders)
    print(
        f"{where}: {len(moments)} granted and {refused} refused in {took:.1f} s at {SENDS}/s,"
        f" at most {within_a_second(moments)} in a second"
    )
    assert len(moments) + refused == sum(int(sender.rate * SECONDS) for sender in senders), "each has one answer"
    assert SENDS * SECONDS * 0.95 <= len(moments) <= SENDS * (took + 1) * 1.05
    # Echoes may come closer together than they were granted, if the log or this machine stands still meanwhile: not judged.


def patient_token(node, room: str, user: str) -> str:
    """A token, within the rate of the API."""
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while True:
        try:
            return node.mint(room, user)
        except AssertionError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


@pytest.mark.parametrize("count", [1, 3])
def test_a_rate_of_the_api_is_one_for_all_nodes(cluster, count):
    """Goal: callers of one node or of all get an operation's whole rate together. Method: as fast as it goes for some
    seconds; what is granted is between the rate and a burst more."""
    (room,) = cluster.rooms(1)
    body = {"roomIdentifier": room, "userId": "u"}
    time.sleep(2)
    begun = time.monotonic()
    statuses: list[int] = []

    def call(node) -> None:
        while time.monotonic() - begun < SECONDS:
            statuses.append(node.call("CreateChatToken", body)[0])

    threads = [threading.Thread(target=call, args=(node,)) for node in cluster.nodes[:count] for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_SECONDS_MAX)
    took = time.monotonic() - begun
    granted, refused = statuses.count(200), statuses.count(429)
    print(f"{count} nodes: {granted} granted and {refused} refused in {took:.1f} s at {TOKENS}/s")
    assert granted + refused == len(statuses), set(statuses)
    assert granted <= TOKENS * (took + 1) * 1.05
    if refused:
        assert granted >= TOKENS * SECONDS * 0.95


def test_viewers_of_all_nodes_count_together(cluster):
    """Goal: the quota of connections is the account's: what is open on other nodes counts, as of a second ago at most, and
    what was closed there frees its place. Method: two nodes fill the quota; the third refuses, until one leaves."""
    (room,) = cluster.rooms(1)
    first, second, third = cluster.nodes
    opened = []
    for number in range(CONNECTIONS):
        node = (first, second)[number % 2]
        opened.append(WebSocket(node.messaging_port, patient_token(node, room, f"v{number}")))
    until(lambda: refused(third, room), "the third node refuses")
    until(lambda: refused(first, room), "so do those that hold the viewers")
    opened.pop().close()
    until(lambda: not refused(third, room), "there is a place again")
    for socket in opened:
        socket.close()


def refused(node, room: str) -> bool:
    try:
        WebSocket(node.messaging_port, patient_token(node, room, "w")).close()
    except Refused as refusal:
        assert refusal.response.status == 429, refusal.response.status
        return True
    return False


def until(holds, what: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
