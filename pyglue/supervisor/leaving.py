# SPDX-License-Identifier: Apache-2.0
"""How one worker of a group ends by our wish: it is withdrawn, drains, is told to stop, is killed.

Part of the sans-IO core. Which worker is to go is the group's decision (`group.py`). How long it
may finish what it runs depends on why it goes (`drain_of`); then it has shutdown-timeout, then it
is killed. Nothing else ends a request (SUCCESSION.md section 4).
"""

from __future__ import annotations

from . import messages
from .actions import Drain, Kill, Outbox, Stop, Withdraw
from .plan import GroupPlan
from .worker import State, Why, Worker

STOP_GRACE = 1.0  # beyond shutdown-timeout, for the worker's own exit
WORD_EVERY = 60.0  # seconds between two lines about a worker that drains
LATE_GRACE = 15.0  # where no graceful-timeout is written, and a request never ends


def drain_of(definition: GroupPlan, why: Why) -> tuple[float | None, str]:
    """Seconds that a worker may drain, and the option that says so; None: without a limit."""
    evicted, graceful = definition.eviction_timeout, definition.graceful_timeout
    if why is Why.SIGNAL and evicted:
        return evicted, "eviction-timeout"
    if why is not Why.CHANGE and graceful is not None:
        return graceful, "graceful-timeout"
    if why is Why.LATE:
        return LATE_GRACE, "graceful-timeout"
    if definition.drain_timeout is not None:
        return definition.drain_timeout or None, "drain-timeout"
    return definition.request_timeout or None, "request-timeout"


class Leaving:
    """The ends that a group's workers are brought to."""

    def __init__(self, out: Outbox) -> None:
        self._out = out

    def retire(self, worker: Worker, now: float) -> None:
        """Lets it finish what it runs; one that never served just ends."""
        seconds, _ = drain_of(worker.definition, worker.why)
        if not worker.published or seconds == 0:
            self.end(worker, now)
            return
        self.withdraw(worker)
        worker.state = State.LEAVING
        worker.is_draining = True
        worker.left_at = now
        worker.word_at = now + WORD_EVERY
        worker.deadline = None if seconds is None else now + seconds
        # Should we die meanwhile, it keeps the time itself.
        whole = None if seconds is None else seconds + worker.definition.shutdown_timeout
        self._out.put(Drain(worker.number, whole))

    def hurry(self, worker: Worker, now: float) -> None:
        """One that drains says that a request of its will never end."""
        worker.why = Why.LATE
        seconds, _ = drain_of(worker.definition, worker.why)
        end = now + (seconds or 0.0)
        if worker.is_draining and (worker.deadline is None or end < worker.deadline):
            worker.deadline = end

    def end(self, worker: Worker, now: float) -> None:
        """Ends it within its shutdown-timeout; at once if it has not spoken yet."""
        worker.blamed = False  # whatever it did, its end is now our wish
        if worker.state is State.LAUNCHED:
            worker.state = State.LEAVING
            self.kill(worker, "it was not needed any more")
            return
        self.withdraw(worker)
        worker.state = State.LEAVING
        worker.is_draining = False
        worker.word_at = None
        allowed = worker.definition.shutdown_timeout
        worker.deadline = now + allowed + STOP_GRACE
        self._out.put(Stop(worker.number, allowed))

    def withdraw(self, worker: Worker) -> None:
        """Children give it nothing more."""
        if worker.published:
            worker.published = False
            self._out.put(Withdraw(worker.number))

    def kill(self, worker: Worker, why: str) -> None:
        """Now."""
        worker.deadline = None
        worker.killed = why
        self._out.put(Kill(worker.number))

    def tick(self, worker: Worker, now: float) -> None:
        """Says each minute that it drains yet; acts when its deadline has passed."""
        if worker.word_at is not None and now >= worker.word_at:
            self._tell(worker, now)
        if worker.deadline is None or now < worker.deadline:
            return
        if worker.is_draining:
            seconds, option = drain_of(worker.definition, worker.why)
            self._out.say(
                messages.DRAINED_LATE,
                number=worker.number,
                pid=worker.pid,
                seconds=seconds,
                option=option,
            )
            self.end(worker, now)
        else:
            self._overdue(worker)

    def _tell(self, worker: Worker, now: float) -> None:
        worker.word_at = now + WORD_EVERY
        left = None if worker.deadline is None else worker.deadline - now
        self._out.say(
            messages.STILL_DRAINS,
            number=worker.number,
            pid=worker.pid,
            minutes=round((now - worker.left_at) / 60),
            end="nothing bounds that; drain-timeout= would"
            if left is None
            else f"it has {left:.0f} s yet",
        )

    def _overdue(self, worker: Worker) -> None:
        if worker.state is State.LAUNCHED and not worker.blamed:
            seconds = worker.definition.launch_timeout
            self._out.say(
                messages.LAUNCH_LATE, number=worker.number, pid=worker.pid, seconds=seconds
            )
            worker.blamed = True
            worker.failure = f"it did not report within {seconds:g} s"
        elif not worker.blamed:
            self._out.say(
                messages.KILLED_LATE,
                number=worker.number,
                pid=worker.pid,
                seconds=worker.definition.shutdown_timeout,
            )
        self.kill(worker, worker.failure or "its shutdown-timeout had passed")
