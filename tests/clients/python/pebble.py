"""Pebble, the certificate authority that Let's Encrypt tests clients of ACME with, and its DNS, both of Debian's package
`pebble`. It validates for real: names lead to 127.0.0.1, where the server under test answers, or to another address."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import time
import urllib.request
from pathlib import Path

from authority import Authority
from ports import free_port

WAIT_SECONDS_MAX = 60.0
EXTERNAL_ACCOUNT = ("kid-1", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W")


class Pebble:
    """One authority. `start` and `stop` as often as you like: it forgets everything, and has the same address."""

    def __init__(self, directory: Path, tls_port: int, http_port: int, **config: object) -> None:
        self.directory = directory
        self.port, self.management, self.dns, self.dns_management = (free_port() for _ in range(4))
        authority = Authority(directory)
        certificate, key = authority.issue("pebble")
        self.root = authority.certificate
        self.config = directory / "pebble.json"
        self.config.write_text(json.dumps({"pebble": {
            "listenAddress": f"127.0.0.1:{self.port}",
            "managementListenAddress": f"127.0.0.1:{self.management}",
            "certificate": str(certificate), "privateKey": str(key),
            "tlsPort": tls_port, "httpPort": http_port, "ocspResponderURL": "", **config,
        }}))
        self.log = directory / "pebble.txt"
        self.processes: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}/dir"

    def start(self) -> Pebble:
        dns = ["pebble-challtestsrv", "-dns01", f"127.0.0.1:{self.dns}", "-management", f"127.0.0.1:{self.dns_management}",
               "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-http01", "", "-https01", "", "-tlsalpn01", ""]
        authority = ["pebble", "-config", str(self.config), "-dnsserver", f"127.0.0.1:{self.dns}", "-strict"]
        environment = {**os.environ, "PEBBLE_VA_NOSLEEP": "1"}
        for command in (dns, authority):
            with self.log.open("ab") as log:
                self.processes.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment))
        for port in (self.port, self.management, self.dns_management):
            self.await_port(port)
        return self

    def await_port(self, port: int) -> None:
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError:
                assert time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.02)

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait(WAIT_SECONDS_MAX)
        self.processes = []

    def trusted(self) -> str:
        """PEM of the root under which it issues at the moment."""
        context = ssl.create_default_context(cafile=str(self.root))
        url = f"https://127.0.0.1:{self.management}/roots/0"
        with urllib.request.urlopen(url, timeout=60, context=context) as answer:
            return answer.read().decode()

    def lead(self, name: str, address: str) -> None:
        """A name leads to another address than 127.0.0.1."""
        body = json.dumps({"host": f"{name}.", "addresses": [address]}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.dns_management}/add-a", data=body, method="POST")
        urllib.request.urlopen(request, timeout=60).close()

    def count(self, text: str) -> int:
        return self.log.read_text().count(text)
