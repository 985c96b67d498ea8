"""permessage-deflate (RFC 7692) with compression switched on: what is agreed, that every viewer reads the same,
and what hostile clients may send instead."""

from __future__ import annotations

import asyncio
import itertools
import base64
import json
import os
import re
import zlib

import pytest
import websockets

from conftest import Arena, shared_server_of
from rawws import BINARY, CLOSE, CONT, PING, PONG, TEXT, WebSocket, deflate, encode
from uproar import Server

COUNTER = itertools.count()
OFFER = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
AGREED = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
SAY = b'{"Action":"SEND_MESSAGE","Content":"leaked"}'
RSV1 = 4


@pytest.fixture(scope="module")
def server():
    yield from shared_server_of(Server(extra=("--compression",)))


def join(arena: Arena, user: str = "attacker", offer: bytes = OFFER) -> WebSocket:
    socket = WebSocket(arena.port, arena.token(user), extra=(offer,))
    arena.opened.append(socket)
    return socket


def metric(server: Server, name: str) -> int:
    (value,) = re.findall(rf"^uproar_{name} (\d+)$", server.metrics(), re.MULTILINE)
    return int(value)


@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        (b"permessage-deflate", AGREED),
        (b"permessage-deflate; client_max_window_bits", AGREED),
        (b"permessage-deflate; server_max_window_bits=15", f"{AGREED}; server_max_window_bits=12"),
        (b'permessage-deflate; server_max_window_bits="12"', f"{AGREED}; server_max_window_bits=12"),
        (b"permessage-deflate; server_max_window_bits=9", None),
        (b"permessage-deflate; server_max_window_bits=9, permessage-deflate", AGREED),
        (b"permessage-deflate; server_max_window_bits=4294967304", None),
        (b"permessage-deflate; server_max_window_bits", None),
        (b"permessage-deflate; client_max_window_bits=7", None),
        (b"permessage-deflate; client_max_window_bits; client_max_window_bits", None),
        (b"permessage-deflate; server_no_context_takeover=true", None),
        (b"permessage-deflate; constructor", None),
        (b"x-webkit-deflate-frame", None),
        (b"constructor, __proto__; a=1, permessage-deflate", AGREED),
        (b"permessage-deflate\xff", None),
        (b"permessage-deflate; server_max_window_bits=8, " * 200 + b"permessage-deflate", None),
        (b",,,;;;===" * 500, None),
        (b'permessage-deflate; client_max_window_bits="' + b"\\" * 8000, None),
    ],
)
def test_offers_are_answered_by_the_letter(arena, offer, answer):
    socket = join(arena, offer=b"Sec-WebSocket-Extensions: " + offer)
    assert socket.response.header("sec-websocket-extensions") == answer
    socket.say("x")
    assert socket.receive()["Content"] == "x"


def test_offers_in_several_fields(arena):
    offers = OFFER + b"; server_max_window_bits=8\r\nsec-websocket-extensions: permessage-deflate"
    assert join(arena, offer=offers).response.header("sec-websocket-extensions") == AGREED


def test_everybody_reads_the_same_and_bytes_are_saved(arena, server):
    before = {name: metric(server, name) for name in ("messages_compressed_total", "bytes_saved_total")}
    packed = [join(arena, f"packed-{number}") for number in range(3)]
    plain = arena.join("plain")
    texts = [f"message {number} of the goal celebration {'gol ' * 40}" for number in range(50)]
    for text in texts:
        assert packed[0].send_frame(
            TEXT,
            deflate(json.dumps({"Action": "SEND_MESSAGE", "Content": text}).encode()),
            rsv=RSV1,
        )
    streams = [[socket.receive() for _ in texts] for socket in [*packed, plain]]
    assert all(stream == streams[-1] for stream in streams)
    assert [frame["Content"] for frame in streams[-1]] == texts
    assert all(socket.inflated == len(texts) for socket in packed) and plain.inflated == 0
    # Once a message, whatever the number of receivers.
    assert metric(server, "messages_compressed_total") - before["messages_compressed_total"] == 50
    assert metric(server, "bytes_saved_total") - before["bytes_saved_total"] > 3 * 50 * 150
    assert metric(server, "connections_compressed_total") >= 3


def test_the_last_one_to_take_it_leaves_and_another_comes(arena, server):
    for _ in range(5):
        socket = join(arena, "guest")
        arena.speaker.say("with " + "words " * 30)
        # What was said to the guest before may come to this one, too.
        assert socket.receive_until(lambda frame: frame["Content"].startswith("with "))[0] and socket.inflated >= 1
        socket.close()
        arena.speaker.say("without " + "words " * 30)
    assert len(arena.verify()) == 10


def bomb(size: int) -> bytes:
    return deflate(b'{"Action":"SEND_MESSAGE","Content":"' + b"x" * size + b'"}')


# name: (bytes, legal close codes)
VIOLATIONS: dict[str, tuple[bytes, set[int]]] = {
    "RSV1 on a ping": (encode(PING, b"x", rsv=RSV1), {1002}),
    "RSV1 on a pong": (encode(PONG, b"x", rsv=RSV1), {1002}),
    "RSV1 on a close": (encode(CLOSE, b"\x03\xe8", rsv=RSV1), {1002}),
    "RSV1 on a continuation": (
        encode(TEXT, deflate(SAY)[:9], fin=False, rsv=RSV1) + encode(CONT, deflate(SAY)[9:], rsv=RSV1),
        {1002},
    ),
    "RSV1 on the continuation only": (
        encode(TEXT, SAY[:9], fin=False) + encode(CONT, SAY[9:], rsv=RSV1),
        {1002},
    ),
    **{f"RSV bits {bits:03b}": (encode(TEXT, deflate(SAY), rsv=bits), {1002}) for bits in (1, 2, 3, 5, 6, 7)},
    "garbage": (encode(TEXT, b"\xff" * 100, rsv=RSV1), {1007}),
    "a plain message under RSV1": (encode(TEXT, b"\x07" + SAY, rsv=RSV1), {1007}),
    "a distance before the message": (encode(TEXT, b"\x02\x02\x00", rsv=RSV1), {1007}),
    "zlib instead of raw deflate": (encode(TEXT, zlib.compress(SAY), rsv=RSV1), {1007}),
    "10,000 ended streams": (encode(TEXT, b"\x03\x00" * 8000, rsv=RSV1), {1007}),
    "invalid UTF-8 inside": (
        encode(TEXT, deflate(b'{"Action":"SEND_MESSAGE","Content":"\xc3\x28"}'), rsv=RSV1),
        {1007},
    ),
    "a bomb of 132 KB": (encode(TEXT, bomb(132_000), rsv=RSV1), {1009}),
    "a bomb of 16 MB": (encode(TEXT, bomb(16_000_000)[:16_000], rsv=RSV1), {1009}),
    "a binary bomb": (encode(BINARY, bomb(10_000_000), rsv=RSV1), {1009}),
    "a bomb in fragments": (
        encode(TEXT, bomb(1_000_000)[:500], fin=False, rsv=RSV1) + encode(CONT, bomb(1_000_000)[500:]),
        {1009},
    ),
    "17 KB of no compressed data": (encode(TEXT, b"\x00" * 17_000, rsv=RSV1), {1007}),
    "more than 128 KB compressed": (encode(TEXT, b"\x00" * 132_000, rsv=RSV1), {1009, None}),
    "1 GiB claimed": (encode(TEXT, b"", rsv=RSV1, claim=1 << 30), {1009}),
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_a_violation_is_closed_with_its_code(arena, name):
    data, codes = VIOLATIONS[name]
    attacker = join(arena)
    attacker.send(data)
    errors = []
    closed = attacker.receive_close_after(errors)
    assert closed.code in codes, closed
    if closed.code == 1009:
        assert [error["ErrorCode"] for error in errors] == [413]
    assert arena.verify() == [], "nothing of it reaches the room"


@pytest.mark.parametrize("first", [True, False], ids=["id first", "id last"])
@pytest.mark.parametrize("noisy", [True, False], ids=["noise", "one letter"])
def test_a_message_above_the_limit_is_refused_by_its_id(arena, noisy, first):
    """Method: 17,000 and 100,000 letters, those that compress well and those that do not."""
    attacker = join(arena)
    for size in (17_000, 100_000):
        content = base64.b64encode(os.urandom(size))[:size].decode() if noisy else "x" * size
        said = {"Action": "SEND_MESSAGE", "RequestId": "R", "Content": content}
        said = said if first else dict(reversed(said.items()))
        payload = deflate(json.dumps(said).encode())
        attacker.send_frame(TEXT, payload, rsv=RSV1)
        half = len(payload) // 2
        attacker.send_frame(TEXT, payload[:half], rsv=RSV1, fin=False)
        attacker.send_frame(CONT, payload[half:])
        attacker.say("after it", "R2")
        answers = [attacker.receive() for _ in range(3)]
        codes = [(answer.get("ErrorCode"), answer["RequestId"]) for answer in answers]
        assert codes == [(413, "R"), (413, "R"), (None, "R2")]


def test_bombs_leave_no_memory_behind(arena, server):
    join(arena).say("warm")
    arena.verify()
    before = server.resident_bytes()
    for number in range(50):
        # Answers the pings of those who watch.
        if number % 10 == 0:
            arena.verify()
        attacker = WebSocket(arena.port, arena.token(), extra=(OFFER,))
        attacker.send(encode(TEXT, bomb(16_000_000)[:16_000], rsv=RSV1))
        assert attacker.receive_close().code == 1009
        attacker.close()
    assert server.resident_bytes() - before < 4 << 20


def test_compressed_requests_are_held_to_the_same_rules(arena):
    socket = join(arena)
    long = json.dumps({"Action": "SEND_MESSAGE", "Content": "x" * 501, "RequestId": "r"})
    socket.send_frame(TEXT, deflate(long.encode()), rsv=RSV1)
    assert socket.receive()["ErrorCode"] == 400
    socket.send_frame(BINARY, deflate(SAY), rsv=RSV1)
    assert socket.receive()["ErrorCode"] == 400
    # Levels, an ended stream, stored blocks, fragments, an empty message, plain ones in between.
    said = {"Action": "SEND_MESSAGE", "Content": "still here"}
    text = json.dumps(said).encode()
    ended = zlib.compressobj(9, wbits=-15)
    ended = ended.compress(text) + ended.flush(zlib.Z_FINISH) + b"\x00"
    for payload in (deflate(text, 1), deflate(text, 0), ended):
        socket.send_frame(TEXT, payload, rsv=RSV1)
        assert socket.receive()["Content"] == "still here"
        pieces = [payload[at : at + 7] for at in range(0, len(payload), 7)]
        for index, piece in enumerate(pieces):
            socket.send_frame(
                CONT if index else TEXT,
                piece,
                fin=index == len(pieces) - 1,
                rsv=0 if index else RSV1,
            )
            socket.send_frame(PING, b"between")
        assert socket.receive()["Content"] == "still here"
    socket.send_frame(TEXT, b"\x00", rsv=RSV1)
    assert socket.receive()["ErrorCode"] == 400
    socket.say("plain")
    assert socket.receive()["Content"] == "plain"


@pytest.mark.parametrize("compression", ["deflate", None])
def test_the_websockets_library_chats(server, room, compression):
    """A client nobody here wrote; by default it asks for a window of 12 bits."""

    async def chat() -> None:
        url = f"ws://127.0.0.1:{server.messaging_port}"
        async with websockets.connect(
            url, subprotocols=[server.token(room)], compression=compression
        ) as socket:
            names = [extension.name for extension in socket.protocol.extensions]
            assert names == (["permessage-deflate"] if compression else [])
            for number in range(200):
                content = f"number {number} " + "é🔥 goal " * (number % 50)
                await socket.send(json.dumps({"Action": "SEND_MESSAGE", "Content": content}))
                frame = json.loads(await asyncio.wait_for(socket.recv(), 5))
                assert frame["Content"] == content

    asyncio.run(chat())
