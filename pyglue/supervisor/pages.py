# SPDX-License-Identifier: Apache-2.0
"""The pages memory as the supervisor writes it: which slot belongs to whom.

The layout and the order of the writes are C's (`pages.c`); the slots are chosen here. The truth is
in the roster: the only thing read back are the workers of a supervisor that died, which children
use until their group has a ready worker of this epoch (SUCCESSION.md section 5).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .actions import Death, GroupState
from .plan import MAX_PROCESSES

if TYPE_CHECKING:
    from pyglue._pages import Pages as Memory

READY = 1  # PYGLUE_WORKER_READY
LEAVING = 2
CAUSE_MAX = 95  # PYGLUE_CAUSE_SIZE less the NUL
ELLIPSIS = "..."


@dataclass(frozen=True, slots=True)
class Entry:
    """What children must know of a worker."""

    number: int
    digest: bytes
    threads: int
    path: bytes
    key: bytes


class Slots:
    """The lowest free slot for each new name; a slot is kept until it is given back."""

    def __init__(self) -> None:
        self._of: dict[object, int] = {}

    def hold(self, name: object, slot: int) -> None:
        """This slot is taken already."""
        self._of[name] = slot

    def take(self, name: object) -> int:
        if name not in self._of:
            taken = set(self._of.values())
            self._of[name] = next(i for i in range(len(taken) + 1) if i not in taken)
        return self._of[name]

    def find(self, name: object) -> int | None:
        return self._of.get(name)

    def __len__(self) -> int:
        return len(self._of)

    def give(self, name: object) -> int | None:
        return self._of.pop(name, None)


class Pages:
    """Owns the slots of the memory."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._workers = Slots()
        self._groups = Slots()
        self._entries: dict[int, Entry] = {}
        self._orphans: dict[int, bytes] = {}  # of older epochs, with their groups

    def adopt(self, worker_slots: int, group_slots: int) -> list[Entry]:
        """At the start: keeps the workers of older epochs in their slots. Their groups serve; what
        else there was to say of groups, and that a plan was taken, is told anew."""
        self._memory.put_plan(0, 0)  # first, or children would take a group for unknown
        adopted = []
        for slot in range(worker_slots):
            read = self._memory.read_worker(slot)
            if read is None:
                continue
            number, digest, _, threads, path, key = read
            self._workers.hold(number, slot)
            self._orphans[number] = digest
            adopted.append(Entry(number, digest, threads, path, key))
        for slot in range(group_slots):
            self._memory.clear_group(slot)
        for digest in set(self._orphans.values()):
            self.tell_group(digest, GroupState.SERVING, "")
        return adopted

    def publish(self, entry: Entry) -> None:
        self._entries[entry.number] = entry
        self._make_room(entry)
        self._put(entry, READY)
        self.drop_orphans(entry.digest)

    def drop_orphans(self, digest: bytes) -> None:
        """Children use them no more."""
        for number in [n for n, of in self._orphans.items() if of == digest]:
            del self._orphans[number]
            self.forget(number)

    def slot_of_group(self, digest: bytes) -> int | None:
        return self._groups.find(digest)

    def slot_of_worker(self, number: int) -> int | None:
        return self._workers.find(number)

    def withdraw(self, number: int) -> None:
        """Children may still ask for its socket's fate, so the entry stays until it is gone."""
        self._put(self._entries[number], LEAVING)

    def bury(self, number: int, death: Death) -> None:
        self._memory.put_obituary(number, death.complete, death.running, _cut(death.cause))

    def forget(self, number: int) -> None:
        slot = self._workers.give(number)
        if slot is not None:
            self._memory.clear_worker(slot)
            self._entries.pop(number, None)

    def tell_group(self, digest: bytes, state: GroupState, cause: str) -> None:
        if state is not GroupState.NONE:
            self._memory.put_group(self._groups.take(digest), digest, int(state), _cut(cause))
            return
        self.drop_orphans(digest)
        slot = self._groups.give(digest)
        if slot is not None:
            self._memory.clear_group(slot)

    def tell_plan(self, accepted: int, refused: int) -> None:
        self._memory.put_plan(accepted, refused)

    def heartbeat(self, now_ms: int) -> None:
        self._memory.heartbeat(now_ms)

    def _make_room(self, entry: Entry) -> None:
        """Of ours there are never more than slots. Where workers of a dead supervisor have the rest
        one of those has to go: of the same group, else of the group that has most of them."""
        if self._workers.find(entry.number) is None and len(self._workers) >= MAX_PROCESSES:
            counts = Counter(self._orphans.values())
            counts[entry.digest] *= MAX_PROCESSES
            number = max(self._orphans, key=lambda orphan: counts[self._orphans[orphan]])
            del self._orphans[number]
            self.forget(number)

    def _put(self, entry: Entry, state: int) -> None:
        self._memory.put_worker(
            self._workers.take(entry.number),
            entry.number,
            entry.digest,
            state,
            entry.threads,
            entry.path,
            entry.key,
        )


def _cut(cause: str) -> str:
    """What the memory has room for, with whole words: the error log has the rest."""
    data = cause.encode("utf-8", "replace")
    if len(data) <= CAUSE_MAX:
        return data.decode()
    room = CAUSE_MAX - len(ELLIPSIS)
    fitting = data[: room + 1].rpartition(b" ")[0].rstrip(b" ,;:") or data[:room]
    return fitting.decode("utf-8", "ignore") + ELLIPSIS
