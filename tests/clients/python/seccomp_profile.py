"""Runs a command under a seccomp profile of containers, as their runtimes do: seccomp_profile.py PROFILE COMMAND…

Only what `deploy/seccomp-uproar.json` uses: names and architectures, no arguments."""

import json
import os
import re
import sys
from pathlib import Path

from forbid import ALLOW, ERRNO, apply, instruction

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
HEADERS = ["/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm-generic/unistd.h"]


def numbers() -> dict[str, int]:
    """The system calls of this machine, from the C library's headers."""
    header = next(Path(name) for name in HEADERS if Path(name).exists())
    found = re.findall(r"^#define __NR(?:3264)?_(\w+)\s+(\d+)$", header.read_text(), re.M)
    return {name: int(number) for name, number in found}


def main() -> None:
    profile = json.loads(Path(sys.argv[1]).read_text())
    known, allowed = numbers(), set()
    for rule in profile["syscalls"]:
        if ARCHITECTURE in rule.get("includes", {}).get("arches", [ARCHITECTURE]):
            allowed |= {known[name] for name in rule["names"] if name in known}
    program = [instruction(0x20, 0, 0, 0)]  # load the system call's number
    for number in sorted(allowed):
        program.append(instruction(0x15, 0, 1, number))  # equal: go on, else skip one
        program.append(instruction(0x06, 0, 0, ALLOW))
    program.append(instruction(0x06, 0, 0, ERRNO | profile["defaultErrnoRet"]))
    apply(program)
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
