# SPDX-License-Identifier: Apache-2.0
"""httpd writes the plan, the supervisor reads it, docs/plan.md says what is in it: all agree.

What `httpd -t` accepts the supervisor never refuses, for then no process group would change."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.httpd import Httpd

from pyglue.supervisor.plan import MAX_BYTES, parse

PAGE = Path(__file__).parents[2] / "docs" / "plan.md"
LEAST = (
    "processes=1 threads=1 umask=0 send-buffer-size=0 receive-buffer-size=512 listen-backlog=0 "
    "interpreters=1 "
    "maximum-requests=0 startup-timeout=0 launch-timeout=0 shutdown-timeout=0 socket-timeout=0 "
    "inactivity-timeout=0 reload=rolling drain-timeout=0 graceful-timeout=0 eviction-timeout=0 "
    "request-timeout=0 interrupt-timeout=0 deadlock-timeout=0 restart-interval=0 rss-limit=0 "
    "environ=clean python-path= lang= locale= display-name= script-user=#0 user=#1 group=#1"
)
MOST = (
    "processes=256 threads=1023 interpreters=256 umask=777 send-buffer-size=2147483647 "
    "receive-buffer-size=2147483647 header-buffer-size=2147483647 listen-backlog=65535 "
    "maximum-requests=2147483647 startup-timeout=8784h launch-timeout=31622400 "
    "inactivity-timeout=8784h reload=strict "
    "drain-timeout=8784h graceful-timeout=8784h eviction-timeout=8784h "
    "shutdown-timeout=31622400s socket-timeout=31622400000ms environ=inherit python-path=/a:/b::c "
    "request-timeout=8784h interrupt-timeout=8784h deadlock-timeout=8784h restart-interval=8784h "
    "rss-limit=1024G "
    "home=/ python-home=/x python=/y pass-descriptors=on no-new-privs=off dumpable=off "
    "script-group=#4294967294 user=#4294967294 group=#4294967294 "
    'display-name="%{GROUP}" lang="\xe9 \\"quoted\\"" locale=C'
)


@pytest.fixture
def httpd() -> Iterator[Httpd]:
    server = Httpd([])
    yield server
    server.remove()


def dumped(server: Httpd, *lines: str) -> bytes:
    """The plan, as `httpd -t -D DUMP_WSGI_PLAN` prints it."""
    server.configure(lines)
    done = server.test_configuration("-D", "DUMP_WSGI_PLAN")
    assert done.returncode == 0, done.stdout
    return done.stdout[done.stdout.index("{") : done.stdout.rindex("}") + 1].encode()


def test_supervisor_takes_the_least_and_the_most_that_httpd_accepts(httpd: Httpd) -> None:
    text = dumped(
        httpd,
        f"WSGIDaemonProcess least {LEAST}",
        f"WSGIDaemonProcess \xe9\xff {MOST}",
        "WSGIDaemonProcess unsaid",
        "WSGIDaemonProcess elastic processes=0-8",
        "WSGIPythonHome /opt/x",
        "WSGISocketPrefix run/s",
        "WSGIImportScript relative.py process-group=unsaid application-group=%{GLOBAL}",
        "WSGIScriptAlias /a relative.py process-group=unsaid application-group=x",
    )
    least, most, unsaid, elastic = parse(text).groups
    assert (least.threads, most.threads, unsaid.threads) == (1, 1023, 15)
    assert (unsaid.least, unsaid.processes, unsaid.inactivity_timeout) == (1, 1, 0)
    assert (elastic.least, elastic.processes, elastic.inactivity_timeout) == (0, 8, 300)
    assert most.python_path == ("/a", "/b", "c")
    assert {script.script for script in unsaid.scripts} == {f"{httpd.root}/relative.py"}


@pytest.mark.parametrize("timeout", [2147483647, -1])
def test_supervisor_takes_the_longest_timeout_that_httpd_has(httpd: Httpd, timeout: int) -> None:
    plan = parse(dumped(httpd, f"Timeout {timeout}", "WSGIDaemonProcess a"))
    assert plan.httpd.timeout == plan.groups[0].socket_timeout == 1e9


def test_log_level_of_a_group_is_the_modules(httpd: Httpd) -> None:
    text = dumped(httpd, "LogLevel warn wsgi:debug", "WSGIDaemonProcess a")
    assert parse(text).groups[0].log_level == 7


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["WSGIDaemonProcess a threads=1024"], "from 1 to 1023"),
        (["WSGIDaemonProcess a processes=257"], "from 1 to 256"),
        ([f"WSGIDaemonProcess g{i} processes=200" for i in range(3)], "600 processes together"),
        ([f"WSGIDaemonProcess g{i}" for i in range(513)], "513 process groups"),
        (["WSGIDaemonProcess a python-home=env"], "not an absolute path"),
        (["WSGIDaemonProcess a python-home="], "not an absolute path"),
        (["WSGIPythonHome env"], "not an absolute path"),
    ],
)
def test_what_the_supervisor_would_refuse_httpd_refuses_with_words(
    httpd: Httpd, lines: list[str], words: str
) -> None:
    httpd.configure(lines)
    done = httpd.test_configuration()
    assert done.returncode != 0
    assert words in done.stdout


def of_length(length: int) -> list[str]:
    """Lines of 17 groups that have so many characters of options, the last one the most."""
    each = length // 18
    sizes = [each] * 16 + [length - 16 * each]
    return [f"WSGIDaemonProcess g{i} python-path=/{'x' * n}" for i, n in enumerate(sizes)]


def test_a_plan_is_as_long_as_the_supervisor_takes_and_no_longer(httpd: Httpd) -> None:
    room = 100  # what another process, and a later number, may need more
    most = MAX_BYTES - len(dumped(httpd, *of_length(17))) + 17 - room
    assert len(parse(dumped(httpd, *of_length(most))).groups) == 17

    httpd.configure(of_length(most + 2 * room))
    done = httpd.test_configuration()

    assert done.returncode != 0
    assert f"at most {MAX_BYTES}. Longest is 'g16' ({httpd.root}/httpd.conf:" in done.stdout
    assert "shorten its options, such as python-path=, or give it fewer scripts" in done.stdout


def test_httpd_does_not_start_with_a_plan_that_is_too_long(httpd: Httpd) -> None:
    httpd.configure(of_length(MAX_BYTES))
    with pytest.raises(AssertionError, match=r"ended with 1[\s\S]*GL0104: .* bytes long"):
        httpd.start()


def test_page_names_each_key_of_the_plan_and_no_other(httpd: Httpd) -> None:
    plan = json.loads(
        dumped(
            httpd,
            "WSGIDaemonProcess a",
            "WSGIImportScript /a.py process-group=a application-group=b",
        )
    )
    section = PAGE.read_text().partition("## 3.")[2].partition("```\n")[2].partition("```")[0]
    assert keys(plan) == set(re.findall(r'"(\w+)":', section))


def keys(value: Any) -> set[str]:
    """All keys of objects in it."""
    if isinstance(value, list):
        return set().union(*map(keys, value))
    if not isinstance(value, dict):
        return set()
    return set(value) | set().union(*map(keys, value.values()))
