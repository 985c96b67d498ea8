"""What `uproar dev` prints can be pasted: into a shell, and into Python."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from uproar import BINARY, Server

CONTINUED = " " * 9
TOOLS = f"{Path(sys.executable).parent}:{BINARY.parent}:{os.environ['PATH']}"


@pytest.fixture(params=["plain", "tls"])
def banner(request, tmp_path):
    """The banner's text, without its indentation."""
    extra = ("--tls",) if request.param == "tls" else ()
    server = Server(tmp_path, extra=extra)
    # `/readyz` of a TLS server needs its certificate: the banner itself says that it is ready.
    server.launch()
    try:
        for _ in range(400):
            if "Ctrl-C" in server.log():
                break
            try:
                server.process.wait(0.05)
                break
            except subprocess.TimeoutExpired:
                pass
        text = server.log()
        assert "Ctrl-C" in text, text
        yield re.sub(r"^  ", "", text, flags=re.MULTILINE)
    finally:
        code = server.stop()
    assert code == 0, server.log()


def lines(banner: str, *starts: str) -> str:
    return "\n".join(line for line in banner.splitlines() if line.startswith(starts))


def paste(script: str, program: str) -> str:
    bare = {
        "PATH": TOOLS,
        "HOME": os.devnull,
        "AWS_PAGER": "",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    done = subprocess.run(
        [program, "-c", script], capture_output=True, text=True, timeout=60, env=bare
    )
    assert done.returncode == 0, (script, done.stdout, done.stderr)
    return done.stdout


def test_the_shell_lines_work(banner):
    exports = lines(banner, "export ")
    assert '"lobby"' in paste(f"set -e\n{exports}\naws ivschat list-rooms", "bash")


def test_the_python_lines_work(banner):
    script = lines(banner, "import boto3", "c = ", CONTINUED, "t = ") + "\nprint(t['token'])"
    # The certificate, if there is one, comes by the environment.
    exports = lines(banner, "export ")
    assert len(paste(f"{exports}\nexec python3 - <<'END'\n{script}\nEND", "bash").strip()) > 80


def test_the_token_line_works(banner):
    (line,) = re.findall(r"^A token +(\S+/uproar token create .*)$", banner, flags=re.MULTILINE)
    assert len(paste(line, "bash").strip()) > 80
