"""wsgi.file_wrapper: what leaves as a file, what in blocks."""

from collections.abc import Callable

import pytest

from .memhost.machine import Answer

Run = Callable[..., Answer]


def app(make: str, headers: str = "[]", result: str = "wrap(f)") -> str:
    return f"""
import io, os, sys, tempfile
def regular(data=b'0123456789', at=0):
    f = tempfile.TemporaryFile()
    f.write(data)
    f.flush()
    f.seek(at)
    return f
def application(environ, start_response):
    wrap = environ['wsgi.file_wrapper']
    f = {make}
    start_response('200 OK', {headers})
    return {result}
"""


@pytest.mark.parametrize("at,body", [(0, b"0123456789"), (4, b"456789")])
def test_regular_file_leaves_as_a_file_from_its_position(run: Run, at: int, body: bytes) -> None:
    answer = run(app(f"regular(at={at})"))
    assert (answer.order, answer.body, answer.kind) == ("start file", body, "complete")
    assert answer.headers == [f"Content-Length: {len(body)}"]
    assert not answer.held_gil


def test_given_length_limits_the_file(run: Run) -> None:
    answer = run(app("regular()", "[('Content-Length', '3'), ('A', 'b')]"))
    assert (answer.body, answer.headers) == (b"012", ["Content-Length: 3", "A: b"])


def test_file_shorter_than_the_given_length_is_cut(run: Run) -> None:
    answer = run(app("regular()", "[('Content-Length', '30')]"))
    assert (answer.kind, answer.body) == ("cut", b"0123456789")
    assert "file" not in answer.order


def test_position_at_or_behind_the_end_is_an_empty_body(run: Run) -> None:
    answer = run(app("regular(at=20)"))
    assert (answer.order, answer.kind) == ("start", "complete")


def test_head_request_tells_the_length_of_the_file(run: Run) -> None:
    answer = run(app("regular()"), flags="head")
    assert (answer.order, answer.headers) == ("start", ["Content-Length: 10"])


@pytest.mark.parametrize(
    "make,result",
    [
        ("io.BytesIO(b'0123456789')", "wrap(f, 4)"),
        ("regular()", "(block for block in wrap(f, 4))"),
        ("type('Only', (), {'read': regular().read})()", "wrap(f)"),
        ("regular()", "type('Sub', (wrap,), {'__next__': lambda s: wrap.__next__(s)})(f, 4)"),
    ],
)
def test_anything_else_is_read_in_blocks(run: Run, make: str, result: str) -> None:
    answer = run(app(make, result=result))
    assert answer.body == b"0123456789" and "file" not in answer.order


def test_after_write_a_file_is_read_in_blocks(run: Run) -> None:
    source = app("regular()").replace("start_response(", "write = start_response(")
    answer = run(source.replace("return wrap", "write(b'>'); return wrap"))
    assert (answer.body, answer.order.count("file")) == (b">0123456789", 0)


def test_pipe_and_directory_are_not_sent_as_files(run: Run) -> None:
    pipe = "(lambda p: (os.write(p[1], b'ab'), os.close(p[1]), open(p[0], 'rb'))[2])(os.pipe())"
    answer = run(app(pipe))
    assert (answer.body, answer.order.count("file")) == (b"ab", 0)


@pytest.mark.parametrize("module", ["gzip", "bz2", "lzma"])
@pytest.mark.parametrize("buffer", ["", "io.BufferedReader"])
def test_compressed_file_is_sent_as_it_is_read(run: Run, module: str, buffer: str) -> None:
    """Its fileno() is that of the compressed one, its tell() is not."""
    make = f"(lambda m: {buffer}(m.open(regular(m.compress(b'0123456789')))))"
    answer = run(app(f"{make}(__import__({module!r}))"))
    assert answer.body == b"0123456789" and "file" not in answer.order


@pytest.mark.parametrize("mode", ["rb", "r+b"])
@pytest.mark.parametrize("buffering", [-1, 0])
def test_every_way_to_open_a_file_leaves_as_a_file(run: Run, mode: str, buffering: int) -> None:
    assert "file" in run(app(f"open(__file__, {mode!r}, {buffering})")).order


def test_file_whose_size_says_nothing_is_read(run: Run) -> None:
    """Those of /proc are of 0 bytes to fstat."""
    answer = run(app("open('/proc/version', 'rb')"))
    assert answer.body.startswith(b"Linux version") and "file" not in answer.order


def test_file_that_cannot_be_read_is_an_error(run: Run) -> None:
    """Not one of the host, which would find out from the descriptor."""
    again = "os.open('/proc/self/fd/%d' % f.fileno(), os.O_WRONLY)"
    answer = run(app(f"(lambda f: open({again}, 'wb'))(regular())"))
    assert (answer.kind, answer.status) == ("failed", 500) and "UnsupportedOperation" in answer.log


def test_close_of_the_file_is_called_once(run: Run) -> None:
    close = "'close': lambda s: print('closed', file=sys.stderr)"
    for read in ("io.BytesIO(b'x').read", "lambda *a: 1 / 0"):
        make = f"type('F', (), {{'read': staticmethod({read}), {close}}})()"
        assert run(app(make)).log.splitlines().count("closed") == 1


def test_client_that_leaves_during_a_file_ends_quietly(run: Run) -> None:
    answer = run(app("regular()"), fail=("file", 0, "gone"))
    assert (answer.result, answer.kind, answer.log) == (-3, "cut", "")


def test_wrapper_shows_its_file(run: Run) -> None:
    answer = run(app("io.BytesIO(b'x')", result="[b'%d' % wrap(f, blksize=7).blksize]"))
    assert answer.body == b"7"
