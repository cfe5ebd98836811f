# SPDX-License-Identifier: Apache-2.0
"""Files and syslog are written by a process that may hang; the supervisor may not."""

from __future__ import annotations

import os
import signal
import socket
import syslog
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyglue.supervisor import scribe as scribes
from pyglue.supervisor.logs import ErrorLog, Logs, ScribedLog, open_logs
from pyglue.supervisor.messages import Level
from pyglue.supervisor.scribe import Scribe, Syslog

SOON = 10.0


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "error_log"


@pytest.fixture
def scribe(log: Path) -> Iterator[Scribe]:
    made = Scribe([opened(log)])
    yield made
    made.close()
    made.wait(time.monotonic() + SOON)


def opened(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def wait_for(condition: Callable[[], Any]) -> None:
    until = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_lines_come_in_order_and_all_of_them_before_it_ends(scribe: Scribe, log: Path) -> None:
    lines = [b"[now] [wsgi:error] %d\n" % i for i in range(100)]
    for line in lines:
        wait_for(lambda line=line: scribe.write(0, Level.ERR, line, 0.0))
    scribe.close()
    scribe.wait(time.monotonic() + SOON)
    assert log.read_bytes() == b"".join(lines)
    with pytest.raises(ChildProcessError):
        os.waitpid(scribe.pid, os.WNOHANG)


def test_log_that_never_takes_a_line_does_not_block_who_writes() -> None:
    read, write = os.pipe()  # stands for a file on a dead server
    os.set_blocking(write, False)
    while True:
        try:
            os.write(write, b"x" * 4096)
        except BlockingIOError:
            break
    os.set_blocking(write, True)
    hung = Scribe([write])
    taken = 0
    while hung.write(0, Level.ERR, b"y" * 1000, 0.0):
        taken += 1
    assert 0 < taken < 10_000
    hung.close()
    hung.wait(time.monotonic())
    assert os.waitstatus_to_exitcode(os.waitpid(hung.pid, 0)[1]) == -signal.SIGKILL
    os.close(read)


def test_one_that_died_is_followed_by_another_but_not_more_than_once_a_second(
    scribe: Scribe, log: Path
) -> None:
    assert scribe.write(0, Level.ERR, b"[now] one\n", 100.0)
    wait_for(lambda: log.read_bytes())
    first = scribe.pid
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)
    assert not scribe.write(0, Level.ERR, b"[now] lost\n", 100.1)
    assert not scribe.write(0, Level.ERR, b"[now] lost\n", 100.9)
    assert scribe.write(0, Level.ERR, b"[now] two\n", 101.0)
    assert scribe.pid != first
    wait_for(lambda: log.read_bytes() == b"[now] one\n[now] two\n")


@pytest.mark.parametrize("where, name", [(os, "fork"), (socket, "socketpair")])
def test_lines_are_written_though_no_process_or_socket_can_be_had(
    scribe: Scribe, log: Path, monkeypatch: pytest.MonkeyPatch, where: Any, name: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError

    with monkeypatch.context() as patched:
        patched.setattr(where, name, refuse)
        assert scribe.write(0, Level.ERR, b"[now] why\n", 100.0)
        assert scribe.write(0, Level.ERR, b"[now] again\n", 100.5)
        assert scribe.pid == 0
    assert scribe.write(0, Level.ERR, b"[now] as ever\n", 102.0)
    assert scribe.pid != 0
    wait_for(lambda: log.read_bytes() == b"[now] why\n[now] again\n[now] as ever\n")


def test_it_holds_nothing_but_its_logs(scribe: Scribe, log: Path) -> None:
    assert scribe.write(0, Level.ERR, b"[now] one\n", 0.0)
    wait_for(lambda: log.read_bytes())
    folder = f"/proc/{scribe.pid}/fd"
    held = [os.readlink(f"{folder}/{fd}") for fd in os.listdir(folder)]
    assert sorted(name.partition(":")[0] for name in held) == sorted([str(log), "socket"])


def test_signals_of_a_service_manager_do_not_end_it_before_the_supervisor(
    scribe: Scribe, log: Path
) -> None:
    assert scribe.write(0, Level.ERR, b"[now] one\n", 0.0)
    wait_for(lambda: log.read_bytes())
    os.kill(scribe.pid, signal.SIGTERM)
    assert scribe.write(0, Level.ERR, b"[now] two\n", 0.0)
    wait_for(lambda: log.read_bytes().endswith(b"two\n"))


def test_full_disk_loses_lines_and_the_next_that_is_taken_is_preceded_by_their_number(
    log: Path,
) -> None:
    full, good = os.open("/dev/full", os.O_WRONLY), opened(log)
    book = scribes._Book(full)
    for _ in range(3):
        book.write(Level.ERR, b"[now] lost\n")
    book._log = good
    book.write(Level.ERR, b"[now] [wsgi:error] kept\n")
    told, kept = log.read_text().splitlines()
    assert "PG1012: 3 lines could not be written to this log: No space left on device" in told
    assert told.startswith("[now] [wsgi:warn]") and kept == "[now] [wsgi:error] kept"
    os.close(full)
    os.close(good)


@pytest.mark.parametrize(
    ("name", "facility", "tag"),
    [
        ("syslog", syslog.LOG_LOCAL7, "httpd"),
        ("syslog:user", syslog.LOG_USER, "httpd"),
        ("syslog:local1:shop", syslog.LOG_LOCAL1, "shop"),
        ("syslog::shop", syslog.LOG_LOCAL7, "shop"),
        ("syslog:nonsense", syslog.LOG_LOCAL7, "httpd"),
    ],
)
def test_syslog_is_named_as_in_httpd(name: str, facility: int, tag: str) -> None:
    assert Syslog.parse(name) == Syslog(facility, tag)


def test_syslog_gets_lines_without_the_time_which_it_has_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[tuple[object, ...]] = []
    monkeypatch.setattr(syslog, "openlog", lambda *args: sent.append(args))
    monkeypatch.setattr(syslog, "syslog", lambda *args: sent.append(args))
    book = scribes._Book(Syslog(syslog.LOG_USER, "shop"))
    book.write(Level.WARNING, b"[Thu Nov 26] [wsgi:warn] [pid 1] a line\n")
    assert sent == [
        ("shop", syslog.LOG_PID, syslog.LOG_USER),
        (syslog.LOG_WARNING, "[wsgi:warn] [pid 1] a line"),
    ]


def test_pipes_are_written_without_it_and_all_else_through_it(log: Path) -> None:
    read, write = os.pipe()
    logs, scribe = open_logs([write, opened(log), opened(log)], (None, None, "syslog:user"))
    assert [type(each) for each in logs] == [ErrorLog, ScribedLog, ScribedLog]
    assert scribe._logs[1] == Syslog(syslog.LOG_USER, "httpd")
    logs[0].close()
    scribe.close()
    os.close(read)


def test_logs_of_an_older_plan_go_with_the_last_group_that_writes_to_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "dup2", lambda *_: None)  # descriptors 1 and 2 are pytest's
    logs = Logs(2)
    (old,) = logs.take([opened(tmp_path / "old")])
    logs.assign(b"d" * 20, "shop", old, Level.WARNING)
    (new,) = logs.take([opened(tmp_path / "new")])
    logs.close_unused()
    assert old.write(Level.ERR, 1, "still here")
    (first,) = logs.scribes()
    logs.assign(b"d" * 20, "shop", new, Level.WARNING)
    logs.close_unused()
    assert os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]) == 0
    assert "still here" in (tmp_path / "old").read_text()
    logs.end()
