# SPDX-License-Identifier: Apache-2.0
"""Loading of scripts: missing, broken, mended, touched; the message says what and where."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import conf
from harness.client import Response, connected, request, wait_until
from harness.httpd import Httpd
from harness.site import MODE_LINES, end

GOOD = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%s"]
"""


@pytest.fixture(scope="module")
def server(mode: str) -> Iterator[Httpd]:
    made = Httpd([])
    scripts = made.root / "scripts"
    scripts.mkdir()
    made.configure([*MODE_LINES[mode], f'WSGIScriptAlias / "{scripts}/"', *conf.granted(scripts)])
    yield made.start()
    end(made)


@pytest.fixture
def scripts(server: Httpd) -> Iterator[Path]:
    folder = server.root / "scripts"
    yield folder
    server.log.check()
    for path in folder.iterdir():
        path.unlink()


def get(server: Httpd, target: str, method: str = "GET") -> Response:
    with connected(server.address) as connection:
        connection.send(request(method, target))
        return connection.read_response(method)


def write(path: Path, text: str, age: float = 0.0) -> None:
    """Replace a script as an editor does, with a time of its own."""
    part = path.with_suffix(".part")
    part.write_text(text)
    if age:
        os.utime(part, (part.stat().st_mtime - age,) * 2)
    part.replace(path)


def test_missing_script_is_not_found(server: Httpd, scripts: Path) -> None:
    server.log.expect("absent.py")
    assert get(server, "/absent.py").status == 404


def test_script_without_the_callable_is_not_found_and_the_log_names_it(
    server: Httpd, scripts: Path
) -> None:
    server.log.expect("nothing.py.*application|application.*nothing.py")
    write(scripts / "nothing.py", "x = 1\n")
    assert get(server, "/nothing.py").status == 404


def test_callable_that_cannot_be_called_is_an_error(server: Httpd, scripts: Path) -> None:
    server.log.expect("cannot be called")
    server.log.allow("GL0|Traceback|  File|    ")
    write(scripts / "number.py", "application = 1\n")
    assert get(server, "/number.py").status == 500


@pytest.mark.parametrize(
    ("text", "last_line"),
    [
        ("def broken(:\n", "SyntaxError"),
        ("import no_such_module_anywhere\n", "ModuleNotFoundError"),
        ("raise SystemExit(3)\n", "SystemExit"),
        ("raise KeyboardInterrupt\n", "KeyboardInterrupt"),
    ],
)
def test_script_that_fails_to_load_is_a_500_with_a_traceback(
    server: Httpd, scripts: Path, text: str, last_line: str
) -> None:
    server.log.expect_traceback(last_line)
    server.log.allow(r"GL0|broken.py|def broken|\^")
    write(scripts / "broken.py", text)
    assert get(server, "/broken.py").status == 500


def test_mended_script_is_served_at_once(server: Httpd, scripts: Path) -> None:
    server.log.expect_traceback("boom while loading")
    server.log.allow(r"GL0|mended.py")
    write(scripts / "mended.py", "raise ValueError('boom while loading')\n", age=10)
    assert get(server, "/mended.py").status == 500
    write(scripts / "mended.py", GOOD % "mended")
    wait_until(lambda: get(server, "/mended.py").status == 200, "the mended script is served")
    assert get(server, "/mended.py").body == b"mended"


def test_touched_script_is_loaded_again(server: Httpd, scripts: Path) -> None:
    write(scripts / "touched.py", GOOD % "old", age=10)
    assert get(server, "/touched.py").body == b"old"
    write(scripts / "touched.py", GOOD % "new")
    wait_until(lambda: get(server, "/touched.py").body == b"new", "the new code is served")


STAMPED = """
import os, pathlib, time
started = time.time_ns()
def reload_required(path):
    return path == __file__ and pathlib.Path(path).with_suffix(".again").exists()
""" + GOOD.replace('b"%s"', "b'%d' % started")


def test_script_says_itself_that_it_is_outdated(server: Httpd, scripts: Path) -> None:
    write(scripts / "stamped.py", STAMPED)
    first = get(server, "/stamped.py").body
    assert get(server, "/stamped.py").body == first
    (scripts / "stamped.again").touch()
    wait_until(lambda: get(server, "/stamped.py").body != first, "it is loaded again")
    (scripts / "stamped.again").unlink()


@pytest.mark.parametrize("options", ["", "process-group={0} application-group=%{{GLOBAL}}"])
@pytest.mark.parametrize("where", ["server", "folder"])
def test_touched_script_stays_where_reloading_is_off(
    mode: str, start_httpd: Callable[..., Httpd], folder: Path, where: str, options: str
) -> None:
    """Preloaded or not. Another script shows that the watch has had its turn."""
    off = ["WSGIScriptReloading Off"]
    group = "tests" if mode == "daemon" else "%{GLOBAL}"
    for name in ("off", "on"):
        (folder / name).mkdir()
        write(folder / name / "app.py", GOOD % "old", age=10)
    lines = [
        *MODE_LINES[mode],
        *(off if where == "server" else []),
        f'WSGIScriptAlias /off "{folder}/off/app.py" {options.format(group)}',
        f'WSGIScriptAlias /on "{folder}/on/app.py"',
        *conf.granted(folder / "off", *(off if where == "folder" else [])),
        *conf.granted(folder / "on", "WSGIScriptReloading On"),
    ]
    server = start_httpd(lines)
    assert [get(server, target).body for target in ("/off", "/on")] == [b"old", b"old"]
    pids = server.workers()
    write(folder / "off" / "app.py", GOOD % "new")
    end = time.monotonic() + 2.5  # the watch looks each second
    wait_until(lambda: time.monotonic() > end, "it would have been seen")
    assert get(server, "/off").body == b"old"
    assert server.workers() == pids
    write(folder / "on" / "app.py", GOOD % "new")
    wait_until(lambda: get(server, "/on").body == b"new", "the other one is loaded again")


def test_other_scripts_are_served_beside_a_broken_one(server: Httpd, scripts: Path) -> None:
    server.log.expect_traceback("boom beside")
    server.log.allow(r"GL0|bad.py")
    write(scripts / "bad.py", "raise ValueError('boom beside')\n")
    write(scripts / "good.py", GOOD % "good")
    assert get(server, "/bad.py").status == 500
    assert get(server, "/good.py").body == b"good"


@pytest.mark.root
def test_unreadable_script_is_an_error_that_names_it(server: Httpd, scripts: Path) -> None:
    server.log.expect("closed.py")
    server.log.allow("GL0|Traceback|  File|    |mod_wsgi|PermissionError")
    write(scripts / "closed.py", GOOD % "closed")
    os.chmod(scripts / "closed.py", 0)
    assert get(server, "/closed.py").status == 500
    os.chmod(scripts / "closed.py", 0o644)
    assert get(server, "/closed.py").body == b"closed"


def test_folder_as_script_is_forbidden_or_not_found(server: Httpd, scripts: Path) -> None:
    server.log.allow("GL0|AH0|mod_wsgi|directory")
    assert get(server, "/").status in (403, 404)


def test_script_runs_under_a_name_of_its_own(site: Httpd) -> None:
    facts = json.loads(get(site, "/process").body)
    assert facts["name"].startswith("_mod_wsgi_")
    assert facts["file"] == str(site.root / "apps/process/wsgi.py")


def test_import_of_a_package_beside_nothing_else_changes_the_path(
    site: Httpd,
) -> None:
    facts = json.loads(get(site, "/process").body)
    assert str(site.root / "apps/process") not in facts["path"]
    assert facts["argv"] == ["mod_wsgi"]


def test_scripts_are_never_sent_as_text(
    mode: str, start_httpd: Callable[..., Httpd], folder: Path
) -> None:
    """RELIABILITY B3.33: by AddHandler, any case or suffix, with and without ExecCGI."""
    (folder / "app.wsgi").write_text(GOOD % "ran")
    lines = [f'Alias /files "{folder}"', *MODE_LINES[mode]]
    allowed = [*conf.granted(folder, "Options +ExecCGI", "AddHandler wsgi-script .wsgi")]
    server = start_httpd([*lines, *allowed])
    server.log.allow("AH0|GL0")
    for target in (
        "/files/app.wsgi",
        "/files/app.wsgi/x",
        "//files//app.wsgi",
        "/files/./app.wsgi",
    ):
        assert get(server, target).body == b"ran", target
    for target in (
        "/files/app.wsgi;x",
        "/files/app.WSGI",
        "/files/app.wsgi%00",
        "/files/app.wsgi.",
    ):
        assert b"def application" not in get(server, target).body, target


def test_handler_without_exec_cgi_is_forbidden(
    mode: str, start_httpd: Callable[..., Httpd], folder: Path
) -> None:
    (folder / "app.wsgi").write_text(GOOD % "ran")
    lines = [f'Alias /files "{folder}"', *MODE_LINES[mode]]
    server = start_httpd([*lines, *conf.granted(folder, "AddHandler wsgi-script .wsgi")])
    server.log.expect("ExecCGI")
    assert get(server, "/files/app.wsgi").status == 403
