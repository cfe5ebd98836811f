# SPDX-License-Identifier: Apache-2.0
"""How many workers a group is to have, between `processes=LEAST-MOST`, from what waits and runs.

Part of the sans-IO core. What waits and runs is read from the rows, which httpd's children write:
counts, not truths, that the configured bounds hold in any case. `waiting` is a level that is looked
at again and again, never an event (SUCCESSION.md section 6).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from .budget import Budget
from .plan import GroupPlan

LOOK_EVERY = 0.1
GROW_AFTER = 0.5  # seconds in which requests waited at each look
SHRINK_AFTER = 60.0  # unless inactivity-timeout is set
IDLE_RATE = 4.0  # groups stopped a second, when many have become idle together


@dataclass(frozen=True, slots=True)
class Load:
    """Of one group, at one moment."""

    waiting: int
    running: int


class Scale:
    """One group's number of workers: `count`."""

    def __init__(self, definition: GroupPlan, *, is_served: bool) -> None:
        """is_served: by workers of a supervisor before us, which one of ours is to replace."""
        self._fit(definition)
        self.count = max(self.least, int(is_served))
        self._waits_since: float | None = None
        self._needed_at: float | None = None  # when one worker fewer would have been too few

    def fit(self, definition: GroupPlan) -> None:
        """A new plan's bounds."""
        self._fit(definition)
        self.count = min(max(self.count, self.least), self.most)

    def _fit(self, definition: GroupPlan) -> None:
        self.least, self.most = definition.least, definition.processes
        self._threads = definition.threads
        self._patience = definition.inactivity_timeout or SHRINK_AFTER

    @property
    def is_elastic(self) -> bool:
        return self.least < self.most

    def look(self, load: Load, now: float, *, at_strength: bool) -> int:
        """1: one more from now on, -1: one fewer, 0. at_strength: all that were wanted serve."""
        self._note(load, now)
        if self.count < self.most and self._is_short(load, now, at_strength=at_strength):
            return self._change(1, now)
        if self.count > max(self.least, 1) and at_strength and self._is_ample(now):
            return self._change(-1, now)
        return 0

    def drop(self, now: float) -> None:
        """One worker goes, and none comes for it."""
        self._change(-1, now)

    def _note(self, load: Load, now: float) -> None:
        if not load.waiting:
            self._waits_since = None
        elif self._waits_since is None:
            self._waits_since = now
        half = (self.count - 1) * self._threads / 2
        if self._needed_at is None or load.waiting or load.running > half:
            self._needed_at = now

    def _is_short(self, load: Load, now: float, *, at_strength: bool) -> bool:
        if self.count == 0:
            return load.waiting > 0
        return (
            at_strength and self._waits_since is not None and now - self._waits_since >= GROW_AFTER
        )

    def _is_ample(self, now: float) -> bool:
        return self._needed_at is not None and now - self._needed_at >= self._patience

    def _change(self, by: int, now: float) -> int:
        self.count = min(max(self.count + by, self.least), self.most)
        self._waits_since = None
        self._needed_at = now
        return by


class IdleStops:
    """Last workers of groups on demand that had no request for their inactivity-timeout. The one
    that was idle first goes first, and few a second, however many have become idle together."""

    def __init__(self) -> None:
        self._queue: deque[tuple[bytes, int]] = deque()
        self._budget = Budget(IDLE_RATE, IDLE_RATE)

    def ask(self, digest: bytes, number: int) -> None:
        if (digest, number) not in self._queue:
            self._queue.append((digest, number))

    def next(self, now: float) -> tuple[bytes, int] | None:
        """Who may be stopped now."""
        return self._queue.popleft() if self._queue and self._budget.take(now) else None

    def next_time(self, now: float) -> float | None:
        return self._budget.next_time(now) if self._queue else None
