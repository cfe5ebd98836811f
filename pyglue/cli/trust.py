# SPDX-License-Identifier: Apache-2.0
"""May root run or build from a file? Only if root alone can change it and each folder above."""

import os
import stat
from pathlib import Path


def distrusted(path: Path) -> str | None:
    """The first part of the path (links followed) that others than root can change, or None."""
    real = Path(os.path.realpath(path))
    for part in [*reversed(real.parents), real]:
        found = part.lstat()
        is_sticky = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX
        if found.st_uid != 0 or (found.st_mode & 0o022 and not is_sticky):
            return str(part)
    return None
