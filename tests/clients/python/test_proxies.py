"""Viewers behind real proxies keep their addresses, and nobody else can lend himself one.

nginx and HAProxy run on loopback with the configurations of docs/proxies.md; viewers are 127.0.0.7, the proxies
127.0.0.1, which alone is trusted.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import shutil
import socket
import struct
import subprocess
import time
import urllib.request
from pathlib import Path

import boto3
import pytest
from botocore.config import Config

from ports import free_port
from rawws import Closed, Refused, WebSocket, Wire, upgrade_head
from review_handler import FUNCTION, ReviewHandler
from uproar import ACCESS_KEY, REGION, SECRET_KEY, Server

VIEWER, FORGED = "127.0.0.7", "6.6.6.6"
FORGERY = (f"X-Forwarded-For: {FORGED}".encode(), f"Forwarded: for={FORGED}".encode())
COUNTER = itertools.count()


def proxied(handler: ReviewHandler, directory: Path, *extra: str, header="x-forwarded-for") -> Server:
    path = directory / "uproar.toml"
    trusted = f'trusted_proxies = ["127.0.0.1", "10.0.0.0/8"]\nforwarded_header = "{header}"\n'
    function = f"{FUNCTION}check={handler.url}/"
    path.write_text(
        f"[messaging]\n{trusted}[control]\n{trusted}[review]\ntimeout_ms = 10000\n"
        f'functions = [{json.dumps(function)}]\n[log]\nfilter = "debug"\n'
    )
    return Server(extra=("--config", str(path), *extra))


@pytest.fixture(scope="module")
def server(handler, tmp_path_factory):
    with proxied(handler, tmp_path_factory.mktemp("plain")) as server:
        yield server


NGINX = """
daemon off; master_process off; worker_processes 1; pid nginx.pid; error_log stderr warn;
events {{ }}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
    map $http_upgrade $connection_upgrade {{ default upgrade; "" ""; }}
    server {{
        listen 127.0.0.1:{viewers};
        location / {{
            proxy_pass http://127.0.0.1:{messaging};
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_read_timeout 90s;
        }}
    }}
    server {{
        listen 127.0.0.1:{api};
        location / {{
            proxy_pass http://127.0.0.1:{control};
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        }}
    }}
}}
"""

HAPROXY = """
defaults
    timeout connect 10s
    timeout client 90s
    timeout server 90s
    timeout tunnel 90s
    mode {mode}
    {option}
listen viewers
    bind 127.0.0.1:{viewers}
    server uproar 127.0.0.1:{messaging} {options}
listen api
    bind 127.0.0.1:{api}
    server uproar 127.0.0.1:{control} {options}
"""


class Proxy:
    """A proxy process in front of both listeners."""

    def __init__(self, directory: Path, program: str, template: str, server: Server, **rest) -> None:
        # Debian keeps both where not everybody looks.
        found = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin")
        if found is None:
            pytest.fail(f"{program} is missing: apt-get install {program}")
        self.viewers, self.api = free_port(), free_port()
        ports = {"messaging": server.messaging_port, "control": server.control_port, **rest}
        path = directory / f"{program}-{next(COUNTER)}.conf"
        path.write_text(template.format(viewers=self.viewers, api=self.api, **ports))
        command = {
            "nginx": [found, "-p", str(directory), "-e", "stderr", "-c", str(path)],
            "haproxy": [found, "-db", "-f", str(path)],
        }[program]
        self.log = open(directory / f"{program}.log", "w+")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + 60
        for port in (self.viewers, self.api):
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 5).close()
                    break
                except OSError:
                    if self.process.poll() is not None or time.monotonic() > deadline:
                        self.log.seek(0)
                        pytest.fail(f"{program} does not listen: {self.log.read()}")
                    time.sleep(0.02)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(60)
        self.log.close()


PROXY_OF = {
    "nginx": ("nginx", NGINX, {}),
    "HAProxy, PROXY v1": ("haproxy", HAPROXY, {"mode": "tcp", "option": "", "options": "send-proxy"}),
    "HAProxy, PROXY v2": ("haproxy", HAPROXY, {"mode": "tcp", "option": "", "options": "send-proxy-v2"}),
    "HAProxy, X-Forwarded-For": (
        "haproxy",
        HAPROXY,
        {"mode": "http", "option": "option forwardfor", "options": ""},
    ),
}


@pytest.fixture(scope="module", params=PROXY_OF)
def proxy(request, server, tmp_path_factory):
    program, template, rest = PROXY_OF[request.param]
    proxy = Proxy(tmp_path_factory.mktemp("proxy"), program, template, server, **rest)
    yield proxy
    proxy.close()


def reviewed_room(boto) -> str:
    review = {"uri": f"{FUNCTION}check", "fallbackResult": "DENY"}
    return boto.create_room(messageReviewHandler=review)["arn"]


def address_seen(handler: ReviewHandler, viewer: WebSocket) -> str:
    """What the review handler is told of a viewer."""
    text = f"hello-{next(COUNTER)}"
    viewer.say(text)
    viewer.receive_until(lambda frame: frame.get("Content") == text)
    (asked,) = handler.wait_for(1, text)
    return asked.question["Sender"]["Ip"]


def test_a_viewers_address_comes_through_and_a_forged_one_does_not(proxy, server, handler):
    arn = reviewed_room(server.boto_cached)
    for extra in [(), FORGERY]:
        viewer = WebSocket(proxy.viewers, server.token(arn), source=VIEWER, extra=extra)
        assert address_seen(handler, viewer) == VIEWER
        viewer.close()


def test_the_api_works_behind_a_proxy_and_sees_its_caller(proxy, server):
    calls = boto3.session.Session().client(
        "ivschat",
        region_name=REGION,
        endpoint_url=f"http://127.0.0.1:{proxy.api}",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=Config(retries={"total_max_attempts": 1}),
    )
    assert calls.create_room(name="behind")["name"] == "behind"
    before = server.log_path.read_text()
    http_client = http.client.HTTPConnection("127.0.0.1", proxy.api, 60, source_address=(VIEWER, 0))
    http_client.request("POST", "/ListRooms", "{}", {"X-Forwarded-For": FORGED})
    assert http_client.getresponse().status == 403
    lines = server.await_log(f'"{VIEWER}', start=len(before.encode()))
    assert FORGED not in lines, lines


def test_a_page_is_a_page_behind_a_proxy(proxy):
    with urllib.request.urlopen(f"http://127.0.0.1:{proxy.viewers}/", timeout=60) as page:
        assert page.status == 200 and b"<html" in page.read()


def test_two_proxies_in_a_row_are_walked(server, handler, tmp_path):
    """HAProxy sets the field, nginx appends HAProxy's address."""
    inner = Proxy(tmp_path, "nginx", NGINX, server)
    rest = {"mode": "http", "option": "option forwardfor", "options": ""}
    rest |= {"messaging": inner.viewers, "control": inner.api}
    outer = Proxy(tmp_path, "haproxy", HAPROXY, server, **rest)
    try:
        arn = reviewed_room(server.boto_cached)
        viewer = WebSocket(outer.viewers, server.token(arn), source=VIEWER, extra=FORGERY)
        assert address_seen(handler, viewer) == VIEWER
        viewer.close()
    finally:
        outer.close()
        inner.close()


def test_the_proxy_protocol_comes_before_tls(handler, tmp_path):
    with proxied(handler, tmp_path, "--tls") as server:
        boto = server.boto()
        arn = reviewed_room(boto)
        tcp = {"mode": "tcp", "option": "", "options": "send-proxy-v2"}
        proxy = Proxy(tmp_path, "haproxy", HAPROXY, server, **tcp)
        try:
            token = boto.create_chat_token(
                roomIdentifier=arn, userId="u", capabilities=["SEND_MESSAGE"]
            )["token"]
            viewer = WebSocket(proxy.viewers, token, source=VIEWER, context=server.context)
            assert address_seen(handler, viewer) == VIEWER
            viewer.close()
            through = server.boto(endpoint_url=f"https://127.0.0.1:{proxy.api}")
            assert through.list_rooms()["rooms"]
        finally:
            proxy.close()


# -- by hand: what no proxy of ours sends --

V2 = b"\r\n\r\n\0\r\nQUIT\n"


def v2(command: int, source: str, extra: bytes = b"") -> bytes:
    addresses = socket.inet_aton(source) + socket.inet_aton("127.0.0.1") + struct.pack("!HH", 1, 2)
    body = addresses + extra
    return V2 + struct.pack("!BBH", 0x20 | command, 0x11, len(body)) + body


@pytest.mark.parametrize(
    "header",
    [b"PROXY TCP4 192.0.2.1 127.0.0.1 1 2\r\n", v2(1, "192.0.2.1")],
    ids=["v1", "v2"],
)
def test_a_strangers_proxy_header_is_an_error(server, header):
    arn = server.boto_cached.create_room()["arn"]
    with pytest.raises((Refused, Closed)) as caught:
        WebSocket(server.messaging_port, server.token(arn), source=VIEWER, preface=header)
    if isinstance(caught.value, Refused):
        assert caught.value.response.status in (400, 505)
    wire = Wire(server.control_port, source=VIEWER, preface=header)
    wire.send(b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n")
    assert b"200 OK" not in wire.read_to_end()


def test_a_strangers_forwarded_header_changes_nothing(server, handler):
    arn = reviewed_room(server.boto_cached)
    viewer = WebSocket(server.messaging_port, server.token(arn), source=VIEWER, extra=FORGERY)
    assert address_seen(handler, viewer) == VIEWER
    viewer.close()


@pytest.mark.parametrize("pieces", [1, 7, 1000])
@pytest.mark.parametrize(
    ("header", "seen"),
    [
        (b"", "127.0.0.1"),
        (b"PROXY TCP4 192.0.2.1 127.0.0.1 1 2\r\n", "192.0.2.1"),
        (b"PROXY TCP6 2001:470::1 ::1 1 2\r\n", "2001:470::1"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
        (v2(1, "192.0.2.1", b"\x04\0\x03abc"), "192.0.2.1"),
        (v2(0, "192.0.2.1"), "127.0.0.1"),
        # Another trusted proxy, whose client is named in the field.
        (v2(1, "10.0.0.9"), "203.0.113.5"),
    ],
    ids=["none", "v1", "v1 IPv6", "v1 UNKNOWN", "v2", "v2 LOCAL", "v2 of a proxy"],
)
def test_headers_of_a_trusted_proxy_in_any_pieces(server, handler, header, seen, pieces):
    arn = reviewed_room(server.boto_cached)
    viewer = WebSocket.__new__(WebSocket)
    Wire.__init__(viewer, server.messaging_port)
    extra = (b"X-Forwarded-For: 6.6.6.6, 203.0.113.5",) if seen == "203.0.113.5" else ()
    stream = header + upgrade_head(server.token(arn), extra=extra)
    for start in range(0, len(header) + 40, pieces):
        viewer.send(stream[start : start + pieces])
        time.sleep(0.001)
    viewer.send(stream[start + pieces :])
    assert viewer.read_response().status == 101
    viewer.deflate = False
    assert address_seen(handler, viewer) == seen
    viewer.close()


def test_a_trusted_proxys_health_checks_are_answered(server):
    for header in [b"", b"PROXY UNKNOWN\r\n", v2(0, "0.0.0.0"), V2 + b"\x20\0\0\0"]:
        wire = Wire(server.control_port, preface=header)
        wire.send(b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n")
        assert wire.read_response().status == 200
        wire.close()
        page = Wire(server.messaging_port, preface=header)
        page.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert page.read_response().status == 200
        page.close()


def test_a_malformed_header_of_a_trusted_proxy_is_the_end(server):
    for port in (server.messaging_port, server.control_port):
        wire = Wire(port, preface=b"PROXY TCP4 not.an.address 127.0.0.1 1 2\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert wire.read_to_end() == b""


def test_forwarded_of_rfc_7239_counts_where_it_is_chosen(handler, tmp_path):
    with proxied(handler, tmp_path, header="forwarded") as server:
        arn = reviewed_room(server.boto_cached)
        extra = (b'Forwarded: for=6.6.6.6, for="[2001:470::1]:4711";proto=http', b"X-Forwarded-For: 7.7.7.7")
        viewer = WebSocket(server.messaging_port, server.token(arn), extra=extra)
        assert address_seen(handler, viewer) == "2001:470::1"
        viewer.close()
