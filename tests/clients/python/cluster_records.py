"""Records of a cluster's log, read by the layout that crates/proto/src/cluster/{wire,record}.rs describe: a version, a
kind, then sections behind their lengths; numbers are little-endian, and what stands at a section's end unread is newer.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from cluster_viewers import whole_frame

VERSION = 1
TAKEOVER, RELEASE, BATCH = 1, 2, 3
URGENT, EVICTS = 1, 2


@dataclass(frozen=True)
class Entry:
    """A frame, and the request that it resolves; a probe's has no payload."""

    origin: int
    number: int
    room: str
    sent: int
    payload: bytes
    evicted: str | None


@dataclass(frozen=True)
class Takeover:
    previous: int
    home: int
    known: int


@dataclass(frozen=True)
class Release:
    previous: int
    home: int
    to: int


@dataclass(frozen=True)
class Batch:
    previous: int
    home: int
    epoch: int
    batch: int
    entries: tuple[Entry, ...]


class Section:
    """Reads values in order."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        taken = self.data[self.at : self.at + count]
        assert len(taken) == count, "the bytes end early"
        self.at += count
        return taken

    def u8(self) -> int:
        return self.take(1)[0]

    def u64(self) -> int:
        return struct.unpack("<Q", self.take(8))[0]

    def bytes(self) -> bytes:
        return self.take(struct.unpack("<I", self.take(4))[0])

    def section(self) -> Section:
        return Section(self.bytes())

    def is_empty(self) -> bool:
        return self.at == len(self.data)


def parse(payload: bytes) -> Takeover | Release | Batch:
    whole = Section(payload)
    assert whole.u8() == VERSION, "another version of the layout"
    kind, head = whole.u8(), whole.section()
    previous, _sent, home, _archived = head.u64(), head.u64(), head.u64(), head.u64()
    if kind == TAKEOVER:
        return Takeover(previous, home, head.u64())
    if kind == RELEASE:
        return Release(previous, home, head.u64())
    assert kind == BATCH, f"kind {kind}"
    epoch, batch = head.u64(), head.u64()
    entries = []
    while not whole.is_empty():
        entries.append(parse_entry(whole.section()))
    return Batch(previous, home, epoch, batch, tuple(entries))


def parse_entry(section: Section) -> Entry:
    origin, number = section.u64(), section.u64()
    room, sent, flags = section.take(12).decode("ascii"), section.u64(), section.u8()
    evicted = None
    if flags & EVICTS:
        evicted = section.bytes().decode()
        section.bytes()
    frame = section.bytes()
    payload = b""
    if frame:
        found = whole_frame(frame, 0)
        assert found is not None and found[2] == len(frame), "an entry is one whole frame"
        assert found[0] == 0x81, "an uncompressed text frame"
        payload = found[1]
    return Entry(origin, number, room, sent, payload, evicted)


def record(kind: int, previous: int, home: int, *rest: int, entries: tuple[bytes, ...] = ()) -> bytes:
    """Bytes of a record, for tests of the reader itself."""
    head = struct.pack(f"<QQQQ{len(rest)}Q", previous, 0, home, 0, *rest)
    sections = b"".join(struct.pack("<I", len(entry)) + entry for entry in entries)
    return struct.pack("<BBI", 1, kind, len(head)) + head + sections
