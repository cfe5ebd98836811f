# SPDX-License-Identifier: Apache-2.0
"""Workers and preloaders that have ended, but cannot be reaped because another process traces them.

Such a zombie is its tracer's until that has waited for it, or is gone: no SIGCHLD comes, and waitid
says nothing of it (ptrace(2)). A pidfd is readable only when none but the first thread is left, and
threads that are traced stay as well. So /proc is asked, of some processes each second. What follows
is not known here. Up: deaths.py; down: family.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from . import family
from .process import Process

LOOKS = 64  # at processes, in one second
MOST_THREADS = 2048  # that are looked at of one process; threads= is 1023 at most

TracerOf = Callable[[int], "int | None"]


def tracer_of(pid: int) -> int | None:
    """Who keeps this child, which has ended, from being reaped; 0: one that cannot be seen from
    here, of another PID namespace. None: it lives, or it can be reaped."""
    try:
        if not family.has_ended(f"/proc/{pid}"):  # its first thread, that is
            return None
        threads = [f"/proc/{pid}/task/{thread}" for thread in os.listdir(f"/proc/{pid}/task")]
        if len(threads) > MOST_THREADS or not all(map(family.has_ended, threads)):
            return None
        tracers = (int(family.status(thread)["TracerPid"]) for thread in threads)
        tracer = next(filter(None, tracers), 0)
        is_ours = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except (OSError, KeyError, ValueError):  # it was reaped, or a thread of it, or cannot be seen
        return None
    return tracer if is_ours is None else None


class Traced:
    """Those that were found so at the last look."""

    def __init__(self, tracer_of: TracerOf = tracer_of) -> None:
        self._tracer_of = tracer_of
        self._found: set[Process] = set()
        self._next = 0

    def look(self, running: Sequence[Process]) -> list[tuple[Process, int]]:
        """Each second: those that are to be given up, because they were found so the last time
        too, with their tracers. Meanwhile each could be reaped as others are, should its tracer
        have let go; one of its own process group, which ends with it, has."""
        before, self._found = self._found, set()
        given_up: list[tuple[Process, int]] = []
        due = [worker for worker in running if worker in before] + self._some(running)
        for worker in dict.fromkeys(due):
            tracer = self._tracer_of(worker.pid) if worker.pid else None
            if tracer is None:
                continue
            if worker in before:
                given_up.append((worker, tracer))
            else:
                worker.kill()
                self._found.add(worker)
        return given_up

    def _some(self, running: Sequence[Process]) -> list[Process]:
        """All in turn, however many there are."""
        first = self._next if self._next < len(running) else 0
        self._next = first + LOOKS
        return list(running[first : self._next])
