"""Run by test_own_names.py in namespaces of its own: Amazon's names lead to a server here, port 443, and clients
that know nothing of it do their work. Nothing outside changes. Argument: a directory with `hosts`, the private
CA `ca.pem` and the server's `cert.pem` and `key.pem`.
"""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
from pathlib import Path

from uproar import ACCESS_KEY, REGION, SECRET_KEY, Server

API, EDGE = f"ivschat.{REGION}.amazonaws.com", f"edge.ivschat.{REGION}.amazonaws.com"
# What an application server may have in its environment anyway, and the CA: no endpoint, no address.
CLIENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
    "AWS_ACCESS_KEY_ID": ACCESS_KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    "AWS_REGION": REGION,
    "AWS_DEFAULT_REGION": REGION,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_PAGER": "",
}
BOTO3 = """
import boto3
chat = boto3.client("ivschat")
arn = chat.create_room(name="by-boto3", tags={"k": "v"})["arn"]
assert chat.list_tags_for_resource(resourceArn=arn)["tags"] == {"k": "v"}
chat.create_chat_token(roomIdentifier=arn, userId="u")
chat.delete_room(identifier=arn)
print(chat.meta.endpoint_url)
"""


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env={**CLIENT, **environment}, capture_output=True, text=True, timeout=120
    )


class NamedServer(Server):
    """On 443 of two loopback addresses, where `hosts` has the names."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory / "data")
        self.command[2:6] = ["--messaging-listen", "127.0.0.3:443", "--control-listen", "127.0.0.2:443"]
        os.environ["UPROAR_TLS__CERTIFICATE"] = str(directory / "cert.pem")
        os.environ["UPROAR_TLS__KEY"] = str(directory / "key.pem")

    @property
    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(Path(sys.argv[1]) / "ca.pem"))

    @property
    def control_url(self) -> str:
        return f"https://{API}"


def main() -> None:
    directory = Path(sys.argv[1])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["mount", "--bind", directory / "hosts", "/etc/hosts"], check=True)
    ca = str(directory / "ca.pem")
    python, aws = sys.executable, str(Path(sys.executable).parent / "aws")
    sdk = Path(__file__).parents[1] / "node" / "own-names.mjs"
    results = {}
    with NamedServer(directory):
        results["boto3"] = run(python, "-c", BOTO3, AWS_CA_BUNDLE=ca)
        results["boto3 without the CA"] = run(python, "-c", BOTO3)
        results["aws"] = run(aws, "ivschat", "list-rooms", AWS_CA_BUNDLE=ca)
        results["aws without the CA"] = run(aws, "ivschat", "list-rooms")
        results["node"] = run("node", str(sdk), NODE_EXTRA_CA_CERTS=ca)
        results["node without the CA"] = run("node", str(sdk))
    print(json.dumps({name: [done.returncode, done.stdout, done.stderr] for name, done in results.items()}))


main()
