"""AWS services as log destinations: moto's server as one process, spoken to with boto3.

Its own authentication is on: each request is checked against the signature of a key that was made with
IAM's API, so a server that signs wrongly is refused as AWS would refuse it.
"""

from __future__ import annotations

import contextlib
import datetime
import gzip
import json
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import boto3
from botocore.config import Config
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ports import free_port
from uproar import REGION

START_SECONDS_MAX = 60.0
EVERYTHING = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}],
}


class Aws:
    """moto's server on a port of its own; may be started later than it is named."""

    def __init__(self, log_path: Path, port: int | None = None) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_path = log_path
        self.process: subprocess.Popen[bytes] | None = None
        # Until IAM has made a key, anything goes.
        self.key_id, self.secret = "AKIDBOOTSTRAP0000000", "bootstrap"

    def start(self) -> Aws:
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        deadline = time.monotonic() + START_SECONDS_MAX
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/moto-api/", timeout=60).close()
                return self
            except OSError as error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    raise RuntimeError(self.log_path.read_text(errors="replace")[-4000:]) from error
                time.sleep(0.05)

    def authenticate(self) -> Aws:
        """Makes an access key; from now on every request must be signed with one."""
        iam = self.client("iam")
        iam.create_user(UserName="uproar")
        iam.put_user_policy(
            UserName="uproar", PolicyName="all", PolicyDocument=json.dumps(EVERYTHING)
        )
        key = iam.create_access_key(UserName="uproar")["AccessKey"]
        self.key_id, self.secret = key["AccessKeyId"], key["SecretAccessKey"]
        reset = urllib.request.Request(
            f"{self.url}/moto-api/reset-auth", b"0", {"Content-Type": "text/plain"}, method="POST"
        )
        urllib.request.urlopen(reset, timeout=60).close()
        return self

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)

    def client(self, service: str, **overrides: object):
        settings = {
            "region_name": REGION,
            "endpoint_url": self.url,
            "aws_access_key_id": self.key_id,
            "aws_secret_access_key": self.secret,
            "config": Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
            **overrides,
        }
        return boto3.session.Session().client(service, **settings)

    # -- what was delivered --

    def objects(self, bucket: str, prefix: str = "") -> dict[str, list[str]]:
        """Key to lines of every object, compressed or not."""
        s3 = self.client("s3")
        found = {}
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for item in page.get("Contents", []):
                body = s3.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()
                text = gzip.decompress(body) if item["Key"].endswith(".gz") else body
                found[item["Key"]] = text.decode().splitlines()
        return found

    def events(self, group: str, stream: str) -> list[dict]:
        """Every event of a log stream; none if there is no such stream."""
        logs = self.client("logs")
        try:
            return logs.get_log_events(
                logGroupName=group, logStreamName=stream, startFromHead=True, limit=10_000
            )["events"]
        except logs.exceptions.ResourceNotFoundException:
            return []


class TlsProxy:
    """Ends TLS in front of a local port, with a certificate of an authority made for the occasion."""

    def __init__(self, directory: Path, port: int) -> None:
        self.port, self.target = free_port(), port
        self.url = f"https://localhost:{self.port}"
        self.authority = directory / "authority.pem"
        certificate, key = directory / "proxy.pem", directory / "proxy.key"
        make_certificate(self.authority, certificate, key)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate, key)
        self.listener = socket.create_server(("127.0.0.1", self.port))

    def __enter__(self) -> TlsProxy:
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.close()

    def accept(self) -> None:
        while True:
            try:
                raw, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(raw,), daemon=True).start()

    def serve(self, raw: socket.socket) -> None:
        with contextlib.suppress(OSError), raw:
            inside = self.context.wrap_socket(raw, server_side=True)
            with inside, socket.create_connection(("127.0.0.1", self.target)) as outside:
                back = threading.Thread(target=copy, args=(outside, inside), daemon=True)
                back.start()
                copy(inside, outside)
                back.join()


def copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def make_certificate(
    authority: Path, certificate: Path, key: Path, names: tuple[str, ...] = ("localhost",)
) -> None:
    """An authority, and a certificate for these names signed by it."""
    now = datetime.datetime.now(datetime.timezone.utc)

    def builder(name: str, issuer: str, owner: ec.EllipticCurvePrivateKey, is_authority: bool):
        named = lambda text: x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
        return (
            x509.CertificateBuilder()
            .subject_name(named(name))
            .issuer_name(named(issuer))
            .public_key(owner.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
        )

    pem = serialization.Encoding.PEM
    root, leaf = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    signed = builder("test authority", "test authority", root, True).sign(root, hashes.SHA256())
    authority.write_bytes(signed.public_bytes(pem))
    listed = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    own = builder(names[0], "test authority", leaf, False).add_extension(listed, critical=False)
    certificate.write_bytes(own.sign(root, hashes.SHA256()).public_bytes(pem))
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    key.write_bytes(leaf.private_bytes(pem, *plain))


def logging_environment(aws: Aws | None, **more: object) -> tuple[str, ...]:
    """A command prefix that sets `[logging]`: short delays, and every endpoint if there is one."""
    section = {"object_seconds": 1, "stream_ms": 100, **more}
    if aws is not None:
        section = {
            "s3_endpoint": aws.url,
            "cloudwatch_endpoint": aws.url,
            "firehose_endpoint": aws.url,
            "access_key_id": aws.key_id,
            "secret_access_key": aws.secret,
            **section,
        }
    return ("env", *(f"UPROAR_LOGGING__{key.upper()}={value}" for key, value in section.items()))


def eventually(look, holds, seconds: float = 30.0):
    """What `look` returns once it `holds`; the last look's result in the error."""
    deadline = time.monotonic() + seconds
    while True:
        seen = look()
        if holds(seen):
            return seen
        assert time.monotonic() < deadline, f"not within {seconds} s: {seen!r:.2000}"
        time.sleep(0.1)
