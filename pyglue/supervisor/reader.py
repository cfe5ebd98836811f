# SPDX-License-Identifier: Apache-2.0
"""Reads what tenants write into their pipes, without waiting for what they may have put there.

A pipe holds pages, and by splice(2) they are those of a file. Where the file system of that file is
the tenant's own (FUSE) it can make such a page wait for it: whoever reads the pipe, with O_NONBLOCK
too, then sleeps until that file system answers, and no SIGKILL ends that. So a thread reads. Where
it does not come back it is left behind, and another one takes its place.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import threading
import time
from collections.abc import Callable

LOOK = 0.5  # seconds between two looks at a read that should take none
LOOKS = 4  # in a row that find it asleep
PAUSE = 0.05  # seconds that pass where there is no thread: the loop calls for the pipe again

Asked = queue.SimpleQueue["tuple[int, int] | None"]
Got = queue.SimpleQueue["bytes | OSError"]


class UnreadableError(Exception):
    """This pipe cannot be read, or would keep whoever does."""


def is_asleep(thread: int) -> bool:
    """In the kernel, and no signal wakes it. Where that cannot be seen it is waited for."""
    try:
        with open(f"/proc/self/task/{thread}/stat") as file:
            stat = file.read()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] == "D"


class Reader:
    """One read at a time, for one thread that asks."""

    def __init__(self, is_stuck: Callable[[int], bool] = is_asleep, look: float = LOOK) -> None:
        self._is_stuck, self._look = is_stuck, look
        self._thread: threading.Thread | None = None
        self._kept: dict[int, list[threading.Thread]] = {}  # of each user

    def kept(self, uid: int) -> int:
        """How many threads have not come back from the pipes of this user's processes."""
        alive = [thread for thread in self._kept.pop(uid, []) if thread.is_alive()]
        if alive:
            self._kept[uid] = alive
        return len(alive)

    def read(self, fd: int, size: int, uid: int) -> bytes | None:
        """What is there; b"" at end-of-file, None when there is nothing. UnreadableError. uid: who
        writes to it."""
        thread = self._thread or self._begin()
        if thread is None:
            time.sleep(PAUSE)
            return None
        self._asked.put((fd, size))
        got = self._wait(thread, uid)
        if isinstance(got, BlockingIOError):
            return None
        if isinstance(got, OSError):  # a page that was not there any more
            raise UnreadableError from got
        return got

    def _wait(self, thread: threading.Thread, uid: int) -> bytes | OSError:
        stuck = 0
        while stuck < LOOKS:
            try:
                return self._got.get(timeout=self._look)
            except queue.Empty:
                stuck = stuck + 1 if self._is_stuck(thread.native_id or 0) else 0
        self._asked.put(None)  # it ends when it comes back
        self._thread = None
        self._kept.setdefault(uid, []).append(thread)
        raise UnreadableError

    def _begin(self) -> threading.Thread | None:
        """Where somebody's processes have used up what our service may have of them, or the
        machine has, there is none until they are gone."""
        self._asked: Asked = queue.SimpleQueue()
        self._got: Got = queue.SimpleQueue()
        thread = threading.Thread(target=_serve, args=(self._asked, self._got), daemon=True)
        with contextlib.suppress(RuntimeError):
            thread.start()
            self._thread = thread
        return self._thread


def _serve(asked: Asked, got: Got) -> None:
    """The thread. It holds no lock while it reads, so that the other may fork."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    while (order := asked.get()) is not None:
        try:
            got.put(os.read(*order))
        except OSError as error:
            got.put(error)
