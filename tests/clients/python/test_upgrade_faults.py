"""What is left of an upgrade when either process fails at any of its points: one server, and the viewers that it can have.

`UPROAR_TAKE_OVER_FAULT=POINT:ACTION` makes the faults; src/server/upgrade/fault.rs lists points and actions.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from rawws import Refused, WebSocket
from uproar import Server, Successor, adopt_orphans

VIEWERS = 30
# Before `Committed` everything is taken back.
TAKEN_BACK = [
    f"{point}:{action}"
    for point in (
        "new.hello",
        "new.start.done",
        "new.rooms",
        "new.viewers",
        "new.viewers.done",
        "new.acknowledge",
    )
    for action in ("kill", "fail")
] + [f"{point}:fail" for point in ("old.load", "old.freeze", "old.freeze.done", "old.rooms", "old.viewers")]
# When the old process dies, the new one serves; viewers that were not handed over yet are lost, as after any crash.
DIES_EARLY = ["old.load", "old.load.done", "old.freeze", "old.rooms", "old.viewers", "old.viewers.done"]
DIES_LATE = ["old.commit", "old.commit.done"]


def processes(server: Server) -> list[int]:
    """The servers of its data directory that are no zombies."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"dev" in command and str(server.data_dir).encode() in command:
            found.append(int(entry.name))
    return found


def until(holds, what: str, seconds: float = 60):
    deadline = time.monotonic() + seconds
    while not (value := holds()):
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
    return value


class Story:
    """A server with a fault to come, a stored room, viewers, and a token that was used."""

    def __init__(self, monkeypatch, fault: str) -> None:
        adopt_orphans()
        monkeypatch.setenv("UPROAR_TAKE_OVER_FAULT", fault)
        self.server = Server().start()
        monkeypatch.delenv("UPROAR_TAKE_OVER_FAULT")
        self.arn = self.server.boto_cached.create_room(name="kept", maximumMessageRatePerSecond=100)["arn"]
        self.used = self.server.token(self.arn, "used")
        self.viewers = [WebSocket(self.server.messaging_port, self.used)]
        self.viewers += [
            WebSocket(self.server.messaging_port, self.server.token(self.arn, f"u{i}"))
            for i in range(VIEWERS - 1)
        ]
        self.said = 0
        self.all_hear()

    def all_hear(self) -> None:
        numbers = range(self.said, self.said + 4)
        for number in numbers:
            self.viewers[1].say(str(number), f"r{number}")
        for viewer in self.viewers:
            assert [viewer.receive()["Content"] for _ in numbers] == [str(number) for number in numbers]
        self.said += len(numbers)

    def one_serves(self) -> int:
        """Waits until one process is left, and checks that it has what was acknowledged."""
        until(lambda: len(processes(self.server)) == 1, f"one server: {processes(self.server)}\n{self.server.log()}")
        until(self.server.ready, f"it is ready\n{self.server.log()}")
        (pid,) = processes(self.server)
        assert [room["arn"] for room in self.server.boto().list_rooms(name="kept")["rooms"]] == [self.arn]
        with pytest.raises(Refused):
            WebSocket(self.server.messaging_port, self.used)
        late = WebSocket(self.server.messaging_port, self.server.token(self.arn, "late"))
        late.say("late", "r")
        late.receive_until(lambda frame: frame.get("Content") == "late")
        late.close()
        return pid

    def drain_late(self) -> None:
        for viewer in self.viewers:
            viewer.receive_until(lambda frame: frame.get("Content") == "late")

    def stop(self) -> None:
        (pid,) = processes(self.server)
        if self.server.process.pid != pid:
            self.server.process.poll()
            self.server.process = Successor(pid)
        assert self.server.stop() == 0
        assert "panicked" not in self.server.log_path.read_text(), self.server.log()


@pytest.mark.parametrize("fault", TAKEN_BACK)
def test_everything_is_taken_back(monkeypatch, fault):
    """Goal: whatever fails before the new process has committed, the old one serves as if nothing had happened, also
    the next time."""
    story = Story(monkeypatch, fault)
    for _ in range(2):
        done = story.server.try_upgrade()
        assert done.returncode == 1, done
        assert story.one_serves() == story.server.process.pid
        story.drain_late()
        story.all_hear()
    story.stop()


@pytest.mark.parametrize("point", DIES_EARLY)
def test_the_new_process_serves_alone(monkeypatch, point):
    """Goal: a server that dies before all was handed over leaves one that serves, with the rooms and the used tokens."""
    story = Story(monkeypatch, f"{point}:kill")
    done = story.server.try_upgrade()
    assert done.returncode == 1, done
    assert story.server.process.wait(60) == -signal.SIGKILL
    assert story.one_serves() != story.server.process.pid
    story.stop()


@pytest.mark.parametrize("point", DIES_LATE)
def test_viewers_survive_the_death_of_their_server(monkeypatch, point):
    """Goal: once all is handed over, the old process may be killed: no viewer is lost."""
    story = Story(monkeypatch, f"{point}:kill")
    story.server.try_upgrade()
    assert story.server.process.wait(60) == -signal.SIGKILL
    story.one_serves()
    story.drain_late()
    story.all_hear()
    story.stop()


@pytest.mark.parametrize("point", ["new.start.done", "new.viewers", "new.acknowledge"])
def test_a_new_process_that_hangs_is_given_up(monkeypatch, point):
    """Goal: the old process waits for its deadline, kills the new one, and serves on with every viewer."""
    story = Story(monkeypatch, f"{point}:stop")
    done = story.server.try_upgrade()
    assert done.returncode == 1 and "too long" in done.stderr, done
    assert story.one_serves() == story.server.process.pid
    story.drain_late()
    story.all_hear()
    story.stop()


@pytest.mark.parametrize("point", ["old.freeze", "old.commit"])
def test_an_old_process_that_hangs_goes_on(monkeypatch, point):
    """Goal: silence is no death: the new process gives up and the old one, once it goes on, serves with every viewer."""
    story = Story(monkeypatch, f"{point}:stop")
    old = story.server.process.pid
    command = story.server.start_upgrade()
    until(lambda: len(processes(story.server)) == 2, "the new process starts")
    until(lambda: len(processes(story.server)) == 1, "the new process gives up")
    os.kill(old, signal.SIGCONT)
    assert command.wait(60) == 1
    assert story.one_serves() == old
    story.drain_late()
    story.all_hear()
    story.stop()


def test_a_server_that_hangs_after_its_word_is_ended(monkeypatch):
    """Goal: the new process serves as soon as it is told to; it ends the old one, which would hold every connection
    open."""
    story = Story(monkeypatch, "old.commit.done:stop")
    story.server.try_upgrade()
    assert story.server.process.wait(60) == -signal.SIGKILL
    story.one_serves()
    story.drain_late()
    story.all_hear()
    story.stop()


def other_version(story: Story, monkeypatch, fault: str) -> Path:
    """A program that greets as another version."""
    monkeypatch.setenv("UPROAR_TAKE_OVER_FAULT", fault)
    binary = story.server.data_dir / "other-version"
    binary.write_text(f'#!/bin/sh\nexport UPROAR_TAKE_OVER_FAULT={fault}\nexec "{story.server.command[0]}" "$@"\n')
    binary.chmod(0o755)
    return binary


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("hello:format=2", "its take-over format is 2"),
        ("hello:format=0", "its take-over format is 0"),
        ("hello:schema=99", "its database schema is 99"),
    ],
)
def test_another_format_or_schema_is_refused_before_anything_happens(monkeypatch, fault, words):
    """Goal: two versions that do not understand each other, or of which the new one would migrate the store, say so at
    once; `--or-restart` stops the server instead."""
    story = Story(monkeypatch, "none:none")
    binary = other_version(story, monkeypatch, fault)
    done = story.server.try_upgrade(binary=binary)
    assert done.returncode == 1 and words in done.stderr and "--or-restart" in done.stderr, done
    assert story.one_serves() == story.server.process.pid
    story.drain_late()
    story.all_hear()
    assert "freeze" not in story.server.log_path.read_text()
    done = story.server.try_upgrade("--or-restart", binary=binary)
    assert done.returncode == 0 and "the server stops" in done.stdout, done
    assert story.server.process.wait(60) == 0


def test_an_older_schema_is_refused_and_stops_nothing(monkeypatch):
    """Goal: a program that cannot read the store is refused, and `--or-restart` does not stop the server for it: it
    could not start."""
    story = Story(monkeypatch, "none:none")
    binary = other_version(story, monkeypatch, "hello:schema=1")
    for rest in [(), ("--or-restart",)]:
        done = story.server.try_upgrade(*rest, binary=binary)
        assert done.returncode == 1 and "its database schema is 1" in done.stderr, done
        assert "cannot read the store" in done.stderr and "--or-restart" not in done.stderr
    assert story.one_serves() == story.server.process.pid
    story.drain_late()
    story.all_hear()
    story.stop()


@pytest.mark.parametrize("what", ["program", "configuration", "certificate"])
def test_a_program_that_does_not_start_stops_nothing(tmp_path, what):
    """Goal: `--or-restart` ends no server whose supervisor could not start the new program either. Method: a name that
    does not exist, a configuration and a certificate that every start refuses."""
    config = tmp_path / "uproar.toml"
    config.write_text("[tokens]\nlife_minutes = 60\n")
    with Server(extra=("--config", str(config))) as server:
        viewer = WebSocket(server.messaging_port, server.token(server.boto_cached.create_room()["arn"]))
        config.write_text(
            {
                "program": config.read_text(),
                "configuration": "[tokens]\nlife_minute = 60\n",
                "certificate": '[tls]\ncertificate = "/nonexistent"\nkey = "/nonexistent"\n',
            }[what]
        )
        binary = tmp_path / "missing" if what == "program" else None
        done = server.try_upgrade("--or-restart", binary=binary)
        assert done.returncode == 1 and "serves as before" in done.stderr, done
        viewer.say("still here", "r")
        assert viewer.receive()["Content"] == "still here"
        assert server.ready() and server.process.poll() is None


def test_a_reload_asked_for_during_an_upgrade_is_the_new_processs(tmp_path, monkeypatch):
    """Goal: SIGHUP is not lost when the process that got it has handed over. Method: the configuration changes when
    the new process has read it, which then waits."""
    config = tmp_path / "uproar.toml"
    config.write_text("[tokens]\nlife_minutes = 60\n")
    adopt_orphans()
    monkeypatch.setenv("UPROAR_TAKE_OVER_FAULT", "new.viewers:delay=1000")
    with Server(extra=("--config", str(config))) as server:
        upgrade = server.start_upgrade()
        server.await_log("new.viewers")
        config.write_text("[tokens]\nlife_minutes = 30\n")
        server.process.send_signal(signal.SIGHUP)
        out, _ = upgrade.communicate(timeout=60)
        assert server.process.wait(60) == 0
        server.process = Successor(int(out.split()[1]))
        server.await_log("tokens.life_minutes")
        again = server.run("reload", "--data-dir", str(server.data_dir))
        assert again.stdout.startswith("no key of the configuration has changed"), again


def test_a_build_with_other_features_takes_over_and_hands_back(monkeypatch):
    """Goal: features are no condition: what one build lacks is said, and viewers stay, both ways."""
    story = Story(monkeypatch, "none:none")
    binary = story.server.data_dir / "other-version"
    binary.write_text(
        f'#!/bin/sh\nUPROAR_TAKE_OVER_FAULT=hello:lacks=reviews exec "{story.server.command[0]}" "$@"\n'
    )
    binary.chmod(0o755)
    for program in (binary, story.server.command[0], binary, story.server.command[0]):
        assert story.server.upgrade(binary=program).viewers == VIEWERS
        story.all_hear()
    assert "lacks these features" in story.server.log_path.read_text()
    story.stop()


@pytest.mark.parametrize("point", ["old.load", "old.viewers"])
def test_a_stop_ends_an_upgrade_first(monkeypatch, point):
    """Goal: SIGTERM during an upgrade takes it back and ends the server, as ever: exit 0, and no process is left."""
    # On a busy machine the signal may come seconds after the line.
    story = Story(monkeypatch, f"{point}:delay=6000")
    command = story.server.start_upgrade()
    until(lambda: len(processes(story.server)) == 2, "the new process starts")
    story.server.await_log("a fault on purpose")
    story.server.process.send_signal(signal.SIGTERM)
    assert story.server.process.wait(60) == 0, story.server.log()
    assert command.wait(60) == 1
    assert processes(story.server) == []


def test_orders_during_an_upgrade_are_refused(monkeypatch):
    """Goal: one order at a time: a second upgrade and a reload are told what is being done, and change nothing."""
    story = Story(monkeypatch, "new.start.done:delay=2000")
    command = story.server.start_upgrade()
    until(lambda: len(processes(story.server)) == 2, "the new process starts")
    for order in ("upgrade", "reload"):
        done = story.server.run(order, "--data-dir", str(story.server.data_dir))
        assert done.returncode == 1 and "upgrade is being done" in done.stderr, done
    assert command.wait(60) == 0
    story.one_serves()
    story.drain_late()
    story.all_hear()
    story.stop()
