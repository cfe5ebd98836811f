# SPDX-License-Identifier: Apache-2.0
"""Those that run, workers and preloaders: begun, told, heard, and ended.

What a worker says or suffers is brought to the roster. What a preloader does goes to the nursery,
and the core knows nothing of it; a fork of a preloader becomes a worker here, when it says so and
is one. Up: server.py; down: births.py, nursery.py, hearing.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from . import channel, messages, nursery
from .actions import Action, Death, Launch
from .births import Births
from .hearing import Calls, Hearing, Words
from .listeners import ListenError
from .logs import Logs
from .loop import Loop, now
from .nursery import NUMBER as PRELOADER
from .process import Process
from .roster import Roster
from .worker import Command, Message


class Crew:
    """Workers by number and by pid; preloaders are the nursery's."""

    def __init__(
        self,
        loop: Loop,
        logs: Logs,
        births: Births,
        roster: Roster,
        do: Callable[[list[Action]], None],
    ) -> None:
        self._logs = logs
        self._births = births
        self._roster = roster
        self._do = do
        self._all: dict[int, Process] = {}
        self._by_pid: dict[int, Process] = {}
        self.hearing = Hearing(
            loop, logs, Calls(self._heard, self._flooded, self._silent, self._unreadable)
        )
        self._nursery = births.attend(
            nursery.Calls(
                watch=self.hearing.watch,
                forget=self.hearing.close,
                tell=self.hearing.tell,
                told=self._open_listener,
                failed=self._launch_failed,
                say=logs.say,
            ),
        )

    # For the server.

    def __getitem__(self, number: int) -> Process:
        return self._all[number]

    def __contains__(self, number: int) -> bool:
        return number in self._all

    def numbers(self) -> list[int]:
        """Of workers."""
        return list(self._all)

    def living(self) -> Iterator[Process]:
        """Workers and preloaders."""
        yield from self._all.values()
        yield from self._nursery.preloaders()

    def tick(self, at: float) -> None:
        """Each second."""
        self.hearing.wake()
        preloading = (w.definition for w in self._all.values() if w.definition.preload)
        self._nursery.keep({definition.digest for definition in preloading})
        self._nursery.tick(at)

    def launch(self, action: Launch) -> None:
        try:
            started = self._births.make(action, now())
        except (OSError, ValueError, ListenError) as error:
            self._launch_failed(action.number, str(error))
            return
        self._all[started.number] = started
        self.hearing.watch(started)
        if started.pid:
            self._launched(started)

    def command(self, number: int, command: Command, allowed: float | None) -> None:
        words = channel.WORDS.pack(command, 0, int((allowed or 0.0) * 1000))
        self.hearing.tell(self._all[number], words)

    def kill(self, number: int) -> None:
        worker = self._all[number]
        if worker.pid:
            worker.kill()
            return
        self._nursery.settle(number)
        self._do(self._roster.gone(number, Death("was never begun", clean=True), now()))

    def forget(self, number: int) -> None:
        """It is gone: nothing of it is left."""
        worker = self._all.pop(number, None)
        if worker is None:
            return
        self._nursery.settle(number)
        self._by_pid.pop(worker.pid, None)
        self.hearing.close(worker)
        self._births.remove_socket(worker.listener)

    # How they end, by what deaths.py has seen.

    def process_of(self, pid: int) -> Process | None:
        """One that was forked a moment ago may not have been heard yet."""
        if pid not in self._by_pid:
            for worker in [w for w in self._all.values() if not w.pid]:
                if self._nursery.is_forking(worker.number):
                    self.hearing.listen(worker)
        return self._by_pid.get(pid) or self._nursery.by_pid(pid)

    def stopped(self, worker: Process) -> None:
        if worker.number == PRELOADER:
            worker.kill()
        else:
            self._do(self._roster.stopped(worker.number))

    def gone(self, worker: Process, death: Death) -> None:
        if worker.number == PRELOADER:
            self._nursery.gone(worker, death)
        else:
            self._do(self._roster.gone(worker.number, death, now()))

    # How they begin.

    def _launched(self, worker: Process) -> None:
        self._by_pid[worker.pid] = worker
        self._do(self._roster.launched(worker.number, worker.pid, now()))

    def _launch_failed(self, number: int, reason: str) -> None:
        self._do(self._roster.launch_failed(number, reason, now()))

    def _open_listener(self, worker: Process) -> None:
        """Of one that is being forked by a preloader."""
        try:
            self._births.open_listener(worker)
        except ListenError as error:
            self._launch_failed(worker.number, str(error))

    # What they say.

    def _heard(self, worker: Process, words: Words) -> None:
        kind, _, value = words
        if worker.number == PRELOADER:
            self._nursery.message(worker, words, now())
        elif worker.pid or kind != Message.FORKED:
            self._do(self._roster.message(worker.number, words, now()))
        elif nursery.is_fork(value, worker.definition.uid) and value not in self._by_pid:
            worker.adopt(value)
            self._nursery.settle(worker.number)
            self._launched(worker)
        else:
            self._launch_failed(worker.number, "its preloader named a process that is none")

    def _flooded(self, worker: Process) -> None:
        if worker.number != PRELOADER:
            self._do(self._roster.flooded(worker.number, now()))

    def _silent(self, worker: Process) -> None:
        """Its death tells the rest, if it was ever alive."""
        if not worker.pid and self._nursery.is_forking(worker.number):
            self._launch_failed(worker.number, "its preloader could not fork it")

    def _unreadable(self, worker: Process) -> None:
        if worker.number == PRELOADER:
            values: dict[str, object] = {"number": worker.number, "pid": worker.pid}
            self._logs.say(messages.WORKER_UNREADABLE, values, worker.definition.digest)
            worker.kill()
        else:
            self._do(self._roster.unreadable(worker.number))
