"""The Debian package on a throw-away machine with a real systemd: installed, used, upgraded with viewers connected,
removed, purged."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from conftest import REPOSITORY, shipped
from machine import Machine

from rawws import WebSocket

CONFIGURATION = "/etc/uproar/uproar.toml"
VIEWERS = 20
# Of packaging/debian/uproar.toml.
MESSAGING_PORT, CONTROL_PORT, REGION = 8080, 8081, "us-west-2"


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with Machine() as machine:
        yield machine


@pytest.fixture(scope="module")
def installed(machine: Machine) -> str:
    """What dpkg said."""
    return machine.run("dpkg", "--install", str(shipped("uproar_*-1_amd64.deb")))


def user_of(machine: Machine, path: str) -> str:
    return machine.run("stat", "--format=%U:%G %a", path).strip()


def service(machine: Machine) -> dict[str, str]:
    names = "ActiveState,SubState,MainPID,NRestarts,User,Result,UnitFileState"
    lines = machine.run("systemctl", "show", f"--property={names}", "uproar").splitlines()
    return dict(line.split("=", 1) for line in lines)


def health(machine: Machine) -> dict:
    return json.loads(machine.run("uproar", "health", "--json", "--config", CONFIGURATION))


def test_the_package_is_in_order():
    """Goal: Debian's own judge finds nothing; the unit is the repository's but for the place of the binary."""
    package = shipped("uproar_*-1_amd64.deb")
    done = subprocess.run(
        ["lintian", "--allow-root", "--tag-display-limit", "0", package], stdout=subprocess.PIPE, text=True
    )
    assert done.stdout == ""
    unit = subprocess.run(
        f"dpkg-deb --fsys-tarfile {package} | tar --extract --to-stdout ./usr/lib/systemd/system/uproar.service",
        shell=True,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    assert unit.replace("/usr/bin/", "/usr/local/bin/") == (REPOSITORY / "deploy" / "uproar.service").read_text()


def test_an_installation_serves(machine: Machine, installed: str):
    """Goal: `dpkg -i`, and viewers can connect: user, directories, unit, manual, completions and a first key are there."""
    state = service(machine)
    assert (state["ActiveState"], state["SubState"], state["User"]) == ("active", "running", "uproar"), machine.run(
        "journalctl", "--no-pager", "--unit=uproar"
    )
    assert state["UnitFileState"] == "enabled" and state["NRestarts"] == "0"
    assert health(machine)["ready"] is True
    assert machine.run("readlink", f"/proc/{state['MainPID']}/exe") == "/usr/bin/uproar\n"
    owner = machine.run("ps", "-o", "user=", "-p", state["MainPID"]).strip()
    assert owner == "uproar"
    assert user_of(machine, "/var/lib/uproar") == "uproar:uproar 700"
    assert user_of(machine, "/etc/uproar") == "root:uproar 750"
    assert user_of(machine, CONFIGURATION) == "root:uproar 640"
    assert user_of(machine, "/etc/uproar/first-access-key") == "root:root 600"
    assert "/etc/uproar/first-access-key" in installed
    assert CONFIGURATION in machine.run("dpkg-query", "--show", "--showformat=${Conffiles}", "uproar")
    machine.run("runuser", "-u", "uproar", "--", "uproar", "config", "check", CONFIGURATION)
    machine.run("bash", "-n", "/usr/share/bash-completion/completions/uproar")
    listed = machine.run("dpkg", "--listfiles", "uproar").split()
    assert "/usr/share/man/man1/uproar-upgrade.1.gz" in listed
    for path in ("/usr/share/zsh/vendor-completions/_uproar", "/usr/share/fish/vendor_completions.d/uproar.fish"):
        assert path in listed


def next_version(directory: Path, revision: int) -> Path:
    """The same package with a higher number."""
    tree, package = directory / "tree", directory / "next.deb"
    subprocess.run(["dpkg-deb", "--raw-extract", shipped("uproar_*-1_amd64.deb"), tree], check=True)
    control = tree / "DEBIAN" / "control"
    control.write_text(control.read_text().replace("-1\n", f"-{revision}\n", 1))
    command = ["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", tree, package]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return package


def install_next(machine: Machine, directory: Path, revision: int) -> str:
    shutil.copy(next_version(directory, revision), machine.path("/root/next.deb"))
    return machine.run("dpkg", "--install", "/root/next.deb")


class Chat:
    """A room and its viewers, by the official SDK with the first access key."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        lines = machine.run("cat", "/etc/uproar/first-access-key").splitlines()
        key = dict(line.split("=", 1) for line in lines)
        with machine.network():
            self.client = boto3.client(
                "ivschat",
                region_name=REGION,
                endpoint_url=f"http://127.0.0.1:{CONTROL_PORT}",
                aws_access_key_id=key["AWS_ACCESS_KEY_ID"],
                aws_secret_access_key=key["AWS_SECRET_ACCESS_KEY"],
                config=Config(retries={"max_attempts": 0}),
            )
            self.room = self.client.create_room(name="kept")["arn"]
            self.viewers = [self.viewer(f"user-{number}") for number in range(VIEWERS)]

    def viewer(self, user: str) -> WebSocket:
        answer = self.client.create_chat_token(roomIdentifier=self.room, userId=user, capabilities=["SEND_MESSAGE"])
        return WebSocket(MESSAGING_PORT, answer["token"])

    def everybody_hears(self, text: str) -> None:
        self.viewers[0].say(text, "r")
        for viewer in self.viewers:
            assert viewer.receive()["Content"] == text


def test_an_upgrade_keeps_the_viewers(machine: Machine, installed: str, tmp_path: Path):
    """Goal: `dpkg -i` of the next version: the new program serves, each viewer is on the connection that it had, the
    operator's changes of the configuration stand, and systemd knows the new process."""
    chat = Chat(machine)
    chat.everybody_hears("before")
    with machine.path(CONFIGURATION).open("a") as file:
        file.write("\n[quotas]\nprofile = \"open\"\n")
    machine.run("systemctl", "reload", "uproar")
    before = service(machine)
    said = install_next(machine, tmp_path, 2)
    after = service(machine)
    assert after["MainPID"] != before["MainPID"] and after["ActiveState"] == "active", said
    assert (after["NRestarts"], after["Result"]) == ("0", "success")
    told = health(machine)
    assert str(told["pid"]) == after["MainPID"] and told["viewers"] == VIEWERS, said
    assert 'profile = "open"' in machine.path(CONFIGURATION).read_text()
    chat.everybody_hears("after")
    with machine.network():
        late = chat.viewer("late")
    late.say("new here", "r")
    for viewer in chat.viewers:
        assert viewer.receive()["Content"] == "new here"


def test_an_upgrade_with_a_mistake_in_the_configuration(machine: Machine, installed: str, tmp_path: Path):
    """Goal: the old program serves on, nobody is cut, the installation ends well and says what is left to do."""
    chat, before = Chat(machine), service(machine)
    file = machine.path(CONFIGURATION)
    good = file.read_text()
    file.write_text(good.replace("listen", "lisen", 1))
    said = install_next(machine, tmp_path, 3)
    assert "did you mean" in said and "the old version still serves" in said
    assert service(machine)["MainPID"] == before["MainPID"]
    chat.everybody_hears("still here")
    file.write_text(good)
    machine.run("uproar", "upgrade", "--config", CONFIGURATION)
    assert service(machine)["MainPID"] != before["MainPID"]
    chat.everybody_hears("and now")


def test_removed_and_purged(machine: Machine, installed: str):
    """Goal: removed, it serves nobody and keeps what is the operator's; purged, it leaves nothing but the user."""
    machine.run("dpkg", "--remove", "uproar")
    assert machine.run("pgrep", "-u", "uproar", check=False) == ""
    assert machine.path(CONFIGURATION).exists() and machine.path("/var/lib/uproar/access-keys").exists()
    machine.run("dpkg", "--purge", "uproar")
    left = "find /etc /usr/bin /usr/lib/systemd /usr/share /var/lib/systemd /var/lib/uproar -name '*uproar*'"
    assert machine.run("sh", "-c", f"{left} 2>/dev/null", check=False) == ""
    assert "uproar" in machine.run("getent", "passwd", "uproar")
    assert machine.run("systemctl", "--no-pager", "--failed", "--plain", "--no-legend") == ""
