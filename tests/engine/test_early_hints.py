# SPDX-License-Identifier: Apache-2.0
"""wsgi.early_hints: interim heads (103), which leave before the head of the response."""

from collections.abc import Callable
from pathlib import Path

import pytest

from .memhost.machine import Answer, Machine

Run = Callable[..., Answer]

APP = """
def application(environ, start_response):
    send = environ["wsgi.early_hints"]
    {before}
    start_response("200 OK", [("X-Final", "1")])
    {after}
    return [b"body"]
"""
LINK = "send([('Link', '</style.css>; rel=preload')])"


def app(before: str = "pass", after: str = "pass") -> str:
    return APP.format(before=before, after=after)


def refused_with(name: str, call: str) -> str:
    """The application notes what is raised, and goes on."""
    return f"""
def application(environ, start_response):
    send = environ["wsgi.early_hints"]
    try:
        {call}
        raised = "nothing"
    except {name} as error:
        raised = str(error)
    start_response("200 OK", [])
    return [raised.encode()]
"""


@pytest.mark.parametrize("flags", ["", "head", "https multithread"])
def test_key_is_absent_where_the_host_allows_none(run: Run, flags: str) -> None:
    answer = run(
        """
        def application(environ, start_response):
            start_response("200 OK", [("X-Key", str("wsgi.early_hints" in environ))])
            return []
        """,
        flags=flags,
    )
    assert "X-Key: False" in answer.headers


def test_an_interim_head_leaves_at_once_and_nothing_of_it_stays(run: Run) -> None:
    answer = run(app(LINK), flags="hints")
    assert (answer.kind, answer.body) == ("complete", b"body")
    assert answer.order == "interim start write"
    (_, status, length, head), *_ = answer.of("interim")
    assert (status, length) == (103, -1)
    assert head == b"103 Early Hints\nLink: </style.css>; rel=preload\n"
    assert answer.head == ["200 OK", "X-Final: 1"]
    assert not answer.held_gil


def test_it_may_come_after_start_response_as_long_as_the_head_has_not_left(run: Run) -> None:
    answer = run(app("pass", LINK), flags="hints")
    assert answer.order == "interim start write"
    assert answer.head == ["200 OK", "X-Final: 1"]


def test_list_that_is_changed_by_a_later_hint_was_sent_as_it_was(run: Run) -> None:
    answer = run(app("fields = [('A', 'b')]; send(fields); fields[0] = ('C', 'd'); send(fields)"),
                 flags="4-hints")  # fmt: skip
    assert [op[3] for op in answer.of("interim")] == [
        b"103 Early Hints\nA: b\n",
        b"103 Early Hints\nC: d\n",
    ]


@pytest.mark.parametrize(("flags", "allowed"), [("hints", 1), ("4-hints", 4)])
def test_more_than_the_host_allows_raises(run: Run, flags: str, allowed: int) -> None:
    source = refused_with("RuntimeError", f"[{LINK} for _ in range({allowed + 1})]")
    answer = run(source, flags=flags)
    assert len(answer.of("interim")) == allowed
    assert answer.kind == "complete" and b"interim-responses=" in answer.body


@pytest.mark.parametrize(
    "hints",
    ["None", "()", "{}", "[('Link',)]", "[['Link', 'b']]", "[('Link', b'b')]", "[(b'Link', 'b')]",
     "[('Link', None)]", "'Link'"],
)  # fmt: skip
def test_what_is_no_list_of_pairs_is_a_type_error(run: Run, hints: str) -> None:
    answer = run(refused_with("TypeError", f"send({hints})"), flags="hints")
    assert answer.kind == "complete" and answer.body != b"nothing"
    assert not answer.of("interim")


@pytest.mark.parametrize(
    "hints",
    ["[('', 'b')]", "[('a b', 'c')]", "[('a:', 'c')]", "[('Link', 'b\\r\\nc: d')]",
     "[('Link', 'b\\0')]", "[('Link', '\\u20ac')]", "[('Connection', 'close')]",
     "[('te', 'x')]", "[('Transfer-Encoding', 'chunked')]", "[('Upgrade', 'x')]",
     "[('Content-Length', '0')]", "[('content-length', 'x')]", "[('Link', 'x' * 8200)]",
     "[('Link', 'x')] * 65"],
)  # fmt: skip
def test_what_may_not_be_in_an_interim_head_is_a_value_error(run: Run, hints: str) -> None:
    answer = run(refused_with("ValueError", f"send({hints})"), flags="hints")
    assert answer.kind == "complete" and answer.body != b"nothing"
    assert not answer.of("interim")


def test_refused_hints_do_not_count(run: Run) -> None:
    source = refused_with("ValueError", "send([('', '')])")
    answer = run(source.replace("raised = str(error)", f"raised = str({LINK})"), flags="hints")
    assert (len(answer.of("interim")), answer.body) == (1, b"None")


@pytest.mark.parametrize("hints", ["64", "8192 - 16 - 11 - 8 - 4"])
def test_the_most_that_may_be_sent(run: Run, hints: str) -> None:
    value = "[('Link', '')] * 64" if hints == "64" else f"[('Link', 'x' * ({hints}))]"
    answer = run(app(f"send({value})"), flags="hints")
    assert (answer.kind, len(answer.of("interim"))) == ("complete", 1)


@pytest.mark.parametrize(
    "begin",
    ["start_response('200 OK', [])(b'x')", "yield_first"],
)
def test_after_the_head_has_left_it_raises(run: Run, begin: str) -> None:
    answer = run(
        f"""
        def raised(send):
            try:
                {LINK}
            except RuntimeError as error:
                return str(error).encode()

        def lazily(send):
            yield b"x"
            yield raised(send)

        def application(environ, start_response):
            send = environ["wsgi.early_hints"]
            if {begin == "yield_first"}:
                start_response("200 OK", [])
                return lazily(send)
            {begin if "start" in begin else "pass"}
            return [raised(send)]
        """,
        flags="hints",
    )
    assert answer.kind == "complete" and b"head had left" in answer.body
    assert not answer.of("interim")


def test_after_the_request_it_raises(machine: Machine, tmp_path: Path) -> None:
    script = tmp_path / "app.wsgi"
    script.write_text(
        """
kept = []

def application(environ, start_response):
    kept.append(environ["wsgi.early_hints"])
    start_response("200 OK", [])
    try:
        kept[0]([])
        return [b"sent"]
    except RuntimeError as error:
        return [str(error).encode()]
"""
    )
    assert machine.call(str(script), flags="hints").body == b"sent"
    assert b"after its request had ended" in machine.call(str(script), flags="hints").body


@pytest.mark.parametrize(
    ("error", "raised"), [("gone", "OSError"), ("state", "RuntimeError"), ("head", "ValueError")]
)
def test_an_error_of_the_host_is_raised(run: Run, error: str, raised: str) -> None:
    answer = run(refused_with(raised, LINK), flags="hints", fail=("interim", 0, error))
    assert not answer.of("interim")
    if error == "gone":
        assert not answer.of("start")  # nobody is there to read it
    else:
        assert answer.kind == "complete" and answer.body != b"nothing"
