# SPDX-License-Identifier: Apache-2.0
"""Whether there has been no request for inactivity-timeout.

A worker that was started on demand waits for its first one no longer either; others wait for that
without a limit, as mod_wsgi.
"""

from __future__ import annotations

from .settings import Settings


class Activity:
    """Of one worker, as its main thread sees it at each turn."""

    def __init__(self, settings: Settings) -> None:
        # A supervisor from before an upgrade says neither.
        self._limit = float(settings.get("inactivity_timeout", 0))
        self._is_armed = settings.get("processes_min") == 0
        self._served = 0
        self._since: float | None = None  # None: told, until the next request

    def has_ceased(self, served: int, running: int, now: float) -> bool:
        """Once for each time that it ceases."""
        if running or served != self._served or (self._is_armed and self._since is None):
            self._served, self._since = served, now
            self._is_armed = False
        if not self._limit or self._since is None or now - self._since < self._limit:
            return False
        self._since = None
        return True
