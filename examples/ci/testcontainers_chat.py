"""A server in a container, by Testcontainers for Python: for machines that cannot run the program itself (macOS, Windows).

    pip install testcontainers boto3
"""

from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import HttpWaitStrategy

MESSAGING, CONTROL = 8080, 8081
LOBBY = "arn:aws:ivschat:us-west-2:123456789012:room/lobby0000000"


def uproar(image: str) -> DockerContainer:
    """A container, ready when its context is entered. Docker gives it ports of the host and a network of its own, so that
    the public key is no risk: that is what the flag says."""
    return (
        DockerContainer(image)
        .with_command("dev --allow-remote-with-public-key --quotas open")
        .with_exposed_ports(MESSAGING, CONTROL)
        .waiting_for(HttpWaitStrategy(CONTROL, "/readyz").for_status_code(200))
    )


def environment(container: DockerContainer) -> dict[str, str]:
    """What every AWS SDK reads."""
    host, port = container.get_container_host_ip(), container.get_exposed_port(CONTROL)
    return {
        "AWS_ENDPOINT_URL_IVSCHAT": f"http://{host}:{port}",
        "AWS_REGION": "us-west-2",
        "AWS_DEFAULT_REGION": "us-west-2",
        "AWS_ACCESS_KEY_ID": "AKIDUPROARDEV0000000",
        "AWS_SECRET_ACCESS_KEY": "uproar-dev-secret-not-for-production",
    }


def messaging(container: DockerContainer) -> str:
    """Where viewers connect."""
    return f"ws://{container.get_container_host_ip()}:{container.get_exposed_port(MESSAGING)}"
