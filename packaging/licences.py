"""The licences of what is linked into the program, which whoever passes the binary on must pass on with it: licences.py
TARGET. Each text once, below the crates that it covers."""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

from crates import ROOT, linked

NAMES = ("licen", "copying", "copyright", "notice", "unlicense")


def texts(package: dict) -> list[str]:
    directory = Path(package["manifest_path"]).parent
    files = sorted(path for path in directory.iterdir() if path.name.lower().startswith(NAMES) and path.is_file())
    return ["\n".join(line.rstrip() for line in file.read_text(errors="replace").strip().splitlines()) for file in files]


def main() -> None:
    covered: dict[str, list[str]] = defaultdict(list)
    for package in sorted(linked(sys.argv[1]).packages.values(), key=lambda package: package["name"]):
        if package["name"].startswith(ROOT):
            continue
        name = f"{package['name']} {package['version']} ({package['license']})"
        # A few crates come without a text: then their own words are all there is.
        found = texts(package) or [f"Authors: {', '.join(package['authors']) or package['repository']}"]
        for text in found:
            covered[text].append(name)
    print("The binary contains these crates, and musl, which is under the MIT licence, Copyright (c) 2005-2020 Rich Felker, et al.")
    for text, names in covered.items():
        print(f"\n{'=' * 100}\n{', '.join(names)}\n{'-' * 100}\n{text}")


if __name__ == "__main__":
    main()
