"""What is shipped without being run here: manifests of Kubernetes, the compose file, the workflow of a release, the list
of crates and the checksums. Each against the schema of those who read it, and against the server's own names."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml
from conftest import REPOSITORY, TARGET, shipped

PACKAGING = REPOSITORY / "packaging"
MANIFESTS = sorted((PACKAGING / "kubernetes").glob("*.yaml"))
WORKFLOW = REPOSITORY / ".github" / "workflows" / "release.yml"
BINARY = TARGET / "x86_64-unknown-linux-musl" / "dist" / "uproar"
VERSION = re.search(r'^version = "(.*)"', (REPOSITORY / "Cargo.toml").read_text(), re.M).group(1)


def succeeds(*command: object) -> str:
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    return done.stdout


def tool(name: str) -> Path:
    """A program of the environment that runs the tests."""
    return Path(sys.executable).with_name(name)


def resources(manifest: Path) -> list[dict]:
    return list(yaml.safe_load_all(manifest.read_text()))


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.name)
def test_kubernetes_takes_each_manifest(manifest: Path):
    """Method: Kubernetes' own schemas, unknown fields refused."""
    said = succeeds(tool("kubernetes-validate"), "--strict", manifest)
    assert said.count(" passed ") == len(resources(manifest))


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.name)
def test_a_pod_has_time_to_drain(manifest: Path):
    """Goal: the server ends by itself before Kubernetes ends it; nobody is sent to a pod that drains; the pod is what the
    Pod Security level `restricted` asks for. Method: the sums of docs/operations.md, the addresses of the image."""
    (workload,) = (each for each in resources(manifest) if each["kind"] == "StatefulSet")
    pod = workload["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    variables = {each["name"]: each.get("value") for each in container.get("env", [])}
    drain = sum(int(variables.get(f"UPROAR_DRAIN__{name}", 0)) for name in ("NOTICE_S", "OVER_S"))
    assert pod["terminationGracePeriodSeconds"] >= drain + 10
    readiness = container["readinessProbe"]
    assert readiness["httpGet"]["path"] == "/readyz" and container["livenessProbe"]["httpGet"]["path"] == "/livez"
    # A server answers a probe after LIVENESS_MAX at the latest, and says then which thread or disk stands still. Kubernetes' own
    # time-out is 1 s, after three of which a slow disk would end the pod and cut its viewers.
    assert all(container[probe]["timeoutSeconds"] > liveness_max() for probe in ("readinessProbe", "livenessProbe"))
    if drain:
        assert int(variables["UPROAR_DRAIN__NOTICE_S"]) >= 2 * readiness["periodSeconds"] * readiness["failureThreshold"]
        assert workload["spec"]["replicas"] > 1
    else:
        assert workload["spec"]["replicas"] == 1
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    image = (PACKAGING / "Containerfile").read_text()
    assert f"LISTEN=0.0.0.0:{ports['messaging']} UPROAR_CONTROL__LISTEN=0.0.0.0:{ports['control']}" in image
    user = int(re.search(r"^USER (\d+)", image, re.M).group(1))
    context = pod["securityContext"]
    assert (context["runAsNonRoot"], context["runAsUser"], context["fsGroup"]) == (True, user, user)
    assert context["seccompProfile"]["type"] == "RuntimeDefault"
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
    for service in (each for each in resources(manifest) if each["kind"] == "Service"):
        assert service["spec"]["selector"] == workload["spec"]["template"]["metadata"]["labels"]
        assert {each["targetPort"] for each in service["spec"]["ports"]} <= set(ports)


def liveness_max() -> int:
    """Seconds, as docs/limits.md has them."""
    limits = (REPOSITORY / "docs" / "limits.md").read_text()
    return int(re.search(r"^\| `LIVENESS_MAX` \| (\d+) \|", limits, re.M).group(1))


def test_compose_takes_its_file():
    file = PACKAGING / "compose.yaml"
    succeeds(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", file)
    (profile,) = re.findall(r"seccomp=(\S+)", file.read_text())
    assert json.loads((PACKAGING / profile).read_text())["syscalls"]


def test_every_file_names_the_version_that_is_built():
    for file in (*MANIFESTS, PACKAGING / "compose.yaml"):
        assert set(re.findall(r"image: uproar:(\S+)", file.read_text())) == {VERSION}, file


def test_the_release_builds_what_was_tried():
    """Goal: the workflow is one that GitHub takes, and it makes files by the script that this run has made them by."""
    succeeds(tool("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", WORKFLOW)
    steps = yaml.safe_load(WORKFLOW.read_text())["jobs"]["release"]["steps"]
    commands = "\n".join(step.get("run", "") for step in steps)
    assert "packaging/build x86_64 aarch64" in commands
    succeeds("bash", "-n", "-c", commands)


def test_a_change_is_tried_by_the_command_of_the_readme():
    workflow = WORKFLOW.with_name("test.yml")
    succeeds(tool("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", workflow)
    (step,) = (step for step in yaml.safe_load(workflow.read_text())["jobs"]["test"]["steps"] if "run" in step)
    assert step["run"].endswith("bash tests/run all")


def test_the_program_says_what_it_is():
    """Goal: version, commit, features and target, of the commit that is checked out."""
    commit = succeeds("git", "-C", REPOSITORY, "rev-parse", "--short=12", "HEAD").strip()
    said = succeeds(BINARY, "--version")
    match = re.fullmatch(r"uproar (\S+) \(commit (\w+?)(?:-dirty)?\), features cluster, x86_64-unknown-linux-musl\n", said)
    assert match and match.groups() == (VERSION, commit), said


def test_the_binary_needs_nothing_beside_it():
    """Goal: it runs on any Linux: no interpreter, no library, no debug sections."""
    headers = succeeds("readelf", "--program-headers", "--dynamic", "--section-headers", "--wide", BINARY)
    assert "INTERP" not in headers and "NEEDED" not in headers and ".debug" not in headers and ".symtab" not in headers


def test_the_archive_has_what_an_operator_needs():
    with tarfile.open(shipped("uproar-*-x86_64-linux.tar.xz")) as archive:
        names = {member.name.split("/", 1)[-1] for member in archive}
        assert all(member.uid == 0 for member in archive)
    assert {"uproar", "README.md", "LICENSE-MIT", "deploy/uproar.service", "man/uproar.1", "completions/bash"} <= names


def test_the_checksums_are_those_of_all_files():
    dist = TARGET / "packages"
    listed = {line.split()[1] for line in (dist / "SHA256SUMS").read_text().splitlines()}
    assert listed == {path.name for path in dist.iterdir()} - {"SHA256SUMS"}
    done = subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=dist, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_list_of_crates_is_that_of_the_binary():
    """Goal: each crate whose paths the binary has in its messages is on the list, with the checksum of Cargo.lock, and none
    that only tests. (CycloneDX' schema has judged the list when it was made.)"""
    bom = json.loads(shipped("uproar-*-x86_64.cdx.json").read_text())
    components = {each["name"]: each for each in bom["components"]}
    paths = r"index\.crates\.io-\w+/([a-z0-9_-]+?)-\d+\.\d+\.\d+[^/]*/"
    in_binary = set(re.findall(paths, BINARY.read_bytes().decode("latin-1")))
    assert len(in_binary) > 20 and in_binary <= set(components), in_binary - set(components)
    assert not {"proptest", "divan", "aws-sigv4", "windows-sys", "syn", "cc"} & set(components)
    lock = (REPOSITORY / "Cargo.lock").read_text()
    foreign = [each for each in bom["components"] if not each["name"].startswith("uproar")]
    assert len(foreign) > 150
    for each in foreign:
        assert each["hashes"][0]["content"] in lock and each["licenses"], each
