# SPDX-License-Identifier: Apache-2.0
"""What a group may start: one worker at a time, within a budget of its own and admitted among the
starts of all groups (admission.py), as long as the tables have room.

Part of the sans-IO core. Which worker is missing is the group's to say (`group.py`).
"""

from __future__ import annotations

from collections.abc import Callable

from .actions import Launch, Outbox
from .admission import Admission, own_budget
from .plan import GroupPlan
from .worker import Worker

RETRY = 1.0  # seconds until a start is tried again for which the tables had no room

NewNumber = Callable[[], "int | None"]


class Starts:
    """One group's."""

    def __init__(
        self, definition: GroupPlan, new_number: NewNumber, admission: Admission, out: Outbox
    ) -> None:
        self._digest = definition.digest
        self._processes = definition.processes
        self._new_number = new_number  # None from it: the tables are full
        self._admission = admission
        self._out = out
        self._budget = own_budget(definition.processes)
        self._permits = 0  # workers that it may start in this event
        self._roll = 0  # how often all workers were to be replaced
        self._retry_at = 0.0  # the tables were full

    def fit(self, definition: GroupPlan) -> None:
        """A new plan's number of processes."""
        if definition.processes != self._processes:
            self._processes = definition.processes
            self._budget = own_budget(definition.processes)

    def permit(self, workers: int) -> None:
        """So many may be started now."""
        self._permits = workers

    def begin_roll(self) -> None:
        """What is started from now on shares nothing that was loaded before."""
        self._roll += 1

    def ended(self, number: int) -> None:
        """That start is over: the worker is ready, or gone."""
        self._admission.ended(number)

    def is_affordable(self, now: float) -> bool:
        return self._budget.next_time(now) <= now

    def is_admitted(self, *, urgent: bool) -> bool:
        """Uses up a permit. Without one it asks for it: the answer is an event."""
        if not self._permits:
            self._admission.ask(self._digest, urgent=urgent)
            return False
        self._permits -= 1
        return True

    def start(self, definition: GroupPlan, now: float, *, superseded: bool) -> Worker | None:
        """One of this definition; None: there is no room."""
        number = self._new_number()
        if number is None:
            self._retry_at = now + RETRY  # said by the roster
            return None
        self._budget.take(now)
        self._admission.started(number, now)
        self._out.put(Launch(number, definition, self._roll))
        return Worker(number, definition, superseded=superseded)

    def times(self, now: float) -> tuple[float, float]:
        """When a start may be tried that could not be made now."""
        return self._budget.next_time(now), self._retry_at
