# SPDX-License-Identifier: Apache-2.0
"""reload=strict with the real thing: whoever asks after a change gets what was changed to."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from harness import conf
from harness.client import connected, request, wait_until
from harness.httpd import Httpd
from harness.load import Load
from process import shop
from process.shop import ask, facts, slow_request

StartShop = Callable[..., Httpd]
APP = """
import os, time

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    if name := environ["QUERY_STRING"]:
        name = os.path.join(environ["files"], name)
        open(name + ".runs", "w").close()
        while not os.path.exists(name + ".end"):
            time.sleep(0.005)
    return [b"{answer}"]
"""
LOCKED = """
import fcntl
lock = open({path!r}, "w")
fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
"""


def write(path: Path, text: str) -> None:
    """As an editor does: there is never half a script."""
    part = path.with_suffix(".part")
    part.write_text(text)
    part.replace(path)


def test_each_request_after_a_change_sees_the_new_code_and_none_fails(
    start_shop: StartShop,
) -> None:
    server = start_shop("processes=2 threads=4 reload=strict", workers=2)
    script = server.root / "apps" / "who" / "wsgi.py"
    code = script.read_text()

    with Load(server.address, "/who", clients=3) as load:
        for deploy in range(5):
            write(script, code.replace('"pid":', f'"deploy": {deploy}, "pid":'))
            assert facts(server)["deploy"] == deploy
        load.wait_for_more(20)

    assert load.failures() == []
    wait_until(lambda: len(server.workers()) == 2, "old workers end")


def test_a_script_that_no_configuration_names_is_looked_at_too(start_shop: StartShop) -> None:
    """WSGIScriptAliasMatch leads to files that are known when they are asked for."""
    server = start_shop("threads=4 reload=strict")
    more = server.root / "more"
    more.mkdir()
    server.configure(
        shop.lines(
            server.root,
            "threads=4 reload=strict",
            f'WSGIScriptAliasMatch ^/more/([a-z]+) "{more}/$1.py" process-group=shop',
            *conf.granted(more),
        )
    )
    write(more / "one.py", APP.format(answer=0))
    server.graceful()
    wait_until(lambda: ask(server, "/more/one").text == "0", "it is served")
    for answer in range(1, 4):
        write(more / "one.py", APP.format(answer=answer))
        assert ask(server, "/more/one").text == str(answer)


def test_code_that_does_not_load_is_a_500_until_it_is_mended(start_shop: StartShop) -> None:
    server = start_shop("threads=4 reload=strict")
    script = server.root / "apps" / "who" / "wsgi.py"
    code = script.read_text()
    server.log.expect_traceback("RuntimeError: broken deploy")
    server.log.expect("PG1104.*answered 500 until a file changes")
    server.log.allow("GL0|PG3|script '|ScriptFailedError")
    write(script, "raise RuntimeError('broken deploy')\n")
    assert ask(server, "/who").status == 500
    write(script, code)
    assert ask(server, "/who").status == 200


def test_an_application_that_holds_a_lock_is_reloaded_in_order(start_shop: StartShop) -> None:
    server = start_shop("threads=4 reload=strict")
    script = server.root / "apps" / "locked.wsgi"
    files = server.root / "files"
    lock = LOCKED.format(path=str(server.root / "files" / "lock"))
    server.log.expect_traceback("BlockingIOError")
    server.log.expect("PG1123")
    write(script, lock + APP.format(answer=0))
    shop.alone(server, "locked", script, "threads=2 reload=strict")
    server.graceful()
    wait_until(lambda: ask(server, "/locked").text == "0", "it is served")
    for answer in range(1, 4):
        with connected(server.address) as connection, connected(server.address) as other:
            connection.send(request("GET", f"/locked?{answer}"))
            wait_until((files / f"{answer}.runs").exists, "the request runs")
            write(script, lock + APP.format(answer=answer))
            other.send(request("GET", "/locked"))
            if answer == 1:
                server.log.wait_for("PG1123")
            (files / f"{answer}.end").touch()
            assert connection.read_response().text == str(answer - 1)
            assert other.read_response().text == str(answer)


def test_a_request_that_runs_is_finished_by_old_code(start_shop: StartShop) -> None:
    server = start_shop("threads=4 reload=strict")
    (old,) = server.workers()
    files = server.root / "files"
    with slow_request(server) as connection:
        os.utime(server.root / "apps" / "who" / "wsgi.py")
        assert facts(server)["pid"] != old
        (files / "slow.end").touch()
        assert connection.read_response().text == "done"
