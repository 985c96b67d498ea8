"""Calls of the control plane that no SDK would make: any body, any header, signed by botocore."""

from __future__ import annotations

import http.client
import json
from urllib.parse import urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from uproar import ACCESS_KEY, REGION, SECRET_KEY


def sign(
    server,
    method: str,
    path: str,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    *,
    key: str = ACCESS_KEY,
    secret: str = SECRET_KEY,
    region: str = REGION,
    service: str = "ivschat",
) -> dict[str, str]:
    """The headers of a signed request; `path` is as it goes on the wire."""
    request = AWSRequest(
        method, f"{server.control_url}{path}", data=body or None, headers=headers or {}
    )
    SigV4Auth(Credentials(key, secret), service, region).add_auth(request)
    return dict(request.headers)


def send(server, method: str, path: str, body: bytes = b"", headers=None):
    """Status, headers and body of the answer to exactly this request."""
    connection = http.client.HTTPConnection("127.0.0.1", server.control_port, timeout=60)
    try:
        connection.request(method, path, body=body or None, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def call(server, method: str, path: str, body: bytes = b"", headers=None, **identity):
    """As [`send`], signed."""
    given = headers if headers is not None else {"Content-Type": "application/json"}
    signed = sign(server, method, path, body, given, **identity)
    assert not urlsplit(path).netloc
    return send(server, method, path, body, signed)


def post(server, operation: str, body: object) -> tuple[int, dict]:
    """Status and JSON of an operation's answer, whatever `body` is."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    status, _, answer = call(server, "POST", f"/{operation}", raw)
    return status, json.loads(answer) if answer else {}
