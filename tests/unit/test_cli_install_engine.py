# SPDX-License-Identifier: Apache-2.0
"""`pyglue install-engine` on the Python that runs this, into a package folder of the test's own."""

from __future__ import annotations

import argparse
import os
import shutil
import stat
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from pyglue.cli import install_engine
from pyglue.errors import PyglueError

ROOT = Path(__file__).parents[2]
ASK_EXPORTS = "import ctypes, sys; ctypes.CDLL(sys.argv[1]).pyglue_engine"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package, as far as the engine's sources go."""
    folder = tmp_path / "pyglue"
    for name in install_engine.SOURCES:
        shutil.copytree(ROOT / "pyglue" / name, folder / name)
    monkeypatch.setattr(install_engine, "PACKAGE", folder)
    monkeypatch.setattr(install_engine, "distrusted", lambda _: None)
    return folder


def test_engine_is_built_into_the_folder_of_its_tag(package: Path) -> None:
    target = install_engine.ask(Path(sys.executable))
    install_engine.build(target)
    tag, suffix = sysconfig.get_config_var("SOABI"), sysconfig.get_config_var("EXT_SUFFIX")
    built = package / "engines" / tag / f"_engine{suffix}"
    assert [built] == list(built.parent.iterdir())
    subprocess.run([sys.executable, "-c", ASK_EXPORTS, built], check=True)


def test_folder_of_the_engine_can_be_entered_by_all_whatever_the_umask(package: Path) -> None:
    before = os.umask(0o077)
    try:
        target = install_engine.ask(Path(sys.executable))
        install_engine.build(target)
    finally:
        os.umask(before)
    for made in (package / "engines", target.engine.parent, target.engine):
        assert stat.S_IMODE(made.stat().st_mode) == 0o755


def test_engine_that_does_not_compile_is_told_with_the_compilers_words(package: Path) -> None:
    (package / "engine" / "broken.c").write_text("int broken(void) { return nothing; }\n")
    with pytest.raises(PyglueError, match="nothing"):
        install_engine.build(install_engine.ask(Path(sys.executable)))
    assert not list(package.glob("engines/*/*"))


def test_program_that_is_no_python_is_told(package: Path) -> None:
    with pytest.raises(PyglueError, match=r"not a Python that runs here \(exit status 1\)"):
        install_engine.ask(Path("/bin/false"))


def test_python_without_a_folder_is_looked_up_on_the_path(
    package: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    monkeypatch.setattr(install_engine, "build", lambda _: None)
    name = Path(sys.executable).name
    assert install_engine.run(argparse.Namespace(python=name)) == 0
    assert sysconfig.get_config_var("SOABI") in capsys.readouterr().out


def test_missing_python_is_told_with_its_path(package: Path) -> None:
    with pytest.raises(PyglueError, match="/does/not/exist does not exist"):
        install_engine.ask(Path("/does/not/exist"))


def test_root_takes_no_python_that_others_can_change(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(install_engine, "distrusted", lambda _: "/srv/shop")
    with pytest.raises(PyglueError, match="others than root can change /srv/shop"):
        install_engine.ask(Path(sys.executable))


def test_missing_compiler_is_told_with_the_package(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(PyglueError, match="apt-get install gcc"):
        install_engine.build(install_engine.ask(Path(sys.executable)))
