"""The audit file: what is answered is in it, whatever ends the server; its bounds, and a disk that refuses."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from cluster_trial import started
from configured import Configured
from test_cluster_modes import join as join_node
from test_server_speaks import api, refused
from test_tallies import command, join, room
from uproar import Server

CREW = ["SEND_MESSAGE", "DELETE_MESSAGE", "DISCONNECT_USER"]

cluster = started(settings={"extensions.enabled": True})


def lines(server) -> list[dict]:
    """All records, oldest first; each line must be whole."""
    files = sorted((Path(server.data_dir) / "audit").glob("audit-*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def ban(server: Server, arn: str, user: str) -> None:
    api(server).create_ban(roomIdentifier=arn, userId=user, mode="timeout", seconds=60, reason="spam")


def metric(server: Server, line: str) -> int:
    return int(server.metrics().split(f"\n{line} ")[1].split("\n")[0])


def test_the_api_is_noted_with_its_key_and_outcome():
    with Server() as server:
        client, arn = api(server), room(server)
        ban(server, arn, "bob")
        assert refused(client.delete_ban, roomIdentifier=arn, userId="nobody")[0] == 404
        assert refused(client.create_ban, roomIdentifier=arn, userId="bob", mode="hang")[0] == 400
        client.delete_messages(roomIdentifier=arn, ids=["M2YcHkgffEvU", "M2YcHkgffEvV"], reason="refunded")
        server.boto().tag_resource(resourceArn=arn, tags={"uproar:talk": "none", "team": "blue"})
        server.boto().tag_resource(resourceArn=arn, tags={"team": "red"})
        server.boto().untag_resource(resourceArn=arn, tagKeys=["uproar:talk"])
        client.get_room_stats(roomIdentifier=arn)
        listed = client.list_audit_records(roomIdentifier=arn)["records"]
        told = [(one["action"], one["target"], one["reason"], one["result"]) for one in reversed(listed)]
        assert told == [
            ("CreateBan", "bob", "spam", "ok"),
            ("DeleteBan", "nobody", "", "404"),
            ("DeleteMessages", "M2YcHkgffEvU M2YcHkgffEvV", "refunded", "ok"),
            ("TagResource", "uproar:talk=none", "", "ok"),
            ("UntagResource", "uproar:talk", "", "ok"),
        ], "neither what was not valid, nor what is no moderation"
        assert {one["by"]["kind"] for one in listed} == {"key"} and {one["by"]["id"] for one in listed} == {"AKIDUPROARDEV0000000"}
        assert {one["room"] for one in listed} == {arn}
        assert metric(server, "uproar_audit_records_total") == len(told)
        assert metric(server, 'uproar_audit_records_lost_total{reason="disk"}') == 0


def test_a_kick_that_bans_is_the_moderators_and_the_tags():
    with Server() as server:
        arn = room(server, {"uproar:kick": "60"})
        mod, bob = join(server, arn, "mod", CREW), join(server, arn, "bob")
        assert mod.send_json({"Action": "DISCONNECT_USER", "UserId": "bob", "Reason": "out", "RequestId": "k"})
        bob.receive_until(lambda frame: frame.get("EventName") == "aws:DISCONNECT_USER")
        deadline = time.monotonic() + 30
        while len(lines(server)) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        told = [(one["by"], one["action"], one["target"]) for one in lines(server)]
        assert told == [
            ({"kind": "user", "id": "mod"}, "DISCONNECT_USER", "bob"),
            ({"kind": "rule", "id": "uproar:kick"}, "ban", "bob"),
        ]


def test_what_was_answered_outlasts_a_kill_and_a_torn_line_is_mended():
    with Server() as server:
        arn = room(server)
        for number in range(20):
            ban(server, arn, f"user-{number}")
        server.kill()
        file = next((Path(server.data_dir) / "audit").iterdir())
        with file.open("a") as torn:
            torn.write('{"time":"2026-')
        server.start()
        ban(server, arn, "after")
        assert [one["target"] for one in lines(server)] == [*(f"user-{number}" for number in range(20)), "after"]
        pages, token = [], {}
        while True:
            page = api(server).list_audit_records(maxResults=6, **token)
            pages.append([one["target"] for one in page["records"]])
            if "nextToken" not in page:
                break
            token = {"nextToken": page["nextToken"]}
        assert [len(page) for page in pages] == [6, 6, 6, 3]
        assert pages[0][0] == "after" and pages[-1][-1] == "user-0"
        with pytest.raises(ClientError, match="list again without it"):
            api(server).list_audit_records(nextToken="bm9uZQ")


def test_an_upgrade_goes_on_in_whole_lines():
    with Server() as server:
        arn = room(server)
        mod = join(server, arn, "mod", CREW)
        ban(server, arn, "before")
        server.upgrade()
        ban(server, arn, "between")
        assert command(mod, "unban", user="before") == "before is not banned any more"
        server.upgrade()
        ban(server, arn, "behind")
        assert {one["target"] for one in lines(server)} == {"before", "between", "behind"}
        assert len(lines(server)) == 4
        listed = [one["target"] for one in api(server).list_audit_records()["records"]]
        assert (listed[0], listed[-1]) == ("behind", "before")


def test_a_refusing_disk_stops_no_moderation_and_is_told():
    with Server() as server:
        arn = room(server)
        directory = Path(server.data_dir) / "audit"
        directory.write_text("in the way")
        ban(server, arn, "unwritten")
        ban(server, arn, "unwritten, too")
        assert metric(server, 'uproar_audit_records_lost_total{reason="disk"}') == 2
        server.await_log("acts of moderation are not in the audit file")
        directory.unlink()
        ban(server, arn, "written")
        told = [(one["action"], one["target"]) for one in lines(server)]
        assert told == [("gap", "2"), ("CreateBan", "written")]


def test_it_is_switched_on_with_the_extensions_and_off_by_its_key():
    with Configured({"quotas.profile": "aws"}) as server:
        arn = server.boto().create_room()["arn"]
        server.boto().delete_message(roomIdentifier=arn, id="M2YcHkgffEvU")
        assert not (Path(server.data_dir) / "audit").exists()
    with Configured({"quotas.profile": "aws", "audit.enabled": True}) as server:
        arn = server.boto().create_room()["arn"]
        server.boto().delete_message(roomIdentifier=arn, id="M2YcHkgffEvU")
        assert [(one["action"], one["target"]) for one in lines(server)] == [("DeleteMessage", "M2YcHkgffEvU")]


def test_each_node_writes_what_it_carried_out(cluster):
    """Goal: a moderator's deletion is in the file of the room's home, an API call's in that of the node that was called."""
    nodes = cluster.nodes
    [arn] = cluster.rooms(1)
    mod = join_node(nodes[1], arn, "mod", CREW)
    assert mod.send_json({"Action": "DELETE_MESSAGE", "Id": "M2YcHkgffEvU", "Reason": "r", "RequestId": "d"})
    mod.receive_until(lambda frame: frame.get("EventName") == "aws:DELETE_MESSAGE")
    found: list[dict] = []
    deadline = time.monotonic() + 30
    while not found and time.monotonic() < deadline:
        found = [one for node in nodes for one in lines(node) if one["target"] == "M2YcHkgffEvU"]
    assert [(one["by"]["id"], one["action"]) for one in found] == [("mod", "DELETE_MESSAGE")], "once, not once a node"


def test_a_removed_directory_is_begun_anew_and_told():
    with Server() as server:
        arn = room(server)
        ban(server, arn, "before")
        directory = Path(server.data_dir) / "audit"
        for file in directory.iterdir():
            file.unlink()
        directory.rmdir()
        ban(server, arn, "after")
        told = [(one["action"], one["target"]) for one in lines(server)]
        assert told == [("gap", ""), ("CreateBan", "after")]
        server.await_log("somebody has removed the audit file")


def test_an_event_that_purges_is_noted_and_no_other():
    with Server() as server:
        arn = room(server, {"uproar:history": "10"})
        for name in ("goal", "app:DELETE_BY_USER"):
            server.boto().send_event(roomIdentifier=arn, eventName=name, attributes={"userId": "bob", "Reason": "spam"})
        told = [(one["action"], one["target"], one["reason"], one["room"]) for one in lines(server)]
        assert told == [("SendEvent", "bob", "spam", arn)]


def test_a_tag_of_ones_own_is_none_of_ours():
    with Server() as server:
        arn = room(server)
        server.boto().tag_resource(resourceArn=arn, tags={"team": "blue uproar:talk=none"})
        ban(server, arn, "bob")
        assert [one["action"] for one in lines(server)] == ["CreateBan"], "a tag of one's own is no moderation"
