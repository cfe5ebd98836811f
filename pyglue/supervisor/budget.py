# SPDX-License-Identifier: Apache-2.0
"""So much a second, and so much at once. Time is handed in."""

from __future__ import annotations


class Budget:
    """A bucket of tokens."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst, self._left, self._at = rate, burst, burst, 0.0

    def grant(self, now: float, wanted: int) -> int:
        """How many of them may be had."""
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        granted = min(wanted, int(self._left))
        self._left -= granted
        return granted

    def take(self, now: float) -> bool:
        return self.grant(now, 1) == 1

    def next_time(self, now: float) -> float:
        """When one of them may be had; now if there is one."""
        self.grant(now, 0)
        return now + max(1.0 - self._left, 0.0) / self._rate
