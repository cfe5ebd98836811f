# SPDX-License-Identifier: Apache-2.0
"""interim-responses: 103 Early Hints, which reach the client before the application goes on."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import conf
from harness.client import Connection, ask, connected, request, wait_until
from harness.httpd import Httpd

APPS = Path(__file__).parents[1] / "apps"
Start = Callable[..., Httpd]
LINKS = [[("Link", f"</{i}.css>; rel=preload")] for i in range(4)]


def site_of(
    start_httpd: Start, folder: Path, options: str | None, *more: str, **others: Any
) -> Httpd:
    """The application at /, in a group with these options; None: in httpd itself."""
    shutil.copy(APPS / "hints" / "wsgi.py", folder / "app.py")
    folder.chmod(0o777)
    where = "" if options is None else "process-group=own application-group=%{GLOBAL}"
    group = [] if options is None else [f"WSGIDaemonProcess own {options}"]
    lines = [*group, f'WSGIScriptAlias / "{folder}/app.py" {where}', f'SetEnv files "{folder}"']
    return start_httpd([*lines, *more, *conf.granted(folder)], **others)


def hint(connection: Connection, number: int = 0) -> None:
    """The next head is this one, and has nothing else in it."""
    head = connection.read_any_head()
    assert (head.version, head.status, head.reason) == ("HTTP/1.1", 103, "Early Hints")
    assert head.fields == LINKS[number]


def test_a_hint_arrives_before_the_application_goes_on(start_httpd: Start, folder: Path) -> None:
    server = site_of(start_httpd, folder, "interim-responses=2")
    with connected(server.address) as connection:
        for name in "ab":  # the connection lives on
            connection.send(request("GET", f"/?{name}&2"))
            hint(connection, 0)
            hint(connection, 1)
            wait_until((folder / f"{name}.runs").exists, "it waits", 20)
            (folder / f"{name}.end").touch()
            response = connection.read_response()
            assert (response.status, response.interim, response.body) == (200, [], b"sent 2")
            assert response.header("Content-Length") == "6"
            assert response.header("Link") is None


def test_the_answer_to_head_follows_its_hints(start_httpd: Start, folder: Path) -> None:
    server = site_of(start_httpd, folder, "interim-responses=1")
    (folder / "a.end").touch()
    with connected(server.address) as connection:
        connection.send(request("HEAD", "/?a&1") + request("GET", "/?a&0"))
        hint(connection)
        response = connection.read_response("HEAD")
        assert (response.status, response.interim, response.body) == (200, [], b"")
        assert connection.read_response().body == b"sent 0"


@pytest.mark.parametrize("asked", [0, 1, 2, 3])
def test_more_than_the_option_allows_raise_in_the_application(
    start_httpd: Start, folder: Path, asked: int
) -> None:
    server = site_of(start_httpd, folder, "interim-responses=2")
    (folder / "a.end").touch()
    response = ask(server.address, f"/?a&{asked}")
    assert response.interim == [103] * min(asked, 2)
    assert response.body == (b"raised after 2" if asked > 2 else b"sent %d" % asked)


@pytest.mark.parametrize("options", ["", "interim-responses=0", None])
def test_without_the_option_and_in_embedded_mode_there_are_none(
    start_httpd: Start, folder: Path, options: str | None
) -> None:
    server = site_of(start_httpd, folder, options)
    (folder / "a.end").touch()
    response = ask(server.address, "/?a&1")
    assert (response.interim, response.body) == ([], b"none allowed")


def test_a_client_of_http_1_0_gets_none(start_httpd: Start, folder: Path) -> None:
    server = site_of(start_httpd, folder, "interim-responses=4")
    (folder / "a.end").touch()
    with connected(server.address) as connection:
        connection.send(b"GET /?a&1 HTTP/1.0\r\n\r\n")
        response = connection.read_response()
        assert (response.interim, response.body) == ([], b"none allowed")


def test_an_error_document_has_none_and_an_internal_redirect_has_them(
    start_httpd: Start, folder: Path
) -> None:
    """Before the first the client may have had as many as the option allows."""
    server = site_of(
        start_httpd, folder, "interim-responses=1",
        "<Location /closed>", "Require all denied", "</Location>", "ErrorDocument 403 /?a&1",
        "<Location /moved>", "RewriteEngine On", "RewriteRule .* /?a&1", "</Location>",
        modules=("rewrite",),
    )  # fmt: skip
    server.log.allow("AH01630")  # client denied by server configuration
    (folder / "a.end").touch()
    for target, heads, told in [("/closed", [], b"none allowed"), ("/moved", [103], b"sent 1")]:
        response = ask(server.address, target)
        assert (response.interim, response.body) == (heads, told)


def test_100_continue_is_still_sent_when_the_body_is_read(start_httpd: Start, folder: Path) -> None:
    """Some versions of httpd take any interim response for it."""
    server = site_of(start_httpd, folder, "interim-responses=1")
    headers = {"Expect": "100-continue", "Content-Length": "5"}
    with connected(server.address) as connection:
        connection.send(request("POST", "/?a&1", headers))
        hint(connection)
        (folder / "a.end").touch()
        assert connection.read_any_head().status == 100
        connection.send(b" body")
        response = connection.read_response()
        assert (response.interim, response.body) == ([], b"sent 1 body")
        assert response.header("Connection") != "close"


def test_what_httpd_has_for_the_response_is_not_in_the_hint(
    start_httpd: Start, folder: Path
) -> None:
    """mod_headers, early, puts a field into the head that waits."""
    server = site_of(
        start_httpd, folder, "interim-responses=1", "Header set X-Early yes early",
        modules=("headers",),
    )  # fmt: skip
    (folder / "a.end").touch()
    with connected(server.address) as connection:
        connection.send(request("GET", "/?a&1"))
        hint(connection)
        assert connection.read_response().header("X-Early") == "yes"


@pytest.mark.parametrize(("early", "heads"), [("on", [103, 103, 200]), ("off", [200])])
def test_http2_has_them_where_httpd_allows_it(
    start_httpd: Start, folder: Path, early: str, heads: list[int]
) -> None:
    server = site_of(
        start_httpd, folder, "interim-responses=4", "Protocols h2c http/1.1",
        f"H2EarlyHints {early}", modules=("http2",),
    )  # fmt: skip
    (folder / "a.end").touch()
    url = "http://{}:{}/?a&2".format(*server.address)
    command = ["curl", "-si", "--http2-prior-knowledge", "--max-time", "20", url]
    lines = subprocess.check_output(command, text=True).splitlines()
    assert [int(line.split()[1]) for line in lines if line.startswith("HTTP/2 ")] == heads
    assert lines[-1] == "sent 2"
    final = lines[lines.index("HTTP/2 200 ") :]
    assert not [line for line in final if line.lower().startswith("link:")]
