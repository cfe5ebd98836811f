# SPDX-License-Identifier: Apache-2.0
"""WSGIFreeThreading, on a free-threaded Python (`make free-threaded`) and on another."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import conf, pythons
from harness.client import ask, facts
from harness.httpd import Httpd

APPS = Path(__file__).parents[1] / "apps"
Start = Callable[..., Httpd]

TELLS = """\
import json, sys, mod_wsgi
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    facts = {"gil": sys._is_gil_enabled(), "group": mod_wsgi.application_group}
    return [json.dumps(facts).encode()]
"""


SECTION = "<WSGIInterpreterOptions>\nWSGIFreeThreading On\n</WSGIInterpreterOptions>"


@pytest.fixture(scope="session")
def free(copies: Path) -> Path:
    """A free-threaded Python that httpd's user can run, with its engine."""
    built = pythons.free_threaded()
    if not built.exists():
        pytest.skip(f"there is no {built}: `make free-threaded` builds it")
    python = pythons.copied(built, copies)
    pythons.engine_of(python)
    return python


def lines_of(mode: str, python: Path, folder: Path, directive: str) -> list[str]:
    (folder / "app.py").write_text(TELLS)
    shutil.copytree(APPS / "echo", folder / "echo")
    # bin/python is what embedded mode looks for.
    environment = folder / "environment"
    if not environment.exists():
        pythons.make_environment(python, environment)
    own = f'WSGIPythonHome "{environment}"'
    if mode == "daemon":
        own = f"WSGIDaemonProcess own python-home={environment}\nWSGIProcessGroup own"
    aliases = [
        f'WSGIScriptAlias /{name} "{folder}/{file}" application-group={group}'
        for name, file, group in (
            ("global", "app.py", "%{GLOBAL}"),
            ("sub", "app.py", "sub"),
            ("echo", "echo/wsgi.py", "%{GLOBAL}"),
        )
    ]
    return [own, directive, *aliases, *conf.granted(folder)]


@pytest.mark.parametrize(
    ("directive", "has_gil"),
    [
        (SECTION, False),
        ("WSGIFreeThreading On", False),
        ("WSGIFreeThreading Off", True),
        ("", True),
    ],
)
def test_free_threaded_python_has_its_gil_unless_told(
    mode: str, free: Path, start_httpd: Start, folder: Path, directive: str, has_gil: bool
) -> None:
    server = start_httpd(lines_of(mode, free, folder, directive))
    for name, group in (("global", ""), ("sub", "sub")):
        assert facts(server.address, f"/{name}") == {"gil": has_gil, "group": group}
    body = b"x" * 300_000
    assert ask(server.address, "/echo", "POST", body=body).body == body
    if has_gil and mode == "daemon":  # in a child it is said at level info
        server.log.expect("PG3033: .* runs with its GIL: WSGIFreeThreading is Off")


def test_own_gils_have_no_effect_beside_it(
    mode: str, free: Path, start_httpd: Start, folder: Path
) -> None:
    directives = "WSGIFreeThreading On\nWSGIPerInterpreterGIL On"
    server = start_httpd(lines_of(mode, free, folder, directives))
    server.log.expect("PG3031: WSGIPerInterpreterGIL On has no effect")
    assert facts(server.address, "/sub") == {"gil": False, "group": "sub"}


def test_other_python_says_that_it_cannot(mode: str, start_httpd: Start, folder: Path) -> None:
    shutil.copy(APPS / "process" / "wsgi.py", folder / "app.py")
    own = "WSGIDaemonProcess own\nWSGIProcessGroup own" if mode == "daemon" else ""
    alias = f'WSGIScriptAlias / "{folder}/app.py" application-group=%{{GLOBAL}}'
    server = start_httpd([own, "WSGIFreeThreading On", alias, *conf.granted(folder)])
    server.log.expect("PG3032: WSGIFreeThreading On has no effect: .* is not a free-threaded build")
    assert facts(server.address)["process_group"] == ("own" if mode == "daemon" else "")
