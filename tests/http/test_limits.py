# SPDX-License-Identifier: Apache-2.0
"""Time-outs, and memory under pressure: the same answer in both modes, unless a mode is named."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import conf
from harness.client import ask, chunked, connected, request
from harness.httpd import Httpd
from harness.site import MODE_LINES

APPS = Path(__file__).parents[1] / "apps"
Start = Callable[..., Httpd]


def impatient(
    mode: str, start_httpd: Start, folder: Path, app: str, options: str = "response-timeout=60"
) -> Httpd:
    """One application under Timeout 1, which a worker has not for its own start or answer."""
    shutil.copy(APPS / app / "wsgi.py", folder / "app.py")
    folder.chmod(0o777)
    lines = [*MODE_LINES[mode], "Timeout 1", f'WSGIScriptAlias / "{folder}/app.py"']
    if mode == "daemon":
        lines[0] += f" queue-timeout=60 socket-timeout=60 {options}"
    return start_httpd([*lines, f'SetEnv files "{folder}"', *conf.granted(folder)])


@pytest.mark.daemon_only  # embedded mode has nobody to wait for the application
def test_worker_that_does_not_answer_is_a_504(mode: str, folder: Path, start_httpd: Start) -> None:
    server = impatient(mode, start_httpd, folder, "waits", "")
    server.log.expect("GL0505.*response-timeout")
    assert ask(server.address, "/?a").status == 504
    (folder / "a.end").touch()


@pytest.mark.parametrize("coding", ["length", "chunked"])
def test_body_that_stops_coming_is_an_error_of_the_application(
    mode: str, start_httpd: Start, folder: Path, coding: str
) -> None:
    server = impatient(mode, start_httpd, folder, "echo")
    server.log.expect_traceback("OSError")
    headers = {"Content-Length": "100"} if coding == "length" else {"Transfer-Encoding": "chunked"}
    with connected(server.address) as connection:
        connection.send(request("POST", "/", headers) + b"5\r\nhal")
        assert connection.read_response().status == 500
        assert connection.is_closed()


def test_body_that_stops_coming_is_nothing_to_who_does_not_read_it(
    mode: str, start_httpd: Start, folder: Path
) -> None:
    server = impatient(mode, start_httpd, folder, "ignores_the_body")
    with connected(server.address) as connection:
        connection.send(request("POST", "/", {"Content-Length": "100"}) + b"part")
        assert connection.read_response().body == b"ignored"
        assert connection.is_closed()


def test_head_and_body_are_the_requests_own_while_garbage_is_collected(site: Httpd) -> None:
    """RELIABILITY B3 34, CVE-2014-0242: strings are copied at start_response."""
    wrong: list[object] = []

    def client(number: int) -> None:
        for turn in range(25):
            name = f"n{number}t{turn}"
            response = ask(
                site.address,
                f"/collects_garbage?{name}",
                "POST",
                {"Transfer-Encoding": "chunked"},
                chunked(b"body"),
            )
            seen = (response.reason, response.header("X-" + name), response.header("Content-Type"))
            if (*seen, response.text) != (name, name * 50, "text/" + name, name * 2):
                wrong.append(response)

    threads = [threading.Thread(target=client, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    ("query", "is_sent"),
    [("32000&8", True), ("32000&9", False), ("33000", False), ("500000", False), ("1&501", False)],
)
def test_response_head_has_bounds_that_the_log_names(
    site: Httpd, mode: str, query: str, is_sent: bool
) -> None:
    """TENANTS 6, for an embedded application too."""
    if not is_sent:
        site.log.expect("GL0302.*more than 32768 bytes, more than 500 fields.*262144 bytes in all")
    response = ask(site.address, f"/long_header?{query}")
    refused = 500 if mode == "embedded" else 502
    assert response.status == (200 if is_sent else refused)
    assert bool(response.all("X-Long")) is is_sent
