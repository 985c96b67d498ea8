"""A message review handler: does what the message's text says, and keeps what it was asked.

Answers as a plain URL and as Lambda's Invoke API. Knows the contract of handlers, not the server.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
import urllib.parse
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

FUNCTION = "arn:aws:lambda:us-west-2:123456789012:function:"


@dataclass
class Asked:
    """One request, as it came."""

    path: str
    headers: dict[str, str]
    body: bytes
    peer: tuple[str, int]

    @property
    def question(self) -> dict:
        return json.loads(self.body)

    @property
    def function(self) -> str | None:
        """The function of an Invoke call."""
        match = re.fullmatch(r"/2015-03-31/functions/([^/]+)/invocations", self.path)
        return match and urllib.parse.unquote(match[1])

    def expected_authorization(self, key: str, secret: str) -> str:
        """What botocore's own signer puts on this request."""
        given = self.headers["authorization"]
        names = re.search(r"SignedHeaders=([^,]+)", given)[1].split(";")
        scope = re.search(r"Credential=[^/]+/\d{8}/([^/]+)/([^/]+)/aws4_request", given)
        url = f"http://{self.headers['host']}{self.path}"
        request = AWSRequest("POST", url, data=self.body)
        for name in names:
            request.headers[name] = self.headers[name]
        request.context["timestamp"] = self.headers["x-amz-date"]
        digest = hashlib.sha256(self.body).hexdigest()
        assert self.headers.get("x-amz-content-sha256", digest) == digest
        signer = SigV4Auth(Credentials(key, secret), scope[2], scope[1])
        canonical = signer.canonical_request(request)
        signature = signer.signature(signer.string_to_sign(request, canonical), request)
        return (
            f"AWS4-HMAC-SHA256 Credential={signer.scope(request)}, "
            f"SignedHeaders={';'.join(names)}, Signature={signature}"
        )


class ReviewHandler:
    """Listens on a loopback port until closed. Words of a message that mean something:

    `deny [reason]`, `rewrite TEXT`, `slow MILLISECONDS TEXT` (allowed after that time), `tenfold TEXT`, `attributes JSON`, `raw TEXT` (the answer itself), `hex BYTES`,
    `status N`, `failed-denial N` (DENY with status N), `faulty-denial`,
    `fault` (an error of the function), `huge`, `drop` (no answer, connection closed), `hang` (no answer
    until released), `hang-deny [reason]` (the same, then a denial). Anything else is allowed as it is.
    """

    def __init__(self, tls=None) -> None:
        self.asked: list[Asked] = []
        self.changed = threading.Condition()
        self.released = threading.Event()
        handler = self

        class Http(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self):
                handler.answer(self)

            def log_message(self, *_):
                pass

        class Listener(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 512

            def handle_error(self, *_):
                pass  # The server gives up a call by closing its connection.

        self.listener = Listener(("127.0.0.1", 0), Http)
        if tls is not None:
            self.listener.socket = tls.wrap_socket(self.listener.socket, server_side=True)
        scheme = "https" if tls is not None else "http"
        self.url = f"{scheme}://127.0.0.1:{self.listener.server_port}"
        threading.Thread(target=self.listener.serve_forever, args=(0.05,), daemon=True).start()

    def answer(self, http: BaseHTTPRequestHandler) -> None:
        body = http.rfile.read(int(http.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in http.headers.items()}
        with self.changed:
            self.asked.append(Asked(http.path, headers, body, http.client_address))
            self.changed.notify_all()
        question = json.loads(body)
        word, _, rest = question["Content"].partition(" ")
        status, extra = 200, {}
        verdict: object = {
            "ReviewResult": "ALLOW",
            "Content": question["Content"],
            "Attributes": question["Attributes"],
        }
        match word:
            case "deny":
                verdict = {"ReviewResult": "DENY", "Attributes": {"Reason": rest} if rest else {}}
            case "rewrite":
                verdict = {"ReviewResult": "ALLOW", "Content": rest}
            case "slow":
                time.sleep(int(rest.split()[0]) / 1000)
            case "tenfold":
                verdict |= {"Content": rest * 10}
            case "attributes":
                verdict |= {"Attributes": json.loads(rest)}
            case "status":
                status = int(rest)
            case "failed-denial":
                status, verdict = int(rest), {"ReviewResult": "DENY"}
            case "faulty-denial":
                extra = {"X-Amz-Function-Error": "Unhandled"}
                verdict = {"ReviewResult": "DENY"}
            case "long-denial":
                verdict = {"ReviewResult": "DENY", "Padding": "x" * 100_000}
            case "fault":
                extra = {"X-Amz-Function-Error": "Unhandled"}
                verdict = {"errorMessage": "boom", "errorType": "Error"}
            case "huge":
                verdict |= {"Padding": "x" * 100_000}
            case "hang":
                self.released.wait(60)
            case "hang-deny":
                self.released.wait(60)
                verdict = {"ReviewResult": "DENY", "Attributes": {"Reason": rest}}
            case "drop":
                http.close_connection = True
                http.connection.close()
                return
        answer = json.dumps(verdict).encode()
        if word == "raw":
            answer = rest.encode()
        elif word == "hex":
            answer = bytes.fromhex(rest)
        http.send_response(status)
        for name, value in {"Content-Type": "application/json", **extra}.items():
            http.send_header(name, value)
        http.send_header("Content-Length", str(len(answer)))
        http.end_headers()
        http.wfile.write(answer)

    def wait_for(self, count: int, text: str, seconds: float = 60) -> list[Asked]:
        """Waits until `count` requests about messages that start with `text` came."""

        def found() -> list[Asked]:
            return [asked for asked in self.asked if asked.question["Content"].startswith(text)]

        with self.changed:
            arrived = self.changed.wait_for(lambda: len(found()) >= count, seconds)
            assert arrived, f"{len(found())} of {count} requests"
            return found()

    def close(self) -> None:
        self.released.set()
        self.listener.shutdown()
        self.listener.server_close()
