"""SigV4 on the wire: each way to get it wrong has its AWS exception and status (contract 3.2).

Method: botocore signs a good ListRooms, then one thing is changed. The verifier itself is tested in
`protocol::sigv4`, against Amazon's published cases and Amazon's Rust signer.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import re

import botocore.auth
import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from raw_api import call, send, sign
from rawws import Refused, WebSocket
from uproar import ACCESS_KEY, REGION, SECRET_KEY, Server

PATH, BODY = "/ListRooms", b'{"maxResults": 1}'
INVALID = ("InvalidSignatureException", 403)
INCOMPLETE = ("IncompleteSignatureException", 400)
MISSING = ("MissingAuthenticationTokenException", 403)


def good(server, extra: dict[str, str] | None = None, **identity) -> dict[str, str]:
    headers = {"Content-Type": "application/json", **(extra or {})}
    return sign(server, "POST", PATH, BODY, headers, **identity)


def verdict(server, headers, *, method="POST", path=PATH, body=BODY) -> tuple[str, int]:
    """Exception and status; every refusal has a message and is JSON."""
    status, answered, raw = send(server, method, path, body, headers)
    if status == 200:
        return "ok", 200
    assert json.loads(raw)["message"]
    assert answered["Content-Type"] == "application/json"
    return answered["x-amzn-ErrorType"], status


def test_a_good_request_is_good_again_within_its_five_minutes(server):
    headers = good(server)
    assert [verdict(server, headers) for _ in range(2)] == [("ok", 200)] * 2


def edited(headers: dict[str, str], **edits: str | None) -> dict[str, str]:
    """`headers` with some replaced, or taken away."""
    names = {name.replace("_", "-").lower(): value for name, value in edits.items()}
    kept = {name: value for name, value in headers.items() if name.lower() not in names}
    return kept | {name: value for name, value in names.items() if value is not None}


def replaced(headers: dict[str, str], pattern: str, text: str) -> dict[str, str]:
    return edited(headers, authorization=re.sub(pattern, text, headers["Authorization"]))


TAMPERED = {
    "no credentials": (lambda h: edited(h, authorization=None), MISSING),
    "another scheme": (lambda h: edited(h, authorization="Bearer x"), INCOMPLETE),
    "no signature": (lambda h: replaced(h, r", Signature=.*", ""), INCOMPLETE),
    "no signed headers": (lambda h: replaced(h, r"SignedHeaders=[^,]*, ", ""), INCOMPLETE),
    "no date": (lambda h: edited(h, x_amz_date=None), INCOMPLETE),
    "a date that is none": (lambda h: edited(h, x_amz_date="yesterday"), INCOMPLETE),
    "an empty signature": (lambda h: replaced(h, r"Signature=.*", "Signature="), INVALID),
    "a short signature": (lambda h: replaced(h, r".$", ""), INVALID),
    "a wrong signature": (lambda h: replaced(h, r"Signature=.*", "Signature=" + "0" * 64), INVALID),
    "an unknown key": (
        lambda h: replaced(h, ACCESS_KEY, "AKIDNOBODY0000000000"),
        ("UnrecognizedClientException", 403),
    ),
    "host unsigned": (lambda h: replaced(h, r";host", ""), INVALID),
    "date unsigned": (lambda h: replaced(h, r";x-amz-date", ""), INVALID),
    "a signed header gone": (lambda h: edited(h, content_type=None), INVALID),
    "a signed header changed": (lambda h: edited(h, content_type="text/plain"), INVALID),
    "an unsigned session token": (lambda h: edited(h, x_amz_security_token="T"), INVALID),
    "an unsigned payload hash": (
        lambda h: edited(h, x_amz_content_sha256=hashlib.sha256(BODY).hexdigest()),
        INVALID,
    ),
}


@pytest.mark.parametrize("case", TAMPERED)
def test_a_tampered_request_is_refused_by_name(server, case):
    tamper, expected = TAMPERED[case]
    headers = good(server)
    assert verdict(server, headers) == ("ok", 200)
    assert verdict(server, tamper(headers)) == expected


SIGNED_OTHERWISE = {
    "another secret": ({"secret": "other"}, INVALID),
    "another region": ({"region": "eu-west-1"}, INVALID),
    "another service": ({"service": "ivs"}, INVALID),
    "another key": ({"key": "AKIDNOBODY0000000000"}, ("UnrecognizedClientException", 403)),
    "a session token": ({"extra": {"X-Amz-Security-Token": "SESSION"}}, ("ok", 200)),
    "the body's hash": (
        {"extra": {"X-Amz-Content-SHA256": hashlib.sha256(BODY).hexdigest()}},
        ("ok", 200),
    ),
    "a header twice": ({"extra": {"X-Twice": "a,  b"}}, ("ok", 200)),
    "another body's hash": (
        {"extra": {"X-Amz-Content-SHA256": hashlib.sha256(b"{}").hexdigest()}},
        INVALID,
    ),
    "an unsigned body": ({"extra": {"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}}, INVALID),
    "a streamed body": (
        {"extra": {"X-Amz-Content-SHA256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"}},
        INVALID,
    ),
    "a streamed, unsigned body": (
        {"extra": {"X-Amz-Content-SHA256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER"}},
        INVALID,
    ),
}


@pytest.mark.parametrize("case", SIGNED_OTHERWISE)
def test_what_a_request_is_signed_with_decides(server, case):
    arguments, expected = SIGNED_OTHERWISE[case]
    assert verdict(server, good(server, **arguments)) == expected


@pytest.mark.parametrize(
    ("minutes", "expected"), [(-6, INVALID), (-4, ("ok", 200)), (4, ("ok", 200)), (6, INVALID)]
)
def test_a_clock_may_be_five_minutes_off(server, monkeypatch, minutes, expected):
    off = datetime.timedelta(minutes=minutes)
    now = botocore.auth.get_current_datetime
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *rest: now(*rest) + off)
    headers = good(server)
    signed_at = datetime.datetime.strptime(headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ")
    assert abs(signed_at - now() - off) < datetime.timedelta(seconds=30), "the clock was shifted"
    assert verdict(server, headers) == expected


def over_date(server, form: str = "", signed: str = "content-type;date;host", **shift) -> dict[str, str]:
    """Signed by botocore over `Date`, `form` of it if given; or over `signed` alone."""

    class Signer(SigV4Auth):
        def _set_necessary_date_headers(self, request):
            super()._set_necessary_date_headers(request)
            if form:
                at = datetime.datetime.strptime(request.context["timestamp"], "%Y%m%dT%H%M%SZ")
                request.headers.replace_header("Date", (at + datetime.timedelta(**shift)).strftime(form))

        def headers_to_sign(self, request):
            covered = super().headers_to_sign(request)
            for name in set(covered.keys()) - set(signed.split(";")):
                del covered[name]
            return covered

    headers = {"Content-Type": "application/json", "Date": "now"}
    request = AWSRequest("POST", f"{server.control_url}{PATH}", data=BODY, headers=headers)
    Signer(Credentials(ACCESS_KEY, SECRET_KEY), "ivschat", REGION).add_auth(request)
    headers = dict(request.headers)
    assert "X-Amz-Date" not in headers and f"SignedHeaders={signed}," in headers["Authorization"]
    return headers


def test_the_official_client_may_sign_over_date(server):
    """Method: boto3 with a `Date` header, which botocore signs then instead of `X-Amz-Date`."""
    client = server.boto()
    sent = []
    client.meta.events.register_first(
        "before-sign.ivschat.ListRooms", lambda request, **_: request.headers.add_header("Date", "now")
    )
    client.meta.events.register("before-send.ivschat.ListRooms", lambda request, **_: sent.append(request))
    assert "rooms" in client.list_rooms()
    assert "Date" in sent[0].headers and "X-Amz-Date" not in sent[0].headers


HTTP_DATE, BASIC = "%a, %d %b %Y %H:%M:%S GMT", "%Y%m%dT%H%M%SZ"
OVER_DATE = {
    "as botocore writes it": ({}, ("ok", 200)),
    "as HTTP has it": ({"form": HTTP_DATE}, ("ok", 200)),
    "as X-Amz-Date": ({"form": BASIC}, ("ok", 200)),
    "no time": ({"form": "yesterday"}, INCOMPLETE),
    "another form": ({"form": "%Y-%m-%dT%H:%M:%SZ"}, INCOMPLETE),
    "six minutes ago": ({"form": HTTP_DATE, "minutes": -6}, INVALID),
    "in six minutes": ({"form": BASIC, "minutes": 6}, INVALID),
    "another day": ({"form": HTTP_DATE, "days": 1}, INVALID),
    "unsigned": ({"signed": "content-type;host"}, INVALID),
}


@pytest.mark.parametrize("case", OVER_DATE)
def test_a_date_header_tells_the_time_if_it_is_signed(server, case):
    arguments, expected = OVER_DATE[case]
    assert verdict(server, over_date(server, **arguments)) == expected


def test_x_amz_date_wins_over_date(server):
    old = "Sun, 06 Nov 1994 08:49:37 GMT"
    assert verdict(server, edited(good(server), date=old)) == ("ok", 200)
    dated = over_date(server)
    assert verdict(server, edited(dated, x_amz_date="19941106T084937Z")) == INVALID
    assert verdict(server, edited(dated, x_amz_date="yesterday")) == INCOMPLETE
    assert verdict(server, edited(dated, date=None)) == INCOMPLETE


def test_a_presigned_request_is_refused(server):
    request = AWSRequest("POST", f"{server.control_url}{PATH}", data=BODY)
    SigV4QueryAuth(Credentials(ACCESS_KEY, SECRET_KEY), "ivschat", REGION).add_auth(request)
    target = request.url.removeprefix(server.control_url)
    assert "X-Amz-Signature=" in target
    assert verdict(server, {}, path=target) == MISSING


def test_method_path_and_query_are_under_the_signature(server, room):
    headers = good(server)
    assert verdict(server, headers, path="/CreateRoom") == INVALID
    assert verdict(server, headers, path=f"{PATH}?a=1") == INVALID
    listed = sign(server, "GET", f"/tags/{room}")
    assert verdict(server, listed, method="DELETE", path=f"/tags/{room}", body=b"") == INVALID
    status, _, _ = call(server, "DELETE", f"/tags/{room}?tagKeys=b&x=&tagKeys=a%20%2B", headers={})
    assert status == 200


def test_a_refusal_says_nothing_of_the_room_it_was_about(server, room):
    """Goal: strangers cannot tell rooms that exist from those that do not."""
    for arn in (room, room[:-4] + "AAAA"):
        body = json.dumps({"identifier": arn}).encode()
        headers = sign(server, "POST", "/GetRoom", body, secret="wrong")
        status, answered, raw = send(server, "POST", "/GetRoom", body, headers)
        assert (answered["x-amzn-ErrorType"], status) == INVALID
        assert arn not in raw.decode()


def test_secrets_signatures_and_tokens_are_not_logged(tmp_path):
    """Not even with everything logged; refused calls and handshakes included."""
    path = tmp_path / "uproar.toml"
    path.write_text('[log]\nfilter = "trace"\n')
    with Server(extra=("--config", str(path))) as server:
        token = server.token(server.boto().create_room(name="r")["arn"])
        headers = good(server)
        verdict(server, headers)
        verdict(server, replaced(headers, r".$", ""))
        for _ in range(2):
            try:
                WebSocket(server.messaging_port, token).close()
            except Refused:
                pass
        assert server.stop() == 0
        log = server.log_path.read_text(errors="replace")
    log = "".join(line for line in log.splitlines() if line.startswith("{"))  # not the banner
    assert '"CreateChatToken"' in log and "already been used" in log
    signature = headers["Authorization"].rsplit("=", 1)[1]
    for secret in (SECRET_KEY, token, signature):
        assert secret not in log
