# SPDX-License-Identifier: Apache-2.0
"""RELIABILITY B3 33: a script file is never sent as text while the module is loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from harness import conf
from harness.client import ask
from harness.httpd import Httpd
from harness.site import MODE_LINES

Start = Callable[..., Httpd]
SECRET = b"known to the script alone"
SCRIPT = f"""
SECRET = "{SECRET.decode()}"


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ran"]
"""
SPELLINGS = [
    "/files/app.wsgi",
    "/files/app.wsgi/",
    "/files/app.wsgi/x",
    "//files//app.wsgi",
    "/files/./app.wsgi",
    "/files/app.wsgi;x",
    "/files/app.WSGI",
    "/files/app.wsgi.",
    "/files/app.wsgi%00",
    "/files/app.wsgi%20",
    "/files/app%2ewsgi",
    "/files/app.wsgi?x",
]
# How a folder may have come to be served, and what makes its script run there.
WAYS = {
    "a handler": ["Options +ExecCGI", "AddHandler wsgi-script .wsgi"],
    "a handler without ExecCGI": ["AddHandler wsgi-script .wsgi"],
    "a type": ["Options +ExecCGI", "AddType application/x-httpd-wsgi .wsgi"],
    "a type without ExecCGI": ["AddType application/x-httpd-wsgi .wsgi"],
    "a handler for all": ["Options +ExecCGI", "SetHandler wsgi-script"],
    "a forced type": ["ForceType application/x-httpd-wsgi"],
}


@pytest.mark.parametrize("way", WAYS)
def test_script_is_never_sent_as_text(
    mode: str, start_httpd: Start, folder: Path, way: str
) -> None:
    (folder / "app.wsgi").write_text(SCRIPT)
    alias = [f'Alias /files "{folder}"', *MODE_LINES[mode]]
    server = start_httpd([*alias, *conf.granted(folder, *WAYS[way])])
    server.log.allow(r"AH0\d+|AH1\d+|GL02\d+")
    for target in SPELLINGS:
        assert SECRET not in ask(server.address, target).body, target


def test_script_of_an_alias_is_not_sent_by_another_url(
    mode: str, start_httpd: Start, folder: Path
) -> None:
    (folder / "app.wsgi").write_text(SCRIPT)
    aliases = [f'WSGIScriptAlias /app "{folder}/app.wsgi"', f'Alias /files "{folder}"']
    server = start_httpd([*MODE_LINES[mode], *aliases, *conf.granted(folder)])
    server.log.allow(r"AH0\d+|AH1\d+|GL02\d+")
    assert ask(server.address, "/app").body == b"ran"
    for target in SPELLINGS:
        assert SECRET not in ask(server.address, target).body, target
