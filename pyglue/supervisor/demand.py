# SPDX-License-Identifier: Apache-2.0
"""What waits for groups, and runs in their workers, as httpd's children count it in the rows.

One copy of the rows for each look, however many groups there are. The counts are hints of whoever
can write the rows: nothing is done with them but to compare them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from .pages import Pages
from .scaling import Load

if TYPE_CHECKING:
    from pyglue._pages import Rows

Column = tuple[int, "bytes | int"]  # a slot of the pages, and whose it is


class Demand:
    """Reads the rows by the slots that the pages have given."""

    def __init__(self, rows: Rows, pages: Pages) -> None:
        self._rows = rows
        self._pages = pages

    def loads(self, groups: Mapping[bytes, list[int]]) -> dict[bytes, Load]:
        """Of these groups, with these workers; nothing at all if the rows cannot be read."""
        columns = [column for digest in groups for column in self._columns(digest, groups[digest])]
        counts = dict(zip(columns, self._levels(columns), strict=False))
        return {
            digest: Load(
                sum(counts[column] for column in self._columns(digest, [])),
                sum(counts[column] for column in self._columns(digest, numbers)[1:]),
            )
            for digest, numbers in groups.items()
            if counts
        }

    def requests(self, digest: bytes, number: int) -> int:
        """At this worker, or waiting for its group; 1 if that cannot be known."""
        return sum(self._levels(self._columns(digest, [number])) or [1])

    def _columns(self, digest: bytes, numbers: list[int]) -> list[Column]:
        """The group's own is the first."""
        group = self._pages.slot_of_group(digest)
        workers = [(self._pages.slot_of_worker(number), number) for number in numbers]
        own: list[Column] = [] if group is None else [(group, digest)]
        return own + [(slot, number) for slot, number in workers if slot is not None]

    def _levels(self, columns: list[Column]) -> list[int]:
        try:
            return self._rows.levels(columns)
        except ValueError:
            return []
