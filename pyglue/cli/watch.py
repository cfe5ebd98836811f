# SPDX-License-Identifier: Apache-2.0
"""`--reload`: has a source file of the application changed since the last look?

The times of all source files below the application's folder are compared. Environments and hidden
folders are left out: they are large and change when something is installed."""

import os
from collections.abc import Iterator
from pathlib import Path

from pyglue.cli.site import Site

SUFFIXES = (".py", ".wsgi", ".html", ".toml", ".ini", ".env")


class Watch:
    def __init__(self, site: Site) -> None:
        self.folder = site.folder
        self.seen = dict(times(self.folder))

    def changed(self) -> bool:
        now = dict(times(self.folder))
        differs = now != self.seen
        self.seen = now
        return differs


def times(folder: Path) -> Iterator[tuple[str, int]]:
    for path, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if is_source(path, name)]
        for name in files:
            if name.endswith(SUFFIXES):
                file = os.path.join(path, name)
                try:
                    yield file, os.stat(file).st_mtime_ns
                except FileNotFoundError:
                    continue  # removed between the listing and the look


def is_source(path: str, name: str) -> bool:
    skipped = name.startswith(".") or name in ("__pycache__", "node_modules")
    return not skipped and not os.path.exists(os.path.join(path, name, "pyvenv.cfg"))
