"""What a reader does with the image beside `serve`: the chat of the README with published ports, the compose file, and
Testcontainers, which speaks the engine's own API. The engine is podman."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import boto3
import yaml
from botocore.config import Config
from conftest import REPOSITORY, TARGET
from engine import Podman

from ports import free_port
from rawws import WebSocket

SECONDS_MAX = 120.0
LOBBY = "arn:aws:ivschat:us-west-2:123456789012:room/lobby0000000"
DEV_KEY = ("AKIDUPROARDEV0000000", "uproar-dev-secret-not-for-production")


def until_ready(control: int, log) -> None:
    deadline = time.monotonic() + SECONDS_MAX
    while True:
        with contextlib.suppress(OSError):
            with urllib.request.urlopen(f"http://127.0.0.1:{control}/readyz", timeout=10) as answer:
                assert answer.status == 200
                return
        assert time.monotonic() < deadline, log()
        time.sleep(0.05)


def api(control: int, key: tuple[str, str]):
    return boto3.client(
        "ivschat", region_name="us-west-2", endpoint_url=f"http://127.0.0.1:{control}", aws_access_key_id=key[0],
        aws_secret_access_key=key[1], config=Config(retries={"max_attempts": 0}),
    )  # fmt: skip


def viewer(client, messaging: int, room: str) -> WebSocket:
    token = client.create_chat_token(roomIdentifier=room, userId="bob", capabilities=["SEND_MESSAGE"])["token"]
    return WebSocket(messaging, token)


@contextlib.contextmanager
def running(command: list[str], **how) -> Iterator[Path]:
    """A program that runs as long; yields the file of what it prints."""
    printed = how["cwd"] / "printed"
    with printed.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True, **how)
    try:
        yield printed
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(SECONDS_MAX)


def block(page: str, containing: str) -> str:
    """The block of code of a page that has this text."""
    found = re.findall(r"(?ms)^```sh[^\n]*\n(.*?)^```$", (REPOSITORY / page).read_text())
    (one,) = (text for text in found if containing in text)
    return one


def test_the_chat_of_the_readme_runs_in_a_container(podman: Podman, tmp_path: Path):
    """Goal: whoever cannot run the program itself has the chat by the README's lines: the demo page, the API of its first message,
    and a viewer, all through published ports. Method: its commands on free ports; what was built is not built again."""
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "packages").symlink_to(TARGET / "packages")
    messaging, control = free_port(), free_port()
    here = lambda text: text.replace("127.0.0.1:8080:", f"127.0.0.1:{messaging}:").replace(
        "127.0.0.1:8081", f"127.0.0.1:{control}")
    lines = here(block("README.md", "podman run")).replace("packaging/build\n", "").replace("--rm", "--rm --name=readme")
    shim = podman.shim(tmp_path / "bin")
    environment = {**os.environ, "PATH": f"{shim.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with running(["sh", "-ec", lines], cwd=tmp_path, env=environment) as printed:
        try:
            until_ready(control, printed.read_text)
            with urllib.request.urlopen(f"http://127.0.0.1:{messaging}/", timeout=60) as page:
                assert b"<html" in page.read()
            bob = viewer(api(control, DEV_KEY), messaging, LOBBY)
            first = here(block("README.md", "--event-name goal"))
            said = subprocess.run(["bash", "-euc", first], env=environment, capture_output=True, text=True)
            assert said.returncode == 0, said.stderr
            event = bob.receive()
            assert (event["EventName"], event["Attributes"]) == ("goal", {"team": "home"})
        finally:
            podman("stop", "--time=30", "readme", check=False)


def test_the_compose_file_serves(podman: Podman, image: str, tmp_path: Path):
    """Goal: `podman-compose up`, as the page says, is a server with the key that lies beside the file. Method: the file as it is,
    but for ports that are free here and the limit on open files, which this machine does not let it raise."""
    (tmp_path / "deploy").symlink_to(REPOSITORY / "deploy")
    place = tmp_path / "packaging"
    place.mkdir()
    messaging, control = free_port(), free_port()
    text = (REPOSITORY / "packaging" / "compose.yaml").read_text()
    for old, new in {
        '"8080:8080"': f'"127.0.0.1:{messaging}:8080"', "127.0.0.1:8081:": f"127.0.0.1:{control}:",
        "nofile: 65536": "nofile: 4096", "memlock: -1": "nproc: 4096",
    }.items():  # fmt: skip
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (place / "compose.yaml").write_text(text)
    secret = place / "access-key"
    secret.write_text("a-secret-that-only-this-test-knows\n")
    os.chown(secret, 65532, 65532)
    secret.chmod(0o400)
    shim = podman.shim(tmp_path / "bin")
    environment = {**os.environ, "PATH": f"{shim.parent}:{os.environ['PATH']}"}
    compose = [str(Path(sys.executable).with_name("podman-compose")), "--file", "compose.yaml"]
    order = lambda *words: subprocess.run(
        [*compose, *words], cwd=place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        up = order("up", "--detach")
        assert up.returncode == 0, up.stdout
        until_ready(control, lambda: up.stdout + order("logs").stdout)
        client = api(control, ("AKIDMYAPPLICATION001", secret.read_text().strip()))
        room = client.create_room(name="kept")["arn"]
        bob = viewer(client, messaging, room)
        bob.say("hello", "r")
        assert bob.receive()["Content"] == "hello"
    finally:
        down = order("down", "--volumes")
    assert down.returncode == 0, down.stdout


def test_testcontainers_has_a_server(podman: Podman, image: str, tmp_path: Path):
    """Goal: the example for Testcontainers works as it stands, by the API that Docker has. Method: podman serves it."""
    socket = podman.directory / "engine.sock"
    service = podman.command("system", "service", "--time=0", f"unix://{socket}")
    script = tmp_path / "chat.py"
    script.write_text(f'''
import sys

sys.path[:0] = [{str(REPOSITORY / "examples" / "ci")!r}, {str(REPOSITORY / "tests" / "clients" / "python")!r}]
import os

import boto3
from rawws import WebSocket
from testcontainers_chat import LOBBY, environment, messaging, uproar

with uproar("{image}") as container:
    os.environ |= environment(container)
    chat = boto3.client("ivschat")
    token = chat.create_chat_token(roomIdentifier=LOBBY, userId="bob", capabilities=["SEND_MESSAGE"])["token"]
    bob = WebSocket(int(messaging(container).rsplit(":", 1)[1]), token)
    bob.say("hello", "r")
    print(bob.receive()["Content"])
''')
    # What a machine that is itself a container, as this may be, has to be told: where published ports are.
    environment = {
        **os.environ, "DOCKER_HOST": f"unix://{socket}", "TESTCONTAINERS_RYUK_DISABLED": "true",
        "TESTCONTAINERS_CONNECTION_MODE": "docker_host", "TESTCONTAINERS_HOST_OVERRIDE": "127.0.0.1",
    }  # fmt: skip
    with running(service, cwd=tmp_path, env=podman.environment) as printed:
        deadline = time.monotonic() + SECONDS_MAX
        while not socket.exists():
            assert time.monotonic() < deadline, printed.read_text()
            time.sleep(0.05)
        done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr + printed.read_text()


WORKFLOW = REPOSITORY / "examples" / "ci" / "github-actions.yml"


def test_the_steps_of_the_workflow_example_do_what_they_say(podman: Podman, image: str, tmp_path: Path):
    """Goal: whoever copies it has a server per test, and one for a whole job. Method: its steps by bash, as GitHub runs them; what
    a release holds comes from here, `docker` is podman, and pip finds everything installed."""
    (archive,) = (TARGET / "packages").glob("uproar-*-x86_64-linux.tar.xz")
    sums = dict(reversed(line.split()) for line in (TARGET / "packages" / "SHA256SUMS").read_text().splitlines())
    messaging, control = free_port(), free_port()
    told = {
        "${{ vars.CHAT_SERVER_URL }}": archive.as_uri(), "${{ vars.CHAT_SERVER_SHA256 }}": sums[archive.name],
        "${{ vars.CHAT_SERVER_IMAGE }}": image, "127.0.0.1:8080:8080": f"127.0.0.1:{messaging}:8080",
        "127.0.0.1:8081:8081": f"127.0.0.1:{control}:8081", "127.0.0.1:8081": f"127.0.0.1:{control}",
    }  # fmt: skip
    text = WORKFLOW.read_text()
    for old, new in told.items():
        text = text.replace(old, new)
    podman.shim(tmp_path / "bin", "--name=job", name="docker")
    (tmp_path / "bin" / "pip").symlink_to("/bin/true")
    work = tmp_path / "work"
    shutil.copytree(REPOSITORY / "examples" / "pytest", work)
    paths = tmp_path / "paths"
    paths.write_text("")
    try:
        for job in yaml.safe_load(text)["jobs"].values():
            for step in (step for step in job["steps"] if "run" in step):
                first = [*paths.read_text().split(), tmp_path / "bin", Path(sys.executable).parent]
                environment = {
                    **os.environ, "HOME": str(tmp_path), "GITHUB_PATH": str(paths), **job.get("env", {}), **step.get("env", {}),
                    "PATH": ":".join(map(str, first)) + ":/usr/bin:/bin:/usr/sbin:/sbin", "PYTEST_ADDOPTS": "-p no:cacheprovider",
                }  # fmt: skip
                environment.pop("UPROAR_BIN", None)
                done = subprocess.run(
                    ["bash", "-e", "-o", "pipefail", "-c", step["run"]], cwd=work, env=environment,
                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                )  # fmt: skip
                assert done.returncode == 0, f"{step}: {done.stdout}"
        bob = viewer(api(control, DEV_KEY), messaging, LOBBY)
        bob.say("hello", "r")
        assert bob.receive()["Content"] == "hello"
    finally:
        podman("rm", "--force", "job", check=False)
