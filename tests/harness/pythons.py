# SPDX-License-Identifier: Apache-2.0
"""The CPythons of the machine, with engines of ours, and copies that httpd's user may enter."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

from . import conf

OLDEST = (3, 10)


def numbers(name: str) -> tuple[int, ...]:
    return tuple(map(int, name.split(".")))


@cache
def found() -> tuple[Path, ...]:
    """Executables from PYGLUE_TEST_PYTHONS, else the system's and pyenv's that are new enough."""
    named = os.environ.get("PYGLUE_TEST_PYTHONS")
    if named:
        return tuple(map(Path, named.split(os.pathsep)))
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    names = [path.name for path in versions.glob("3.*") if re.fullmatch(r"[\d.]+", path.name)]
    new = sorted((name for name in names if numbers(name) >= OLDEST), key=numbers)
    return (Path("/usr/bin/python3"), *(versions / name / "bin" / "python3" for name in new))


def free_threaded() -> Path:
    """A free-threaded build, if `make free-threaded` has made one."""
    return Path(os.environ.get("PYGLUE_FREE_THREADED", "/nonexistent"))


@cache
def version_of(python: Path) -> tuple[int, int]:
    major, minor = tell(python, "import sys; print(*sys.version_info[:2])").split()
    return int(major), int(minor)


def tell(python: Path, program: str) -> str:
    """What a program prints in it."""
    return subprocess.check_output([python, "-I", "-c", program], text=True).strip()


def since(oldest: tuple[int, int]) -> list[Path]:
    """Those of them that are so new and there."""
    return [path for path in found() if path.exists() and version_of(path) >= oldest]


def engine_of(python: Path) -> Path:
    """The file of an engine for it, which is built where it is missing."""
    names = "var('SOABI') + '/_engine' + var('EXT_SUFFIX')"
    name = tell(python, f"from sysconfig import get_config_var as var; print({names})")
    file = package() / "engines" / name
    if not file.exists():
        install_engine(python)
    return file


def package() -> Path:
    """The installed package pyglue."""
    program = "import pyglue; print(list(pyglue.__path__)[0])"
    return Path(tell(conf.prefix() / "bin" / "python", program))


def install_engine(python: Path) -> None:
    command = [conf.prefix() / "bin" / "pyglue", "install-engine", "--python", python]
    done = subprocess.run(command, timeout=300, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


def make_environment(python: Path, folder: Path) -> Path:
    """A virtual environment of it. Returns its Python."""
    subprocess.run([python, "-m", "venv", "--without-pip", folder], check=True)
    return folder / "bin" / "python"


def is_shared(python: Path) -> bool:
    """httpd's children can open a libpython only."""
    program = "import sysconfig; print(sysconfig.get_config_var('Py_ENABLE_SHARED'))"
    return tell(python, program) == "1"


def reachable(python: Path, folder: Path) -> Path:
    """One that httpd's user can run, with an engine: a copy in this folder, unless it is the
    system's own, of which the environment of the product was made."""
    if not python.is_relative_to("/usr"):
        python = copied(python, folder)
    elif conf.prefix() not in python.parents:
        return python
    engine_of(python)
    return python


def copied(python: Path, folder: Path) -> Path:
    """A copy of the installation without its tests, which finds its own libpython and names it."""
    copy = folder / python.parents[1].name
    if copy.exists():
        return (copy / "bin" / python.name).resolve()
    left_out = shutil.ignore_patterns("test", "tests", "__pycache__", "idlelib", "share", "*.a")
    shutil.copytree(python.parents[1], copy, symlinks=True, ignore=left_out)
    executable = (copy / "bin" / python.name).resolve()
    subprocess.run(["patchelf", "--set-rpath", copy / "lib", executable], check=True)
    return executable
