"""Children that an application forks own nothing of the request (RELIABILITY C 7)."""

from collections.abc import Callable

import pytest

from .memhost.machine import Answer

Run = Callable[..., Answer]

FORKING = """
import atexit, os, sys
atexit.register(lambda: os.write(2, b'atexit ran in the child'))
def end_of(pid):
    return b'%d' % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


@pytest.mark.parametrize(
    "ending", ["return [b'child']", "raise ValueError", "sys.exit(3)", "return iter([b'child'])"]
)
def test_child_that_comes_back_is_ended_and_answers_nothing(run: Run, ending: str) -> None:
    source = f"""
def application(environ, start_response):
    start_response('200 OK', [])
    pid = os.fork()
    if pid == 0:
        {ending}
    return [end_of(pid)]
"""
    answer = run(FORKING + source)
    assert (answer.kind, answer.order, answer.body) == ("complete", "start write", b"0")


def test_child_that_comes_back_while_a_script_is_loaded_is_ended(run: Run) -> None:
    source = """
pid = os.fork()
end = end_of(pid) if pid else None
def application(environ, start_response):
    start_response('200 OK', [])
    return [end]
"""
    assert run(FORKING + source).body == b"0"


def test_child_can_neither_read_nor_write_for_its_parent(run: Run) -> None:
    source = """
def fails(function, *arguments):
    try:
        function(*arguments)
    except OSError:
        return 1
    return 0
def application(environ, start_response):
    write = start_response('200 OK', [])
    pid = os.fork()
    if pid == 0:
        print('of no request')
        os._exit(fails(write, b'x') + 2 * fails(environ['wsgi.input'].read))
    return [end_of(pid), environ['wsgi.input'].read()]
"""
    answer = run(FORKING + source, body=b"body")
    assert (answer.body, answer.log) == (b"3body", "")


def test_endless_generator_ends_in_the_child(run: Run) -> None:
    source = """
def application(environ, start_response):
    start_response('200 OK', [])
    pid = os.fork()
    while pid == 0:
        yield b'child'
    yield end_of(pid)
"""
    assert run(FORKING + source).body == b"0"


def test_multiprocessing_by_fork_works(run: Run) -> None:
    answer = run("""
        import multiprocessing
        def application(environ, start_response):
            start_response('200 OK', [])
            context = multiprocessing.get_context('fork')
            queue = context.SimpleQueue()
            process = context.Process(target=queue.put, args=(b'from the child',))
            process.start()
            got = queue.get()
            process.join()
            return [got, b' %d' % process.exitcode]
    """)
    assert (answer.kind, answer.body) == ("complete", b"from the child 0")
