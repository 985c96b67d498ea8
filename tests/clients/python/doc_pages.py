"""The code of the documentation's pages, and a machine on which a page is followed from its top to its end.

The word behind the language of a fenced block says what becomes of it:

    ```sh serves            starts the page's server
    ```sh run               runs; so do `python` and `js`
    ```toml file NAME       is a file of the reader's directory
    ```toml config          is a configuration that a start accepts
    ```sh by test_x.py      another test runs it
    ```sh shown WHY         is only shown
    # prints TEXT           in `sh run`: what the block must have printed; spaces do not count, and … stands for anything
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from ports import free_port
from uproar import BINARY, REPOSITORY

# A hang ends here; nothing else is judged by it.
WAIT_SECONDS = 120
CODE = {"sh", "python", "js", "javascript", "toml", "haproxy", "nginx", "yaml"}
MODULES = REPOSITORY / "tests" / "clients" / "node_modules"


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    page: Path
    line: int
    language: str
    fate: str
    argument: str
    text: str
    # The paragraph before it.
    above: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(REPOSITORY)}:{self.line}"


def pages() -> list[Path]:
    return [REPOSITORY / "README.md", REPOSITORY / "tuning.md", *sorted((REPOSITORY / "docs").glob("*.md"))]


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    found = []
    for match in re.finditer(r"(?m)^```(\w*)(.*)\n((?:.*\n)*?)```$", text):
        language, words, code = match.groups()
        fate, _, argument = words.strip().partition(" ")
        line = text[: match.start()].count("\n") + 1
        above = text[: match.start()].rstrip().rpartition("\n\n")[2]
        found.append(Block(page, line, language, fate, argument, code, above))
    return found


class Machine:
    """A reader's machine: a directory, a shell whose variables stay, and at most one server."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.messaging, self.control = free_port(), free_port()
        self.handler = free_port()
        self.paths = {
            "127.0.0.1:8080": f"127.0.0.1:{self.messaging}",
            "127.0.0.1:8081": f"127.0.0.1:{self.control}",
            "127.0.0.1:9000": f"127.0.0.1:{self.handler}",
            '"127.0.0.1", 9000': f'"127.0.0.1", {self.handler}',
            "127.0.0.1:8090": f"127.0.0.1:{free_port()}",
            "cargo run --release -- ": "uproar ",
            "/etc/uproar": str(directory / "etc"),
            # The data of `uproar dev` stands for those of an installed server.
            "/var/lib/uproar": str(directory / "uproar-dev"),
        }
        self.sessions: list[subprocess.Popen[bytes]] = []
        (directory / "etc").mkdir()
        (directory / "node_modules").symlink_to(MODULES)
        for name in ("examples", "deploy"):
            (directory / name).symlink_to(REPOSITORY / name)
        self.shim("uproar", f'exec {BINARY} "$@"')
        self.shim("sudo", 'if [ "$1" = -u ]; then shift 2; fi; exec "$@"')
        # Node 20 hides the constructor that browsers and Node 22 have.
        self.shim("node", f'exec {shutil.which("node")} --experimental-websocket --no-warnings "$@"')
        # What they install is there: `tests/run` has fetched it.
        self.shim("pip", "exit 0")
        self.shim("npm", "exit 0")
        self.environment = {
            "PATH": f"{directory / 'bin'}:{Path(sys.executable).parent}:/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": str(directory),
            "XDG_RUNTIME_DIR": str(directory),
        }
        self.variables = directory / "variables.sh"
        self.variables.write_text("")

    def shim(self, name: str, text: str) -> None:
        path = self.directory / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def here(self, text: str) -> str:
        """The page's text with this machine's addresses and paths."""
        for usual, own in self.paths.items():
            text = text.replace(usual, own)
        return text

    def follow(self, block: Block) -> None:
        text = self.here(block.text)
        match block.fate:
            case "run":
                self.run(block, text)
            case "serves":
                self.serve(block, text)
            case "file":
                path = self.directory / self.here(block.argument)
                path.parent.mkdir(exist_ok=True, parents=True)
                path.write_text(text)
            case "config":
                self.check(block, text)
            case "" if block.language in ("haproxy", "nginx"):
                judge(block, text, self.directory)

    def start(self, block: Block, script: str) -> Path:
        """Starts a script in a session of its own; returns the file of what it prints."""
        printed = self.directory / f"printed-{len(self.sessions)}"
        script = f"set -euo pipefail; set -a; . {self.variables}\n{script}\nexport -p > {self.variables}\n"
        with printed.open("wb") as out:
            command = ["bash", "-c", script]
            self.sessions.append(
                subprocess.Popen(
                    command,
                    cwd=self.directory,
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    start_new_session=True,
                )
            )
        return printed

    def run(self, block: Block, text: str) -> None:
        script = text
        if block.language != "sh":
            program, ending = ("python3", "py") if block.language == "python" else ("node", "mjs")
            (self.directory / f"block-{block.line}.{ending}").write_text(text)
            script = f"{program} block-{block.line}.{ending}"
        printed = self.start(block, script)
        code = self.sessions[-1].wait(WAIT_SECONDS)
        said = printed.read_text(errors="replace")
        assert code == 0, f"{block}: exit {code}\n{text}\n{said[-4000:]}\n{self.log()}"
        for wanted in re.findall(r"# prints (.*)", text):
            pattern = ".*".join(map(re.escape, re.sub(r"\s", "", wanted).split("…")))
            assert re.search(pattern, re.sub(r"\s", "", said)), f"{block}: {wanted!r} is not in\n{said[-4000:]}"

    def serve(self, block: Block, text: str) -> None:
        """Starts the page's server, on this machine's ports; until it is ready."""
        ports = f"UPROAR_MESSAGING__LISTEN=127.0.0.1:{self.messaging} UPROAR_CONTROL__LISTEN=127.0.0.1:{self.control}"
        self.start(block, re.sub("(?m)^uproar ", f"{ports} uproar ", text))
        command = [str(BINARY), "health", "--json", "--data-dir", str(self.directory / "uproar-dev")]
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_SECONDS)
            if done.returncode == 0 and json.loads(done.stdout)["ready"]:
                return
            assert time.monotonic() < deadline, f"{done.stderr}\n{self.log()}"
            time.sleep(0.02)

    def check(self, block: Block, text: str) -> None:
        """Asks the server whether it would start with this file; those that it names are there."""
        for name in re.findall(rf'["=]({re.escape(str(self.directory))}/[^"=]+\.(?:pem|crt|key))(?=["=])', text):
            if not Path(name).exists():
                certify(Path(name).parent)
        path = self.directory / f"checked-{block.line}.toml"
        # A start refuses what a reader must put in its place.
        text = text.replace('secret = "…"', 'secret = "one-that-nobody-else-has"')
        if "[[keys]]" not in text:
            text += '[[keys]]\nid = "AKIDOFAPARTOFAFILE01"\nsecret = "a-page-shows-a-part-of-a-file"\n'
        path.write_text(text)
        done = subprocess.run([BINARY, "config", "check", path], capture_output=True, text=True, env=self.environment)
        assert done.returncode == 0, f"{block}: {done.stdout}{done.stderr}"

    def log(self) -> str:
        return "".join(path.read_text(errors="replace")[-2000:] for path in sorted(self.directory.glob("printed-*")))

    def close(self) -> None:
        for session in self.sessions:
            try:
                os.killpg(session.pid, signal.SIGTERM)
            except ProcessLookupError:
                continue
        deadline = time.monotonic() + WAIT_SECONDS
        for session in self.sessions:
            session.wait(max(deadline - time.monotonic(), 1))


def certify(directory: Path) -> None:
    """A certificate under the two names that the pages use."""
    directory.mkdir(parents=True, exist_ok=True)
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 90 -subj /CN=chat.example.org -addext subjectAltName=DNS:chat.example.org"
    command += f" -keyout {directory}/key.pem -out {directory}/cert.pem"
    subprocess.run(command.split(), check=True, capture_output=True)


def judge(block: Block, text: str, directory: Path) -> None:
    """Asks HAProxy or nginx whether they take the text, as a part of a whole configuration."""
    path = directory / f"{block.language}-{block.line}.conf"
    if block.language == "haproxy":
        head = "defaults\n timeout connect 5s\n timeout client 90s\n timeout server 90s\n"
        if "frontend" not in text:
            head += f"frontend viewers\n mode http\n bind 127.0.0.1:{free_port()}\n default_backend uproar\n"
        path.write_text(head + re.sub(r"bind :\d+", lambda _: f"bind 127.0.0.1:{free_port()}", text))
        command = ["haproxy", "-c", "-f", str(path)]
    else:
        certify(directory)
        files = f"ssl_certificate {directory}/cert.pem; ssl_certificate_key {directory}/key.pem;\n"
        text = re.sub(r"listen \d+( ssl)?;", lambda match: f"listen 127.0.0.1:{free_port()}{match[1] or ''};", text)
        logs = f"pid {directory}/pid; error_log {directory}/log;"
        path.write_text(f"{logs}\nevents {{}}\nhttp {{ access_log off; {files}\n{text}}}\n")
        command = ["nginx", "-t", "-c", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env={"PATH": "/usr/sbin:/usr/bin"})
    assert done.returncode == 0, f"{block}: {done.stdout}{done.stderr}"
