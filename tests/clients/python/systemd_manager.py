"""A real systemd that runs the unit of `deploy/`: a user manager in its own mount namespace.

It needs root, and no running systemd: `/run` is a fresh tmpfs in the namespace, so nothing of the machine's own
units is seen or changed. The unit is the shipped one but for its paths, which lie below `/run/uproar`, and
what a user manager cannot do: `User=` (everything runs as root here, with the unit's capabilities) and
`StateDirectory=`.

As a program it takes orders as lines of JSON for the tests in Node.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from paths import BINARY, REPOSITORY

# A start of systemd is half a second; the rest is for a machine that stands still meanwhile.
MANAGER_SECONDS_MAX = 60.0

ROOM = "/run/uproar"
UNITS = "/run/config/systemd/user"
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/run",
    # Not below /run/user, which ProtectHome= hides, and with it the manager's NOTIFY_SOCKET: a system's is elsewhere.
    "XDG_RUNTIME_DIR": "/run/manager",
    "XDG_CONFIG_HOME": "/run/config",
    "SYSTEMD_LOG_TARGET": "console",
}

# What a system manager makes at its start, and a user manager expects.
SETUP = f"""
set -eu
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system /run/shims /run/manager {UNITS} {ROOM}/data /run/systemd/inaccessible/dir
chmod 0700 {ROOM}/data
chmod 0 /run/systemd/inaccessible/dir
cd /run/systemd/inaccessible
: > reg
mkfifo fifo
mknod chr c 0 0
mknod blk b 0 0
python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("sock")'
cd /
cp "$1" {ROOM}/uproar
printf '[Unit]\\nDescription=Nothing else\\n' > {UNITS}/alone.target
exec /usr/lib/systemd/systemd --user --unit=alone.target
"""

# What differs from an installation.
OVERRIDES = f"""
[Service]
User=
StateDirectory=
ReadWritePaths={ROOM}/data
StandardOutput=append:{ROOM}/log
StandardError=append:{ROOM}/log
"""


class Manager:
    """A user manager; a context manager that ends it, and with it all of its units."""

    def __enter__(self) -> Manager:
        # All managers would put `uproar.service` into one control group, and each would end the others' processes.
        self.alone = (Path(tempfile.gettempdir()) / "uproar-systemd.lock").open("w")
        fcntl.flock(self.alone, fcntl.LOCK_EX)
        self.log = Path(tempfile.mkstemp(prefix="systemd-", suffix=".txt")[1])
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["unshare", "--mount", "sh", "-c", SETUP, "sh", str(BINARY)],
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + MANAGER_SECONDS_MAX
        while self.systemctl("is-active", "alone.target", check=False).strip() != "active":
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)
        return self

    def __exit__(self, *_exception: object) -> None:
        self.systemctl("kill", "--signal=KILL", "uproar.service", check=False)
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(MANAGER_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.unlink()
        self.alone.close()

    def run(self, *command: str, check: bool = True, stdin: str | None = None) -> str:
        """Runs a command within the manager's mount namespace; what it prints, both streams."""
        done = subprocess.run(
            ["nsenter", f"--mount=/proc/{self.process.pid}/ns/mnt", *command],
            env=ENVIRONMENT,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd="/",
        )
        assert not check or done.returncode == 0, f"{command}: {done.returncode}: {done.stdout}"
        return done.stdout

    def systemctl(self, *arguments: str, check: bool = True) -> str:
        return self.run("systemctl", "--user", "--no-pager", *arguments, check=check)

    def write(self, path: str, text: str) -> None:
        """Writes a file that the namespace alone has."""
        self.run("sh", "-c", 'cat > "$1"', "sh", path, stdin=text)

    def install(self, configuration: str) -> None:
        """Installs the shipped unit, and the configuration that it starts with."""
        text = (REPOSITORY / "deploy" / "uproar.service").read_text()
        for installed, here in [("/usr/local/bin/uproar", f"{ROOM}/uproar"), ("/etc/uproar", ROOM)]:
            assert installed in text
            text = text.replace(installed, here)
        self.write(f"{UNITS}/uproar.service", text + OVERRIDES)
        self.write(f"{ROOM}/uproar.toml", configuration)
        self.systemctl("daemon-reload")

    def away(self, seconds: int) -> None:
        """From now on a start takes so much longer: nobody serves meanwhile, whatever ended the last process."""
        self.run("mkdir", "-p", f"{UNITS}/uproar.service.d")
        self.write(f"{UNITS}/uproar.service.d/away.conf", f"[Service]\nExecStartPre=/bin/sleep {seconds}\n")
        self.systemctl("daemon-reload")

    def property(self, name: str) -> str:
        """A property of the unit."""
        return self.systemctl("show", "--property", name, "--value", "uproar.service").strip()

    def main_pid(self) -> int:
        return int(self.property("MainPID"))

    def journal(self) -> str:
        """What the unit's processes wrote."""
        return self.run("cat", f"{ROOM}/log")


def main() -> None:
    """Orders as JSON lines: {"install": CONFIGURATION}, {"away": SECONDS}, {"start": null}; {"kill": null}, after which the
    unit starts again by itself; {"restart": null}, which does not wait for the start; {"stop": null}. The end of input
    ends all."""
    with Manager() as manager:
        orders = {
            "install": manager.install,
            "away": manager.away,
            "start": lambda _: manager.systemctl("start", "uproar"),
            "kill": lambda _: os.kill(manager.main_pid(), signal.SIGKILL),
            "restart": lambda _: manager.systemctl("restart", "--no-block", "uproar"),
            "stop": lambda _: manager.systemctl("stop", "uproar"),
        }
        for line in sys.stdin:
            for name, value in json.loads(line).items():
                orders[name](value)
            state = {"pid": manager.main_pid(), "result": manager.property("Result")}
            print(json.dumps({"root": f"/proc/{manager.process.pid}/root{ROOM}", **state}), flush=True)


if __name__ == "__main__":
    main()
