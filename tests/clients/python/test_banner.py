"""What `uproar dev` prints, and what its page's code tab shows, can be pasted: into a shell, and into Python."""

from __future__ import annotations

import json
import os
import re
import ssl
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from uproar import BINARY, Server

TOOLS = f"{Path(sys.executable).parent}:{BINARY.parent}:{os.environ['PATH']}"


PAGE = Path(__file__).parents[3] / "src/server/demo/code.js"


@pytest.fixture(params=["plain", "tls"])
def server(request, tmp_path):
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
        server.await_log("Ctrl-C")
        yield server
    finally:
        code = server.stop()
    assert code == 0, server.log()


@pytest.fixture
def banner(server):
    """The banner's text, without its indentation."""
    return re.sub(r"^  ", "", server.log(), flags=re.MULTILINE)


@pytest.fixture
def snippets(server, banner) -> dict[str, str]:
    """What the page's code tab shows, by title: what its own script makes of what the server tells it."""
    page = re.search(r"^Chat now +(\S+)$", banner, flags=re.MULTILINE)[1]
    certificate = server.data_dir / "dev-cert.pem"
    trust = ssl.create_default_context(cafile=certificate) if page.startswith("https") else None
    with urllib.request.urlopen(f"{page}demo/token?user=u", timeout=30, context=trust) as answer:
        ticket = answer.read().decode()
    script = (
        f"globalThis.location = new URL({json.dumps(page)});"
        f"const {{ snippets }} = await import('file://{PAGE}');"
        f"console.log(JSON.stringify(snippets({ticket})));"
    )
    node = ["node", "--input-type=module", "-e", script]
    shown = subprocess.run(node, capture_output=True, text=True, timeout=60, check=True)
    return dict(json.loads(shown.stdout))


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


def test_it_fits_a_terminal(server, banner):
    """Goal: a newcomer reads it at a glance; paths of this machine aside, no line wraps."""
    text = banner[banner.index("Uproar is ready") :].splitlines()
    text = [line for line in text if not line.startswith("{")]
    assert len(text) <= 16, text
    own = str(server.data_dir)
    wide = [line for line in text if len(line) > 78 and own not in line and "Served with" not in line]
    assert wide == []


def test_the_shell_snippet_works(snippets):
    script = snippets["Shell: AWS CLI and every SDK"]
    assert '"lobby"' in paste(f"set -e\n{script}", "bash")


def test_the_python_snippet_works(snippets):
    # The certificate, if there is one, comes by the environment.
    exports = lines(snippets["Shell: AWS CLI and every SDK"], "export ")
    script = snippets["Python"]
    assert len(paste(f"{exports}\nexec python3 - <<'END'\n{script}\nEND", "bash").strip()) > 80


def test_the_token_snippet_works(snippets):
    assert len(paste(snippets["A token without the API"], "bash").strip()) > 80


def test_the_terminal_snippet_names_this_program(server, snippets):
    say = snippets["In a terminal: what happens here, live"].splitlines()[-1]
    assert say.startswith(f"{BINARY} send ")
    paste(say, "bash")
