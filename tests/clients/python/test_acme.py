"""Certificates that the server orders itself, of a real authority: the first one, its renewal, and all that goes wrong."""

from __future__ import annotations

import contextlib
import http.server
import re
import socket
import ssl
import stat
import threading
import time
import urllib.error

import pytest
from cryptography import x509

from authority import Authority
from configured import Configured
from pebble import EXTERNAL_ACCOUNT, Pebble
from ports import free_port
from rawws import WebSocket

NAME, OTHER = "chat.example.com", "wss.example.com"
WAIT_SECONDS_MAX = 180.0


class Trust:
    """What `Wire` wraps its socket with: as a browser at `name` does, with the authority's root."""

    def __init__(self, pem: str, name: str = NAME) -> None:
        self.context, self.name = ssl.create_default_context(cadata=pem), name

    def wrap_socket(self, below: socket.socket, server_hostname: str) -> ssl.SSLSocket:
        return self.context.wrap_socket(below, server_hostname=self.name)


class Ordering(Configured):
    """A server that orders its certificate; the API is plain."""

    def __init__(self, url: str, root, more: dict[str, object] | None = None) -> None:
        super().__init__({
            "tls.listeners": "messaging", "tls.acme_domains": [NAME, OTHER], "tls.acme_terms_agreed": True,
            "tls.acme_directory": url, "tls.acme_root": str(root), **(more or {}),
        })
        self.state = self.data_dir / "acme"

    def figure(self, name: str, labels: str = "") -> int | None:
        found = re.search(rf"^uproar_tls_{name}{re.escape(labels)} (\d+)$", self.metrics(), re.M)
        return int(found[1]) if found else None

    def orders(self) -> dict[str, int]:
        found = re.findall(r'^uproar_tls_acme_orders_total\{result="(\w+)"\} (\d+)$', self.metrics(), re.M)
        return {result: int(count) for result, count in found if count != "0"}

    def unready(self) -> str:
        """What /readyz says while it does not say that it is."""
        with pytest.raises(urllib.error.HTTPError) as refused:
            self.page("/readyz")
        assert refused.value.code == 503
        return refused.value.read().decode()

    def presented(self, protocols: list[str] | None = None) -> tuple[int, int]:
        """Serial number and end of what a viewer is shown, whoever signed it."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if protocols:
            context.set_alpn_protocols(protocols)
        with socket.create_connection(("127.0.0.1", self.messaging_port), timeout=60) as below:
            with context.wrap_socket(below, server_hostname=NAME) as wrapped:
                shown = x509.load_der_x509_certificate(wrapped.getpeercert(binary_form=True))
                return shown.serial_number, int(shown.not_valid_after_utc.timestamp())

    def viewer(self, trust: Trust, room: str) -> WebSocket:
        return WebSocket(self.messaging_port, self.token(room), context=trust)


def wait_until(holds, viewer: WebSocket | None = None) -> None:
    """Waits, and keeps this viewer's connection alive meanwhile: one that answers no ping for a minute is cut."""
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not holds():
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.2 if viewer else 0.05)
        if viewer:
            hears(viewer, f"still here at {time.monotonic()}")


def hears(viewer: WebSocket, text: str) -> None:
    """It says something, and gets it back."""
    viewer.say(text)
    viewer.receive_until(lambda event: event.get("Content") == text)


@contextlib.contextmanager
def ordering(tmp_path, more: dict[str, object] | None = None, **config: object):
    """A server and its authority; neither is started."""
    http_port = free_port()
    server = Ordering("https://127.0.0.1:1/dir", "/nowhere", {"tls.acme_http_listen": f"127.0.0.1:{http_port}", **(more or {})})
    pebble = Pebble(tmp_path, server.messaging_port, http_port, **config)
    server.settings |= {"tls.acme_directory": pebble.url, "tls.acme_root": str(pebble.root)}
    server.write(server.settings)
    try:
        yield server, pebble, http_port
    finally:
        server.kill()
        pebble.stop()



@pytest.mark.parametrize("challenge", ["tls-alpn-01", "http-01"])
def test_the_first_certificate_is_ordered_and_a_restart_orders_nothing(tmp_path, challenge):
    """Goal: both challenges; viewers trust the authority's root alone; restart and upgrade go on with the files."""
    more: dict[str, object] = {"tls.acme_challenge": challenge}
    config: dict[str, object] = {}
    if challenge == "http-01":
        key_id, secret = EXTERNAL_ACCOUNT
        more |= {"tls.acme_account_id": key_id, "tls.acme_account_secret": secret, "tls.acme_contact": ["mailto:a@example.com"]}
        config = {"externalAccountBindingRequired": True, "externalAccountMACKeys": {key_id: secret}}
    with ordering(tmp_path, more, **config) as (server, pebble, http_port):
        pebble.start()
        server.start()
        room = server.boto().create_room()["arn"]
        for name in (NAME, OTHER):
            viewer = server.viewer(Trust(pebble.trusted(), name), room)
            hears(viewer, "hello")
            viewer.close()
        with pytest.raises(ssl.SSLCertVerificationError):
            server.viewer(Trust(pebble.trusted(), "another.example.com"), room)
        first = server.presented()
        assert server.orders() == {"issued": 1} and server.figure("acme_failures") == 0
        assert server.figure("certificate_not_after_timestamp_seconds") == first[1]
        assert time.time() < server.figure("acme_next_order_timestamp_seconds") < first[1]
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (server.state, *server.state.iterdir())}
        assert modes.pop("acme") == 0o700 and set(modes.values()) == {0o600} and len(modes) == 4, modes
        # The port of HTTP-01 is open during an order alone.
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", http_port), timeout=60)
        # Without an order the authority's protocol is for nobody, alone or beside others.
        for protocols in (["acme-tls/1"], ["acme-tls/1", "http/1.1"], ["http/1.1", "acme-tls/1"]):
            with pytest.raises(OSError):
                server.presented(protocols)
        assert server.presented(["http/1.1"]) == first
        server.upgrade()
        assert (server.presented(), server.orders()) == (first, {})
        assert server.stop() == 0
        server.start()
        assert (server.presented(), server.orders()) == (first, {})
        assert server.stop() == 0
        assert pebble.count("Issued certificate") == 1, pebble.log.read_text()


def test_an_authority_that_is_away_at_the_first_start_is_awaited(tmp_path):
    """Goal: it listens, refuses handshakes, says why, and serves once the authority is there."""
    with ordering(tmp_path) as (server, pebble, _):
        server.launch()
        server.await_log('"ready"')
        wait_until(lambda: server.orders().get("unreachable", 0) >= 1)
        assert "there is no certificate yet: client error" in server.unready()
        with pytest.raises(ssl.SSLError):
            server.presented()
        assert server.figure("certificate_not_after_timestamp_seconds") is None
        line = server.await_log("TLS: no certificate is issued")
        assert '"next_s":1' in line and "Connection refused" in line
        # A reload finds no certificate file, and does not mind.
        assert server.reload({"tokens.life_minutes": 5})[0] == "ok"
        pebble.start()
        wait_until(server.ready)
        assert server.orders()["issued"] == 1 and server.figure("acme_failures") == 0
        assert server.figure("certificate_not_after_timestamp_seconds") == server.presented()[1]
        assert server.stop() == 0


def test_it_renews_while_viewers_stay_and_goes_on_while_the_authority_is_away(tmp_path):
    """Goal: at two thirds of the life; an authority that is away is said and tried again; one that has forgotten the account
    gets another one; nobody is cut."""
    life = 90
    with ordering(tmp_path, certificateValidityPeriod=life) as (server, pebble, _):
        pebble.start()
        server.start()
        room = server.boto().create_room()["arn"]
        viewer = server.viewer(Trust(pebble.trusted()), room)
        first = server.presented()
        due = server.figure("acme_next_order_timestamp_seconds")
        assert first[1] - life / 3 - 2 <= due <= first[1] - life / 4, (first, due)
        pebble.stop()
        wait_until(lambda: server.orders().get("unreachable", 0) >= 1, viewer)
        assert time.time() >= due - 1 and server.presented() == first
        assert '"days_left":0' in server.await_log("TLS: no certificate is issued")
        hears(viewer, "while the authority is away")
        pebble.start()
        wait_until(lambda: server.orders().get("issued") == 2, viewer)
        assert "does not know the account" in server.await_log("another one is made")
        second = server.presented()
        assert second != first and server.figure("certificate_not_after_timestamp_seconds") == second[1]
        hears(viewer, "after the renewal")
        other = server.viewer(Trust(pebble.trusted()), room)
        hears(other, "with the new one")
        assert server.ready() and server.figure("acme_failures") == 0
        assert server.stop() == 0


def test_a_name_that_leads_elsewhere_is_named_and_not_asked_about_again_and_again(tmp_path):
    """Goal: the refusal's reason is said, the wait is minutes, and a restart does not shorten it, unless the names change."""
    with ordering(tmp_path) as (server, pebble, _):
        pebble.start()
        pebble.lead(OTHER, "127.0.0.2")
        server.launch()
        server.await_log("TLS: no certificate is issued")
        assert server.orders() == {"refused": 1}
        assert OTHER in server.unready() and NAME not in server.unready(), server.log()
        assert server.figure("acme_next_order_timestamp_seconds") > time.time() + 200
        assert server.stop() == 0
        size = server.log_path.stat().st_size
        server.launch()
        line = server.await_log("TLS: the last order failed", size)
        assert "attempt.json" in line
        server.await_log('"ready"', size)
        assert server.orders() == {} and server.figure("acme_failures") == 1
        assert server.stop() == 0
        server.settings["tls.acme_domains"] = [NAME]
        server.write(server.settings)
        server.start()
        assert server.orders() == {"issued": 1}
        assert server.stop() == 0


def test_nothing_is_ordered_that_could_not_be_kept(tmp_path):
    """Goal: a directory that cannot be written is found before the authority is asked."""
    with ordering(tmp_path) as (server, pebble, _):
        pebble.start()
        server.state.parent.mkdir(exist_ok=True)
        server.state.write_text("a file in its place")
        server.launch()
        assert "could not be kept" in server.await_log("TLS: no certificate is issued")
        assert server.orders() == {"failed": 1}
        assert pebble.count("newAccount") == pebble.count("POST /") == 0, pebble.log.read_text()
        assert server.stop() == 0


def test_half_a_certificate_is_ordered_again(tmp_path):
    """Goal: a damaged file is as a missing one, at a start."""
    with ordering(tmp_path) as (server, pebble, _):
        pebble.start()
        server.start()
        first = server.presented()
        assert server.stop() == 0
        file = server.state / "certificate.pem"
        file.write_bytes(file.read_bytes()[:300])
        server.start()
        assert server.presented() != first and server.orders() == {"issued": 1}
        assert server.stop() == 0


class Odd(http.server.BaseHTTPRequestHandler):
    """A directory that is none."""

    answer: tuple[int, dict[str, str], bytes]

    def do_GET(self) -> None:
        status, headers, body = self.answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


ODD = {
    "a redirect": ((302, {"Location": "https://127.0.0.1:1/"}, b""), "302", "unreachable"),
    "a page": ((200, {}, b"<html>"), "not that of ACME", "refused"),
    "too long": ((200, {}, b" " * 1_000_000), "length limit", "unreachable"),
    "out of service": ((503, {"Retry-After": "7200"}, b"later"), "503", "unreachable"),
}


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_authority_does_no_harm(tmp_path, odd):
    """Goal: answers are bounded, redirects are not followed, and the server goes on."""
    answer, words, result = ODD[odd]
    authority = Authority(tmp_path)
    certificate, key = authority.issue("odd")
    handler = type("Handler", (Odd,), {"answer": answer})
    directory = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    directory.socket = context.wrap_socket(directory.socket, server_side=True)
    threading.Thread(target=directory.serve_forever, daemon=True).start()
    server = Ordering(f"https://127.0.0.1:{directory.server_port}/dir", authority.certificate)
    try:
        server.launch()
        assert words in server.await_log("TLS: no certificate is issued")
        assert server.orders() == {result: 1} and words in server.unready()
        waits = server.figure("acme_next_order_timestamp_seconds") - time.time()
        assert (waits > 3600) == (odd == "out of service"), waits
        assert server.stop() == 0
    finally:
        server.kill()
        directory.shutdown()
