# SPDX-License-Identifier: Apache-2.0
"""`pyglue check`: what httpd says, the plan, a word a group; and the two lines for any httpd."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from pyglue.cli import check, main
from pyglue.cli.probe import shown

GROUP = {
    "name": "shop", "digest": "00" * 20, "log": 0, "server": "shop.example", "user": "ann",
    "uid": 1001, "gid": 1001, "groups": [1001], "user_home": "/home/ann", "processes": 1,
    "multiprocess": False, "threads": 15, "umask": None, "home": None, "chroot": None,
    "python_home": None, "python": None, "python_path": [], "lang": None, "locale": None,
    "environ": None, "display_name": None, "send_buffer_size": 0, "receive_buffer_size": 0,
    "listen_backlog": 100, "script_uid": None, "script_gid": None, "pass_descriptors": False,
    "no_new_privs": True, "dumpable": True, "maximum_requests": 0, "startup_timeout": 0.0,
    "launch_timeout": 30.0, "shutdown_timeout": 5.0, "socket_timeout": 60.0, "scripts": [],
}  # fmt: skip
PLAN = {
    "version": 1, "plan": 1, "module": "0.1.0", "environ": [], "python_home": None, "logs": 1,
    "httpd": {"pid": 1, "uid": 33, "gid": 33, "privileged": False, "timeout": 60.0,
              "socket_prefix": "/run/httpd/wsgi", "request_max": 16777216},
    "groups": [GROUP],
}  # fmt: skip


@pytest.fixture
def httpd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An httpd whose answer to -t is what the test writes into `says` and `dumps`."""
    (tmp_path / "httpd-root" / "modules").mkdir(parents=True)
    (tmp_path / "httpd-root" / "modules" / "mod_authz_core.so").touch()
    (tmp_path / "says").write_text("Syntax OK\n")
    (tmp_path / "dumps").write_text(json.dumps(PLAN) + "\n")
    program = tmp_path / "httpd"
    program.write_text(
        f"""#!{sys.executable}
import pathlib, sys
here = pathlib.Path({str(tmp_path)!r})
if "-V" in sys.argv:
    print(f' -D HTTPD_ROOT="{{here}}/httpd-root"')
elif "DUMP_WSGI_PLAN" in sys.argv:
    print((here / "dumps").read_text(), end="")
    print((here / "says").read_text(), end="", file=sys.stderr)
    sys.exit("error" in (here / "says").read_text())
"""
    )
    program.chmod(0o755)
    monkeypatch.setenv("PYGLUE_HTTPD", str(program))
    return tmp_path


def run(
    said: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    monkeypatch.setattr(check, "probe", lambda *_: said)
    status = main(["check", "-f", "/etc/httpd.conf"])
    told = capsys.readouterr()
    return status, told.out + told.err


def test_sound_configuration_is_fine(
    httpd: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, told = run([], monkeypatch, capsys)
    assert status == 0
    assert "Syntax OK" in told and "process group shop (user ann): fine" in told


def test_group_that_cannot_start_is_told_with_its_words(
    httpd: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = ["a script does not load", "\n    SyntaxError: invalid syntax"]
    status, told = run(said, monkeypatch, capsys)
    assert status == 1
    assert "shop (user ann): a script does not load\n    SyntaxError" in told


def test_words_of_a_worker_cannot_act_on_the_terminal() -> None:
    """They are a tenant's, and root reads them."""
    assert shown(b"\x1b]0;title\x07\x1b[2J") == "\n    \\x1b]0;title\\x07\\x1b[2J"


def test_error_of_httpd_ends_the_check(
    httpd: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (httpd / "says").write_text("Syntax error on line 3 of /etc/httpd.conf\n")
    status, told = run([], monkeypatch, capsys)
    assert status == 1
    assert "Syntax error on line 3" in told and "shop" not in told


def test_configuration_without_the_module_is_told(
    httpd: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (httpd / "dumps").write_text("")
    status, told = run([], monkeypatch, capsys)
    assert status == 1
    assert "module-config" in told


def test_plan_of_another_version_is_told(
    httpd: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (httpd / "dumps").write_text(json.dumps({**PLAN, "version": 2}))
    status, told = run([], monkeypatch, capsys)
    assert status == 1
    assert "of different versions" in told


def test_version_names_pyglue_httpd_and_python(
    httpd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    pyglue, server, python = capsys.readouterr().out.splitlines()
    assert pyglue.startswith("pyglue ") and str(httpd) in server and sys.executable in python


def test_module_config_prints_two_lines_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pyglue.cli.site.PACKAGE", tmp_path)
    (tmp_path / "mod_pyglue.so").touch()
    assert main(["module-config"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f'LoadModule wsgi_module "{tmp_path}/mod_pyglue.so"',
        f'WSGIPythonHome "{sys.prefix}"',
    ]


def test_missing_module_is_told_with_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pyglue.cli.site.PACKAGE", tmp_path)
    assert main(["module-config"]) == 1
    assert "apache2-dev" in capsys.readouterr().err
