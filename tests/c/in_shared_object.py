# SPDX-License-Identifier: Apache-2.0
"""Runs a C test of the bridge on the code that lies in an installed shared object.

The bridge's functions are hidden there, so they are found by the object's own table of symbols. The
C test is built with its calls going through pointers, which are set to what was found. As a script:
in_shared_object.py OBJECT TEST PRELOAD..., with what the object needs of its server in PRELOAD."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path

CALLS = re.compile(r"\b(pyglue_\w+)\(")
INLINE = {"pyglue_frame", "pyglue_str"}


def called(source: Path) -> list[str]:
    """The bridge's functions that a C test calls."""
    return sorted(set(CALLS.findall(source.read_text())) - INLINE)


def through_pointers(names: list[str]) -> list[str]:
    """Options of the compiler. A header's declaration becomes that of a pointer by them too."""
    return [f"-D{name}=(*at_{name})" for name in names]


def offsets(shared_object: Path) -> dict[str, int]:
    """Where its functions lie, hidden ones too."""
    listed = subprocess.check_output(["nm", "--defined-only", shared_object], text=True)
    rows = (line.split() for line in listed.splitlines())
    return {name: int(at, 16) for at, kind, name in rows if kind in "tT"}


def missing_data(shared_object: Path) -> list[str]:
    """What must be there when it is loaded: its server's variables, and functions by address."""
    listed = subprocess.check_output(["readelf", "-rW", shared_object], text=True)
    return sorted(set(re.findall(r"(?:GLOB_DAT|_64|ABS64) .* (ap_\w+)", listed)))


def base(shared_object: Path) -> int:
    """Where the loader has put it."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith(f" {shared_object}"):
            return int(line.split("-")[0], 16)
    raise AssertionError(f"{shared_object} is not loaded")


def main() -> int:
    shared_object, test = (Path(name).resolve() for name in sys.argv[1:3])
    for library in sys.argv[3:]:
        ctypes.CDLL(library, mode=os.RTLD_LAZY | os.RTLD_GLOBAL)
    ctypes.CDLL(str(shared_object), mode=os.RTLD_LAZY)
    vectors, found, start = ctypes.CDLL(str(test)), offsets(shared_object), base(shared_object)
    for name in os.environ["CALLED"].split():
        ctypes.c_void_p.in_dll(vectors, f"at_{name}").value = start + found[name]
    return int(vectors.run_test())


if __name__ == "__main__":
    sys.exit(main())
