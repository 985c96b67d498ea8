"""Goal: a stream of token uses that is full lets nobody in and forgets no use. Method: real brokers, whose stream gets a bound that
is reached; then one that is not.
"""

from __future__ import annotations

import time

import pytest

from cluster import NAME
from cluster_trial import started
from rawws import Refused, WebSocket

STREAM = f"UP_{NAME}_TOK"
USES = 200
WAIT_SECONDS_MAX = 60.0

UNKNOWN = 'uproar_cluster_token_uses_total{outcome="unknown"} '

cluster = started()


def unknown_uses(node) -> int:
    [line] = [line for line in node.metrics().splitlines() if line.startswith(UNKNOWN)]
    return int(line.split()[-1])


def until(holds, what: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


def enters(node, room: str) -> bool:
    try:
        WebSocket(node.messaging_port, node.mint(room, "now")).close()
    except Refused:
        return False
    return True


def test_a_full_stream_of_token_uses_lets_nobody_in(cluster) -> None:
    [room] = cluster.rooms(1)
    node, other = cluster.nodes[:2]
    used = [node.mint(room, f"u{number}") for number in range(USES)]
    for token in used:
        WebSocket(node.messaging_port, token).close()
    with cluster.brokers.client() as brokers:
        info = brokers.api(f"STREAM.INFO.{STREAM}")
        config, state = info["config"], info["state"]
        assert config["discard"] == "new" and config["max_bytes"] == 8 << 30, config
        each = state["bytes"] / state["messages"]
        print(f"{each:.0f} bytes a use, {config['max_bytes'] / each / 1e6:.1f} million uses")
        assert each <= 150, "docs/limits.md, CLUSTER_TOKEN_BYTES_MAX"
        brokers.api(f"STREAM.UPDATE.{STREAM}", {**config, "max_bytes": state["bytes"]})
        unknown = unknown_uses(node)
        late = node.mint(room, "late")
        with pytest.raises(Refused) as refused:
            WebSocket(node.messaging_port, late)
        assert refused.value.response.status == 503
        until(lambda: unknown_uses(node) > unknown, "the use is not counted")
        for token in used[:5]:
            with pytest.raises(Refused) as again:
                WebSocket(other.messaging_port, token)
            assert again.value.response.status == 401, "a use is forgotten"
        brokers.api(f"STREAM.UPDATE.{STREAM}", config)
    until(lambda: enters(node, room), "nobody comes in though there is room")
