# SPDX-License-Identifier: Apache-2.0
"""Requests that attack, RELIABILITY B3: the application sees one request, as httpd framed it.

Each connection ends with a well-formed request of our own, so that what was made of the bytes
before it is seen as a list of statuses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from harness import census, conf
from harness.client import ask, chunked, connected, facts, request
from harness.httpd import Httpd
from harness.site import MODE_LINES

APPS = Path(__file__).parents[1] / "apps"
Start = Callable[..., Httpd]
HOST = b"Host: tests.invalid\r\n"
LAST = b"GET /environ HTTP/1.1\r\nHost: tests.invalid\r\nConnection: close\r\n\r\n"
SMUGGLED = request(
    "GET", "/as_told?" + quote('{"headers": [["X-Smuggled", "1"]], "blocks": ["smuggled"]}')
)
POST = b"POST /echo HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
BODY_ERRORS = r"AH0\d+|AH1\d+|GL0301|GL0208|OSError|Traceback|  File|    |] script"
REFUSED, UNKNOWN = [400], [501]


def talk(address: tuple[str, int], data: bytes) -> bytes:
    """All that the server says to these bytes and our own last request, until it closes."""
    with connected(address) as connection:
        try:
            connection.send(data + LAST)
            return connection.read_all()
        except (BrokenPipeError, ConnectionResetError):
            return b""


def statuses(answer: bytes) -> list[int]:
    return [int(number) for number in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        # Read as chunked, answered, closed: RFC 9112 section 6.3.
        (b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n", [200]),
        (b"Transfer-Encoding: chunked\r\nContent-Length: %d\r\n", [200]),
        (b"Content-Length: %d\r\nContent-Length: 5\r\n", REFUSED),
        (b"Content-Length: 5\r\nContent-Length: %d\r\n", REFUSED),
        (b"Content-Length: +%d\r\n", REFUSED),
        (b"Content-Length: -%d\r\n", REFUSED),
        (b"Content-Length: 0x%x\r\n", REFUSED),
        (b"Content-Length: %d, 5\r\n", REFUSED),
        (b"Content-Length: 99999999999999999999%d\r\n", REFUSED),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\nX: %d\r\n", REFUSED),
        (b"Transfer-Encoding: chunked, identity\r\nX: %d\r\n", REFUSED),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\nX: %d\r\n", UNKNOWN),
        (b"Transfer-Encoding: identity, chunked\r\nX: %d\r\n", UNKNOWN),
        (b"Transfer-Encoding: chunked\x0b\r\nX: %d\r\n", REFUSED),
        (b"Transfer-Encoding: \x0bchunked\r\nX: %d\r\n", REFUSED),
        (b"Transfer-Encoding: xchunked\r\nX: %d\r\n", REFUSED),
        (b"Transfer-Encoding : chunked\r\nX: %d\r\n", REFUSED),
        (b"Transfer-Encoding:\r\nContent-Length: %d\r\n", REFUSED),
        (b"X: %d\nTransfer-Encoding: chunked\n", REFUSED),
        # A header of another name: the length counts, and the next request is our own.
        (b"Transfer_Encoding: chunked\r\nContent-Length: %d\r\n", [200, 200]),
    ],
)
def test_ambiguous_framing_smuggles_nothing(site: Httpd, head: bytes, expected: list[int]) -> None:
    site.log.allow(BODY_ERRORS)
    body = b"0\r\n\r\n" + SMUGGLED
    answer = talk(site.address, POST + head % len(body) + b"\r\n" + body)
    assert statuses(answer) == expected
    assert b"\r\nX-Smuggled:" not in answer


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        *((size, [400]) for size in (b"+5", b"0x5", b"5_0", b"-5", b" 5", b"5 5", b"", b"g")),
        *((size, [400]) for size in (b"5;\x00", b"5\n", b"5\r", b"5,5")),
        (b"fffffffffffffffff", [413]),
        (b"ffffffffffffffff", [413]),
    ],
)
def test_malformed_chunk_size_is_an_error_and_closes(
    site: Httpd, size: bytes, expected: list[int]
) -> None:
    site.log.allow(BODY_ERRORS)
    answer = talk(site.address, CHUNKED + size + b"\r\nhello\r\n0\r\n\r\n" + SMUGGLED)
    assert statuses(answer) == expected


@pytest.mark.parametrize("size", [b"5", b"05", b"0000005", b"5;x=y", b"5 ;x", b"5\t"])
def test_chunk_size_in_another_wording_is_the_same_size(site: Httpd, size: bytes) -> None:
    answer = talk(site.address, CHUNKED + size + b"\r\nhello\r\n0\r\n\r\n")
    assert statuses(answer) == [200, 200]
    assert b"\r\n\r\nhello" in answer


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"5\r\nhello0\r\n\r\n", [400]),
        (b"5\r\nhelloX\r\n0\r\n\r\n", [400]),
        (b"5\r\nhello\n0\r\n\r\n", [400]),
        (b"5\nhello\n0\n\n", [400]),
        (b"5\r\nhello\r\n0\r\nNo colon\r\n\r\n", [500]),
        (b"5\r\nhello\r\n0\r\nContent-Length: 5\r\nHost: other\r\n\r\n", [200, 200]),
    ],
)
def test_malformed_end_of_a_chunk_is_an_error_and_closes(
    site: Httpd, body: bytes, expected: list[int]
) -> None:
    """The last row's fields are trailers: they count for nothing."""
    site.log.allow(BODY_ERRORS)
    assert statuses(talk(site.address, CHUNKED + body)) == expected


@pytest.mark.parametrize("size", [10, 8000, 65536, 70_000, 300_000, 3 << 20])
@pytest.mark.parametrize("coding", ["length", "chunked"])
def test_unread_body_is_never_the_next_request(site: Httpd, size: int, coding: str) -> None:
    """Row 30. The body is a row of requests; the one after it is ours."""
    body = (SMUGGLED * (size // len(SMUGGLED) + 1))[:size]
    headers = {"Transfer-Encoding": "chunked"} if coding == "chunked" else {}
    sent = chunked(body) if coding == "chunked" else body
    answer = talk(site.address, request("POST", "/ignores_the_body", headers, sent))
    assert statuses(answer) == [200, 200]
    assert b"X-Smuggled" not in answer


# Paths: what access control saw is what the application gets.


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/environ/%00", 404),
        ("/%00environ", 404),
        ("/environ%00.txt", 404),
        ("/environ/a%2Fb", 404),
        ("/environ/../../etc/passwd", 400),
        ("/environ/%2e%2e/%2e%2e/%2e%2e/etc/passwd", 400),
        ("/environ/%2e%2e/x", 403),
        ("/environ\\..\\x", 403),
        ("/environ;x/y", 403),
        ("/environ%20/x", 403),
        ("/Environ/x", 403),
        ("/environ/%ZZ", 400),
        ("/environ/%", 400),
        ("/environ/a b", 400),
        ("/environ/%c0%ae%c0%ae/", "/\u00c0\u00ae\u00c0\u00ae/"),
        ("/environ/%252e%252e/", "/%2e%2e/"),
        ("/environ/%5c..%5c", "/\\..\\"),
        ("/environ/a/./b", "/a/b"),
        ("/environ/.%2e/environ/x", "/x"),
        ("//environ//x", "/x"),
        ("/environ?%00", ""),
    ],
)
def test_path_is_refused_or_read_as_httpd_reads_it(
    site: Httpd, path: str, expected: int | str
) -> None:
    """Row 27. A number: the status of httpd's refusal; a text: PATH_INFO."""
    site.log.allow(r"AH0\d+|AH1\d+")
    response = ask(site.address, path)
    if isinstance(expected, int):
        assert response.status == expected
        assert b"root:" not in response.body
        return
    environ = json.loads(response.body)
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/environ", expected)


def test_no_spelling_of_a_path_passes_access_control(
    mode: str, start_httpd: Start, folder: Path
) -> None:
    lines = [*MODE_LINES[mode], "AllowEncodedSlashes On", *conf.granted(folder)]
    lines += [f'WSGIScriptAlias /app "{folder}/app.py"', "MergeSlashes On"]
    lines += ["<Location /app/secret>", "Require all denied", "</Location>"]
    (folder / "app.py").write_text((APPS / "environ/wsgi.py").read_text())
    server = start_httpd(lines)
    server.log.expect("AH01630")
    server.log.allow(r"AH0\d+|AH1\d+")
    spellings = ["/app/secret", "//app/secret", "/app//secret/x", "/app/./secret", "/app%2Fsecret"]
    spellings += ["/app/x/../secret", "/app/%73ecret", "/app/secret%2Fx", "/app/%2e/secret"]
    for path in spellings:
        assert ask(server.address, path).status == 403, path
    for path in ("/app/secretly", "/app/Secret", "/app/x/secret", "/app/secret;x"):
        assert not facts(server.address, path)["PATH_INFO"].startswith("/secret/"), path


def test_path_of_any_bytes_is_latin1(site: Httpd) -> None:
    every = [number for number in range(1, 256) if number != 0x2F]
    environ = facts(site.address, "/environ/" + "".join(f"%{number:02x}" for number in every))
    assert environ["PATH_INFO"] == "/" + "".join(map(chr, every))


# Headers.


@pytest.mark.parametrize(
    "name",
    [b"Authorization", b"User-Agent", b"Cookie", b"X-Any", b"Content-Type", b"Range", b"Referer"],
)
@pytest.mark.parametrize(
    "value", [b"\xff\xfe", b"Basic \xff\xff", b"\xc3\x28", b"a\tb", b"\x80" * 4000]
)
def test_bytes_above_ascii_in_a_header_are_latin1(site: Httpd, name: bytes, value: bytes) -> None:
    """Row 36."""
    answer = talk(
        site.address, b"GET /environ HTTP/1.1\r\n" + HOST + name + b": " + value + b"\r\n\r\n"
    )
    assert statuses(answer) == [200, 200]


@pytest.mark.parametrize("host", [b"\xff\xfe", b"a b", b"../../etc", b"a\tb", b"a:b"])
def test_host_that_is_none_is_refused_by_httpd(site: Httpd, host: bytes) -> None:
    site.log.allow(r"AH0\d+")
    answer = talk(site.address, b"GET /environ HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
    assert statuses(answer)[0] == 400


FIELDS = b"".join(b"X-%d: %s\r\n" % (number, b"v" * 8180) for number in range(98))


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"GET /environ HTTP/1.1\r\n" + HOST + FIELDS, [200, 200]),
        (b"GET /environ HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 100, [400]),
        (b"GET /environ HTTP/1.1\r\n" + HOST + b"X: " + b"v" * 9000 + b"\r\n", [400]),
        (b"GET /environ?" + b"q" * 8100 + b" HTTP/1.1\r\n" + HOST, [200, 200]),
        (b"GET /environ?" + b"q" * 8300 + b" HTTP/1.1\r\n" + HOST, [414]),
    ],
)
def test_httpds_limits_bound_a_request(site: Httpd, head: bytes, expected: list[int]) -> None:
    """Row 31: 98 fields of 8 KiB are within them."""
    site.log.allow(r"AH0\d+")
    assert statuses(talk(site.address, head + b"\r\n")) == expected


def test_one_header_of_one_mib_is_never_served(site: Httpd) -> None:
    """httpd may close while the client still sends: then there is no answer at all."""
    site.log.allow(r"AH0\d+")
    head = b"GET /environ HTTP/1.1\r\n" + HOST + b"X: " + b"v" * (1 << 20) + b"\r\n\r\n"
    assert statuses(talk(site.address, head)) in ([400], [])


@pytest.fixture
def generous(mode: str, start_httpd: Start, folder: Path) -> Httpd:
    """httpd's limits raised far above what 16 bits count."""
    (folder / "app.py").write_text((APPS / "environ/wsgi.py").read_text())
    limits = [
        "LimitRequestFieldSize 2097152",
        "LimitRequestFields 2000",
        "LimitRequestLine 1100000",
    ]
    alias = f'WSGIScriptAlias /environ "{folder}/app.py"'
    return start_httpd([*MODE_LINES[mode], *limits, alias, *conf.granted(folder)])


def test_request_grows_to_the_configured_limits(generous: Httpd) -> None:
    """Row 31: a length of 16 bits anywhere would cut or wrap."""
    for size in (65535, 65536, 65537, 131072, 1 << 20):
        assert len(facts(generous.address, "/environ", X="v" * size)["HTTP_X"]) == size
    many = {f"X-{number}": "v" * 800 for number in range(1500)}
    found = facts(generous.address, "/environ", **many)
    assert sum(len(value) for key, value in found.items() if key.startswith("HTTP_X_")) == 1_200_000
    assert len(facts(generous.address, "/environ?" + "q" * 1_000_000)["QUERY_STRING"]) == 1_000_000


COSTLY = {
    "header of semicolons": (65000 * ";", ""),
    "header of commas and blanks": (16000 * " , ,", ""),
    "header of quotes": (32000 * '\\"', ""),
    "header of open brackets": (65000 * "(", ""),
    "query of ampersands": ("", "?" + 65000 * "&"),
    "path of slashes": ("", 65000 * "/"),
    "path of dots": ("", "/" + 21000 * "./a"),
    "path of escapes": ("", "/" + 21000 * "%41"),
}
TICKS_OF_TEN_REQUESTS = 30  # of 10 ms; a quadratic step over 64 KiB takes hundreds


@pytest.mark.parametrize("which", COSTLY)
def test_no_input_of_64_kib_costs_more_than_linear_time(generous: Httpd, which: str) -> None:
    """Row 35. Counted is the processor time of every process of the instance, not the clock's."""
    value, target = COSTLY[which]
    generous.log.allow(r"AH0\d+|AH1\d+")
    ask(generous.address, "/environ")
    before = sum(map(census.ticks, generous.processes()))
    for _ in range(10):
        ask(generous.address, "/environ" + target, headers={"X-Costly": value, "Cookie": value})
    assert sum(map(census.ticks, generous.processes())) - before <= TICKS_OF_TEN_REQUESTS
