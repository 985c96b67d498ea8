"""Runs a command to which the kernel refuses `io_uring_setup`, as container runtimes do: forbid.py ERRNO COMMAND…"""

import ctypes
import os
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
# The same number on every architecture.
IO_URING_SETUP = 425
ALLOW, ERRNO = 0x7FFF0000, 0x00050000


def instruction(code: int, if_true: int, if_false: int, value: int) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)


def apply(program: list[bytes]) -> None:
    """Filters the system calls of this process and of all that it starts."""
    memory = ctypes.create_string_buffer(b"".join(program))
    header = struct.pack("HxxxxxxP", len(program), ctypes.addressof(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in [
        (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0),
    ]:
        if libc.prctl(*arguments) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


def main() -> None:
    errno = int(sys.argv[1])
    apply(
        [
            instruction(0x20, 0, 0, 0),  # load the system call's number
            instruction(0x15, 0, 1, IO_URING_SETUP),  # equal: go on, else skip one
            instruction(0x06, 0, 0, ERRNO | errno),
            instruction(0x06, 0, 0, ALLOW),
        ]
    )
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
