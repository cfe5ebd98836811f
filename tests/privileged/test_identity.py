# SPDX-License-Identifier: Apache-2.0
"""supplementary-groups=: exactly those that were listed, and the primary one."""

from __future__ import annotations

import grp
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sight
from harness import conf
from harness.httpd import Httpd, complaint

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: users are really changed"),
]

Start = Callable[..., Httpd]
APPS = Path(__file__).parent.parent / "apps"


def groups_of(start_httpd: Start, folder: Path, options: str) -> list[int]:
    """Those of a worker, sorted."""
    shutil.copy(APPS / "process" / "wsgi.py", folder / "app.py")
    alias = f'WSGIScriptAlias / "{folder}/app.py" process-group=own application-group=%{{GLOBAL}}'
    lines = [f"WSGIDaemonProcess own {options}", alias, *conf.granted(folder)]
    code, body = sight.ask(start_httpd(lines), "/")
    assert code == 200
    return sorted(json.loads(body)["groups"])


def test_without_the_option_a_user_has_his_own_groups(
    start_httpd: Start, folder: Path, member: sight.User
) -> None:
    options = f"user={member.name} group={member.name}"
    assert groups_of(start_httpd, folder, options) == member.groups


@pytest.mark.parametrize("listed", ["", "#61500", "#61500,#61400", "{extra},#61500", "{primary}"])
def test_a_user_has_the_listed_groups_and_his_primary_one(
    start_httpd: Start, folder: Path, member: sight.User, listed: str
) -> None:
    """As mod_wsgi: what he is a member of beyond is not added. A name, numbers, none."""
    extra = grp.getgrnam(f"{member.name}-a").gr_gid
    text = listed.format(extra=f"{member.name}-a", primary=member.name)
    numbers = {f"{member.name}-a": extra, member.name: member.gid, "#61500": 61500, "#61400": 61400}
    options = f"user={member.name} group={member.name} supplementary-groups={text}"
    expected = {member.gid, *(numbers[word] for word in text.split(",") if word)}
    assert groups_of(start_httpd, folder, options) == sorted(expected)


@pytest.fixture
def roots_friend(member: sight.User) -> Iterator[sight.User]:
    """A member of root's group as well."""
    subprocess.run(["gpasswd", "--add", member.name, "root"], check=True)
    yield member
    subprocess.run(["gpasswd", "--delete", member.name, "root"], check=True)


@pytest.mark.parametrize(("options", "is_warned"), [("", True), ("supplementary-groups=", False)])
def test_account_that_brings_roots_group_along_is_told(
    folder: Path, roots_friend: sight.User, options: str, is_warned: bool
) -> None:
    line = f"WSGIDaemonProcess own user={roots_friend.name} {options}"
    said = Httpd([line], root=folder).test_configuration()
    assert said.returncode == 0
    told = f"GL0112: process group 'own': its user '{roots_friend.name}'"
    assert (told in said.stdout) is is_warned


@pytest.mark.parametrize(
    ("listed", "told"),
    [
        ("no-such-group", "'no-such-group' is no group of this machine"),
        ("#61500,", "'' is no group"),
        ("#61500,,#61501", "'' is no group"),
        (",", "'' is no group"),
        ("#61500,#0", "'#0' is root's group"),
        ("root", "'root' is root's group"),
        ("#4294967295", "'#4294967295' is no group"),
        ("#61500 ,#61501", "is not of the form"),
    ],
)
def test_a_mistake_in_the_list_is_named(listed: str, told: str) -> None:
    assert told in complaint([f"WSGIDaemonProcess own supplementary-groups={listed}"])


def of_numbers(count: int) -> str:
    return ",".join(f"#{100_000 + number}" for number in range(count))


def test_more_groups_than_the_kernel_allows_are_refused() -> None:
    most = os.sysconf("SC_NGROUPS_MAX")
    line = f"WSGIDaemonProcess own supplementary-groups={of_numbers(most)}"
    assert f"{most} groups and the primary one are more than" in complaint([line])


def test_as_many_groups_as_the_kernel_allows_are_set(start_httpd: Start, folder: Path) -> None:
    """A plan of some hundred kilobytes."""
    most = os.sysconf("SC_NGROUPS_MAX")
    found = groups_of(start_httpd, folder, f"supplementary-groups={of_numbers(most - 1)}")
    assert len(found) == most
