"""HTTP around the operations: sizes, slowness, keep-alive, CORS, request ids, and the log of it."""

from __future__ import annotations

import http.client
import json
import re
import socket
import time

import pytest
from botocore.exceptions import ClientError

from raw_api import call, send, sign
from uproar import ACCESS_KEY, Server

BODY_BYTES_MAX = 256 * 1024
UNREAD_BODY_BYTES_MAX = 64 * 1024
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def wire(server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.control_port), timeout=60)


def request(server, path="/ListRooms", body=b"{}", extra: str = "") -> bytes:
    """A whole signed request."""
    headers = sign(server, "POST", path, body, {"Content-Type": "application/json"})
    headers |= {"Host": f"127.0.0.1:{server.control_port}", "Content-Length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {path} HTTP/1.1\r\n{head}{extra}\r\n".encode() + body


def status_of(connection: socket.socket) -> int:
    """Reads up to the status line; 0 if the server closed without one."""
    data = b""
    while b"\r\n" not in data:
        more = connection.recv(4096)
        if not more:
            return 0
        data += more
    return int(data.split(b" ", 2)[1])


def closes(connection: socket.socket, seconds: float) -> bool:
    connection.settimeout(seconds)
    try:
        while connection.recv(4096):
            pass
        return True
    except ConnectionError:
        return True
    except TimeoutError:
        return False


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/startupz", "/metrics"])
def test_head_is_answered_wherever_get_is(server, path):
    """Goal: container health checks by `wget --spider`. Two on one connection: no body is between them."""
    # What tests before this one had written may still keep the disk, and with it the store's turn.
    server.await_ready()
    connection = wire(server)
    for _ in range(2):
        connection.sendall(f"HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        data = b""
        while b"\r\n\r\n" not in data:
            data += connection.recv(4096)
        head, rest = data.split(b"\r\n\r\n", 1)
        assert head.startswith(b"HTTP/1.1 200 ") and rest == b"", data
        assert int(re.search(rb"(?i)content-length: (\d+)", head)[1]) > 0
    connection.close()


def test_scripts_may_read_the_date(server):
    """Goal: the SDK in a browser whose clock is wrong finds out by how much."""
    connection = wire(server)
    connection.sendall(request(server).replace(b"Signature=", b"Signature=0"))
    head = connection.recv(65536).split(b"\r\n\r\n")[0].decode().lower()
    assert "\r\ndate: " in head
    exposed = re.search(r"access-control-expose-headers: (.*)", head)[1].strip().split(",")
    assert {"date", "x-amzn-requestid", "x-amzn-errortype"} <= set(exposed)


@pytest.mark.parametrize("path", ["/ListRooms", "/NoSuchOperation"])
def test_an_answer_before_the_body_was_read_says_that_the_connection_ends(server, path):
    connection = wire(server)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
    connection.sendall(head.encode())
    answer = connection.recv(65536).decode().lower()
    assert answer.startswith(("http/1.1 403", "http/1.1 404"))
    assert "\r\nconnection: close\r\n" in answer
    assert closes(connection, 20)


def test_an_answer_without_a_body_to_read_keeps_the_connection(server):
    connection = wire(server)
    for _ in range(2):
        connection.sendall(b"POST /NoSuchOperation HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        assert b"\r\nconnection: close" not in connection.recv(65536).lower()
    connection.close()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/ListRooms", 403), ("POST", "/NoSuchOperation", 404), ("GET", "/metrics", 200), ("OPTIONS", "/x", 200)],
)
def test_a_small_body_that_nobody_read_is_dropped_and_the_connection_goes_on(server, method, path, status):
    """Goal: a client that keeps connections sends its next request where it sent the refused one."""
    kept = http.client.HTTPConnection("127.0.0.1", server.control_port, timeout=60)
    kept.connect()
    first = kept.sock
    for length in (1, 1000, UNREAD_BODY_BYTES_MAX):
        kept.request(method, path, body=b"x" * length)
        answer = kept.getresponse()
        assert (answer.status, answer.headers["Connection"]) == (status, None)
        answer.read()
        body = b"{}"
        kept.request("POST", "/ListRooms", body, sign(server, "POST", "/ListRooms", body))
        answer = kept.getresponse()
        assert answer.status == 200 and answer.read()
        assert kept.sock is first, "it is the same connection"
    kept.close()


def test_a_refusal_does_not_wait_for_a_small_body(server):
    connection = wire(server)
    connection.sendall(b"POST /ListRooms HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n12")
    assert b"HTTP/1.1 403" in connection.recv(65536)
    connection.sendall(b"345" + request(server))
    assert status_of(connection) == 200
    connection.close()


def test_who_waits_to_be_told_to_send_a_body_is_told_that_the_connection_ends(server):
    """Goal: whether its body comes is not known, so nothing behind the refusal may be taken for a request."""
    connection = wire(server)
    head = b"POST /ListRooms HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    connection.sendall(head)
    answer = connection.recv(65536).lower()
    assert answer.startswith(b"http/1.1 403") and b"\r\nconnection: close\r\n" in answer
    assert closes(connection, 60)


@pytest.mark.parametrize("length", [UNREAD_BODY_BYTES_MAX + 1, 3 << 20])
@pytest.mark.parametrize(
    ("path", "status", "signed"),
    [("/ListRooms", 403, False), ("/NoSuchOperation", 404, False), ("/CreateRoom", 413, True), ("/livez", 404, False)],
)
def test_whoever_sends_a_large_body_can_still_read_why_it_was_not_read(server, path, status, signed, length):
    """Method: http.client, which reads nothing before it has sent everything."""
    body = b"x" * max(length, BODY_BYTES_MAX + 1 if signed else 0)
    headers = sign(server, "POST", path, body) if signed else {}
    connection = http.client.HTTPConnection("127.0.0.1", server.control_port, timeout=60)
    connection.request("POST", path, body=body, headers=headers)
    answer = connection.getresponse()
    assert (answer.status, answer.headers["Connection"]) == (status, "close")
    assert answer.read()
    connection.close()


def test_the_official_client_reads_why_its_large_call_was_refused(server):
    """Method: boto3, whose connection is kept between calls."""
    client = server.boto(aws_secret_access_key="wrong")
    for size, expected in [(1000, 403), (100_000, 403), (2 << 20, 413)]:
        with pytest.raises(ClientError) as caught:
            client.create_room(tags={"k": "v" * size})
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == expected
    assert server.boto().list_rooms()["rooms"] is not None


def test_what_is_dropped_after_an_answer_is_bounded(server):
    """Goal: nobody keeps us reading for ever. Method: send until the connection is cut."""
    with wire(server) as connection:
        connection.sendall(b"POST /ListRooms HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n")
        sent, chunk = 0, b"x" * 65_536
        with pytest.raises(ConnectionError):
            while sent < 1 << 30:
                sent += connection.send(chunk)
        assert sent < 64 << 20, "beyond the limit only what the kernel holds is taken"




def test_the_largest_body_is_read_and_one_byte_more_is_not(server):
    """Goal: 413 from the header alone, before a byte of it is read."""
    padding = BODY_BYTES_MAX - len(b'{"name":""}')
    largest = b'{"name":"' + b"n" * padding + b'"}'
    assert len(largest) == BODY_BYTES_MAX
    status, _, answer = call(server, "POST", "/CreateRoom", largest)
    assert (status, json.loads(answer)["reason"]) == (400, "FIELD_VALIDATION_FAILED")
    status, headers, _ = call(server, "POST", "/CreateRoom", largest + b" ")
    assert (status, headers["x-amzn-ErrorType"]) == (413, "RequestEntityTooLargeException")
    with wire(server) as connection:
        head = request(server).replace(b"Content-Length: 2", b"Content-Length: 99999999999")
        connection.sendall(head[: head.index(b"\r\n\r\n") + 4])
        assert status_of(connection) == 413


def test_the_largest_legal_call_is_taken(boto):
    """Goal: botocore escapes each of these characters as two `\\u`, twelve bytes."""
    tags = {f"{index:02}" + "\U0001f525" * 126: "\U0001f525" * 256 for index in range(50)}
    arn = boto.create_room(tags=tags)["arn"]
    assert boto.get_room(identifier=arn)["tags"] == tags


def test_fifty_long_keys_fit_a_uri(boto, room):
    """Goal: UntagResource has its keys in the URI; three bytes of each character are nine there."""
    keys = [f"{index:02}" + "\u6f22" * 126 for index in range(50)]
    boto.tag_resource(resourceArn=room, tags=dict.fromkeys(keys, "v"))
    boto.untag_resource(resourceArn=room, tagKeys=keys)
    assert boto.list_tags_for_resource(resourceArn=room)["tags"] == {}


def test_nothing_is_read_for_strangers(server):
    """Goal: the refusal comes before the body, so a stranger cannot make us hold it."""
    whole = request(server, body=b"{}" + b" " * 100_000)
    head = whole[: whole.index(b"\r\n\r\n") + 4]
    for stranger in (
        head.replace(ACCESS_KEY.encode(), b"AKIDNOBODY0000000000"),
        head.replace(b"/us-west-2/", b"/eu-west-1/"),
        head.replace(b"Authorization: ", b"X-Other: "),
    ):
        with wire(server) as connection:
            connection.sendall(stranger)
            connection.settimeout(5)
            assert status_of(connection) == 403


def test_a_chunked_body_is_bounded_as_well(server):
    with wire(server) as connection:
        head = request(server).replace(b"Content-Length: 2\r\n", b"Transfer-Encoding: chunked\r\n")
        connection.sendall(head[: head.index(b"\r\n\r\n") + 4])
        for _ in range(160):
            connection.sendall(b"1000\r\n" + b" " * 4096 + b"\r\n")
        assert status_of(connection) == 413


def test_a_head_of_many_or_large_fields_is_refused(server):
    for extra in (
        "".join(f"x-{index}: v\r\n" for index in range(120)),
        f"x-large: {'v' * 300_000}\r\n",
    ):
        with wire(server) as connection:
            connection.sendall(request(server, extra=extra))
            assert status_of(connection) == 431


@pytest.mark.parametrize(
    "head",
    [
        b"POST /ListRooms HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /ListRooms HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
        b"POST /ListRooms HTTP/1.1\r\nHost : a\r\n\r\n",
        b"POST /List Rooms HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused_and_closed(server, head):
    with wire(server) as connection:
        connection.sendall(head + b"\r\n\r\n")
        assert status_of(connection) in (0, 400, 505)
        assert closes(connection, 5)


def test_one_connection_carries_many_calls_also_ahead_of_answers(server):
    with wire(server) as connection:
        for _ in range(3):
            connection.sendall(request(server))
            assert status_of(connection) == 200
            connection.settimeout(0.05)
            try:
                while connection.recv(65_536):
                    pass
            except TimeoutError:
                connection.settimeout(20)
    with wire(server) as connection:
        connection.sendall(request(server) * 5)
        data = b""
        while data.count(b"HTTP/1.1 200") < 5:
            more = connection.recv(65_536)
            assert more, f"closed after {data.count(b'HTTP/1.1 200')} answers"
            data += more


def test_a_slow_body_is_given_ten_seconds_and_a_silent_head_is_closed(server):
    """Goal: neither holds a connection for ever; others are answered meanwhile."""
    with wire(server) as silent, wire(server) as slow, wire(server) as partial:
        whole = request(server)
        started = time.monotonic()
        slow.sendall(whole[:-1])
        partial.sendall(whole[:20])
        assert call(server, "POST", "/ListRooms", b"{}")[0] == 200
        slow.settimeout(60)
        assert status_of(slow) == 408
        assert time.monotonic() - started > 9
        assert closes(partial, 60)
        assert closes(silent, 60)


def test_a_refusal_leaves_nothing_of_its_request_to_be_read_as_another(server):
    """Goal: no smuggling. Method: a refused body that is itself a request gets no answer."""
    inner = request(server, "/CreateRoom", b'{"name":"smuggled"}')
    outer = request(server, "/LaunchRocket", inner)
    with wire(server) as connection:
        connection.sendall(outer)
        connection.settimeout(1)
        data = b""
        try:
            while more := connection.recv(65_536):
                data += more
        except TimeoutError:
            pass
        assert data.count(b"HTTP/1.1 ") == 1 and b"404" in data.split(b"\r\n")[0]
    body = json.dumps({"name": "smuggled"}).encode()
    assert json.loads(call(server, "POST", "/ListRooms", body)[2])["rooms"] == []


def test_answers_have_ids_and_safe_headers_and_may_be_read_by_browsers(server):
    seen = set()
    for status, headers, _ in (
        call(server, "POST", "/ListRooms", b"{}"),
        call(server, "POST", "/CreateRoom", b"{"),
        send(server, "POST", "/ListRooms"),
        send(server, "OPTIONS", "/CreateChatToken"),
        send(server, "GET", "/livez"),
    ):
        assert UUID.fullmatch(headers["x-amzn-RequestId"]), status
        seen.add(headers["x-amzn-RequestId"])
        assert headers["Access-Control-Allow-Origin"] == "*"
        assert "x-amzn-RequestId" in headers["Access-Control-Expose-Headers"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
    assert len(seen) == 5
    status, headers, body = send(
        server,
        "OPTIONS",
        "/tags/x",
        headers={"Origin": "https://a.example", "Access-Control-Request-Method": "DELETE"},
    )
    assert status == 200 and body == b""
    assert {"GET", "POST", "DELETE"} <= set(headers["Access-Control-Allow-Methods"].split(","))
    allowed = headers["Access-Control-Allow-Headers"].split(",")
    assert {"authorization", "content-type", "x-amz-date", "amz-sdk-request"} <= set(allowed)


def test_every_call_is_one_line_of_debug_with_operation_key_status_and_time(tmp_path):
    path = tmp_path / "uproar.toml"
    path.write_text('[log]\nfilter = "uproar=debug"\n')
    with Server(extra=("--config", str(path))) as server:
        _, good, _ = call(server, "POST", "/ListRooms", b"{}")
        _, bad, _ = call(server, "POST", "/GetRoom", b'{"identifier":"\\nuser=root"}')
        _, forged, _ = call(server, "POST", "/ListRooms", b"{}", secret="wrong")
        _, unknown, _ = call(server, "POST", "/%0aforged", b"{}")
        assert server.stop() == 0
        lines = server.log().splitlines()
    for headers, operation, status, key in (
        (good, "ListRooms", 200, ACCESS_KEY),
        (bad, "GetRoom", 400, ACCESS_KEY),
        (forged, "ListRooms", 403, None),
        (unknown, "unknown", 404, None),
    ):
        found = [json.loads(line) for line in lines if headers["x-amzn-RequestId"] in line]
        (event,) = [event for event in found if event["message"] == "api"]
        assert (event["operation"], event["status"], event.get("key")) == (operation, status, key)
        assert event["level"] == "DEBUG" and event["micros"] >= 0
    assert not any(line.startswith(("user=root", "forged")) for line in lines)


def test_counters_tell_operations_and_statuses_apart(server):
    before = metrics(server)
    call(server, "POST", "/ListRooms", b"{}")
    call(server, "POST", "/GetRoom", b"{}")
    after = metrics(server)
    for labels in ('operation="ListRooms",status="200"', 'operation="GetRoom",status="400"'):
        name = f"uproar_api_requests_total{{{labels}}}"
        assert after[name] == before.get(name, 0) + 1


def metrics(server) -> dict[str, int]:
    lines = send(server, "GET", "/metrics")[2].decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if line.startswith("uproar_api_requests_total"))
    return {name: int(value) for name, value in pairs}
