"""`systemctl stop` of the unit of `deploy/` with a drain configured."""

from __future__ import annotations

from rawws import WebSocket
from systemd_manager import UNITS, Manager
from test_systemd import manager  # noqa: F401
from test_systemd_store import Site


def test_a_stop_waits_for_the_drain(manager: Manager):  # noqa: F811
    """Goal: `TimeoutStopSec=` need not know how long a drain takes. Method: half as long as the drain; without an
    extension the manager would kill the server, and the unit would have failed."""
    site = Site()
    manager.install(site.configuration() + "\n[drain]\nover_s = 6\n")
    manager.run("mkdir", f"{UNITS}/uproar.service.d")
    manager.write(f"{UNITS}/uproar.service.d/patience.conf", "[Service]\nTimeoutStopSec=3\n")
    manager.systemctl("daemon-reload")
    manager.systemctl("start", "uproar")
    room = site.client().create_room()["arn"]
    viewers = [WebSocket(site.messaging, site.token(room)) for _ in range(10)]
    manager.systemctl("stop", "uproar")
    assert (manager.property("ActiveState"), manager.property("Result")) == ("inactive", "success"), manager.journal()
    assert manager.property("ExecMainStatus") == "0"
    for viewer in viewers:
        assert viewer.receive_close().code is None
        viewer.close()
