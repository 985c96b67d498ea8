"""The files of deploy/ are what systemd and the kernel take."""

from __future__ import annotations

import errno
import json
import re
import subprocess
import sys
from pathlib import Path

from rawws import WebSocket
from uproar import BINARY, REPOSITORY, Server

DEPLOY = REPOSITORY / "deploy"


def test_systemd_has_nothing_to_say_about_the_unit(tmp_path):
    """The unit with the path of the binary under test: that of an installation is not there."""
    text = (DEPLOY / "uproar.service").read_text()
    assert "/usr/local/bin/uproar" in text
    unit = tmp_path / "uproar.service"
    unit.write_text(text.replace("/usr/local/bin/uproar", str(BINARY)))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    ours = [line for line in done.stderr.splitlines() if "uproar" in line]
    assert (done.returncode, ours) == (0, []), done.stderr


def test_the_unit_is_as_closed_as_it_was():
    """systemd's own judgement of what a stranger in the process could reach: 0 (nothing) to 10."""
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", DEPLOY / "uproar.service"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-500:] + done.stderr


def test_each_kernel_setting_is_one_that_tuning_md_explains():
    tuning = (REPOSITORY / "tuning.md").read_text()
    lines = (DEPLOY / "60-uproar.conf").read_text().splitlines()
    settings = [line.split(" = ") for line in lines if line and not line.startswith("#")]
    assert len(settings) > 3
    for name, value in settings:
        assert int(value) >= 0
        assert f"`{name}`" in tuning, name


# -- the seccomp profile of containers --

PROFILE = DEPLOY / "seccomp-uproar.json"
IO_URING = ["io_uring_setup", "io_uring_enter", "io_uring_register"]


def test_the_profile_allows_io_uring_and_no_more_than_it_names():
    """Goal: what Docker, Podman and containerd read: forbidden by default, the three calls among those allowed, none of the
    calls that lead out of a container."""
    profile = json.loads(PROFILE.read_text())
    assert (profile["defaultAction"], profile["defaultErrnoRet"]) == ("SCMP_ACT_ERRNO", errno.EPERM)
    assert {arch["architecture"] for arch in profile["archMap"]} == {"SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"}
    allowed = [name for rule in profile["syscalls"] for name in rule["names"]]
    assert all(rule["action"] == "SCMP_ACT_ALLOW" for rule in profile["syscalls"])
    assert len(allowed) == len(set(allowed))
    assert set(IO_URING) <= set(allowed)
    dangerous = {"bpf", "mount", "setns", "unshare", "ptrace", "kexec_load", "init_module", "keyctl", "reboot", "userfaultfd"}
    assert not dangerous & set(allowed)


def test_a_server_runs_on_io_uring_under_the_profile(tmp_path):
    """Goal: the profile is enough for the server, for `uproar upgrade` and for a drain. Method: the kernel enforces it."""
    wrapper = (sys.executable, str(Path(__file__).with_name("seccomp_profile.py")), str(PROFILE))
    with Server(tmp_path, wrapper=wrapper, extra=("--io", "io_uring")) as server:
        arn = server.boto_cached.create_room(name="kept", maximumMessageRatePerSecond=100)["arn"]
        viewer = WebSocket(server.messaging_port, server.token(arn, "bob"))
        for turn in range(2):
            viewer.say(f"hello {turn}", f"r{turn}")
            assert viewer.receive()["Content"] == f"hello {turn}"
            if turn == 0:
                assert server.upgrade().viewers == 1
        assert 'uproar_io_info{backend="io_uring"} 1' in server.metrics()
        assert server.stop() == 0


# -- dashboard and alerts --


def figures() -> set[str]:
    """What docs/metrics.md lists, under the names of the series."""
    table = (REPOSITORY / "docs" / "metrics.md").read_text()
    names = set()
    for name, kind in re.findall(r"^\| `(\w+)` \| (\w+) \|", table, re.M):
        name = name if name.startswith("process_") else f"uproar_{name}"
        parts = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}
        names |= {name + part for part in parts.get(kind, ("",))}
    assert len(names) > 80
    return names


def used(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:uproar|process)_\w+", expression))


def test_each_panel_of_the_dashboard_shows_figures_that_exist(tmp_path):
    """Goal: no panel is empty because a figure has another name; each query is one that Prometheus takes. Method: the
    names against docs/metrics.md, the queries through promtool as rules."""
    dashboard = json.loads((DEPLOY / "grafana.json").read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert len(panels) > 20 and len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    queries += [annotation["expr"] for annotation in dashboard["annotations"]["list"]]
    known = figures()
    for query in queries:
        assert used(query) and used(query) <= known, (query, used(query) - known)
    rules = [
        {"record": f"panel:{number}", "expr": query.replace("$__rate_interval", "1m").replace("$instance", ".*")}
        for number, query in enumerate(queries)
    ]
    file = tmp_path / "panels.json"
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]


def test_each_alert_is_of_figures_that_exist_and_is_tested():
    """Goal: an alert fires when it should and is silent beside that. Method: promtool's unit tests, which name each."""
    rules, tests = ((DEPLOY / name).read_text() for name in ("alerts.yml", "alerts.test.yml"))
    known = figures()
    for expression in re.findall(r"^ +expr: (.*)$", rules, re.M):
        assert used(expression) <= known, (expression, used(expression) - known)
    for alert in re.findall(r"- alert: (\w+)", rules):
        assert f"alertname: {alert} " in tests, f"{alert} is not tested"
    for command in (["check", "rules", DEPLOY / "alerts.yml"], ["test", "rules", DEPLOY / "alerts.test.yml"]):
        done = subprocess.run(["promtool", *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
