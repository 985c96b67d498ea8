"""Drains and stops: everything said before a viewer's cut reaches it, requests on their way are taken, the pace is
bound by the token endpoint, a second signal does not wait.

`tests/clients/node/drain.test.mjs` has the official clients behind HAProxy and nginx."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import threading
import time
import urllib.error

import pytest

from rawws import Closed, WebSocket
from test_admin import admin, command, health
from uproar import BINARY, Server


@contextlib.contextmanager
def running(tmp_path, shards=2, **options):
    """A server that the test ends itself."""
    server = Server(tmp_path / "data", **options)
    server.command[server.command.index("--shards") + 1] = str(shards)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def join(server: Server, arn: str, count: int) -> list[WebSocket]:
    return [WebSocket(server.messaging_port, server.token(arn, f"u{n}")) for n in range(count)]


def readyz(server: Server) -> int:
    try:
        return server.page("/readyz")[0]
    except urllib.error.HTTPError as error:
        return error.code


def figure(server: Server, name: str) -> int:
    line = next(line for line in server.metrics().splitlines() if line.startswith(f"uproar_{name} "))
    return int(float(line.split()[-1]))


def is_in(server: Server, state: str) -> bool:
    return f'uproar_drain_state{{state="{state}"}} 1' in server.metrics()


def wait_until(happened, what: str) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def rest(viewer: WebSocket) -> list[str]:
    """The contents of all messages until the end of the stream, which comes without a Close frame."""
    contents = []
    while True:
        try:
            frame = viewer.receive(60)
        except Closed as closed:
            assert closed.code is None, f"a Close frame: {closed}"
            return contents
        assert frame["Type"] == "MESSAGE", frame
        contents.append(frame["Content"])


def numbers(contents: list[str]) -> list[int]:
    return [int(content.split()[0]) for content in contents]


class Laggard(threading.Thread):
    """Reads nothing until it is told to, then 32 KiB in each second until it has caught up, into a small window."""

    def __init__(self, viewer: WebSocket) -> None:
        super().__init__(daemon=True)
        self.viewer, self.contents, self.ended = viewer, [], None
        self.wakes = threading.Event()
        viewer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.start()

    def run(self) -> None:
        self.wakes.wait()
        taken = 0
        try:
            while True:
                content = self.viewer.receive(60)["Content"]
                self.contents.append(content)
                taken += len(content)
                if taken >= 32 * 1024:
                    taken = 0
                    time.sleep(1)
        except Closed as closed:
            self.ended = closed


def await_ends(readers: list[Reader | Laggard]) -> None:
    """Each stream ends, without a Close frame."""
    for reader in readers:
        reader.join(120)
        assert reader.ended is not None and reader.ended.code is None, reader.ended
        reader.viewer.close()


def test_viewers_far_behind_get_everything_said_before_the_drain(tmp_path):
    """Goal: a drain costs nobody a message that was said before, however slowly it reads. Method: the quick viewers
    of the shard have heard the last message before the drain begins, and the slow ones have read nothing."""
    with running(tmp_path, shards=1, quotas="open") as server:
        arn = server.boto().create_room(name="far-behind", maximumMessageRatePerSecond=100)["arn"]
        quick = [Reader(viewer) for viewer in join(server, arn, 40)]
        slow = [Laggard(viewer) for viewer in join(server, arn, 10)]
        said = 300
        for number in range(said):
            assert quick[0].viewer.say(f"{number} {'x' * 450}")
            time.sleep(0.011)
        wait_until(lambda: all(len(reader.contents) == said for reader in quick), "all is said")
        assert command("drain", server, "--over", "3s").returncode == 0
        for reader in slow:
            reader.wakes.set()
        await_ends(quick + slow)
        assert server.process.wait(60) == 0, server.log()
        for reader in quick + slow:
            assert numbers(reader.contents) == list(range(said))


def cut(server: Server) -> int:
    return figure(server, 'connections_closed_total{reason="drain"}')


@pytest.mark.parametrize("shards", [1, 2])
def test_everything_said_before_its_cut_reaches_a_viewer(tmp_path, shards):
    """Goal: a drain costs nobody a message that was said while it was connected: numbered messages in order, none
    left out, none twice, up to its own cut, for quick viewers and for those who read once a second.

    Method: every stream is the beginning of the longest one. One shard has one order of messages and cuts, so there ten
    messages are said, and when their speaker has heard them, the server counts the cuts: whoever is not among them
    has heard all ten. It counts them before the ten, too: whoever was cut by then has heard none."""
    with running(tmp_path, shards=shards, quotas="open") as server:
        arn = server.boto().create_room(name="numbered", maximumMessageRatePerSecond=100)["arn"]
        viewers = [Reader(viewer) for viewer in join(server, arn, 50)]
        slow = [Laggard(viewer) for viewer in join(server, arn, 10)]
        for reader in slow:
            reader.wakes.set()
        # Each speaker is cut in its turn, too; then the next one speaks.
        speakers = [Reader(viewer) for viewer in join(server, arn, 10)]
        everybody = viewers + slow + speakers
        assert command("drain", server, "--over", "6s").returncode == 0
        rounds = []
        number = 0
        for speaker in speakers:
            with contextlib.suppress(OSError):
                while speaker.ended is None:
                    before, first = cut(server), number
                    for _ in range(10):
                        speaker.viewer.say(f"{number} {'x' * 450}")
                        number += 1
                        time.sleep(0.011)
                    last = number - 1
                    wait_until(lambda: speaker.ended or speaker_heard(speaker, last), "it hears itself")
                    if not speaker.ended:
                        rounds.append((before, first, last, cut(server)))
        await_ends(everybody)
        assert server.process.wait(60) == 0, server.log()
        heard = [numbers(reader.contents) for reader in everybody]
        longest = max(heard, key=len)
        assert longest == sorted(set(longest)), "in order, none twice"
        for got in heard:
            assert got == longest[: len(got)], "none left out"
        assert any(0 < before and behind < len(everybody) for before, _, _, behind in rounds), rounds
        for before, first, last, behind in rounds if shards == 1 else []:
            assert sum(first in got for got in heard) <= len(everybody) - before
            assert sum(last in got for got in heard) >= len(everybody) - behind, (last, behind)


def speaker_heard(speaker: Reader, number: int) -> bool:
    return bool(speaker.contents) and numbers(speaker.contents[-1:])[0] >= number


def test_a_message_in_flight_at_the_cut_is_broadcast(tmp_path):
    """Goal: what a viewer sent before it knew of its cut is heard by those who are still there. Method: a viewer that
    does not answer the server's FIN sends behind it; one that is cut much later hears that."""
    with running(tmp_path, quotas="open") as server:
        arn = server.boto().create_room(name="flight")["arn"]
        viewers = join(server, arn, 30)
        assert command("drain", server, "--over", "20s").returncode == 0
        first = await_first_end(viewers)
        assert first.send_json({"Action": "SEND_MESSAGE", "Content": "in flight"})
        heard = 0
        for viewer in viewers:
            with contextlib.suppress(Closed, OSError, TimeoutError):
                if viewer is not first and viewer.receive(5)["Content"] == "in flight":
                    heard += 1
                    if heard == 5:
                        break
        assert heard == 5, "those who are left hear it"
        for viewer in viewers:
            viewer.close()
        server.process.send_signal(signal.SIGTERM)
        server.process.send_signal(signal.SIGTERM)


def await_first_end(viewers: list[WebSocket]) -> WebSocket:
    """The first viewer whose stream has ended; its own direction stays open."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for viewer in viewers:
            viewer.socket.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                if viewer.socket.recv(1, socket.MSG_PEEK) == b"":
                    viewer.socket.setblocking(True)
                    for other in viewers:
                        other.socket.setblocking(True)
                    return viewer
        time.sleep(0.005)
    raise AssertionError("nobody is cut")


def test_a_pace_beyond_the_token_rate_is_refused_with_the_ways_out(tmp_path):
    """Goal: who would be lost is not cut; taking the advice helps, and so does force."""
    with running(tmp_path, quotas="open", extra=("--config", str(tokens_limited(tmp_path)))) as server:
        arn = server.boto().create_room(name="pace")["arn"]
        mint = lambda n: command_token(server, arn, n)
        viewers = [WebSocket(server.messaging_port, token) for token in mint(40)]
        before = health(server)
        assert before["viewers"] == 40
        refused = command("drain", server, "--over", "4s")
        assert refused.returncode == 1
        for part in ("40 viewers over 4 s are 10/s", "CreateChatToken allows 10/s", "--over 5s", "CreateChatToken=13"):
            assert part in refused.stderr, refused.stderr
        assert health(server) == before and readyz(server) == 200
        # What it says, it means.
        accepted = command("drain", server, "--over", "5s", "--notice", "60s")
        assert accepted.returncode == 0, accepted.stderr
        assert "8/s" in accepted.stdout
        assert command("drain", server, "--cancel").returncode == 0
        forced = command("drain", server, "--over", "4s", "--force", "--wait")
        assert forced.returncode == 0, forced.stderr
        assert "40 viewers were cut, 0 are left" in forced.stdout
        assert server.process.wait(60) == 0
        for viewer in viewers:
            assert rest(viewer) == []
            viewer.close()


def tokens_limited(tmp_path):
    file = tmp_path / "uproar.toml"
    file.write_text('[quotas]\noperations = ["CreateChatToken=10"]\n')
    return file


def command_token(server: Server, arn: str, count: int) -> list[str]:
    made = subprocess.run(
        [BINARY, "token", "create", "--data-dir", server.data_dir, "--room", arn, "--user", "u", "--count", str(count)],
        check=True, capture_output=True, text=True,
    )
    return made.stdout.split()


def test_a_cancelled_drain_serves_on(tmp_path):
    with running(tmp_path, quotas="open") as server:
        arn = server.boto().create_room(name="cancelled")["arn"]
        viewers = join(server, arn, 20)
        with admin(server) as waiting:
            begun = waiting.ask({"order": "drain", "over_s": 40, "notice_s": 1, "wait": True})["progress"]
            assert begun == {
                "viewers": 20, "notice_s": 1, "over_s": 40, "per_second": 1, "tokens_per_second": None,
            }
            assert waiting.answer()["progress"]["state"] == "noticed"
            assert readyz(server) == 503 and health(server)["state"] == "noticed"
            assert health(server)["viewers"] == 20, "noticed, nobody is cut"
            # Applications of cut viewers need tokens, and whoever comes is welcome.
            viewers += join(server, arn, 1)
            wait_until(lambda: is_in(server, "cutting"), "it never begins")
            wait_until(lambda: figure(server, "drain_left") < 21, "nobody is cut")
            busy = command("drain", server, "--over", "1s")
            assert busy.returncode == 1 and "drain is being done" in busy.stderr
            busy = command("reload", server)
            assert busy.returncode == 1 and "drain is being done" in busy.stderr
            assert command("drain", server, "--cancel").returncode == 0
            while "progress" in (last := waiting.answer()):
                pass
            assert last["error"]["code"] == "refused" and "cancelled" in last["error"]["message"]
        assert readyz(server) == 200
        left = health(server)
        assert left["state"] == "serving" and 15 <= left["viewers"] <= 20
        time.sleep(3)
        assert health(server)["viewers"] == left["viewers"], "nobody more is cut"
        assert figure(server, "drain_left") == 0 and is_in(server, "serving")
        again = command("drain", server, "--cancel")
        assert again.returncode == 1 and "no drain" in again.stderr
        for viewer in viewers:
            viewer.close()
        server.stop()


def test_a_second_signal_ends_a_drain_at_once(tmp_path):
    """Goal: whoever cannot wait need not: exit code 4 says that viewers paid for it."""
    file = tmp_path / "uproar.toml"
    file.write_text("[drain]\nnotice_s = 30\nover_s = 600\n")
    with running(tmp_path, quotas="open", extra=("--config", str(file))) as server:
        arn = server.boto().create_room(name="twice")["arn"]
        viewers = join(server, arn, 20)
        readers = [Reader(viewer) for viewer in viewers]
        stalled = stall(server, arn, viewers[0])
        wait_until(lambda: len(readers[0].contents) == STALLING, "all is said")
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: readyz(server) == 503, "it is not noticed")
        refused = command("drain", server, "--cancel")
        assert refused.returncode == 1 and "a signal" in refused.stderr
        assert health(server)["viewers"] == 21, server.log()
        server.process.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        assert server.process.wait(60) == 4, server.log()
        # Ten times the goal, for machines that do other things.
        assert time.monotonic() - begun < 2
        server.await_log("21 viewers were cut")
        stalled.close()
        for viewer in viewers:
            viewer.close()


def test_a_second_signal_that_cuts_nobody_is_a_clean_end(tmp_path):
    file = tmp_path / "uproar.toml"
    file.write_text("[drain]\nover_s = 600\n")
    with running(tmp_path, quotas="open", extra=("--config", str(file))) as server:
        server.process.send_signal(signal.SIGINT)
        wait_until(lambda: is_in(server, "cutting"), "it does not drain")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0, server.log()


STALLING = 1200


class Reader(threading.Thread):
    """Reads all the time; knows what came, and how the stream ended."""

    def __init__(self, viewer: WebSocket) -> None:
        super().__init__(daemon=True)
        self.viewer, self.contents, self.ended = viewer, [], None
        self.start()

    def run(self) -> None:
        try:
            self.contents += iter(lambda: self.viewer.receive(60)["Content"], None)
        except Closed as closed:
            self.ended = closed


def stall(server: Server, arn: str, speaker: WebSocket) -> WebSocket:
    """A viewer that reads nothing, with more said to it than the kernel takes."""
    stalled = WebSocket(server.messaging_port, server.token(arn, "stalled"))
    stalled.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    for number in range(STALLING):
        assert speaker.say(f"{number} " + "\N{GRINNING FACE}" * 400)
    return stalled


def test_stalled_viewers_do_not_delay_a_stop(tmp_path):
    """Goal: SIGTERM ends a server soon, whoever does not read. Others get what was said, without a Close frame."""
    with running(tmp_path, quotas="open") as server:
        arn = server.boto().create_room(name="stalled")["arn"]
        readers = [Reader(viewer) for viewer in join(server, arn, 5)]
        stalled = stall(server, arn, readers[0].viewer)
        wait_until(lambda: len(readers[0].contents) >= STALLING - 100, "it hears itself")
        wait_until(lambda: figure(server, "messages_delivered_total") > 0, "delivered")
        said = max(len(reader.contents) for reader in readers)
        server.process.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        assert server.process.wait(60) == 0, server.log()
        # Without a stalled viewer it is a tenth of a second; a second is the bound, and machines are busy.
        assert time.monotonic() - begun < 5
        for reader in readers:
            reader.join(60)
            assert reader.ended is not None and reader.ended.code is None
            assert numbers(reader.contents) == list(range(len(reader.contents)))
            assert len(reader.contents) >= said
            reader.viewer.close()
        stalled.close()
