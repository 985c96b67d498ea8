"""Reads a cluster's log beside it, as long as a trial lasts: records are kept for a minute only.

The brokers' own client and a parser written from the description of the format; nothing of Uproar.
"""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import threading
import time

from nats.errors import Error as NatsError

from cluster_oracle import RoomLog
from cluster_records import Batch, Release, Takeover, parse
from nats_brokers import ApiError, Brokers, Stored

PARTITIONS = 8
READ_EVERY_SECONDS = 2.0
FINISH_SECONDS_MAX = 90.0
# What a call to brokers that come and go may raise.
AWAY = (NatsError, ApiError, OSError, asyncio.TimeoutError, concurrent.futures.TimeoutError)


class LogReader:
    """Follows all streams of a log from now on. `finish` reads to their ends and gives each room's order."""

    def __init__(self, brokers: Brokers, cluster: str, every: float = READ_EVERY_SECONDS) -> None:
        self.client, self.every = brokers.client(), every
        self.streams = [f"UP_{cluster}_LOG_{partition}" for partition in range(PARTITIONS)]
        self.after = {stream: self.end(stream) for stream in self.streams}
        self.records: dict[str, list[Stored]] = collections.defaultdict(list)
        self.faults: list[str] = []
        self.halt = threading.Event()
        self.thread = threading.Thread(target=self.follow, daemon=True)
        self.thread.start()

    def end(self, stream: str) -> int:
        """The last sequence, by the stream's leader."""
        deadline = time.monotonic() + FINISH_SECONDS_MAX
        while True:
            try:
                return self.client.call(f"STREAM.INFO.{stream}")["state"]["last_seq"]
            except AWAY:
                assert time.monotonic() < deadline, f"nobody answers for {stream}"
                time.sleep(0.2)

    def follow(self) -> None:
        while not self.halt.wait(self.every):
            for stream in self.streams:
                if self.halt.is_set():
                    return
                try:
                    self.read(stream)
                except Exception as error:  # a thread has nobody else to tell
                    self.faults.append(f"the reader: {error!r}")

    def read(self, stream: str) -> None:
        """What some replica has behind what is known."""
        try:
            found = self.client.read(stream, self.after[stream])
        except AWAY:
            return
        for record in found:
            if record.sequence != self.after[stream] + 1:
                self.faults.append(f"{stream}: {record.sequence} follows {self.after[stream]}")
            self.after[stream] = record.sequence
            self.records[record.subject].append(record)

    def finish(self, reviewed: frozenset[str] = frozenset()) -> Order:
        """Reads on to the ends, as they are now. `reviewed`: ids of rooms whose messages wait for a handler each."""
        self.halt.set()
        self.thread.join()
        deadline = time.monotonic() + FINISH_SECONDS_MAX
        for stream in self.streams:
            end = self.end(stream)
            while self.after[stream] < end:
                assert time.monotonic() < deadline, f"{stream} is read to {self.after[stream]}, its end is {end}"
                self.read(stream)
                time.sleep(0.05)
        return Order(self.records, self.faults, reviewed)

    def abandon(self) -> None:
        self.halt.set()
        self.thread.join()
        self.client.close()


class Order:
    """The rooms' orders by the log, and what is wrong with the log itself."""

    def __init__(
        self, records: dict[str, list[Stored]], faults: list[str], reviewed: frozenset[str] = frozenset()
    ) -> None:
        self.reviewed = reviewed
        self.rooms: dict[str, RoomLog] = collections.defaultdict(RoomLog)
        self.faults, self.takeovers, self.batches, self.entries = list(faults), 0, 0, 0
        self.slots_moved: set[str] = set()
        self.seen: dict[str, set[tuple[int, int, int]]] = collections.defaultdict(set)
        for subject, stored in records.items():
            self.take_slot(subject, stored)

    def by_room(self, arns: list[str]) -> dict[str, RoomLog]:
        return {arn: self.rooms[arn.rsplit("/", 1)[-1]] for arn in arns}

    def take_slot(self, subject: str, stored: list[Stored]) -> None:
        # The home before the first record is not known.
        epoch, home, before = None, None, None
        numbers: dict[tuple[int, int, str], int] = {}
        for one in stored:
            record = parse(one.payload)
            if before not in (None, record.previous):
                self.faults.append(f"{subject} {one.sequence}: it follows {before} and says {record.previous}")
            before = one.sequence
            if isinstance(record, Takeover):
                epoch, home = one.sequence, record.home
                self.takeovers += 1
                self.slots_moved.add(subject)
            elif isinstance(record, Release):
                if home not in (None, record.home):
                    self.faults.append(f"{subject} {one.sequence}: released by {record.home}, its home is {home}")
            elif isinstance(record, Batch):
                self.take_batch(subject, one.sequence, record, epoch, home)
                self.take_entries(subject, record, numbers)

    def take_batch(self, subject: str, sequence: int, batch: Batch, epoch: int | None, home: int | None) -> None:
        self.batches += 1
        if home is not None and (batch.home, batch.epoch) != (home, epoch):
            self.faults.append(
                f"{subject} {sequence}: a batch of {batch.home:x} and epoch {batch.epoch}, "
                f"the home is {home:x} since {epoch}"
            )

    def take_entries(self, subject: str, batch: Batch, numbers: dict[tuple[int, int, str], int]) -> None:
        for entry in batch.entries:
            self.entries += 1
            if (batch.epoch, entry.origin, entry.number) in self.seen[subject]:
                self.faults.append(f"{subject}: number {entry.number} of {entry.origin:x} again in epoch {batch.epoch}")
            self.seen[subject].add((batch.epoch, entry.origin, entry.number))
            # Rooms of a slot are decided by several shards, so only within a room do one node's requests keep their
            # order, and a reviewed message may come later.
            key = (batch.epoch, entry.origin, entry.room)
            if entry.number < numbers.get(key, 0) and entry.room not in self.reviewed:
                self.faults.append(
                    f"{subject}: in {entry.room} number {entry.number} of {entry.origin:x} behind {numbers[key]}"
                )
            numbers[key] = entry.number
            if entry.payload:
                self.rooms[entry.room].add(entry.payload)
