# SPDX-License-Identifier: Apache-2.0
"""How a worker begins: from its settings to READY, or to the one message that says why it cannot.

The order is that of docs/plan.md section 4. Nothing here is on a request's path: the threads that
serve the socket are C's (`pool.c`), and what the main thread does beside them is `life.py`. Under
preload=on a process begins here that loads the application, and each of its forks goes on from
there with settings of its own (`preload.py`).
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
from collections.abc import Iterator
from types import ModuleType
from typing import NoReturn

from . import descriptors, preload, process
from .descriptors import CONTROL, LISTENER, LOG, MESSAGES, RECORD
from .engine import import_engine
from .life import Life
from .messages import (
    FORKED,
    HELLO,
    NO_PYTHON,
    NO_THREADS,
    PRELOAD,
    READY,
    VERSION,
    Failure,
    say,
    tell,
)
from .scripts import Scripts
from .settings import (
    Settings,
    check_python,
    for_interpreter,
    for_pool,
    package_of,
    read_settings,
)
from .sources import Sources

GROUP_VARIABLE = "PYGLUE_GROUP"  # by which `pyglue reload` knows a worker


def main() -> NoReturn:
    early = process.EarlyReload()
    os.environ.pop(GROUP_VARIABLE, None)  # what it starts is no worker
    descriptors.keep()
    try:
        start = Start()
        start.prepare()
        is_loaded = start.scripts.load_all()
        start.serve(is_loaded=is_loaded)
    except Failure as failure:
        failure.tell()
        os._exit(1)
    tell(READY, int(is_loaded))
    early.tell()  # a supervisor takes no other word before READY
    start.pool.watch()
    start.live()


class Start:
    """One worker until it serves. The main thread runs it."""

    def __init__(self) -> None:
        self.settings = read_settings()
        descriptors.keep(has_list=bool(self.settings.get("has_list")))
        self._say_hello()
        check_python(self.settings)
        self.engine: ModuleType = import_engine(package_of(self.settings))
        self.pool = self.engine.Worker()
        self.scripts = Scripts(self.settings, self.engine, self.pool)
        # Not at the top: it needs the engine.
        self.sources = Sources(importlib.import_module("pyglue.loader.reload").watched)

    def prepare(self) -> None:
        """The process and its Python; returns in each worker that is forked of a preloader."""
        preloads = self.settings.get("preloads", False)
        if preloads:
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # workers reload, and it ends with them
        else:
            self._listen_to_supervisor()
        process.prepare(self.settings, self.pool)
        self._open()
        if preloads:
            self._preload()
            self._listen_to_supervisor()

    def serve(self, *, is_loaded: bool) -> None:
        settings = self.settings
        own = descriptors.own(has_list=bool(settings.get("has_list")))
        with starting_threads(settings):
            self.pool.serve(
                (*own, self.events, self.events_in),
                listener=LISTENER,
                record=RECORD,
                events=self.events_in,
                messages=MESSAGES,
                stacks_signal=process.STACKS,
                **for_pool(settings),
            )
        self.pool.signals(self.events_in)
        self.pool.ready(is_loaded)

    def live(self) -> NoReturn:
        life = Life(self.settings, self.engine, self.pool, self.events, self.scripts, self.sources)
        life.run()

    def _say_hello(self) -> None:
        tell(HELLO, VERSION, self.settings["number"])

    def _listen_to_supervisor(self) -> None:
        """From now on there is a second thread."""
        self.events, self.events_in = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        with starting_threads(self.settings):
            self.pool.commands(CONTROL, LOG, self.events_in)

    def _open(self) -> None:
        package = os.fsencode(package_of(self.settings))
        try:
            self.pool.open(package, for_interpreter(self.settings))
        except (RuntimeError, OSError, MemoryError) as error:
            raise Failure(NO_PYTHON, f"the engine could not be opened: {error}") from None

    def _preload(self) -> None:
        # Not at the top: it needs the engine.
        forks = importlib.import_module("pyglue.loader.interpreter").forks
        tell(READY, int(self.scripts.load_preloaded()))
        forks.become_workers = True
        preload.fork_workers(lambda text: say(PRELOAD, text))
        forks.become_workers = False
        tell(FORKED, 0, os.getpid())
        self.settings = read_settings()
        self.scripts = Scripts(self.settings, self.engine, self.pool)
        self._say_hello()


@contextlib.contextmanager
def starting_threads(settings: Settings) -> Iterator[None]:
    """What is short then is a limit of the group's as a rule."""
    try:
        yield
    except (OSError, MemoryError) as error:
        why = error.strerror if isinstance(error, OSError) else "out of memory or of processes"
        threads, size = settings["threads"], settings.get("stack_size", 0)
        raise Failure(
            NO_THREADS,
            f"threads cannot be started (threads={threads}, stack-size={size}): {why}. A "
            "stack-size that is too small is refused; process-limit and pids-max must have room "
            "for all threads, memory-limit and virtual-memory-limit for their stacks, too",
        ) from None
