# SPDX-License-Identifier: Apache-2.0
"""How the workers of a group give way to new ones: who is published, and who is retired for it.

Part of the sans-IO core. The rules are those of SUCCESSION.md, sections 3 and 4:

- a replacement is published when it is ready, and only then is its predecessor withdrawn;
- while good workers serve, they are replaced one at a time, and a worker whose scripts failed to
  load is not published: it stays, watches its files and holds the roll;
- where nothing better serves it is published, and answers 500 at once.

That new ones are started meanwhile is the group's affair (`group.py`).
"""

from __future__ import annotations

from . import messages
from .actions import Outbox, Publish
from .failures import Failures
from .leaving import Leaving
from .plan import GroupPlan
from .strength import count_leaving, has_older, surplus
from .worker import Why, Worker

LEAVING_CAP = 4  # times processes: at so many leaving workers a roll waits


class Roll:
    """One group's. Shares its workers with it."""

    def __init__(
        self,
        workers: dict[int, Worker],
        out: Outbox,
        leaving: Leaving,
        failures: Failures,
        *,
        inherits: bool,
    ) -> None:
        self.inherits = inherits  # workers of a supervisor before us serve it, until ours can
        self._workers = workers
        self._out = out
        self._leaving = leaving
        self._failures = failures
        self._waits = False  # at the cap on leaving workers
        self._is_exclusive = False  # reload=strict: its workers do not load beside older ones

    @property
    def is_blocked(self) -> bool:
        """Nothing may be started beside those that leave."""
        return self._is_exclusive and count_leaving(self._workers.values()) > 0

    @property
    def good_serves(self) -> bool:
        workers = self._workers.values()
        return self.inherits or any(w.is_good and w.published for w in workers)

    def fit(self, definition: GroupPlan) -> None:
        """A new plan."""
        self._is_exclusive = self._is_exclusive and definition.strict_reload

    def supersede_all(self, why: Why, now: float) -> None:
        """All that run are to be replaced; what was never published ends at once."""
        for worker in list(self._workers.values()):
            if not worker.is_live:
                continue
            if not worker.superseded:
                worker.why = why
            worker.superseded = True
            if not worker.published:
                self._leaving.end(worker, now)

    def load_alone(self, worker: Worker, wanted: GroupPlan, now: float) -> bool:
        """It did not load. Under reload=strict, beside older ones that may hold what it needs: it
        ends, and the next one is started when those are gone."""
        self._is_exclusive = wanted.strict_reload and has_older(self._workers.values())
        if self._is_exclusive:
            self._out.say(messages.LOADS_ALONE, number=worker.number)
            self._leaving.end(worker, now)
        return self._is_exclusive

    def settle(self, wanted: GroupPlan, count: int, now: float) -> None:
        """The steps that are due, from the state alone. count: how many there shall be."""
        self._publish_ready()
        if self._is_exclusive:
            self.retire_superseded(now)
        if self.good_serves:
            self._retire_unloaded(wanted, now)
        for worker in surplus(self._workers.values(), count):
            self._leaving.retire(worker, now)

    def publish(self, worker: Worker) -> None:
        worker.published = True
        self._failures.cause = ""
        self._out.put(Publish(worker.number, worker.definition))

    def retire_superseded(self, now: float) -> None:
        """reload=strict: they get no request any more, whoever takes their place."""
        for worker in self._workers.values():
            if worker.superseded and worker.published and worker.is_live:
                self._leaving.retire(worker, now)

    def may_go_on(self, processes: int) -> bool:
        """At the cap on leaving workers a roll waits; nothing is ended for it. Said once."""
        leaving = count_leaving(self._workers.values())
        is_at_cap = leaving >= LEAVING_CAP * processes
        if is_at_cap and not self._waits:
            self._out.say(messages.ROLL_WAITS, leaving=leaving)
        self._waits = is_at_cap
        return not is_at_cap

    def _publish_ready(self) -> None:
        for worker in self._workers.values():
            if worker.is_good and not worker.published:
                self.publish(worker)
                self.inherits = False
        if not self.good_serves:
            for worker in self._workers.values():
                if worker.is_unloaded and not worker.published:
                    self.publish(worker)

    def _retire_unloaded(self, wanted: GroupPlan, now: float) -> None:
        """Something good serves, so nobody shall get a 500. A fresh one that failed holds the roll
        as long as all good ones are old; beside a fresh good one it is a failure of its own."""
        fresh_good = any(w.is_good and not w.superseded for w in self._workers.values())
        for worker in list(self._workers.values()):
            if not worker.is_unloaded:
                continue
            if worker.published or worker.superseded or fresh_good:
                if not worker.superseded or worker.definition != wanted:
                    self._failures.backoff.failed(now)
                self._leaving.retire(worker, now)
