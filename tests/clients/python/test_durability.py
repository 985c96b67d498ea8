"""What survives: acknowledged rooms and used tokens through SIGKILL, sessions through nothing."""

from __future__ import annotations

import threading
import time

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from rawws import Closed, Refused, WebSocket
from uproar import Server


def wait_for(holds, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "the writers got nowhere"
        time.sleep(0.005)


@pytest.mark.parametrize("round_", range(3))
def test_every_acknowledged_room_survives_a_kill(tmp_path, round_):
    """Method: four writers create rooms until the process is killed under them; start again on the
    same directory; every acknowledged room is found, as it was."""
    server = Server(tmp_path).start()
    acknowledged: dict[str, str] = {}
    guard = threading.Lock()

    def write(index: int) -> None:
        client = server.boto()
        for count in range(10_000):
            name = f"w{index}-{count}"
            try:
                arn = client.create_room(name=name)["arn"]
            except (BotoCoreError, ClientError):
                return
            with guard:
                acknowledged[arn] = name

    writers = [threading.Thread(target=write, args=(index,)) for index in range(4)]
    for writer in writers:
        writer.start()
    wait_for(lambda: len(acknowledged) >= 20 * (round_ + 1))
    server.kill()
    for writer in writers:
        writer.join(30)
        assert not writer.is_alive()

    with Server(tmp_path) as again:
        client = again.boto()
        for arn, name in acknowledged.items():
            assert client.get_room(identifier=arn)["name"] == name


def test_updates_and_deletions_survive_a_kill(tmp_path):
    server = Server(tmp_path).start()
    client = server.boto()
    kept = client.create_room(name="kept")["arn"]
    gone = client.create_room(name="gone")["arn"]
    client.update_room(identifier=kept, maximumMessageLength=77)
    client.delete_room(identifier=gone)
    server.kill()
    with Server(tmp_path) as again:
        client = again.boto()
        assert client.get_room(identifier=kept)["maximumMessageLength"] == 77
        with pytest.raises(client.exceptions.ResourceNotFoundException):
            client.get_room(identifier=gone)


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_a_used_token_stays_used_after_a_restart(tmp_path, end):
    server = Server(tmp_path).start()
    arn = server.boto().create_room()["arn"]
    token = server.token(arn)
    WebSocket(server.messaging_port, token).close()
    getattr(server, end)()
    with Server(tmp_path) as again:
        with pytest.raises(Refused) as refused:
            WebSocket(again.messaging_port, token)
        assert refused.value.response.status == 401
        with WebSocket(again.messaging_port, again.token(arn)) as socket:
            socket.say("new tokens work")
            assert socket.receive()["Content"] == "new tokens work"


def test_every_token_let_in_before_a_kill_is_refused_after_it(tmp_path):
    """Method: four threads connect with one token after the other until the process is killed under
    them; whoever saw a 101 is refused by the next process, whoever never tried is not."""
    server = Server(tmp_path).start()
    arn = server.boto().create_room()["arn"]
    minted = server.run(
        *("token", "create", "--data-dir", str(tmp_path), "--room", arn, "--user", "u"),
        *("--count", "8001"),
    )
    *tokens, untouched = minted.stdout.split()
    let_in: list[str] = []

    def connect(mine: list[str]) -> None:
        for token in mine:
            try:
                WebSocket(server.messaging_port, token).close()
            except (Closed, OSError):
                return
            let_in.append(token)

    threads = [threading.Thread(target=connect, args=(tokens[i::4],)) for i in range(4)]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(let_in) >= 100)
    server.kill()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()

    with Server(tmp_path) as again:
        for token in let_in:
            with pytest.raises(Refused) as refused:
                WebSocket(again.messaging_port, token)
            assert refused.value.response.status == 401
        WebSocket(again.messaging_port, untouched).close()


def test_sigterm_exits_zero_soon_and_cuts_connections_without_a_close_frame(tmp_path):
    """Goal: the official JS client reconnects only after an unclean end (a Close frame is final)."""
    server = Server(tmp_path).start()
    arn = server.boto().create_room()["arn"]
    sockets = [WebSocket(server.messaging_port, server.token(arn)) for _ in range(20)]
    assert server.stop() == 0, server.log()
    for socket in sockets:
        with pytest.raises(Closed) as closed:
            while True:
                frame = socket.receive()
                assert frame["Type"] == "ERROR" and frame["ErrorCode"] == 401
        assert closed.value.code is None, "no Close frame on a stop"
        socket.close()
