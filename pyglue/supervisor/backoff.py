# SPDX-License-Identifier: Apache-2.0
"""When a group may start its next worker: 0 or 1, 2, 4 … 60 seconds after failures in a row."""

from __future__ import annotations

LONGEST = 60.0
STEADY = 10.0  # a worker that served so long ends a row of failures
SOON = 1.0  # one that had finished requests is replaced so soon at the latest


class Backoff:
    """One group's row of failures. Time is handed in."""

    def __init__(self) -> None:
        self._failures = 0
        self.not_before = 0.0

    def reset(self) -> None:
        """Something changed (a file, a plan): the next try is at once."""
        self._failures = 0
        self.not_before = 0.0

    def failed(self, now: float) -> float:
        """A worker never became able to serve. Returns the delay. Those that were started
        together and fail together are one failure."""
        if now < self.not_before:
            return self.not_before - now
        self._failures += 1
        return self._wait(now)

    def died(self, now: float, ready_for: float, *, had_worked: bool) -> float:
        """A worker that had been ready died. The first of a row is replaced at once, one that had
        finished requests within a second. Those that die meanwhile wait with it."""
        if ready_for >= STEADY:
            self._failures = 0
        if had_worked:
            self._failures = min(self._failures, 1)
            self.not_before = min(self.not_before, now + SOON)
        if now < self.not_before:
            return self.not_before - now
        delay = self._wait(now) if self._failures else 0.0
        self._failures += 1
        return delay

    @property
    def is_failing(self) -> bool:
        """More than once in a row."""
        return self._failures > 1

    def may_start(self, now: float) -> bool:
        return now >= self.not_before

    def _wait(self, now: float) -> float:
        delay = float(min(2 ** min(self._failures - 1, 10), LONGEST))
        self.not_before = max(self.not_before, now + delay)
        return delay
