"""wsgi.input: what is read, how much is asked of the server, and how a bad end is told."""

from collections.abc import Callable

import pytest

from .memhost.machine import Answer

Run = Callable[..., Answer]


def app(expression: str) -> str:
    return f"""
def application(environ, start_response):
    f = environ['wsgi.input']
    start_response('200 OK', [])
    return [repr({expression}).encode()]
"""


BODY = b"one\ntwo\n\nlast"


@pytest.mark.parametrize("length", [None, -1])
@pytest.mark.parametrize("piece", [1, 3, 1 << 20])
@pytest.mark.parametrize(
    "expression,expected",
    [
        ("f.read()", BODY),
        ("f.read(-1)", BODY),
        ("f.read(None)", BODY),
        ("[f.read(5), f.read(0), f.read(100), f.read(), f.read(1)]",
         [BODY[:5], b"", BODY[5:], b"", b""]),
        ("[f.readline(), f.readline(2), f.read()]", [b"one\n", b"tw", b"o\n\nlast"]),
        ("[f.readline(0), f.readline(-1), f.readline(None)]", [b"", b"one\n", b"two\n"]),
        ("f.readlines()", [b"one\n", b"two\n", b"\n", b"last"]),
        ("[f.readlines(5), f.readlines()]", [[b"one\n", b"two\n"], [b"\n", b"last"]]),
        ("list(f)", [b"one\n", b"two\n", b"\n", b"last"]),
        ("[next(f), f.read(1), f.readline(), list(f)]",
         [b"one\n", b"t", b"wo\n", [b"\n", b"last"]]),
    ],
)  # fmt: skip
def test_reading_gives_the_body(
    run: Run, expression: str, expected: object, piece: int, length: int | None
) -> None:
    answer = run(app(expression), body=BODY, piece=piece, length=length)
    assert answer.body.decode() == repr(expected)
    assert not answer.held_gil


def test_server_is_not_asked_when_nothing_is_left(run: Run) -> None:
    answer = run(app("[f.read(4), f.read(), f.readline()]"), body=b"abcd")
    assert [read[1] for read in answer.of("read")] == [4]
    assert "read" not in run(app("f.read()")).order


def test_body_is_not_read_when_the_app_does_not_ask(run: Run) -> None:
    assert "read" not in run(app("1"), body=b"abcd").order


def test_announced_length_takes_no_memory_before_it_comes(run: Run) -> None:
    expression = "__import__('resource').getrusage(0).ru_maxrss * 1024 < 4 << 30 or f.read()"
    answer = run(app(f"[{expression}, f.read(1 << 60)]"), length=1 << 40, body=b"abc")
    assert (answer.kind, answer.status) == ("failed", 500) and "request data read" in answer.log


@pytest.mark.parametrize("length", [10, -1])
@pytest.mark.parametrize("use", ["f.read()", "f.read(100)", "f.readlines()", "list(f)"])
def test_body_cut_short_is_an_oserror_and_stays_one(run: Run, use: str, length: int) -> None:
    source = f"""
def application(environ, start_response):
    f = environ['wsgi.input']
    start_response('200 OK', [])
    told = []
    for _ in range(2):
        try:
            {use}
        except OSError as error:
            told.append(str(error))
    return ['; '.join(told).encode()]
"""
    answer = run(source, body=b"abc", length=length, body_error="body")
    assert answer.body.count(b"request data read error") == 2


def test_end_before_the_announced_length_is_an_oserror(run: Run) -> None:
    assert "OSError" in run(app("f.read()"), body=b"abc", length=10).log


def test_large_body_comes_whole(run: Run) -> None:
    expression = "(lambda d: (len(d), __import__('hashlib').md5(d).hexdigest()))(f.read())"
    import hashlib

    body = bytes(range(256)) * 20000
    for length in (None, -1):
        answer = run(app(expression), body=body, length=length, piece=8000)
        assert answer.body.decode() == repr((len(body), hashlib.md5(body).hexdigest()))


def test_wrong_sizes_raise(run: Run) -> None:
    for use in ("f.read('x')", "f.read(1, 2)", "f.readline(1.5)", "f.read(1 << 100)"):
        assert run(app(use), body=b"x").kind == "failed"
