# SPDX-License-Identifier: Apache-2.0
"""GILs of interpreters: WSGIPerInterpreterGIL in both modes, and interpreters= of a process group.

That two requests run at once, and where a request goes, tests/engine/test_interpreters.py shows."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import conf, pythons
from harness.client import Connection, ask, facts, request, wait_until
from harness.httpd import Httpd, complaint

Start = Callable[..., Httpd]

# Which interpreter of which process runs it, and whether the interpreter shares its GIL with the
# main one: only such a one may load what CPython says does not run under a GIL of its own.
TELLS = """\
import json, os, pathlib, time
import mod_wsgi

mark = os.urandom(8).hex()
folder = pathlib.Path(__file__).parent
(folder / f"loaded-{os.getpid()}-{mark}").touch()
try:
    import faulthandler
    shares = True
except ImportError:
    shares = False

def application(environ, start_response):
    waits = int(environ["QUERY_STRING"] or 0)
    if waits:
        (folder / f"here-{os.urandom(8).hex()}").touch()
        end = time.monotonic() + 60
        while len(list(folder.glob("here-*"))) < waits and time.monotonic() < end:
            time.sleep(0.005)
    facts = {
        "mark": mark, "pid": os.getpid(), "shares": shares, "group": mod_wsgi.application_group,
        "multithread": environ["wsgi.multithread"], "multiprocess": environ["wsgi.multiprocess"],
    }
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(facts).encode()]
"""
LEAVES = """
import atexit
atexit.register((folder / f"left-{mark}").touch)
"""


@pytest.fixture(scope="session", params=pythons.since((3, 12)), ids=lambda path: path.parts[-3])
def python(request: pytest.FixtureRequest, copies: Path) -> Path:
    return pythons.reachable(request.param, copies)


def lines_of(mode: str, python: Path, folder: Path, text: str = TELLS) -> list[str]:
    """One script at /global, in the main interpreter, and at /sub, in a sub-interpreter."""
    folder.chmod(0o777)
    (folder / "app.py").write_text(text)
    own = f'WSGIPythonHome "{python.parents[1]}"'
    if mode == "daemon":
        own = f"WSGIDaemonProcess own python={python}\nWSGIProcessGroup own"
    aliases = [
        f'WSGIScriptAlias /{name} "{folder}/app.py" application-group={group}'
        for name, group in (("global", "%{GLOBAL}"), ("sub", "sub"))
    ]
    return [own, *aliases, *conf.granted(folder)]


def spread_of(start_httpd: Start, folder: Path, options: str, text: str = TELLS) -> Httpd:
    """One application in a process group that is spread over interpreters."""
    folder.chmod(0o777)
    (folder / "app.py").write_text(text)
    alias = f'WSGIScriptAlias / "{folder}/app.py" process-group=own application-group=shop'
    return start_httpd([f"WSGIDaemonProcess own {options}", alias, *conf.granted(folder)])


@pytest.mark.parametrize(("directive", "shares"), [("On", False), ("Off", True), ("", True)])
def test_sub_interpreters_have_a_gil_of_their_own_where_told(
    mode: str, python: Path, start_httpd: Start, folder: Path, directive: str, shares: bool
) -> None:
    lines = lines_of(mode, python, folder)
    if directive:
        lines.append(f"WSGIPerInterpreterGIL {directive}")
    server = start_httpd(lines)
    assert facts(server.address, "/global")["shares"] is True
    sub = facts(server.address, "/sub")
    assert (sub["shares"], sub["group"]) == (shares, "sub")


def test_older_python_says_that_it_cannot(mode: str, start_httpd: Start, folder: Path) -> None:
    lines = lines_of(mode, Path("/usr/bin/python3"), folder)
    if pythons.version_of(Path("/usr/bin/python3")) >= (3, 12):
        pytest.skip("the system's Python is 3.12 or later")
    server = start_httpd([*lines, "WSGIPerInterpreterGIL On"])
    server.log.expect("PG3030: WSGIPerInterpreterGIL On has no effect")
    assert facts(server.address, "/sub")["shares"] is True


SECTIONS = """\
<WSGIInterpreterOptions application-group=sub>
    WSGIPerInterpreterGIL On
</WSGIInterpreterOptions>
<WSGIInterpreterOptions process-group=other>
    WSGIPerInterpreterGIL Off
</WSGIInterpreterOptions>
<WSGIInterpreterOptions Process-Group="%{GLOBAL}" application-group=third>
    WSGIPerInterpreterGIL On
</WSGIInterpreterOptions>
<WSGIInterpreterOptions process-group=own application-group=third>
    WSGIPerInterpreterGIL On
</WSGIInterpreterOptions>
<WSGIInterpreterOptions application-group=third>
    WSGIPerInterpreterGIL Off
</WSGIInterpreterOptions>"""


def test_section_gives_a_gil_to_chosen_interpreters(
    mode: str, python: Path, start_httpd: Start, folder: Path
) -> None:
    lines = lines_of(mode, python, folder)
    for name in ("third", "fourth"):
        lines.append(f'WSGIScriptAlias /{name} "{folder}/app.py" application-group={name}')
    server = start_httpd([*lines, SECTIONS])
    shares = {name: facts(server.address, f"/{name}")["shares"] for name in ("sub", "fourth")}
    assert shares == {"sub": False, "fourth": True}
    # The one with two selectors wins over a later one with fewer.
    assert facts(server.address, "/third")["shares"] is False


def test_folders_of_sections_are_layers_of_the_path(
    mode: str, start_httpd: Start, folder: Path
) -> None:
    (folder / "app.py").write_text(
        "import sys\ndef application(environ, start_response):\n"
        "    start_response('200 OK', [])\n    return ['\\n'.join(sys.path).encode()]\n"
    )
    for name in ("base", "both", "group", "last"):
        (folder / name).mkdir()
    own = f'WSGIPythonPath "{folder}/base"'
    if mode == "daemon":
        own = f"WSGIDaemonProcess own python-path={folder}/base\nWSGIProcessGroup own"
    selectors = "process-group=" + ("own" if mode == "daemon" else "%{GLOBAL}")
    sections = [
        f"<WSGIInterpreterOptions {selector}>\n"
        f"WSGIPythonPath {folder}/{name}\n"
        "</WSGIInterpreterOptions>"
        for selector, name in (
            (f"{selectors} application-group=sub", "last"),
            ("application-group=other", "nowhere"),
            (selectors, "group"),
            ("", "both"),
        )
    ]
    aliases = [
        f'WSGIScriptAlias /{name} "{folder}/app.py" application-group={group}'
        for name, group in (("global", "%{GLOBAL}"), ("sub", "sub"))
    ]
    server = start_httpd([own, *sections, *aliases, *conf.granted(folder)])
    for name, wanted in (("sub", ["last"]), ("global", [])):
        entries = ask(server.address, f"/{name}").text.splitlines()
        layers = [*wanted, "group", "both", "base"]
        assert entries[: len(layers)] == [f"{folder}/{layer}" for layer in layers]


@pytest.mark.parametrize(
    ("section", "named"),
    [
        (["process-group"], "'process-group' is not of the form name=value"),
        (["server=x"], "'server' is no selector; these are: process-group, application-group"),
        (["process-group=x PROCESS-GROUP=y"], "'PROCESS-GROUP' is there twice"),
        (["", "WSGIScriptReloading On"], "'WSGIScriptReloading' is no setting of an interpreter"),
        (["", "WSGIPerInterpreterGIL some"], "'some' is not one of On, Off"),
        (["", "WSGIPythonPath /a /b"], "'/b' is one word too many"),
    ],
)
def test_mistake_in_a_section_is_named(section: list[str], named: str) -> None:
    first, *rest = section
    lines = [f"<WSGIInterpreterOptions {first}>", *rest, "</WSGIInterpreterOptions>"]
    assert named in complaint(lines)


@pytest.mark.parametrize("directive", ["WSGIPerInterpreterGIL", "WSGIFreeThreading"])
def test_directive_is_a_flag_of_the_main_server(directive: str) -> None:
    assert f"{directive}: 'some' is not one of On, Off" in complaint([f"{directive} some"])
    host = ["<VirtualHost *:1>", f"{directive} On", "</VirtualHost>"]
    assert f"{directive} cannot occur within" in complaint(host)


def patient_facts(server: Httpd, target: str) -> dict[str, Any]:
    """As `facts`; a worker that is to have several interpreters takes its time to start."""
    connection = Connection(server.address, 60)
    connection.send(request("GET", target))
    response = connection.read_response()
    connection.close()
    assert response.status == 200, response
    found: dict[str, Any] = json.loads(response.body)
    return found


def ask_at_once(server: Httpd, count: int) -> list[dict[str, Any]]:
    """The facts of so many requests, each of which waits for all of them."""
    found: list[dict[str, Any]] = []
    threads = [
        threading.Thread(target=lambda: found.append(patient_facts(server, f"/?{count}")))
        for _ in range(count)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@pytest.mark.daemon_only  # interpreters= is an option of a process group
def test_application_is_spread_over_interpreters_of_one_process(
    python: Path, start_httpd: Start, folder: Path
) -> None:
    server = spread_of(start_httpd, folder, f"python={python} interpreters=3 threads=6")
    found = ask_at_once(server, 6)
    assert sorted(Counter(each["mark"] for each in found).values()) == [2, 2, 2]
    assert len({each["pid"] for each in found}) == 1
    for each in found:
        assert (each["shares"], each["group"]) == (False, "shop")
        assert each["multiprocess"] and each["multithread"]


@pytest.mark.daemon_only
def test_as_many_threads_as_interpreters_never_meet_in_one(
    python: Path, start_httpd: Start, folder: Path
) -> None:
    server = spread_of(start_httpd, folder, f"python={python} interpreters=3 threads=3")
    found = ask_at_once(server, 3)
    assert len({each["mark"] for each in found}) == 3
    assert {each["multithread"] for each in found} == {False}


@pytest.mark.daemon_only
def test_spread_worker_is_replaced_whole(python: Path, start_httpd: Start, folder: Path) -> None:
    """By a touch, and after its maximum of requests, which counts over all interpreters; each runs
    its exit callbacks."""
    options = f"python={python} interpreters=3 maximum-requests=9"
    server = spread_of(start_httpd, folder, options, TELLS + LEAVES)
    first = {each["mark"] for each in ask_at_once(server, 3)}
    assert len(first) == 3
    (folder / "app.py").write_text(TELLS + LEAVES + "new = True\n")
    wait_until(lambda: facts(server.address)["mark"] not in first, "the new code serves", 60)
    wait_until(lambda: len(list(folder.glob("left-*"))) == 3, "the old interpreters left", 60)
    assert {path.name[5:] for path in folder.glob("left-*")} == first
    second = facts(server.address)["pid"]
    wait_until(lambda: facts(server.address)["pid"] != second, "another worker serves", 60)
    wait_until(lambda: len(list(folder.glob("left-*"))) >= 6, "and has left", 60)


@pytest.mark.daemon_only
def test_script_that_fails_in_a_spread_worker_is_told_once(
    python: Path, start_httpd: Start, folder: Path
) -> None:
    text = "import faulthandler\n" + TELLS
    server = spread_of(start_httpd, folder, f"python={python} interpreters=2 threads=2", text)
    server.log.expect_traceback("does not support loading in subinterpreters")
    server.log.expect("PG3034: the extension module 'faulthandler' .*leave interpreters= out")
    server.log.allow("PG1|PG3102")
    assert ask(server.address, "/").status == 500


@pytest.mark.daemon_only
def test_older_python_disables_a_group_that_is_to_be_spread(
    start_httpd: Start, folder: Path
) -> None:
    if pythons.version_of(Path("/usr/bin/python3")) >= (3, 12):
        pytest.skip("the system's Python is 3.12 or later")
    server = spread_of(start_httpd, folder, "interpreters=2 python=/usr/bin/python3")
    server.log.expect("PG3035: interpreters=2 needs Python 3.12 or later, and /usr/bin/python3 is")
    server.log.expect("PG1110.*interpreters= needs Python 3.12 or later")
    server.log.allow("GL05")
    assert ask(server.address, "/").status == 500
