"""Completions and man pages, as the shells and `man` of this machine read them."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from uproar import BINARY


def uproar(*words: str) -> str:
    done = subprocess.run([BINARY, *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "elvish", "powershell"])
def test_each_shell_has_completions(shell, tmp_path):
    """Goal: a script that its shell takes, with every command. Where the shell is here, it reads it."""
    script = uproar("completions", shell)
    for word in ("top", "tap", "room", "cluster", "completions"):
        assert word in script
    if shutil.which(shell):
        file = tmp_path / "completions"
        file.write_text(script)
        done = subprocess.run([shell, "-n", file], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr


def test_bash_completes():
    """Goal: what a user gets for TAB. Method: the script's own function, asked as bash asks it."""
    ask = (
        'eval "$("$0" completions bash)"; COMP_WORDS=(uproar room l); COMP_CWORD=2; '
        '_uproar uproar l room; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", ask, BINARY], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["list"], (done.stdout, done.stderr)


def test_each_command_has_a_page(tmp_path):
    uproar("man", str(tmp_path))
    pages = {page.name for page in tmp_path.iterdir()}
    assert {"uproar.1", "uproar-top.1", "uproar-room-list.1", "uproar-cluster-status.1"} <= pages
    text = (tmp_path / "uproar-send.1").read_text()
    assert "Examples" in text and "uproar send lobby" in text
    if shutil.which("man"):
        done = subprocess.run(["man", "-l", "--warnings", tmp_path / "uproar-send.1"], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and not done.stderr, done.stderr


def test_a_directory_that_is_not_there_is_named(tmp_path):
    done = subprocess.run([BINARY, "man", tmp_path / "no"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and str(tmp_path / "no") in done.stderr
