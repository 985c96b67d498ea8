"""`tls.more_certificates`: each client gets the certificate of the host that it asks for, made for signatures that it can check;
each is renewed, warned of and reloaded as the first one is. The clients are OpenSSL's."""

from __future__ import annotations

import re
import ssl
import subprocess

import pytest

from test_certificates import KEY, Secure, check, end
from test_reload import wait_until
from test_resumption import Returning

VERSIONS = ["-tls1_2", "-tls1_3"]
KINDS = {"ecdsa": ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"], "rsa": ["rsa:2048"]}
# Of OpenSSL: TLS 1.2 says the hash's signature by another name.
SIGNATURES = {"ecdsa": "ECDSA", "rsa": "RSA-PSS"}
PAIRS = ["first", "other", "wild"]


def make(directory, file: str, kind: str, subject: str, *names: str, days: int = 90) -> None:
    alternative = ",".join(f"DNS:{name}" for name in names)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", *KINDS[kind], "-nodes", "-days", str(days), "-subj", f"/CN={subject}",
         *(["-addext", f"subjectAltName={alternative}"] if names else []),
         "-keyout", directory / f"{file}-key.pem", "-out", directory / f"{file}.pem"],
        check=True, capture_output=True,
    )


def configured(directory, pairs: list[str]):
    first, *more = ((f"{directory}/{pair}.pem", f"{directory}/{pair}-key.pem") for pair in pairs)
    more = ", ".join(f'"{certificate}={key}"' for certificate, key in more)
    path = directory / "uproar.toml"
    path.write_text(
        f'[tls]\ncertificate = "{first[0]}"\nkey = "{first[1]}"\nmore_certificates = [{more}]\n{KEY}'
    )
    return path


def presented(server, name: str | None, *options: str) -> tuple[str, str]:
    """The common name of the certificate that OpenSSL gets, and the kind of the signature."""
    asks = ["-servername", name] if name else ["-noservername"]
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{server.messaging_port}", *asks, *options],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
    )
    subject = re.search(r"^subject=CN ?= ?(.+)$", done.stdout, re.M)
    signature = re.search(r"^Peer signature type: (.+)$", done.stdout, re.M)
    assert subject and signature, done.stdout + done.stderr
    return subject.group(1), signature.group(1)


@pytest.fixture
def directory(tmp_path):
    make(tmp_path, "first", "ecdsa", "first", "main.example")
    make(tmp_path, "other", "rsa", "other", "main.example", "rsa.example")
    make(tmp_path, "wild", "ecdsa", "wild", "*.chat.example")
    return tmp_path


@pytest.fixture
def server(directory):
    server = Secure(configured(directory, PAIRS)).start()
    yield server
    assert server.stop() == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_each_client_gets_its_certificate(server, version):
    """Goal: by name, by wildcard, the first for others; of two with one name, the one whose signature the client can check, in
    both versions, and with TLS 1.2 whose suites it has."""
    rsa = ["-sigalgs", "RSA-PSS+SHA256:RSA+SHA256"]
    cases = [
        (None, [], "first", "ecdsa"),
        ("elsewhere.example", [], "first", "ecdsa"),
        ("main.example", [], "first", "ecdsa"),
        ("MAIN.example", rsa, "other", "rsa"),
        ("main.example", rsa, "other", "rsa"),
        (None, rsa, "other", "rsa"),
        ("rsa.example", [], "other", "rsa"),
        ("eu.chat.example", [], "wild", "ecdsa"),
        ("a.eu.chat.example", [], "first", "ecdsa"),
        ("chat.example", [], "first", "ecdsa"),
    ]
    if version == "-tls1_2":
        cases.append(("main.example", ["-cipher", "ECDHE-RSA-AES128-GCM-SHA256"], "other", "rsa"))
    for name, options, subject, kind in cases:
        expected = (subject, SIGNATURES[kind])
        assert presented(server, name, version, *options) == expected, (name, options)


def test_a_renewed_one_is_presented_beside_one_that_is_broken(server, directory):
    """Goal: each pair of files is taken over on its own while the server runs, so that one that is broken keeps no other from
    being renewed; a reload takes all or nothing, and says which file it is."""
    make(directory, "wild", "rsa", "renewed", "*.chat.example", days=1)
    wait_until(lambda: presented(server, "eu.chat.example") == ("renewed", "RSA-PSS"))
    wait_until(lambda: server.not_after() == end(directory / "wild.pem")[0])
    line = server.await_log("the certificate for *.chat.example expires on")
    assert f"{directory}/wild.pem" in line
    (directory / "other-key.pem").write_text("")
    server.await_log("not reloaded")
    make(directory, "wild", "ecdsa", "again", "*.chat.example")
    wait_until(lambda: presented(server, "eu.chat.example") == ("again", "ECDSA"))
    assert presented(server, "rsa.example") == ("other", "RSA-PSS")
    done = server.run("reload", "--data-dir", str(server.data_dir))
    assert done.returncode != 0 and f"{directory}/other-key.pem" in done.stderr, done.stderr
    make(directory, "other", "ecdsa", "mended", "rsa.example")
    wait_until(lambda: presented(server, "rsa.example") == ("mended", "ECDSA"))


def test_a_reload_takes_another_list_over(server, directory):
    make(directory, "new", "ecdsa", "new", "new.example")
    assert presented(server, "new.example")[0] == "first"
    configured(directory, [*PAIRS, "new"])
    done = server.run("reload", "--data-dir", str(server.data_dir))
    assert done.returncode == 0, done.stderr
    assert presented(server, "new.example")[0] == "new"
    make(directory, "new", "ecdsa", "renewed", "new.example")
    wait_until(lambda: presented(server, "new.example")[0] == "renewed")
    configured(directory, PAIRS[:1])
    done = server.run("reload", "--data-dir", str(server.data_dir))
    assert done.returncode == 0, done.stderr
    assert {presented(server, name)[0] for name in ("new.example", "eu.chat.example", "rsa.example")} == {"first"}


def test_a_session_is_good_for_its_name_alone(server):
    """Goal: who asks for another host shakes hands in full, with the certificate of that one."""
    arn = server.boto_cached.create_room()["arn"]
    client = Returning(ssl.TLSVersion.TLSv1_3)
    for name, expected in [("main.example", False), ("main.example", True), ("eu.chat.example", False)]:
        client.name = name
        _, resumed = client.connect(server, arn, name)
        assert resumed == expected


def test_what_is_wrong_with_one_of_them_is_said_before_the_start(directory):
    """Goal: warnings of each with its file; a certificate that no client would get, a key that is another's and a list that is
    not one are refused with the next step."""
    make(directory, "wild", "ecdsa", "wild", "*.chat.example", days=1)
    make(directory, "other", "rsa", "other", "rsa.example", days=2)
    config = configured(directory, PAIRS)
    done = check(config)
    assert done.returncode == 0 and done.stdout == "valid\n"
    warnings = done.stderr.splitlines()
    assert [line.split(": ")[2] for line in warnings] == [f"{directory}/other.pem", f"{directory}/wild.pem"], warnings
    assert all("expires on" in line for line in warnings), warnings
    strict = check("--strict", config)
    assert strict.returncode == 2 and all(f"{directory}/{pair}.pem" in strict.stderr for pair in PAIRS[1:]), strict.stderr
    make(directory, "wild", "ecdsa", "wild")
    done = check(config)
    assert done.returncode == 2, done.stderr
    for words in (f"{directory}/wild.pem", "no DNS name", "tls.more_certificates"):
        assert words in done.stderr
    make(directory, "wild", "ecdsa", "wild", "*.chat.example")
    (directory / "wild-key.pem").write_bytes((directory / "first-key.pem").read_bytes())
    done = check(config)
    assert done.returncode == 2 and f"{directory}/wild-key.pem: it is not the key of" in done.stderr, done.stderr
    config.write_text(config.read_text().replace("/wild.pem=", "/wild.pem:"))
    done = check(config)
    assert done.returncode == 2 and "CERTIFICATE=KEY" in done.stderr, done.stderr
