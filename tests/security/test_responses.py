# SPDX-License-Identifier: Apache-2.0
"""What an application may not put on the wire, RELIABILITY B4: refused in start_response."""

from __future__ import annotations

import os
from urllib.parse import quote

import pytest
from harness.client import connected, request
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


@pytest.mark.parametrize("kind", ["folder", "fifo", "device"])
def test_file_wrapper_around_no_regular_file_breaks_nothing(site: Httpd, kind: str) -> None:
    site.log.allow("script|GL0|Error|Traceback|  File|    ")
    path = site.root / "files" / kind
    made = {
        "folder": path.mkdir,
        "fifo": lambda: os.mkfifo(path),
        "device": lambda: path.symlink_to("/dev/null"),
    }
    made[kind]()
    if kind != "fifo":
        with connected(site.address) as connection:
            connection.send(request("GET", f"/sends_a_file?{kind}"))
            assert connection.read_response().status in (200, 500)
    with connected(site.address) as connection:
        connection.send(request("GET", "/environ"))
        assert connection.read_response().status == 200


def test_file_that_shrinks_makes_an_incomplete_response(site: Httpd) -> None:
    """The size is fixed at the start; what is missing is seen as cut."""
    site.log.allow("script|GL0|AH0|Error|Traceback|  File|    ")
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
