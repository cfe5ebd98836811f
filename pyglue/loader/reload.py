# SPDX-License-Identifier: Apache-2.0
"""Which files matter to this process, in all its interpreters, and the times they had.

The engine keeps them (`note.c`), so that a sub-interpreter's scripts are seen by the one who
watches in the main interpreter.
"""

import pyglue._engine as engine


def note(path: str, mtime: int) -> None:
    """Say that `path` matters, and was of `mtime` (ns; -1: it did not exist) when it was used."""
    engine.note(path, mtime)


def watched() -> dict[str, int]:
    """All files that matter, with the time (ns) that each had when it was first used."""
    return engine.noted()
