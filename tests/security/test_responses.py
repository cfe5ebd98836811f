# SPDX-License-Identifier: Apache-2.0
"""What an application may not put on the wire, RELIABILITY B4: refused in start_response."""

from __future__ import annotations

import os
from urllib.parse import quote

import pytest
from harness.client import Response, ask, connected, request
from harness.httpd import Httpd

STATUSES = [
    "'200 OK\\r\\nX: 1'",
    "'200 OK\\n'",
    "'200 \\0'",
    "'99 Low'",
    "'0 Zero'",
    "'1000 High'",
    "'OK'",
    "''",
    "'20 0'",
    "'200\\tOK'",
    "' 200 OK'",
    "'200 \\u0100'",
    "b'200 OK'",
    "None",
    "200",
]
FIELDS = [
    "('X', 'a\\r\\nSet-Cookie: b')",
    "('X', 'a\\nb')",
    "('X', 'a\\0b')",
    "('X\\r\\nY', 'a')",
    "('X Y', 'a')",
    "('X:', 'a')",
    "('', 'a')",
    "('X\\0', 'a')",
    "('X', '\\u0100')",
    "('X\\u0100', 'a')",
    "(b'X', 'a')",
    "('X', b'a')",
    "('X', None)",
    "('X', 1)",
    "('X',)",
    "('X', 'a', 'b')",
    "'X: a'",
    "None",
    "('Content-Type', 'a\\r\\nb')",
    "('Content-Length', '-1')",
    "('Content-Length', '1x')",
    "('Content-Length', '1, 2')",
    "('Content-Length', '+1')",
    "('Content-Length', '')",
]
HEADS = [f"({status}, [])" for status in STATUSES] + [f"('200 OK', [{field}])" for field in FIELDS]
HEADS += ["('200 OK', None)", "('200 OK', {})", "('200 OK', 'X: a')"]


@pytest.mark.parametrize("head", HEADS)
def test_head_that_http_does_not_allow_is_refused(site: Httpd, head: str) -> None:
    with connected(site.address) as connection:
        connection.send(request("GET", "/wrong_head?" + quote(head)))
        response = connection.read_response()
    assert response.header("X-Refused") in ("ValueError", "TypeError"), response


def sent(site: Httpd, name: str) -> Response:
    return ask(site.address, f"/sends_a_file?{name}")


def test_file_wrapper_around_a_folder_is_an_error(site: Httpd) -> None:
    site.log.expect_traceback("IsADirectoryError")
    (site.root / "files" / "folder").mkdir(exist_ok=True)
    assert sent(site, "folder").status == 500


def test_file_wrapper_around_a_device_sends_what_is_read(site: Httpd) -> None:
    path = site.root / "files" / "device"
    path.symlink_to("/dev/null")
    response = sent(site, "device")
    path.unlink()
    assert (response.status, response.body) == (200, b"")


def test_file_wrapper_around_a_fifo_sends_what_is_written(site: Httpd) -> None:
    """No regular file: it is read in blocks, and its end is the writer's end."""
    path = site.root / "files" / "fifo"
    os.mkfifo(path)
    path.chmod(0o666)
    with connected(site.address) as connection:
        connection.send(request("GET", "/sends_a_pipe?fifo"))
        with path.open("wb") as writer:
            writer.write(b"piped " * 1000)
        response = connection.read_response()
    path.unlink()
    assert (response.status, response.body) == (200, b"piped " * 1000)


def test_file_that_grows_is_sent_as_long_as_it_was(site: Httpd) -> None:
    path = site.root / "files" / "grows"
    size = 16 << 20
    path.write_bytes(b"x" * size)
    with connected(site.address) as connection:
        connection.send(request("GET", "/sends_a_file?grows") + request("GET", "/environ"))
        assert connection.read_head().header("Content-Length") == str(size)
        with path.open("ab") as out:
            out.write(b"grown " * 100_000)
        assert connection.read_exactly(size) == b"x" * size
        assert connection.read_response().header("Content-Type") == "application/json"
    path.unlink()


def test_file_that_shrinks_makes_an_incomplete_response(site: Httpd) -> None:
    """The size is fixed at the start; what is missing is seen as cut."""
    site.log.allow("script|GL0|PG2001|AH0|Error|Traceback|  File|    ")
    path = site.root / "files" / "shrinks"
    path.write_bytes(b"x" * (64 << 20))
    with connected(site.address) as connection:
        connection.send(request("GET", "/sends_a_file?shrinks"))
        head = connection.read_head()
        assert head.header("Content-Length") == str(64 << 20)
        os.truncate(path, 1000)
        with pytest.raises((EOFError, ConnectionResetError)):
            connection.read_exactly(64 << 20)
    path.unlink()


def test_nothing_of_a_refused_head_is_sent(site: Httpd) -> None:
    site.log.expect_traceback("ValueError")
    target = "/as_told?" + quote(
        '{"headers": [["X-Kept", "1"], ["X-Bad", "a\\r\\nX-Injected: 1"]]}'
    )
    with connected(site.address) as connection:
        connection.send(request("GET", target))
        response = connection.read_response()
    assert response.status == 500
    assert not {"X-Kept", "X-Bad", "X-Injected"} & {name for name, _ in response.fields}
