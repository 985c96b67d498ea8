"""What is said of a certificate's dates and of a configuration that went bad: before a start, at it, and while it runs."""

from __future__ import annotations

import json
import re
import signal
import ssl
import subprocess
import time
import urllib.request

import pytest

from uproar import BINARY, Server
from test_reload import certificate, wait_until

KEY = '[[keys]]\nid = "AKIDEXAMPLE000000001"\nsecret = "0123456789abcdef"\n'
NOT_AFTER = re.compile(r"^uproar_tls_certificate_not_after_timestamp_seconds (\d+)$", re.M)
# Two days long, and begun that many days ago.
AGES = {"expired": "-10 days", "ends soon": "-0 days", "not yet valid": "+30 days"}
WORDS = {"expired": "expired on", "ends soon": "expires on", "not yet valid": "is not valid before"}


def dated(directory, name: str, begins: str) -> None:
    """A certificate of two days."""
    subprocess.run(
        ["faketime", begins, "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
         "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", f"/CN={name}", "-addext",
         f"subjectAltName=DNS:{name},IP:127.0.0.1", "-keyout", directory / "key.pem",
         "-out", directory / "cert.pem"],
        check=True, capture_output=True,
    )


def long_lived(directory) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-days", "90", "-subj", "/CN=renewed", "-keyout", directory / "key.pem",
         "-out", directory / "cert.pem"],
        check=True, capture_output=True,
    )


def configured(directory, more: str = ""):
    path = directory / "uproar.toml"
    path.write_text(
        f'[tls]\ncertificate = "{directory}/cert.pem"\nkey = "{directory}/key.pem"\n{more}{KEY}'
    )
    return path


def check(*arguments) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BINARY, "config", "check", *arguments], capture_output=True, text=True, timeout=60
    )


def end(path) -> tuple[int, str]:
    """The end of a certificate as OpenSSL reads it: seconds, and as RFC 3339."""
    shown = subprocess.run(
        ["openssl", "x509", "-noout", "-enddate", "-in", path], check=True, capture_output=True, text=True
    )
    seconds = ssl.cert_time_to_seconds(shown.stdout.strip().split("=", 1)[1])
    return seconds, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


class Secure(Server):
    """`uproar dev` with a configuration of TLS."""

    def __init__(self, config) -> None:
        super().__init__(extra=("--config", str(config)))

    def is_secure(self) -> bool:
        return True

    def not_after(self) -> int:
        return int(NOT_AFTER.search(self.metrics()).group(1))

    def lines(self, level: str) -> list[str]:
        lines = [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]
        return [json.dumps(line) for line in lines if line["level"] == level]


@pytest.mark.parametrize("standing", AGES)
def test_config_check_says_what_is_wrong_with_a_certificates_dates(tmp_path, standing):
    """A warning, as `serve` starts with it: a new one may be there in a second. With --strict exit 2."""
    dated(tmp_path, "chat.example.org", AGES[standing])
    config = configured(tmp_path)
    done = check(config)
    assert (done.returncode, done.stdout) == (0, "valid\n"), done.stderr
    words = [f"{tmp_path}/cert.pem", "chat.example.org, 127.0.0.1", WORDS[standing]]
    if standing != "not yet valid":
        words.append(end(tmp_path / "cert.pem")[1])
    for word in words:
        assert word in done.stderr, (word, done.stderr)
    strict = check("--strict", config)
    assert (strict.returncode, strict.stdout) == (2, "") and WORDS[standing] in strict.stderr


def test_a_good_certificate_is_no_line(tmp_path):
    long_lived(tmp_path)
    for arguments in ([], ["--strict"]):
        done = check(*arguments, configured(tmp_path))
        assert (done.returncode, done.stdout, done.stderr) == (0, "valid\n", "")


def test_an_expired_certificate_is_said_at_start_and_in_the_metric_until_it_is_renewed(tmp_path):
    dated(tmp_path, "chat.example.org", AGES["expired"])
    server = Secure(configured(tmp_path)).start()
    try:
        wait_until(lambda: any("TLS: " in line for line in server.lines("WARN")))
        (line,) = [line for line in server.lines("WARN") if "TLS: " in line]
        seconds, date = end(tmp_path / "cert.pem")
        for word in ["chat.example.org", f"expired on {date}", f"{tmp_path}/cert.pem"]:
            assert word in line, line
        assert server.not_after() == seconds < time.time()
        lint = subprocess.run(
            ["promtool", "check", "metrics"], input=server.metrics(), capture_output=True, text=True
        )
        assert (lint.returncode, lint.stdout, lint.stderr) == (0, "", "")
        long_lived(tmp_path)
        wait_until(lambda: server.not_after() == end(tmp_path / "cert.pem")[0])
        # One that is no better is news.
        dated(tmp_path, "other.example.org", AGES["expired"])
        wait_until(lambda: any("other.example.org" in line for line in server.lines("WARN")))
        assert sum("TLS: " in line for line in server.lines("WARN")) == 2, server.log()
    finally:
        assert server.stop() == 0


@pytest.mark.parametrize("missing", ["cert.pem", "key.pem"])
def test_a_missing_file_is_an_error_of_configuration_for_check_and_start(tmp_path, missing):
    certificate(tmp_path, "a")
    (tmp_path / missing).unlink()
    config = configured(tmp_path)
    done = check(config)
    server = Secure(config).launch()
    assert (done.returncode, server.process.wait(60)) == (2, 2), server.log()
    for text in (done.stderr, server.log()):
        assert f"{tmp_path}/{missing}: No such file" in text, text


def test_a_configuration_that_went_bad_is_refused_at_sighup(tmp_path):
    """Nothing is taken over beside it, nor beside a key that needs another process; then a good one is."""
    long_lived(tmp_path)
    config = configured(tmp_path)
    server = Secure(config).start()
    reloads = lambda result: int(
        re.search(rf'config_reloads_total{{result="{result}"}} (\d+)', server.metrics()).group(1)
    )
    try:
        config.write_text(config.read_text().replace("[tls]", "[tlss]"))
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: reloads("error") == 1)
        (line,) = server.lines("ERROR")
        assert "[tlss] is not known" in line and "did you mean [tls]?" in line
        assert reloads("ok") == 0 and '"reloaded"' not in server.log()

        configured(tmp_path, "[log]\njson = false\n")
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: reloads("error") == 2)
        assert "log.json: " in server.lines("ERROR")[-1] and reloads("ok") == 0

        configured(tmp_path, "[tokens]\nlife_minutes = 5\n")
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: reloads("ok") == 1)
        assert "tokens.life_minutes" in server.await_log('"configuration changed"')
    finally:
        assert server.stop() == 0


@pytest.mark.parametrize(
    ("listeners", "secure"),
    [("both", (True, True)), ("messaging", (True, False)), ("control", (False, True))],
)
def test_each_listener_speaks_tls_or_does_not(tmp_path, listeners, secure):
    long_lived(tmp_path)
    config = configured(tmp_path, f'listeners = "{listeners}"\n')
    server = Server(extra=("--config", str(config))).launch()
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def page(port: int, tls: bool, path: str) -> int:
        url = f"http{'s' if tls else ''}://127.0.0.1:{port}{path}"
        with urllib.request.urlopen(url, timeout=60, context=context if tls else None) as answer:
            return answer.status

    def ready() -> bool:
        try:
            return page(server.control_port, secure[1], "/readyz") == 200
        except OSError:
            return False

    try:
        wait_until(ready)
        assert page(server.messaging_port, secure[0], "/") == 200
        for port, tls in zip((server.messaging_port, server.control_port), secure):
            with pytest.raises(OSError):
                page(port, not tls, "/")
        shown = server.log()
        for scheme, port in [("wss" if secure[0] else "ws", server.messaging_port),
                             ("https" if secure[1] else "http", server.control_port)]:
            assert f" {scheme}://127.0.0.1:{port}" in shown, shown
    finally:
        assert server.stop() == 0


def test_listeners_without_a_certificate_are_refused(tmp_path):
    config = tmp_path / "uproar.toml"
    config.write_text(f'[tls]\nlisteners = "messaging"\n{KEY}')
    done = check(config)
    assert done.returncode == 2 and "tls.listeners requires tls.certificate" in done.stderr, done.stderr
