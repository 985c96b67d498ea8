"""What is on disk changes its owner in an upgrade: rooms, used tokens, chat logs. Nothing acknowledged is lost."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from botocore.config import Config

from aws import eventually
from rawws import Refused, WebSocket
from uproar import BINARY, Server

UPGRADES = 3
TOKENS = 1_500


class Background:
    """Does `work` with 0, 1, 2, ... in a thread of its own until the end; what went wrong in it is raised there."""

    def __init__(self, work: Callable[[int], None]) -> None:
        self.work, self.count, self.ending = work, 0, False
        self.failure: BaseException | None = None
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        try:
            while not self.ending:
                self.work(self.count)
                self.count += 1
        except BaseException as failure:
            self.failure = failure

    def more(self, count: int) -> None:
        """Waits until so many more are done."""
        until = self.count + count
        eventually(lambda: self.failure or self.count >= until, bool)

    def __enter__(self) -> Background:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ending = True
        self.thread.join()
        if self.failure:
            raise self.failure


def as_shipped(server: Server):
    """boto3 with the retries it has when nobody configures any."""
    return server.boto(config=Config())


def test_calls_succeed_through_upgrades():
    """Goal: an application notices an upgrade by a slower call at most, and each call is done once. Method: boto3 with
    kept connections, and one that is idle through every upgrade."""
    with Server() as server:
        idle, made = as_shipped(server), []
        room = idle.create_room(name="before")["arn"]
        clients = [as_shipped(server) for _ in range(3)]

        def work(client, name: str) -> Callable[[int], None]:
            def call(number: int) -> None:
                arn = client.create_room(name=f"{name}-{number}")["arn"]
                assert client.get_room(identifier=arn)["name"] == f"{name}-{number}"
                client.create_chat_token(roomIdentifier=arn, userId="u")
                made.append(f"{name}-{number}")

            return call

        callers = [Background(work(client, str(index))) for index, client in enumerate(clients)]
        with callers[0], callers[1], callers[2]:
            for _ in range(UPGRADES):
                for caller in callers:
                    caller.more(3)
                server.upgrade()
                assert idle.get_room(identifier=room)["name"] == "before"
        names = Counter(room.get("name") for room in every_room(idle))
        assert all(names[name] == 1 for name in [*made, "before"]), names.most_common(3)


def every_room(boto) -> list[dict]:
    rooms, token = [], {}
    while True:
        page = boto.list_rooms(maxResults=50, **token)
        rooms += page["rooms"]
        if "nextToken" not in page:
            return rooms
        token = {"nextToken": page["nextToken"]}


@pytest.mark.parametrize("shards", [2, 3, 1])
def test_a_token_that_was_used_before_an_upgrade_is_refused_after_it(shards):
    """Goal: single use holds through upgrades, up to the last moment before the old process stops, also to another
    number of shards, and through a crash afterwards. Method: viewers come all the time; then every token is presented
    again."""
    with Server() as server:
        arn = server.boto_cached.create_room()["arn"]
        # Made before, since no token is made while the API pauses, and the last moment before the freeze counts.
        stock, used = [server.token(arn) for _ in range(TOKENS)], []

        def come(_number: int) -> None:
            if not stock:
                return time.sleep(0.001)
            WebSocket(server.messaging_port, stock[-1]).close()
            used.append(stock.pop())

        with Background(come) as comers:
            for _ in range(UPGRADES):
                comers.more(10)
                server.upgrade(binary=program_with(server, shards))
        for again in ("after the upgrades", "after a crash"):
            for number, token in enumerate(used):
                # Of many addresses, since one may be refused 1,000 times a second (ADDRESS_REFUSALS_PER_SECOND).
                source = f"127.0.0.{1 + number % 100}"
                with pytest.raises(Refused) as refused:
                    WebSocket(server.messaging_port, token, source=source)
                assert refused.value.response.status == 401, f"{number} of {len(used)} {again}"
            if again == "after the upgrades":
                server.kill()
                server.start()


def program_with(server: Server, shards: int) -> Path:
    """A program that is ours with another number of shards."""
    script = Path(f"{server.data_dir}-{shards}-shards")
    arguments = f"$(echo \"$@\" | sed 's/--shards [0-9]*/--shards {shards}/')"
    script.write_text(f"#!/bin/sh\nexec {BINARY} {arguments}\n")
    script.chmod(0o700)
    return script


def test_a_chat_log_is_whole_through_upgrades():
    """Goal: each message that a viewer has seen is in the log, through upgrades under traffic, in order and once.
    Method: files as the destination."""
    with Server() as server:
        boto = server.boto_cached
        logged = boto.create_logging_configuration(
            destinationConfiguration={"firehose": {"deliveryStreamName": "upgraded"}}
        )["arn"]
        room = boto.create_room(maximumMessageRatePerSecond=100, loggingConfigurationIdentifiers=[logged])["arn"]
        with WebSocket(server.messaging_port, server.token(room)) as speaker:

            def say(number: int) -> None:
                speaker.say(str(number), f"r{number}")
                assert speaker.receive()["Content"] == str(number)

            with Background(say) as talk:
                for _ in range(UPGRADES):
                    talk.more(20)
                    server.upgrade()
                talk.more(20)
        seen = [str(number) for number in range(talk.count)]

        def kept() -> list[str]:
            files = sorted((server.data_dir / "chat-logs").rglob("*"))
            lines = [line for file in files if file.is_file() for line in file.read_text().splitlines()]
            return [json.loads(line)["payload"]["Content"] for line in lines]

        eventually(lambda: len(set(kept())), lambda count: count >= len(seen))
        assert kept() == seen
