"""RELIABILITY C 14: each allocation of Python's in a request fails once, until none does.

Then some that follow it fail as well. (Were it all, CPython 3.11 would loop for ever where a
handler begins.)"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import pythons

from .memhost.machine import Answer, Machine, default_python, is_free_threaded

APPLICATIONS = {
    "list": """
        def application(environ, start_response):
            start_response('200 OK', [('X-Header', 'value'), ('Content-Length', '5')])
            return [b'whole']
        """,
    "reads": """
        def application(environ, start_response):
            read = environ['wsgi.input'].read(3) + b''.join(environ['wsgi.input'])
            start_response('200 OK', [('X-Length', str(len(read)))])
            return iter([read[:1000], read[1000:]])
        """,
    "writes": """
        def application(environ, start_response):
            write = start_response('200 OK', [('X-Header', 'value')])
            write(b'by ')
            environ['wsgi.errors'].write('a line\\n')
            write(b'hand')
            return []
        """,
    "generator": """
        def application(environ, start_response):
            try:
                start_response('200 OK', [])
                print('a line')
                yield b'one '
                yield b'two'
            finally:
                environ['wsgi.errors'].flush()
        """,
    "file": """
        def application(environ, start_response):
            file = open(__file__, 'rb')
            start_response('200 OK', [])
            return environ['wsgi.file_wrapper'](file)
        """,
    "raises": """
        def application(environ, start_response):
            raise ValueError('raised')
        """,
}
MOST = 5000


class Short:
    """One application, whose calls run out of memory."""

    def __init__(self, machine: Machine, script: Path) -> None:
        self.machine = machine
        self.arguments = Machine.command(str(script), body=b"body " * 1000, piece=700)
        for _ in range(3):
            self.wanted = self.play()

    def play(self) -> Answer:
        return Machine.answer(self.machine.ask("call", *self.arguments))

    def without(self, after: int, most: int) -> Answer | None:
        """The answer; None: there were not so many allocations."""
        asked = ("short_of_memory", after, most, self.arguments)
        said, failed = self.machine.ask(*asked)
        return Machine.answer(said) if failed else None

    def check(self, answer: Answer, after: int) -> None:
        """Well, or an error that the log tells of, without a head or with a cut response."""
        where = (after, answer.order, answer.log)
        assert not answer.held_gil, where
        assert len(answer.of("start")) <= 1, where
        if answer.kind == "complete" and self.wanted.kind == "complete":
            assert (answer.head, answer.body) == (self.wanted.head, self.wanted.body), where
            return
        assert answer.kind in ("failed", "cut"), where
        assert answer.log or self.machine.outside(), where
        if answer.kind == "failed":
            assert (answer.status, answer.of("start"), answer.body) == (500, [], b""), where
        else:
            assert answer.of("start") and self.wanted.body.startswith(answer.body), where


@pytest.fixture(params=APPLICATIONS)
def short(request: pytest.FixtureRequest, machine: Machine, tmp_path: Path) -> Iterator[Short]:
    if is_free_threaded():
        pytest.skip("CPython 3.13 without a GIL loses objects, or is a segmentation fault, when an "
                    "allocation fails, in a program of ten lines too")  # fmt: skip
    if request.param == "raises" and pythons.version_of(Path(default_python())) >= (3, 12):
        pytest.skip("traceback.format_exception of CPython 3.12 and 3.13 is a segmentation fault "
                    "when an allocation fails in it, in a program of five lines too")  # fmt: skip
    script = tmp_path / "app.wsgi"
    script.write_text(textwrap.dedent(APPLICATIONS[request.param]))
    yield Short(machine, script)
    machine.outside()


@pytest.mark.parametrize("most", [1, 7, 40])
def test_each_allocation_may_fail(short: Short, most: int) -> None:
    for after in range(MOST):
        answer = short.without(after, most)
        if answer is None:
            break
        short.check(answer, after)
        again = short.play()
        assert (again.kind, again.status, again.body) == (
            short.wanted.kind,
            short.wanted.status,
            short.wanted.body,
        ), (after, answer.kind, answer.log, again.log)
    assert after > 10
