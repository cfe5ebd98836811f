# SPDX-License-Identifier: Apache-2.0
"""Extension modules of the tests' own, built for one Python."""

from __future__ import annotations

import subprocess
from pathlib import Path

from . import pythons

HERE = Path(__file__).parent


def build(name: str, python: Path, folder: Path) -> None:
    """Into a folder from which that Python can import it."""
    show = "import sysconfig; print(sysconfig.get_path('include'))"
    flags = ["-std=gnu11", "-O1", "-shared", "-fPIC", "-Wall", "-Wextra"]
    made, source = folder / f"{name}.so", HERE / f"{name}.c"
    include = f"-I{pythons.tell(python, show)}"
    subprocess.run(["cc", *flags, include, "-o", made, source], check=True)
