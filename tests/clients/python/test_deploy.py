"""The files of deploy/ are what systemd and the kernel take."""

from __future__ import annotations

import subprocess

from uproar import BINARY, REPOSITORY

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
