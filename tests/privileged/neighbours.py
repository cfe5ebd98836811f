# SPDX-License-Identifier: Apache-2.0
"""A group that uses up what it may have, beside one of another user, which must not notice."""

from __future__ import annotations

import shutil
from pathlib import Path

from harness import conf

APPS = Path(__file__).parent.parent / "apps"


def lines_of(folder: Path, name: str, uid: int, options: str) -> list[str]:
    """The group `name` with these options, and `neighbour`, of the user with the next number."""
    shutil.copytree(APPS / "uses_up", folder / "app")
    other = uid + 1
    return [
        f"WSGIDaemonProcess {name} user=#{uid} group=#{uid} threads=4 {options}",
        f"WSGIDaemonProcess neighbour user=#{other} group=#{other} threads=4",
        *(f'WSGIScriptAlias /{group} "{folder}/app/wsgi.py" process-group={group}'
          " application-group=%{GLOBAL}" for group in (name, "neighbour")),
        "LogLevel info",
        *conf.granted(folder),
    ]  # fmt: skip
