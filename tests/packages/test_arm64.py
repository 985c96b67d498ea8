"""The binary for arm64, run by qemu: a viewer hears. Only where PACKAGES=full has built it; tests/run says so if not."""

from __future__ import annotations

import json
import platform
import re
import subprocess
import tarfile

from conftest import FIGURES, TARGET, shipped

from rawws import WebSocket
from uproar import Server

BINARY = TARGET / "aarch64-unknown-linux-musl" / "dist" / "uproar"
EMULATOR = [] if platform.machine() == "aarch64" else ["qemu-aarch64-static"]


def test_it_says_what_it_is():
    done = subprocess.run([*EMULATOR, BINARY, "--version"], check=True, stdout=subprocess.PIPE, text=True)
    assert re.fullmatch(r"uproar \S+ \(commit \S+\), features cluster, aarch64-unknown-linux-musl\n", done.stdout)
    FIGURES.append(f"arm64, static: {BINARY.stat().st_size / 1e6:.1f} MB")


def test_a_viewer_hears():
    """Goal: the whole way on another processor. qemu has no io_uring, so on epoll."""
    server = Server()
    server.command = [*EMULATOR, str(BINARY), *server.command[1:]]
    with server:
        arn = server.boto_cached.create_room(name="kept")["arn"]
        viewer = WebSocket(server.messaging_port, server.token(arn, "bob"))
        for number in range(100):
            viewer.say(f"hello {number}", "r")
            assert viewer.receive()["Content"] == f"hello {number}"
        assert 'arch="aarch64"' in server.metrics()


def test_package_and_image_are_for_it():
    done = subprocess.run(
        ["dpkg-deb", "--field", shipped("uproar_*-1_arm64.deb"), "Architecture"], check=True, stdout=subprocess.PIPE, text=True
    )
    assert done.stdout.strip() == "arm64"
    with tarfile.open(shipped("uproar-*-image-arm64.tar")) as archive:
        (manifest,) = json.load(archive.extractfile("manifest.json"))
        assert json.load(archive.extractfile(manifest["Config"]))["architecture"] == "arm64"
