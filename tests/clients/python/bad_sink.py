"""A log destination that does what bad ones do, at random by seed, and knows what it kept.

One HTTP server speaks as S3, CloudWatch Logs and Firehose. It may take all of a request, a part or
nothing, and answers the truth, a lie that claims nothing, a page of HTML, a cut body, an error, or not
at all. It refuses each request that holds the word `poison`. It never claims what it has not kept, so
whatever the server counts as delivered must be here.
"""

from __future__ import annotations

import base64
import collections
import gzip
import json
import random
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import botocore.httpchecksum

PAGE = b"<html><body>Welcome to the hotel's network</body></html>"


class BadSink:
    """`bad` requests are answered badly; those after them as the services would."""

    def __init__(self, seed: str, bad: int) -> None:
        self.random = random.Random(seed)
        self.key_id, self.secret = "AKIDBADSINK000000000", "unchecked"
        self.bad_left = bad
        self.kept: collections.Counter[str] = collections.Counter()
        self.requests: collections.Counter[str] = collections.Counter()
        self.wrong_checksums = 0
        self.lock = threading.Lock()
        sink = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                """Silent."""

            def do_PUT(self) -> None:
                sink.serve(self)

            do_POST = do_PUT

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def serve(self, http: BaseHTTPRequestHandler) -> None:
        body = http.rfile.read(int(http.headers.get("content-length", 0)))
        target = http.headers.get("x-amz-target", "PutObject").rsplit(".", 1)[1:] or ["PutObject"]
        operation = target[0]
        with self.lock:
            self.requests[operation] += 1
            answer = self.answer(operation, http, body)
        if answer is None:
            # A reset, not an orderly end.
            http.connection.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
            http.close_connection = True
            http.connection.close()
            return
        status, headers, content, length = answer
        http.send_response(status)
        for name, value in headers.items():
            http.send_header(name, value)
        http.send_header("content-length", str(length))
        http.end_headers()
        http.wfile.write(content)
        # Sometimes a kept connection is closed although nobody said so.
        http.close_connection = length != len(content) or self.random.random() < 0.2

    def answer(self, operation: str, http: BaseHTTPRequestHandler, body: bytes):
        """Status, headers, body, declared length; `None`: reset the connection."""
        if operation == "CreateLogStream":
            return reply(200, b"{}")
        lines = self.lines(operation, http, body)
        if any("poison" in line for line in lines):
            if operation == "PutObject":
                return reply(400, b"<Error><Code>InvalidRequest</Code></Error>")
            name = "InvalidParameterException" if operation == "PutLogEvents" else "InvalidArgumentException"
            return reply(400, json.dumps({"__type": name, "message": "no"}).encode())
        if self.bad_left == 0:
            self.keep(lines)
            return self.truth(operation, lines, set())
        self.bad_left -= 1
        takes = self.random.random() < 0.5
        if takes:
            self.keep(lines)
        kind = self.random.randrange(11)
        if kind == 0:
            return None
        if kind == 1:
            return reply(200, PAGE)
        if kind == 2:
            return reply(200, b'{"FailedPutCount":0,"RequestRes')
        if kind == 3:
            return reply(503, b"")
        if kind == 4:
            return reply(500, b'{"__type":"InternalFailure"}')
        if kind == 5:
            return reply(302, b"", {"location": "http://127.0.0.1:1/"})
        if kind == 6:
            return reply(400, b'{"__type":"ThrottlingException"}')
        if kind == 7:
            status, headers, content, length = reply(200, b"x" * 512)
            return status, headers, content[:10], length
        if kind == 8 and operation == "PutRecordBatch":
            lie = {"FailedPutCount": 1, "RequestResponses": [{"RecordId": "1"}] * len(lines)}
            return reply(200, json.dumps(lie).encode())
        if kind == 9 and operation == "PutRecordBatch" and not takes:
            left = {place for place in range(len(lines)) if self.random.random() < 0.5}
            self.keep(line for place, line in enumerate(lines) if place not in left)
            return self.truth(operation, lines, left)
        if kind == 10 and operation == "PutLogEvents" and takes:
            return reply(400, b'{"__type":"DataAlreadyAcceptedException"}')
        return self.truth(operation, lines, set()) if takes else None

    def lines(self, operation: str, http: BaseHTTPRequestHandler, body: bytes) -> list[str]:
        if operation == "PutObject":
            self.check(http, body)
            return gzip.decompress(body).decode().splitlines()
        call = json.loads(body)
        if operation == "PutLogEvents":
            return [event["message"] for event in call["logEvents"]]
        return [base64.b64decode(record["Data"]).decode().rstrip("\n") for record in call["Records"]]

    def check(self, http: BaseHTTPRequestHandler, body: bytes) -> None:
        """A bucket with Object Lock refuses what has no checksum; the sum is botocore's."""
        checksum = botocore.httpchecksum.Crc32Checksum().handle(body)
        signed = http.headers.get("authorization", "")
        if http.headers.get("x-amz-checksum-crc32") != checksum or "x-amz-checksum-crc32" not in signed:
            self.wrong_checksums += 1

    def keep(self, lines) -> None:
        for line in lines:
            self.kept[json.loads(line)["payload"]["Id"]] += 1

    def truth(self, operation: str, lines: list[str], left: set[int]):
        if operation == "PutObject":
            return reply(200, b"", {"etag": '"x"'})
        if operation == "PutLogEvents":
            return reply(200, b'{"nextSequenceToken":"1"}')
        entries = [
            {"ErrorCode": "ServiceUnavailableException"} if place in left else {"RecordId": "1"}
            for place in range(len(lines))
        ]
        answer = {"FailedPutCount": len(left), "RequestResponses": entries}
        return reply(200, json.dumps(answer).encode())


def reply(status: int, content: bytes, headers: dict[str, str] | None = None):
    return status, headers or {}, content, len(content)
