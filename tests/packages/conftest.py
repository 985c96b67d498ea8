"""What `packaging/build` has made is tried as those who get it would: with dpkg and systemd, with podman, by hand.

`tests/run packages` builds it; the helpers are those of the client tests.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine import Podman

REPOSITORY = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
# What is packaged, whatever the environment names for the other tests.
os.environ["UPROAR_BIN"] = str(TARGET / "x86_64-unknown-linux-musl" / "dist" / "uproar")
sys.path.insert(0, str(REPOSITORY / "tests" / "clients" / "python"))

# tests/run says so.
collect_ignore = [] if list((TARGET / "packages").glob("*aarch64*")) else ["test_arm64.py"]


def shipped(pattern: str) -> Path:
    """The one file of target/packages with this pattern."""
    found = sorted((TARGET / "packages").glob(pattern))
    assert len(found) == 1, f"{pattern}: {found}; `packaging/build` first"
    return found[0]


@pytest.fixture(scope="session")
def podman() -> Iterator[Podman]:
    """With the image that was built."""
    directory = Path(tempfile.mkdtemp(prefix="uproar-podman-"))
    podman = Podman(directory)
    podman("load", "--quiet", "--input", shipped("uproar-*-image-amd64.tar"))
    yield podman
    podman("rm", "--all", "--force", check=False)
    subprocess.run(["umount", "--recursive", "--quiet", directory / "root"], stderr=subprocess.DEVNULL)
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def image(podman: Podman) -> str:
    (name,) = {line for line in podman("images", "--format={{.Repository}}:{{.Tag}}").stdout.split() if "uproar" in line}
    return name


FIGURES: list[str] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in FIGURES:
        terminalreporter.write_line(line)
