# SPDX-License-Identifier: Apache-2.0
"""What workers and preloaders say, as it comes: messages, log lines, the privileged step's report;
and what could not be written to them at once.

Who says too much is not read until the next second, so that no tenant keeps this process busy. What
a message means is not known here. Up: crew.py; down: process.py, loop.py, logs.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .logs import Logs
from .loop import READ, WRITE, Callback, Loop, now
from .process import Process

Words = tuple[int, int, int]  # type, argument, value


@dataclass(frozen=True, slots=True)
class Calls:
    """What the crew is told."""

    heard: Callable[[Process, Words], None]
    flooded: Callable[[Process], None]  # it spent its budget of messages
    silent: Callable[[Process], None]  # nobody holds the other end of its message pipe
    unreadable: Callable[[Process], None]  # what lies in its pipes: they are read no more


class Hearing:
    """The descriptors of all that run, in the loop."""

    def __init__(self, loop: Loop, logs: Logs, calls: Calls) -> None:
        self._loop = loop
        self._logs = logs
        self._calls = calls
        self._resting: dict[int, Callback] = {}  # descriptors not read until the next second

    def watch(self, worker: Process) -> None:
        if worker.report >= 0:
            self._loop.watch(worker.report, READ, lambda: self._on_report(worker))
        self._loop.watch(worker.messages, READ, lambda: self.listen(worker))
        self._loop.watch(worker.log, READ, lambda: self._on_log(worker))
        self._watch_unsent(worker)

    def close(self, worker: Process) -> None:
        for fd in (worker.report, worker.control, worker.messages, worker.log):
            self._resting.pop(fd, None)
            self._loop.unwatch(fd)
        worker.close()

    def tell(self, worker: Process, data: bytes) -> None:
        """What its control pipe does not take now goes when it does."""
        worker.send(data)
        self._watch_unsent(worker)

    def listen(self, worker: Process) -> None:
        """To the messages that have come."""
        words = worker.read_messages()
        if worker.is_unreadable:
            self._give_up(worker)
            return
        if words is None:
            self._loop.unwatch(worker.messages)
            self._calls.silent(worker)
            return
        for word in words:
            self._calls.heard(worker, word)
            if worker.is_closed:
                return
            if not worker.budget.take(now()):
                self._pause(worker)

    def hear_out(self, worker: Process) -> None:
        """All that it has said before its end."""
        self._on_report(worker)
        was_given_up = worker.is_unreadable
        for word in worker.read_messages() or []:
            self._calls.heard(worker, word)
        words = worker.read_last_words()
        self._logs.worker_said(worker.definition.digest, worker.pid, words, now(), are_last=True)
        if worker.is_unreadable and not was_given_up:
            self._give_up(worker)

    def wake(self) -> None:
        """Each second: those that rest are read again."""
        for fd, callback in self._resting.items():
            self._loop.watch(fd, READ, callback)
        self._resting.clear()

    def _watch_unsent(self, worker: Process) -> None:
        if worker.unsent and not self._loop.is_watched(worker.control):
            self._loop.watch(worker.control, WRITE, lambda: self._on_writable(worker))

    def _on_writable(self, worker: Process) -> None:
        worker.flush()
        if not worker.unsent:
            self._loop.unwatch(worker.control)

    def _on_report(self, worker: Process) -> None:
        if not worker.read_report():
            self._loop.unwatch(worker.report)

    def _on_log(self, worker: Process) -> None:
        lines = worker.read_log(now())
        if worker.is_unreadable:
            self._give_up(worker)
        if lines is None:
            self._loop.unwatch(worker.log)
            lines = worker.lines.end()
        elif worker.is_loud:
            self._rest(worker.log, lambda: self._on_log(worker))
        self._logs.worker_said(worker.definition.digest, worker.pid, lines, now())

    def _give_up(self, worker: Process) -> None:
        """Reading it: reader.py tells why."""
        for fd in (worker.messages, worker.log):
            self._resting.pop(fd, None)
            self._loop.unwatch(fd)
        self._calls.unreadable(worker)

    def _pause(self, worker: Process) -> None:
        if worker.messages not in self._resting:
            self._rest(worker.messages, lambda: self.listen(worker))
            self._calls.flooded(worker)

    def _rest(self, fd: int, callback: Callback) -> None:
        self._loop.unwatch(fd)
        self._resting[fd] = callback
