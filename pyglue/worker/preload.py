# SPDX-License-Identifier: Apache-2.0
"""preload=on: this process has loaded the application, and each worker of the group is a fork of it
(docs/plan.md section 5). `start.py` calls `fork_workers`, which returns in the workers alone.

Only the main interpreter is preloaded: sub-interpreters do not live through a fork. Nor do threads,
so none of ours has been started before, and those of the application are told about.
"""

from __future__ import annotations

import contextlib
import gc
import os
import socket
from collections.abc import Callable
from pathlib import Path

from .descriptors import CONTROL, LISTENER, LOG, MESSAGES, ORDERS, RECORD

ORDER_SIZE = 16
ENDS = 6  # descriptors that come with each order
NOT_FORKED = "a worker could not be forked: {}"

Say = Callable[[str], None]


def fork_workers(say: Say) -> None:
    """Waits for orders, and returns in each worker, with its descriptors in their places. The
    preloader itself ends here, when the supervisor closes the socket."""
    orders = socket.socket(fileno=ORDERS)
    tell_of_threads(say)
    gc.collect()
    gc.freeze()  # the collector would write to each object, and unshare its page
    while True:
        order, ends, _, _ = socket.recv_fds(orders, ORDER_SIZE, ENDS, socket.MSG_CMSG_CLOEXEC)
        if not order:
            os._exit(0)
        if len(ends) == ENDS and fork(say):
            take_places(ends)
            orders.detach()  # its number is the listener's now
            return
        for fd in ends:
            os.close(fd)


def fork(say: Say) -> bool:
    """True in the worker, which is a child of the supervisor then."""
    try:
        is_over, tell_over = os.pipe()
    except OSError as error:
        say(NOT_FORKED.format(error.strerror))
        return False
    try:
        return fork_twice(is_over, tell_over, say)
    finally:
        os.close(is_over)
        os.close(tell_over)


def fork_twice(is_over: int, tell_over: int, say: Say) -> bool:
    """The process in the middle ends at once, and the supervisor, a subreaper, gets its child. That
    is so once the middle one has been waited for, which the child is told through a pipe: a pidfd
    would tell it too, but Linux before 5.3 has none."""
    middle = fork_or_say(say)
    if middle < 0:
        return False
    if middle:
        with contextlib.suppress(ChildProcessError):  # the application may ignore SIGCHLD
            os.waitpid(middle, 0)
        os.write(tell_over, b"\0")
        return False
    if fork_or_say(say) != 0:
        os._exit(0)
    os.setsid()
    os.read(is_over, 1)
    return True


def fork_or_say(say: Say) -> int:
    """As os.fork; -1: it could not be done."""
    try:
        return os.fork()
    except OSError as error:
        say(NOT_FORKED.format(error.strerror))
        return -1


def take_places(ends: list[int]) -> None:
    """Received descriptors are higher than all places, which are taken."""
    control, listener, record, messages, log_read, log_write = ends
    for fd, place in (
        (control, CONTROL),
        (listener, LISTENER),
        (record, RECORD),
        (messages, MESSAGES),
        (log_read, LOG),
    ):
        os.dup2(fd, place, inheritable=False)
    for place in (1, 2):
        os.dup2(log_write, place)
    for fd in ends:
        os.close(fd)


def tell_of_threads(say: Say) -> None:
    try:
        count = len(list(Path("/proc/self/task").iterdir())) - 1
    except FileNotFoundError:  # a chroot need not have /proc: then it is not told
        return
    if count:
        say(
            f"preload: the application has started {count} threads while it was loaded. Workers "
            "are forks, which do not have them: start threads with the first request, or by "
            "os.register_at_fork(after_in_child=...)"
        )
