# SPDX-License-Identifier: Apache-2.0
"""What `pyglue serve` and `pyglue config` make of their arguments."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import stat
from pathlib import Path

import pytest

from pyglue.cli import site
from pyglue.cli.reach import User
from pyglue.errors import PyglueError


class FakeHttpd:
    """An httpd that has every module as a file."""

    def load_lines(self, names: tuple[str, ...]) -> list[str]:
        return [f"LoadModule {name}_module mod_{name}.so" for name in names]


@pytest.fixture
def script(tmp_path: Path) -> Path:
    file = tmp_path / "app.wsgi"
    file.write_text("def application(environ, start_response): ...\n")
    return file


def parse(*arguments: str) -> site.Site:
    parser = argparse.ArgumentParser()
    site.add_arguments(parser)
    return site.from_arguments(parser.parse_args(arguments))


def rendered(wanted: site.Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    built = tmp_path / "mod_pyglue.so"
    built.touch()
    monkeypatch.setattr(site, "built_module", lambda: built)
    return site.render(wanted, FakeHttpd())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("target", "named"),
    [
        ("shop.wsgi:app", ("shop.wsgi", "app")),
        ("shop:factory.app", ("shop", "factory.app")),
        ("app.wsgi", None),
        ("/srv/a:b/app.wsgi", None),
    ],
)
def test_target_is_a_script_or_names_a_callable(target: str, named: tuple[str, str] | None) -> None:
    assert site.named_callable(target) == named


def test_target_that_is_neither_is_refused() -> None:
    with pytest.raises(PyglueError, match="neither a script file nor"):
        site.named_callable("shop-1:app")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "70000"], "1 to 65535"),
        (["--threads", "0"], "at least 1"),
        (["--static", "files"], "/url=folder"),
        (["--static", "/=/tmp"], "/url=folder"),
        (["--static", "/files=/does/not/exist"], "not a folder"),
    ],
)
def test_wrong_argument_is_told_with_what_is_allowed(arguments: list[str], message: str) -> None:
    with pytest.raises(PyglueError, match=message):
        parse("app.wsgi", *arguments)


def test_daemon_mode_defines_a_group_of_the_named_python(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = parse(str(script), "--processes", "2", "--python", "/usr/bin/python3")
    text = rendered(wanted, monkeypatch, tmp_path)
    assert 'WSGIDaemonProcess application processes=2 threads=15 python="/usr/bin/python3"' in text
    assert f'WSGIScriptAlias / "{script}" process-group=application' in text
    assert "$" not in text


def test_embedded_mode_names_the_home_of_the_python(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = parse(str(script), "--mode", "embedded", "--python", "/srv/venv/bin/python")
    text = rendered(wanted, monkeypatch, tmp_path)
    assert 'WSGIPythonHome "/srv/venv"' in text
    assert "WSGIDaemonProcess" not in text


@pytest.mark.parametrize("url", ["/files", "/files/"])
def test_static_folder_is_served_by_httpd(
    url: str, script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = rendered(parse(str(script), "--static", f"{url}={tmp_path}"), monkeypatch, tmp_path)
    assert f'Alias "/files" "{tmp_path}"' in text


def test_ipv6_address_stands_in_brackets(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = parse(str(script), "--host", "::1")
    assert wanted.address == "http://[::1]:8000/"
    assert "Listen [::1]:8000" in rendered(wanted, monkeypatch, tmp_path)


@pytest.mark.parametrize("value", ["a\nb", "${HOME}", "a\0b"])
def test_value_that_httpd_would_interpret_is_refused(value: str) -> None:
    with pytest.raises(PyglueError, match=r"cannot stand in an httpd\.conf"):
        site.quoted(value)


def test_quotation_marks_and_backslashes_are_escaped() -> None:
    assert site.quoted('a"b\\c') == 'a\\"b\\\\c'


def test_server_root_that_others_can_write_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    root.chmod(0o777)
    with pytest.raises(PyglueError, match="only you can write"):
        site.make_root(root)


def test_server_root_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    root = tmp_path / "root"
    root.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PyglueError, match="only you can write"):
        site.make_root(root)


def test_server_root_can_be_entered_by_all_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        site.make_root(tmp_path / "new" / "root")
    finally:
        os.umask(before)
    for folder in (tmp_path / "new", tmp_path / "new" / "root"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o755


def test_named_callable_gets_a_script_that_imports_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = dataclasses.replace(parse("json:dumps", "--server-root", str(tmp_path)), user=None)
    monkeypatch.setattr(site, "render", lambda *_: "")
    site.write(wanted, FakeHttpd())  # type: ignore[arg-type]
    names: dict[str, object] = {}
    exec(wanted.script.read_text(), names)
    assert names["application"] is json.dumps


def test_missing_script_is_told_with_its_path(tmp_path: Path) -> None:
    wanted = parse(str(tmp_path / "none.wsgi"), "--server-root", str(tmp_path / "root"))
    wanted = dataclasses.replace(wanted, user=None)
    with pytest.raises(PyglueError, match=r"none\.wsgi does not exist"):
        site.write(wanted, FakeHttpd())  # type: ignore[arg-type]


def test_unknown_user_is_told_by_name() -> None:
    with pytest.raises(PyglueError, match="nobody-of-that-name"):
        User.named("nobody-of-that-name", None)


def test_user_is_for_root_to_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(PyglueError, match="need root"):
        site.serving_user("www-data", None)
