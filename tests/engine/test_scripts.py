"""Loading scripts: names, reloads, failures, interpreters, threads, the module mod_wsgi."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .memhost.machine import Answer, Machine

Run = Callable[..., Answer]

HELLO = """
def application(environ, start_response):
    start_response('200 OK', [])
    return [{body}]
"""


@pytest.fixture(scope="module")
def worker(built: Path) -> Iterator[Machine]:
    """A process with the engine open, as in a worker."""
    with Machine(built, {"group": "shop", "threads": 3}) as made:
        yield made


def write(path: Path, text: str, mtime: int) -> str:
    path.write_text(text)
    os.utime(path, (mtime, mtime))
    return str(path)


def test_missing_callable_is_a_404_that_names_script_and_callable(run: Run) -> None:
    answer = run("other = 1", callable="app")
    assert (answer.kind, answer.status) == ("failed", 404)
    assert "has no 'app'" in answer.log and ".wsgi" in answer.log and "Traceback" not in answer.log


def test_uncallable_is_a_500_that_says_so(run: Run) -> None:
    answer = run("application = 5")
    assert (answer.kind, answer.status) == ("failed", 500) and "cannot be called" in answer.log


def test_missing_or_odd_script_is_told_without_a_traceback(
    machine: Machine, tmp_path: Path
) -> None:
    for path in (tmp_path / "none.wsgi", tmp_path):
        answer = machine.call(str(path))
        assert (answer.kind, answer.status) == ("failed", 500)
        assert str(path) in answer.log and "Traceback" not in answer.log


@pytest.mark.parametrize("source", ["raise SystemExit", "import nowhere", "1 +", "x = '\0'"])
def test_script_that_fails_is_run_again_and_leaves_nothing(
    machine: Machine, tmp_path: Path, source: str
) -> None:
    script = write(tmp_path / "a.wsgi", source, 1000)
    for _ in range(2):
        answer = machine.call(script, flags="reloading")
        assert (answer.kind, answer.status) == ("failed", 500)
        assert re.search(r"(?m)^(System|ModuleNotFound|Syntax|Value)(Exit|Error)", answer.log)
        assert "loader" not in answer.log  # how it was loaded helps nobody
    write(tmp_path / "a.wsgi", HELLO.format(body="b'mended'"), 2000)
    assert machine.call(script, flags="reloading").body == b"mended"


def test_touched_script_is_loaded_again_when_asked(machine: Machine, tmp_path: Path) -> None:
    script = write(tmp_path / "a.wsgi", HELLO.format(body="b'1'"), 1000)
    assert machine.call(script, flags="reloading").body == b"1"
    write(tmp_path / "a.wsgi", HELLO.format(body="b'2'"), 500)
    assert machine.call(script).body == b"1"
    assert machine.call(script, flags="reloading").body == b"2"


def test_script_may_demand_its_own_reload(machine: Machine, tmp_path: Path) -> None:
    text = "import sys\ncount = sys.loads = getattr(sys, 'loads', 0) + 1\n"
    text += "def reload_required(path): return count < 3\n" + HELLO.format(body="b'%d' % count")
    script = write(tmp_path / "a.wsgi", text, 1000)
    bodies = [machine.call(script, flags="reloading").body for _ in range(4)]
    assert bodies == [b"1", b"2", b"3", b"3"]


def test_module_has_mod_wsgis_name_file_and_time(run: Run) -> None:
    body = "repr((__name__[:10], len(__name__), __file__[-5:], type(__mtime__))).encode()"
    answer = run(HELLO.format(body=body))
    assert answer.body == repr(("_mod_wsgi_", 42, ".wsgi", int)).encode()


def test_worker_does_not_run_a_failed_script_again(worker: Machine, tmp_path: Path) -> None:
    script = write(tmp_path / "a.wsgi", "raise ValueError('once')", 1000)
    first, second = worker.call(script), worker.call(script)
    assert "once" in first.log and second.status == 500
    assert "once" not in second.log and "failed to load" in second.log
    write(tmp_path / "a.wsgi", HELLO.format(body="b'mended'"), 2000)
    assert worker.call(script).body == b"mended"


@pytest.mark.timeout(60)
def test_script_that_fails_by_an_exception_caused_by_itself_fails(
    worker: Machine, tmp_path: Path
) -> None:
    source = "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise error from error"
    answer = worker.call(write(tmp_path / "a.wsgi", source, 1000))
    assert (answer.kind, answer.status) == ("failed", 500) and "ZeroDivisionError" in answer.log


def test_worker_tries_a_failed_script_again_when_its_permissions_changed(
    built: Path, tmp_path: Path
) -> None:
    """Its time is as before. mod_wsgi's status for an owner that script-user does not allow."""
    script = write(tmp_path / "a.wsgi", HELLO.format(body="b'mended'"), 1000)
    os.chmod(script, 0o666)
    with Machine(built, {"group": "shop", "script_uid": os.getuid()}) as machine:
        assert [machine.call(script).status for _ in range(2)] == [403, 403]
        os.chmod(script, 0o644)
        assert machine.call(script).body == b"mended"


def test_worker_tries_a_script_again_when_its_folder_is_nobody_elses_any_more(
    built: Path, tmp_path: Path
) -> None:
    script = write(tmp_path / "a.wsgi", HELLO.format(body="b'mended'"), 1000)
    tmp_path.chmod(0o777)
    with Machine(built, {"group": "shop", "script_uid": os.getuid()}) as machine:
        assert [machine.call(script).status for _ in range(2)] == [403, 403]
        tmp_path.chmod(0o700)
        assert machine.call(script).body == b"mended"


@pytest.mark.parametrize(
    ("code", "missing"),
    [
        ("open({folder!r} + '/settings').close()\n", "settings"),
        ("import sys; sys.path.append({folder!r}); import comes_later\n", "comes_later.py"),
    ],
    ids=["a-file-that-it-named", "its-module"],
)
def test_worker_tries_a_failed_script_again_when_what_it_missed_has_come(
    worker: Machine, tmp_path: Path, code: str, missing: str
) -> None:
    source = code.format(folder=str(tmp_path)) + HELLO.format(body="b'mended'")
    script = write(tmp_path / "a.wsgi", source, 1000)
    assert [worker.call(script).status for _ in range(2)] == [500, 500]
    (tmp_path / missing).touch()
    assert worker.call(script).body == b"mended"


def test_worker_watches_scripts_of_all_interpreters(worker: Machine, tmp_path: Path) -> None:
    first = write(tmp_path / "a.wsgi", HELLO.format(body="b'1'"), 1000)
    other = write(tmp_path / "b.wsgi", HELLO.format(body="b'2'"), 2000)
    show = "__import__('pyglue.loader.reload').loader.reload.watched()"
    script = write(tmp_path / "c.wsgi", HELLO.format(body=f"repr({show}).encode()"), 3000)
    worker.call(first)
    worker.call(other, group="sub")
    watched = eval(worker.call(script).body)
    assert watched[first] == 1000 * 10**9 and watched[other] == 2000 * 10**9


WATCHED = "__import__('pyglue.loader.reload').loader.reload.watched()"


def test_a_script_that_changes_between_two_interpreters_has_changed(
    worker: Machine, tmp_path: Path
) -> None:
    """The first one has old code."""
    script = write(tmp_path / "a.wsgi", HELLO.format(body=f"repr({WATCHED}).encode()"), 1000)
    worker.call(script, group="one")
    os.utime(script, (2000, 2000))
    watched = eval(worker.call(script, group="two").body)
    assert watched[script] == 1000 * 10**9


def test_a_script_that_changes_while_it_fails_to_load_has_changed(
    worker: Machine, tmp_path: Path
) -> None:
    text = f"import os\nos.utime('{tmp_path}/a.wsgi', (2000, 2000))\n1 / 0"
    bad = write(tmp_path / "a.wsgi", text, 1000)
    other = write(tmp_path / "b.wsgi", HELLO.format(body=f"repr({WATCHED}).encode()"), 3000)
    assert "ZeroDivisionError" in worker.call(bad).log
    assert eval(worker.call(other).body)[bad] == 1000 * 10**9
    assert "ZeroDivisionError" in worker.call(bad).log  # and it is tried again


def test_load_tells_whether_it_worked(worker: Machine, tmp_path: Path) -> None:
    good = write(tmp_path / "a.wsgi", HELLO.format(body="b'1'"), 1000)
    bad = write(tmp_path / "b.wsgi", "raise ValueError('at start')", 1000)
    assert worker.ask("load", good, "", "application") and worker.ask("load", good, "x", None)
    assert not worker.ask("load", good, "", "missing")
    assert not worker.ask("load", bad, "", None) and "at start" in worker.outside()


def test_application_groups_are_interpreters_of_their_own(run: Run) -> None:
    source = "import sys\n" + HELLO.format(body="repr(getattr(sys, 'mark', None)).encode()")
    assert run(source + "sys.mark = 1\n").body == b"1"
    assert run(source, group="one").body == b"None"
    assert run(source + "sys.mark = 2\n", group="two").body == b"2"
    assert run(source).body == b"1"


def test_many_threads_make_an_interpreter_once(machine: Machine, tmp_path: Path) -> None:
    text = "import sys\nsys.raced = getattr(sys, 'raced', 0) + 1\n"
    script = write(tmp_path / "a.wsgi", text + HELLO.format(body="b'%d' % sys.raced"), 1000)
    for group in ("race", ""):
        arguments = machine.command(script, group=group)
        answers = machine.ask("threads", 8, 5, *arguments)
        bodies = {operations[-1][3] for *_, operations in answers}
        assert len(answers) == 40 and bodies == {b"1"}


def test_module_mod_wsgi_tells_where_it_is(worker: Machine, tmp_path: Path) -> None:
    body = """repr([m.process_group, m.application_group, m.threads_per_process, m.version[0],
                    m.FileWrapper is environ['wsgi.file_wrapper'], m.request_data()]).encode()"""
    script = write(tmp_path / "a.wsgi", "import mod_wsgi as m\n" + HELLO.format(body=body), 1000)
    for group in ("", "sub"):
        assert eval(worker.call(script, group=group).body) == ["shop", group, 3, 6, True, {}]


def test_log_handler_maps_levels(run: Run) -> None:
    answer = run("""
        import logging, mod_wsgi
        log = logging.Logger('x')
        log.addHandler(mod_wsgi.LogHandler())
        def application(environ, start_response):
            log.warning('w')
            log.debug('d')
            start_response('200 OK', [])
            return []
    """)
    assert [(op[1], op[3]) for op in answer.of("log")] == [(4, b"w"), (7, b"d")]


def test_signal_handlers_of_applications_are_ignored_with_a_warning(run: Run) -> None:
    answer = run("""
        import signal
        def application(environ, start_response):
            before = signal.getsignal(signal.SIGTERM)
            signal.signal(signal.SIGTERM, lambda *a: None)
            assert signal.getsignal(signal.SIGTERM) == before
            start_response('200 OK', [])
            return []
    """)
    assert answer.kind == "complete" and "signal.signal() was ignored" in answer.log


def test_print_goes_to_the_log_of_the_request_by_lines(run: Run) -> None:
    answer = run("""
        import sys
        def application(environ, start_response):
            print('one')
            print('two', end='')
            sys.stdout.flush()
            environ['wsgi.errors'].write('a\\nb\\nc')
            environ['wsgi.errors'].writelines(['d', '\\u20ac'])
            start_response('200 OK', [])
            return []
    """)
    assert [op[3].decode() for op in answer.of("log")] == ["one", "two", "a\nb", "cd\u20ac"]


def test_scripts_of_another_owner_are_refused(built: Path, tmp_path: Path) -> None:
    script = write(tmp_path / "a.wsgi", HELLO.format(body="b'1'"), 1000)
    for name in ("script_uid", "script_gid"):
        with Machine(built, {name: 54321}) as machine:
            answer = machine.call(script)
            assert answer.kind == "failed" and "54321" in answer.log
    with Machine(
        built, {"script_uid": os.getuid(), "script_gid": os.stat(script).st_gid}
    ) as machine:
        assert machine.call(script).body == b"1"


def test_paths_are_in_front_and_in_order(built: Path, tmp_path: Path) -> None:
    folders = [str(tmp_path / name) for name in ("one", "two", "home")]
    for folder in folders:
        os.mkdir(folder)
    script = write(
        tmp_path / "a.wsgi",
        "import sys\n" + HELLO.format(body="repr(sys.path[:3] + sys.argv).encode()"),
        1000,
    )
    with Machine(built, {"python_path": folders[:2], "home": folders[2]}) as machine:
        for group in ("", "sub"):
            found = eval(machine.call(script, group=group).body)
            assert found == [folders[2], *folders[:2], "mod_wsgi"]


def test_threads_that_come_and_go_leave_every_interpreter_whole(
    machine: Machine, tmp_path: Path
) -> None:
    """HTTP/2's threads do: each brings thread states, and takes them away again."""
    text = "import threading\nlocal = threading.local()\n" + HELLO.format(body="b'here'")
    script = write(tmp_path / "a.wsgi", text, 1000)
    for group in ("", "one", "two", "three", "") * 3:
        arguments = machine.command(script, group=group)
        answers = machine.ask("threads", 16, 2, *arguments)
        assert [operations[-1][3] for *_, operations in answers] == [b"here"] * 32


def test_exit_callbacks_run_in_each_group_though_one_has_a_daemon_thread(
    built: Path, tmp_path: Path
) -> None:
    text = "import atexit, threading\n"
    text += f"atexit.register(lambda: open({str(tmp_path)!r} + '/' + __import__('mod_wsgi')"
    text += ".application_group, 'w').close())\n"
    daemon = "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    hello = HELLO.format(body="b'1'")
    plain = write(tmp_path / "a.wsgi", text + hello, 1000)
    daemonic = write(tmp_path / "b.wsgi", text + daemon + hello, 1000)
    machine = Machine(built)
    for script, group in ((plain, "one"), (daemonic, "two"), (plain, "three")):
        assert machine.call(script, group=group).body == b"1"
    machine.ask("close")
    assert machine.outside() == ""
    machine.abandon()
    assert {"one", "two", "three"} <= set(os.listdir(tmp_path))
