"""A service manager in little: it keeps listening sockets while no server runs, as systemd's descriptor store does.

It has a NOTIFY_SOCKET, keeps what comes with FDSTORE=1 under its FDNAME, and passes all of it to the next start in
any order, with LISTEN_FDS. As a program it takes orders as lines of JSON for the tests in Node, which cannot receive
descriptors.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable

# What sd_listen_fds(3) asks for: the descriptors from 3 on, and the process id that only the process itself knows.
EXECUTE = """
import fcntl, os, sys
numbers, names, command = sys.argv[1].split(","), sys.argv[2], sys.argv[3:]
high = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 2000) for number in numbers if number]
for place, number in enumerate(high, 3):
    os.dup2(number, place, inheritable=True)
os.closerange(3 + len(high), 4096)
if high:
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(high)), LISTEN_FDNAMES=names)
if "WATCHDOG_USEC" in os.environ:
    os.environ["WATCHDOG_PID"] = str(os.getpid())
os.execvp(command[0], command)
"""
MESSAGE_BYTES_MAX = 4096
DESCRIPTORS_MAX = 16
WAIT_SECONDS = 60.0


class DescriptorStore:
    """Keeps sockets by name, and all that the server said; starts one process at a time."""

    def __init__(self, heard: Callable[[dict[str, str]], None] = lambda _: None) -> None:
        self.directory = tempfile.TemporaryDirectory(prefix="uproar-store-")
        self.path = os.path.join(self.directory.name, "notify")
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind(self.path)
        self.kept: list[tuple[str, int]] = []
        # Every message, in order, with the time at which it came.
        self.said: list[tuple[float, str]] = []
        self.heard = heard
        self.changed = threading.Condition()
        self.process: subprocess.Popen[bytes] | None = None
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self) -> None:
        while True:
            with contextlib.suppress(OSError):
                space = socket.CMSG_LEN(DESCRIPTORS_MAX * 4)
                text, control, _, _ = self.manager.recvmsg(MESSAGE_BYTES_MAX, space)
                descriptors = array.array("i")
                for level, kind, data in control:
                    if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                        descriptors.frombytes(data[: len(data) // 4 * 4])
                self.take(text.decode(), list(descriptors))

    def take(self, text: str, descriptors: list[int]) -> None:
        message = dict(line.split("=", 1) for line in text.split("\n"))
        with self.changed:
            self.said.append((time.monotonic(), text))
            if message.get("FDSTORE") == "1":
                held = {os.fstat(number).st_ino for _, number in self.kept}
                for number in descriptors:
                    if os.fstat(number).st_ino in held:
                        os.close(number)
                    else:
                        self.kept.append((message["FDNAME"], number))
            elif message.get("FDSTOREREMOVE") == "1":
                for name, number in self.kept:
                    if name == message["FDNAME"]:
                        os.close(number)
                self.kept = [pair for pair in self.kept if pair[0] != message["FDNAME"]]
            self.changed.notify_all()
        self.heard(message)

    def names(self) -> list[str]:
        with self.changed:
            return sorted(name for name, _ in self.kept)

    def set_backlog(self, backlog: int) -> None:
        """From now on, and until the next server listens, the kernel queues no more than so many."""
        for _, number in self.kept:
            with socket.socket(fileno=os.dup(number)) as kept:
                kept.listen(backlog)

    def launch(self, command: list[str], watchdog: float | None = None, **popen) -> subprocess.Popen:
        """Starts a server with all that is kept, in random order."""
        with self.changed:
            passed = random.sample(self.kept, len(self.kept))
        environment = {**os.environ, "NOTIFY_SOCKET": self.path}
        if watchdog:
            environment["WATCHDOG_USEC"] = str(int(watchdog * 1e6))
        names = ":".join(name for name, _ in passed)
        numbers = ",".join(str(number) for _, number in passed)
        self.process = subprocess.Popen(
            [sys.executable, "-c", EXECUTE, numbers, names, *command],
            pass_fds=[number for _, number in passed],
            env=environment,
            stdin=subprocess.DEVNULL,
            **popen,
        )
        return self.process

    def await_said(self, text: str, count: int = 1) -> float:
        """Waits until a message was said so often; when it was."""
        with self.changed:
            def found() -> list[float]:
                return [at for at, said in self.said if text in said.split("\n")]

            assert self.changed.wait_for(lambda: len(found()) >= count, WAIT_SECONDS), self.said
            return found()[count - 1]

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(WAIT_SECONDS)

    def close(self) -> None:
        """Ends the server, and closes what is kept."""
        if self.process is not None and self.process.poll() is None:
            self.end(signal.SIGKILL)
        for _, number in self.kept:
            os.close(number)
        self.kept = []
        self.directory.cleanup()


def main() -> None:
    """Orders as JSON lines: {"start": COMMAND}, {"end": SIGNAL}, {"backlog": N}; the end of input ends all."""

    def say(what: dict) -> None:
        print(json.dumps(what), flush=True)

    store = DescriptorStore(heard=lambda message: say({"said": message}))
    for line in sys.stdin:
        order = json.loads(line)
        if "start" in order:
            with open(order["log"], "ab") as log:
                process = store.launch(order["start"], stdout=log, stderr=log)
            say({"started": process.pid})
        elif "end" in order:
            code = store.end(order["end"])
            say({"ended": code, "kept": store.names()})
        elif "backlog" in order:
            store.set_backlog(order["backlog"])
            say({"backlog": order["backlog"]})
    store.close()


if __name__ == "__main__":
    main()
