# SPDX-License-Identifier: Apache-2.0
"""How a group grows when requests wait, shrinks when it is idle, and rests without a worker.

Part of the sans-IO core. By which numbers is scaling.py's to say; here it is brought to a group's
workers and into its log. What is missing then is started by the group (`group.py`).
"""

from __future__ import annotations

from . import messages
from .actions import Outbox
from .failures import Failures
from .leaving import Leaving
from .plan import GroupPlan
from .scaling import IdleStops, Load, Scale
from .strength import is_alone, is_at_strength
from .worker import Worker


class Size:
    """One group's. Shares its workers with it."""

    def __init__(
        self,
        definition: GroupPlan,
        workers: dict[int, Worker],
        out: Outbox,
        leaving: Leaving,
        failures: Failures,
        idle: IdleStops,
        *,
        is_served: bool,
    ) -> None:
        self._digest = definition.digest
        self._scale = Scale(definition, is_served=is_served)
        self._workers = workers
        self._out = out
        self._leaving = leaving
        self._failures = failures
        self._idle = idle

    @property
    def count(self) -> int:
        """How many workers there shall be."""
        return self._scale.count

    @property
    def is_elastic(self) -> bool:
        return self._scale.is_elastic

    @property
    def may_shrink(self) -> bool:
        return self._scale.count > self._scale.least

    def rests(self, now: float) -> bool:
        """On demand: without a worker, and the next request has one started."""
        return self._scale.count == 0 and self._failures.backoff.may_start(now)

    def fit(self, definition: GroupPlan) -> None:
        """A new plan's bounds."""
        self._scale.fit(definition)

    def look(self, load: Load, now: float) -> bool:
        """At what waits for the group and runs in its workers. True: it changed."""
        if self._scale.count == 0 and not (load.waiting and self.rests(now)):
            return False
        change = self._scale.look(load, now, at_strength=self._is_at_strength())
        if change > 0 and self._scale.count == 1:
            self._out.say(messages.STARTED_ON_DEMAND)
        elif change > 0:
            self._out.say(messages.GROWN, waiting=load.waiting, count=self._scale.count)
        elif change < 0:
            self._out.say(messages.SHRUNK, count=self._scale.count)
        return change != 0

    def spare(self, worker: Worker, now: float) -> None:
        """It had no request for inactivity-timeout, and the group may have fewer workers."""
        if self.is_last(worker.number):
            self._idle.ask(self._digest, worker.number)
        elif worker.published and not worker.superseded and self._is_at_strength():
            self._scale.drop(now)
            self._out.say(messages.SHRUNK, count=self._scale.count)
            self._leaving.retire(worker, now)

    def is_last(self, number: int) -> bool:
        """This one alone serves, none is on its way, and none need be there."""
        return self._scale.least == 0 and is_alone(self._workers.values(), number)

    def stop_last(self, worker: Worker, now: float) -> None:
        """It has been withdrawn, and has no request."""
        self._out.say(messages.STOPPED_IDLE, number=worker.number, pid=worker.pid)
        self._scale.drop(now)
        self._leaving.retire(worker, now)

    def rest_if_empty(self, now: float) -> None:
        """On demand: without a request that waits none is started for one that failed or died."""
        if self._scale.least == 0 and not any(w.is_live for w in self._workers.values()):
            while self._scale.count > 0:
                self._scale.drop(now)

    def _is_at_strength(self) -> bool:
        return is_at_strength(self._workers.values(), self._scale.count)
