# SPDX-License-Identifier: Apache-2.0
"""One httpd, several Pythons: each group runs its own, engines by `pyglue install-engine`."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import conf
from harness.client import connected, request
from harness.httpd import Httpd

APPS = Path(__file__).parents[1] / "apps"
OLDEST = (3, 10)


def found_pythons() -> list[Path]:
    """Executables from PYGLUE_TEST_PYTHONS, else every one of pyenv that is new enough."""
    named = os.environ.get("PYGLUE_TEST_PYTHONS")
    if named:
        return [Path(name) for name in named.split(os.pathsep)]
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = {
        tuple(map(int, p.name.split("."))): p
        for p in versions.glob("3.*")
        if re.fullmatch(r"[\d.]+", p.name)
    }
    return [
        path / "bin" / "python3" for version, path in sorted(found.items()) if version >= OLDEST
    ]


@pytest.fixture(scope="module")
def pythons() -> Iterator[list[Path]]:
    """The Pythons where httpd's user can run them, each with its engine."""
    folder = Path("/opt/mod_pyglue-test-pythons") if os.geteuid() == 0 else None
    reachable = [copied(python, folder) if folder else python for python in found_pythons()]
    for python in reachable:
        command = [conf.prefix() / "bin" / "pyglue", "install-engine", "--python", python]
        subprocess.run(command, check=True, timeout=300)
    yield reachable
    if folder:
        shutil.rmtree(folder, ignore_errors=True)


def copied(python: Path, folder: Path) -> Path:
    """A copy of the installation that others may enter, which finds its own libpython."""
    prefix = python.parents[1]
    copy = folder / prefix.name
    folder.mkdir(mode=0o755, exist_ok=True)
    subprocess.run(["cp", "-a", prefix, copy], check=True)
    executable = (copy / "bin" / python.name).resolve()
    subprocess.run(["patchelf", "--set-rpath", copy / "lib", executable], check=True)
    return executable


@pytest.mark.slow
def test_each_python_serves_beside_the_others(
    pythons: list[Path], start_httpd: Callable[..., Httpd], folder: Path
) -> None:
    shutil.copy(APPS / "process" / "wsgi.py", folder / "app.py")
    lines = []
    for number, python in enumerate(pythons):
        lines.append(f"WSGIDaemonProcess p{number} python={python}")
        options = f"process-group=p{number} application-group=%{{GLOBAL}}"
        lines.append(f'WSGIScriptAlias /{number} "{folder}/app.py" {options}')
    server = start_httpd([*lines, *conf.granted(folder)])
    for number, python in enumerate(pythons):
        with connected(server.address) as connection:
            connection.send(request("GET", f"/{number}"))
            facts = json.loads(connection.read_response().body)
        version = subprocess.check_output(
            [python, "-c", "import sys; print(*sys.version_info[:2])"]
        )
        assert facts["version"] == [int(part) for part in version.split()]
