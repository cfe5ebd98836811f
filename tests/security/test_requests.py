# SPDX-License-Identifier: Apache-2.0
"""Requests that attack, RELIABILITY B3: the application sees one request, as httpd framed it."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from harness.client import Connection, connected, request
from harness.httpd import Httpd

HOST = b"Host: tests.invalid\r\n"
SMUGGLED = request(
    "GET", "/as_told?" + quote('{"headers": [["X-Smuggled", "1"]], "blocks": ["smuggled"]}')
)


def answers(site: Httpd, data: bytes) -> bytes:
    """All that the server says to these bytes until it closes or waits for more."""
    connection = Connection(site.address, deadline=3)
    try:
        connection.send(data + b"GET /environ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return connection.read_all()
    except (TimeoutError, ConnectionResetError):
        return b""
    finally:
        connection.close()


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: %d\r\n",
        b"Content-Length: %d\r\nContent-Length: 5\r\n",
        b"Content-Length: +%d\r\n",
        b"Content-Length: %d, 5\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\nX: %d\r\n",
        b"Transfer-Encoding: chunked\x0b\r\nX: %d\r\n",
        b"Transfer-Encoding: xchunked\r\nX: %d\r\n",
        b"Transfer-Encoding : chunked\r\nX: %d\r\n",
        b"Transfer_Encoding: chunked\r\nContent-Length: %d\r\n",
    ],
)
def test_ambiguous_framing_smuggles_nothing(site: Httpd, head: bytes) -> None:
    site.log.allow(r"AH0\d+|AH1\d+|GL0|OSError|Traceback|  File|    |script")
    body = b"0\r\n\r\n" + SMUGGLED
    data = b"POST /echo HTTP/1.1\r\n" + HOST + head % len(body) + b"\r\n" + body
    assert b"X-Smuggled: 1\r\n" not in answers(site, data).replace(b"HTTP/1.1 400", b"")


@pytest.mark.parametrize(
    "size",
    [b"+5", b"0x5", b"5_0", b"-5", b" 5", b"5 5", b"", b"5;\x00", b"fffffffffffffffff", b"5\n"],
)
def test_malformed_chunk_size_is_an_error_and_closes(site: Httpd, size: bytes) -> None:
    site.log.allow(r"AH0\d+|GL0|OSError|Traceback|  File|    |script")
    head = b"POST /echo HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
    answer = answers(site, head + size + b"\r\nhello\r\n0\r\n\r\n" + SMUGGLED)
    accepted = answer.startswith(b"HTTP/1.1 200") and b"\r\n\r\nhello" in answer
    assert b"X-Smuggled" not in answer or accepted


@pytest.mark.parametrize("path", ["/environ/%00", "/%00environ", "/environ%00.txt"])
def test_nul_in_the_path_reaches_no_application(site: Httpd, path: str) -> None:
    site.log.allow(r"AH0\d+|AH1\d+|invalid")
    with connected(site.address) as connection:
        connection.send(request("GET", path))
        assert connection.read_response().status in (400, 404)


@pytest.mark.parametrize(
    "path",
    [
        "/environ/../../etc/passwd",
        "/environ/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/environ\\..\\x",
        "/environ/%c0%ae%c0%ae/",
    ],
)
def test_path_does_not_leave_the_mount(site: Httpd, path: str) -> None:
    site.log.allow(r"AH0\d+|AH1\d+|invalid")
    with connected(site.address) as connection:
        connection.send(request("GET", path))
        assert b"root:" not in connection.read_response().body


@pytest.mark.parametrize(
    "name",
    [b"Authorization", b"Host", b"User-Agent", b"Cookie", b"X-Any", b"Content-Type", b"Range"],
)
@pytest.mark.parametrize(
    "value", [b"\xff\xfe", b"Basic \xff\xff", b"\xc3\x28", b"a\tb", b"\x80" * 4000]
)
def test_any_bytes_in_a_header_are_latin1_or_refused(
    site: Httpd, name: bytes, value: bytes
) -> None:
    site.log.allow(r"AH0\d+")
    with connected(site.address) as connection:
        host = b"" if name == b"Host" else HOST
        connection.send(b"GET /environ HTTP/1.1\r\n" + host + name + b": " + value + b"\r\n\r\n")
        assert connection.read_response().status in (200, 400)


def test_path_of_any_bytes_is_latin1(site: Httpd) -> None:
    site.log.allow(r"AH0\d+")
    with connected(site.address) as connection:
        every = "".join(f"%{number:02x}" for number in range(1, 256) if number != 0x2F)
        connection.send(request("GET", "/environ/" + every))
        assert connection.read_response().status == 200


def test_one_header_of_one_mib_is_refused_by_httpd(site: Httpd) -> None:
    site.log.allow(r"AH0\d+")
    connection = Connection(site.address)
    try:
        connection.send(
            b"GET /environ HTTP/1.1\r\n" + HOST + b"X: " + b"v" * (1 << 20) + b"\r\n\r\n"
        )
        assert connection.read_head().status == 400
    except (ConnectionResetError, BrokenPipeError, EOFError):
        pass  # httpd closes while the client still sends: refused all the same
    finally:
        connection.close()
