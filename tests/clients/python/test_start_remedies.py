"""A failed start names value, limit and remedy, and its exit code says what kind of failure it was."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from uproar import BINARY, Server

FORBID = Path(__file__).with_name("forbid.py")
EXIT_SECONDS_MAX = 60


def failed_start(server: Server, exit_code: int) -> str:
    server.launch()
    try:
        code = server.process.wait(EXIT_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        server.kill()
        pytest.fail(f"the server did not exit:\n{server.log()}")
    assert code == exit_code, (code, server.log())
    assert "panicked" not in server.log(), server.log()
    return server.log()


def uproar(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BINARY), *arguments],
        capture_output=True,
        text=True,
        timeout=EXIT_SECONDS_MAX,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (errno.EPERM, "seccomp"),
        (errno.ENOSYS, "seccomp"),
        (errno.ENOMEM, "memlock"),
        (errno.EINVAL, "6.1"),
        (errno.EMFILE, "nofile"),
    ],
)
def test_a_refused_ring_is_explained(tmp_path, error, remedy):
    wrapper = (sys.executable, str(FORBID), str(error))
    log = failed_start(Server(tmp_path, wrapper=wrapper, extra=("--io", "io_uring")), 1)
    assert "io_uring cannot be used" in log
    assert 'io = "epoll"' in log
    assert os.strerror(error) in log
    assert remedy in log.lower()


def test_a_taken_port_names_its_flag_and_exits_three(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for which, flag in [
            ("messaging_port", "--messaging-listen"),
            ("control_port", "--control-listen"),
        ]:
            log = failed_start(Server(tmp_path / which, **{which: port}), 3)
            assert f"127.0.0.1:{port} ({flag})" in log
            assert "ss -ltnp" in log


def test_a_locked_directory_names_who_has_it(tmp_path):
    with Server(tmp_path) as first:
        log = failed_start(Server(tmp_path), 1)
        assert f"process {first.process.pid}" in log
        assert "--data-dir" in log


def test_too_few_descriptors_name_both_figures(tmp_path):
    log = failed_start(Server(tmp_path, wrapper=("prlimit", "--nofile=300:300")), 1)
    # 512, and 16 for each of two shards.
    assert "is 300, at least 544 are needed" in log
    assert "LimitNOFILE=" in log


def test_every_core_of_a_large_machine_gets_its_descriptors(tmp_path):
    """Many shards within a small limit: refused before anything starts, not half-way."""
    server = Server(tmp_path, wrapper=("prlimit", "--nofile=1024:1024"))
    server.command[server.command.index("--shards") + 1] = "64"
    assert "is 1024, at least 1536 are needed" in failed_start(server, 1)


def test_a_bad_certificate_is_named(tmp_path):
    (tmp_path / "cert.pem").write_text("no certificate")
    config = tmp_path / "uproar.toml"
    config.write_text(
        f'[tls]\ncertificate = "{tmp_path}/cert.pem"\nkey = "{tmp_path}/cert.pem"\n'
        '[[keys]]\nid = "AKIDEXAMPLE000000001"\nsecret = "0123456789abcdef"\n'
    )
    check = uproar("config", "check", str(config))
    assert check.returncode == 2
    assert f"{tmp_path}/cert.pem" in check.stderr and "PEM" in check.stderr
    log = failed_start(Server(tmp_path / "data", extra=("--config", str(config))), 2)
    assert f"{tmp_path}/cert.pem" in log


def test_a_config_is_checked_and_shown(tmp_path):
    config = tmp_path / "uproar.toml"
    key = '[[keys]]\nid = "AKIDEXAMPLE000000001"\nsecret = "0123456789abcdef"\n'
    config.write_text(f"[tokens]\nlife_minutes = 30\n{key}")
    check = uproar("config", "check", str(config))
    assert (check.returncode, check.stdout) == (0, "valid\n"), check.stderr
    shown = uproar(
        *("serve", "--config", str(config), "--shards", "3", "--print-config"),
        UPROAR_DELIVERY__PACE_CEILING_MS="20",
    )
    assert shown.returncode == 0, shown.stderr
    for line in [
        f"life_minutes = 30 # file {config}",
        "pace_ceiling_ms = 20 # environment UPROAR_DELIVERY__PACE_CEILING_MS",
        "shards = 3 # flag --shards",
        'account = "123456789012" # default',
    ]:
        assert line in (" ".join(row.split()) for row in shown.stdout.splitlines())
    assert "0123456789abcdef" not in shown.stdout

    config.write_text(f"[token]\nlife_minutes = 30\n{key}")
    check = uproar("config", "check", str(config))
    assert check.returncode == 2
    assert "[token] is not known" in check.stderr and "did you mean [tokens]?" in check.stderr
    assert str(config) in check.stderr


def test_misspelt_flags_and_variables_get_a_guess():
    flag = uproar("dev", "--shrads", "1")
    assert flag.returncode == 2 and "--shards" in flag.stderr
    variable = uproar("dev", "--print-config", UPROAR_SERVER_SHARDS="1")
    assert variable.returncode == 2 and "UPROAR_SERVER__SHARDS" in variable.stderr


def test_help_tells_the_exit_codes():
    for command in ([], ["serve"], ["dev"]):
        shown = uproar(*command, "--help")
        assert shown.returncode == 0
        assert "Exit codes:" in shown.stdout
