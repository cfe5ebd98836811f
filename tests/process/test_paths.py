# SPDX-License-Identifier: Apache-2.0
"""Folders whose names are not ASCII: one rule for texts in both modes (docs/bridge.md 8).
And the folder in which a worker begins."""

from __future__ import annotations

import pwd
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import conf
from harness.client import facts
from harness.httpd import Httpd

APPS = Path(__file__).parents[1] / "apps"
Start = Callable[..., Httpd]
MODES = {
    "daemon": [
        "WSGIDaemonProcess own home={home} python-path={extra}",
        'WSGIScriptAlias / "{home}/app.py" process-group=own application-group={group}',
    ],
    "embedded": [
        'WSGIPythonPath "{extra}"',
        'WSGIScriptAlias / "{home}/app.py" application-group={group}',
    ],
}


def as_bytes(paths: list[str]) -> list[bytes]:
    """What they are on disk, however the Python that serves decodes names."""
    return [path.encode("utf-8", "surrogateescape") for path in paths]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("group", ["%{{GLOBAL}}", "sub"])
@pytest.mark.parametrize("name", ["\u00fc", "\u65e5\u672c"])
def test_folders_with_names_beyond_ascii_are_found(
    start_httpd: Start, folder: Path, mode: str, group: str, name: str
) -> None:
    home, extra = folder / f"home-{name}", folder / f"extra-{name}"
    for path in (home, extra):
        path.mkdir()
    shutil.copy(APPS / "process" / "wsgi.py", home / "app.py")
    group = group.format()
    texts = [line.format(home=home, extra=extra, group=group) for line in MODES[mode]]
    lines = [line.encode().decode("latin-1") for line in texts]  # as a configuration is written

    found = facts(start_httpd([*lines, *conf.granted(folder)]).address)

    expected = [str(extra)] if mode == "embedded" else [str(home), str(extra)]
    assert as_bytes(found["path"][: len(expected)]) == [path.encode() for path in expected]
    assert as_bytes([found["file"]]) == [f"{home}/app.py".encode()]
    if mode == "daemon":
        assert as_bytes([found["cwd"]]) == [str(home).encode()]


@pytest.mark.privileged
def test_a_user_whose_home_does_not_exist_begins_in_the_root(
    start_httpd: Start, folder: Path
) -> None:
    assert not Path(pwd.getpwnam("nobody").pw_dir).exists()
    shutil.copy(APPS / "process" / "wsgi.py", folder / "app.py")
    lines = [
        "WSGIDaemonProcess own user=nobody group=nogroup",
        f'WSGIScriptAlias / "{folder}/app.py" process-group=own',
        "LogLevel info",
    ]
    server = start_httpd([*lines, *conf.granted(folder)])
    assert facts(server.address)["cwd"] == "/"
    server.log.wait_for("PG1116.*begins in '/'.*nonexistent.*home=")
