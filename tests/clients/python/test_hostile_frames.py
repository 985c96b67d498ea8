"""What a client inside may send instead of RFC 6455 frames: closed with the right code, nothing of it
reaches the room, and the room chats on."""

from __future__ import annotations

import json
import select
import struct
import time

import pytest

from rawws import BINARY, CLOSE, CONT, PING, PONG, TEXT, Closed, WebSocket, encode

SAY = b'{"Action":"SEND_MESSAGE","Content":"leaked"}'


def close_frame(code: int, reason: bytes = b"") -> bytes:
    return encode(CLOSE, struct.pack("!H", code) + reason)


# name: (bytes, legal close codes)
VIOLATIONS: dict[str, tuple[bytes, set[int]]] = {
    "unmasked text": (encode(TEXT, SAY, mask=False), {1002}),
    "unmasked ping": (encode(PING, b"x", mask=False), {1002}),
    **{f"RSV bits {bits:03b}": (encode(TEXT, SAY, rsv=bits), {1002}) for bits in range(1, 8)},
    **{f"opcode {code:#x}": (encode(code, SAY), {1002}) for code in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "ping of 126": (encode(PING, b"x" * 126), {1002}),
    "pong of 126": (encode(PONG, b"x" * 126), {1002}),
    "close of 126": (encode(CLOSE, b"\x03\xe8" + b"x" * 124), {1002}),
    "ping that claims 64 KB": (encode(PING, b"", claim=65535), {1002}),
    "fragmented ping": (encode(PING, b"x", fin=False), {1002}),
    "fragmented close": (encode(CLOSE, b"\x03\xe8", fin=False), {1002}),
    "continuation first": (encode(CONT, SAY), {1002}),
    "continuation after a whole message": (
        encode(TEXT, b'{"Action":"SEND_MESSAGE","Content":"fine"}') + encode(CONT, b"x"),
        {1002},
    ),
    "text inside a fragmented message": (
        encode(TEXT, SAY, fin=False) + encode(TEXT, SAY),
        {1002},
    ),
    "length 2^63": (encode(TEXT, b"", claim=1 << 63), {1002, 1009}),
    "length 2^64-1": (encode(TEXT, b"", claim=(1 << 64) - 1), {1002, 1009}),
    "length 2^63 on a continuation": (
        encode(TEXT, b"{", fin=False) + encode(CONT, b"", claim=1 << 63),
        {1002, 1009},
    ),
    "length 2^62": (encode(TEXT, b"", claim=1 << 62), {1009}),
    "length 2^32+2": (encode(TEXT, b"{}", claim=(1 << 32) + 2), {1009}),
    "length 1 GiB": (encode(TEXT, b"{}", claim=1 << 30), {1009}),
    "1,000 one-byte fragments": (
        encode(TEXT, b"{", fin=False) + encode(CONT, b" ", fin=False) * 1000,
        {1008, 1009},
    ),
    "10,000 empty fragments": (
        encode(TEXT, b"", fin=False) + encode(CONT, b"", fin=False) * 10_000,
        {1008, 1009},
    ),
    "fragments that add up to 1 MB": (
        encode(TEXT, b"{", fin=False) + encode(CONT, b" " * 16_000, fin=False) * 64,
        {1008, 1009},
    ),
    "invalid UTF-8": (encode(TEXT, b"\xff\xfe"), {1007}),
    "invalid UTF-8 in a legal message": (
        encode(TEXT, b'{"Action":"SEND_MESSAGE","Content":"\xc3\x28"}'),
        {1007},
    ),
    "overlong UTF-8": (encode(TEXT, b'"\xc0\xaf"'), {1007}),
    "UTF-8 surrogate": (encode(TEXT, b'"\xed\xa0\x80"'), {1007}),
    "UTF-8 above U+10FFFF": (encode(TEXT, b'"\xf4\x90\x80\x80"'), {1007}),
    "UTF-8 cut at the end": (encode(TEXT, b'"\xf0\x9f\x94'), {1007}),
    "invalid UTF-8 across fragments": (
        encode(TEXT, b'"\xf0\x9f', fin=False) + encode(CONT, b'\x28\x28"'),
        {1007},
    ),
    "close of one byte": (encode(CLOSE, b"\x03"), {1002}),
    "close with invalid UTF-8": (close_frame(1000, b"\xff\xff"), {1007}),
    **{
        f"close code {code}": (close_frame(code), {1002})
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)
    },
}


@pytest.mark.parametrize("case", VIOLATIONS)
def test_a_protocol_violation_closes_only_the_one_who_made_it(arena, case):
    data, codes = VIOLATIONS[case]
    attacker = arena.join()
    attacker.send(data)
    closed = attacker.receive_close()
    if closed.code is None and len(data) > 4096:
        # The Close frame may be overtaken by the reset that unread input causes.
        pass
    else:
        assert closed.code in codes, closed
    contents = [frame.get("Content") for frame in arena.verify()]
    assert set(contents) <= {"fine"}, "nothing of it reached the room"


def test_utf8_is_refused_before_the_message_is_whole(arena):
    """Goal: fail fast (RFC 6455 8.1), which also bounds what is kept of a bad message."""
    attacker = arena.join()
    attacker.send_frame(TEXT, b'"\xff', fin=False)
    assert attacker.receive_close().code == 1007


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 4999])
def test_a_legal_close_is_answered_and_the_connection_ends(arena, code):
    attacker = arena.join()
    attacker.send(close_frame(code, "bye ✓".encode()))
    assert attacker.receive_close().code in (code, 1000)
    assert attacker.read_to_end() == b""


def test_a_close_without_a_code_is_answered(arena):
    attacker = arena.join()
    attacker.send_frame(CLOSE)
    assert attacker.receive_close().code in (1000, 1005)


def test_nothing_after_a_close_is_processed(arena):
    attacker = arena.join()
    attacker.send(close_frame(1000) + encode(TEXT, SAY))
    attacker.receive_close()
    assert arena.verify() == []


def test_a_binary_frame_is_no_chat_request(arena):
    attacker = arena.join()
    attacker.send_frame(BINARY, SAY)
    try:
        assert attacker.receive()["ErrorCode"] == 400
    except Closed as closed:
        assert closed.code == 1003
    assert arena.verify() == []


def oversized(size: int, first: bool) -> bytes:
    request = {"Action": "SEND_MESSAGE", "RequestId": "R", "Content": "x" * size}
    return json.dumps(request if first else dict(reversed(request.items()))).encode()


@pytest.mark.parametrize("first", [True, False], ids=["id first", "id last"])
@pytest.mark.parametrize("size", [17_000, 128 * 1024 - 100])
def test_a_message_above_the_limit_is_refused_by_its_id_and_the_session_goes_on(arena, size, first):
    attacker = arena.join()
    data = oversized(size, first)
    attacker.send_frame(TEXT, data)
    third = len(data) // 3
    attacker.send_frame(TEXT, data[:third], fin=False)
    attacker.send_frame(PING, b"in between")
    attacker.send_frame(CONT, data[third:])
    attacker.send_frame(BINARY, data)
    attacker.say("after it", "R2")
    answers = [attacker.receive() for _ in range(4)]
    assert [(a.get("ErrorCode"), a["RequestId"]) for a in answers] == [
        (413, "R"),
        (413, "R"),
        (413, "R"),
        (None, "R2"),
    ]
    assert [frame["Content"] for frame in arena.verify()] == ["after it"]


def test_a_message_far_above_the_limit_ends_the_connection(arena):
    attacker = arena.join()
    attacker.send_frame(TEXT, oversized(128 * 1024, True))
    frames = []
    closed = attacker.receive_close_after(frames)
    # The Close frame may be overtaken by the reset that unread input causes.
    assert closed.code in (1009, None)
    assert [frame["ErrorCode"] for frame in frames] in ([413], [])
    assert arena.verify() == []


def test_oversized_messages_that_never_end_keep_nothing(arena):
    """Method: 100 connections send all but the last byte of 128 KiB; an id as long as may be kept."""
    memory = arena.server.resident_bytes()
    data = b'{"Content":"' + b"x" * 120_000 + b'","RequestId":"' + b"r" * 1_000
    attackers = [arena.join(f"o{index}") for index in range(100)]
    for attacker in attackers:
        attacker.send_frame(TEXT, data, claim=128 * 1024)
    arena.verify()
    assert arena.server.resident_bytes() - memory < 8 << 20


def test_a_deleted_room_ends_the_closing_handshake_at_once(server, boto):
    """Goal: who answers the Close frame is let go, as after a kick, not at the handshake's deadline.

    Method: two members on each shard at least; one answers, one is silent until the deadline has it.
    Each who answers is gone before anybody who is silent."""
    arn = boto.create_room()["arn"]
    members = [WebSocket(server.messaging_port, server.token(arn, f"m{n}")) for n in range(8)]
    boto.delete_room(identifier=arn)
    for member in members:
        assert member.receive_close().code == 1000
    polite, silent = members[:6], members[6:]
    for member in polite:
        # What is said in that window is not answered any more, and must not keep the Close from being read.
        member.say("too late", "late")
        member.send(close_frame(1000))
    for member in polite:
        assert member.read_to_end() == b""
    ready, _, _ = select.select([member.socket for member in silent], [], [], 0)
    assert ready == [], "they wait for the deadline"
    for member in members:
        member.close()


def test_a_fragmented_message_is_joined_with_pings_in_between(arena):
    attacker = arena.join()
    attacker.send_frame(TEXT, SAY[:10], fin=False)
    attacker.send_frame(PING, b"in between")
    attacker.send_frame(CONT, b"", fin=False)
    attacker.send_frame(CONT, SAY[10:])
    pong = attacker.receive_frame()
    assert (pong.opcode, pong.payload) == (PONG, b"in between")
    assert attacker.receive()["Content"] == "leaked"
    assert [frame["Content"] for frame in arena.verify()] == ["leaked"]


def test_a_ping_is_answered_with_its_payload(arena):
    attacker = arena.join()
    for payload in (b"", b"x", bytes(range(125))):
        attacker.send_frame(PING, payload)
        frame = attacker.receive_frame()
        assert (frame.opcode, frame.payload) == (PONG, payload)


def test_an_unasked_pong_is_ignored(arena):
    attacker = arena.join()
    attacker.send_frame(PONG, b"unasked")
    attacker.say("still fine")
    assert attacker.receive()["Content"] == "still fine"


@pytest.mark.parametrize("opcode", [PING, PONG], ids=["ping", "pong"])
def test_a_flood_without_reading_starves_nobody(arena, opcode):
    """Method: 30,000 control frames whose answers nobody reads; the others are heard all the same."""
    attacker = arena.join()
    attacker.socket.settimeout(5)
    memory = arena.server.resident_bytes()
    flood = encode(opcode, b"x" * 100) * 1000
    for _ in range(30):
        try:
            if not attacker.send(flood):
                break
        except TimeoutError:
            break
    arena.verify()
    assert arena.server.resident_bytes() - memory < 32 << 20


def test_a_claim_of_a_gigabyte_reserves_nothing(arena):
    """Method: 50 connections claim 1 GiB each, in a fragment that would be legal but for its size."""
    memory = arena.server.resident_bytes()
    for index in range(50):
        attacker = arena.join(f"claim{index}")
        attacker.send_frame(TEXT, b"{", claim=1 << 30)
        attacker.receive_close()
    assert arena.server.resident_bytes() - memory < 32 << 20


def test_a_member_who_never_reads_costs_the_others_nothing(server, boto):
    """Goal: the slow client policy; memory stays bounded by one window, not by a queue for each.

    Method: ten members never read while 4,000 messages of about 700 bytes pass."""
    arn = boto.create_room(maximumMessageRatePerSecond=100)["arn"]
    stalled = [WebSocket(server.messaging_port, server.token(arn, f"s{i}")) for i in range(10)]
    speaker = WebSocket(server.messaging_port, server.token(arn, "speaker"))
    memory = server.resident_bytes()
    heard, refused = 0, 0
    deadline = time.monotonic() + 30
    for index in range(4000):
        speaker.say("x" * 500, f"r{index}")
        frame = speaker.receive()
        if frame["Type"] == "MESSAGE":
            heard += 1
        else:
            assert frame["ErrorCode"] == 429, frame
            refused += 1
        if time.monotonic() > deadline:
            break
    assert heard >= 100
    assert server.resident_bytes() - memory < 64 << 20
    for socket in (*stalled, speaker):
        socket.close()
