# SPDX-License-Identifier: Apache-2.0
"""The shared memories, for the supervisor: pages written, rows and records copied."""

from collections.abc import Sequence

WORKER_SLOTS: int
GROUP_SLOTS: int
OBITUARY_REQUESTS: int
RECORD_SLOTS: int
RECORD_LINE: int
RECORD_ID: int
ENDING_STARTUP: int
KEY_SIZE: int
DIGEST_SIZE: int
SOCKET_PATH: int  # a socket's path is shorter
WORKER_READY: int
WORKER_LEAVING: int
GROUP_STARTING: int
GROUP_SERVING: int
GROUP_DISABLED: int
GROUP_IDLE: int

class Pages:
    """The pages memory. Writing to a read-only mapping raises PermissionError."""

    def init(self) -> None: ...
    def check(self) -> bool: ...
    def put_worker(
        self,
        slot: int,
        number: int,
        digest: bytes,
        state: int,
        threads: int,
        path: bytes,
        key: bytes,
        /,
    ) -> None: ...
    def clear_worker(self, slot: int, /) -> None: ...
    def put_group(self, slot: int, digest: bytes, state: int, cause: str, /) -> None: ...
    def clear_group(self, slot: int, /) -> None: ...
    def put_obituary(
        self, number: int, complete: bool, requests: Sequence[int], cause: str, /
    ) -> None:
        """More requests than OBITUARY_REQUESTS make it incomplete."""

    def put_plan(self, accepted: int, refused: int, /) -> None: ...
    def heartbeat(self, now_ms: int, /) -> None: ...
    def read_worker(self, slot: int, /) -> tuple[int, bytes, int, int, bytes, bytes] | None:
        """Number, digest, state, threads, path, key."""

    def read_group(self, digest: bytes, /) -> tuple[int, str] | None:
        """State, cause."""

    def find_obituary(self, number: int, /) -> tuple[bool, list[int], str] | None:
        """Complete, requests, cause."""

    def read_plan(self) -> tuple[int, int, int]:
        """Accepted, refused, heartbeat."""

class Rows:
    """The rows memory. Each question takes a fresh copy; ValueError when that is not sound."""

    def check(self) -> bool: ...
    def children(self) -> list[tuple[int, int]]:
        """Pid and plan of each listed child of httpd: the word of whoever can write rows."""

    def sum(self, slot: int, number: int, /) -> int: ...
    def levels(self, names: list[tuple[int, bytes | int]], /) -> list[int]:
        """By slot and digest of a group how many wait for it; by slot and number of a worker how
        many are there."""

def map(fd: int, writable: bool, /) -> Pages: ...
def rows(fd: int, /) -> Rows:
    """The descriptor stays the caller's, who keeps it open as long as the object lives."""

def read_record(fd: int, /) -> tuple[int, int, int, int, list[tuple[int, int, bytes, bytes]]]:
    """Slots, requests, refused, why it ended itself, and of each request that runs: number, start
    (ms of the monotonic clock), id, method and path. ValueError: not a record."""

def size_pages() -> int: ...
def size_rows(rows: int, /) -> int: ...
def size_record() -> int: ...
