# SPDX-License-Identifier: Apache-2.0
"""The two memories of placement of a running httpd, read as its supervisor reads them.

Only for whoever may look into the supervisor (mark `looks_inside`)."""

from __future__ import annotations

import os
from types import TracebackType

from pyglue import _pages

from .client import wait_until
from .httpd import Httpd

PAGES, ROWS = 4, 5  # docs/plan.md, section 1
WORKERS, GROUPS = 64, 16  # slots from the lowest on: more than any test has


class Memories:
    """Open while in use as a context."""

    def __init__(self, server: Httpd) -> None:
        self._server = server

    def __enter__(self) -> Memories:
        wait_until(self._server.workers, "the supervisor has started a worker", 30)
        folder = f"/proc/{self._server.supervisor()}/fd"
        self._fds = [os.open(f"{folder}/{fd}", os.O_RDONLY) for fd in (PAGES, ROWS)]
        self._pages, self._rows = _pages.map(self._fds[0], False), _pages.rows(self._fds[1])
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        del self._pages, self._rows
        for fd in self._fds:
            os.close(fd)

    def _ready(self) -> dict[int, tuple[int, bytes]]:
        """Number and digest by slot."""
        entries = {slot: self._pages.read_worker(slot) for slot in range(WORKERS)}
        return {
            slot: (entry[0], entry[1])
            for slot, entry in entries.items()
            if entry is not None and entry[2] == _pages.WORKER_READY
        }

    def running(self) -> list[int]:
        """Of each ready worker, how many requests it has by the rows."""
        return [self._rows.sum(slot, number) for slot, (number, _) in self._ready().items()]

    def waiting(self) -> int:
        """Requests that wait, of all groups that have a ready worker."""
        digests = {digest for _, digest in self._ready().values()}
        return sum(self._rows.waiting(slot, digest) for slot in range(GROUPS) for digest in digests)
