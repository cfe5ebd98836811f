# SPDX-License-Identifier: Apache-2.0
"""chroot=: a group whose Python, package, home and script lie within a folder of root's."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sight
from harness import conf
from harness.client import wait_until
from harness.httpd import Httpd, complaint, new_root

import pyglue

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the root folder is really changed"),
]

Start = Callable[..., Httpd]
UID = 61331  # a number that no user has
PYTHON = Path("/usr/bin/python3").resolve()
PACKAGE = Path(pyglue.__file__).parent
SCRIPT = """
import json, os
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({
        "root": sorted(os.listdir("/")), "cwd": os.getcwd(), "file": __file__, "pid": os.getpid(),
        "script": environ["SCRIPT_FILENAME"], "uid": os.getuid(), "data": open("data").read(),
    }).encode()]
"""


def link(source: str, target: str) -> None:
    """As a hard link, where both are of one file system."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def place(root: Path, path: Path) -> None:
    """The file or folder, at the same path within."""
    target = root / path.relative_to("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        left_out = shutil.ignore_patterns("__pycache__", "test", "idlelib", "dist-packages")
        shutil.copytree(path, target, ignore=left_out, copy_function=link)
    elif not target.exists():
        link(str(path.resolve()), str(target))


def libraries(files: list[Path]) -> set[Path]:
    """All that the dynamic linker would load for them."""
    said = subprocess.run(["ldd", *files], text=True, capture_output=True, check=True).stdout
    return {Path(path) for path in re.findall(r"(/\S+) \(0x", said)}


@pytest.fixture(scope="module")
def within() -> Iterator[Path]:
    """In root's own hands, as the jail demands; below /tmp others could write."""
    root = Path(tempfile.mkdtemp(dir="/opt", prefix="pyglue-chroot-"))
    root.chmod(0o755)
    stdlib = Path(sysconfig.get_path("stdlib", vars={"base": "/usr", "installed_base": "/usr"}))
    extensions = [*stdlib.glob("lib-dynload/*.so"), *PACKAGE.glob("_engine*.so")]
    for path in (PYTHON, stdlib, PACKAGE, *libraries([PYTHON, *extensions])):
        place(root, path)
    (root / "usr/bin/python3").unlink(missing_ok=True)
    (root / "usr/bin/python3").symlink_to(PYTHON.name)
    home = root / "srv/app"
    home.mkdir(parents=True)
    (home / "wsgi.py").write_text(SCRIPT)
    (home / "data").write_text("of home")
    yield root
    shutil.rmtree(root)


def lines_of(within: Path, options: str) -> list[str]:
    """The script is named as httpd sees it."""
    return [
        f"WSGIDaemonProcess shut user=#{UID} group=#{UID} chroot={within} {options}",
        f'WSGIScriptAlias / "{within}/srv/app/wsgi.py" process-group=shut'
        " application-group=%{GLOBAL}",
        *conf.granted(within / "srv/app"),
    ]


def facts(server: Httpd) -> dict[str, object]:
    code, body = sight.ask(server, "/")
    assert code == 200, (code, body)
    return dict(json.loads(body))


SOUND = f"python={PYTHON} home=/srv/app"


def test_all_of_a_group_lies_within(within: Path, start_httpd: Start) -> None:
    found = facts(start_httpd(lines_of(within, SOUND + " display-name=%{GROUP}")))
    assert found["root"] == sorted(os.listdir(within))
    assert (found["cwd"], found["data"], found["uid"]) == ("/srv/app", "of home", UID)
    assert found["file"] == found["script"] == "/srv/app/wsgi.py"
    assert os.readlink(f"/proc/{found['pid']}/root") == str(within)


def test_python_home_is_looked_for_within(within: Path, start_httpd: Start) -> None:
    """There is no bin/python in it, but a bin/python3."""
    assert facts(start_httpd(lines_of(within, "python-home=/usr home=/srv/app")))["uid"] == UID


def test_a_touch_and_a_graceful_restart_bring_new_workers_within(
    within: Path, start_httpd: Start
) -> None:
    """With a script that is loaded before a worker is ready."""
    lines = lines_of(within, SOUND)
    preload = f'WSGIImportScript "{within}/srv/app/wsgi.py" process-group=shut'
    server = start_httpd([lines[0], f"{preload} application-group=%{{GLOBAL}}", *lines[1:]])
    first = facts(server)["pid"]
    os.utime(within / "srv/app/wsgi.py")
    wait_until(lambda: facts(server)["pid"] != first, "a touch reloads")
    second = facts(server)["pid"]
    server.graceful()
    wait_until(lambda: facts(server)["pid"] not in (first, second), "a restart, too")


def test_a_group_may_preload_within(within: Path, start_httpd: Start) -> None:
    assert facts(start_httpd(lines_of(within, f"{SOUND} preload=On")))["uid"] == UID


def check(server: Httpd) -> subprocess.CompletedProcess[str]:
    command = [str(conf.prefix() / "bin/pyglue"), "check", "-f", f"{server.root}/httpd.conf"]
    return subprocess.run(command, text=True, timeout=120, capture_output=True)


def test_pyglue_check_tries_a_group_within(within: Path, folder: Path) -> None:
    """The alias leads to a file within; what is missing there is named."""
    said = check(Httpd(lines_of(within, SOUND), root=folder))
    assert (said.returncode, "shut (user " in said.stdout) == (0, True), said.stdout + said.stderr
    (within / "srv/app/wsgi.py").rename(within / "srv/app/away")
    try:
        said = check(Httpd(lines_of(within, SOUND), root=folder))
    finally:
        (within / "srv/app/away").rename(within / "srv/app/wsgi.py")
    assert said.returncode == 1
    assert "'/srv/app/wsgi.py' cannot be read" in said.stdout


@contextlib.contextmanager
def owned_by_a_tenant(folder: Path) -> Iterator[None]:
    os.chown(folder, UID, UID)
    try:
        yield
    finally:
        os.chown(folder, 0, 0)


def test_a_folder_in_a_tenants_hands_is_not_entered(within: Path, start_httpd: Start) -> None:
    with owned_by_a_tenant(within):
        server = start_httpd(lines_of(within, SOUND))
        server.log.expect(
            rf"PG1117.*failed at 'chroot': Operation not permitted .*{within}.*chroot= names"
        )
        server.log.allow("GL0506")
        assert sight.ask(server, "/")[0] == 500


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("python=/none/python home=/srv/app",
         r"failed at 'execve': No such file.*/none/python within chroot="),
        (f"python={PYTHON} home=/none", r"failed at 'chdir': No such file.*/none within chroot="),
    ],
)  # fmt: skip
def test_what_is_missing_within_is_named(
    within: Path, start_httpd: Start, options: str, told: str
) -> None:
    server = start_httpd(lines_of(within, options))
    server.log.expect(told)
    server.log.allow("GL0506")
    assert sight.ask(server, "/")[0] == 500


def test_a_relative_folder_is_refused_by_the_syntax_test() -> None:
    assert "chroot=: 'srv' is not an absolute path" in complaint(["WSGIDaemonProcess a chroot=srv"])


def test_an_httpd_that_is_not_roots_refuses_it() -> None:
    server = Httpd(["WSGIDaemonProcess a chroot=/srv"], root=new_root())
    try:
        said = subprocess.run(
            server.command("-t"), user=UID, group=UID, extra_groups=[], text=True, timeout=60,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    finally:
        server.remove()
    assert said.returncode != 0
    assert "chroot=: '/srv' needs an httpd that root starts" in said.stdout
