"""Message review with boto3, real WebSockets and a real HTTP handler, in both ways of calling it."""

from __future__ import annotations

import datetime
import ipaddress
import itertools
import json
import ssl
import urllib.request

import boto3
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from conftest import shared_server_of
from rawws import WebSocket, instant
from review_handler import FUNCTION, ReviewHandler
from ports import free_port
from uproar import Server

KEY, SECRET, TOKEN = "AKIDLAMBDA0000000000", "lambda/secret+0123456789", "session//token=="
COUNTER = itertools.count()


def config(tmp, handler: ReviewHandler, **keys) -> Server:
    """A server that knows functions `mapped…` by URL and all others at the Invoke API."""
    mapped = [f"{FUNCTION}mapped{n}={handler.url}/check/{n}" for n in ("", "-hung")]
    review = {
        "timeout_ms": 10_000,
        "functions": mapped,
        "lambda_endpoint": handler.url,
        "lambda_access_key_id": KEY,
        "lambda_secret_access_key": SECRET,
        "lambda_session_token": TOKEN,
        **keys,
    }
    path = tmp / f"uproar-{next(COUNTER)}.toml"
    lines = [f"{key} = {json.dumps(value)}" for key, value in review.items() if value is not None]
    path.write_text("[review]\n" + "\n".join(lines) + "\n")
    return Server(quotas="open", extra=("--config", str(path)))


@pytest.fixture(scope="module")
def server(tmp_path_factory, handler):
    yield from shared_server_of(config(tmp_path_factory.mktemp("review"), handler))


@pytest.fixture(params=["mapped", "invoked"])
def way(request) -> str:
    """The function's name: by URL, or through Lambda's Invoke API."""
    return request.param


class Chat:
    """A reviewed room with a sender and a bystander."""

    def __init__(self, server: Server, function: str | None, fallback: str = "ALLOW", **rest):
        boto = server.boto_cached
        if function is not None:
            uri = FUNCTION + function
            rest["messageReviewHandler"] = {"uri": uri, "fallbackResult": fallback}
        self.server = server
        self.arn = boto.create_room(maximumMessageRatePerSecond=100, **rest)["arn"]
        self.sender = self.join("sender", attributes={"badge": "ö"})
        self.bystander = self.join("bystander")

    def join(self, user: str, **rest) -> WebSocket:
        return WebSocket(self.server.messaging_port, self.server.token(self.arn, user, **rest))

    def say(self, content: str, **rest) -> dict:
        """Says it and returns the answer."""
        request = f"r{next(COUNTER)}"
        assert self.sender.say(content, request, **rest)
        answer, _ = self.sender.receive_until(lambda frame: frame["RequestId"] == request, 20)
        return answer

    def heard(self) -> list[dict]:
        """Everything the bystander got before a marker that is allowed."""
        marker = f"marker{next(COUNTER)}"
        assert self.say(marker)["Type"] == "MESSAGE"
        _, before = self.bystander.receive_until(lambda frame: frame.get("Content") == marker, 20)
        return before

    def close(self) -> None:
        self.sender.close()
        self.bystander.close()


@pytest.fixture
def chat(server, way):
    chat = Chat(server, way)
    yield chat
    chat.close()


def metrics(server: Server) -> dict[str, float]:
    with urllib.request.urlopen(f"{server.control_url}/metrics", timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    pairs = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
    return {name: float(value) for name, value in pairs}


def test_allowed_messages_arrive_and_the_handler_sees_them_whole(chat, handler):
    said = chat.say("héllo 🔥", Attributes={"k": "v", "ü": ""})
    assert said["Type"] == "MESSAGE" and said["Content"] == "héllo 🔥"
    assert said["Attributes"] == {"k": "v", "ü": ""}
    assert "Ip" not in json.dumps(said)
    assert chat.heard() == [said]
    asked = [asked for asked in handler.asked if asked.question["MessageId"] == said["Id"]]
    assert len(asked) == 1
    assert asked[0].question == {
        "Content": "héllo 🔥",
        "MessageId": said["Id"],
        "RoomArn": chat.arn,
        "Attributes": {"k": "v", "ü": ""},
        "Sender": {"UserId": "sender", "Attributes": {"badge": "ö"}, "Ip": "127.0.0.1"},
    }
    plain = chat.say("no attributes")
    assert plain["Attributes"] is None
    asked = [asked for asked in handler.asked if asked.question["MessageId"] == plain["Id"]]
    assert asked[0].question["Attributes"] is None


def test_both_ways_are_what_they_say(chat, way, handler):
    said = chat.say("which way")
    asked = [asked for asked in handler.asked if asked.question["MessageId"] == said["Id"]][0]
    assert asked.headers["content-type"] == "application/json"
    if way == "mapped":
        assert asked.path == "/check/"
        assert "authorization" not in asked.headers
        return
    assert asked.function == FUNCTION + "invoked"
    assert asked.headers["x-amz-invocation-type"] == "RequestResponse"
    assert asked.headers["x-amz-security-token"] == TOKEN
    assert "/us-west-2/lambda/aws4_request" in asked.headers["authorization"]
    assert asked.headers["authorization"] == asked.expected_authorization(KEY, SECRET)
    # The oracle itself must be able to say no.
    assert asked.headers["authorization"] != asked.expected_authorization(KEY, SECRET + "x")


def test_an_invocation_is_what_boto3_makes_of_it(server, handler):
    """The same function invoked by boto3: same path, same headers of meaning, same oracle."""
    chat = Chat(server, "invoked")
    said = chat.say("twins")
    ours = [asked for asked in handler.asked if asked.question["MessageId"] == said["Id"]][0]
    client = boto3.client(
        "lambda",
        region_name="us-west-2",
        endpoint_url=handler.url,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        aws_session_token=TOKEN,
    )
    answer = client.invoke(
        FunctionName=FUNCTION + "invoked", InvocationType="RequestResponse", Payload=ours.body
    )
    assert json.load(answer["Payload"])["ReviewResult"] == "ALLOW"
    boto = handler.asked[-1]
    assert boto.headers["user-agent"].startswith("Boto3")
    assert (ours.path, ours.body) == (boto.path, boto.body)
    for name in ("x-amz-invocation-type", "x-amz-security-token", "host"):
        assert ours.headers.get(name) == boto.headers.get(name), name
    for asked in (ours, boto):
        assert asked.headers["authorization"] == asked.expected_authorization(KEY, SECRET)
    chat.close()


def test_content_and_attributes_are_rewritten(chat):
    kept = chat.say("rewrite nicer", Attributes={"k": "v"})
    assert (kept["Content"], kept["Attributes"]) == ("nicer", {"k": "v"})
    other = chat.say('attributes {"a": "1"}', Attributes={"k": "v"})
    assert other["Attributes"] == {"a": "1"}
    none = chat.say("attributes {}", Attributes={"k": "v"})
    assert none["Attributes"] == {}
    assert chat.heard() == [kept, other, none]


def test_omitted_attributes_can_mean_none(tmp_path, handler, way):
    with config(tmp_path, handler, omitted_attributes="drop") as server:
        chat = Chat(server, way)
        assert chat.say("rewrite x", Attributes={"k": "v"})["Attributes"] is None
        assert chat.say("plain", Attributes={"k": "v"})["Attributes"] == {"k": "v"}
        chat.close()


def test_denials_reach_the_sender_only(chat, handler):
    denied = chat.say("deny not here, Ünïcode 🔥")
    assert (denied["Type"], denied["ErrorCode"]) == ("ERROR", 406)
    assert "not here, Ünïcode 🔥" in denied["ErrorMessage"]
    assert denied["Id"] in {asked.question["MessageId"] for asked in handler.asked}
    bare = chat.say("deny")
    assert bare["ErrorCode"] == 406 and bare["ErrorMessage"]
    assert chat.heard() == []


@pytest.mark.parametrize(
    "content",
    [
        "raw not json",
        "raw ",
        'raw "ALLOW"',
        'raw {"ReviewResult":"MAYBE","Content":"x"}',
        'raw {"ReviewResult":"ALLOW"}',
        'raw {"ReviewResult":"ALLOW","Content":""}',
        'raw {"ReviewResult":"ALLOW","Content":"x","Attributes":{"a":1}}',
        "status 500",
        "status 301",
        "status 204",
        "huge",
        "drop",
    ],
)
def test_what_is_no_answer_leaves_it_to_the_fallback(server, way, content):
    for fallback in ("ALLOW", "DENY"):
        chat = Chat(server, way, fallback)
        answer = chat.say(content, Attributes={"k": "v"})
        if fallback == "ALLOW":
            assert (answer["Content"], answer["Attributes"]) == (content, {"k": "v"})
        else:
            assert answer["ErrorCode"] == 406 and answer["ErrorMessage"]
        chat.close()


def test_a_failed_function_leaves_it_to_the_fallback(server):
    chat = Chat(server, "invoked", "DENY")
    assert chat.say("fault")["ErrorCode"] == 406
    chat.close()


def test_what_a_handler_writes_is_held_to_the_rooms_length(server, way):
    chat = Chat(server, way, "DENY", maximumMessageLength=20)
    assert chat.say("tenfold éé")["Content"] == "éé" * 10
    assert chat.say("tenfold ééé")["ErrorCode"] == 406
    server.boto_cached.update_room(identifier=chat.arn, maximumMessageLength=30)
    assert chat.say("tenfold ééé")["Content"] == "ééé" * 10
    chat.close()


def test_a_handler_that_hangs_or_is_gone_leaves_it_to_the_fallback(tmp_path):
    """Nothing here ever answers, so only the time-out can: no matter how slow the machine is."""
    handler = ReviewHandler()
    dead = f"http://127.0.0.1:{free_port()}"
    functions = [f"{FUNCTION}mapped={handler.url}/hang", f"{FUNCTION}gone={dead}/"]
    keys = {"timeout_ms": 150, "functions": functions, "lambda_endpoint": dead}
    with config(tmp_path, handler, **keys) as server:
        for function, content in (("mapped", "hang"), ("gone", "x"), ("invoked", "x")):
            for fallback in ("ALLOW", "DENY"):
                chat = Chat(server, function, fallback)
                answer = chat.say(content)
                if fallback == "ALLOW":
                    assert answer["Content"] == content
                else:
                    assert answer["ErrorCode"] == 406
                chat.close()
        counted = metrics(server)
        assert counted['uproar_review_requests_total{result="timeout"}'] == 2
        assert counted['uproar_review_requests_total{result="error"}'] == 4
        assert counted["uproar_review_in_flight"] == counted["uproar_review_open"] == 0
        assert counted["uproar_review_seconds_count"] == 6
        server.await_log(FUNCTION + "gone")
    handler.close()


def test_a_function_that_nobody_placed_leaves_it_to_the_fallback(tmp_path, handler):
    keys = dict.fromkeys(("lambda_endpoint", "lambda_access_key_id", "lambda_secret_access_key", "lambda_session_token"))
    with config(tmp_path, handler, **keys) as server:
        chat = Chat(server, "nowhere", "DENY")
        assert chat.say("x")["ErrorCode"] == 406
        assert metrics(server)['uproar_review_requests_total{result="unconfigured"}'] == 1
        server.await_log("review.functions")
        chat.close()


def test_order_is_kept_and_other_rooms_are_not_delayed(server, handler, way):
    """One handler hangs with more messages than it may be sent at once; its room waits, in order.

    Everything else happens while it hangs: a room of another handler, and one without.
    """
    handler.released.clear()
    hung = Chat(server, f"{way}-hung")
    texts = [f"hang {n}" for n in range(80)]
    for text in texts[:40]:
        assert hung.sender.say(text, text)
    second = hung.join("second")
    for text in texts[40:]:
        assert second.say(text, text)
    handler.wait_for(64, "hang")
    # An event does not wait for reviews, nor does moderation.
    hung.server.boto_cached.send_event(roomIdentifier=hung.arn, eventName="app:now")
    event, before = hung.bystander.receive_until(lambda frame: frame["Type"] == "EVENT", 20)
    assert event["EventName"] == "app:now" and before == []
    for function in (way, None):
        chat = Chat(server, function)
        for n in range(20):
            assert chat.say(f"fine {n}")["Type"] == "MESSAGE"
        chat.close()
    counted = metrics(server)
    assert counted["uproar_review_held_messages"] == 80
    assert counted["uproar_review_in_flight"] == 64
    assert counted["uproar_review_open"] == 80
    handler.released.set()
    heard = [hung.bystander.receive(20) for _ in texts]
    received = [frame["Content"] for frame in heard]
    assert sorted(received) == sorted(texts)
    # Each sender's messages in its order, all by time of arrival.
    for own in (texts[:40], texts[40:]):
        assert [text for text in received if text in own] == own
    assert [frame["SendTime"] for frame in heard] == sorted(
        (frame["SendTime"] for frame in heard), key=instant
    )
    second.close()
    hung.close()


def test_handlers_are_attached_detached_and_replaced(server, handler, way):
    boto = server.boto_cached
    chat = Chat(server, None)
    assert chat.say("deny")["Type"] == "MESSAGE"
    uri = FUNCTION + way
    boto.update_room(identifier=chat.arn, messageReviewHandler={"uri": uri})
    assert chat.say("deny")["ErrorCode"] == 406
    assert chat.say("raw garbage")["Type"] == "MESSAGE"
    boto.update_room(identifier=chat.arn, messageReviewHandler={"fallbackResult": "DENY"})
    assert chat.say("raw garbage")["ErrorCode"] == 406
    boto.update_room(identifier=chat.arn, messageReviewHandler={"uri": ""})
    assert chat.say("deny")["Type"] == "MESSAGE"
    chat.close()


def test_a_detached_handler_still_decides_what_it_was_asked(server, handler, way):
    handler.released.clear()
    chat = Chat(server, f"{way}-hung")
    assert chat.sender.say("hang first", "first")
    handler.wait_for(1, "hang first")
    server.boto_cached.update_room(identifier=chat.arn, messageReviewHandler={"uri": ""})
    assert chat.sender.say("second, not reviewed", "second")
    server.boto_cached.send_event(roomIdentifier=chat.arn, eventName="app:both-are-in")
    chat.bystander.receive_until(lambda frame: frame["Type"] == "EVENT", 20)
    handler.released.set()
    assert [chat.bystander.receive(20)["RequestId"] for _ in range(2)] == ["first", "second"]
    assert not any(asked.question["Content"].startswith("second,") for asked in handler.asked)
    chat.close()


def test_a_deleted_room_takes_its_pending_messages_along(server, handler, way):
    handler.released.clear()
    chat = Chat(server, f"{way}-hung")
    assert chat.sender.say("hang deleted", "r")
    handler.wait_for(1, "hang deleted")
    server.boto_cached.delete_room(identifier=chat.arn)
    assert chat.bystander.receive_close(20).code == 1000
    handler.released.set()
    other = Chat(server, way)
    assert other.say("still here")["Type"] == "MESSAGE"
    assert metrics(server)["uproar_review_held_messages"] == 0
    other.close()


def test_rates_of_reviewed_rooms_are_charged_on_arrival(tmp_path, handler):
    server = config(tmp_path, handler)
    server.command[server.command.index("open")] = "aws"
    with server:
        boto = server.boto_cached
        handler.released.clear()
        room = {"uri": FUNCTION + "mapped-hung"}
        arn = boto.create_room(maximumMessageRatePerSecond=2, messageReviewHandler=room)["arn"]
        socket = WebSocket(server.messaging_port, server.token(arn, "u"))
        for n in range(5):
            assert socket.say(f"hang rate {n}", f"r{n}")
        # Two are under review; the others are refused although nothing was delivered yet.
        refused = [socket.receive(20) for _ in range(3)]
        assert {frame["ErrorCode"] for frame in refused} == {429}
        handler.released.set()
        assert [socket.receive(20)["RequestId"] for _ in range(2)] == ["r0", "r1"]
        socket.close()


def test_connections_are_kept(chat, handler):
    for n in range(20):
        chat.say(f"kept {n}")
    peers = {asked.peer for asked in handler.wait_for(20, "kept")}
    assert len(peers) <= 2, "one connection, or a second one after an idle while"


def test_https_with_the_systems_certificates(tmp_path, monkeypatch, handler):
    """A certificate that the system trusts is taken, any other one is not."""
    certificate, key = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    secure = ReviewHandler(tls=context)
    for trusted in (True, False):
        other, _ = self_signed(tmp_path)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate if trusted else other))
        with config(tmp_path, secure, functions=[]) as server:
            chat = Chat(server, "invoked", "ALLOW")
            answer = chat.say("rewrite secured")
            assert answer["Content"] == ("secured" if trusted else "rewrite secured")
            chat.close()
    secure.close()


DENIAL = '{"ReviewResult":"DENY"}'
DENIALS = {
    "byte order mark": "raw \ufeff" + DENIAL,
    "UTF-16": "hex " + DENIAL.encode("utf-16").hex(),
    "Latin-1 beside it": "hex " + '{"Content":"é","ReviewResult":"DENY"}'.encode("latin-1").hex(),
    "1e999 beside it": 'raw {"Confidence":1e999,"ReviewResult":"DENY"}',
    "deep nesting beside it": 'raw {"X":' + "[" * 150 + "]" * 150 + ',"ReviewResult":"DENY"}',
    "twice": 'raw {"ReviewResult":"DENY","ReviewResult":"ALLOW","Content":"x"}',
    "cut off behind it": 'raw {"ReviewResult":"DENY","Content":"ha',
    "trailing garbage": f"raw {DENIAL} <!-- -->",
    "lower case": 'raw {"reviewResult":"deny"}',
    "quotes of the message": 'raw {"Content":"he said "hi" ","ReviewResult":"DENY"}',
    "status 500": "failed-denial 500",
    "error of the function": "faulty-denial",
    "longer than may be read": "long-denial",
}


@pytest.mark.parametrize("case", DENIALS)
def test_what_was_denied_is_not_delivered_however_it_was_written(chat, case):
    """Goal: the fallback, ALLOW here, never overrules a denial that can be read."""
    answer = chat.say(DENIALS[case])
    assert (answer["Type"], answer.get("ErrorCode")) == ("ERROR", 406), answer
    assert chat.heard() == []


def self_signed(directory):
    """A certificate for 127.0.0.1 and its key, as files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "review")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    stem = directory / f"certificate-{next(COUNTER)}"
    certificate, secret = stem.with_suffix(".pem"), stem.with_suffix(".key")
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate, secret
