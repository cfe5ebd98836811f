# SPDX-License-Identifier: Apache-2.0
"""Execs a command for which the kernel lacks one system call, as for all that it starts:

refuse.py NUMBER ERRNO COMMAND [ARGUMENT...]"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 22, 38
SECCOMP_MODE_FILTER = 2
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06  # of classic BPF: ld [k], jeq k, ret k
ALLOW, FAIL = 0x7FFF0000, 0x00050000


def refuse(number: int, error: int) -> None:
    """From now on. OSError."""
    steps = [(LOAD, 0, 0, 0), (EQUAL, 0, 1, number), (RETURN, 0, 0, FAIL | error)]
    code = b"".join(struct.pack("HBBI", *step) for step in [*steps, (RETURN, 0, 0, ALLOW)])
    program = ctypes.create_string_buffer(code)
    filter_ = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(program))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in (
        (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.c_char_p(filter_), 0, 0),
    ):
        if libc.prctl(*arguments) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    refuse(int(sys.argv[1]), int(sys.argv[2]))
    os.execvp(sys.argv[3], sys.argv[3:])
