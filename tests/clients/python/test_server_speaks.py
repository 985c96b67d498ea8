"""The server speaks: messages that a back end says, events for one user, deletions of many messages at once."""

from __future__ import annotations

import gzip
import json
import threading
import time
import urllib.error
import urllib.request
from datetime import datetime
from pathlib import Path

import boto3
import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from aws import eventually
from doc_pages import blocks
from rawws import WebSocket
from review_handler import FUNCTION, ReviewHandler
from test_access_keys import ROOM, create
from test_extensions import MODEL, hears_nothing_else, join
from uproar import ACCESS_KEY, REGION, REPOSITORY, SECRET_KEY, Server


def api(server: Server, key: str = ACCESS_KEY, secret: str = SECRET_KEY):
    """A client of our own operations, by the shipped model."""
    session = botocore.session.Session()
    session.set_config_variable("data_path", str(MODEL))
    return boto3.session.Session(botocore_session=session).client(
        "uproar", region_name=REGION, endpoint_url=server.control_url, aws_access_key_id=key, aws_secret_access_key=secret,
        config=Config(retries={"total_max_attempts": 1}, parameter_validation=False),
    )


def refused(call, **arguments) -> tuple[int, str, dict]:
    with pytest.raises(ClientError) as raised:
        call(**arguments)
    answer = raised.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"], answer


def fields(answer: dict) -> list[str]:
    return [field["name"] for field in answer["fieldList"]]


def next_message(socket: WebSocket) -> dict:
    return socket.receive_until(lambda frame: frame["Type"] == "MESSAGE")[0]


def test_a_message_of_the_api_is_an_ordinary_one(server, room):
    client = api(server)
    viewers = [join(server, room, user) for user in ("alice", "bob")]
    sender = {"userId": "shop", "attributes": {"badge": "ö", "colour": "red"}}
    said = client.send_message(roomIdentifier=room, content="héllo", attributes={"kind": "gift"}, sender=sender)
    bare = client.send_message(roomIdentifier=room, content="x" * 500, sender={"userId": "shop"})
    for viewer in viewers:
        frame, before = viewer.receive_until(lambda frame: frame["Type"] == "MESSAGE")
        assert before == []
        assert list(frame) == ["Type", "Id", "RequestId", "Attributes", "Content", "SendTime", "Sender"]
        assert (frame["Id"], frame["RequestId"], frame["Content"]) == (said["id"], "", "héllo")
        assert frame["Attributes"] == {"kind": "gift"}
        assert frame["Sender"] == {"UserId": "shop", "Attributes": {"badge": "ö", "colour": "red"}}
        assert abs(time_of(frame["SendTime"]) - said["sendTime"].timestamp()) < 1e-5
        frame = next_message(viewer)
        assert (frame["Id"], frame["Attributes"], len(frame["Content"])) == (bare["id"], None, 500)
    assert viewers[0].say("mine", "r")
    viewer_made = viewers[0].receive_until(lambda frame: frame.get("RequestId") == "r")[0]
    assert list(viewer_made) == list(frame), "as a viewer's, member by member"


def time_of(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def test_what_is_wrong_is_named(server, boto, room):
    client, sender = api(server), {"userId": "shop"}
    short = boto.create_room(maximumMessageLength=5)["arn"]
    for arguments, names in [
        ({"content": "x" * 501, "sender": sender}, ["content"]),
        ({"content": "", "sender": sender}, ["content"]),
        ({"content": "x"}, ["sender"]),
        ({"sender": {"userId": ""}}, ["content", "sender.userId"]),
        ({"content": "x", "sender": {"userId": "u" * 129}}, ["sender.userId"]),
        ({"content": "x", "sender": sender, "attributes": {"k": "x" * 1024}}, ["attributes"]),
        ({"content": "x", "sender": sender, "attributes": {"uproar:private": "1"}}, ["attributes.uproar:private"]),
        ({"content": "x", "sender": {"userId": "u", "attributes": {"uproar:since": "1"}}}, ["sender.attributes.uproar:since"]),
    ]:
        status, code, answer = refused(client.send_message, roomIdentifier=room, **arguments)
        assert (status, code, fields(answer)) == (400, "ValidationException", names), arguments
    status, _, answer = refused(client.send_message, roomIdentifier=short, content="x" * 6, sender=sender)
    assert (status, fields(answer)) == (400, ["content"]) and "1 to 5" in answer["fieldList"][0]["message"]
    ghost = room[:-4] + "zzzz"
    assert refused(client.send_message, roomIdentifier=ghost, content="x", sender=sender)[0] == 404
    assert refused(client.send_user_event, roomIdentifier=ghost, userId="u", eventName="e")[0] == 404
    assert refused(client.delete_messages, roomIdentifier=ghost, ids=["AAAAAAAAAAAA"])[0] == 404
    for name in ("uproar:room", ""):
        answer = refused(client.send_user_event, roomIdentifier=room, userId="u", eventName=name)
        assert (answer[0], fields(answer[2])) == (400, ["eventName"])
    for ids in ([], ["short"], ["AAAAAAAAAAAA"] * 101):
        answer = refused(client.delete_messages, roomIdentifier=room, ids=ids)
        assert (answer[0], fields(answer[2])) == (400, ["ids"]), ids
    for messages in ([], [{"content": "x", "sender": sender}] * 101):
        answer = refused(client.send_messages, roomIdentifier=room, messages=messages)
        assert (answer[0], fields(answer[2])) == (400, ["messages"])


def test_many_messages_keep_their_order_and_each_has_its_result(server, boto):
    client = api(server)
    room = boto.create_room(maximumMessageRatePerSecond=100)["arn"]
    viewer = join(server, room, "viewer")
    messages = [{"content": f"m{n}", "sender": {"userId": f"u{n % 7}"}} for n in range(100)]
    messages[3]["content"] = "x" * 501
    results = client.send_messages(roomIdentifier=room, messages=messages)["results"]
    assert len(results) == 100
    assert results[3]["errorCode"] == "ValidationException" and results[3]["errorMessage"].startswith("content: ")
    said = [(result["id"], f"m{n}") for n, result in enumerate(results) if n != 3]
    heard = [next_message(viewer) for _ in said]
    assert [(frame["Id"], frame["Content"]) for frame in heard] == said


def test_the_rooms_rate_counts_for_the_api_too(tmp_path):
    file = tmp_path / "uproar.toml"
    file.write_text("[extensions]\nenabled = true\n")
    with Server(quotas="aws", extra=("--config", str(file))) as server:
        client = api(server)
        room = server.boto().create_room(maximumMessageRatePerSecond=5)["arn"]
        messages = [{"content": "x", "sender": {"userId": "u"}}] * 100
        results = client.send_messages(roomIdentifier=room, messages=messages)["results"]
        codes = [result.get("errorCode") for result in results]
        assert codes.count(None) in range(5, 50) and set(codes) == {None, "ThrottlingException"}
        many = [refusal_of(client, room) for _ in range(30)]
        assert ("ThrottlingException", 429) in many


def refusal_of(client, room: str):
    try:
        client.send_message(roomIdentifier=room, content="x", sender={"userId": "u"})
    except ClientError as error:
        return error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
    return None


def test_an_event_for_one_user_reaches_all_connections_of_that_one(server, boto):
    """Goal: bob's connections get it, on whichever shard, and nobody else does: neither whose id begins with bob's, nor bob in
    another room."""
    client = api(server)
    room, other = (boto.create_room()["arn"] for _ in range(2))
    bobs = [join(server, room, "bob") for _ in range(6)]
    others = [join(server, room, "eve"), join(server, room, "bobby"), join(server, room, 'bob"'), join(server, other, "bob")]
    before = sent_to_users(server)
    for number in range(3):
        told = client.send_user_event(
            roomIdentifier=room, userId="bob", eventName="shop:won", attributes={"number": str(number)},
        )
        assert told["connections"] == 6
    assert client.send_user_event(roomIdentifier=room, userId="nobody", eventName="e")["connections"] == 0
    heard = [[bob.receive() for _ in range(3)] for bob in bobs]
    assert all(frames == heard[0] for frames in heard)
    first = heard[0][0]
    assert (first["Type"], first["EventName"], first["RequestId"]) == ("EVENT", "shop:won", "")
    assert [frame["Attributes"] for frame in heard[0]] == [{"number": str(number)} for number in range(3)]
    hears_nothing_else(*bobs, *others[:3])
    hears_nothing_else(others[3])
    assert sent_to_users(server) - before == 18


def sent_to_users(server: Server) -> int:
    found = [line for line in server.metrics().splitlines() if line.startswith("uproar_user_events_total ")]
    return int(found[0].split()[1])


def test_many_deletions_are_announced_in_order(server, boto):
    client = api(server)
    room = boto.create_room()["arn"]
    viewer = join(server, room, "viewer")
    ids = [f"{number:012}" for number in range(100)]
    events = client.delete_messages(roomIdentifier=room, ids=ids, reason="spam")["ids"]
    heard = [viewer.receive() for _ in ids]
    assert [frame["Id"] for frame in heard] == events
    assert {frame["EventName"] for frame in heard} == {"aws:DELETE_MESSAGE"}
    assert [frame["Attributes"]["MessageID"] for frame in heard] == ids
    assert {frame["Attributes"]["Reason"] for frame in heard} == {"spam"}


def test_a_key_without_the_grant_is_refused(server, room):
    def key(*rights: str):
        made = server.run("keys", "create", "--data-dir", str(server.data_dir), *rights)
        assert made.returncode == 0, made.stderr
        return [line.partition("=")[2] for line in made.stdout.splitlines()]

    mint, bot = api(server, *key("--role", "mint")), api(server, *key("--operation", "SendMessage"))
    say = {"roomIdentifier": room, "content": "x", "sender": {"userId": "u"}}
    for call, arguments in [
        (mint.send_message, say),
        (mint.send_messages, {"roomIdentifier": room, "messages": [{"content": "x", "sender": {"userId": "u"}}]}),
        (mint.send_user_event, {"roomIdentifier": room, "userId": "u", "eventName": "e"}),
        (mint.delete_messages, {"roomIdentifier": room, "ids": ["AAAAAAAAAAAA"]}),
        (bot.send_user_event, {"roomIdentifier": room, "userId": "u", "eventName": "e"}),
    ]:
        assert refused(call, **arguments)[:2] == (403, "AccessDeniedException")
    assert bot.send_message(**say)["id"]
    badge = say | {"sender": {"userId": "u", "attributes": {"uproar:role": "mod"}}}
    assert fields(refused(bot.send_message, **badge)[2]) == ["sender.attributes.uproar:role"]
    assert api(server).send_message(**badge)["id"], "a key that may do everything gives badges"


def reviewed(tmp_path, handler: ReviewHandler) -> Server:
    file = tmp_path / "uproar.toml"
    file.write_text(
        f'[review]\ntimeout_ms = 5000\nfunctions = ["{FUNCTION}check={handler.url}"]\n[extensions]\nenabled = true\n'
    )
    return Server(quotas="open", extra=("--config", str(file)))


def test_the_answer_is_the_verdict_in_a_reviewed_room(tmp_path, handler):
    with reviewed(tmp_path, handler) as server:
        client = api(server)
        review = {"uri": f"{FUNCTION}check", "fallbackResult": "DENY"}
        room = server.boto().create_room(messageReviewHandler=review, maximumMessageRatePerSecond=100)["arn"]
        viewer, sender = join(server, room, "viewer"), {"userId": "bot", "attributes": {"a": "b"}}

        def say(content: str, **rest):
            return client.send_message(roomIdentifier=room, content=content, sender=sender, **rest)

        said = say("rewrite better")
        frame = next_message(viewer)
        assert (frame["Id"], frame["Content"]) == (said["id"], "better")
        assert abs(time_of(frame["SendTime"]) - said["sendTime"].timestamp()) < 1e-5
        assert handler.asked[-1].question["Sender"] == {"UserId": "bot", "Attributes": {"a": "b"}, "Ip": ""}
        status, code, answer = refused(lambda: say("deny not here"))
        assert (status, code, answer["Error"]["Message"]) == (406, "NotAcceptableException", "not here")
        assert refused(lambda: say("deny"))[0] == 406
        asked = len(handler.asked)
        said = say("deny nothing", exempt=True)
        assert next_message(viewer)["Id"] == said["id"] and len(handler.asked) == asked
        messages = [{"content": text, "sender": sender} for text in ("slow 300 a", "deny no", "c")]
        results = client.send_messages(roomIdentifier=room, messages=messages)["results"]
        assert results[1] == {"errorCode": "NotAcceptableException", "errorMessage": "no"}
        assert [next_message(viewer)["Id"] for _ in range(2)] == [results[0]["id"], results[2]["id"]]
        gone = threading.Thread(target=lambda: (time.sleep(0.3), server.boto().delete_room(identifier=room)))
        gone.start()
        assert refused(lambda: say("slow 3000 late"))[0] == 404, "the room goes while its review is open"
        gone.join()


def test_an_open_review_ends_before_an_upgrade(tmp_path, handler):
    """Goal: a message under review when the server is replaced is answered by the process that took it, and is heard."""
    with reviewed(tmp_path, handler) as server:
        client = api(server)
        review = {"uri": f"{FUNCTION}check", "fallbackResult": "ALLOW"}
        room = server.boto().create_room(messageReviewHandler=review)["arn"]
        viewer, said = join(server, room, "viewer"), []
        asked = len(handler.asked)
        speaker = threading.Thread(target=lambda: said.append(client.send_message(
            roomIdentifier=room, content="slow 700 carried", sender={"userId": "bot"},
        )))
        speaker.start()
        with handler.changed:
            assert handler.changed.wait_for(lambda: len(handler.asked) > asked, 60)
        server.upgrade()
        speaker.join()
        assert next_message(viewer)["Id"] == said[0]["id"]
        told = api(server).send_user_event(roomIdentifier=room, userId="viewer", eventName="after")
        assert told["connections"] == 1 and viewer.receive()["EventName"] == "after"


def text_of(path: Path) -> str:
    content = path.read_bytes()
    return (gzip.decompress(content) if path.suffix == ".gz" else content).decode()


def test_what_is_answered_survives_a_kill(tmp_path):
    """Goal: of a logged room every answered message and deletion is in the log, though the process is killed under the callers.
    Method: the spool of a destination that does not exist keeps them; the next process has each line."""
    target = tmp_path / "logs"
    file = tmp_path / "uproar.toml"
    file.write_text(f'[extensions]\nenabled = true\n[logging]\ndirectory = "{target}"\nobject_seconds = 1\n')
    server = Server(tmp_path / "data", quotas="open", extra=("--config", str(file)))
    server.start()
    boto = server.boto()
    configuration = boto.create_logging_configuration(destinationConfiguration={"s3": {"bucketName": "chat-logs"}})["arn"]
    room = boto.create_room(maximumMessageRatePerSecond=100, loggingConfigurationIdentifiers=[configuration])["arn"]
    answered: list[str] = []

    def call() -> None:
        client = api(server)
        while True:
            try:
                said = client.send_message(roomIdentifier=room, content="m", sender={"userId": "u"})
                answered.append(said["id"])
                answered.extend(client.delete_messages(roomIdentifier=room, ids=[said["id"]] * 3)["ids"])
                client.send_user_event(roomIdentifier=room, userId="u", eventName="unlogged")
            except (BotoCoreError, ClientError):
                return

    callers = [threading.Thread(target=call) for _ in range(3)]
    for caller in callers:
        caller.start()
    deadline = time.monotonic() + 60
    while len(answered) < 60:
        assert time.monotonic() < deadline, "the callers got nowhere"
        time.sleep(0.005)
    server.kill()
    for caller in callers:
        caller.join(60)
    with Server(tmp_path / "data", quotas="open", extra=("--config", str(file))):
        def logged() -> str:
            return " ".join(text_of(path) for path in target.rglob("*") if path.is_file())

        missing = eventually(lambda: [id_ for id_ in answered if id_ not in logged()], lambda missing: not missing)
        assert missing == [] and "unlogged" not in logged()


def test_the_example_of_the_page_does_what_it_says(server, boto, room):
    """Method: the code of docs/features.md, with this server's client and room."""
    page = REPOSITORY / "docs" / "features.md"
    (block,) = [block for block in blocks(page) if block.argument == "test_server_speaks.py"]
    bob, eve = join(server, room, "bob"), join(server, room, "eve")
    exec(block.text, {"uproar": api(server), "room": room})
    heard = bob.receive_until(lambda frame: frame.get("EventName") == "aws:DELETE_MESSAGE")
    names = [frame.get("EventName") or frame["Content"] for frame in [*heard[1], heard[0]]]
    assert names == ["bob sent a rose", "shop:receipt", "aws:DELETE_MESSAGE"]
    hears = eve.receive_until(lambda frame: frame.get("EventName") == "aws:DELETE_MESSAGE")
    assert [frame["Type"] for frame in hears[1]] == ["MESSAGE"]
    assert json.dumps(hears[0]) == json.dumps(heard[0])


MODERATES = {
    "DeleteMessages", "DeleteUserMessages", "ClearRoom", "CreateBan", "DeleteBan", "ListBans", "PinMessage", "UnpinMessage",
    "ListMessages", "ListHeld", "DecideHeld",
}


@pytest.mark.parametrize("role, allowed", [("mint", set()), ("moderate", MODERATES)])
def test_a_role_has_its_extensions_and_no_other(server, role, allowed):
    """Goal: a moderator's key does all that the feature pages say of moderators, and nothing else beyond the service."""
    key = create(server, "--role", role)
    operations = api(server).meta.service_model.operation_names
    assert allowed <= set(operations)
    for operation in operations:
        status = bearer(server, key, operation)
        assert (status != 403) == (operation in allowed), (operation, status)


def bearer(server, key: dict[str, str], operation: str, body: dict | None = None) -> int:
    """The status of a call beyond the service; without a body with nothing but a room that does not exist."""
    request = urllib.request.Request(
        f"{server.control_url}/uproar/v1/{operation}", data=json.dumps(body or {"roomIdentifier": ROOM}).encode(),
        headers={"content-type": "application/json", "authorization": f"Bearer {key['id']}:{key['secret']}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
