"""What nobody would ask for again survives an upgrade that comes in between: a kick's ban, the pin of a message that is
deleted, reviews after delivery. Also if the upgrade is taken back.

`UPROAR_TAKE_OVER_FAULT` holds the old process's control thread up while it may not write any more, and shards serve still."""

from __future__ import annotations

import subprocess

import pytest

from aws import eventually
from rawws import Refused, WebSocket
from review_handler import FUNCTION
from test_bans import no_token
from test_chat_modes import join, room, say
from test_review import config
from test_rules import event, hears
from test_server_speaks import api
from uproar import ALL_CAPABILITIES, Server

# Long enough for what a test does meanwhile.
HELD_UP = "old.freeze:delay=2500"


class Upgrade:
    """An upgrade that has come to the moment in which the old process may not write any more."""

    def __init__(self, server: Server, is_taken_back: bool) -> None:
        self.server, self.is_taken_back = server, is_taken_back
        self.order = server.start_upgrade()
        server.await_log("a fault on purpose")

    def end(self) -> None:
        out, error = self.order.communicate(timeout=60)
        if self.is_taken_back:
            assert self.order.returncode != 0, out
        else:
            self.server.follow(subprocess.CompletedProcess(self.order.args, self.order.returncode, out, error))


@pytest.fixture(params=[False, True], ids=["taken over", "taken back"])
def is_taken_back(request, monkeypatch) -> bool:
    faults = [HELD_UP, *(["old.rooms.done:fail"] if request.param else [])]
    monkeypatch.setenv("UPROAR_TAKE_OVER_FAULT", ",".join(faults))
    return request.param


def test_a_kick_bans_although_an_upgrade_comes(is_taken_back):
    with Server(quotas="open") as server:
        arn = room(server, {"kick": "600", "state": "off"})
        mod, bob, carol = join(server, arn, "mod", ALL_CAPABILITIES), join(server, arn, "bob"), join(server, arn, "carol")
        token = server.token(arn, "carol")
        upgrade = Upgrade(server, is_taken_back)
        for user in ("bob", "carol"):
            mod.send_json({"Action": "DISCONNECT_USER", "UserId": user, "Reason": "out"})
        assert bob.receive_close().code == carol.receive_close().code == 1000
        upgrade.end()
        assert event(mod, "uproar:ban")["By"] == "uproar:kick"
        listed = lambda: {one["userId"] for one in api(server).list_bans(roomIdentifier=arn)["bans"]}
        eventually(listed, lambda users: users == {"bob", "carol"})
        assert no_token(server, arn, "bob")
        # A token of before is worth nothing, either.
        with pytest.raises(Refused):
            WebSocket(server.messaging_port, token)


def test_a_deleted_message_is_not_pinned_although_an_upgrade_comes(is_taken_back):
    with Server(quotas="open") as server:
        arn = room(server, {"history": "10"})
        mod = join(server, arn, "mod", ALL_CAPABILITIES)
        said = say(mod, "regrets this")
        uproar = api(server)
        uproar.pin_message(roomIdentifier=arn, messageId=said["Id"])
        mod.receive_until(lambda frame: (frame.get("Attributes") or {}).get("Pinned") == said["Id"])
        upgrade = Upgrade(server, is_taken_back)
        mod.send_json({"Action": "DELETE_MESSAGE", "Id": said["Id"], "RequestId": "d"})
        mod.receive_until(lambda frame: frame.get("EventName") == "aws:DELETE_MESSAGE")
        upgrade.end()
        mod.receive_until(lambda frame: frame.get("EventName") == "uproar:room" and not frame["Attributes"]["Pinned"])
        assert uproar.unpin_message(roomIdentifier=arn)["unpinned"] is False


def test_reviews_after_delivery_go_on(is_taken_back, tmp_path, handler):
    """Goal: a function that was asked before an upgrade, or as it began, is asked again and is heard. Method: it answers once
    the new process serves."""
    handler.released.clear()
    with config(tmp_path, handler) as server:
        arn = room(server, {"after-review": f"{FUNCTION}mapped", "state": "off"})
        alice, eve = join(server, arn, "alice"), join(server, arn, "eve")
        alice.say("hang-deny one", "1")
        handler.wait_for(1, "hang-deny one")
        upgrade = Upgrade(server, is_taken_back)
        alice.say("hang-deny two", "2")
        said = [hears(eve)["Id"] for _ in range(2)]
        upgrade.end()
        handler.wait_for(1 if is_taken_back else 2, "hang-deny one")
        handler.wait_for(1, "hang-deny two")
        handler.released.set()
        gone = {}
        for _ in said:
            told = event(eve, "aws:DELETE_MESSAGE")
            gone[told["MessageID"]] = told["Reason"]
        assert gone == {said[0]: "one", said[1]: "two"}
