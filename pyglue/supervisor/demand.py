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
        columns: list[Column] = []
        ends: list[int] = []  # of each group's columns
        for digest, numbers in groups.items():
            columns += self._columns(digest, numbers)
            ends.append(len(columns))
        levels = self._levels(columns)
        loads, begin = {}, 0
        for digest, end in zip(groups, ends, strict=True):
            if levels and end > begin:
                loads[digest] = Load(levels[begin], sum(levels[begin + 1 : end]))
            begin = end
        return loads

    def requests(self, digest: bytes, number: int) -> int:
        """At this worker, or waiting for its group; 1 if that cannot be known."""
        return sum(self._levels(self._columns(digest, [number])) or [1])

    def _columns(self, digest: bytes, numbers: list[int]) -> list[Column]:
        """The group's own is the first; none if it is in no page."""
        group = self._pages.slot_of_group(digest)
        if group is None:
            return []
        own: list[Column] = [(group, digest)]
        for number in numbers:
            slot = self._pages.slot_of_worker(number)
            if slot is not None:
                own.append((slot, number))
        return own

    def _levels(self, columns: list[Column]) -> list[int]:
        try:
            return self._rows.levels(columns)
        except ValueError:
            return []
