# SPDX-License-Identifier: Apache-2.0
"""What the failures of a group's workers mean: a line in the log, a wait, a word for requests.

Part of the sans-IO core. Knows one worker at a time; what is started instead is the group's
decision (`group.py`).
"""

from __future__ import annotations

from dataclasses import replace

from . import messages
from .actions import Death, Outbox
from .backoff import Backoff
from .causes import named
from .worker import RECYCLES, State, Worker

KILLED = "was killed by SIGKILL"
RELOADED = "was killed by SIGUSR1"
PATIENCE = 5.0  # a group that worked so lately keeps its requests waiting, whatever happens to it


class Failures:
    """One group's."""

    def __init__(self, out: Outbox) -> None:
        self.backoff = Backoff()
        self.cause = ""  # why nothing serves
        self.is_end_of_all = False  # requests are cut then, as at any server's stop
        self._out = out
        self._worked_at = float("-inf")  # when the last worker died that had finished requests

    def forget(self) -> None:
        """Something changed (a file, a plan): the next try is at once."""
        self.backoff.reset()
        self.cause = ""

    def launch_failed(self, number: int, reason: str, now: float) -> None:
        """A worker could not even be forked."""
        delay = self.backoff.failed(now)
        self._blame(reason, now)
        self._out.say(messages.LAUNCH_FAILED, number=number, reason=reason, next=_next(delay))

    def account(self, worker: Worker, death: Death, now: float, *, is_coming: bool) -> None:
        """What a death means: nothing, if it was asked for; else a failure of the group.
        is_coming: another worker is being started."""
        # One that a signal told to end asks for its replacement first.
        is_asked = worker.state is State.LEAVING or (worker.superseded and death.clean)
        if (is_asked or is_reloaded(worker, death)) and not worker.blamed:
            self._tell_ended(worker, death)
        elif worker.state is State.READY:
            self._tell(worker, death, self._died(worker, death, now, is_coming=is_coming))
        else:
            delay = self.backoff.failed(now)
            self._blame(worker.failure or f"its worker {death.cause}", now)
            self._tell(worker, death, delay)

    def _tell(self, worker: Worker, death: Death, delay: float) -> None:
        if worker.failure:
            self._out.say(
                messages.FAILED,
                number=worker.number,
                pid=worker.pid,
                reason=worker.failure,
                next=_next(delay),
            )
        elif death.is_undropped:
            self._out.say(
                messages.NOT_DROPPED,
                number=worker.number,
                pid=worker.pid,
                cause=death.cause,
                next=_next(delay),
            )
        else:
            self._out.say(
                messages.WORKER_DIED,
                number=worker.number,
                pid=worker.pid,
                cause=death.cause,
                served=death.served,
                running=_count(worker, death),
                next=_next(delay),
                ran=named(death.ran),
            )

    def _tell_ended(self, worker: Worker, death: Death) -> None:
        is_cut = bool(death.running) and not self.is_end_of_all
        self._out.say(
            messages.WORKER_CUT if is_cut else messages.WORKER_ENDED,
            number=worker.number,
            pid=worker.pid,
            served=death.served,
            running=len(death.running),
            cause=death.cause,
            ran=named(death.ran),
        )

    def _died(self, worker: Worker, death: Death, now: float, *, is_coming: bool) -> float:
        had_worked = death.served > len(death.running)
        if had_worked:
            self._worked_at = now
        delay = self.backoff.died(now, now - worker.ready_at, had_worked=had_worked)
        # Whoever asks meanwhile waits for a replacement that is on its way.
        self._blame(death.cause if delay and not is_coming else "", now)
        return delay

    def _blame(self, cause: str, now: float) -> None:
        """Why nothing serves: requests are told so at once. A worker that is killed, serving or
        starting, must cost none but those that it ran, and so the group that it worked in waits."""
        self.cause = cause if now - self._worked_at >= PATIENCE else ""


def is_reloaded(worker: Worker, death: Death) -> bool:
    """SIGUSR1 found it before it minds signals, which is the first thing that it does. What was
    asked for comes with the next one."""
    return worker.is_starting and death.cause == RELOADED


def explained(worker: Worker, death: Death) -> Death:
    """With what we know of it: that the signal was ours, and what the worker had told before."""
    if worker.killed and death.cause.startswith(KILLED):
        return replace(death, cause=f"{KILLED}: {worker.killed}")
    why = worker.recycled
    if why is not None and (death.running or not death.clean):
        is_told = why.name.lower().replace("_", "-") in death.cause  # by the record, at its end
        before = "" if is_told else f"; before, {RECYCLES[why]}"
        return replace(death, cause=death.cause + before)
    if death.clean and worker.state is State.READY and not worker.superseded:
        return replace(death, cause=f"{death.cause}, which nobody had asked for")
    limits = _memory_limits(worker)
    if worker.is_starting and limits and not death.is_undropped:
        return replace(death, cause=f"{death.cause}; {limits} may be too small to start in")
    return death


def _memory_limits(worker: Worker) -> str:
    """Those that its Python may not even start with, and then cannot say so."""
    options = ("memory_limit", "virtual_memory_limit")
    written = (name for name in options if getattr(worker.definition, name))
    return " or ".join(name.replace("_", "-") for name in written)


def _count(worker: Worker, death: Death) -> object:
    """Of the requests that ran: what never served ran none, whatever its record says."""
    is_known = death.complete or worker.state is not State.READY
    return len(death.running) if is_known else "an unknown number"


def _next(delay: float) -> str:
    return f"the next start is in {delay:.3g} s" if delay else "it is replaced at once"
