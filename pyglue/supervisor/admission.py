# SPDX-License-Identifier: Apache-2.0
"""Which group may start a worker now, over all groups (TENANTS.md 8.4).

Part of the sans-IO core. A group that misses a worker asks; when there is room it is told, one
worker at a time, in the order in which the groups asked. So neither a crash loop over hundreds of
groups, nor one whose workers ask for successors again and again, keeps the machine busy with
starts. Groups that serve and have lost a worker go before those that start, or roll.
"""

from __future__ import annotations

from collections import deque

from .budget import Budget

AT_ONCE = 4  # workers that were started and are not ready
HOLD = 3.0  # seconds after which a start counts no more: one that hangs keeps nobody waiting
RATE, BURST = 10.0, 20.0  # starts a second, and at once
OWN_RATE, OWN_BURST = 1.0, 8.0  # of one group, at least: `own_budget`


def own_budget(processes: int) -> Budget:
    """What one group may start of its own accord: two rolls at once, and one in eight seconds."""
    return Budget(max(OWN_RATE, processes / 8), OWN_BURST + 2 * processes)


class Admission:
    """The queue for starts. Groups are named by their digests."""

    def __init__(self) -> None:
        self._urgent: deque[bytes] = deque()
        self._others: deque[bytes] = deque()
        self._starting: dict[int, float] = {}  # number to when it counts no more
        self._budget = Budget(RATE, BURST)

    def ask(self, group: bytes, *, urgent: bool) -> None:
        """It misses a worker. Again is harmless, and may change its urgency."""
        asked, other = self._urgent, self._others
        if not urgent:
            asked, other = other, asked
        if group in other:
            other.remove(group)
        if group not in asked:
            asked.append(group)

    def next(self, now: float) -> bytes | None:
        """The group that may start one worker now; it asks again if it misses more."""
        self._forget_slow(now)
        if len(self._starting) >= AT_ONCE or self._budget.next_time(now) > now:
            return None
        queue = self._urgent or self._others
        return queue.popleft() if queue else None

    def started(self, number: int, now: float) -> None:
        self._starting[number] = now + HOLD
        self._budget.take(now)

    def ended(self, number: int) -> None:
        """That start is over: the worker is ready, or gone."""
        self._starting.pop(number, None)

    def next_time(self, now: float) -> float | None:
        """When there is room for who waits; None: nobody does."""
        if not self._urgent and not self._others:
            return None
        self._forget_slow(now)
        times = [self._budget.next_time(now)]
        if len(self._starting) >= AT_ONCE:
            times.append(min(self._starting.values()))
        return max(times)

    def _forget_slow(self, now: float) -> None:
        self._starting = {n: until for n, until in self._starting.items() if until > now}
