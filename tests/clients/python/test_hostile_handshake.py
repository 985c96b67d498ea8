"""What strangers send before they are let in: heads, tokens, slow peers. Each is refused by name and
nobody else notices."""

from __future__ import annotations

import socket
import threading
import datetime
import time

import pytest

from rawws import Closed, Refused, Wire, WebSocket, encode, new_key, upgrade_head, TEXT

# limits.rs: HANDSHAKE_TIMEOUT is 10 s from accept; the rest is for a loaded machine.
HANDSHAKE_SECONDS_MAX = 10 + 50

GOOD = [
    b"GET / HTTP/1.1",
    b"Host: 127.0.0.1",
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    b"Sec-WebSocket-Protocol: TOKEN",
]


def head(*extra: bytes, drop: bytes = b"", swap: dict[bytes, bytes] | None = None) -> bytes:
    """The good head with lines added, one dropped by prefix, or parts replaced."""
    lines = [line for line in GOOD if not drop or not line.startswith(drop)]
    text = b"\r\n".join([*lines, *extra, b"", b""])
    for old, new in (swap or {}).items():
        assert old in text
        text = text.replace(old, new)
    return text


# name: (bytes, legal statuses). `TOKEN` stands for a valid, unused token: whatever is wrong with the
# rest, it must not be let in.
REFUSED_HEADS = {
    "head of 20 KB": (head(b"X-Pad: " + b"a" * 20_000), {400, 431}),
    "head of 1 MB": (head(b"X-Pad: " + b"a" * 1_000_000), {400, 431}),
    "101 header fields": (head(*[b"X-%d: y" % i for i in range(101)]), {400, 431}),
    "5,000 tiny header fields": (head(*[b"a:b" for _ in range(5000)]), {400, 431}),
    "request target of 20 KB": (head(swap={b"GET /": b"GET /" + b"a" * 20_000}), {400, 414, 431}),
    "two tokens in one field": (head(swap={b"TOKEN": b"TOKEN, TOKEN"}), {400, 401}),
    "two token fields": (head(b"Sec-WebSocket-Protocol: other"), {400, 401}),
    "content length and transfer encoding": (
        head(b"Content-Length: 5", b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
        {400},
    ),
    "body by content length": (head(b"Content-Length: 5") + b"hello", {400, 413}),
    "body by transfer encoding": (head(b"Transfer-Encoding: chunked") + b"0\r\n\r\n", {400, 413, 501}),
    "two content lengths": (head(b"Content-Length: 0", b"Content-Length: 5"), {400}),
    "content length with a sign": (head(b"Content-Length: +5"), {400}),
    "folded header": (head(b"X-A: b\r\n c"), {400}),
    "bare line feeds": (head().replace(b"\r\n", b"\n"), {400}),
    "one bare line feed": (head(b"X-A: b\nX-C: d"), {400}),
    "bare carriage return in a value": (head(b"X-A: b\rc"), {400}),
    "NUL in a value": (head(b"X-A: b\x00c"), {400}),
    "NUL in a name": (head(b"X\x00A: b"), {400}),
    "blank before the colon": (head(b"X-A : b"), {400}),
    "no colon": (head(b"nonsense"), {400}),
    "no request line": (b"\r\n".join([*GOOD[1:], b"", b""]), {400}),
    "POST": (head(swap={b"GET ": b"POST "}), {400, 405}),
    "HTTP/1.0": (head(swap={b"HTTP/1.1": b"HTTP/1.0"}), {400, 426, 505}),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400, 405, 505}),
    "no Upgrade": (head(drop=b"Upgrade:"), {400, 404, 426}),
    "other Upgrade": (head(swap={b"websocket": b"h2c"}), {400, 404, 426}),
    "no Connection": (head(drop=b"Connection:"), {400, 404, 426}),
    "no version": (head(drop=b"Sec-WebSocket-Version:"), {400, 426}),
    "version 12": (head(swap={b"Version: 13": b"Version: 12"}), {400, 426}),
    "no key": (head(drop=b"Sec-WebSocket-Key:"), {400}),
    "short key": (head(swap={b"dGhlIHNhbXBsZSBub25jZQ==": b"c2hvcnQ="}), {400}),
    "key that is no base64": (head(swap={b"dGhlIHNhbXBsZSBub25jZQ==": b"!" * 24}), {400}),
    "two keys": (head(b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="), {400}),
    "TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), {400}),
    "binary noise": (bytes(range(256)) * 8 + b"\r\n\r\n", {400}),
}


@pytest.mark.parametrize("case", REFUSED_HEADS)
def test_a_malformed_head_is_refused_and_the_connection_closed(arena, case):
    text, statuses = REFUSED_HEADS[case]
    wire = arena.wire()
    wire.send(text.replace(b"TOKEN", arena.token().encode()))
    try:
        response = wire.read_response()
    except Closed:
        # An answer overtaken by the reset of unread input, or noise not worth an answer.
        assert len(text) > 15_000 or case in ("TLS hello", "binary noise", "HTTP/2 preface")
        return
    assert response.status in statuses
    assert response.status != 101
    assert b"HTTP/1.1" not in wire.read_to_end(), "one request, one answer"


# name: (Sec-WebSocket-Protocol value, legal statuses)
REFUSED_TOKENS = {
    "empty": (b"", {400, 401}),
    "garbage": (b"garbage", {401}),
    "looks real": (b"AQICAH" + b"x" * 600 + b"!#0", {401}),
    "2,900 characters": (b"A" * 2_900, {401}),
    "8,000 characters": (b"A" * 8_000, {400, 401, 431}),
    "15,000 characters": (b"A" * 15_000, {400, 401, 431}),
    "bytes above 0x7f": (b"\xff\xfe\x80", {400, 401}),
    "UTF-8": ("tökén".encode(), {400, 401}),
    "blanks": (b"a" + b" " * 10_000 + b"b", {400, 401, 431}),
    "tabs": (b"\t" * 10_000 + b"b", {400, 401, 431}),
    "commas": (b"," * 10_000, {400, 401, 431}),
    "padding": (b"AAAA==", {400, 401}),
    "control character": (b"a\x01b", {400, 401}),
}


@pytest.mark.parametrize("case", REFUSED_TOKENS)
def test_a_token_that_is_none_is_refused(arena, case):
    value, statuses = REFUSED_TOKENS[case]
    wire = arena.wire()
    wire.send(upgrade_head(value))
    assert wire.read_response().status in statuses
    wire.read_to_end()


def test_a_missing_token_is_refused_with_the_documented_body(arena):
    wire = arena.wire()
    wire.send(upgrade_head(None))
    response = wire.read_response()
    assert response.status == 401
    body = response.json()
    assert set(body) == {"Type", "Id", "RequestId", "ErrorCode", "ErrorMessage"}
    assert (body["Type"], body["RequestId"], body["ErrorCode"]) == ("ERROR", "", 401)
    assert len(body["Id"]) == 12 and body["ErrorMessage"]
    assert response.header("content-type").startswith("application/json")


def test_an_odd_extension_offer_is_ignored(arena):
    for offer in (
        b"permessage-deflate; client_max_window_bits",
        b"permessage-deflate; server_max_window_bits=4294967296",
        b"constructor",
        b",,,;;;===" * 500,
        b'x; a="\\"',
    ):
        try:
            socket = WebSocket(
                arena.port, arena.token(), extra=(b"Sec-WebSocket-Extensions: " + offer,)
            )
        except Refused as refused:
            assert refused.response.status == 400
            continue
        assert not socket.deflate, "compression is off by default"
        socket.say("x")
        assert socket.receive()["Content"] == "x"
        socket.close()


def test_a_foreign_origin_and_cookies_do_not_matter(arena):
    socket = WebSocket(
        arena.port,
        arena.token(),
        extra=(b"Origin: https://evil.example", b"Cookie: session=1", b"Authorization: Basic eDp5"),
    )
    socket.close()


def test_frames_in_the_same_segment_as_the_handshake_are_not_lost(arena):
    wire = arena.wire()
    message = b'{"Action":"SEND_MESSAGE","Content":"early"}'
    wire.send(upgrade_head(arena.token()) + encode(TEXT, message) * 3)
    assert wire.read_response().status == 101
    frames = [arena.bystander.receive() for _ in range(3)]
    assert [frame["Content"] for frame in frames] == ["early"] * 3


def test_a_handshake_and_a_message_byte_by_byte_work(arena):
    wire = arena.wire()
    request = upgrade_head(arena.token())
    for byte in request:
        wire.send(bytes([byte]))
    assert wire.read_response().status == 101
    for byte in encode(TEXT, b'{"Action":"SEND_MESSAGE","Content":"slow"}'):
        wire.send(bytes([byte]))
    assert arena.bystander.receive()["Content"] == "slow"


def test_lower_case_header_names_and_other_targets_are_fine(arena):
    wire = arena.wire()
    lines = upgrade_head(arena.token()).replace(b"GET / ", b"GET /chat/edge?x=1 ").split(b"\r\n")
    lowered = [lines[0]]
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        lowered.append(name.lower() + colon + value)
    wire.send(b"\r\n".join(lowered))
    assert wire.read_response().status == 101


def test_several_upgrade_tokens_in_any_case_are_fine(arena):
    """Firefox sends `Connection: keep-alive, Upgrade`."""
    wire = arena.wire()
    wire.send(
        upgrade_head(arena.token())
        .replace(b"Connection: Upgrade", b"Connection: keep-alive, uPgRaDe")
        .replace(b"Upgrade: websocket", b"Upgrade: WebSocket")
    )
    assert wire.read_response().status == 101


def test_the_keys_of_the_rfc_are_fine(arena):
    """The second is the example of RFC 6455 11.3.1: bits are set behind its sixteenth byte."""
    for key in ("dGhlIHNhbXBsZSBub25jZQ==", "AQIDBAUGBwgJCgsMDQ4PEC=="):
        wire = arena.wire()
        wire.send(upgrade_head(arena.token(), key=key))
        assert wire.read_response().status == 101


@pytest.mark.parametrize("listed", ["{}, ", ", {}", " ,\t{} , ,"])
def test_empty_elements_beside_the_token_are_ignored(arena, listed):
    wire, token = arena.wire(), arena.token()
    wire.send(upgrade_head(listed.format(token)))
    response = wire.read_response()
    assert (response.status, response.header("sec-websocket-protocol")) == (101, token)


def test_head_has_no_body(arena):
    for path in ("/", "/demo/chat.js", "/demo/token?user=u", "/nothing"):
        bodies = []
        for method in ("HEAD", "GET"):
            wire = arena.wire()
            wire.send(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            head, _, body = wire.read_to_end().partition(b"\r\n\r\n")
            bodies.append((head.split(b" ")[1], body))
        assert bodies[0] == (bodies[1][0], b"") and bodies[1][1], path


def test_the_page_gives_tokens_by_the_names_that_the_sdks_read(arena):
    wire = arena.wire()
    wire.send(b"GET /demo/token?user=u HTTP/1.1\r\nHost: x\r\n\r\n")
    given = wire.read_response().json()
    for name in ("tokenExpirationTime", "sessionExpirationTime"):
        assert datetime.datetime.fromisoformat(given[name]) > datetime.datetime.now(datetime.UTC)
    assert given["token"] and "expires" not in given


def test_a_peer_that_never_finishes_its_head_is_dropped_at_the_deadline(arena):
    """Method: a silent peer, one with half a head, and one that sends a byte every 0.3 s; the
    deadline counts from accept, so progress does not extend it."""
    silent, half, drip = arena.wire(), arena.wire(), arena.wire()
    started = time.monotonic()
    half.send(upgrade_head("x" * 100)[:60])
    text = upgrade_head("x" * 400)
    ended: float | None = None
    for byte in text:
        if time.monotonic() - started > HANDSHAKE_SECONDS_MAX:
            break
        if not drip.send(bytes([byte])):
            ended = time.monotonic() - started
            break
        time.sleep(0.3)
    assert ended is not None, "progress extended the deadline"
    assert ended > 2, "a slow but honest client has some seconds"
    for wire in (silent, half):
        try:
            wire.read_to_end(max(HANDSHAKE_SECONDS_MAX - (time.monotonic() - started), 0.1))
        except TimeoutError:
            pytest.fail("a silent peer outlived the handshake deadline")


def test_two_hundred_silent_peers_do_not_delay_a_handshake(arena):
    """Goal: a handshake does not wait until the silent ones' ten seconds are over. Method: it is done while all of them
    are still connected. On a machine so slow that their time ended meanwhile nothing is shown: once more."""
    for _ in range(10):
        silent = [arena.wire() for _ in range(200)]
        arena.join("quick").close()
        still_open = sum(is_open(wire) for wire in silent)
        for wire in silent:
            wire.close()
        if still_open == len(silent):
            return
    pytest.fail("ten times the handshake was done only when silent peers had been dropped")


def is_open(wire) -> bool:
    """Whether nothing came: a dropped connection reads as its end."""
    wire.socket.setblocking(False)
    try:
        return wire.socket.recv(1, socket.MSG_PEEK) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def test_handshakes_cut_at_every_byte_leave_nothing_behind(arena):
    """Goal: no descriptor is lost, however early the peer goes away, by FIN or by RST."""
    time.sleep(0.3)
    before = arena.server.descriptors()
    request = upgrade_head(arena.token())
    for cut in range(0, len(request), 3):
        wire = Wire(arena.port)
        wire.send(request[:cut])
        if cut % 2:
            wire.reset()
        else:
            wire.close()
    settle(lambda: arena.server.descriptors() <= before)


def test_connection_churn_leaves_no_descriptor_behind(arena):
    """Method: 300 sessions that end by Close, by FIN, by RST and by half-close."""
    time.sleep(0.3)
    before = arena.server.descriptors()
    tokens = [arena.token(f"churn{i}") for i in range(300)]
    for index, token in enumerate(tokens):
        client = WebSocket(arena.port, token)
        if index % 4 == 0:
            client.send_frame(0x8, b"\x03\xe8")
            assert client.receive_close().code == 1000
            client.close()
        elif index % 4 == 1:
            client.close()
        elif index % 4 == 2:
            client.reset()
        else:
            client.socket.shutdown(socket.SHUT_WR)
            client.receive_close()
            client.close()
    settle(lambda: arena.server.descriptors() <= before)


def settle(holds, seconds: float = 30.0) -> None:
    """Waits until `holds()`; what it waits for is asynchronous in the server."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not settle"
        time.sleep(0.1)


def test_handshakes_from_many_threads_all_succeed(arena):
    tokens = [arena.token(f"storm{i}") for i in range(200)]
    done, failures = [], []

    def connect(part: list[str]) -> None:
        for token in part:
            try:
                done.append(WebSocket(arena.port, token))
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=connect, args=(tokens[i::8],)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not failures and len(done) == 200
    arena.speaker.say("to all")
    for client in done:
        assert client.receive()["Content"] == "to all"
        client.close()


def test_the_accept_key_answers_the_key_that_was_sent(arena):
    """RFC 6455 1.3's own example pair."""
    wire = arena.wire()
    token = arena.token()
    wire.send(upgrade_head(token, key="dGhlIHNhbXBsZSBub25jZQ=="))
    response = wire.read_response()
    assert response.header("sec-websocket-accept") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert new_key() != new_key()
