"""docs/operations.md: each command runs under the shipped unit; a pod of packaging/kubernetes has the time that its drain takes."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import yaml

from rawws import WebSocket
from systemd_manager import ROOM, Manager
from test_systemd import manager  # noqa: F401
from test_systemd_store import Site
from uproar import BINARY, REPOSITORY

PAGE = (REPOSITORY / "docs" / "operations.md").read_text()
PODS = (REPOSITORY / "packaging" / "kubernetes" / "cluster.yaml").read_text()

# An administrator's shell within the manager's namespace.
SHIMS = {
    "sudo": 'exec "$@"',
    "systemctl": 'exec /usr/bin/systemctl --user "$@"',
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}[^\n]*\n(.*?)```", PAGE, re.DOTALL)


def commands() -> list[str]:
    """The page's lines for the shell, with this machine's paths."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    assert lines
    paths = {"/usr/local/bin": ROOM, "/etc/uproar": ROOM, "target/release/uproar": str(BINARY)}
    for installed, here in paths.items():
        lines = [line.replace(installed, here) for line in lines]
    return lines


def test_each_command_does_what_the_page_says(manager: Manager):  # noqa: F811
    """Method: one viewer stays through all commands. The upgrade changes the unit's main process, which runs behind the
    same filters, and keeps its sockets in the store."""
    for name, text in SHIMS.items():
        manager.write(f"/run/shims/{name}", f"#!/bin/sh\n{text}\n")
        manager.run("chmod", "+x", f"/run/shims/{name}")
    site = Site()
    manager.install(site.configuration())
    manager.systemctl("start", "uproar")
    room = site.client().create_room()["arn"]
    token = site.client().create_chat_token(
        roomIdentifier=room, userId="u", capabilities=["SEND_MESSAGE"]
    )
    viewer = WebSocket(site.messaging, token["token"])
    seen = []
    for line in commands():
        before = manager.main_pid()
        answer = manager.run("env", f"PATH=/run/shims:{ROOM}:/usr/bin:/bin", "sh", "-c", line)
        seen.append((line, answer))
        if "uproar upgrade" in line:
            after = manager.main_pid()
            assert after != before and f"process {after} serves 1 viewers" in answer, seen
            status = Path(f"/proc/{after}/status").read_text()
            assert "NoNewPrivs:\t1\n" in status and "Seccomp:\t2\n" in status
            # systemd waits for the end of its own children alone.
            assert f"\nPPid:\t{manager.process.pid}\n" in status
            assert manager.property("NFileDescriptorStore") == "3"
        elif "--notice" in line:
            assert site.status("/readyz") == 503, seen
        elif "--cancel" in line:
            assert site.status("/readyz") == 200, seen
        viewer.say(line)
        assert viewer.receive()["Content"] == line, seen
    for word in ("health", "upgrade", "reload", "drain"):
        assert any(word in line for line, _ in seen), word
    manager.systemctl("stop", "uproar")
    assert (manager.property("ActiveState"), manager.property("Result")) == ("inactive", "success")


def test_a_unit_stops_in_order_however_often_it_was_upgraded(manager: Manager):  # noqa: F811
    """Goal: systemd waits for a main process that it has not started itself. Method: a viewer must be cut at the stop, which
    takes a moment, behind one upgrade and behind two; and a program that does not exist is named."""
    site = Site()
    manager.install(site.configuration())
    upgrade = (f"{ROOM}/uproar", "upgrade", "--config", f"{ROOM}/uproar.toml")
    for upgrades in (1, 2, 1, 2):
        manager.systemctl("start", "uproar")
        viewer = WebSocket(site.messaging, site.token(site.client().create_room()["arn"]))
        for _ in range(upgrades):
            manager.run(*upgrade)
        missing = manager.run(*upgrade, "--binary", f"{ROOM}/missing", check=False)
        assert f"{ROOM}/missing cannot be started: No such file" in missing
        manager.systemctl("stop", "uproar")
        assert manager.property("Result") == "success", manager.journal()
        assert manager.property("ExecMainStatus") == "0"
        viewer.close()


def test_kubernetes_waits_for_the_whole_drain():
    """The grace period covers notice and drain, and the drain is one that the token rate of the default profile allows
    for some crowd."""
    [workload] = [each for each in yaml.safe_load_all(PODS) if each["kind"] == "StatefulSet"]
    pod = workload["spec"]["template"]["spec"]
    [container] = pod["containers"]
    variables = {each["name"]: each.get("value") for each in container["env"]}
    drain = int(variables["UPROAR_DRAIN__NOTICE_S"]) + int(variables["UPROAR_DRAIN__OVER_S"])
    assert pod["terminationGracePeriodSeconds"] == drain + 10
    assert "lifecycle" not in container
    for name, page in (("readinessProbe", "/readyz"), ("livenessProbe", "/livez")):
        assert container[name]["httpGet"]["path"] == page


PROVIDER_DRIVER = """
const calls = [];
globalThis.setTimeout = (resume, ms) => { calls.push(ms); queueMicrotask(resume); };
let left = 2;
globalThis.fetch = async () => {
  if (left > 0) { left -= 1; throw new Error("refused"); }
  return { ok: true, json: async () => ({ token: "t", tokenExpirationTime: "2030-01-01T00:00:00Z" }) };
};
const { tokenProvider } = await import(process.argv[2]);
const token = await tokenProvider();
if (token.token !== "t" || token.tokenExpirationTime.getUTCFullYear() !== 2030) throw new Error("wrong token");
if (calls.length !== 2 || calls[0] < 1000 || calls[1] < 2000) throw new Error(`impatient: ${calls}`);
left = 3;
await tokenProvider().then(() => { throw new Error("for ever"); }, () => console.log("gives up in the end"));
"""


def test_the_token_provider_is_patient(tmp_path: Path):
    """Goal: it outlasts two failures, then gives up, so that the application hears of it. Method: time without waiting."""
    [block] = blocks("js")
    (tmp_path / "provider.mjs").write_text(block)
    (tmp_path / "driver.mjs").write_text(PROVIDER_DRIVER)
    command = ["node", str(tmp_path / "driver.mjs"), str(tmp_path / "provider.mjs")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "gives up in the end\n"), done.stderr
