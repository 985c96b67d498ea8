"""A server whose every setting stands in its file, so that a reload can change any of them."""

from __future__ import annotations

import json
import re
import signal
import tempfile
import time
from pathlib import Path

from uproar import BINARY, SCRATCH, Server

KEY = ("AKIDCONFIGURED000001", "0123456789abcdef")
RELOADED = re.compile(r'^uproar_config_reloads_total\{result="(ok|error)"\} (\d+)$', re.M)
WAIT_SECONDS_MAX = 60.0


class Configured(Server):
    """`uproar serve --config FILE`: ports and data directory in the file too, and no flag."""

    def __init__(self, settings: dict[str, object] | None = None, flags: tuple[str, ...] = ()) -> None:
        super().__init__(tempfile.mkdtemp(prefix="data-", dir=SCRATCH.name))
        self.file = Path(tempfile.mkstemp(prefix="uproar-", suffix=".toml", dir=SCRATCH.name)[1])
        self.settings: dict[str, object] = {
            "server.data_dir": str(self.data_dir),
            "server.shards": 2,
            "messaging.listen": f"127.0.0.1:{self.messaging_port}",
            "control.listen": f"127.0.0.1:{self.control_port}",
            "quotas.profile": "open",
            "log.json": True,
            "keys": [KEY],
            **(settings or {}),
        }
        self.write(self.settings)
        self.command = [str(BINARY), "serve", "--config", str(self.file), *flags]

    def boto(self, **overrides: object):
        key_id, secret = KEY
        return super().boto(
            **{"aws_access_key_id": key_id, "aws_secret_access_key": secret, **overrides}
        )

    def write(self, settings: dict[str, object]) -> None:
        """Replaces the file as a whole, as most tools do."""
        next_file = self.file.with_suffix(".next")
        next_file.write_text(toml(settings))
        next_file.rename(self.file)

    def reload(self, changes: dict[str, object] | None = None) -> tuple[str, list[dict]]:
        """Changes keys (`None`: takes one out), sends SIGHUP; the result and the log lines of this reload.
        A refused change is taken back in the file."""
        settings = {**self.settings, **(changes or {})}
        settings = {key: value for key, value in settings.items() if value is not None}
        self.write(settings)
        result, lines = self.hang_up()
        if result == "ok":
            self.settings = settings
        else:
            self.write(self.settings)
        return result, lines

    def hang_up(self) -> tuple[str, list[dict]]:
        """SIGHUP; the result and the log lines of this reload."""
        before, start = self.counts(), self.log_path.stat().st_size
        self.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while (after := self.counts()) == before:
            assert time.monotonic() < deadline, f"SIGHUP is without effect:\n{self.log()}"
            time.sleep(0.005)
        (result,) = [result for result in after if after[result] > before[result]]
        # The last line of a reload.
        self.await_log('"reloaded"' if result == "ok" else '"nothing is reloaded"', start)
        text = self.log_path.read_text(errors="replace").encode()[start:].decode()
        return result, [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def counts(self) -> dict[str, int]:
        return {result: int(count) for result, count in RELOADED.findall(self.metrics())}


def toml(settings: dict[str, object]) -> str:
    """A file with these values, by full name."""
    sections: dict[str, list[str]] = {}
    for key, value in settings.items():
        if key != "keys":
            section, name = key.split(".")
            sections.setdefault(section, []).append(f"{name} = {json.dumps(value)}")
    text = "".join(f"[{section}]\n" + "\n".join(lines) + "\n" for section, lines in sections.items())
    for key_id, secret in settings.get("keys") or []:
        text += f'[[keys]]\nid = "{key_id}"\nsecret = "{secret}"\n'
    return text
