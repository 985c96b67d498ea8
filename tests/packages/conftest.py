"""What `packaging/build` has made is tried as those who get it would: with dpkg and systemd, with podman, by hand.

`tests/run packages` builds it; the helpers are those of the client tests.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

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


FIGURES: list[str] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in FIGURES:
        terminalreporter.write_line(line)
