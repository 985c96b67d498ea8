"""A pod's view of a cluster: the secret belongs to root and is readable for the pod's group, the data directory is empty, the
user is nobody. docs/kubernetes.md and packaging/kubernetes/cluster.yaml promise that this starts."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from ports import free_port
from uproar import BINARY

USER = 65532
AS_THE_POD = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
SECONDS_MAX = 60.0


def until(what, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + SECONDS_MAX
    while not what():
        assert process.poll() is None and time.monotonic() < deadline, process.args
        time.sleep(0.05)


@pytest.fixture
def place() -> Iterator[Path]:
    """Where the pod's user can go: pytest's directories are root's alone."""
    with tempfile.TemporaryDirectory(prefix="uproar-pod-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[int]:
    """One real broker; no more is needed for `replicas = 1`."""
    port = free_port()
    command = [Path(sys.executable).with_name("nats-server"), "-js", "-sd", tmp_path / "js", "-a", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    until(listens, process)
    yield port
    process.terminate()
    process.wait()


def test_a_pod_makes_the_cluster_and_joins_it(broker: int, place: Path):
    """Method: the Job's command, then a server with another empty directory, both as the pod's user."""
    messaging, control = free_port(), free_port()
    mounted = place / "mounted"
    files = {
        "cluster.key": os.urandom(32),
        "secret": b"a-secret-of-this-test-alone-1234",
        "uproar.toml": f"""
[messaging]
listen = "127.0.0.1:{messaging}"
[control]
listen = "127.0.0.1:{control}"
[cluster]
name = "main"
replicas = 1
servers = ["nats://127.0.0.1:{broker}"]
secret_file = "{mounted}/cluster.key"
""".encode(),
    }
    mounted.mkdir()
    for name, content in files.items():
        (mounted / name).write_bytes(content)
        os.chown(mounted / name, 0, USER)
        (mounted / name).chmod(0o440)
    directories = [place / "job", place / "pod"]
    for directory in directories:
        directory.mkdir()
        os.chown(directory, USER, USER)
    program = place / "uproar"
    program.write_bytes(BINARY.read_bytes())
    program.chmod(0o755)
    options = [f"--config={mounted}/uproar.toml"]
    made = subprocess.run(
        [*AS_THE_POD, program, "cluster", "init", *options, f"--data-dir={directories[0]}"], capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    key = {"UPROAR_KEYS__ID": "AKIDMYAPPLICATION001", "UPROAR_KEYS__SECRET_FILE": f"{mounted}/secret"}
    command = [*AS_THE_POD, program, "serve", *options, f"--data-dir={directories[1]}"]
    server = subprocess.Popen(command, env=os.environ | key)

    def ready() -> bool:
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{control}/readyz", timeout=10).status == 200
        except OSError:
            return False

    until(ready, server)
    server.terminate()
    assert server.wait(SECONDS_MAX) == 0
