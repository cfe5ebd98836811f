# SPDX-License-Identifier: Apache-2.0
"""`pyglue reload` by tenants: the kernel says who may signal whom. TENANTS 2, rule 6."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import sight
from harness import conf
from harness.client import wait_until
from harness.httpd import Httpd

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: users are really changed"),
]

APPS = Path(__file__).parent.parent / "apps"
TENANTS = {"one": 61301, "two": 61302}  # numbers that no user has


@pytest.fixture
def start_town(folder: Path, start_httpd: Callable[..., Httpd]) -> Callable[..., Httpd]:
    def start(options: str = "") -> Httpd:
        shutil.copytree(APPS / "who", folder / "who")
        lines = [*conf.granted(folder)]
        for name, uid in TENANTS.items():
            lines += [
                f"WSGIDaemonProcess {name} user=#{uid} group=#{uid} threads=2 {options}",
                f'WSGIScriptAlias /{name} "{folder}/who/wsgi.py" process-group={name} '
                "application-group=%{GLOBAL}",
            ]
        server = start_httpd(lines, root=folder)
        for name in TENANTS:
            assert sight.ask(server, f"/{name}")[0] == 200
        return server

    return start


def worker_of(server: Httpd, group: str) -> int:
    """By its own word: display-name= hides it."""
    return int(json.loads(sight.ask(server, f"/{group}")[1])["pid"])


def reload(
    server: Httpd, group: str, *arguments: str, uid: int = 0, gid: int | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [conf.prefix() / "bin" / "pyglue", "reload", group, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=90,
        check=False,
        user=uid,
        group=uid if gid is None else gid,
        extra_groups=[],
        cwd="/",
    )


def test_tenant_reloads_his_own_group_and_no_other(start_town: Callable[..., Httpd]) -> None:
    server = start_town()
    one, two = (worker_of(server, name) for name in TENANTS)

    told = reload(server, "one", uid=TENANTS["one"])
    assert told.returncode == 0, told.stdout
    server.wait_for_exit(one)
    assert worker_of(server, "one") != one

    told = reload(server, "two", uid=TENANTS["one"])
    assert told.returncode == 1
    assert "process group 'two' runs as user #61302: only that user and root can" in told.stdout
    assert worker_of(server, "two") == two


def test_root_reloads_any_group(start_town: Callable[..., Httpd]) -> None:
    server = start_town("display-name=shown dumpable=off")
    old = worker_of(server, "two")
    told = reload(server, "two", "-f", str(server.root / "httpd.conf"))
    assert told.returncode == 0, told.stdout
    server.wait_for_exit(old)


def test_worker_whose_group_is_closed_to_its_user_is_named_to_him(
    start_town: Callable[..., Httpd],
) -> None:
    """He may signal it himself."""
    server = start_town("display-name=shown dumpable=off")
    worker = worker_of(server, "one")
    told = reload(server, "one", uid=TENANTS["one"])
    assert told.returncode == 1
    assert str(worker) in told.stdout and "the group cannot be seen from here" in told.stdout


def test_tenants_of_another_primary_group_reload_theirs(start_town: Callable[..., Httpd]) -> None:
    """The environment of their worker is closed to them, its command line is not."""
    server = start_town()
    old = worker_of(server, "one")
    told = reload(server, "one", uid=TENANTS["one"], gid=61999)
    assert told.returncode == 0, told.stdout
    server.wait_for_exit(old)


FAKE = """
import os, subprocess, sys
child = subprocess.Popen(["wsgi:ready"], executable=sys.argv[-1], stdin=subprocess.PIPE)
print(child.pid, flush=True)
sys.stdin.read()
child.stdin.close()
child.wait()
"""


def test_process_that_passes_for_a_worker_is_not_taken_for_one(
    folder: Path, start_town: Callable[..., Httpd]
) -> None:
    """A tenant starts what looks like a supervisor of his, to have root signal a program that runs
    as root: the name of a program is that of its first thread."""
    server = start_town()
    fake, program = folder / "pyglue" / "supervisor" / "__main__.py", folder / "wsgi:ready"
    fake.parent.mkdir(parents=True)
    fake.write_text(FAKE)
    shutil.copy("/bin/cat", program)
    program.chmod(0o4755)
    with subprocess.Popen(
        ["/usr/bin/python3", str(fake), "--parent", "1", str(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PYGLUE_GROUP": "two"},
        user=TENANTS["one"],
        group=TENANTS["one"],
        extra_groups=[],
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        child = int(process.stdout.readline())
        wait_until(lambda: "wsgi:ready" in sight.status(child)["Name"], "it has its name")
        assert sight.status(child)["Uid"].split()[1] == "0", "it runs as root"
        told = reload(server, "two")
        assert told.returncode == 0, told.stdout
        assert sight.status(child)["State"][0] in "SR", "it was not signalled"
        process.stdin.close()
