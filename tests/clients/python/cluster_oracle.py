"""What a cluster promised its viewers, checked afterwards: by what they saw, and by a reader of the log that shares no
code with Uproar.

The log's order is the truth. Every check returns faults as sentences; none is waited for and none depends on time.
"""

from __future__ import annotations

import collections
import json
from dataclasses import dataclass, field

from cluster_viewers import Request, Stream
from rawws import instant

# Answers that mean "not known": the message may still be in the log, once.
UNKNOWN = {500, 503}


@dataclass
class RoomLog:
    """What the log holds of a room: frames in order, as viewers get them."""

    payloads: list[bytes] = field(default_factory=list)
    positions: dict[bytes, int] = field(default_factory=dict)
    by_request: dict[str, list[int]] = field(default_factory=lambda: collections.defaultdict(list))
    # Without a beginning where records had aged out before they were read.
    faults: list[str] = field(default_factory=list)
    # Each frame's place, by its Id.
    ids: dict[str, int] = field(default_factory=dict)
    sent: str = ""

    def add(self, payload: bytes) -> None:
        frame = json.loads(payload)
        if frame["Id"] in self.ids:
            self.faults.append(f"Id {frame['Id']} is in the log twice")
        if instant(frame["SendTime"]) < instant(self.sent):
            self.faults.append(f"SendTime goes back from {self.sent} to {frame['SendTime']}")
        self.sent = frame["SendTime"]
        at = len(self.payloads)
        self.ids[frame["Id"]] = at
        self.payloads.append(payload)
        self.positions[payload] = at
        if frame.get("RequestId"):
            self.by_request[frame["RequestId"]].append(at)


def check(order: dict[str, RoomLog], streams: list[Stream], requests: list[Request]) -> list[str]:
    """Everything that is not as promised. `order` is by room ARN; viewers are quiet and have settled."""
    faults = [f"{room}: {fault}" for room, log in order.items() for fault in log.faults]
    first_said = first_sends(requests)
    for stream in streams:
        log = order.get(stream.room, RoomLog())
        faults += [f"{stream.user} on {stream.node}: {fault}" for fault in stretch(log, stream, first_said)]
    for request in requests:
        found = len(order.get(request.stream.room, RoomLog()).by_request.get(request.id, []))
        if fault := verdict(request, found):
            faults.append(f"{request.id} on {request.stream.node}: {fault}")
    return faults


def witnessed(streams: list[Stream]) -> dict[str, RoomLog]:
    """Each room's order as one viewer saw it who was there from the beginning to the end: where the log is what a test
    harms."""
    order: dict[str, RoomLog] = {}
    for room in {stream.room for stream in streams}:
        order[room] = RoomLog()
        witness = min((s for s in streams if s.room == room and s.ended is None), key=lambda stream: stream.joined)
        for _, payload in witness.frames:
            if json.loads(payload)["Type"] != "ERROR":
                order[room].add(payload)
    return order


def first_sends(requests: list[Request]) -> dict[str, list[Request]]:
    """Of each room the requests, by the time at which they were sent."""
    found: dict[str, list[Request]] = collections.defaultdict(list)
    for request in sorted(requests, key=lambda request: request.sent):
        found[request.stream.room].append(request)
    return found


def stretch(log: RoomLog, stream: Stream, sends: dict[str, list[Request]]) -> list[str]:
    """Whether the stream is a gapless stretch of the room's order, from the viewer's `101` on, to the end if it is
    still connected."""
    at, begin, faults = None, None, []
    for _, payload in stream.frames:
        position = log.positions.get(payload)
        if position is None:
            # Answers to one viewer alone are not in the log.
            if json.loads(payload)["Type"] != "ERROR":
                faults.append(f"a frame that is not in the log: {payload[:200]!r}")
            continue
        if at is not None and position != at + 1:
            faults.append(f"{describe(log, at, position)}")
        begin = position if begin is None else begin
        at = position
    missed = [
        request for request in sends.get(stream.room, [])
        if request.sent > stream.joined and log.by_request.get(request.id)
    ]
    if stream.ended is None:
        if at is None and missed or at is not None and at != len(log.payloads) - 1:
            faults.append(f"connected to the end, it has {at} of {len(log.payloads) - 1} as its last frame")
    if begin is not None and missed:
        earliest = min(log.by_request[request.id][0] for request in missed)
        if earliest < begin:
            faults.append(f"its first frame is {begin}, and {earliest} was sent after its 101")
    return faults


def describe(log: RoomLog, before: int, after: int) -> str:
    if after > before + 1:
        return f"{after - before - 1} frames are missing behind {before}: {log.payloads[before + 1][:120]!r}"
    return f"frame {after} again or late, behind {before}"


def verdict(request: Request, found: int) -> str | None:
    """What is wrong with a request that is `found` times in the log."""
    if found > 1:
        return f"it is {found} times in the log"
    if request.echoed is not None and found != 1:
        return "its sender saw it, and it is not in the log"
    if request.echoed is None and request.refused is None and request.stream.ended is None:
        return "it has no answer"
    if request.refused is not None and request.refused not in UNKNOWN and found:
        return f"it was refused with {request.refused}, and it is in the log"
    return None
