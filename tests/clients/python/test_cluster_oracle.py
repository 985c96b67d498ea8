"""The oracle and the viewers are checked themselves: against one server, whose order is known, and by faults planted
into what was seen. An oracle that finds nothing in these proves nothing elsewhere."""

from __future__ import annotations

import json
import struct
import time

import pytest

from cluster_log import Order
from cluster_oracle import RoomLog, check
from cluster_records import BATCH, TAKEOVER, record
from cluster_trial import stood_still
from cluster_viewers import Request, Stream, Viewers
from nats_brokers import Stored
from rawws import TEXT, encode
from uproar import Server

ROOMS, VIEWERS = 3, 24


@pytest.fixture(scope="module")
def seen():
    """What viewers of one server saw, some of whom were cut and came back, and the longest streams as the log."""
    with Server() as server:
        rooms = [
            server.boto().create_room(maximumMessageRatePerSecond=100)["arn"] for _ in range(ROOMS)
        ]
        viewers = Viewers(server.messaging_port, server.token)
        try:
            viewers.join(rooms, VIEWERS)
            with viewers.chat(100):
                while len(viewers.requests) < 100:
                    time.sleep(0.02)
                for stream in list(viewers.open.values())[: VIEWERS // 4]:
                    viewers.leave(stream, "cut by the test")
                viewers.await_all()
                while len(viewers.requests) < 300:
                    time.sleep(0.02)
            viewers.settle()
        finally:
            viewers.close()
        yield viewers


def logs(viewers: Viewers) -> dict[str, RoomLog]:
    order = {}
    for room in {stream.room for stream in viewers.streams}:
        order[room] = RoomLog()
        for _, payload in max((s.frames for s in viewers.streams if s.room == room), key=len):
            order[room].add(payload)
    return order


def test_a_server_keeps_its_promises(seen):
    faults = check(logs(seen), seen.streams, list(seen.requests.values()))
    assert not faults, faults[:20]
    assert len(seen.streams) > VIEWERS, "nobody came back"
    assert sum(request.echoed is not None for request in seen.requests.values()) > 250


def with_frames(stream, frames):
    return type(stream)(**{**vars(stream), "frames": frames})


@pytest.mark.parametrize("fault, expected", [
    ("lost", "frames are missing"),
    ("twice", "again or late"),
    ("swapped", "missing"),
    ("foreign", "not in the log"),
    ("end", "connected to the end"),
    ("beginning", "was sent after its 101"),
    ("silent", "connected to the end"),
])
def test_a_fault_of_a_stream_is_found(seen, fault, expected):
    victim = max((s for s in seen.streams if s.ended is None), key=lambda s: len(s.frames))
    frames = list(victim.frames)
    changed = {
        "lost": frames[:10] + frames[11:],
        "twice": frames[:10] + frames[9:],
        "swapped": frames[:10] + [frames[11], frames[10]] + frames[12:],
        "foreign": frames[:10] + [(0, b'{"Type":"MESSAGE"}')] + frames[10:],
        "end": frames[:-1],
        "beginning": frames[5:],
        "silent": [],
    }[fault]
    streams = [with_frames(s, changed) if s is victim else s for s in seen.streams]
    faults = check(logs(seen), streams, list(seen.requests.values()))
    assert any(expected in found for found in faults), faults


def test_a_fault_of_the_log_is_found(seen):
    order = logs(seen)
    room, log = next(iter(order.items()))
    echoed = next(r for r in seen.requests.values() if r.echoed and r.stream.room == room)
    twice, without, back = RoomLog(), RoomLog(), RoomLog()
    for payload in log.payloads:
        for _ in range(2 if f'"{echoed.id}"'.encode() in payload else 1):
            twice.add(payload)
        if f'"{echoed.id}"'.encode() not in payload:
            without.add(payload)
    for payload in reversed(log.payloads):
        back.add(payload)
    requests = list(seen.requests.values())
    for changed, expected in [
        (twice, "2 times in the log"), (twice, "in the log twice"),
        (without, "its sender saw it"), (back, "SendTime goes back"),
    ]:
        faults = check({**order, room: changed}, seen.streams, requests)
        assert any(expected in fault for fault in faults), (expected, faults[:5])


def test_a_fault_of_an_answer_is_found(seen):
    some = next(r for r in seen.requests.values() if r.echoed and r.stream.ended is None)
    requests = [r for r in seen.requests.values() if r is not some]
    lied = type(some)(some.id, some.stream, some.sent, None, 429)
    silent = type(some)("nobody.1", some.stream, some.sent)
    faults = check(logs(seen), seen.streams, [*requests, lied, silent])
    assert any("refused with 429" in fault for fault in faults)
    assert any("no answer" in fault for fault in faults)


HOME, OTHER = 0xA, 0xB


def entry(number: int, payload: bytes) -> bytes:
    frame = encode(TEXT, payload, mask=False)
    head = struct.pack("<QQ12sQB", 7, number, b"abcdefghijkl", 1, 0)
    return head + struct.pack("<I", len(frame)) + frame


def said(number: int) -> bytes:
    frame = {"Type": "MESSAGE", "Id": f"id{number}", "RequestId": "", "SendTime": f"2026-01-01T00:00:0{number}Z"}
    return json.dumps(frame).encode()


def slot_log(*payloads: bytes, first: int = 5) -> Order:
    stored = [Stored(first + at, "up.t.log.0.8", payload) for at, payload in enumerate(payloads)]
    return Order({"up.t.log.0.8": stored}, [])


def test_a_faulty_home_is_found():
    """Goal: the log itself is judged: who may write, what follows what, and each request's number."""
    takeover = record(TAKEOVER, 0, HOME, 0)
    first = record(BATCH, 5, HOME, 5, 1, entries=(entry(1, said(1)),))
    good = slot_log(takeover, first, record(BATCH, 6, HOME, 5, 2, entries=(entry(2, said(2)), entry(3, b""))))
    assert not good.faults and good.rooms["abcdefghijkl"].payloads == [said(1), said(2)]
    for expected, second in [
        ("a batch of b", record(BATCH, 6, OTHER, 5, 1, entries=(entry(2, said(2)),))),
        ("epoch 4", record(BATCH, 6, HOME, 4, 1, entries=(entry(2, said(2)),))),
        ("says 5", record(BATCH, 5, HOME, 5, 2, entries=(entry(2, said(2)),))),
        ("number 1 of 7 again", record(BATCH, 6, HOME, 5, 2, entries=(entry(1, said(2)),))),
        ("number 2 of 7 behind 3", record(BATCH, 6, HOME, 5, 2, entries=(entry(3, said(2)), entry(2, said(3))))),
    ]:
        faults = slot_log(takeover, first, second).faults
        assert any(expected in fault for fault in faults), (expected, faults)


def test_a_refusal_is_excused_only_if_its_room_stood_still():
    """Goal: a request that is given up while others of its room are heard is a fault, however slow the machine."""
    here, there, elsewhere = (
        Stream(user, room, "node-1", socket=None, joined=0.0)
        for user, room in [("a", "room"), ("b", "room"), ("b", "else")]
    )
    lost = Request("1", here, sent=0.0, refused=500)
    assert stood_still(lost, [lost, Request("2", there, sent=1.0, echoed=17.0)])
    assert stood_still(lost, [lost, Request("2", elsewhere, sent=1.0, echoed=1.1)])
    assert not stood_still(lost, [lost, Request("2", there, sent=1.0, echoed=1.1)])
    assert not stood_still(Request("3", here, sent=0.0, refused=429), [])
