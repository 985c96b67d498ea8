"""The image, run by podman as docs/containers.md says: as nobody, without a shell, read-only, with the shipped seccomp
profile; a viewer hears, the health check answers, SIGTERM ends it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tarfile
import time
import urllib.request
from pathlib import Path

import boto3
from botocore.config import Config
from conftest import REPOSITORY, TARGET, shipped
from engine import Podman

from ports import free_port
from rawws import WebSocket

SECONDS_MAX = 60.0
PROFILE = REPOSITORY / "deploy" / "seccomp-uproar.json"
CONFIGURATION = (REPOSITORY / "packaging" / "uproar.toml").read_text()


class Container:
    """`podman run`, hardened as the compose file is."""

    def __init__(self, podman: Podman, image: str, directory: Path, *options: str, network: tuple[str, ...] = ()) -> None:
        self.podman = podman
        self.messaging, self.control = free_port(), free_port()
        configuration = directory / "uproar.toml"
        configuration.write_text(CONFIGURATION)
        configuration.chmod(0o644)
        hard = min(65536, int(subprocess.check_output(["sh", "-c", "ulimit -Hn"], text=True).replace("unlimited", "65536")))
        self.name = podman(
            "run", "--detach", "--network=host", f"--ulimit=nofile={hard}:{hard}", "--ulimit=nproc=4096:4096",
            "--read-only", "--cap-drop=all", "--security-opt=no-new-privileges",
            f"--env=UPROAR_MESSAGING__LISTEN=127.0.0.1:{self.messaging}",
            f"--env=UPROAR_CONTROL__LISTEN=127.0.0.1:{self.control}",
            f"--volume={configuration}:/etc/uproar/uproar.toml:ro", *options, image,
        ).stdout.split()[-1]  # fmt: skip
        deadline = time.monotonic() + SECONDS_MAX
        while self.get("/readyz") != 200:
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.05)

    def get(self, path: str) -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.control}{path}", timeout=10) as answer:
                return answer.status
        except OSError:
            return 0

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.control}/metrics", timeout=10) as answer:
            return answer.read().decode()

    def log(self) -> str:
        done = self.podman("logs", self.name, check=False)
        return done.stdout + done.stderr

    def say_and_hear(self) -> None:
        client = boto3.client(
            "ivschat", region_name="us-west-2", endpoint_url=f"http://127.0.0.1:{self.control}",
            aws_access_key_id="AKIDMYAPPLICATION001", aws_secret_access_key="change-me: openssl rand -base64 30",
            config=Config(retries={"max_attempts": 0}),
        )  # fmt: skip
        room = client.create_room(name="kept")["arn"]
        token = client.create_chat_token(roomIdentifier=room, userId="bob", capabilities=["SEND_MESSAGE"])["token"]
        viewer = WebSocket(self.messaging, token)
        viewer.say("hello", "r")
        assert viewer.receive()["Content"] == "hello"

    def stop(self) -> int:
        self.podman("stop", "--time=30", self.name)
        return int(self.podman("inspect", "--format={{.State.ExitCode}}", self.name).stdout)


def test_the_image_is_the_binary_alone():
    """Goal: nothing to attack beside the server: one program, licences, two directories of its user, no shell."""
    with tarfile.open(shipped("uproar-*-image-amd64.tar")) as archive:
        (manifest,) = json.load(archive.extractfile("manifest.json"))
        config = json.load(archive.extractfile(manifest["Config"]))
        entries = {}
        for layer in manifest["Layers"]:
            with tarfile.open(fileobj=archive.extractfile(layer)) as files:
                entries |= {each.name.rstrip("/"): (each.isfile(), each.uid) for each in files}
    files = {name for name, (is_file, _) in entries.items() if is_file and not name.startswith("licences/")}
    assert files == {"uproar"} and "licences/THIRD-PARTY-LICENCES" in entries, entries
    assert entries["var/lib/uproar"][1] == 65532 and entries["tmp"][1] == 65532
    settings = config["config"]
    assert settings["User"] == "65532:65532" and settings["Entrypoint"] == ["/uproar"]
    assert settings["Healthcheck"]["Test"] == ["CMD", "/uproar", "health"]
    assert set(settings["ExposedPorts"]) == {"8080/tcp", "8081/tcp"}
    assert (config["os"], config["architecture"]) == ("linux", "amd64")


def test_a_container_serves_on_io_uring_with_the_shipped_profile(podman: Podman, image: str, tmp_path: Path):
    """Goal: as little right as there is, and the fast lane."""
    container = Container(podman, image, tmp_path, f"--security-opt=seccomp={PROFILE}", "--volume=rooms:/var/lib/uproar")
    container.say_and_hear()
    assert 'uproar_io_info{backend="io_uring"} 1' in container.metrics()
    pid = podman("inspect", "--format={{.State.Pid}}", container.name).stdout.strip()
    status = Path(f"/proc/{pid}/status").read_text()
    assert "Uid:\t65532" in status and "CapEff:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status and "Seccomp:\t2" in status
    assert podman("healthcheck", "run", container.name, check=False).returncode == 0
    assert container.stop() == 0, container.log()
    # What was said stays on the volume.
    again = Container(podman, image, tmp_path, f"--security-opt=seccomp={PROFILE}", "--volume=rooms:/var/lib/uproar")
    told = json.loads(podman("exec", again.name, "/uproar", "health", "--json").stdout)
    assert told["rooms"] == 1
    # Not upgraded in place: the container would end with its first process. The command says what to do instead.
    refused = podman("exec", again.name, "/uproar", "upgrade", check=False)
    assert refused.returncode == 1 and "container" in refused.stderr, refused
    assert again.stop() == 0


def test_a_container_serves_on_epoll_where_io_uring_is_forbidden(podman: Podman, image: str, tmp_path: Path):
    """Goal: with what container runtimes forbid by default since 2023 the image serves as well, and says by what."""
    profile = json.loads(PROFILE.read_text())
    for rule in profile["syscalls"]:
        rule["names"] = [name for name in rule["names"] if not name.startswith("io_uring")]
    strict = tmp_path / "seccomp.json"
    strict.write_text(json.dumps(profile))
    container = Container(podman, image, tmp_path, f"--security-opt=seccomp={strict}")
    container.say_and_hear()
    assert 'uproar_io_info{backend="epoll"} 1' in container.metrics()
    assert podman("healthcheck", "run", container.name, check=False).returncode == 0
    assert container.stop() == 0


def test_the_commands_of_the_page(podman: Podman, tmp_path: Path):
    """Goal: who follows docs/containers.md has a server. Method: its commands, in a network of their own, where its ports are
    free; `podman` is told what this machine needs."""
    page = (REPOSITORY / "docs" / "containers.md").read_text()
    (block,) = re.findall(r"```sh by [^\n]*\n(.*?)```", page, re.S)
    for name, source in [("deploy", REPOSITORY / "deploy"), ("target/packages", TARGET / "packages")]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(source)
    (tmp_path / "uproar.toml").write_text(CONFIGURATION)
    shim = podman.shim(tmp_path / "bin", "--network=host")
    done = subprocess.run(
        ["unshare", "--net", "sh", "-euc", f"ip link set lo up\n{block}"],
        env={**os.environ, "PATH": f"{shim.parent}:{os.environ['PATH']}"},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0 and "serving, ready, 0 viewers" in done.stdout, done.stdout


def test_a_container_that_does_not_answer_is_unhealthy(podman: Podman, image: str, tmp_path: Path):
    """Goal: the health check can fail. Method: the same command where no server is."""
    container = Container(podman, image, tmp_path)
    pid = podman("inspect", "--format={{.State.Pid}}", container.name).stdout.strip()
    answer = podman("exec", container.name, "/uproar", "health", "--data-dir", "/tmp", check=False)
    assert answer.returncode == 1, answer
    os.kill(int(pid), 9)
    assert podman("wait", container.name).stdout.strip() == "137"
