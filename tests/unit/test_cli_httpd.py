# SPDX-License-Identifier: Apache-2.0
"""Finding httpd and reading what it says of itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyglue.cli.explain import explained
from pyglue.cli.httpd import Httpd, find_program
from pyglue.errors import PyglueError


def fake(folder: Path, listed: str = "  core.c\n  mod_so.c\n") -> Httpd:
    program = folder / "httpd"
    program.write_text(f"#!/bin/sh\nprintf '%s' 'Compiled in modules:\n{listed}'\n")
    program.chmod(0o755)
    modules = folder / "modules"
    modules.mkdir()
    for name in ("mpm_event", "authz_core"):
        (modules / f"mod_{name}.so").touch()
    return Httpd(program, modules)


def test_module_that_is_built_in_is_not_loaded(tmp_path: Path) -> None:
    httpd = fake(tmp_path, "  core.c\n  mod_unixd.c\n")
    assert httpd.load_lines(["unixd"]) == []


def test_module_file_is_loaded_by_its_full_path(tmp_path: Path) -> None:
    line = f'LoadModule authz_core_module "{tmp_path}/modules/mod_authz_core.so"'
    assert fake(tmp_path).load_lines(["authz_core"]) == [line]


def test_no_mpm_is_loaded_where_one_is_built_in(tmp_path: Path) -> None:
    assert fake(tmp_path, "  core.c\n  prefork.c\n").load_lines(["mpm_event"]) == []


def test_missing_module_is_told_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(PyglueError, match=r"mod_mime\.so does not exist"):
        fake(tmp_path).load_lines(["mime"])


def test_named_httpd_that_is_none_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYGLUE_HTTPD", str(tmp_path / "none"))
    with pytest.raises(PyglueError, match="PYGLUE_HTTPD"):
        find_program()


def test_missing_httpd_is_told_with_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYGLUE_HTTPD", raising=False)
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(PyglueError, match="apt-get install apache2-bin"):
        find_program()


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        (
            "API module structure 'wsgi_module' in file /x/mod_pyglue.so is garbled",
            "built for another httpd",
        ),
        (
            'Module "mod_pyglue.c" is not compatible with this version of Apache (found 2, need 1)',
            "built for another httpd",
        ),
        ("(98)Address already in use: AH00072: make_sock: could not bind", "in use"),
        ("AH00077: alloc_listener: failed to set up sockaddr for nowhere", "--host"),
        ("Error:\tApache has not been designed to serve pages while", "name another user"),
        ("AH00526: Invalid command 'WSGIScriptAlias', perhaps misspelled", "module-config"),
        ("AH00526: Invalid command 'WSGIScriptAlas', perhaps misspelled", "httpd -L"),
    ],
)
def test_words_of_httpd_come_with_the_remedy(said: str, remedy: str) -> None:
    text = explained(said, Path("/etc/httpd.conf"))
    assert said in text and remedy in text and "/etc/httpd.conf" in text
