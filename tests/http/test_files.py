# SPDX-License-Identifier: Apache-2.0
"""wsgi.file_wrapper: whole files, parts, ranges by httpd's own filter, in both modes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.client import CutError, Response, connected, request
from harness.httpd import Httpd

SIZE = 300_000
CONTENT = os.urandom(SIZE)


@pytest.fixture(autouse=True)
def data(site: Httpd) -> Iterator[Path]:
    path = site.root / "files" / "data"
    path.write_bytes(CONTENT)
    yield path
    path.unlink()


def get(site: Httpd, query: str, method: str = "GET", **headers: str) -> Response:
    with connected(site.address) as connection:
        connection.send(request(method, f"/sends_a_file?{query}", headers))
        return connection.read_response(method)


def test_file_comes_whole_with_its_length(site: Httpd) -> None:
    response = get(site, "data")
    assert response.header("Content-Length") == str(SIZE)
    assert response.body == CONTENT


def test_file_is_sent_from_its_position(site: Httpd) -> None:
    assert get(site, "data&1000").body == CONTENT[1000:]


def test_file_is_limited_by_content_length(site: Httpd) -> None:
    assert get(site, "data&1000&500").body == CONTENT[1000:1500]


@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=0-9"}], ids=["whole", "range"])
def test_file_shorter_than_content_length_is_seen_as_cut(
    site: Httpd, headers: dict[str, str]
) -> None:
    """RELIABILITY A3: httpd would put the file's own length into the head, and all looked well."""
    site.log.expect(f"announced a Content-Length of {SIZE + 1} and returned {SIZE} bytes")
    with pytest.raises(CutError) as cut:
        get(site, f"data&0&{SIZE + 1}", **headers)
    assert cut.value.response.header("Content-Length") == str(SIZE + 1)
    assert cut.value.response.body == CONTENT


def test_head_of_a_file_has_its_length(site: Httpd) -> None:
    response = get(site, "data", "HEAD")
    assert (response.header("Content-Length"), response.body) == (str(SIZE), b"")


@pytest.mark.parametrize(
    ("value", "first", "end"),
    [
        ("0-0", 0, 1),
        ("1000-199999", 1000, 200_000),
        ("299999-", 299_999, SIZE),
        ("-70000", SIZE - 70_000, SIZE),
        ("250000-900000", 250_000, SIZE),
    ],
)
def test_range_is_served(site: Httpd, value: str, first: int, end: int) -> None:
    response = get(site, "data", Range=f"bytes={value}")
    assert response.status == 206
    assert response.header("Content-Range") == f"bytes {first}-{end - 1}/{SIZE}"
    assert response.body == CONTENT[first:end]


def test_several_ranges_come_as_parts(site: Httpd) -> None:
    response = get(site, "data", Range="bytes=10-19,200000-200009,-5")
    assert response.status == 206
    assert (response.header("Content-Type") or "").startswith("multipart/byteranges")
    for part in (CONTENT[10:20], CONTENT[200_000:200_010], CONTENT[-5:]):
        assert b"\r\n\r\n" + part + b"\r\n" in response.body


def test_range_beyond_the_end_is_416(site: Httpd) -> None:
    assert get(site, "data", Range=f"bytes={SIZE}-").status == 416


def test_empty_file_is_an_empty_body(site: Httpd, data: Path) -> None:
    data.write_bytes(b"")
    response = get(site, "data")
    assert (response.header("Content-Length"), response.body) == ("0", b"")


def test_object_without_descriptor_is_sent_in_blocks(site: Httpd) -> None:
    with connected(site.address) as connection:
        connection.send(request("GET", "/sends_a_file_like_object"))
        assert connection.read_response().body == b"0123456789" * 1000


def test_file_of_100_mib_comes_whole(site: Httpd, data: Path) -> None:
    block = os.urandom(1 << 20)
    with data.open("wb") as out:
        for _ in range(100):
            out.write(block)
    expected = hashlib.sha256(block * 100).hexdigest()
    assert hashlib.sha256(get(site, "data").body).hexdigest() == expected


def test_next_response_follows_a_file(site: Httpd) -> None:
    with connected(site.address) as connection:
        connection.send(request("GET", "/sends_a_file?data") * 2 + request("GET", "/environ"))
        assert [len(connection.read_response().body) for _ in range(2)] == [SIZE, SIZE]
        assert connection.read_response().status == 200
