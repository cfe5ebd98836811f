# SPDX-License-Identifier: Apache-2.0
"""wsgi.input over a real connection: framing, pulling, errors, what is left unread."""

from __future__ import annotations

import gzip
import os
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from harness import conf
from harness.client import Connection, ask, chunked, connected, request, wait_until
from harness.httpd import Httpd
from harness.site import MODE_LINES

BODY = b"one\ntwo\n\nlast without end"


@pytest.mark.parametrize("size", [0, 1, 8191, 8192, 65535, 65536, 65537, 1 << 20, 5 << 20])
def test_body_with_a_length_is_read_whole(site: Httpd, size: int) -> None:
    body = os.urandom(size)
    with connected(site.address) as connection:
        threading.Thread(target=connection.send, args=[request("POST", "/echo", body=body)]).start()
        assert connection.read_response().body == body


@pytest.mark.parametrize("sizes", [(1,), (5, 6), (65536, 1, 65536), (1000,) * 300])
def test_chunked_body_is_read_whole(site: Httpd, sizes: tuple[int, ...]) -> None:
    blocks = [os.urandom(size) for size in sizes]
    with connected(site.address) as connection:
        head = request("POST", "/echo", {"Transfer-Encoding": "chunked"})
        connection.send(head + chunked(*blocks))
        assert connection.read_response().body == b"".join(blocks)


@pytest.mark.parametrize(
    ("expression", "answer"),
    [
        ("input.read()", BODY),
        ("input.read(-1)", BODY),
        ("input.read(None)", BODY),
        ("input.read(0)", b""),
        ("input.read(5)", BODY[:5]),
        ("input.read(1000)", BODY),
        ("[input.read(), input.read(), input.read(1)]", [BODY, b"", b""]),
        ("input.readline()", b"one\n"),
        ("input.readline(2)", b"on"),
        ("input.readline(-1)", b"one\n"),
        (
            "[input.readline() for _ in range(5)]",
            [b"one\n", b"two\n", b"\n", b"last without end", b""],
        ),
        ("input.readlines()", BODY.splitlines(keepends=True)),
        ("list(input)", BODY.splitlines(keepends=True)),
        ("[input.readline(), input.read()]", [b"one\n", BODY[4:]]),
        ("[hasattr(input, name) for name in ('seek', 'tell', 'fileno')]", [False] * 3),
    ],
)
@pytest.mark.parametrize("coding", ["length", "chunked"])
def test_input_reads_as_files_do(site: Httpd, coding: str, expression: str, answer: object) -> None:
    headers = {"Transfer-Encoding": "chunked"} if coding == "chunked" else {}
    body = chunked(BODY[:6], BODY[6:]) if coding == "chunked" else BODY
    with connected(site.address) as connection:
        connection.send(request("POST", "/reads_by?" + quote(expression), headers, body))
        assert eval(connection.read_response().body) == answer


def test_continue_is_sent_when_the_application_reads(site: Httpd) -> None:
    with connected(site.address) as connection:
        connection.send(request("POST", "/echo", {"Expect": "100-continue", "Content-Length": "4"}))
        assert b" 100 " in connection.socket.recv(1000)
        connection.send(b"data")
        assert connection.read_response().body == b"data"


@pytest.mark.parametrize("name", ["answers_empty_unread", "ignores_the_body"])
def test_continue_is_not_sent_when_the_application_does_not_read(site: Httpd, name: str) -> None:
    """Beyond request-buffering the body is the application's choice; the answer comes at once."""
    with connected(site.address) as connection:
        headers = {"Expect": "100-continue", "Content-Length": str(1 << 20)}
        connection.send(request("POST", f"/{name}", headers))
        response = connection.read_response()
        assert response.interim == []
        assert response.status in (200, 401)
        assert connection.is_closed()


@pytest.mark.parametrize("size", [10, 65536, 300_000])
def test_request_after_an_unread_body_is_the_real_next_one(site: Httpd, size: int) -> None:
    smuggled = request("GET", "/as_told?" + quote('{"blocks": ["smuggled"]}'))
    body = smuggled * (size // len(smuggled) + 1)
    with connected(site.address) as connection:
        connection.send(
            request("POST", "/ignores_the_body", body=body) + request("GET", "/environ")
        )
        assert connection.read_response().body == b"ignored"
        rest = connection.read_head() if size <= 65536 else None
        assert rest is None or rest.header("Content-Type") == "application/json"


@pytest.mark.parametrize("coding", ["length", "chunked", "malformed chunk"])
def test_body_cut_short_is_an_error_each_time(site: Httpd, coding: str) -> None:
    head = {
        "length": request("POST", f"/notes_body_errors?{coding[:3]}", {"Content-Length": "100000"}),
        "chunked": request(
            "POST", f"/notes_body_errors?{coding[:3]}", {"Transfer-Encoding": "chunked"}
        ),
        "malformed chunk": request(
            "POST", "/notes_body_errors?mal", {"Transfer-Encoding": "chunked"}
        ),
    }[coding]
    part = {
        "length": b"half",
        "chunked": b"4\r\nhalf\r\n",
        "malformed chunk": b"4\r\nhalf\r\n+5\r\n",
    }
    note = site.root / "files" / coding[:3]
    site.log.allow(r"AH0\d+|GL\d+|OSError|request data read error|Traceback|  File|    ")
    with connected(site.address) as connection:
        connection.send(head + part[coding])
    wait_until(note.exists, "the application saw the end")
    assert note.read_text() == "OSError,OSError"
    note.unlink()


def test_upload_and_download_may_overlap(site: Httpd) -> None:
    """RELIABILITY A4: neither side waits for the other to be done."""
    body = os.urandom(4 << 20)
    with connected(site.address) as connection:
        sender = threading.Thread(
            target=connection.send, args=[request("POST", "/echo_streaming", body=body)]
        )
        sender.start()
        assert connection.read_response().body == body
        sender.join()


def test_application_may_send_much_before_it_reads_much(site: Httpd) -> None:
    size = 4 << 20
    with connected(site.address) as connection:
        data = request("POST", "/sends_before_it_reads", body=b"y" * size)
        threading.Thread(target=connection.send, args=[data]).start()
        body = connection.read_response().body
    assert body[64 * 65536 :] == b"%d" % size


def test_input_and_write_of_an_earlier_request_raise(site: Httpd) -> None:
    """RELIABILITY C6: an exception, never a crash and never another request's data."""
    for _ in range(2):
        with connected(site.address) as connection:
            connection.send(request("POST", "/keeps_the_input", body=b"body"))
            answer = connection.read_response().text
    late = answer.split()
    assert len(late) == 2
    assert set(late) <= {"RuntimeError", "ValueError", "OSError"}


def test_trailers_never_reach_environ(site: Httpd) -> None:
    with connected(site.address) as connection:
        head = request("POST", "/environ", {"Transfer-Encoding": "chunked", "Trailer": "X-Late"})
        connection.send(head + b"1\r\na\r\n0\r\nX-Late: forged\r\n\r\n")
        assert b"forged" not in connection.read_response().body


@pytest.mark.parametrize(
    "body", [BODY * 1000, b"x", os.urandom(300_000)], ids=["longer", "shorter", "in many reads"]
)
def test_body_is_as_long_as_httpds_filters_make_it(
    mode: str, start_httpd: Callable[..., Httpd], folder: Path, body: bytes
) -> None:
    """The Content-Length is that of the bytes before mod_deflate has inflated them, which removes
    it when it begins."""
    (folder / "app.py").write_text((Path(__file__).parents[1] / "apps/echo/wsgi.py").read_text())
    lines = [*MODE_LINES[mode], f'WSGIScriptAlias / "{folder}/app.py"', "SetInputFilter DEFLATE"]
    server = start_httpd([*lines, *conf.granted(folder)], modules=("filter", "deflate"))
    coding = {"Content-Encoding": "gzip"}
    assert ask(server.address, "/", "POST", coding, gzip.compress(body)).body == body


def test_length_beyond_limit_request_body_is_refused(
    mode: str, start_httpd: Callable[..., Httpd], folder: Path
) -> None:
    (folder / "app.py").write_text((Path(__file__).parents[1] / "apps/echo/wsgi.py").read_text())
    lines = [*MODE_LINES[mode], f'WSGIScriptAlias / "{folder}/app.py"', "LimitRequestBody 1000"]
    server = start_httpd([*lines, *conf.granted(folder)])
    server.log.expect("GL0211")
    connection = Connection(server.address)
    connection.send(request("POST", "/", {"Content-Length": "1001"}))
    assert connection.read_head().status == 413
    connection.close()
