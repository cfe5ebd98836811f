# SPDX-License-Identifier: Apache-2.0
"""Keeps a process from being reaped by its parent, like one that the kernel keeps in a system call:
somebody traces it, and does not wait for it."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

PTRACE_SEIZE = 0x4206
LIBC = ctypes.CDLL(None)  # opened before any fork
ALL = slice(None)


@contextmanager
def kept(pid: int, which: slice = ALL) -> Iterator[int]:
    """From now on until the end its parent gets no word of its death. which: of its threads, in
    their order. Yields who traces them."""
    done, write = os.pipe()
    tracer = os.fork()
    if tracer == 0:
        try:
            threads = sorted(int(thread) for thread in os.listdir(f"/proc/{pid}/task"))[which]
            refused = any(LIBC.ptrace(PTRACE_SEIZE, thread, 0, 0) for thread in threads)
            os.write(write, b"no" if refused else b"ok")
            while True:
                signal.pause()
        finally:
            os._exit(1)  # of the test it is no part
    os.close(write)
    try:
        assert os.read(done, 2) == b"ok", "it cannot be traced"
        yield tracer
    finally:
        os.close(done)
        os.kill(tracer, signal.SIGKILL)
        os.waitpid(tracer, 0)
