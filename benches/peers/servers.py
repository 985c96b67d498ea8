"""The servers of the comparison: how each is fetched, started on the first core, and ended.

All do the same work: what one member of a room says goes to all its members, that one included. All may keep
4 MiB of backlog for a connection, as Uproar's window does, before they drop messages or cut it; none sends pings
or compresses; all have Nagle's algorithm off, as their own defaults are. What else was configured is said at each.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "tests" / "clients" / "python"))
from ports import free_port  # noqa: E402

BACKLOG_BYTES_MAX = 4 << 20
# What a message counts against it, where a server counts messages: about the comparison's frames.
MESSAGE_BYTES = 400
INSTALL_SECONDS_MAX = 900
START_SECONDS_MAX = 30
STOP_SECONDS_MAX = 10
DESCRIPTORS_RESERVED = 100


class Missing(Exception):
    """A server cannot be had: why, and the command that would change it."""

    def __init__(self, reason: str, remedy: str):
        super().__init__(f"{reason.strip()}; {remedy}")


def need(*commands: str, remedy: str) -> None:
    for command in commands:
        if shutil.which(command) is None:
            raise Missing(f"{command} is not installed", remedy)


def install(command: list[str], directory: Path) -> str:
    """Runs one step of an installation; what it printed."""
    directory.mkdir(parents=True, exist_ok=True)
    try:
        run = subprocess.run(
            command, cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=INSTALL_SECONDS_MAX,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Missing(f"took longer than {INSTALL_SECONDS_MAX} s", f"to try by hand: {' '.join(command)}") from None
    if run.returncode != 0:
        last = (run.stdout.strip().splitlines() or ["it said nothing"])[-1]
        raise Missing(f"installing failed: {last}", f"to try by hand: {' '.join(command)}")
    return run.stdout


def throw_away_certificate(cache: Path) -> tuple[Path, Path]:
    """The files of an ECDSA P-256 certificate and its key, as `uproar dev --tls` has one. Raises Missing."""
    need("openssl", remedy="apt-get install openssl")
    files = cache / "tls" / "certificate.pem", cache / "tls" / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "30", "-subj", "/CN=localhost", "-out", str(files[0]), "-keyout", str(files[1])]
    install(command, cache / "tls")
    # nginx' worker and others read it; it protects nothing.
    files[1].chmod(0o644)
    return files


def output(*command: str) -> str:
    run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    return (run.stdout + run.stderr).strip()


def fill(template: str, **words: object) -> str:
    text = (HERE / template).read_text()
    for word, value in words.items():
        text = text.replace(f"<{word}>", str(value))
    assert not (left := re.findall(r"<\w+>", text)), left
    return text


def descriptors_max() -> int:
    import resource

    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


@dataclass
class Server:
    """One peer. `cache` is where installations go."""

    cache: Path
    name = ""
    note = ""
    # How `uproar bench` is told of it, and by how much its frames are longer than a message.
    flag = "--plain"
    frame_head = 4
    # Whether it speaks TLS itself, and the files of certificate and key if it is to.
    speaks_tls = False
    certificate: tuple[Path, Path] | None = None

    def install(self) -> str:
        """Makes it ready, unless it is; its version. Raises Missing."""
        raise NotImplementedError

    def command(self, port: int, directory: Path) -> list[str]:
        raise NotImplementedError

    def tls_arguments(self) -> list[str]:
        """What tells it of certificate and key: the last words of its command line."""
        return [str(file) for file in self.certificate or ()]

    def environment(self) -> dict[str, str]:
        return {}

    def serving_pid(self, pid: int) -> int:
        """The process that does the work."""
        return pid


class Npm(Server):
    package = ""

    def fetch(self) -> Path:
        home = self.cache / "npm" / self.package
        module = home / "node_modules" / self.package
        if not module.is_dir():
            need("npm", remedy="apt-get install npm")
            install(["npm", "install", "--no-audit", "--no-fund", "--prefix", ".", self.package], home)
        return home / "node_modules"

    def package_version(self, modules: Path) -> str:
        import json

        return json.loads((modules / self.package / "package.json").read_text())["version"]


class Bun(Npm):
    name = "bun"
    speaks_tls = True
    package = "bun"
    note = "server.publish, so that the speaker hears itself too"

    def install(self) -> str:
        modules = self.fetch()
        # The package's install script moves the binary there out of the platform's package, where scripts may run.
        for binary in [modules / "bun/bin/bun.exe", *sorted(modules.glob("@oven/bun-linux-*/bin/bun"))]:
            with contextlib.suppress(OSError):
                run = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=60)
                if run.returncode != 0:
                    continue
                self.binary = binary
                return f"Bun {run.stdout.strip()}"
        raise Missing("no binary of the package runs on this machine", "npm install bun")

    def command(self, port, directory):
        return [str(self.binary), str(HERE / "bun.js"), str(port), str(BACKLOG_BYTES_MAX), *self.tls_arguments()]


class Ws(Npm):
    name = "ws"
    speaks_tls = True
    package = "ws"
    note = "ws has no publish: a loop over the room's sockets, one send each"

    def install(self) -> str:
        need("node", remedy="apt-get install nodejs npm")
        self.modules = self.fetch()
        return f"ws {self.package_version(self.modules)} on Node {output('node', '--version').lstrip('v')}"

    def command(self, port, directory):
        node = shutil.which("node")
        return [node, str(HERE / "ws.mjs"), str(port), str(BACKLOG_BYTES_MAX), str(self.modules / "ws" / "x.js"), *self.tls_arguments()]


class Debian(Server):
    packages: tuple[str, ...] = ()

    def unpack(self) -> Path:
        """Fetches the packages and unpacks them into the cache: nothing of the system changes, no service starts."""
        home = self.cache / "debian"
        home.mkdir(parents=True, exist_ok=True)
        for package in self.packages:
            if list(home.glob(f"{package}_*.deb")):
                continue
            need("apt-get", "dpkg-deb", remedy="this peer comes from Debian's packages")
            if not any(Path("/var/lib/apt/lists").glob("*_Packages*")):
                if os.geteuid() != 0:
                    raise Missing("apt has no lists of packages", "as root: apt-get update")
                install(["apt-get", "update"], home)
            install(["apt-get", "download", package], home)
            install(["dpkg-deb", "-x", str(next(home.glob(f"{package}_*.deb"))), "root"], home)
        return home / "root"

    def library_path(self) -> str:
        libraries = (self.cache / "debian" / "root" / "usr" / "lib").glob("*-linux-gnu")
        return ":".join(map(str, libraries))

    def runs(self, *command: str) -> str:
        run = subprocess.run(command, capture_output=True, text=True, timeout=60)
        said = (run.stdout + run.stderr).strip()
        if run.returncode != 0:
            raise Missing(f"does not run: {said}", f"apt-get install {' '.join(self.packages)}")
        return said

    def deb_version(self, package: str) -> str:
        file = next((self.cache / "debian").glob(f"{package}_*.deb"))
        return output("dpkg-deb", "-f", str(file), "Version")


class Nats(Debian):
    name = "nats"
    packages = ("nats-server",)
    flag = "--nats"
    # "MSG r000 1", three digits, and twice CR LF.
    frame_head = 18
    note = "its own protocol over TCP: no WebSocket, no masks; frames of the same length"

    def install(self) -> str:
        self.binary = self.unpack() / "usr/sbin/nats-server"
        return f"nats-server {self.runs(str(self.binary), '--version').split('v')[-1]}"

    def command(self, port, directory):
        config = directory / "nats.conf"
        config.write_text(fill("nats.conf", port=port, backlog=BACKLOG_BYTES_MAX))
        return [str(self.binary), "-c", str(config)]


class Nchan(Debian):
    name = "nchan"
    speaks_tls = True
    packages = ("nginx", "libnginx-mod-nchan")
    note = "one worker, memory store, messages kept up to the backlog"

    def install(self) -> str:
        root = self.unpack()
        self.binary = root / "usr/sbin/nginx"
        self.module = root / "usr/lib/nginx/modules/ngx_nchan_module.so"
        version = self.runs(str(self.binary), "-v").split("/")[-1]
        # Its default for temporary files, which this module makes whatever the configuration says.
        try:
            Path("/var/lib/nginx").mkdir(exist_ok=True)
        except PermissionError:
            raise Missing("nginx wants /var/lib/nginx", "as root: mkdir /var/lib/nginx") from None
        return f"nchan {self.deb_version('libnginx-mod-nchan')} in nginx {version}"

    def command(self, port, directory):
        # The worker gives up root's rights and still has to write there.
        directory.chmod(0o755)
        config = directory / "nginx.conf"
        words = {
            "module": self.module,
            "descriptors": descriptors_max() - DESCRIPTORS_RESERVED,
            "directory": directory,
            "port": port,
            "ssl": " ssl" if self.certificate else "",
            "certificate": self.certificate_lines(),
            "messages": BACKLOG_BYTES_MAX // MESSAGE_BYTES,
        }
        config.write_text(fill("nginx.conf", **words))
        return [str(self.binary), "-p", str(directory), "-e", str(directory / "error.log"), "-c", str(config)]

    def certificate_lines(self) -> str:
        if self.certificate is None:
            return "# Without TLS."
        certificate, key = self.certificate
        return f"ssl_certificate {certificate};\n        ssl_certificate_key {key};\n        ssl_protocols TLSv1.3;"

    def serving_pid(self, pid):
        # The listener is open before there is a worker.
        deadline = time.monotonic() + START_SECONDS_MAX
        while not (workers := children(pid)):
            if time.monotonic() > deadline:
                raise RuntimeError("nginx has no worker")
            time.sleep(0.02)
        return workers[0]


class Uws(Debian):
    name = "uws"
    speaks_tls = True
    packages = ("libuv1",)
    note = "through socketify: Python runs once a message, uWebSockets' own code once a delivery; app.publish"

    def install(self) -> str:
        self.unpack()
        home = self.cache / "python"
        self.python = home / "bin" / "python"
        if not list(home.glob("lib/python*/site-packages/socketify")):
            install([sys.executable, "-m", "venv", str(home)], self.cache)
            install([str(self.python), "-m", "pip", "install", "--quiet", "socketify"], self.cache)
        run = subprocess.run(
            [self.python, "-c", "import importlib.metadata as m, socketify; print(m.version('socketify'))"],
            env=os.environ | self.environment(), capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        if run.returncode != 0:
            raise Missing(f"does not run: {run.stderr.strip().splitlines()[-1]}", "apt-get install libuv1; pip install socketify")
        return f"uWebSockets in socketify {run.stdout.strip()}"

    def environment(self):
        return {"LD_LIBRARY_PATH": self.library_path()}

    def command(self, port, directory):
        return [str(self.python), str(HERE / "uws.py"), str(port), str(BACKLOG_BYTES_MAX), *self.tls_arguments()]


class Crate(Server):
    crate = ""

    def install(self) -> str:
        need("cargo", remedy="a Rust toolchain builds it")
        target = self.cache / "rust"
        manifest = HERE / "rust" / "Cargo.toml"
        command = ["cargo", "build", "--release", "--locked", "--manifest-path", str(manifest), "--target-dir", str(target)]
        command += ["--bin", self.name]
        install(command, HERE / "rust")
        self.binary = target / "release" / self.name
        lock = (HERE / "rust" / "Cargo.lock").read_text()
        version = re.search(rf'name = "{self.crate}"\nversion = "([^"]+)"', lock)
        return f"{self.crate} {version[1]}"

    def command(self, port, directory):
        return [str(self.binary), str(port), str(BACKLOG_BYTES_MAX), *self.tls_arguments()]


class Tungstenite(Crate):
    name = "tungstenite"
    speaks_tls = True
    crate = "tokio-tungstenite"
    note = "one thread, a task a connection, a broadcast ring a room, what is pending fed and flushed once"


class Fastwebsockets(Crate):
    name = "fastwebsockets"
    crate = "fastwebsockets"
    note = "the same; hyper shakes hands, what is pending is written at once"


# The first is what ratios refer to.
PEERS: tuple[type[Server], ...] = (Bun, Uws, Nats, Nchan, Tungstenite, Fastwebsockets, Ws)


def children(pid: int) -> list[int]:
    with contextlib.suppress(FileNotFoundError):
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def stop(process: subprocess.Popen) -> None:
    """Ends a process, and those it started, by their ids."""
    started = children(process.pid)
    process.terminate()
    try:
        process.wait(STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pid in started:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


@contextlib.contextmanager
def started(server: Server):
    """The server's address and the process to look at; ended afterwards."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="uproar-peer-") as name:
        directory = Path(name)
        with open(directory / "log", "wb") as log:
            process = subprocess.Popen(
                ["taskset", "-c", "0", *server.command(port, directory)], cwd=directory, stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT, env=os.environ | server.environment(),
            )  # fmt: skip
        try:
            wait_ready(process, port, directory / "log")
            yield f"127.0.0.1:{port}", server.serving_pid(process.pid)
        finally:
            stop(process)


def wait_ready(process: subprocess.Popen, port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if process.poll() is not None:
            break
        time.sleep(0.02)
    raise RuntimeError(f"did not start: {log.read_text(errors='replace')[-500:].strip()}")
