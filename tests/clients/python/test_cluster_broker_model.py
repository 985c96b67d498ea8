"""The model of JetStream in crates/testing/src/cluster/broker.rs against real brokers: the cluster's simulation is worth
what its broker is worth. The rules have the same numbers in both places."""

from __future__ import annotations

import itertools
import os
import random
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import pytest

from nats_brokers import LOST, ApiError, Brokers, NatsClient, WrongLast

STREAM, SUBJECTS = "M_LOG", [f"m.log.{n}" for n in range(6)]
SETTINGS = {
    "subjects": ["m.log.*"],
    "allow_direct": True,
    "duplicate_window": 1_000_000_000,
    "republish": {"src": "m.log.*", "dest": "m.out.{{wildcard(1)}}"},
}
NO_MESSAGE = 10037
SECONDS = float(os.environ.get("UPROAR_MODEL_SECONDS", "20"))
SEEDS = [int(os.environ.get("UPROAR_MODEL_SEED", "1"))]


@dataclass
class Append:
    """One conditional append, as its writer saw it. `outcome`: its sequence, "refused" or "unknown"."""

    subject: str
    expected: int
    payload: bytes
    begun: float
    ended: float = 0.0
    outcome: int | str = "unknown"


@dataclass
class Read:
    """What a read behind `after` returned."""

    subject: str
    after: int
    begun: float
    found: list[tuple[int, bytes]] = field(default_factory=list)


@dataclass
class Copy:
    """What was republished to one subscriber."""

    subject: str
    sequence: int
    previous: int
    payload: bytes


class Writer(threading.Thread):
    """Appends behind what it believes is the last record; others do the same to the same subjects."""

    numbers = itertools.count()

    def __init__(self, urls: list[str], seed: int, until: float) -> None:
        super().__init__()
        self.client, self.dice, self.until = NatsClient(urls), random.Random(seed), until
        self.known = dict.fromkeys(SUBJECTS, 0)
        self.appends: list[Append] = []
        self.reads: list[Read] = []

    def run(self) -> None:
        while time.monotonic() < self.until:
            subject = self.dice.choice(SUBJECTS)
            # Now and then a condition that cannot hold, as that of a home that was replaced.
            expected = self.known[subject] if self.dice.random() < 0.95 else self.dice.randrange(3)
            self.append(subject, expected)

    def append(self, subject: str, expected: int) -> None:
        one = Append(subject, expected, b"%d" % next(self.numbers), time.monotonic())
        self.appends.append(one)
        try:
            one.outcome = self.client.append(subject, one.payload, expected, self.dice.choice((0.05, 0.5, 2.0)))
            self.known[subject] = one.outcome
        except WrongLast:
            one.outcome = "refused"
        except ApiError:
            # Such as "no quorum": as good as no answer.
            pass
        except LOST:
            time.sleep(0.05)
        one.ended = time.monotonic()
        if not isinstance(one.outcome, int):
            self.read(subject)

    def read(self, subject: str) -> None:
        """Everything behind what it knows, from the stream's leader."""
        read = Read(subject, self.known[subject], time.monotonic())
        try:
            while True:
                wanted = {"seq": self.known[subject] + 1, "next_by_subj": subject}
                found = self.client.api(f"STREAM.MSG.GET.{STREAM}", wanted, 1)["message"]
                self.known[subject] = found["seq"]
                read.found.append((found["seq"], found["data"]))
        except ApiError as error:
            if error.code == NO_MESSAGE:
                self.reads.append(read)
        except LOST:
            pass


class Listener:
    """Takes what is republished."""

    def __init__(self, urls: list[str]) -> None:
        self.client, self.copies = NatsClient(urls), []

        async def take(message) -> None:
            headers = message.headers
            self.copies.append(Copy(
                headers["Nats-Subject"], int(headers["Nats-Sequence"]), int(headers["Nats-Last-Sequence"]), message.data,
            ))

        self.client.wait(self.client.nc.subscribe("m.out.*", cb=take))


def trouble(brokers: Brokers, client: NatsClient, dice: random.Random, until: float) -> Counter:
    """Kills, stops and thaws brokers until then; at the end all are back."""
    happened: Counter = Counter()
    while time.monotonic() < until:
        victim = brokers.leader(client, STREAM) if dice.random() < 0.7 else dice.choice(brokers.all)
        kind = dice.choice(("kill", "freeze", "freeze", "two"))
        happened[kind] += 1
        victims = [victim]
        if kind == "two":
            victims.append(dice.choice([other for other in brokers.all if other is not victim]))
        for one in victims:
            one.freeze() if kind == "freeze" else one.kill()
        time.sleep(dice.uniform(0.1, 4.0))
        for one in victims:
            one.thaw() if kind == "freeze" else one.start()
        brokers.await_current()
        time.sleep(dice.uniform(0.0, 2.0))
    return happened


def check_log(log: dict[str, list[tuple[int, bytes]]], appends: list[Append]) -> Counter:
    """Rules 1 to 4. `log` is what was read back in the end."""
    place = {payload: (sequence, subject) for subject, records in log.items() for sequence, payload in records}
    assert len(place) == sum(map(len, log.values())), "rule 3: an append is in the log twice"
    by_payload = {one.payload: one for one in appends}
    for subject, records in log.items():
        last = 0
        for sequence, payload in records:
            one = by_payload[payload]
            assert sequence > last, f"rule 1: {subject} went back to {sequence}"
            assert one.expected == last, f"rule 1: {one} lies behind {last}"
            last = sequence
    seen: Counter = Counter()
    for one in appends:
        found = place.get(one.payload)
        if one.outcome == "refused":
            assert found is None, f"rule 2: refused, and at {found}: {one}"
            seen["refused"] += 1
        elif one.outcome == "unknown":
            seen["unknown, committed" if found else "unknown, never"] += 1
        else:
            assert found == (one.outcome, one.subject), f"rule 4: acknowledged, and at {found}: {one}"
            seen["acknowledged"] += 1
    # What was acknowledged before another began lies before it.
    for subject in log:
        acked = [a for a in appends if a.subject == subject and isinstance(a.outcome, int)]
        for before, one in itertools.pairwise(sorted(acked, key=lambda a: a.outcome)):
            assert one.ended > before.begun, f"rule 4: {one} ended before {before} began"
    return seen


def check_reads(log: dict[str, list[tuple[int, bytes]]], reads: list[Read], appends: list[Append]) -> Counter:
    """Rule 5."""
    seen: Counter = Counter()
    for read in reads:
        behind = [sequence for sequence, _ in log[read.subject] if sequence > read.after]
        found = [sequence for sequence, _ in read.found]
        assert found == behind[: len(found)], f"rule 5: {read} of {behind}"
        # What was acknowledged before the read began, and is not in it.
        end = found[-1] if found else read.after
        acked = (a.outcome for a in appends if a.subject == read.subject and isinstance(a.outcome, int) and a.ended < read.begun)
        seen["old" if max(acked, default=0) > end else "current"] += 1
    return seen


def check_copies(log: dict[str, list[tuple[int, bytes]]], copies: list[Copy]) -> Counter:
    """Rule 6."""
    before: dict[str, dict[int, tuple[int, bytes]]] = defaultdict(dict)
    for subject, records in log.items():
        last = 0
        for sequence, payload in records:
            before[subject][sequence] = (last, payload)
            last = sequence
    known: set[tuple[str, int]] = set()
    seen: Counter = Counter()
    newest = dict.fromkeys(log, 0)
    for copy in copies:
        expected = before[copy.subject].get(copy.sequence)
        assert expected == (copy.previous, copy.payload), f"rule 6: {copy}, committed was {expected}"
        kind = "twice" if (copy.subject, copy.sequence) in known else "late" if copy.sequence < newest[copy.subject] else "once"
        seen[kind] += 1
        known.add((copy.subject, copy.sequence))
        newest[copy.subject] = max(newest[copy.subject], copy.sequence)
    seen["missing"] = sum(map(len, log.values())) - len(known)
    return seen


@pytest.mark.parametrize("seed", SEEDS)
def test_brokers_do_only_what_their_model_does(seed):
    """Goal: whatever real brokers answer, store and republish while they are killed and stopped, their model in the
    simulation can do too. Method: three writers append to the same six subjects, each on the condition of what it
    believes is the last record; everything is read back and compared with what they were told. Another schedule is one of
    another `UPROAR_MODEL_SEED`, a longer one of more `UPROAR_MODEL_SECONDS`."""
    dice = random.Random(seed)
    with Brokers() as brokers, brokers.client() as client:
        client.create_stream(STREAM, **SETTINGS)
        brokers.await_current()
        until = time.monotonic() + SECONDS
        # Each begins at another broker; a listener that reconnects misses what is said meanwhile.
        urls = [brokers.urls[n:] + brokers.urls[:n] for n in range(3)]
        listeners = [Listener(urls[n]) for n in range(2)]
        writers = [Writer(urls[n], seed * 100 + n, until) for n in range(3)]
        for writer in writers:
            writer.start()
        happened = trouble(brokers, client, dice, until - 4)
        for writer in writers:
            writer.join()
        brokers.await_current()
        log: dict[str, list[tuple[int, bytes]]] = {subject: [] for subject in SUBJECTS}
        acknowledged = [one.outcome for writer in writers for one in writer.appends if isinstance(one.outcome, int)]
        for record in client.read_through(STREAM, max(acknowledged, default=0)):
            log[record.subject].append((record.sequence, record.payload))
        time.sleep(0.5)
        for one in [*writers, *listeners]:
            one.client.close()
    appends = [one for writer in writers for one in writer.appends]
    told = check_log(log, appends)
    reads = check_reads(log, [read for writer in writers for read in writer.reads], appends)
    copies = [check_copies(log, listener.copies) for listener in listeners]
    print(f"seed {seed}: {dict(happened)}; appends {dict(told)}; reads {dict(reads)}; copies {[dict(c) for c in copies]}")
    assert told["acknowledged"] > 200 and told["refused"] > 20 and told["unknown, never"] + told["unknown, committed"] > 5


def test_an_emptied_subject_begins_with_the_condition_zero():
    """Goal: rule 1 where nothing is stored any more. Method: a subject is emptied between two appends."""
    with Brokers() as brokers, brokers.client() as client:
        client.create_stream(STREAM, **SETTINGS)
        brokers.await_current()
        listener = Listener(brokers.urls)
        first = client.append(SUBJECTS[0], b"first", 0)
        client.api(f"STREAM.PURGE.{STREAM}", {"filter": SUBJECTS[0]})
        with pytest.raises(WrongLast):
            client.append(SUBJECTS[0], b"behind it", first)
        second = client.append(SUBJECTS[0], b"second", 0)
        assert second == first + 1, "sequences go on"
        deadline = time.monotonic() + 10
        while len(listener.copies) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        listener.client.close()
    assert [(copy.sequence, copy.previous) for copy in listener.copies] == [(first, 0), (second, 0)]
