"""What a running server takes over: a rotated sealing key, a renewed certificate."""

from __future__ import annotations

import re
import signal
import socket
import ssl
import subprocess
import time

import pytest

from rawws import Refused, WebSocket
from uproar import BINARY, Server

# The server looks once a second; a loaded machine may be late.
TAKEN_OVER_SECONDS_MAX = 60.0


def wait_until(happened) -> None:
    deadline = time.monotonic() + TAKEN_OVER_SECONDS_MAX
    while not happened():
        assert time.monotonic() < deadline, "not taken over"
        time.sleep(0.1)


def test_rotation_refuses_no_valid_token_and_seals_with_the_new_key():
    server = Server().start()
    try:
        arn = server.boto().create_room(name="rotated")["arn"]
        before = server.token(arn, "before")
        subprocess.run(
            [BINARY, "token", "rotate-key", "--data-dir", server.data_dir], check=True
        )
        offline = subprocess.run(
            [BINARY, "token", "create", "--room", arn, "--user", "u", "--data-dir", server.data_dir],
            check=True, capture_output=True, text=True,
        ).stdout.strip()
        assert offline[:6] != before[:6], "another key id"
        for token in (before, offline):
            WebSocket(server.messaging_port, token).close()
        # The API seals with the new key as soon as the server has read it.
        wait_until(lambda: server.token(arn, "after")[:6] == offline[:6])
        WebSocket(server.messaging_port, server.token(arn, "after")).close()
    finally:
        assert server.stop() == 0


def test_a_broken_key_file_changes_nothing():
    server = Server().start()
    try:
        arn = server.boto().create_room(name="broken")["arn"]
        (server.data_dir / "token-keys").write_text("nonsense\n")
        failed = re.compile(r'uproar_config_reloads_total\{result="error"\} [1-9]')
        wait_until(lambda: failed.search(server.metrics()))
        WebSocket(server.messaging_port, server.token(arn, "u")).close()
    finally:
        server.stop()


def certificate(directory, name: str) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-days", "2", "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", directory / "key.pem", "-out", directory / "cert.pem"],
        check=True, capture_output=True,
    )


def presented(port: int) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
        with context.wrap_socket(plain) as secure:
            return secure.getpeercert(binary_form=True)


def test_a_renewed_certificate_is_presented_without_a_restart(tmp_path, monkeypatch):
    certificate(tmp_path, "old")
    monkeypatch.setenv("UPROAR_TLS__CERTIFICATE", str(tmp_path / "cert.pem"))
    monkeypatch.setenv("UPROAR_TLS__KEY", str(tmp_path / "key.pem"))
    server = Server().launch()
    try:
        ports = (server.messaging_port, server.control_port)

        def listens() -> bool:
            try:
                return all(presented(port) for port in ports)
            except OSError:
                return False

        wait_until(listens)
        old = [presented(port) for port in ports]
        certificate(tmp_path, "new")
        server.process.send_signal(signal.SIGHUP)
        new = ssl.PEM_cert_to_DER_cert((tmp_path / "cert.pem").read_text())
        assert new not in old
        wait_until(lambda: [presented(port) for port in ports] == [new, new])
    finally:
        assert server.stop() == 0
