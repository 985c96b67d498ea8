"""What is on its way when a new process takes over arrives as if nothing had happened: bytes of requests and of frames."""

from __future__ import annotations

import json

import pytest

from rawws import CONT, TEXT, WebSocket, encode
from stalled_readers import miss_nothing
from uproar import Server


def request(content: str) -> bytes:
    return json.dumps({"Action": "SEND_MESSAGE", "RequestId": content, "Content": content}).encode()


def test_frames_cut_at_every_byte():
    """Goal: a request of which any part has arrived is completed by its rest in the new process. Method: a viewer for
    each byte at which a frame can be cut, and one for each at which a message of two fragments can."""
    with Server() as server:
        arn = server.boto_cached.create_room(maximumMessageRatePerSecond=100)["arn"]
        listener = WebSocket(server.messaging_port, server.token(arn, "listener"))
        cut = []
        whole = [encode(TEXT, request("w")), encode(TEXT, request("f")[:9], fin=False) + encode(CONT, request("f")[9:])]
        for shape, length in enumerate(map(len, whole)):
            for at in range(length):
                cut.append((WebSocket(server.messaging_port, server.token(arn, f"u{len(cut)}")), shape, at))
        frames = []
        for index, (viewer, shape, at) in enumerate(cut):
            content = request(f"{index:04}")
            frame = encode(TEXT, content)
            if shape:
                frame = encode(TEXT, content[:9], fin=False) + encode(CONT, content[9:])
            at = min(at, len(frame) - 1)
            viewer.send(frame[:at])
            frames.append((viewer, frame[at:]))
        assert server.upgrade().viewers == len(cut) + 1
        for index, (viewer, rest) in enumerate(frames):
            viewer.send(rest)
            heard, _ = listener.receive_until(lambda frame: frame.get("Type") == "MESSAGE")
            assert heard["Content"] == f"{index:04}", f"cut {cut[index][1:]}"


@pytest.mark.parametrize("shards", [(1, 3), (3, 1)])
def test_another_number_of_shards(shards, tmp_path):
    """Goal: viewers and rooms are dealt out anew; moderation reaches viewers on every shard."""
    first, second = shards
    binary = tmp_path / "other-shards"
    server = Server()
    server.command[server.command.index("--shards") + 1] = str(first)
    replaced = f"sed 's/--shards {first}/--shards {second}/'"
    binary.write_text(f'#!/bin/sh\nexec "{server.command[0]}" $(echo "$@" | {replaced})\n')
    binary.chmod(0o755)
    with server:
        arns = [server.boto_cached.create_room(maximumMessageRatePerSecond=100)["arn"] for _ in range(7)]
        rooms = [
            [WebSocket(server.messaging_port, server.token(arn, f"u{i}")) for i in range(9)] for arn in arns
        ]
        assert server.upgrade(binary=binary).viewers == 63
        assert server.metrics().count("uproar_shard_connections{") == second
        for viewers in rooms:
            viewers[0].say("after", "r")
            for viewer in viewers:
                assert viewer.receive()["Content"] == "after"
        for arn, viewers in zip(arns, rooms):
            server.boto_cached.disconnect_user(roomIdentifier=arn, userId="u8")
            assert viewers[8].receive_close().code == 1000
            viewers[0].say("last", "r")
            heard, _ = viewers[7].receive_until(lambda frame: frame.get("Content") == "last")
            assert heard["Content"] == "last"


def test_stalled_readers_miss_nothing_that_the_window_holds():
    """Goal: what waits for a reader whose socket is full arrives once and in order, over two upgrades."""
    with Server(quotas="open") as server:
        miss_nothing(server, rounds=3)
