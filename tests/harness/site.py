# SPDX-License-Identifier: Apache-2.0
"""The shared site: every application of tests/apps mounted at its name, in one mode."""

from __future__ import annotations

import shutil
from pathlib import Path

from . import census, conf
from .client import connected, request
from .httpd import Httpd, new_root

GROUP = "tests"
# Embedded applications need no group; in daemon mode one worker serves, so state is seen again.
MODE_LINES = {
    "embedded": ["WSGIApplicationGroup %{GLOBAL}"],
    "daemon": [
        f"WSGIDaemonProcess {GROUP} threads=6",
        f"WSGIProcessGroup {GROUP}",
        "WSGIApplicationGroup %{GLOBAL}",
    ],
}


def mount(name: str, apps: Path, options: str = "") -> str:
    return f'WSGIScriptAlias /{name} "{apps}/{name}/wsgi.py" {options}'.rstrip()


def copy_apps(apps: Path, root: Path) -> Path:
    """The applications where httpd's user can read them and a test can change them."""
    copied = root / "apps"
    shutil.copytree(apps, copied, ignore=shutil.ignore_patterns("__pycache__"))
    return copied


def with_apps(
    apps: Path, mode: str, *lines: str, mpm: str = "event", modules: tuple[str, ...] = ()
) -> Httpd:
    """Not started yet."""
    root = new_root()
    copied = copy_apps(apps, root)
    (root / "files").mkdir()
    (root / "files").chmod(0o777)
    names = sorted(path.name for path in copied.iterdir())
    text = [
        *MODE_LINES[mode],
        *(mount(name, copied) for name in names),
        *conf.granted(copied),
        f'SetEnv files "{root}/files"',
        *lines,
    ]
    return Httpd(text, root=root, mpm=mpm, modules=modules)


def warm(server: Httpd) -> Httpd:
    """Started processes have come to rest: one request was answered."""
    with connected(server.address) as connection:
        connection.send(request("GET", "/environ"))
        connection.read_response()
    return server


def end(server: Httpd) -> None:
    """Stop, count, check the log, remove the server root."""
    try:
        server.stop()
        server.log.check()
    finally:
        server.stop()
        server.remove()


def long_lived(server: Httpd) -> list[int]:
    """Processes whose descriptors must not grow: httpd's parent and children, and workers."""
    return [pid for pid in server.processes() if census.command(pid)]
