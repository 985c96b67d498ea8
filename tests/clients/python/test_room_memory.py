"""Room memory: what who joins gets, what who comes back gets, and that deleted text is in nobody's bytes. Members are spread over both
shards."""

from __future__ import annotations

import itertools
import json
import re
import socket as sockets
import time

import pytest

from rawws import Refused, WebSocket
from test_server_speaks import api
from uproar import ALL_CAPABILITIES, Server

MARK = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    file = tmp_path_factory.mktemp("memory") / "uproar.toml"
    file.write_text("[delivery]\nspread_members = 1\nwindow_age_ms = 60000\n")
    with Server(extra=("--config", str(file))) as server:
        yield server


@pytest.fixture
def uproar(server):
    return api(server)


def room(server, **tags: str) -> str:
    arn = server.boto_cached.create_room(maximumMessageRatePerSecond=100)["arn"]
    tags = {f"uproar:{name.replace('_', '-')}": value for name, value in tags.items()}
    if tags:
        server.boto_cached.tag_resource(resourceArn=arn, tags=tags)
    return arn


def join(server, arn: str, user: str = "u", extra=(), **attributes: str) -> WebSocket:
    ours = {f"uproar:{name}": value for name, value in attributes.items()}
    return WebSocket(server.messaging_port, server.token(arn, user, ALL_CAPABILITIES, attributes=ours), extra=extra)


def say(speaker: WebSocket, *texts: str) -> list[str]:
    """Says them one after the other; their ids."""
    ids = []
    for text in texts:
        mark = f"r{next(MARK)}"
        assert speaker.say(text, mark)
        answer, _ = speaker.receive_until(lambda frame: frame.get("RequestId") == mark)
        assert answer["Type"] == "MESSAGE", answer
        ids.append(answer["Id"])
    return ids


def delete(moderator: WebSocket, id: str) -> None:
    mark = f"r{next(MARK)}"
    moderator.send_json({"Action": "DELETE_MESSAGE", "Id": id, "RequestId": mark, "Reason": "x"})
    moderator.receive_until(lambda frame: frame.get("RequestId") == mark and frame["Type"] == "EVENT")


def greeting(viewer: WebSocket) -> tuple[dict, list[dict]]:
    """The history event, and the frames that it announces."""
    event, before = viewer.receive_until(lambda frame: frame.get("EventName") == "uproar:history")
    assert [frame.get("EventName") for frame in before] == ["uproar:room"]
    frames = []
    while sum(frame["Type"] == "MESSAGE" for frame in frames) < int(event["Attributes"]["Count"]):
        frames.append(viewer.receive())
    return event["Attributes"], frames


def contents(frames: list[dict]) -> list[str]:
    return [frame["Content"] for frame in frames if frame["Type"] == "MESSAGE"]


def told(count: int, complete: bool = True, resumed: bool = False) -> dict:
    return {"Count": str(count), "Complete": str(complete).lower(), "Resumed": str(resumed).lower()}


def test_who_joins_gets_the_newest_messages(server):
    """Goal: the newest messages, unchanged and in order, before anything live, on either shard and with compression; none twice."""
    arn = room(server, history="5", resume="0")
    speaker = join(server, arn, "alice")
    assert greeting(speaker) == (told(0), [])
    texts = [f"text {number}" for number in range(9)]
    ids = say(speaker, *texts)
    deflate = (b"Sec-WebSocket-Extensions: permessage-deflate",)
    for number in range(6):
        viewer = join(server, arn, f"viewer{number}", extra=deflate if number % 2 else ())
        event, frames = greeting(viewer)
        assert (event, contents(frames)) == (told(5), texts[-5:])
        assert [frame["Id"] for frame in frames] == ids[-5:]
        assert frames[0]["Sender"]["UserId"] == "alice"
        (live,) = say(speaker, f"live {number}")
        assert viewer.receive()["Id"] == live
        ids.append(live)
        texts.append(f"live {number}")
        viewer.close()


def test_a_room_without_a_tag_remembers_nothing(server):
    arn = room(server, state="on")
    speaker = join(server, arn)
    say(speaker, "a")
    viewer = join(server, arn, "v")
    say(speaker, "b")
    assert viewer.receive()["EventName"] == "uproar:room"
    assert viewer.receive()["Content"] == "b"


def test_who_comes_back_gets_what_he_missed(server):
    """Goal: whatever is said between a reset and the return arrives once, on any shard; a deletion too."""
    arn = room(server, resume="60")
    speaker = join(server, arn, "alice")
    greeting(speaker)
    seen: dict[str, list[str]] = {f"bob{number}": [] for number in range(4)}
    viewers = {user: join(server, arn, user) for user in seen}
    for viewer in viewers.values():
        assert greeting(viewer)[0] == told(0)
    for round in range(5):
        said = say(speaker, *[f"{round} {number}" for number in range(10)])
        for user, viewer in viewers.items():
            viewer.receive_until(lambda frame: frame.get("Id") == said[-1])
            viewer.reset()
        missed = say(speaker, *[f"missed {round} {number}" for number in range(20)])
        delete(speaker, missed[3])
        for user in viewers:
            viewers[user] = join(server, arn, user)
            event, frames = greeting(viewers[user])
            assert event["Resumed"] == "true" and event["Complete"] == "true", event
            ids = [frame["Id"] for frame in frames if frame["Type"] == "MESSAGE"]
            assert [id for id in ids if id in missed] == missed[:3] + missed[4:]
            assert len(ids) == len(set(ids))
            # It is the newest frame of what was missed.
            viewers[user].receive_until(lambda frame: frame.get("Attributes", {}).get("MessageID") == missed[3])


def test_who_leaves_in_order_misses_nothing_and_is_told_so(server):
    """Goal: behind a closing handshake it is known what the client has: nothing is missing, and little comes again."""
    arn = room(server, history="5", resume="60")
    speaker = join(server, arn, "alice")
    for number in range(8):
        viewer = join(server, arn, "bob")
        viewer.receive_until(lambda frame: frame.get("EventName") == "uproar:history")
        ids = say(speaker, f"before {number}")
        viewer.receive_until(lambda frame: frame.get("Id") == ids[-1])
        viewer.send_frame(8, (1000).to_bytes(2))
        viewer.receive_close()
        missed = say(speaker, f"missed {number}")
        again = join(server, arn, "bob")
        event, frames = greeting(again)
        assert (event["Resumed"], event["Complete"]) == ("true", "true"), event
        assert missed[0] in [frame.get("Id") for frame in frames]
        again.reset()


def test_a_client_that_names_its_newest_message_gets_the_rest(server):
    arn = room(server, history="50")
    speaker = join(server, arn, "alice")
    ids = say(speaker, *"abcdef")
    event, frames = greeting(join(server, arn, "new", after=ids[2]))
    assert (event, contents(frames)) == (told(3, resumed=True), ["d", "e", "f"])
    event, frames = greeting(join(server, arn, "other", after="AAAAAAAAAAAA"))
    assert (event, contents(frames)) == (told(6, complete=False), list("abcdef"))


def test_a_large_history_is_bounded(server):
    """Goal: messages of the largest size give what fits a join, and the event says so."""
    arn = room(server, history="200")
    speaker = join(server, arn, "alice")
    attributes = {"a": "x" * 900}
    mark = None
    for number in range(60):
        mark = f"big{number}"
        speaker.say("\u0001" * 500, mark, Attributes=attributes)
        speaker.receive_until(lambda frame: frame.get("RequestId") == mark)
        time.sleep(0.02)
    viewer = join(server, arn, "v")
    event, frames = greeting(viewer)
    assert event["Complete"] == "false"
    size = sum(len(json.dumps(frame)) for frame in frames)
    assert 50_000 < size < 70_000


def test_deleted_text_is_in_nobodys_bytes(server):
    """Goal: who joins after a deletion, comes back after it, or reads slowly, never gets the text. Method: a raw client whose
    receive window is full while the message is said and deleted reads everything afterwards."""
    arn = room(server, history="50")
    speaker = join(server, arn, "alice")
    slow = {}
    for number in range(4):
        token = server.token(arn, f"slow{number}", ALL_CAPABILITIES)
        slow[number] = WebSocket(server.messaging_port, token)
        slow[number].socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 65536)
    filler = "x" * 480
    attributes = {"a": "y" * 900}
    for number in range(1500):
        mark = f"f{number}"
        speaker.say(filler, mark, Attributes=attributes)
        answer, _ = speaker.receive_until(lambda frame: frame.get("RequestId") == mark)
        if answer["Type"] == "ERROR":
            time.sleep(0.05)
    time.sleep(1)
    (secret,) = say(speaker, "SECRET-TEXT")
    tail = say(speaker, "after")
    delete(speaker, secret)
    (end,) = say(speaker, "the end")
    newcomer = join(server, arn, "new")
    _, frames = greeting(newcomer)
    assert "SECRET-TEXT" not in contents(frames) and "after" in contents(frames)
    for viewer in slow.values():
        _, got = viewer.receive_until(lambda frame: frame.get("Id") == end, seconds=60)
        texts = contents(got)
        assert "SECRET-TEXT" not in texts
        assert tail[0] in [frame["Id"] for frame in got]
    metrics = server.metrics()
    assert re.search(r"^uproar_redacted_messages_total [1-9]", metrics, re.M)


def test_a_message_that_is_taken_back_before_its_sender_has_it_is_refused(server, uproar):
    """Goal: no request waits for an echo that does not come, and nobody else is told. Method: the sender's receive window is full,
    so that his own message waits for him, here and on the other shard, when it is purged."""
    arn = room(server, history="50")
    speaker = join(server, arn, "alice")
    senders = {}
    for number in range(4):
        senders[number] = WebSocket(server.messaging_port, server.token(arn, f"s{number}", ALL_CAPABILITIES))
        senders[number].socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 65536)
    twin = join(server, arn, "s0")
    for number in range(1500):
        mark = f"f{number}"
        speaker.say("x" * 480, mark, Attributes={"a": "y" * 900})
        answer, _ = speaker.receive_until(lambda frame: frame.get("RequestId") == mark)
        if answer["Type"] == "ERROR":
            time.sleep(0.05)
    time.sleep(1)
    for number, sender in senders.items():
        sender.say(f"SECRET {number}", "own")
        speaker.receive_until(lambda frame: frame.get("Content") == f"SECRET {number}")
        assert uproar.delete_user_messages(roomIdentifier=arn, userId=f"s{number}")["deleted"] == 1
    (end,) = say(speaker, "the end")
    for sender in senders.values():
        _, got = sender.receive_until(lambda frame: frame.get("Id") == end, seconds=60)
        assert not [text for text in contents(got) if text.startswith("SECRET")]
        (answer,) = [frame for frame in got if frame.get("RequestId") == "own"]
        assert (answer["Type"], answer["ErrorCode"], answer["ErrorMessage"]) == ("ERROR", 406, "removed by a moderator")
    # Who reads had it before.
    twin.receive_until(lambda frame: frame.get("Id") == end, seconds=60)
    mark = f"r{next(MARK)}"
    speaker.say("mark", mark)
    _, before = speaker.receive_until(lambda frame: frame.get("RequestId") == mark)
    assert not [frame for frame in before if frame["Type"] == "ERROR"]


def test_a_deletion_beside_a_join(server):
    """Goal: whoever joins in the moment of a deletion either never gets the text, or is told of the deletion behind it."""
    arn = room(server, history="50")
    speaker = join(server, arn, "alice")
    got = told_of = 0
    for round in range(60):
        (secret,) = say(speaker, f"SECRET {round}")
        token = server.token(arn, f"v{round}")
        delay = round % 6 / 2000
        speaker.send_json({"Action": "DELETE_MESSAGE", "Id": secret, "RequestId": f"d{round}", "Reason": "x"})
        time.sleep(delay)
        viewer = WebSocket(server.messaging_port, token)
        speaker.receive_until(lambda frame: frame.get("RequestId") == f"d{round}")
        (end,) = say(speaker, f"end {round}")
        _, frames = viewer.receive_until(lambda frame: frame.get("Id") == end)
        ids = [frame["Id"] for frame in frames]
        deleted = [at for at, frame in enumerate(frames) if frame.get("Attributes", {}) and frame["Attributes"].get("MessageID") == secret]
        if secret in ids:
            got += 1
            assert deleted and ids.index(secret) < deleted[0], frames
        told_of += bool(deleted)
        _, frames = greeting(join(server, arn, f"late{round}"))
        assert secret not in [frame["Id"] for frame in frames]
        viewer.close()
    print(f"of 60 viewers beside a deletion {got} got the text, {told_of} were told of the deletion")


def test_a_budget_of_bytes_holds(tmp_path):
    """Goal: beyond the bytes of a second viewers join without a history, and are told."""
    file = tmp_path / "uproar.toml"
    file.write_text("[history]\nbytes_per_second = 2000\n")
    with Server(extra=("--config", str(file))) as server:
        arn = room(server, history="10")
        say(join(server, arn, "alice"), *[f"text {number}" * 40 for number in range(4)])
        events = [greeting(join(server, arn, f"v{number}"))[0] for number in range(8)]
        assert events[0] == told(4)
        assert told(0, complete=False) in events
        assert re.search(r'^uproar_history_joins_total\{result="none"\} [1-9]', server.metrics(), re.M)


def test_memory_crosses_an_upgrade_and_ends_with_the_process(tmp_path):
    file = tmp_path / "uproar.toml"
    file.write_text("[delivery]\nspread_members = 1\n")
    with Server(extra=("--config", str(file))) as server:
        arn = room(server, history="50")
        speaker = join(server, arn, "alice")
        say(speaker, *"abc")
        bob = join(server, arn, "bob")
        greeting(bob)
        bob.reset()
        carol = join(server, arn, "carol")
        greeting(carol)
        say(speaker, "d")
        server.upgrade()
        (last,) = say(speaker, "e")
        carol.receive_until(lambda frame: frame.get("Id") == last)
        event, frames = greeting(join(server, arn, "bob"))
        assert (event, contents(frames)) == (told(5, resumed=True), list("abcde"))
        event, frames = greeting(join(server, arn, "new"))
        assert (event, contents(frames)) == (told(5), list("abcde"))
        carol.reset()
        say(speaker, "f")
        event, frames = greeting(join(server, arn, "carol"))
        assert event["Resumed"] == "true" and contents(frames)[-1] == "f"
        server.kill()
        server.start()
        assert greeting(join(server, arn, "late"))[0] == told(0)


@pytest.mark.parametrize("resume", ["60", "0"])
def test_whose_link_died_before_an_upgrade_resumes_behind_it(tmp_path, resume):
    """Goal: a client whose connection is dead, and not known to be so, comes back behind an upgrade and gets what it missed; on
    either shard, and once its old connection has ended, too."""
    file = tmp_path / "uproar.toml"
    file.write_text("[delivery]\nspread_members = 1\n")
    with Server(extra=("--config", str(file))) as server:
        arn = room(server, resume=resume, state="on")
        speaker = join(server, arn, "alice")
        early = say(speaker, *[f"early {number}" for number in range(70)])
        dead = {f"bob{number}": join(server, arn, f"bob{number}") for number in range(4)}
        missed = say(speaker, "before")
        server.upgrade()
        missed += say(speaker, "behind")
        for number, (user, old) in enumerate(dead.items()):
            if number % 2:
                old.reset()
            back = join(server, arn, user)
            if resume == "0":
                assert back.receive()["EventName"] == "uproar:room"
                hears_nothing(back)
                continue
            event, frames = greeting(back)
            assert (event["Resumed"], event["Complete"]) == ("true", "true")
            ids = [frame["Id"] for frame in frames]
            assert ids[-2:] == missed and ids[0] in early[1:10], "64 frames of before he came"
        if resume != "0":
            assert greeting(join(server, arn, "new"))[0] == told(0)


def hears_nothing(viewer: WebSocket) -> None:
    with pytest.raises(TimeoutError):
        viewer.receive(0.3)


def test_the_api_lists_what_is_remembered(server, uproar):
    arn = room(server, history="50")
    speaker = join(server, arn, "alice")
    ids = say(speaker, *"abcdefg")
    delete(speaker, ids[2])
    kept = [id for id in reversed(ids) if id != ids[2]]
    page = uproar.list_messages(roomIdentifier=arn, maxResults=4)
    assert [message["id"] for message in page["messages"]] == kept[:4]
    assert page["nextBefore"].startswith(kept[3])
    first = page["messages"][0]
    assert first["content"] == "g" and first["sender"]["userId"] == "alice" and first["attributes"] == {}
    page = uproar.list_messages(roomIdentifier=arn, before=page["nextBefore"])
    assert [message["id"] for message in page["messages"]] == kept[4:] and "nextBefore" not in page
    assert uproar.list_messages(roomIdentifier=room(server))["messages"] == []
    with pytest.raises(uproar.exceptions.ValidationException):
        uproar.list_messages(roomIdentifier=arn, maxResults=201)


def test_a_page_goes_on_although_its_last_message_was_deleted(server, uproar):
    """Goal: with the shipped model, page by page, whatever is deleted in between. Method: messages of one call have the same
    time; each page's last one is deleted before the next page is asked for, by boto3 and by hand."""
    arn = room(server, history="50")
    texts = [{"content": f"m{number}", "sender": {"userId": "shop"}} for number in range(20)]
    said = [result["id"] for result in uproar.send_messages(roomIdentifier=arn, messages=texts)["results"]]
    for most in (1, 3, 19):
        got, before = [], {}
        deleted = []
        while True:
            page = uproar.list_messages(roomIdentifier=arn, maxResults=most, **before)
            got += [message["id"] for message in page["messages"]]
            if "nextBefore" not in page:
                break
            before = {"before": page["nextBefore"]}
            deleted.append(page["messages"][-1]["id"])
            uproar.delete_messages(roomIdentifier=arn, ids=deleted[-1:])
            if len(deleted) > 3 and most == 1:
                break
        kept = list(reversed(said))
        assert got == kept[:len(got)] and (len(got) == len(said) or most == 1)
        said = [id for id in said if id not in deleted]
    # A message's own id does while it is remembered.
    assert len(uproar.list_messages(roomIdentifier=arn, before=said[3])["messages"]) == 3
    for wrong in ("x" * 12 + "-", "x" * 12 + "-1", "x" * 12 + "-1-x", "-" * 12):
        with pytest.raises(uproar.exceptions.ValidationException):
            uproar.list_messages(roomIdentifier=arn, before=wrong)


def test_a_token_opens_again_and_closes_the_connection_before(tmp_path):
    """Goal: one token, one connection at a time, through an upgrade and a restart; what is missed in between comes."""
    file = tmp_path / "uproar.toml"
    file.write_text('[delivery]\nspread_members = 1\n[tokens]\nuses = "reconnect"\n')
    with Server(extra=("--config", str(file))) as server:
        arn = room(server, resume="60")
        speaker = join(server, arn, "alice")
        greeting(speaker)
        token = server.token(arn, "bob")
        first = WebSocket(server.messaging_port, token)
        greeting(first)
        say(speaker, "a")
        second = WebSocket(server.messaging_port, token)
        event, frames = greeting(second)
        assert event["Resumed"] == "true" and contents(frames) == ["a"]
        closed = first.receive_close()
        assert closed.code == 1000 and "another connection" in closed.reason
        server.upgrade()
        third = WebSocket(server.messaging_port, token)
        assert second.receive_close().code == 1000
        third.reset()
        say(speaker, "b")
        fourth = WebSocket(server.messaging_port, token)
        event, frames = greeting(fourth)
        assert event["Resumed"] == "true" and contents(frames)[-1] == "b"
        server.kill()
        server.start()
        fifth = WebSocket(server.messaging_port, token)
        assert greeting(fifth)[0] == told(0)


def test_a_token_opens_once_unless_the_configuration_says_so(server):
    token = server.token(room(server), "bob")
    WebSocket(server.messaging_port, token)
    with pytest.raises(Refused) as refused:
        WebSocket(server.messaging_port, token)
    assert refused.value.response.status in (401, 403)


def test_a_purge_takes_back_all_messages_of_a_user(server, uproar):
    """Goal: every app understands it, and who joins later gets nothing of it; the command of a moderator means the same."""
    arn = room(server, history="50", commands="slash")
    speaker, bob = join(server, arn, "alice"), join(server, arn, "bob")
    viewer = join(server, arn, "viewer")
    greeting(viewer)
    said = []
    for number in range(7):
        said += say(bob, f"spam {number}")
        say(speaker, f"fine {number}")
    assert uproar.delete_user_messages(roomIdentifier=arn, userId="bob", reason="spam")["deleted"] == 7
    purged, before = viewer.receive_until(lambda frame: frame.get("EventName") == "app:DELETE_BY_USER")
    assert purged["Attributes"] == {"userId": "bob", "UserId": "bob", "Reason": "spam"}
    deleted = [frame["Attributes"]["MessageID"] for frame in before if frame.get("EventName") == "aws:DELETE_MESSAGE"]
    assert deleted == said[::-1]
    _, frames = greeting(join(server, arn, "new"))
    assert contents(frames) == [f"fine {number}" for number in range(7)]
    mark = f"r{next(MARK)}"
    speaker.say("/purge alice tired", mark)
    answer, _ = speaker.receive_until(lambda frame: frame.get("RequestId") == mark)
    assert answer["Content"] == "7 messages of alice are removed", answer
    assert greeting(join(server, arn, "newer"))[0] == told(0)
    say(bob, "again")
    uproar.clear_room(roomIdentifier=arn, reason="new show")
    cleared, _ = viewer.receive_until(lambda frame: frame.get("EventName") == "uproar:clear")
    assert cleared["Attributes"] == {"Reason": "new show"}
    assert greeting(join(server, arn, "newest"))[0] == told(0)
    # Who only writes may not.
    writer = WebSocket(server.messaging_port, server.token(arn, "writer", ["SEND_MESSAGE"]))
    writer.say("x", "p", Attributes={"uproar:do": "purge", "uproar:user": "bob"})
    refused, _ = writer.receive_until(lambda frame: frame.get("RequestId") == "p")
    assert refused["ErrorCode"] == 403
    metrics = server.metrics()
    assert re.search(r"^uproar_purged_total [1-9]", metrics, re.M)
    assert re.search(r"^uproar_moderation_seconds_count [1-9]", metrics, re.M)


def test_a_remembered_message_is_pinned_by_its_id(server, uproar):
    arn = room(server, history="10")
    speaker = join(server, arn, "alice")
    (id,) = say(speaker, "worth reading")
    uproar.pin_message(roomIdentifier=arn, messageId=id)
    state, _ = speaker.receive_until(lambda frame: frame.get("EventName") == "uproar:room")
    while not state["Attributes"].get("Pinned"):
        state, _ = speaker.receive_until(lambda frame: frame.get("EventName") == "uproar:room")
    pinned = {name: state["Attributes"][name] for name in ("Pinned", "PinnedText", "PinnedUser")}
    assert pinned == {"Pinned": id, "PinnedText": "worth reading", "PinnedUser": "alice"}
