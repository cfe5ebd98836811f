# SPDX-License-Identifier: Apache-2.0
"""The descriptors that a worker is started with, by their places (docs/plan.md section 4)."""

from __future__ import annotations

import os

CONTROL, LISTENER, RECORD, MESSAGES, LOG, SCRIPTS = range(3, 9)
ORDERS = LISTENER  # of a preloader, which serves nobody


def own(*, has_list: bool) -> tuple[int, ...]:
    """What no process of the application's may have. SCRIPTS is there if the settings say so."""
    fds = (CONTROL, LISTENER, RECORD, MESSAGES, LOG)
    return (*fds, SCRIPTS) if has_list else fds


def keep(*, has_list: bool = False) -> None:
    """Nothing that this process starts inherits them."""
    for fd in own(has_list=has_list):
        os.set_inheritable(fd, False)


def read_exactly(fd: int, size: int) -> bytes:
    """From the supervisor. Without one, this worker never was anything, and ends."""
    data = b""
    while len(data) < size:
        block = os.read(fd, size - len(data))
        if not block:
            os._exit(0)
        data += block
    return data
