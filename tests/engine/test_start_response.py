"""start_response: what is refused, dropped, kept, and when the head leaves (PEP 3333)."""

from collections.abc import Callable

import pytest

from .memhost.machine import Answer

Run = Callable[..., Answer]

APP = """
def application(environ, start_response):
    start_response({status}, {headers})
    return [b"body"]
"""


def test_small_body_leaves_in_one_write_without_the_gil(run: Run) -> None:
    answer = run(APP.format(status="'200 OK'", headers="[('A', 'b'), ('A', 'c')]"))
    assert (answer.kind, answer.order, answer.body) == ("complete", "start write", b"body")
    assert answer.head == ["200 OK", "A: b", "A: c"]
    assert answer.of("write")[0][1] == 1  # LAST
    assert not answer.held_gil


@pytest.mark.parametrize(
    "status",
    ["b'200 OK'", "200", "None", "''", "'20'", "'2000 OK'", "'abc'", "'200OK'", "'099 No'",
     "'100 Continue'", "'199 x'", "'200 O\\r\\nK'", "'200 O\\0K'", "'200 \\x7f'", "'200 \\u20ac'"],
)  # fmt: skip
def test_malformed_status_is_refused_before_anything_is_sent(run: Run, status: str) -> None:
    answer = run(APP.format(status=status, headers="[]"))
    assert (answer.kind, answer.status) == ("failed", 500)
    assert "start" not in answer.order and "status" in answer.log


@pytest.mark.parametrize(
    "headers",
    ["None", "()", "{}", "[('a',)]", "[['a', 'b']]", "[('a', b'b')]", "[(b'a', 'b')]",
     "[('a', None)]", "[('a', 1)]", "[('', 'b')]", "[('a b', 'c')]", "[('a:', 'c')]",
     "[('a\\n', 'c')]", "[('a\\xe4', 'c')]", "[('a', 'b\\r\\nc: d')]", "[('a', 'b\\nc')]",
     "[('a', 'b\\0')]", "[('a', '\\x01')]", "[('a', '\\u20ac')]",
     "[('Content-Length', 'x')]", "[('Content-Length', '-1')]", "[('Content-Length', '')]",
     "[('Content-Length', '4'), ('content-length', '5')]", "[('Content-Length', '9' * 30)]"],
)  # fmt: skip
def test_malformed_headers_are_refused_before_anything_is_sent(run: Run, headers: str) -> None:
    answer = run(APP.format(status="'200 OK'", headers=headers))
    assert (answer.kind, answer.status) == ("failed", 500)
    assert "start" not in answer.order
    assert "TypeError" in answer.log or "ValueError" in answer.log


def test_latin1_and_tab_pass_in_values_and_reason(run: Run) -> None:
    answer = run(APP.format(status="'200 \\xe4'", headers="[('A', 'b\\t\\xff'), ('B', '')]"))
    assert answer.head == ["200 \xe4", "A: b\t\xff", "B: "]


def test_status_may_have_no_reason(run: Run) -> None:
    assert run(APP.format(status="'204'", headers="[]")).of("start")[0][1] == 204


@pytest.mark.parametrize(
    "name",
    [
        "Connection", "keep-alive", "Proxy-Authenticate", "proxy-authorization", "TE", "Trailer",
        "trailers", "Transfer-Encoding", "Upgrade",
    ],
)  # fmt: skip
def test_hop_by_hop_header_is_dropped_with_a_warning(run: Run, name: str) -> None:
    answer = run(APP.format(status="'200 OK'", headers=f"[('A', 'b'), ({name!r}, 'x')]"))
    assert answer.headers == ["A: b"]
    assert name in answer.log and answer.of("log")[0][1] == 4


def test_equal_lengths_are_one(run: Run) -> None:
    length = "('Content-Length', '4')"
    answer = run(APP.format(status="'200 OK'", headers=f"[{length}, {length}]"))
    assert answer.of("start")[0][2] == 4


def test_status_and_location_headers_are_only_headers(run: Run) -> None:
    headers = "[('Status', '404 x'), ('Location', '/y')]"
    answer = run(APP.format(status="'200 OK'", headers=headers))
    assert answer.head == ["200 OK", "Status: 404 x", "Location: /y"]


def test_second_call_without_exc_info_raises(run: Run) -> None:
    answer = run("""
        def application(environ, start_response):
            start_response('200 OK', [])
            try:
                start_response('201 Created', [])
            except RuntimeError:
                return [b'raised']
    """)
    assert (answer.line, answer.body) == ("200 OK", b"raised")


def test_exc_info_replaces_a_head_that_was_not_sent(run: Run) -> None:
    answer = run("""
        import sys
        def application(environ, start_response):
            start_response('200 OK', [('A', 'b'), ('Content-Length', '999')])
            try:
                raise ValueError
            except ValueError:
                start_response('500 Oops', [('C', 'd')], sys.exc_info())
            return [b'error']
    """)
    assert (answer.head, answer.body, answer.kind) == (["500 Oops", "C: d"], b"error", "complete")


def test_exc_info_is_raised_again_after_the_head_was_sent(run: Run) -> None:
    answer = run("""
        import sys
        def application(environ, start_response):
            start_response('200 OK', [])
            yield b'part'
            try:
                raise LookupError('mine')
            except LookupError:
                start_response('500 Oops', [], exc_info=sys.exc_info())
            yield b'never'
    """)
    assert (answer.kind, answer.body) == ("cut", b"part")
    assert "LookupError: mine" in answer.log


@pytest.mark.parametrize(
    ("exc_info", "told"),
    [
        ("sys.exc_info()", "TypeError: the head has left"),
        ("(None, None, None)", "TypeError: the head has left"),
        ("(ValueError, 'text', None)", "TypeError: the head has left"),
        ("(ValueError, ValueError, 1)", "TypeError: the head has left"),
        ("(1, ValueError('mine'), 'x')", "ValueError: mine"),
        ("(ValueError, ValueError('mine'), None)", "ValueError: mine"),
    ],
)
def test_exc_info_without_an_exception_is_an_exception(run: Run, exc_info: str, told: str) -> None:
    """sys.exc_info() outside of an except clause is a tuple too."""
    source = f"""
        import sys
        def application(environ, start_response):
            write = start_response('200 OK', [])
            start_response('201 Created', [], {exc_info})
            write(b'part')
            start_response('500 Oops', [], {exc_info})
            return [b'never']
    """
    answer = run(source)
    assert (answer.line, answer.body, answer.kind) == ("201 Created", b"part", "cut")
    assert told in answer.log


def test_head_on_its_way_to_the_host_is_not_replaced(run: Run) -> None:
    """Another thread may be giving it just now; here the host has refused it."""
    answer = run(
        """
        import sys
        def application(environ, start_response):
            write = start_response('200 OK', [('A', 'b')])
            try:
                write(b'part')
            except OSError:
                try:
                    start_response('500 Oops', [], sys.exc_info())
                except OSError:
                    print('raised again', file=sys.stderr)
            return []
    """,
        fail=("start", 0, "gone"),
    )
    assert answer.log == "raised again"


def test_write_sends_at_once(run: Run) -> None:
    answer = run("""
        def application(environ, start_response):
            write = start_response('200 OK', [])
            write(b'a')
            write(b'')
            write(b'b')
            return [b'c']
    """)
    assert answer.order == "start write flush write flush write"
    assert (answer.body, answer.kind) == (b"abc", "complete")


def test_write_refuses_text(run: Run) -> None:
    answer = run("""
        def application(environ, start_response):
            start_response('200 OK', [])('text')
            return []
    """)
    assert (answer.kind, answer.status) == ("failed", 500) and "TypeError" in answer.log


def test_head_is_kept_as_it_was_given(run: Run) -> None:
    answer = run("""
        def application(environ, start_response):
            headers = [('A', 'b')]
            start_response('200 OK', headers)
            headers[:] = [('X', 'y')]
            return [b'x']
    """)
    assert answer.headers == ["A: b"]


def test_body_without_start_response_is_an_error(run: Run) -> None:
    for result in ("[b'x']", "[]", "iter([b'x'])"):
        answer = run(f"def application(environ, start_response): return {result}")
        assert (answer.kind, answer.status) == ("failed", 500) and "start_response" in answer.log


def test_keywords_and_wrong_arguments(run: Run) -> None:
    answer = run("""
        def application(environ, start_response):
            for bad in (lambda: start_response('200 OK'), lambda: start_response(),
                        lambda: start_response('200 OK', [], None, 1),
                        lambda: start_response('200 OK', [], other=1),
                        lambda: start_response('200 OK', [], 'no tuple')):
                try:
                    bad()
                except TypeError:
                    pass
                else:
                    raise AssertionError(bad)
            start_response(status='200 OK', headers=[])
            return []
    """)
    assert answer.kind == "complete"


def test_server_that_refuses_the_head_makes_a_500_and_a_log_line(run: Run) -> None:
    for body in ("[b'x']", "iter([b'x'])"):
        answer = run(
            APP.format(status="'200 OK'", headers="[]").replace('[b"body"]', body),
            fail=("start", 0, "head"),
        )
        assert (answer.kind, answer.status) == ("failed", 500) and "refused" in answer.log
