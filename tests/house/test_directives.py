# SPDX-License-Identifier: Apache-2.0
"""The reference of directives is whole, and a mistake is refused with what would be allowed."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from harness.httpd import Httpd, complaint

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
HTTPDS_OWN = {"AddHandler, SetHandler"}
OPTION_ROW = re.compile(r'(?:OPTION|FLAG|INTEGER|MEMORY|DURATION|SIZE|BUFFER)\("([a-z-]+)"')


def words(pattern: str, page: str) -> set[str]:
    return set(re.findall(pattern, (REFERENCE / page).read_text(), re.MULTILINE))


def test_httpd_and_the_page_know_the_same_directives(folder: Path) -> None:
    httpd = Httpd([], root=folder)
    listing = subprocess.run(
        httpd.command("-L"), stdout=subprocess.PIPE, text=True, timeout=30, check=True
    ).stdout
    known = set(re.findall(r"^(\S+) \(mod_wsgi\.c\)", listing, re.MULTILINE))

    assert words(r"^### (.+)$", "directives.md") - HTTPDS_OWN == known


def test_each_option_of_a_process_group_is_on_its_page() -> None:
    rows = set(OPTION_ROW.findall((ROOT / "apache_module" / "glue_options.c").read_text()))
    cells = words(r"^\| (`[a-z].*?) \|", "daemon-options.md")

    assert {name for cell in cells for name in re.findall(r"`([a-z-]+)=`", cell)} == rows


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("WSGIScriptReloading maybe", "WSGIScriptReloading: 'maybe' is not one of On, Off"),
        (
            "WSGIDaemonProcess a threads=many",
            "threads=: 'many' is not a whole number from 1 to 1023",
        ),
        ("WSGIDaemonProcess a threads=5x", "threads=: '5x' is not a whole number"),
        ("WSGIDaemonProcess a processes=0", "processes=: '0' is not a whole number"),
        ("WSGIDaemonProcess a umask=99", "umask=: '99' is not an octal number"),
        ("WSGIDaemonProcess a startup-timeout=5x", "startup-timeout=: '5x' is not a duration"),
        ("WSGIDaemonProcess a processes=0-0", "processes=: '0-0' is not a whole number"),
        ("WSGIDaemonProcess a processes=3-2", "processes=: '3-2' is not a whole number"),
        ("WSGIDaemonProcess a processes=1-257", "or two of them as LEAST-MOST"),
        ("WSGIDaemonProcess a processes=1-", "processes=: '1-' is not a whole number"),
        ("WSGIDaemonProcess a inactivity-timeout=x", "inactivity-timeout=: 'x' is not a duration"),
        ("WSGIDaemonProcess a reload=soon", "reload=: 'soon' is not one of strict, rolling"),
        ("WSGIDaemonProcess a request-timeout=long", "request-timeout=: 'long' is not a duration"),
        ("WSGIDaemonProcess a interrupt-timeout=-1", "interrupt-timeout=: '-1' is not a duration"),
        ("WSGIDaemonProcess a deadlock-timeout=5d", "deadlock-timeout=: '5d' is not a duration"),
        ("WSGIDaemonProcess a restart-interval=", "restart-interval=: '' is not a duration"),
        ("WSGIDaemonProcess a rss-limit=half", "rss-limit=: 'half' is not a size"),
        ("WSGIDaemonProcess a rss-limit=1025G", "rss-limit=: '1025G' is not a size"),
        ("WSGIDaemonProcess a drain-timeout=soon", "drain-timeout=: 'soon' is not a duration"),
        ("WSGIDaemonProcess a graceful-timeout=-1", "graceful-timeout=: '-1' is not a duration"),
        ("WSGIDaemonProcess a eviction-timeout=1d", "eviction-timeout=: '1d' is not a duration"),
        ("WSGIDaemonProcess a send-buffer-size=100", "send-buffer-size=: '100' is not a size"),
        ("WSGIDaemonProcess a home=rel", "home=: 'rel' is not an absolute path"),
        ("WSGIDaemonProcess a environ=some", "environ=: 'some' is not one of"),
        ("WSGIDaemonProcess a user=root", "user=: 'root' is root"),
        ("WSGIDaemonProcess a user=#0", "user=: '#0' is root"),
        ("WSGIDaemonProcess a user=no-such-user", "'no-such-user' is no user of this machine"),
        ("WSGIDaemonProcess a colour=red", "'colour' is no option of a process group"),
        ("WSGIDaemonProcess a junk", "'junk' is not of the form name=value"),
        ("WSGIDaemonProcess a lang= junk", "'junk' is not of the form name=value"),
        ("WSGIDaemonProcess", "the name of the process group is missing"),
        ("WSGIDaemonProcess a\nWSGIDaemonProcess a", "'a' is defined already at"),
        ("WSGIScriptAlias /x", "a URL and a file or folder are needed"),
        ("WSGIScriptAlias /x /y colour=red", "is not an option"),
        ("WSGIScriptAliasMatch (x /y", "'(x' is not a regular expression"),
        (
            "WSGIScriptAlias /x /y process-group=z application-group=%{GLOBAL}",
            "'z' is not defined by a WSGIDaemonProcess above",
        ),
        ("WSGIImportScript /x process-group=%{GLOBAL}", "application-group= are both needed"),
    ],
)
def test_a_mistake_is_refused_with_what_is_allowed(line: str, words: str) -> None:
    assert words in complaint(line.splitlines())


@pytest.mark.parametrize(
    "line",
    [
        "WSGIDaemonProcess a startup-timeout=5m shutdown-timeout=500ms umask=0027",
        "WSGIDaemonProcess a lang= locale=C display-name=%{GROUP}",
        "WSGIScriptAlias /x /y pass-authorization=on",
        "WSGIRestrictProcess",
        "WSGILazyInitialization On",
        "<IfModule !mod_wsgi.c>\nmod_wsgi is not there\n</IfModule>",
    ],
)
def test_what_mod_wsgi_accepts_is_accepted(line: str, folder: Path) -> None:
    answer = Httpd(line.splitlines(), root=folder).test_configuration()

    assert answer.returncode == 0, answer.stdout


def test_an_unknown_process_group_is_a_warning_only(folder: Path) -> None:
    answer = Httpd(["WSGIProcessGroup nowhere"], root=folder).test_configuration()

    assert answer.returncode == 0
    assert "no WSGIDaemonProcess defines 'nowhere'" in answer.stdout
