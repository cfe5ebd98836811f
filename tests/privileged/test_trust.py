# SPDX-License-Identifier: Apache-2.0
"""What root executes belongs to root, all the way: RELIABILITY B1#6; TENANTS 2, rule 2.

A copy of the installation has one thing wrong: httpd runs, and its groups say why they don't."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sight
from harness import conf
from harness import site as sites
from harness.client import wait_until
from harness.httpd import Httpd, new_root

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: only root is asked for more"),
]

APPS = Path(__file__).parent.parent / "apps"
STRANGER = 61303


def copied(target: Path) -> Path:
    """An environment with nothing but mod_pyglue in it."""
    source = conf.prefix()
    library = next(source.glob("lib*/python*/site-packages/pyglue")).parent.relative_to(source)
    shutil.copytree(source / library / "pyglue", target / library / "pyglue")
    (target / "bin").mkdir()
    for name in ("python", "python3", library.parts[-2]):
        (target / "bin" / name).symlink_to(os.path.realpath(source / "bin" / "python"))
    shutil.copy(source / "pyvenv.cfg", target)
    return target


class Installation:
    """A copy, and an httpd that loads the module from it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.prefix = copied(root / "venv")
        self.package = next(self.prefix.glob("lib*/python*/site-packages/pyglue"))

    def configured(self) -> Httpd:
        shutil.copytree(APPS / "tries", self.root / "tries")
        (self.root / "tries" / "notes.txt").write_text("notes")
        server = Httpd([
            "WSGIDaemonProcess one threads=2",
            f'Alias /static "{self.root}/tries"',
            f'WSGIScriptAlias / "{self.root}/tries/wsgi.py" process-group=one'
            " application-group=%{GLOBAL}",
            *conf.granted(self.root / "tries"),
            "Timeout 1",  # also how long a request waits for a worker
        ], root=self.root)  # fmt: skip
        text = server.root / "httpd.conf"
        text.write_text(text.read_text().replace(str(conf.prefix()), str(self.prefix)))
        return server


@pytest.fixture
def installation() -> Iterator[Installation]:
    root = new_root()
    yield Installation(root)
    shutil.rmtree(root, ignore_errors=True)


def test_a_sound_copy_serves(installation: Installation) -> None:
    """Else the tests below prove nothing."""
    server = installation.configured().start()
    server.log.allow("GL050[36]")  # a copy takes its time to begin
    wait_until(lambda: sight.ask(server, "/?what=setuid") == (200, b'"EPERM"'), "it serves", 30)
    sites.end(server)


def group_may_write(path: Path) -> Path:
    path.chmod(path.stat().st_mode | 0o020)
    return path


def strangers(path: Path) -> Path:
    os.chown(path, STRANGER, STRANGER)
    return path


def link_through_a_strangers_folder(installation: Installation) -> Path:
    """It leads to root's Python; today."""
    folder = strangers_folder(installation.root)
    (folder / "python").symlink_to("/usr/bin/python3")
    for python in (installation.prefix / "bin").iterdir():
        python.unlink()
        python.symlink_to(folder / "python")
    return folder


def strangers_folder(root: Path) -> Path:
    made = root / "stranger"
    made.mkdir()
    return strangers(made)


FAULTS: dict[str, Callable[[Installation], Path]] = {
    "folder-for-a-group": lambda it: group_may_write(it.package.parent),
    "package-of-a-stranger": lambda it: strangers(it.package),
    "supervisor-for-a-group": lambda it: group_may_write(it.package / "supervisor"),
    "start-file-of-a-stranger": lambda it: strangers(it.package / "supervisor" / "__main__.py"),
    "module-of-a-stranger": lambda it: strangers(it.package / "supervisor" / "launch.py"),
    "jail-of-a-stranger": lambda it: strangers(next(it.package.glob("_jail*.so"))),
    "settings-of-a-stranger": lambda it: strangers(it.prefix / "pyvenv.cfg"),
    "bin-for-a-group": lambda it: group_may_write(it.prefix / "bin"),
    "link-through-a-strangers-folder": link_through_a_strangers_folder,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_root_does_not_execute_what_others_can_change(
    installation: Installation, fault: str
) -> None:
    """httpd itself starts and serves all else; the message names the part of the path."""
    server = installation.configured()
    wrong = FAULTS[fault](installation)
    server.start()
    try:
        server.log.expect(f"GL0602: no process group can start: {wrong} is")
        server.log.allow("GL0")
        assert sight.ask(server, "/?what=setuid")[0] in (500, 503)
        assert sight.ask(server, "/static/notes.txt") == (200, b"notes")
        assert len(server.processes()) == 2, "httpd's parent and child: nothing was executed"
    finally:
        sites.end(server)
