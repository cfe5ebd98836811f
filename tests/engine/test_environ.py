"""environ: the keys of PEP 3333 and of mod_wsgi, their types, and wsgiref's opinion."""

import ast
from collections.abc import Callable
from typing import Any

from .memhost.machine import Answer

Run = Callable[..., Answer]

SHOW = """
def application(environ, start_response):
    start_response('200 OK', [])
    plain = {k: v for k, v in environ.items() if type(v) in (str, int, float, bool, tuple)}
    assert type(environ) is dict
    environ['junk'] = 1
    return [repr(plain).encode('unicode_escape')]
"""


def show(run: Run, **request: Any) -> dict[str, Any]:
    found = ast.literal_eval(run(SHOW, **request).body.decode("unicode_escape"))
    assert isinstance(found, dict)
    return found


def test_keys_of_pep_3333(run: Run) -> None:
    environ = show(run, flags="multithread https")
    assert environ["wsgi.version"] == (1, 0) and environ["wsgi.url_scheme"] == "https"
    assert environ["wsgi.multithread"] is True and environ["wsgi.multiprocess"] is False
    assert environ["wsgi.run_once"] is False and environ["wsgi.input_terminated"] is True
    assert environ["SCRIPT_NAME"] == "" and environ["QUERY_STRING"] == ""
    assert environ["PATH_INFO"] == "/"


def test_keys_of_mod_wsgi(run: Run) -> None:
    environ = show(run, group="", process_group="shop")
    assert environ["apache.version"] == (2, 4, 71)
    assert len(environ["mod_wsgi.version"]) == 3
    assert environ["mod_wsgi.process_group"] == "shop"
    assert environ["mod_wsgi.application_group"] == ""
    assert environ["mod_wsgi.callable_object"] == "application"
    assert environ["mod_wsgi.request_handler"] == "wsgi-script"
    assert environ["mod_wsgi.handler_script"] == ""
    assert environ["mod_wsgi.request_id"] == "request-1"
    assert environ["mod_wsgi.connection_id"] == "connection-1"
    assert isinstance(environ["mod_wsgi.thread_id"], int)
    assert environ["mod_wsgi.request_start"] == 1700000000.0
    assert environ["mod_wsgi.queue_start"] == 1700000000.25
    assert environ["mod_wsgi.daemon_start"] <= environ["mod_wsgi.application_start"]


def test_values_are_latin1_and_one_request_leaves_nothing_to_the_next(run: Run) -> None:
    assert show(run, pairs=[(b"HTTP_X", b"\xe4\xff")])["HTTP_X"] == "\xe4\xff"
    environ = show(run)
    assert "HTTP_X" not in environ and "junk" not in environ


def test_many_invented_keys_are_served(run: Run) -> None:
    for start in range(0, 3000, 200):
        pairs = [(b"HTTP_X_%d" % i, b"%d" % i) for i in range(start, start + 200)]
        assert show(run, pairs=pairs)[f"HTTP_X_{start + 199}"] == str(start + 199)


def test_wsgiref_validate_agrees(run: Run) -> None:
    source = """
        from wsgiref.validate import validator
        def inner(environ, start_response):
            data = environ['wsgi.input'].read(3) + environ['wsgi.input'].readline()
            environ['wsgi.errors'].write('x\\n')
            environ['wsgi.errors'].flush()
            body = data + b''.join(environ['wsgi.input'])
            start_response('200 OK', [('Content-Type', 'text/plain')])
            return [body]
        application = validator(inner)
    """
    answer = run(source, body=b"one\ntwo\n")
    assert (answer.kind, answer.body, answer.log) == ("complete", b"one\ntwo\n", "x")
