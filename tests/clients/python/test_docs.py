"""The documentation: whoever follows a page line by line gets what the page says.

`doc_pages` says what becomes of each block; links and anchors are checked by tests/architecture.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import botocore.session
import pytest

from doc_pages import CODE, Machine, blocks, pages
from uproar import BINARY, REPOSITORY

# How a line begins that a reader would type.
COMMAND = re.compile(r"(?m)^(?:sudo |uproar |aws |pip |npm |cargo |curl |podman |docker |kubectl ).*")
FOLLOWED = {"run", "serves", "file", "config"}


def followed(page: Path) -> bool:
    return any(block.fate in FOLLOWED or block.language in ("haproxy", "nginx") for block in blocks(page))


@pytest.mark.parametrize("page", [page for page in pages() if followed(page)], ids=lambda page: page.stem)
def test_a_page_can_be_followed(page: Path, tmp_path: Path):
    """Method: its blocks in their order, in one directory, by one shell. A page without a server of its own finds one that
    runs, as a reader of the quick start has."""
    machine = Machine(tmp_path)
    found = blocks(page)
    try:
        runs = any(block.fate == "run" for block in found)
        if runs and not any(block.fate == "serves" for block in found):
            machine.serve(found[0], "uproar dev")
        for block in found:
            machine.follow(block)
    finally:
        machine.close()


def test_no_block_escapes():
    """Goal: each block of code is run, or says who runs it, or why nobody does."""
    count = 0
    for page in pages():
        for block in blocks(page):
            if not block.language:
                commands = COMMAND.findall(block.text)
                assert not commands, f"{block}: {commands[0]} is a command: a block of sh says what becomes of it"
            if block.language not in CODE or not block.fate and block.language in ("haproxy", "nginx"):
                continue
            count += 1
            assert block.fate in FOLLOWED | {"by", "shown"}, f"{block}: what becomes of it?"
            if block.fate == "by":
                test = REPOSITORY / "tests" / "clients" / "python" / block.argument
                assert page.name in test.read_text(), f"{block}: {block.argument} does not read {page.name}"
            if block.fate == "file":
                name = Path(block.argument).name
                assert name in block.above, f"{block}: a reader is not told to save it as {name}"
            if block.fate == "shown":
                assert block.argument, f"{block}: shown, and why not run?"
    assert count > 30, f"only {count} blocks were found"


def texts(path: str, pattern: str) -> list[str]:
    found = re.findall(pattern, (REPOSITORY / path).read_text())
    assert len(found) > 2, f"{path}: only {len(found)} texts"
    return found


def test_each_refusal_is_in_the_table_of_errors():
    """Goal: whoever searches the page for what was said finds it. Method: the source's own texts; numbers in them are `N`."""
    page = (REPOSITORY / "docs" / "errors.md").read_text()
    said = texts("crates/proto/src/chat/mod.rs", r'const [A-Z_]+: &str =\s+"([^"]+)"')
    said += re.findall(r'error\("(The chat token [^"]+)"\)', (REPOSITORY / "crates/proto/src/token/mod.rs").read_text())
    for source in ("src/shard/command.rs", "src/shard/handshake/rejected.rs", "crates/proto/src/http/fault.rs"):
        said += texts(source, r'#\[error\(\s*"([A-Z][^"]+)"\s*\)\]')
    said = [re.sub(r"\{\w*\}", "N", text) for text in said]
    assert [text for text in said if f"`{text}`" not in page] == []
    kinds = re.findall(r'\("(\w+Exception)", (\d+)\)', (REPOSITORY / "src/control/fault.rs").read_text())
    assert len(kinds) > 10
    for name, status in kinds:
        row = next((line for line in page.splitlines() if f"`{name}`" in line), "")
        assert status in row, f"{name} {status}"


def test_the_table_of_operations_is_the_services_own():
    """Goal: docs/api.md has each operation with its method, path and rate. Method: botocore's model, and the server's table."""
    page = (REPOSITORY / "docs" / "api.md").read_text()
    source = (REPOSITORY / "src/control/operation.rs").read_text()
    rows = {name: (how, rate) for name, how, rate in re.findall(r"^\| `(\w+)` \| `([^`]+)` \| (\d+) \|", page, re.M)}
    model = botocore.session.get_session().get_service_model("ivschat")
    assert set(rows) == set(model.operation_names)
    for name, (how, rate) in rows.items():
        http = model.operation_model(name).http
        assert how == f"{http['method']} {http['requestUri'].partition('{')[0]}", name
        assert re.search(rf"(?m)^ +{name} .*, +{rate}$", source), name


def test_the_pictures_figures_are_measured_ones():
    """Goal: nobody draws a number that was not measured. Method: each figure of the chart stands in the dated results."""
    figures = re.findall(r'<text class="v"[^>]*>([^<]+)<', (REPOSITORY / "docs" / "numbers.svg").read_text())
    results = (REPOSITORY / "docs" / "results" / "2026-11.md").read_text()
    assert len(figures) == 11
    assert [figure for figure in figures if not re.search(rf"(?<![\d.,]){re.escape(figure)}(?![\d,])", results)] == []


def test_each_command_that_a_page_names_exists(tmp_path: Path):
    """Goal: also what is only mentioned, or shown and not run, is a command with that flag. Method: each piece of code that begins
    with `uproar`, against the manual that the program writes."""
    subprocess.run([BINARY, "man", tmp_path], check=True, timeout=60)
    manual = {path.stem: path.read_text().replace("\\-", "-") for path in tmp_path.iterdir()}
    seen, wrong = 0, []
    for page in [*pages(), *(REPOSITORY / name for name in ("ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"))]:
        text = page.read_text()
        fenced = re.findall(r"(?m)^```.*\n((?:.*\n)*?)```$", text)
        lines = [line for block in fenced for line in block.replace("\\\n", " ").splitlines()]
        spans = re.findall(r"`([^`\n]+)`", re.sub(r"(?m)^```.*\n(?:.*\n)*?```$", "", text))
        for code in lines + spans:
            # What follows a comment, another command or `--` is not the command's.
            found = re.match(r"(?:sudo )?(?:-u uproar )?uproar ([a-z][^#|;&]*)", re.sub(r"\$\(.*?\)", "X", code))
            if not found:
                continue
            seen += 1
            words = re.split(r" -- ", found[1])[0].split()
            name = "uproar"
            while words and f"{name}-{words[0]}" in manual:
                name += f"-{words.pop(0)}"
            flags = {flag for word in words for flag in re.findall(r"^\[?(--[a-z][a-z-]*)", word)}
            unknown = sorted(flag for flag in flags if not re.search(rf"{flag}(?![a-z-])", manual[name]))
            if unknown or name == "uproar" and found[1].split()[0] != "help":
                wrong.append(f"{page.name}: {code}: {unknown or 'no such command'}")
    assert seen > 100, f"only {seen} commands were found"
    assert not wrong, "\n".join(wrong)
