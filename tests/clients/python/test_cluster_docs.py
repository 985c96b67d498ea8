"""docs/cluster.md and deploy/nats.conf: each command runs and says what the page says, on real brokers; the brokers'
configuration is one that brokers take, with the rights that nodes are shown to need."""

from __future__ import annotations

import datetime
import json
import re
import signal
import subprocess
import time
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from nats_brokers import Brokers, program
from ports import free_port
from uproar import ACCOUNT, BINARY, REGION, REPOSITORY, Successor, adopt_orphans

PAGE = (REPOSITORY / "docs" / "cluster.md").read_text()
BROKER = (REPOSITORY / "deploy" / "nats.conf").read_text()
# Public keys of users that nobody has the seed of.
KEYS = {
    "NODES_PUBLIC_KEY": "UDDCKKSZCFLD47CDD2DF5BBGRFDKLWM2SARWLQJWKMTHNXSCLVAHGG4E",
    "ADMINS_PUBLIC_KEY": "UB4UPDVUUS4B3L6XLR7XYOZBY3USJZ5L5ZHSRIWTLYPJKRCZHFBRW3OQ",
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language} by test_cluster_docs\.py\n(.*?)```", PAGE, re.DOTALL)


class Machine:
    """An administrator's shell: `sudo` and `systemctl` are stood in for, and paths are below a directory."""

    def __init__(self, directory: Path, brokers: Brokers) -> None:
        self.directory = directory
        self.process: subprocess.Popen[bytes] | Successor | None = None
        adopt_orphans()
        self.configuration = directory / "uproar.toml"
        [table] = blocks("toml")
        table = re.sub(r"(?m)^(credentials|tls_ca) =.*\n", "", table)
        table = re.sub(r"(?m)^servers = .*$", f"servers = {json.dumps(brokers.urls)}", table)
        self.configuration.write_text(
            f'[server]\nregion = "{REGION}"\naccount = "{ACCOUNT}"\ndata_dir = "{directory / "data"}"\nshards = 1\n'
            f'[messaging]\nlisten = "127.0.0.1:{free_port()}"\n[control]\nlisten = "127.0.0.1:{free_port()}"\n'
            f'[[keys]]\nid = "AKIDMYAPPLICATION001"\nsecret = "a-secret-of-this-test-alone-1234"\n{table.replace("/var/lib/uproar", str(directory))}'
        )
        shims = directory / "shims"
        shims.mkdir()
        self.shim("sudo", 'if [ "$1" = -u ]; then shift 2; fi; exec "$@"')
        self.shim("uproar", f'exec {BINARY} "$@"')

    def shim(self, name: str, text: str) -> None:
        path = self.directory / "shims" / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def run(self, line: str) -> str:
        """What a line of the page says; `systemctl` is this process's own work."""
        if match := re.fullmatch(r"sudo systemctl (start|stop) uproar", line):
            getattr(self, match[1])()
            return ""
        line = line.replace("/etc/uproar", str(self.directory))
        path = f"{self.directory / 'shims'}:/usr/bin:/bin"
        done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=120, env={"PATH": path})
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        if serves := re.match(r"process (\d+) serves", done.stdout):
            assert self.process.wait(60) == 0, self.log()
            self.process = Successor(int(serves[1]))
            deadline = time.monotonic() + 90
            while not self.answers():
                assert time.monotonic() < deadline, self.log()
                time.sleep(0.1)
        return done.stdout

    def start(self) -> None:
        with (self.directory / "log").open("ab") as log:
            command = [str(BINARY), "serve", "--config", str(self.configuration)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + 90
        while not self.answers():
            assert time.monotonic() < deadline and self.process.poll() is None, self.log()
            time.sleep(0.1)

    def answers(self) -> bool:
        command = [str(BINARY), "health", "--json", "--config", str(self.configuration)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        return done.returncode == 0 and json.loads(done.stdout)["ready"]

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(60) == 0, self.log()
            self.process = None

    def log(self) -> str:
        return (self.directory / "log").read_text()


def test_each_command_does_what_the_page_says(tmp_path: Path):
    """Method: a server alone that has run becomes the first node by the page's own lines, and goes back by its words."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    assert len(lines) >= 6
    with Brokers(tmp_path / "brokers") as brokers:
        machine = Machine(tmp_path, brokers)
        try:
            said = {line: machine.run(line) for line in lines}
        finally:
            machine.stop()
        [status] = [text for line, text in said.items() if "cluster status" in line]
        assert "cluster main, as chat-1 sees it" in status and "Start a second node" in status, status
        [made] = [text for line, text in said.items() if "cluster init" in line]
        assert "cluster main is made" in made and (tmp_path / "cluster.key").stat().st_mode & 0o777 == 0o600
        [checked] = [text for line, text in said.items() if "doctor" in line]
        assert "3 of 3" in checked, checked
        [upgraded] = [text for line, text in said.items() if "uproar upgrade" in line]
        assert "serves 0 viewers" in upgraded, upgraded
        plan, killed = [text for line, text in said.items() if "bench plan" in line]
        assert "it fits" in plan and "node: processors, deliveries" in plan, plan
        assert "A node is killed (simulated)" in killed and "0 did not come everywhere" in killed, killed
    alone = machine.configuration.read_text().split("[cluster]")[0]
    machine.configuration.write_text(alone)
    machine.start()
    machine.stop()
    assert "this server is no node of a cluster any more" in machine.log()


def test_the_sizing_table_is_what_plan_says():
    rows = re.findall(r"\| ([\d,]+) \| ([\d,]+) \| ([\d.]+) \| (\d+) \| .* \| (\d+) % \|", PAGE)
    assert len(rows) == 5
    for viewers, rooms, rate, nodes, share in rows:
        command = [str(BINARY), "bench", "plan", "--json", "--rate", rate, "--nodes", nodes]
        command += ["--viewers", viewers.replace(",", ""), "--rooms", rooms.replace(",", "")]
        plan = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)
        assert round(plan["limits"][0]["share"] * 100) == int(share), (viewers, rooms, plan["limits"][0])


def test_brokers_take_the_configuration(tmp_path: Path):
    """Goal: deploy/nats.conf needs nothing but the addresses, files and keys that it names. Method: `nats-server -t`."""
    text = BROKER
    certify(tmp_path)
    for name, key in KEYS.items():
        assert name in text
        text = text.replace(name, key)
    for installed in ("/etc/nats", "/var/lib/nats"):
        text = text.replace(installed, str(tmp_path))
    path = tmp_path / "nats.conf"
    path.write_text(text)
    done = subprocess.run([program(), "-t", "-c", str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    for needed in ("sync_interval: always", "max_payload: 1MB", "lame_duck_duration"):
        assert needed in text


def certify(directory: Path) -> None:
    """A certificate that signs itself, as the files that the configuration names."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nats")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    (directory / "cert.pem").write_bytes(pem)
    (directory / "ca.pem").write_bytes(pem)
    private = serialization.PrivateFormat.PKCS8
    (directory / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, private, serialization.NoEncryption())
    )
