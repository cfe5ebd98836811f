# SPDX-License-Identifier: Apache-2.0
"""How one worker of a group ends by our wish: it is withdrawn, drains, is told to stop, is killed.

Part of the sans-IO core. Which worker is to go is the group's decision (`group.py`).
"""

from __future__ import annotations

from . import messages
from .actions import Drain, Kill, Outbox, Stop, Withdraw
from .worker import State, Worker

STOP_GRACE = 1.0  # beyond shutdown-timeout, for the worker's own exit


class Leaving:
    """The ends that a group's workers are brought to."""

    def __init__(self, out: Outbox) -> None:
        self._out = out

    def retire(self, worker: Worker, now: float) -> None:
        """Lets it finish what it runs; one that never served just ends."""
        if not worker.published:
            self.end(worker, now)
            return
        self.withdraw(worker)
        worker.state = State.LEAVING
        worker.deadline = None
        self._out.put(Drain(worker.number, None))

    def end(self, worker: Worker, now: float) -> None:
        """Ends it within its shutdown-timeout; at once if it has not spoken yet."""
        worker.blamed = False  # whatever it did, its end is now our wish
        if worker.state is State.LAUNCHED:
            worker.state = State.LEAVING
            self.kill(worker)
            return
        self.withdraw(worker)
        worker.state = State.LEAVING
        allowed = worker.definition.shutdown_timeout
        worker.deadline = now + allowed + STOP_GRACE
        self._out.put(Stop(worker.number, allowed))

    def withdraw(self, worker: Worker) -> None:
        """Children give it nothing more."""
        if worker.published:
            worker.published = False
            self._out.put(Withdraw(worker.number))

    def kill(self, worker: Worker) -> None:
        """Now."""
        worker.deadline = None
        self._out.put(Kill(worker.number))

    def overdue(self, worker: Worker) -> None:
        """Its deadline has passed in the state that it is in."""
        if worker.state is State.LAUNCHED and not worker.blamed:
            seconds = worker.definition.launch_timeout
            self._out.say(messages.LAUNCH_LATE, number=worker.number, seconds=seconds)
            worker.blamed = True
            worker.failure = f"it did not report within {seconds:g} s"
        elif not worker.blamed:
            self._out.say(
                messages.KILLED_LATE,
                number=worker.number,
                seconds=worker.definition.shutdown_timeout,
            )
        self.kill(worker)
