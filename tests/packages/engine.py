"""podman, with a storage of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

# No control over limits that only CAP_SYS_RESOURCE may raise.
ULIMITS = ("nofile=4096:4096", "nproc=4096:4096")


class Podman:
    """What it asks of this machine: runc rather than crun, which refuses control groups of both versions at once; no timers of
    systemd; limits that are lower than its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.options = ["--storage-driver=vfs", f"--root={directory}/root", f"--runroot={directory}/run"]
        self.options += ["--cgroup-manager=cgroupfs", "--runtime=runc", "--events-backend=file", "--log-level=fatal"]
        settings = directory / "containers.conf"
        settings.write_text(f"[containers]\ndefault_ulimits = {list(ULIMITS)}\n".replace("'", '"'))
        self.environment = {**os.environ, "CONTAINERS_CONF": str(settings)}

    def command(self, *arguments: object) -> list[str]:
        return ["podman", *self.options, *map(str, arguments)]

    def __call__(self, *arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = self.command(*arguments)
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.environment
        )
        assert not check or done.returncode == 0, f"{command}: {done.returncode}: {done.stdout}{done.stderr}"
        return done

    def shim(self, directory: Path, *running: str, name: str = "podman") -> Path:
        """A program of this name that does the same, and runs containers with these options besides."""
        shim = directory / name
        directory.mkdir(exist_ok=True)
        shim.write_text(
            f'#!/bin/sh\nexport CONTAINERS_CONF={self.environment["CONTAINERS_CONF"]}\n'
            f'order=$1; shift\ncase $order in run) set -- {" ".join(running)} "$@" ;; esac\n'
            f'exec {shutil.which("podman")} {" ".join(self.options)} "$order" "$@"\n'
        )
        shim.chmod(0o755)
        return shim
