# SPDX-License-Identifier: Apache-2.0
"""Allocations that fail in another process (no_memory.c)."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("no_memory.c")
WRAPPED = ("malloc", "calloc", "realloc", "strdup")
LAYOUT = "=qqq"  # after, asked, failed


def preloaded(folder: Path) -> Path:
    """The library for LD_PRELOAD."""
    made = folder / "no_memory.so"
    flags = ["-O1", "-shared", "-fPIC", "-D_GNU_SOURCE", "-Wall", "-Wextra"]
    subprocess.run(["cc", *flags, "-o", made, SOURCE], check=True)
    return made


def linked() -> list[str]:
    """Options of the compiler that have a program's own allocations counted."""
    return ["-DWRAPPED", *(f"-Wl,--wrap={name}" for name in WRAPPED), str(SOURCE)]


class Shortage:
    """The file through which it is told."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.end()
        path.chmod(0o666)

    def begin(self, after: int) -> None:
        """The one after so many fails."""
        self._write(after, 0, 0)

    def end(self) -> int:
        """How many have failed."""
        failed = self.failed() if self.path.exists() else 0
        self._write(-1, 0, 0)
        return failed

    def failed(self) -> int:
        return int(struct.unpack(LAYOUT, self.path.read_bytes())[2])

    def _write(self, *numbers: int) -> None:
        with self.path.open("r+b" if self.path.exists() else "xb") as file:
            file.write(struct.pack(LAYOUT, *numbers))
