"""The crates that are linked into the program, as Cargo resolves them for a target with the features that are shipped:
without what only builds or tests it."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
ROOT = "uproar"


@dataclass(frozen=True)
class Crates:
    """Packages as `cargo metadata` has them, by id; which of them each one links; the program's id."""

    packages: dict[str, dict]
    uses: dict[str, list[str]]
    root: str


def linked(target: str) -> Crates:
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target]
    told = json.loads(subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE).stdout)
    packages = {package["id"]: package for package in told["packages"]}
    nodes = {node["id"]: node["deps"] for node in told["resolve"]["nodes"]}
    (root,) = (name for name, package in packages.items() if package["name"] == ROOT and package["source"] is None)
    uses: dict[str, list[str]] = {}
    ahead = [root]
    while ahead:
        name = ahead.pop()
        if name in uses:
            continue
        normal = [use["pkg"] for use in nodes[name] if any(kind["kind"] is None for kind in use["dep_kinds"])]
        # A procedural macro runs in the compiler.
        uses[name] = [use for use in normal if "proc-macro" not in packages[use]["targets"][0]["kind"]]
        ahead += uses[name]
    return Crates({name: packages[name] for name in uses}, uses, root)
