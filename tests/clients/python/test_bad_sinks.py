"""Chat logs and destinations that take a part, lie, break off, or refuse one record (see bad_sink.py), and such as do not
answer when an upgrade wants them to."""

from __future__ import annotations

import threading

import pytest

from aws import eventually, logging_environment
from bad_sink import BadSink
from test_chat_logging import KINDS, chat, logged_room, metric
from uproar import Server

# Only a hang gets there: six pauses that double are half a minute.
SECONDS_MAX = 240.0


@pytest.mark.parametrize("seed", (1, 2))
def test_bad_sinks_get_everything_and_poison_costs_itself_alone(seed, tmp_path):
    """Goal: each record is kept or counted as dropped; only what was kept counts as delivered; a record
    the sink refuses holds nothing back.
    Method: two rooms logged to a bad sink of each kind, some of one's messages poisoned, six bad
    answers of each sink by seed."""
    sinks = {kind: BadSink(f"{kind}{seed}", bad=6) for kind in KINDS}
    endpoints = {f"{kind}_endpoint": sink.url for kind, sink in sinks.items()}
    try:
        with Server(
            tmp_path, quotas="open", wrapper=logging_environment(sinks["s3"], **endpoints)
        ) as server:
            judge(server, sinks)
    finally:
        for sink in sinks.values():
            sink.stop()


def judge(server: Server, sinks: dict[str, BadSink]) -> None:
    boto = server.boto_cached
    rooms = [logged_room(boto, *KINDS) for _ in range(2)]
    good = [frame["Id"] for frame in chat(server, rooms[0], 3)]
    poisoned = [frame["Id"] for frame in chat(server, rooms[1], 2, "poison")]
    good += [frame["Id"] for room in rooms for frame in chat(server, room, 5)]
    for kind, sink in sinks.items():

        def count(name: str, kind: str = kind, **labels: str) -> float:
            return metric(server, name, destination=kind, **labels)

        eventually(lambda: set(good) <= set(sink.kept), bool, SECONDS_MAX)
        eventually(lambda: count("log_records_waiting") == 0, bool, SECONDS_MAX)
        assert count("log_records_dropped_total", reason="refused") == len(poisoned), kind
        assert count("log_records_delivered_total") == len(good), kind
        for reason in ("age", "damage", "disk", "rejected", "spool_full", "deleted"):
            assert count("log_records_dropped_total", reason=reason) == 0, (kind, reason)
        assert not set(poisoned) & set(sink.kept), kind
        assert sink.wrong_checksums == 0


class StalledSink(BadSink):
    """It does not answer before `answers` is set, and then not what it was asked before; it may have kept that."""

    def __init__(self, kind: str, takes: bool) -> None:
        super().__init__(kind, bad=0)
        self.takes, self.is_asked, self.answers = takes, threading.Event(), threading.Event()

    def answer(self, operation, http, body):
        if operation == "CreateLogStream" or self.answers.is_set():
            return super().answer(operation, http, body)
        if self.takes:
            self.keep(self.lines(operation, http, body))
        self.is_asked.set()
        self.answers.wait(SECONDS_MAX)
        return None


def deliveries(sink: BadSink) -> int:
    return sum(count for name, count in sink.requests.items() if name != "CreateLogStream")


@pytest.mark.parametrize("takes", [True, False])
@pytest.mark.parametrize("fault", ["none:none", "old.viewers:fail"])
def test_a_delivery_that_an_upgrade_breaks_off_is_repeated(takes, fault, tmp_path, monkeypatch):
    """Goal: each record still reaches its destination, whether the broken-off request was kept there or not, by the new
    process or by the old one, if the upgrade is given up. Method: destinations of each kind that have a request and do
    not answer it, until the upgrade is over."""
    monkeypatch.setenv("UPROAR_TAKE_OVER_FAULT", fault)
    sinks = {kind: StalledSink(kind, takes) for kind in KINDS}
    endpoints = {f"{kind}_endpoint": sink.url for kind, sink in sinks.items()}
    try:
        with Server(
            tmp_path, quotas="open", wrapper=logging_environment(sinks["s3"], **endpoints)
        ) as server:
            room = logged_room(server.boto_cached, *KINDS)
            said = {frame["Id"] for frame in chat(server, room, 3)}
            for kind, sink in sinks.items():
                assert sink.is_asked.wait(SECONDS_MAX), kind
            if fault == "none:none":
                server.upgrade()
            else:
                done = server.try_upgrade()
                assert done.returncode == 1 and "serves as before" in done.stderr, done
            assert not any(sink.answers.is_set() for sink in sinks.values())
            for sink in sinks.values():
                assert (set(sink.kept) <= said) and (takes or not sink.kept)
                sink.answers.set()
            for kind, sink in sinks.items():
                # The broken-off request, and another: a destination that took the first one has every record before
                # the new process has opened its spools, so nothing else says that it is done.
                eventually(lambda sink=sink: deliveries(sink), lambda count: count >= 2, SECONDS_MAX)
                eventually(lambda sink=sink: set(sink.kept), lambda kept: kept == said, SECONDS_MAX)
                eventually(
                    lambda kind=kind: metric(server, "log_records_waiting", destination=kind) == 0, bool, SECONDS_MAX
                )
    finally:
        for sink in sinks.values():
            sink.answers.set()
            sink.stop()
