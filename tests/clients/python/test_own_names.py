"""Amazon's names taken over in one's own DNS, with a private CA: the official clients need no other change.

Method: `unshare` gives a network whose port 443 is free and an `/etc/hosts` for the test alone; the clients are what
they are, without an endpoint, an address or a line of code about this server.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from aws import make_certificate
from uproar import REGION

HERE = Path(__file__).parent
NAMES = (f"ivschat.{REGION}.amazonaws.com", f"edge.ivschat.{REGION}.amazonaws.com")
# Without root the rights to mount and to bind come from a user namespace.
UNSHARE = ["unshare", "--map-root-user", "--net", "--mount", "--fork", "--kill-child"]


def allowed() -> bool:
    if not shutil.which("unshare") or not shutil.which("ip"):
        return False
    return subprocess.run([*UNSHARE, "true"], capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    if not allowed():
        pytest.skip("this user may not have namespaces of its own (`unshare --map-root-user --net --mount`)")
    directory = tmp_path_factory.mktemp("names")
    make_certificate(*(directory / name for name in ("ca.pem", "cert.pem", "key.pem")), names=NAMES)
    (directory / "data").mkdir()
    (directory / "hosts").write_text(
        f"127.0.0.1 localhost\n127.0.0.2 {NAMES[0]}\n127.0.0.3 {NAMES[1]}\n"
    )
    done = subprocess.run(
        [*UNSHARE, sys.executable, str(HERE / "own_names.py"), str(directory)],
        capture_output=True, text=True, timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_boto3_needs_the_name_and_the_ca(results):
    code, out, error = results["boto3"]
    assert code == 0, error
    assert out.strip() == f"https://{NAMES[0]}"
    code, _, error = results["boto3 without the CA"]
    assert code != 0 and "CERTIFICATE_VERIFY_FAILED" in error


def test_the_command_line_needs_the_name_and_the_ca(results):
    code, out, error = results["aws"]
    assert code == 0, error
    assert "rooms" in json.loads(out)
    code, _, error = results["aws without the CA"]
    assert code != 0 and "CERTIFICATE_VERIFY_FAILED" in error


def test_the_javascript_clients_need_the_name_and_the_ca(results):
    """`@aws-sdk/client-ivschat` makes room and tokens, `amazon-ivs-chat-messaging` chats, by its region alone."""
    code, out, error = results["node"]
    assert code == 0, error
    assert out.strip() == f"heard hello by {NAMES[1]}"
    code, _, error = results["node without the CA"]
    assert code != 0 and "unable to verify the first certificate" in error
