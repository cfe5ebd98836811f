"""What the application returns: blocks, lengths, close(), exceptions (PEP 3333)."""

from collections.abc import Callable
from pathlib import Path

import pytest

from .memhost.machine import Answer, Machine

Run = Callable[..., Answer]

CLOSING = """
import sys
class Body:
    def __init__(self, blocks): self.blocks = iter(blocks)
    def __iter__(self): return self
    def __next__(self): return next(self.blocks)
    def close(self): print('closed', file=sys.stderr)
"""


def test_each_block_of_a_generator_is_flushed_before_the_next(run: Run) -> None:
    answer = run("""
        def application(environ, start_response):
            start_response('200 OK', [])
            for block in (b'', b'a', b'', b'b'):
                yield block
    """)
    assert (answer.order, answer.body) == ("start write flush write flush", b"ab")


def test_block_that_completes_the_length_leaves_with_one_gil_hold(run: Run) -> None:
    answer = run("""
        def application(environ, start_response):
            start_response('200 OK', [('Content-Length', '2')])
            yield b'ab'
    """)
    assert (answer.order, answer.kind) == ("start write", "complete")
    assert answer.of("write")[0][1] == 1


def test_large_list_is_sent_in_batches_the_last_marked(run: Run) -> None:
    answer = run("""
        def application(environ, start_response):
            start_response('200 OK', [('Content-Length', '1000000')])
            return [b'x' * 10000] * 100
    """)
    assert answer.body == b"x" * 1000000 and answer.kind == "complete"
    assert [write[1] for write in answer.of("write")] == [0, 1]
    assert not answer.held_gil


@pytest.mark.parametrize("body", ["[b'abc', b'def']", "iter([b'abc', b'def'])"])
def test_body_longer_than_content_length_is_cut(run: Run, body: str) -> None:
    answer = run(f"""
        def application(environ, start_response):
            start_response('200 OK', [('Content-Length', '4')])
            return {body}
    """)
    assert (answer.body, answer.kind) == (b"abcd", "complete")
    assert "more than its Content-Length" in answer.log and answer.of("log")[0][1] == 4


@pytest.mark.parametrize("body", ["[b'abc']", "iter([b'abc'])", "[]", "iter([])"])
def test_body_shorter_than_content_length_is_reported_as_cut(run: Run, body: str) -> None:
    answer = run(f"""
        def application(environ, start_response):
            start_response('200 OK', [('Content-Length', '4')])
            return {body}
    """)
    assert answer.kind == "cut" and "cut short" in answer.log
    assert not any(write[1] & 1 for write in answer.of("write"))


@pytest.mark.parametrize("status,flags", [("200 OK", "head"), ("204 No", ""), ("304 Not", "")])
@pytest.mark.parametrize("body", ["[b'abc']", "iter([b'abc', b'd'])", "Body([b'abc'])"])
def test_responses_without_a_body_have_none(run: Run, status: str, flags: str, body: str) -> None:
    source = f"""
def application(environ, start_response):
    start_response({status!r}, [('A', 'b')])
    return {body}
"""
    answer = run(CLOSING + source, flags=flags)
    assert (answer.kind, answer.body) == ("complete", b"")
    assert answer.order.count("start") == 1
    assert ("closed" in answer.log) == ("Body" in body)


def test_head_request_keeps_the_announced_length(run: Run) -> None:
    answer = run(
        """
        def application(environ, start_response):
            start_response('200 OK', [('Content-Length', '1000')])
            return []
    """,
        flags="head",
    )
    assert (answer.kind, answer.headers) == ("complete", ["Content-Length: 1000"])
    assert answer.log == ""


@pytest.mark.parametrize("body", ["[1]", "['x']", "[b'a', None]", "iter(['x'])", "5", "None"])
def test_blocks_that_are_not_bytes_are_refused(run: Run, body: str) -> None:
    answer = run(f"""
        def application(environ, start_response):
            start_response('200 OK', [])
            return {body}
    """)
    assert (answer.kind, answer.status) == ("failed", 500) and "TypeError" in answer.log
    assert "start" not in answer.order


def test_empty_iterable_sends_the_head_alone(run: Run) -> None:
    for body in ("[]", "iter(())", "[b'', b'']"):
        answer = run(f"""
            def application(environ, start_response):
                start_response('200 OK', [])
                return {body}
        """)
        assert (answer.order, answer.kind) == ("start", "complete")


RAISERS = ["ValueError('mine')", "SystemExit(3)", "KeyboardInterrupt()", "GeneratorExit()",
           "MemoryError()"]  # fmt: skip


@pytest.mark.parametrize("error", RAISERS)
def test_exception_before_the_head_is_a_500_with_a_traceback(run: Run, error: str) -> None:
    answer = run(f"def application(environ, start_response):\n    raise {error}\n")
    assert (answer.result, answer.kind, answer.status) == (0, "failed", 500)
    assert "Traceback" in answer.log and error.split("(")[0] in answer.log


@pytest.mark.parametrize("error", RAISERS)
def test_exception_after_the_head_cuts_the_response(run: Run, error: str) -> None:
    answer = run(
        CLOSING
        + f"""
def blocks():
    yield b'part'
    raise {error}
def application(environ, start_response):
    start_response('200 OK', [])
    return Body(blocks())
"""
    )
    assert (answer.kind, answer.body) == ("cut", b"part")
    assert answer.log.count("closed") == 1 and "Traceback" in answer.log


def test_exception_in_iteration_before_a_block_is_a_500_and_closes(run: Run) -> None:
    answer = run(
        CLOSING
        + """
def blocks():
    raise ValueError('mine')
    yield b''
def application(environ, start_response):
    start_response('200 OK', [])
    return Body(blocks())
"""
    )
    assert (answer.kind, answer.status, answer.order.count("start")) == ("failed", 500, 0)
    assert answer.log.count("closed") == 1


def test_exception_in_close_is_logged_and_the_response_whole(run: Run) -> None:
    answer = run("""
        class Body(list):
            def close(self):
                raise ValueError('in close')
        def application(environ, start_response):
            start_response('200 OK', [('Content-Length', '1')])
            return Body([b'x'])
    """)
    assert (answer.kind, answer.body) == ("complete", b"x")
    assert "in close" in answer.log


def test_client_that_leaves_ends_iteration_quietly_and_closes(run: Run) -> None:
    source = (
        CLOSING
        + """
def application(environ, start_response):
    start_response('200 OK', [])
    return Body(b'%d' % i for i in range(1000000))
"""
    )
    answer = run(source, fail=("write", 2, "gone"))
    assert (answer.result, answer.kind, answer.body) == (-3, "cut", b"01")
    assert answer.log == "closed"


def test_client_that_leaves_raises_oserror_in_write(run: Run) -> None:
    answer = run(
        """
        import sys
        def application(environ, start_response):
            write = start_response('200 OK', [])
            write(b'a')
            for _ in range(2):
                try:
                    write(b'b')
                except OSError as error:
                    print('told:', error, file=sys.stderr)
            return []
    """,
        fail=("write", 1, "gone"),
    )
    assert answer.log.count("told: the response could not be sent") == 2
    assert (answer.result, answer.kind) == (-3, "cut")


@pytest.mark.parametrize("operation", ["start", "write", "flush"])
@pytest.mark.parametrize("body", ["[b'ab']", "[b'x' * 100000]", "iter([b'a', b'b'])"])
def test_each_failing_operation_ends_the_request_once(run: Run, operation: str, body: str) -> None:
    source = f"""
        def application(environ, start_response):
            start_response('200 OK', [])
            return {body}
    """
    for after in range(3):
        answer = run(source, fail=(operation, after, "gone"))
        whole = len(answer.of(operation)) <= after and answer.result == 0
        assert whole or answer.kind in ("failed", "cut")
        assert answer.log == ""


LATE = """
kept = {}
def application(environ, start_response):
    if not kept:
        kept.update(input=environ['wsgi.input'], errors=environ['wsgi.errors'],
                    start=start_response, write=start_response('200 OK', []))
        return [b'first']
    told = []
    for use in (lambda: kept['input'].read(), lambda: kept['input'].readline(),
                lambda: kept['errors'].write('x'), lambda: kept['errors'].flush(),
                lambda: kept['write'](b'x'), lambda: kept['start']('200 OK', []),
                lambda: list(kept['input'])):
        try:
            use()
        except RuntimeError as error:
            told.append(str(error).encode())
    start_response('200 OK', [])
    return [b'; '.join(told)]
"""


def test_late_use_of_a_requests_objects_raises_runtimeerror(
    machine: Machine, tmp_path: Path
) -> None:
    script = tmp_path / "late.wsgi"
    script.write_text(LATE)
    assert machine.call(str(script), body=b"abc").body == b"first"
    assert machine.call(str(script)).body.count(b"after its request had ended") == 7


def test_other_threads_may_use_input_errors_and_write_during_the_request(run: Run) -> None:
    answer = run(
        """
        import threading
        def application(environ, start_response):
            write = start_response('200 OK', [])
            def work():
                write(environ['wsgi.input'].read(3))
                environ['wsgi.errors'].write('from a thread\\n')
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
            return [environ['wsgi.input'].read()]
    """,
        body=b"abcdef",
    )
    assert (answer.body, answer.kind) == (b"abcdef", "complete")
    assert "from a thread" in answer.log


@pytest.mark.parametrize(
    "rest,told",
    [("raise ValueError('late')", "PG3001: script"), ("yield b'more'", "PG3008: script")],
)
def test_what_comes_after_the_announced_length_is_logged_and_changes_nothing(
    run: Run, rest: str, told: str
) -> None:
    """docs/bridge.md 6: nothing that was announced is missing."""
    answer = run(f"""
        def application(environ, start_response):
            start_response('200 OK', [('Content-Length', '2')])
            yield b'ab'
            {rest}
    """)
    assert (answer.kind, answer.body) == ("complete", b"ab") and told in answer.log


@pytest.mark.parametrize("headers", ["[]", "[('Content-Length', '1')]"])
def test_close_that_raises_leaves_a_whole_response_whole(run: Run, headers: str) -> None:
    """docs/bridge.md 6."""
    source = f"""
class Broken(Body):
    def close(self): raise ValueError('in close')
def application(environ, start_response):
    start_response('200 OK', {headers})
    return Broken([b'a'])
"""
    answer = run(CLOSING + source)
    assert (answer.kind, answer.body) == ("complete", b"a")
    assert "PG3005: script" in answer.log and "in close" in answer.log


def test_exception_is_one_entry_with_id_script_and_traceback(run: Run) -> None:
    answer = run("""
        def application(environ, start_response):
            raise ValueError('why')
    """)
    (entry,) = answer.of("log")
    first, second, *rest = entry[3].decode().splitlines()
    assert first.startswith("PG3001: script '/") and first.endswith("failed (ValueError)")
    assert second.startswith("Traceback") and rest[-1] == "ValueError: why"
