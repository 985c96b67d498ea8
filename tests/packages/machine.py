"""A throw-away Debian machine: this one's files below an overlay, its own processes, network and control groups, and the
real systemd as its process 1. Whatever is installed there is gone with it, and nothing of it reaches this machine.

It needs root and Debian, and no running systemd.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

# A start takes 2 s; the rest is for a machine that stands still meanwhile.
START_SECONDS_MAX = 60.0
CLONE_NEWNET = 0x40000000
# Everything is below a tmpfs that this mount namespace alone has. As systemd-nspawn does, the kernel's settings are
# read-only, so that no unit changes those of the machine around. Either layout of control groups.
SETUP = """
set -eu
ip link set lo up
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
root=$1/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$root"
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
if [ -d /sys/fs/cgroup/systemd ]; then
    mount -t tmpfs tmpfs "$root/sys/fs/cgroup"
    mkdir "$root/sys/fs/cgroup/systemd"
    mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/systemd"
else
    mount -t cgroup2 cgroup "$root/sys/fs/cgroup"
fi
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
: > "$root/etc/machine-id"
# What images of containers have, so that no package starts a service in them.
rm -f "$root/usr/sbin/policy-rc.d"
# The root itself, so that what /proc says of programs is what is so here.
cd "$root"
pivot_root . mnt
umount --lazy /mnt
exec env -i PATH="$PATH" container=throw-away setpriv --bounding-set=-sys_module,-sys_time,-sys_boot \
    chroot . /lib/systemd/systemd --system --unit=basic.target
"""


class Machine:
    """A context manager: it runs from `__enter__` to `__exit__`."""

    def __enter__(self) -> Machine:
        self.directory = Path(tempfile.mkdtemp(prefix="uproar-machine-"))
        hierarchy = Path("/sys/fs/cgroup/systemd")
        hierarchy = hierarchy if hierarchy.is_dir() else Path("/sys/fs/cgroup")
        self.group = hierarchy / self.directory.name
        self.group.mkdir()
        self.log = (self.directory.with_suffix(".log")).open("w+b")
        # Enters its group before it makes the namespace of groups, whose root that becomes.
        enter = f'echo $$ > {self.group}/cgroup.procs; exec "$@"'
        namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--net", "--uts", "--ipc", "--cgroup"]
        self.process = subprocess.Popen(
            ["sh", "-c", enter, "sh", *namespaces, "sh", "-c", SETUP, "sh", str(self.directory)],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
        )
        self.init = 0
        deadline = time.monotonic() + START_SECONDS_MAX
        while self.init == 0 or "active" != self.run("systemctl", "is-active", "basic.target", check=False).strip():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.05)
            children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            if children and Path(f"/proc/{children[0]}/comm").read_text() == "systemd\n":
                self.init = int(children[0])
        return self

    def __exit__(self, *_exception: object) -> None:
        # With process 1, the kernel ends all others of the machine.
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.init or self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.log.close()
        for path, directories, _ in os.walk(self.group, topdown=False):
            for name in directories:
                remove_group(Path(path) / name)
        remove_group(self.group)
        self.directory.rmdir()
        self.directory.with_suffix(".log").unlink()

    def said(self) -> str:
        return self.directory.with_suffix(".log").read_text(errors="replace")[-3000:]

    def run(self, *command: str, check: bool = True) -> str:
        """Runs a command there as root; what it prints, both streams."""
        done = subprocess.run(
            ["nsenter", f"--target={self.init}", "--all", "--root", "--wd", *command],
            env={"PATH": os.environ["PATH"], "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert not check or done.returncode == 0, f"{command}: {done.returncode}: {done.stdout}"
        return done.stdout

    def path(self, inside: str) -> Path:
        """A file of the machine, as this process reaches it."""
        return Path(f"/proc/{self.init}/root{inside}")

    @contextlib.contextmanager
    def network(self) -> Iterator[None]:
        """Sockets that this thread makes meanwhile are the machine's; they stay so."""
        with open("/proc/self/ns/net") as here, open(f"/proc/{self.init}/ns/net") as there:
            switch(there.fileno())
            try:
                yield
            finally:
                switch(here.fileno())


def switch(namespace: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def remove_group(path: Path) -> None:
    """A group is free a moment after its last process."""
    deadline = time.monotonic() + START_SECONDS_MAX
    while True:
        try:
            return path.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
