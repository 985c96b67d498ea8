"""The examples of a server per test, run as they are; those for a container runtime are checked as text, and run by tests/packages."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys

import pytest
import yaml

from paths import BINARY
from test_examples import CLIENTS, EXAMPLES

ENVIRONMENT = {**os.environ, "UPROAR": str(BINARY)}


def test_the_pytest_suite():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(EXAMPLES / "pytest")]
    done = subprocess.run(
        [*command, str(EXAMPLES / "pytest")], capture_output=True, text=True, timeout=300, env=ENVIRONMENT
    )
    assert done.returncode == 0 and "5 passed" in done.stdout, done.stdout + done.stderr


def test_the_node_suite(tmp_path):
    """Method: copied beside installed SDKs, as `npm install` leaves them."""
    (tmp_path / "node_modules").symlink_to(CLIENTS / "node_modules")
    for file in (EXAMPLES / "node-test").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    major = int(subprocess.run(["node", "--version"], capture_output=True, text=True).stdout[1:].split(".")[0])
    flags = ["--experimental-websocket"] if major < 22 else []
    command = ["node", *flags, "--test", str(tmp_path / "chat.test.mjs")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=ENVIRONMENT)
    assert done.returncode == 0 and re.search(r"pass 3\b", done.stdout), done.stdout + done.stderr


def uproar_lines(text: str) -> list[str]:
    """What the file has `uproar` do: its arguments from `dev` on."""
    return re.findall(r"\bdev((?: --[a-z-]+(?: open)?)+)", text)


@pytest.mark.parametrize("name", ["github-actions.yml", "testcontainers_chat.py"])
def test_files_for_containers_have_no_mistake_that_text_can_show(name):
    """Goal: they parse, and `dev` takes the flags that they pass. tests/packages runs them."""
    text = (EXAMPLES / "ci" / name).read_text()
    if name.endswith(".py"):
        ast.parse(text)
    else:
        for job in yaml.safe_load(text)["jobs"].values():
            assert job["runs-on"] and all("uses" in step or "run" in step for step in job["steps"])
            for step in job["steps"]:
                checked = subprocess.run(["bash", "-n", "-c", re.sub(r"\$\{\{.*?\}\}", "x", step.get("run", ""))])
                assert checked.returncode == 0, step
    lines = uproar_lines(text)
    assert lines, "it starts a server"
    for line in lines:
        taken = subprocess.run(
            [str(BINARY), "dev", *line.split(), "--print-config"], capture_output=True, text=True, timeout=60
        )
        assert taken.returncode == 0 and "0.0.0.0:8081" in taken.stdout, taken.stderr
