# SPDX-License-Identifier: Apache-2.0
"""RELIABILITY B2: what a hostile worker does reaches its own request and no other.

A real httpd and supervisor; the group's `python=` is fake_worker.py."""

from __future__ import annotations

import http.client
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import conf
from harness.httpd import Httpd, new_root

from . import fake_worker

HERE = Path(__file__).parent
PATIENCE = 15.0


@pytest.fixture(scope="module")
def liar() -> Iterator[Httpd]:
    """One httpd with a group of one fake worker, and short timeouts."""
    root = new_root()
    shutil.copytree(
        HERE.parent / "harness", root / "harness", ignore=shutil.ignore_patterns("__pycache__")
    )
    (root / "faults").mkdir()
    fake = root / "faults" / "fake"
    fake.write_text(f"#!{sys.executable} -B\n" + (HERE / "fake_worker.py").read_text())
    fake.chmod(0o755)
    (root / "app.wsgi").write_text("")
    server = Httpd(
        [
            f'WSGIDaemonProcess liars threads=5 home=/ python="{fake}" socket-timeout=1',
            "Timeout 3",  # the default of response-timeout and queue-timeout
            f'WSGIScriptAlias / "{root}/app.wsgi" process-group=liars application-group=%{{GLOBAL}}',
            *conf.granted(root),
        ],
        root=root,
    )
    server.start()
    yield server
    server.stop()
    server.remove()


def ask(server: Httpd, lie: str) -> tuple[int, bytes, http.client.HTTPResponse]:
    """IncompleteRead or a broken connection: the response was cut, and looked so."""
    connection = http.client.HTTPConnection(*server.address, timeout=PATIENCE)
    try:
        connection.request("GET", f"/?lie={lie}")
        response = connection.getresponse()
        return response.status, response.read(), response
    finally:
        connection.close()


def check_others(server: Httpd) -> None:
    assert ask(server, "none")[:2] == (200, b"hello")


@pytest.mark.parametrize("lie", fake_worker.BEFORE_HEAD)
def test_a_broken_rule_before_the_head_is_a_502(liar: Httpd, lie: str) -> None:
    status, _, response = ask(liar, lie)
    assert status == 502
    assert response.getheader("X-Evil") is None
    check_others(liar)


@pytest.mark.parametrize("lie", fake_worker.AFTER_HEAD)
def test_a_broken_rule_after_the_head_cuts_the_response(liar: Httpd, lie: str) -> None:
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        ask(liar, lie)
    check_others(liar)


def test_frames_may_come_byte_by_byte(liar: Httpd) -> None:
    assert ask(liar, "one-byte-writes")[:2] == (200, b"hello")


def test_what_follows_the_end_reaches_nobody(liar: Httpd) -> None:
    assert ask(liar, "body-after-end")[:2] == (200, b"hello")
    check_others(liar)


def test_a_worker_that_always_refuses_is_a_503_with_retry_after(liar: Httpd) -> None:
    status, _, response = ask(liar, "refuse-forever")
    assert (status, response.getheader("Retry-After")) == (503, "1")


def test_a_worker_that_never_answers_is_a_504(liar: Httpd) -> None:
    assert ask(liar, "never-answers")[0] == 504
    check_others(liar)


def test_an_emergency_in_the_log_is_an_error_and_its_lines_stay_apart(liar: Httpd) -> None:
    ask(liar, "log-emergency")
    assert ":error]" in liar.log.wait_for("line1$")
    assert ":error]" in liar.log.wait_for(r"FAKE \\x1b\[2J line2$")


def test_a_location_goes_to_the_client_and_nowhere_else(liar: Httpd) -> None:
    status, _, response = ask(liar, "location")
    assert (status, response.getheader("Location")) == (200, "/secret")
