"""Chat logs and destinations that take a part, lie, break off, or refuse one record (see bad_sink.py)."""

from __future__ import annotations

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
