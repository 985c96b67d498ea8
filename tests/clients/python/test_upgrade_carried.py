"""What is under way when a new process takes over goes on there: compressed requests, answers and closing handshakes of
readers who have stalled, reviews, rates; as any user, under any limit of open files."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import socket
import struct
import tempfile
import threading
import time
from pathlib import Path

import pytest

from aws import eventually
from rawws import CLOSE, CONT, TEXT, Closed, Refused, WebSocket, deflate, encode, upgrade_head
from review_handler import ReviewHandler
from test_compression import OFFER, RSV1
from test_review import Chat, config
from uproar import BINARY, Server

NOBODY = 65534
MEMLOCK_BYTES = 8 * 1024 * 1024


def room(server: Server, rate: int = 100) -> str:
    return server.boto_cached.create_room(maximumMessageRatePerSecond=rate)["arn"]


def request(content: str) -> bytes:
    return json.dumps({"Action": "SEND_MESSAGE", "RequestId": content, "Content": content}).encode()


# -- compressed requests --


def compressed(content: str, shape: str) -> bytes:
    """A compressed request in one frame, or in three: RSV1 is set in the first."""
    data = deflate(request(content))
    if shape == "whole":
        return encode(TEXT, data, rsv=RSV1)
    first, second = len(data) // 3, 2 * len(data) // 3
    return (
        encode(TEXT, data[:first], fin=False, rsv=RSV1)
        + encode(CONT, data[first:second], fin=False)
        + encode(CONT, data[second:])
    )


@pytest.mark.parametrize("shape", ["whole", "fragmented"])
def test_compressed_requests_cut_at_every_byte(shape):
    """Goal: a compressed request of which any part has arrived is completed by its rest in the new process. Method: a
    viewer for each byte at which it can be cut; a reader with and one without compression hear the same."""
    with Server(extra=("--compression",)) as server:
        arn = room(server)
        join = lambda user, *extra: WebSocket(server.messaging_port, server.token(arn, user), extra=extra)
        readers = [join("compressed", OFFER), join("plain")]
        assert [reader.deflate for reader in readers] == [True, False]
        rests = []
        for at in range(len(compressed("0000", shape)) - 1):
            viewer, frame = join(f"u{at}", OFFER), compressed(f"{at:04}", shape)
            assert viewer.deflate
            viewer.send(frame[:at])
            rests.append((viewer, frame[at:]))
        assert server.upgrade().viewers == len(rests) + len(readers)
        for number, (viewer, rest) in enumerate(rests):
            viewer.send(rest)
            for reader in readers:
                heard = reader.receive()
                assert (heard.get("Content"), heard["Type"]) == (f"{number:04}", "MESSAGE")


# -- readers who have stalled --


def stalled(server: Server, arn: str, user: str) -> WebSocket:
    """A viewer whose socket holds little: what it does not read waits in the server's socket, and then in the server."""
    reader = WebSocket.__new__(WebSocket)
    reader.socket = socket.socket()
    reader.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.socket.connect(("127.0.0.1", server.messaging_port))
    reader.buffer, reader.ended = b"", False
    reader.send(upgrade_head(server.token(arn, user)))
    assert reader.read_response().status == 101
    return reader


def begin_to_read(reader: WebSocket) -> None:
    """As fast as others: through a small socket it would take longer than a closing handshake may."""
    reader.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)


def closed_as_slow(server: Server) -> int:
    return int(re.search(r'connections_closed_total{reason="slow"} (\d+)', server.metrics())[1])


MISTAKE = b'{"Action":"SHOUT","RequestId":"%05d' + b"x" * 1000 + b'"}'


def mistakes_until_cut(server: Server, arn: str) -> int:
    """So many mistakes of a client that does not read are answered before it is cut: what the kernel and the private
    lane hold."""
    sent = 0
    client = stalled(server, arn, "control")
    while make_mistakes(server, client, range(sent, sent + 4)):
        sent += 4
        assert sent < 950, "the lane is full before the mistakes count as a flood"
    return sent


def rejected(server: Server) -> int:
    return sum(int(count) for count in re.findall(r"\nuproar_messages_rejected_total{[^}]*} (\d+)", server.metrics()))


def make_mistakes(server: Server, client: WebSocket, numbers: range) -> bool:
    """Few at a time, since their answers are written to the lane before any of them is sent. Returns whether the client
    still is there when all were answered."""
    before, slow = rejected(server), closed_as_slow(server)
    for at in numbers[::4]:
        few = range(at, min(at + 4, numbers.stop))
        client.send(b"".join(encode(TEXT, MISTAKE % number) for number in few))
        before += len(few)
        eventually(lambda: rejected(server) >= before or closed_as_slow(server) > slow, lambda done: done)
        if closed_as_slow(server) > slow:
            return False
    return True


def test_a_full_private_lane_is_carried():
    """Goal: answers that wait for a client who does not read arrive after two upgrades, each once and in order. Method: a
    control finds how many fill its lane so that it is cut; the viewer stays some 16 KiB below that, so that far more
    than half of a lane waits. How much the kernel takes differs from connection to connection: one that is cut all the
    same is followed by one that gets less."""
    with Server() as server:
        arn = room(server)
        most = mistakes_until_cut(server, arn)
        for count in range(most - 16, 0, -16):
            viewer = stalled(server, arn, f"viewer-{count}")
            if make_mistakes(server, viewer, range(count)):
                break
        for _ in range(2):
            assert server.upgrade().viewers == 1
        assert closed_as_slow(server) == 0, "the new process starts to count anew"
        begin_to_read(viewer)
        for number in range(count):
            answer = viewer.receive()
            assert (answer["Type"], answer["RequestId"][:5]) == ("ERROR", f"{number:05}")
        viewer.say("last", "r")
        assert viewer.receive()["Content"] == "last"


# -- closing handshakes --


def until_close(viewer: WebSocket) -> tuple[list[dict], bytes]:
    """Chat frames, and the payload of the Close frame behind them."""
    chat = []
    begin_to_read(viewer)
    while (frame := viewer.receive_frame()).opcode != CLOSE:
        assert frame.opcode == TEXT
        chat.append(json.loads(frame.payload))
    return chat, frame.payload


def say_much(sender: WebSocket) -> list[str]:
    """Says more than the sockets of a stalled reader hold, and returns the contents."""
    said = [f"{number:05}" for number in range(700)]
    for content in said:
        sender.say(content, "r", Attributes={"a": "y" * 900})
        assert sender.receive()["Content"] == content
    return said


@pytest.mark.parametrize("answer", [True, False], ids=["answers", "silent"])
@pytest.mark.parametrize("carried", [True, False], ids=["upgrade", "control"])
def test_a_kicked_viewer_that_has_not_answered(answer, carried):
    """Goal: the Close frame of a kick arrives once, behind everything that was said before it, and the connection ends,
    whether the viewer answers or not. Method: one viewer whose sockets have room for all, and one for whom the Close
    frame waits in the server behind messages; the same without an upgrade."""
    with Server() as server:
        arn = room(server)
        sender = WebSocket(server.messaging_port, server.token(arn, "sender"))
        late = WebSocket(server.messaging_port, server.token(arn, "late"))
        kicked = [stalled(server, arn, "late"), late]
        said = say_much(sender)
        server.boto_cached.disconnect_user(roomIdentifier=arn, userId="late", reason="rude")
        if carried:
            # Who has room for the Close frame has got it, and is the kernel's.
            assert server.upgrade().viewers in (2, 3)
        for viewer in kicked:
            chat, close = until_close(viewer)
            assert [frame.get("Content") for frame in chat[:-1]] == said
            assert chat[-1]["EventName"] == "aws:DISCONNECT_USER"
            assert close == struct.pack("!H", 1000) + b"rude"
            if answer:
                viewer.send_frame(CLOSE, close)
        for viewer in kicked:
            assert viewer.read_to_end() == b""
            viewer.close()
        eventually(lambda: connections(server), lambda count: count == 1)
        sender.say("still", "r")
        sender.receive_until(lambda frame: frame.get("Content") == "still")


def connections(server: Server) -> int:
    return int(re.search(r"^uproar_connections (\d+)$", server.metrics(), re.M)[1])


@pytest.mark.parametrize("carried", [True, False], ids=["upgrade", "control"])
def test_a_viewer_that_has_sent_close(carried):
    """Goal: a viewer that takes its leave gets everything said before, one Close frame, and the end. Method: one for whom
    messages wait in the server, one that sends the last byte of its Close frame to the new process; the same without an
    upgrade."""
    with Server() as server:
        arn = room(server)
        sender = WebSocket(server.messaging_port, server.token(arn, "sender"))
        leavers = [stalled(server, arn, "leaver"), stalled(server, arn, "half")]
        said = say_much(sender)
        farewell = encode(CLOSE, struct.pack("!H", 1000))
        leavers[0].send(farewell)
        leavers[1].send(farewell[:-1])
        if carried:
            assert server.upgrade().viewers == 3
        leavers[1].send(farewell[-1:])
        for viewer in leavers:
            chat, close = until_close(viewer)
            assert [frame["Content"] for frame in chat] == said
            assert close == struct.pack("!H", 1000)
            assert viewer.read_to_end() == b""
            viewer.close()
        eventually(lambda: connections(server), lambda count: count == 1)


# -- reviews --


def test_a_verdict_that_comes_after_an_upgrade(tmp_path):
    """Goal: a message under review while the process changes is asked about again and delivered once, in its place.
    Method: a handler that answers nothing until the upgrade is over."""
    handler = ReviewHandler()
    with config(tmp_path, handler) as server:
        chat = Chat(server, "mapped", fallback="DENY")
        said = ["first", "hang a", "hang b", "last"]
        chat.sender.say(said[0], said[0])
        handler.wait_for(1, said[0])
        for content in said[1:]:
            chat.sender.say(content, content)
        handler.wait_for(2, "hang")
        assert server.upgrade().viewers == 2
        handler.wait_for(4, "hang")
        handler.released.set()
        answers = [chat.sender.receive() for _ in said]
        assert [answer["Content"] for answer in answers] == said
        assert [answer["RequestId"] for answer in answers] == said
        heard = chat.heard()
        assert [frame["Content"] for frame in heard] == said
        assert [frame["Id"] for frame in heard] == [answer["Id"] for answer in answers]
        asked = {asked.question["MessageId"] for asked in handler.asked if asked.question["Content"] == "hang a"}
        assert asked == {heard[1]["Id"]}, "it is the same message that is asked about"
    handler.close()


@pytest.mark.parametrize("fallback", ["ALLOW", "DENY"])
def test_a_handler_that_never_answers(tmp_path, fallback):
    """Goal: the fallback decides in the new process about messages that the old one had asked about."""
    handler = ReviewHandler()
    with config(tmp_path, handler, timeout_ms=2000) as server:
        chat = Chat(server, "mapped", fallback=fallback)
        chat.sender.say("hang", "r")
        handler.wait_for(1, "hang")
        assert server.upgrade().viewers == 2
        answer, before = chat.sender.receive_until(lambda frame: frame["RequestId"] == "r")
        assert before == [] and answer["Type"] == {"ALLOW": "MESSAGE", "DENY": "ERROR"}[fallback]
        assert [frame["Content"] for frame in chat.heard()] == ["hang"] * (fallback == "ALLOW")
    handler.close()


# -- rates --


@pytest.mark.parametrize("what", ["connection", "room"])
def test_no_rate_is_refilled(what):
    """Goal: who has used up a rate has no more after an upgrade than the time that passed gives. Method: requests all the
    time through four upgrades; a second's worth more at each would be four seconds' worth in all."""
    upgrades, rate = 4, {"connection": 10, "room": 5}[what]
    with Server(quotas="aws") as server:
        arn = room(server, {"connection": 100, "room": rate}[what])
        viewer = WebSocket(server.messaging_port, server.token(arn))
        answers: list[str] = []
        ending = threading.Event()

        def talk() -> None:
            while not ending.is_set():
                viewer.say("x", "r")
                answer = viewer.receive()
                assert answer["Type"] == "MESSAGE" or answer["ErrorCode"] == 429, answer
                answers.append(answer["Type"])
                # Slower than the rate of frames that are no accepted requests, 100/s: it is no flood.
                time.sleep(0.015)

        started = time.monotonic()
        talker = threading.Thread(target=talk)
        talker.start()
        for _ in range(upgrades):
            seen = len(answers)
            eventually(lambda: answers[seen:], lambda new: new.count("ERROR") >= 3 or not talker.is_alive())
            assert server.upgrade().viewers == 1
        seen = len(answers)
        eventually(lambda: answers[seen:], lambda new: new.count("MESSAGE") >= 3 or not talker.is_alive())
        ending.set()
        talker.join()
        elapsed = time.monotonic() - started
        accepted = answers.count("MESSAGE")
        assert accepted <= rate * (1 + elapsed) + 1, f"{accepted} in {elapsed:.2f} s"


# -- limits and users --


@pytest.fixture
def many_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_more_viewers_than_open_files(many_files):
    """Goal: a limit of 1,024 open files, as a shell gives, bounds the batches and not the viewers."""
    count = 1_100
    with Server(wrapper=("prlimit", "--nofile=1024:1024")) as server:
        arn = room(server)
        viewers = [WebSocket(server.messaging_port, server.token(arn, f"u{i}")) for i in range(count)]
        for turn in range(2):
            assert server.upgrade().viewers == count
            assert resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)[0] == 1024
            said = [f"{turn} {number}" for number in range(3)]
            for content in said:
                viewers[turn].say(content, "r")
            for viewer in viewers:
                assert [viewer.receive()["Content"] for _ in said] == said


def capabilities(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return sum(int(re.search(rf"^{name}:\s+(\w+)$", status, re.M)[1], 16) for name in ("CapEff", "CapPrm", "CapBnd"))


@pytest.mark.skipif(os.geteuid() != 0, reason="every other test runs as a user without capabilities here")
def test_a_user_without_capabilities():
    """Goal: no capability is needed. Method: the user nobody, a bounding set without any capability, no new privileges,
    and 8 MiB of locked memory, which systemd and Linux give by default and two processes need together."""
    home = Path(tempfile.mkdtemp(prefix="uproar-nobody-"))
    try:
        program = Path(shutil.copy(BINARY, home / "uproar"))
        data_dir = home / "data"
        data_dir.mkdir(mode=0o700)
        home.chmod(0o755)
        os.chown(data_dir, NOBODY, NOBODY)
        user = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs")
        none = ("--inh-caps=-all", "--bounding-set=-all")
        limits = ("prlimit", f"--memlock={MEMLOCK_BYTES}:{MEMLOCK_BYTES}", "--nofile=1024:1024")
        server = Server(data_dir, wrapper=(*limits, *user, *none))
        server.command[server.command.index(str(BINARY))] = str(program)
        with server:
            arn = room(server)
            used = server.token(arn, "used")
            viewers = [WebSocket(server.messaging_port, used)]
            viewers += [WebSocket(server.messaging_port, server.token(arn, f"u{i}")) for i in range(300)]
            for turn in range(2):
                assert server.upgrade().viewers == len(viewers)
                assert capabilities(server.process.pid) == 0
                viewers[0].say(str(turn), "r")
                assert [viewer.receive()["Content"] for viewer in viewers] == [str(turn)] * len(viewers)
                with pytest.raises(Refused):
                    WebSocket(server.messaging_port, used)
    finally:
        shutil.rmtree(home)
