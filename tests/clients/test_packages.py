"""twine uploads to, and pip installs from, pypiserver."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import pytest
from conftest import give

pytestmark = pytest.mark.clients

PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "glued-sample"
version = "1.2.3"
[tool.setuptools]
py-modules = ["glued_sample"]
"""


def test_twine_uploads_what_pip_then_installs(
    serve: Callable[[str], str],
    run: Callable[..., str],
    clients: pathlib.Path,
    folder: pathlib.Path,
) -> None:
    (folder / "packages").mkdir()
    give(folder / "packages")
    sample = folder / "sample"
    sample.mkdir()
    (sample / "pyproject.toml").write_text(PROJECT)
    (sample / "glued_sample.py").write_text("answer = 42\n")
    run(str(clients / "python"), "-m", "build", "--no-isolation", "sample")
    address = serve("packages.wsgi")

    files = [str(path) for path in (sample / "dist").iterdir()]
    run("twine", "upload", "--repository-url", address, "-u", "a", "-p", "b", *files)
    index = (
        "--index-url",
        address + "/simple/",
        "--no-deps",
        "--target",
        str(folder / "installed"),
    )
    run("pip", "install", *index, "glued-sample==1.2.3", PIP_CONFIG_FILE="/dev/null")

    assert (folder / "installed" / "glued_sample.py").read_text() == "answer = 42\n"
