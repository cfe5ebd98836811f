# SPDX-License-Identifier: Apache-2.0
"""What the tests take for a fault in httpd's error log."""

from pathlib import Path

import pytest
from harness.errorlog import ErrorLog

PREFIX = "[Thu Nov 26 23:05:57.688601 2026]"
CRASH = f"{PREFIX} [core:notice] [pid 1:tid 1] AH00052: child pid 2 exit signal Segmentation fault"
NOTICE = f"{PREFIX} [mpm_event:notice] [pid 1:tid 1] AH00491: caught SIGTERM, shutting down"
WARNING = f"{PREFIX} [core:warn] [pid 1:tid 1] AH00001: beware"


@pytest.fixture
def log(tmp_path: Path) -> ErrorLog:
    return ErrorLog(tmp_path / "error.log")


def write(log: ErrorLog, *lines: str) -> None:
    with log.path.open("a") as file:
        file.write("".join(f"{line}\n" for line in lines))


def test_a_notice_is_none(log: ErrorLog) -> None:
    write(log, NOTICE)
    log.check()


@pytest.mark.parametrize("line", [WARNING, CRASH])
def test_a_warning_and_a_crash_are(log: ErrorLog, line: str) -> None:
    write(log, NOTICE, line)
    with pytest.raises(AssertionError, match="undeclared"):
        log.check()


def test_a_crash_of_children_that_are_told_to_end_is_httpds_own(log: ErrorLog) -> None:
    write(log, NOTICE)
    log.children_end()
    write(log, CRASH, NOTICE)
    log.check()
    write(log, CRASH)
    with pytest.raises(AssertionError, match="undeclared"):
        log.check()
