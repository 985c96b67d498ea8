"""Reloads under load: a thousand in a row, storms of signals, several commands at once."""

from __future__ import annotations

import concurrent.futures
import json
import signal
import socket
import threading
import time

from aws import eventually
from configured import Configured
from rawws import WebSocket

RELOADS = 1_000
VIEWERS = 40


def order(server: Configured) -> dict:
    """One reload by the admin socket: the server's answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.settimeout(60)
        client.connect(str(server.data_dir / "admin.sock"))
        client.send(b'{"order":"reload"}')
        return json.loads(client.recv(65536))


def changing(number: int) -> dict[str, object]:
    """Settings that differ from those of the number before, of every thread of the server."""
    odd = number % 2
    return {
        "messaging.compression": bool(odd),
        "messaging.address_refusals": 1000 + odd,
        "quotas.connections": 50_000 - odd,
        "quotas.operations": [f"ListRooms={100 + odd}"],
        "delivery.window_bytes": 1 << (21 + odd),
        "review.timeout_ms": 200 + odd,
        "logging.stream_ms": 5_000 + odd,
        "log.filter": "info,uproar=warn" if odd else "warn",
        "tokens.life_minutes": 60 + odd,
    }


class Talk:
    """A room whose viewers must get everything, numbered, once and in order."""

    def __init__(self, server: Configured) -> None:
        arn = server.boto_cached.create_room(maximumMessageRatePerSecond=100)["arn"]
        self.viewers = [WebSocket(server.messaging_port, server.token(arn)) for _ in range(VIEWERS)]
        self.speaker = WebSocket(server.messaging_port, server.token(arn))
        self.over = threading.Event()
        self.said = 0
        self.threads = [threading.Thread(target=self.speak)]
        self.heard: dict[int, int] = {}
        for place, viewer in enumerate(self.viewers):
            self.threads.append(threading.Thread(target=self.listen, args=(place, viewer)))
        for thread in self.threads:
            thread.start()

    def speak(self) -> None:
        while not self.over.is_set():
            assert self.speaker.say(f"m{self.said}")
            self.said += 1
            time.sleep(0.01)
        self.speaker.say("end")

    def listen(self, place: int, viewer: WebSocket) -> None:
        count = 0
        while (content := viewer.receive()["Content"]) != "end":
            assert content == f"m{count}"
            count += 1
        self.heard[place] = count

    def end(self) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join(60)
        assert self.heard == {place: self.said for place in range(VIEWERS)}, (self.said, self.heard)


def test_a_thousand_reloads_drop_nobody_and_leak_nothing():
    with Configured() as server:
        talk = Talk(server)
        try:
            for number in range(RELOADS):
                server.write({**server.settings, **changing(number)})
                answer = order(server)
                # The first one sets them, each other one changes all of them.
                assert len(answer["ok"]["changes"]) == len(changing(number)) or number == 0, answer
                if number == RELOADS // 10:
                    descriptors, resident = server.descriptors(), server.resident_bytes()
            # The last order's connection may still be about to be closed.
            eventually(server.descriptors, lambda count: count <= descriptors)
            assert server.resident_bytes() - resident < 8 << 20
        finally:
            talk.end()
        assert server.counts() == {"ok": RELOADS, "error": 0}


def test_a_storm_of_signals_ends_with_the_last_file():
    """Goal: signals that come during a reload are one more reload, so that the last file is read."""
    with Configured() as server:
        arn = server.boto_cached.create_room()["arn"]

        def life() -> float:
            answer = server.boto_cached.create_chat_token(roomIdentifier=arn, userId="u")
            return answer["tokenExpirationTime"].timestamp() - time.time()

        for minutes in range(2, 60):
            server.write({**server.settings, "tokens.life_minutes": minutes})
            for _ in range(5):
                server.process.send_signal(signal.SIGHUP)
                time.sleep(0.002)
        deadline = time.monotonic() + 60
        while not 58 * 60 < life() <= 59 * 60 + 1:
            assert time.monotonic() < deadline, life()
            time.sleep(0.02)
        assert server.counts()["error"] == 0


def test_commands_at_once_are_done_one_by_one_or_refused():
    with Configured() as server:
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: order(server), range(40)))
        done = [answer for answer in answers if "ok" in answer]
        busy = [answer for answer in answers if answer.get("error", {}).get("code") == "busy"]
        assert done and len(done) + len(busy) == len(answers), answers
        assert server.counts() == {"ok": len(done), "error": 0}
