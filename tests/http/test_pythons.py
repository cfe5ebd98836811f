# SPDX-License-Identifier: Apache-2.0
"""A smoke set on every CPython from 3.10 that the machine has, in each MPM and both modes.

One copy of each, made once for the run where httpd's user may enter, with an engine by
`pyglue install-engine`. Without pyenv and PYGLUE_TEST_PYTHONS the system's own is what there is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from harness import conf
from harness.client import ask, chunked, facts
from harness.httpd import Httpd

APPS = Path(__file__).parents[1] / "apps"
SMOKE = ("process", "echo", "raises")
OLDEST = (3, 10)
Start = Callable[..., Httpd]


def numbers(name: str) -> tuple[int, ...]:
    return tuple(map(int, name.split(".")))


@cache
def found_pythons() -> tuple[Path, ...]:
    """Executables from PYGLUE_TEST_PYTHONS, else the system's and pyenv's that are new enough."""
    named = os.environ.get("PYGLUE_TEST_PYTHONS")
    if named:
        return tuple(map(Path, named.split(os.pathsep)))
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    names = [path.name for path in versions.glob("3.*") if re.fullmatch(r"[\d.]+", path.name)]
    new = sorted((name for name in names if numbers(name) >= OLDEST), key=numbers)
    return (Path("/usr/bin/python3"), *(versions / name / "bin" / "python3" for name in new))


@pytest.fixture(scope="session")
def copies() -> Iterator[Path]:
    """Root-owned, for workers run as root's choice only from what root alone can change."""
    parent = "/opt" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="mod_pyglue-test-pythons-", dir=parent))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session", params=found_pythons(), ids=lambda path: path.parts[-3])
def python(request: pytest.FixtureRequest, copies: Path) -> Path:
    """One Python with its engine."""
    original: Path = request.param
    if not original.exists():
        pytest.skip(f"{original} is not installed")
    reachable = original if original.is_relative_to("/usr") else copied(original, copies)
    if original.is_relative_to("/usr") and conf.prefix() not in original.parents:
        return reachable  # the environment of the product was made of it: it has the engine
    command = [conf.prefix() / "bin" / "pyglue", "install-engine", "--python", reachable]
    done = subprocess.run(command, timeout=300, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return reachable


def copied(python: Path, folder: Path) -> Path:
    """A copy of the installation without its tests, which finds its own libpython and names it."""
    copy = folder / python.parents[1].name
    left_out = shutil.ignore_patterns("test", "tests", "__pycache__", "idlelib", "share", "*.a")
    shutil.copytree(python.parents[1], copy, symlinks=True, ignore=left_out)
    executable = (copy / "bin" / python.name).resolve()
    subprocess.run(["patchelf", "--set-rpath", copy / "lib", executable], check=True)
    return executable


def version_of(python: Path) -> list[int]:
    printed = subprocess.check_output([python, "-c", "import sys; print(*sys.version_info[:2])"])
    return [int(part) for part in printed.split()]


def mounts(folder: Path, options: str = "") -> list[str]:
    for name in SMOKE:
        shutil.copytree(APPS / name, folder / name, dirs_exist_ok=True)
    aliases = [f'WSGIScriptAlias /{name} "{folder}/{name}/wsgi.py" {options}' for name in SMOKE]
    return [*aliases, "WSGIApplicationGroup %{GLOBAL}", *conf.granted(folder)]


def is_shared(python: Path) -> bool:
    """httpd's children can open a libpython only."""
    program = "import sysconfig; print(sysconfig.get_config_var('Py_ENABLE_SHARED'))"
    return subprocess.check_output([python, "-c", program]).strip() == b"1"


def python_home(python: Path) -> Path:
    return python.parents[1]


@pytest.mark.slow
@pytest.mark.parametrize("mpm", ["prefork", "worker", "event"])
def test_every_python_serves_in_every_mpm(
    mode: str, mpm: str, python: Path, start_httpd: Start, folder: Path
) -> None:
    """Facts, a body both ways, an exception: what needs each part of the engine once."""
    own = f'WSGIPythonHome "{python_home(python)}"'
    if mode == "daemon":
        own = f"WSGIDaemonProcess own python={python}\nWSGIProcessGroup own"
    server = start_httpd([own, *mounts(folder)], mpm=mpm)
    if mode == "embedded" and not is_shared(python):
        server.log.expect("GL0402.*no shared library.*WSGIDaemonProcess")
        server.log.allow("GL0403")
        assert ask(server.address, "/process").status == 500
        return
    server.log.expect_traceback("raised before")
    assert facts(server.address, "/process")["version"] == version_of(python)
    body = os.urandom(100_000)
    coding = {"Transfer-Encoding": "chunked"}
    assert ask(server.address, "/echo", "POST", body=body).body == body
    assert ask(server.address, "/echo", "POST", coding, chunked(body)).body == body
    assert ask(server.address, "/raises?before").status == 500


@pytest.mark.slow
def test_each_python_serves_beside_the_others(
    request: pytest.FixtureRequest, copies: Path, start_httpd: Start, folder: Path
) -> None:
    """One httpd, as many groups as there are copies with an engine."""
    shutil.copy(APPS / "process" / "wsgi.py", folder / "app.py")
    pythons = [Path("/usr/bin/python3"), *sorted(copies.glob("3.*/bin/python3"))]
    lines = [f"WSGIDaemonProcess p{number} python={one}" for number, one in enumerate(pythons)]
    for number in range(len(pythons)):
        options = f"process-group=p{number} application-group=%{{GLOBAL}}"
        lines.append(f'WSGIScriptAlias /{number} "{folder}/app.py" {options}')
    server = start_httpd([*lines, *conf.granted(folder)])
    seen: list[Any] = [facts(server.address, f"/{n}")["version"] for n in range(len(pythons))]
    assert seen == [version_of(one) for one in pythons]
