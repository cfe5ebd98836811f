# SPDX-License-Identifier: Apache-2.0
"""What a worker's main thread does while the others serve: it waits for signals, commands and
changed files, and brings the worker to its end in good order.

Nothing here is on a request's path. Events come from C as bytes on a pipe (`process.c`); what they
lead to is a row of `_reactions`. How the worker came here is `start.py`.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any, NoReturn

from .activity import Activity
from .messages import (
    CHANGED,
    CPU_TIME_LIMIT,
    INACTIVITY_TIMEOUT,
    LEFT,
    MAXIMUM_REQUESTS,
    RECYCLE,
    RELOAD,
    SIGNAL,
    tell,
)
from .scripts import Scripts
from .settings import Settings
from .sources import Sources

TURN = 1.0  # seconds between two looks at the watched files
ORPHAN_IDLE = 60.0  # seconds without a connection after which an orphan leaves
ORPHAN_UNKNOWN = 5.0  # the same if it never had one: it may be in no page, and nobody will tell it


class Life:
    """One worker that serves, until its exit."""

    def __init__(
        self,
        settings: Settings,
        engine: ModuleType,
        pool: Any,
        events: int,
        scripts: Scripts,
        sources: Sources,
    ) -> None:
        self._shutdown_timeout = float(settings["shutdown_timeout"])
        self._pool = pool
        self._events = events
        self._scripts = scripts
        self._sources = sources
        self._activity = Activity(settings)
        self._stale_at = 0.0  # when a change was told last that a request found
        self._is_leaving = False
        self._is_told = False  # to leave, by the supervisor: only then it expects LEFT
        self._leave_by: float | None = None  # a signal told it to end, the supervisor not yet
        self._is_orphan = False
        self._is_spent = False  # its CPU time is, and that was told
        self._last_connection = 0.0
        self._idle_limit = 0.0
        self._actions = self._reactions(engine)

    def run(self) -> NoReturn:
        events = select.poll()  # select() takes no numbers of 1024 and more
        events.register(self._events, select.POLLIN)
        while True:
            ready = events.poll(int(TURN * 1000))
            self._scripts.write_down()  # before anything is told that may have others take over
            for event in os.read(self._events, 64) if ready else b"":
                self._actions[event]()
            self._look_at_time(time.monotonic())
            if not ready and not self._is_leaving:
                self._look_around()

    def _reactions(self, engine: ModuleType) -> dict[int, Callable[[], None]]:
        """For each event what it leads to."""
        return {
            signal.SIGTERM: self._end_by_signal,
            signal.SIGINT: self._end_by_signal,
            signal.SIGUSR1: lambda: tell(RELOAD, 0, self._pool.reload_ms()),
            signal.SIGXCPU: self._end_by_cpu_time,
            engine.EVENT_LEAVE: self._obey,
            engine.EVENT_ORPHAN: self._become_orphan,
            engine.EVENT_MAXIMUM: lambda: tell(RECYCLE, MAXIMUM_REQUESTS),
            engine.EVENT_STALE: self._be_stale,
            engine.EVENT_LEFT: self._exit,
        }

    def _look_at_time(self, now: float) -> None:
        if self._leave_by is not None and now >= self._leave_by:
            self._leave_in_time()
        served, running = self._pool.activity()
        if self._activity.has_ceased(served, running, now):
            tell(RECYCLE, INACTIVITY_TIMEOUT)

    def _look_around(self) -> None:
        """Nothing has happened for a turn."""
        if self._is_orphan:
            self._leave_if_idle()
        elif self._sources.have_changed():
            tell(CHANGED)

    # New code, and limits: it asks for its successor, and serves on.

    def _be_stale(self) -> None:
        """reload=strict: a request found its script changed, and was refused. It is told until the
        supervisor has withdrawn this worker, though not for each request."""
        now = time.monotonic()
        if now - self._stale_at >= TURN and not self._is_leaving:
            self._stale_at = now
            self._sources.have_changed()  # what is told now need not be told again
            tell(CHANGED)

    def _end_by_signal(self) -> None:
        """As applications do to have their code loaded anew. Serves on until the supervisor has
        brought another worker, so that nobody finds the group without one, but for no longer than
        shutdown-timeout; told again, it waits for nobody."""
        if self._is_orphan or self._is_leaving or self._leave_by is not None:
            self._leave_in_time()
        else:
            self._leave_by = time.monotonic() + self._shutdown_timeout
            tell(RECYCLE, SIGNAL)

    def _end_by_cpu_time(self) -> None:
        """cpu-time-limit: the kernel says so again each second. It serves on meanwhile; the hard
        limit, which ends it at once, is some seconds away."""
        if self._is_orphan:
            self._leave()
        elif not self._is_spent:
            self._is_spent = True
            tell(RECYCLE, CPU_TIME_LIMIT)

    # Without a supervisor.

    def _become_orphan(self) -> None:
        """The supervisor is gone: serve on until nobody comes any more (SUCCESSION 5)."""
        self._is_orphan = True
        self._last_connection = time.monotonic()
        self._idle_limit = ORPHAN_UNKNOWN
        self._leave_if_idle()

    def _leave_if_idle(self) -> None:
        now = time.monotonic()
        if self._pool.connections() > 0:
            self._last_connection = now
            self._idle_limit = ORPHAN_IDLE
        elif now - self._last_connection > self._idle_limit:
            self._leave()

    # The end.

    def _obey(self) -> None:
        """DRAIN or STOP: the time they allow is kept in C."""
        self._is_told = True
        if self._leave_by is not None:
            self._leave_in_time()
        self._leave()

    def _leave_in_time(self) -> None:
        """Finish what runs within shutdown-timeout."""
        self._leave_by = None
        self._watch_the_end()
        self._leave()

    def _leave(self) -> None:
        """Finish what runs. EVENT_LEFT follows."""
        if not self._is_leaving:
            self._is_leaving = True
            self._pool.drain()

    def _watch_the_end(self) -> None:
        """If it takes longer than shutdown-timeout from now on, the process ends all the same."""
        self._pool.watchdog(int(self._shutdown_timeout * 1000))

    def _exit(self) -> NoReturn:
        """Exit callbacks run, for as long as shutdown-timeout allows. Python's finalisation does
        not: with threads of the application alive it is where interpreters crash (C 20)."""
        self._watch_the_end()
        if self._is_told:
            tell(LEFT)
        self._pool.stop()
        atexit._run_exitfuncs()  # what they print needs the engine
        for stream in (sys.stdout, sys.stderr):
            # The application may have closed or replaced it; nothing of ours is lost then.
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        self._pool.close()
        os._exit(0)
