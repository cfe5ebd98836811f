# SPDX-License-Identifier: Apache-2.0
"""The files that this worker's scripts were loaded from, and whether they have changed since.

Root never looks at a tenant's files, so each worker looks at its own. Which files these are the
engine knows (`pyglue/loader/reload.py`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

Times = dict[str, int]  # of modification, in ns, by path; -1: there was no such file


class Sources:
    """Each change is told once."""

    def __init__(self, watched: Callable[[], Times]) -> None:
        self._watched = watched
        self._told: dict[str, int | None] = {}

    def have_changed(self) -> bool:
        changed = {path: now for path, now in self._look() if self._told.get(path, -1) != now}
        self._told.update(changed)
        return bool(changed)

    def _look(self) -> Iterator[tuple[str, int | None]]:
        """Those whose time is not what it was when they were loaded, with what it is now."""
        for path, loaded in list(self._watched().items()):
            try:
                now: int | None = os.stat(path).st_mtime_ns
            except OSError:
                now = None
            if now != loaded:
                yield path, now
