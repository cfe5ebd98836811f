# SPDX-License-Identifier: Apache-2.0
"""What the client sees of what an application answers, the same in both modes."""

from __future__ import annotations

import json
import socket
import struct
from urllib.parse import quote

import pytest
from harness.client import Connection, CutError, Response, connected, request, wait_until
from harness.httpd import Httpd


def told(status: str = "200 OK", headers: list[tuple[str, str]] | None = None, *blocks: str) -> str:
    """The target that makes the application `as_told` answer this."""
    what = {"status": status, "headers": headers or [], "blocks": blocks}
    return "/as_told?" + quote(json.dumps(what), safe="")


def get(site: Httpd, target: str, method: str = "GET", **headers: str) -> Response:
    with connected(site.address) as connection:
        connection.send(request(method, target, headers))
        return connection.read_response(method)


def test_repeated_headers_stay_apart_and_in_order(site: Httpd) -> None:
    """mod_wsgi's daemon mode joined them."""
    names = ["Set-Cookie", "X-Twice", "WWW-Authenticate", "Link", "Vary", "X-Twice"]
    headers = [(name, f"v{number}") for number, name in enumerate(names)]
    response = get(site, told("200 OK", headers + headers[:1]))
    assert response.all("X-Twice") == ["v1", "v5"]
    assert response.all("Set-Cookie") == ["v0", "v0"]
    assert response.all("WWW-Authenticate") == ["v2"]


def test_header_named_status_is_a_header(site: Httpd) -> None:
    response = get(site, told("200 OK", [("Status", "404 Not Found")], "x"))
    assert (response.status, response.header("Status")) == (200, "404 Not Found")


def test_content_type_keeps_its_case(site: Httpd) -> None:
    value = 'Text/X-Case; Boundary="AbC"'
    assert get(site, told("200 OK", [("Content-Type", value)], "x")).header("Content-Type") == value


def test_no_content_type_is_invented(site: Httpd) -> None:
    assert get(site, told("200 OK", [], "x")).header("Content-Type") is None


def test_last_modified_in_the_future_is_passed_on(site: Httpd) -> None:
    value = "Fri, 01 Jan 2100 00:00:00 GMT"
    assert (
        get(site, told("200 OK", [("Last-Modified", value)], "x")).header("Last-Modified") == value
    )


@pytest.mark.parametrize(
    "status", ["200 OK", "201 Created", "302 Found", "303 See Other", "308 Permanent Redirect"]
)
@pytest.mark.parametrize(
    "target", ["/as_told", "/server-status", "relative", "http://elsewhere.invalid/x"]
)
def test_location_is_passed_on_and_never_acted_on(site: Httpd, status: str, target: str) -> None:
    response = get(site, told(status, [("Location", target)], "own body"))
    assert response.status == int(status[:3])
    assert response.header("Location") == target
    assert response.body == b"own body"


@pytest.mark.parametrize("type_", ["application/x-httpd-cgi", "wsgi-script", "server-status"])
def test_content_type_never_picks_a_handler(site: Httpd, type_: str) -> None:
    response = get(site, told("200 OK", [("Location", "/as_told"), ("Content-Type", type_)], "own"))
    assert response.body == b"own"


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("200 OK", "OK"),
        ("200 Quite Fine", "Quite Fine"),
        ("299 Own", "Own"),
        ("404 Gone Fishing", "Gone Fishing"),
        ("599 Odd", "Odd"),
        ("200 Error", "Error"),
        ("200 Rejected", "Rejected"),
    ],
)
def test_status_line_is_the_applications(site: Httpd, status: str, reason: str) -> None:
    """`200 Error` and `200 Rejected` were mod_wsgi's own signals between its processes."""
    response = get(site, told(status, [], "x"))
    assert (response.status, response.reason, response.body) == (int(status[:3]), reason, b"x")


@pytest.mark.parametrize("status", ["400 Bad", "401 No", "404 Not Found", "500 Oops", "503 Busy"])
def test_error_pages_of_the_application_are_its_own(site: Httpd, status: str) -> None:
    assert get(site, told(status, [("X-Own", "1")], "own page")).body == b"own page"


@pytest.mark.parametrize(
    ("method", "status"),
    [
        ("HEAD", "200 OK"),
        ("GET", "204 No Content"),
        ("GET", "304 Not Modified"),
        ("HEAD", "404 Not Found"),
    ],
)
def test_no_body_where_http_allows_none(site: Httpd, method: str, status: str) -> None:
    """The next response on the connection is whole."""
    with connected(site.address) as connection:
        connection.send(request(method, told(status, [], "must not be seen")))
        first = connection.read_response(method)
        connection.send(request("GET", told("200 OK", [], "next")))
        assert (first.status, connection.read_response().body) == (int(status[:3]), b"next")


def test_head_has_the_length_of_get(site: Httpd) -> None:
    assert (
        get(site, told("200 OK", [("Content-Length", "5")], "12345"), "HEAD").header(
            "Content-Length"
        )
        == "5"
    )


def test_body_longer_than_content_length_is_cut(site: Httpd) -> None:
    site.log.expect("returned more than its Content-Length of 5 bytes")
    with connected(site.address) as connection:
        connection.send(request("GET", told("200 OK", [("Content-Length", "5")], "123", "456789")))
        assert connection.read_response().body == b"12345"
        connection.send(request("GET", told("200 OK", [], "next")))
        assert connection.read_response().body == b"next"


def test_body_shorter_than_content_length_is_seen_as_cut(site: Httpd) -> None:
    site.log.expect("Content-Length of 9 and returned 5 bytes")
    with pytest.raises(CutError) as cut:
        get(site, told("200 OK", [("Content-Length", "9")], "12345"))
    assert cut.value.response.body == b"12345"


def test_length_of_a_list_with_one_block_is_known(site: Httpd) -> None:
    response = get(site, told("200 OK", [], "12345"))
    assert response.header("Content-Length") in ("5", None)
    assert response.body == b"12345"


@pytest.mark.parametrize("length", [True, False], ids=["with a length", "without"])
@pytest.mark.parametrize(("size", "is_known"), [(16384, True), (16385, False), (100_000, False)])
def test_small_body_is_known_whole_and_served_in_ranges(
    site: Httpd, size: int, is_known: bool, length: bool
) -> None:
    """By httpd's own filters, where a whole response is at hand: up to one size in both modes."""
    target = f"/zeros?{size}&length" if length else f"/zeros?{size}"
    whole = get(site, target)
    assert whole.body == bytes(size)
    assert whole.header("Content-Length") == (str(size) if is_known or length else None)
    part = get(site, target, Range="bytes=5-14")
    assert (part.status, len(part.body)) == ((206, 10) if is_known else (200, size))


def test_empty_blocks_are_left_out(site: Httpd) -> None:
    assert get(site, told("200 OK", [], "", "a", "", "b", "")).body == b"ab"


@pytest.mark.parametrize("name", ["waits_between_blocks", "writes"])
def test_each_block_is_seen_before_the_application_goes_on(site: Httpd, name: str) -> None:
    seen = site.root / "files" / name
    with connected(site.address) as connection:
        connection.send(request("GET", f"/{name}?{name}"))
        connection.read_head()
        first = connection.read_chunk()
        seen.write_text("seen")
        second = connection.read_chunk()
    assert (first, second) in [(b"first", b"second"), (b"written ", b"returned")]
    seen.unlink()


@pytest.mark.parametrize("where", ["before", "after_start_response", "in_first_block"])
@pytest.mark.parametrize("kind", ["error", "exit", "interrupt"])
def test_exception_before_the_head_is_a_500(site: Httpd, where: str, kind: str) -> None:
    site.log.expect_traceback(f"raised {where}")
    response = get(site, f"/raises?{where}&{kind}")
    assert response.status == 500
    assert response.header("X-Lost") is None
    assert b"raised" not in response.body
    assert get(site, told("200 OK", [], "alive")).body == b"alive"


@pytest.mark.parametrize("where", ["after_block", "after_with_length"])
@pytest.mark.parametrize("kind", ["error", "exit"])
def test_exception_after_the_head_is_seen_as_cut(site: Httpd, where: str, kind: str) -> None:
    """RELIABILITY A3: a response cut short never looks complete."""
    site.log.expect_traceback(f"raised {where}")
    with pytest.raises(CutError) as cut:
        get(site, f"/raises?{where}&{kind}")
    assert cut.value.response.body == b"first"


def test_exception_in_close_leaves_the_response_whole(site: Httpd) -> None:
    site.log.expect_traceback("raised in close")
    assert get(site, "/raises?in_close").body == b"whole"


def test_start_response_with_exc_info_replaces_the_head(site: Httpd) -> None:
    response = get(site, "/raises?with_exc_info")
    assert (response.status, response.body) == (503, b"sorry")
    assert response.header("X-Lost") is None


def test_close_runs_once(site: Httpd) -> None:
    note = site.root / "files" / "short"
    get(site, "/counts_close?short")
    wait_until(lambda: note.exists() and note.read_text(), "close() ran")
    assert note.read_text() == "closed\n"
    note.unlink()


def test_close_runs_once_when_the_client_leaves(site: Httpd) -> None:
    note = site.root / "files" / "endless"
    site.log.allow("script|OSError|Traceback|  File|    ")
    connection = Connection(site.address)
    connection.send(request("GET", "/counts_close?endless&endless"))
    connection.read_head()
    linger = struct.pack("ii", 1, 0)
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    connection.close()
    wait_until(lambda: note.exists() and note.read_text(), "close() ran")
    assert note.read_text() == "closed\n"
    note.unlink()


@pytest.mark.parametrize(
    "name",
    [
        "Connection",
        "Keep-Alive",
        "Transfer-Encoding",
        "Upgrade",
        "TE",
        "Trailer",
        "Proxy-Authenticate",
        "Proxy-Connection",
    ],
)
def test_hop_by_hop_header_is_dropped_with_a_warning(site: Httpd, name: str) -> None:
    """RELIABILITY A5, CVE-2024-24795: framing is httpd's alone."""
    site.log.expect(f"wsgi:warn.*{name}")
    with connected(site.address) as connection:
        target = told("200 OK", [(name, "chunked"), ("X-Kept", "1")], "5\r\nabc")
        connection.send(request("GET", target) + request("GET", told("200 OK", [], "next")))
        response = connection.read_response()
        assert "chunked" not in response.all(name) or name == "Transfer-Encoding"
        assert (response.body, response.header("X-Kept")) == (b"5\r\nabc", "1")
        assert connection.read_response().body == b"next"


def test_two_lengths_that_differ_are_refused(site: Httpd) -> None:
    site.log.expect_traceback("ValueError")
    headers = [("Content-Length", "5"), ("Content-Length", "6")]
    assert get(site, told("200 OK", headers, "12345")).status == 500


def test_http_1_0_client_gets_a_body_that_ends_with_the_connection(site: Httpd) -> None:
    with connected(site.address) as connection:
        connection.send(f"GET {told('200 OK', [], 'a', 'b')} HTTP/1.0\r\n\r\n".encode())
        response = connection.read_response()
    assert response.header("Transfer-Encoding") is None
    assert response.body == b"ab"


def test_what_is_printed_goes_to_the_error_log(site: Httpd) -> None:
    for stream in ("wsgi.errors", "sys.stderr", "sys.stdout"):
        site.log.expect(f"by {stream}")
    assert get(site, "/logs").body == b"logged"
