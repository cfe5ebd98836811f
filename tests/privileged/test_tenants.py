# SPDX-License-Identifier: Apache-2.0
"""What lies in a tenant's folder, and who may touch it: RELIABILITY B1#9; TENANTS 2, rules 7 to 9.

Paths are replaced by links to /etc/shadow and by FIFOs: root reads none of them, and nothing
waits but the group that has them."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import sight
import traced
from harness import conf
from harness import site as sites
from harness.client import wait_until
from harness.httpd import Httpd, new_root

from pyglue.errors import ScriptFileError
from pyglue.loader import script

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: users are really changed"),
]

APPS = Path(__file__).parent.parent / "apps"
UID, GID = 61301, 61311  # the tenant's: numbers that no user has
SHADOW = Path("/etc/shadow")
TIMEOUTS = "launch-timeout=2 shutdown-timeout=1 socket-timeout=5"


def give(path: Path) -> Path:
    """To the tenant."""
    os.chown(path, UID, GID, follow_symlinks=False)
    return path


def tenants_folder(root: Path) -> Path:
    """With a script and an environment; all of it his."""
    made = root / "tenant"
    shutil.copytree(APPS / "tries", made)
    python = made / "env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to("/usr/bin/python3")
    (made / "env" / "pyvenv.cfg").write_text("home = /usr/bin\n")
    for path in (made, *made.rglob("*")):
        give(path)
    return made


def group(folder: Path, options: str = "") -> list[str]:
    return [
        f"WSGIDaemonProcess shop user=#{UID} group=#{GID} threads=2 {TIMEOUTS} {options}",
        f'WSGIScriptAlias / "{folder}/wsgi.py" process-group=shop application-group=%{{GLOBAL}}',
        *conf.granted(folder),
    ]


def using_all(folder: Path) -> list[str]:
    """Every option that names something of the tenant's."""
    return group(folder, f"home={folder} python-home={folder}/env python-path={folder}/lib")


# Nothing as root.


def test_syntax_check_touches_nothing_of_a_tenants(folder: Path) -> None:
    """`httpd -t`, and what it prints of the plan."""
    mine, log = tenants_folder(folder), folder / "strace"
    server = Httpd(using_all(mine), root=folder)
    for options in (["-t"], ["-t", "-D", "DUMP_WSGI_PLAN"]):
        said = traced.files_of(server.command(*options), log)
        assert said.returncode == 0, said.stdout
        assert any(call.name == "openat" for call in traced.calls(log))
        assert traced.naming(log, mine) == []


@pytest.mark.looks_inside
def test_root_touches_nothing_of_a_tenants_from_start_to_stop(
    folder: Path, start_httpd: Callable[..., Httpd]
) -> None:
    """Start, request, reload by touch, crash, graceful restart: parent, supervisor, and the worker
    before it has become the tenant."""
    mine, log = tenants_folder(folder), folder / "strace"
    server = start_httpd([], root=folder)
    wait_until(lambda: "resuming" in server.log.text(), "httpd has started")
    server.log.allow("PG1103")
    server.configure(using_all(mine))
    with traced.strace(server.pid, log, f"--trace=%file,{traced.IDENTITY}"):
        server.graceful()
        assert sight.ask(server, "/?what=setuid") == (200, b'"EPERM"')
        first = sight.supervised(server, UID)
        os.utime(mine / "wsgi.py")
        wait_until(lambda: first not in server.workers() and server.workers(), "a touch reloads")
        os.kill(sight.supervised(server, UID), signal.SIGKILL)
        assert sight.ask(server, "/?what=setuid") == (200, b'"EPERM"')
        server.graceful()
        assert sight.ask(server, "/?what=setuid") == (200, b'"EPERM"')
    touched = traced.naming(log, mine)
    assert [call for call in touched if call.as_root] == []
    for name, file in (("openat", "wsgi.py"), ("openat", "pyvenv.cfg"), ("execve", "bin/python")):
        assert [call for call in touched if call.name == name and file in call.text]


@pytest.mark.parametrize("option", ["user=root", "user=#0", "group=root", "group=#0"])
def test_root_as_user_or_group_is_refused_by_the_syntax_check(folder: Path, option: str) -> None:
    """RELIABILITY B1#3."""
    server = Httpd(group(folder, option), root=folder)
    said = server.test_configuration()
    assert said.returncode != 0
    name, value = option.split("=")
    assert f"{name}=: '{value}'" in said.stdout or f"{name}= '{value}'" in said.stdout
    assert "root" in said.stdout


@pytest.mark.parametrize("directive", ["User", "Group"])
def test_a_group_that_would_run_as_httpds_root_is_refused(folder: Path, directive: str) -> None:
    """It names nobody, and httpd's own is root."""
    server = Httpd([f"{directive} #0", "WSGIDaemonProcess shop"], root=folder)
    said = server.test_configuration()
    assert said.returncode != 0
    assert "root" in said.stdout


@pytest.mark.parametrize(("options", "is_told"), [(f"user=#{UID} group=#{GID}", True), ("", False)])
def test_core_dumps_of_httpd_beside_a_group_of_another_user_are_warned_of(
    folder: Path, options: str, is_told: bool
) -> None:
    """TENANTS 4, rule 5: they make httpd's children, and the keys in them, readable."""
    server = Httpd(
        [f"CoreDumpDirectory {folder}", f"WSGIDaemonProcess shop {options}"], root=folder
    )
    said = server.test_configuration()
    assert said.returncode == 0
    assert ("GL0109" in said.stdout and "'shop'" in said.stdout) is is_told
    assert "GL0110" not in said.stdout


# Hostile paths.


@dataclass(frozen=True)
class Trap:
    """What a tenant has put in the place of something, and the options that lead there."""

    lay: Callable[[Path], object]
    options: str
    message: str  # in the error log


def shadow(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(SHADOW)


def fifo(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def in_environment(lay: Callable[[Path], None], name: str) -> Callable[[Path], None]:
    return lambda folder: lay(folder / "env" / name)


DENIED = r"failed at 'execve': Permission denied"
TRAPS = {
    "script-is-shadow": Trap(lambda f: shadow(f / "wsgi.py"), "",
                             r"wsgi\.py' cannot be read: Permission denied"),
    "script-is-fifo": Trap(lambda f: fifo(f / "wsgi.py"), "", r"wsgi\.py' is not a regular file"),
    "python-is-shadow": Trap(in_environment(shadow, "bin/python"), "python-home={}/env", DENIED),
    "python-is-fifo": Trap(in_environment(fifo, "bin/python"), "python-home={}/env", DENIED),
    "python-option-is-shadow": Trap(in_environment(shadow, "own"), "python={}/env/own", DENIED),
    "pyvenv-hangs": Trap(in_environment(fifo, "pyvenv.cfg"), "python-home={}/env",
                         r"PG1106: .* did not report within launch-timeout"),
    "python-home-is-fifo": Trap(lambda f: fifo(f / "fifo"), "python-home={}/fifo",
                                r"failed at 'execve': Not a directory"),
    "home-is-fifo": Trap(lambda f: fifo(f / "fifo"), "home={}/fifo",
                         r"failed at 'chdir': Not a directory"),
    "home-is-shadow": Trap(lambda f: shadow(f / "link"), "home={}/link",
                           r"failed at 'chdir': Not a directory"),
    "python-path-is-fifo": Trap(lambda f: fifo(f / "fifo"), "python-path={}/fifo", ""),
}  # fmt: skip


@pytest.fixture(scope="module")
def street() -> Iterator[Httpd]:
    """One httpd with a group for each trap, and one without."""
    root = new_root()
    lines = []
    for name, trap in {"good": Trap(lambda _: None, "", ""), **TRAPS}.items():
        (root / name).mkdir()
        mine = tenants_folder(root / name)
        trap.lay(mine)
        options = trap.options.format(mine)
        lines += [
            f"WSGIDaemonProcess {name} user=#{UID} group=#{GID} threads=2 {TIMEOUTS} {options}",
            f'WSGIScriptAlias /{name} "{mine}/wsgi.py" process-group={name}'
            " application-group=%{GLOBAL}",
            *conf.granted(mine),
        ]
    server = Httpd(lines, root=root).start()
    yield server
    server.log.allow("PG1|GL0|script '")
    sites.end(server)


@pytest.mark.parametrize("name", TRAPS)
def test_a_trap_in_a_tenants_folder_ends_his_own_group(street: Httpd, name: str) -> None:
    code, body = sight.ask(street, f"/{name}?what=setuid")
    if not TRAPS[name].message:
        assert (code, body) == (200, b'"EPERM"')
        return
    assert code >= 500 or code == 403
    assert b"root:" not in body
    line = street.log.wait_for(TRAPS[name].message)
    assert "root:" not in line
    assert sight.ask(street, "/good?what=setuid") == (200, b'"EPERM"')


# Owners of scripts.

ANSWERS = """
open({mark!r}, "w").close()
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"mine" if {is_mine} else b"stolen"]
"""
STRANGER = 61303


@dataclass(frozen=True)
class Owned:
    """A folder with the script that requests name, and two others to put there."""

    folder: Path

    def write(self, name: str, owner: int, *, is_mine: bool) -> Path:
        path = self.folder / name
        mark = str(self.folder / f"ran-{name}")
        path.write_text(ANSWERS.format(mark=mark, is_mine=is_mine))
        os.chown(path, owner, owner)
        return path

    def has_run(self, name: str) -> bool:
        return (self.folder / f"ran-{name}").exists()

    def serve(self, path: Path) -> None:
        """By a link, swapped at once."""
        link = self.folder / "new"
        link.symlink_to(path)
        link.rename(self.folder / "wsgi.py")


@pytest.fixture
def owned(folder: Path) -> Owned:
    mine = folder / "mine"
    mine.mkdir()
    os.chown(mine, UID, UID)
    return Owned(mine)


@pytest.mark.parametrize("what", ["user", "group"])
def test_a_script_of_another_owner_is_refused_and_not_run(
    owned: Owned, start_httpd: Callable[..., Httpd], what: str
) -> None:
    """TENANTS 2, rule 7: the worker looks at what it has opened, here through a link of its own."""
    owned.serve(owned.write("bad", STRANGER, is_mine=False))
    server = start_httpd(group(owned.folder, f"script-{what}=#{UID}"))
    server.log.expect(f"belongs to {what} {STRANGER}, but script-{what} allows {UID} only")
    server.log.allow("script '|PG1104")
    code, body = sight.ask(server, "/")
    assert code == 403
    assert sight.ask(server, "/")[0] == 403, "and as long as it is so"
    assert b"stolen" not in body
    owned.serve(owned.write("good", UID, is_mine=True))
    wait_until(lambda: sight.ask(server, "/") == (200, b"mine"), "the own script is served")
    assert not owned.has_run("bad")


@pytest.mark.parametrize("name", ["", "good"])
@pytest.mark.parametrize(("what", "mode"), [("user", 0o020), ("user", 0o002), ("group", 0o002)])
def test_a_script_or_folder_that_others_can_write_is_refused(
    owned: Owned, start_httpd: Callable[..., Httpd], what: str, mode: int, name: str
) -> None:
    """As mod_wsgi does."""
    owned.serve(owned.write("good", UID, is_mine=True))
    path = owned.folder / name
    path.chmod(path.stat().st_mode | mode)
    server = start_httpd(group(owned.folder, f"script-{what}=#{UID}"))
    server.log.expect(f"can be written by others than {what} {UID}")
    server.log.allow("script '|PG1104")
    assert sight.ask(server, "/")[0] == 403
    assert not owned.has_run("good")


@pytest.fixture
def swapped(owned: Owned) -> Iterator[Owned]:
    """The script is his own and a stranger's in turn, as fast as links can be renamed."""
    scripts = [owned.write("good", UID, is_mine=True), owned.write("bad", STRANGER, is_mine=False)]
    owned.serve(scripts[0])
    is_over = threading.Event()

    def swap() -> None:
        for path in itertools.cycle(scripts):
            owned.serve(path)
            if is_over.is_set():
                return

    swapping = threading.Thread(target=swap)
    swapping.start()
    yield owned
    is_over.set()
    swapping.join()


def test_swapping_links_never_gets_a_strangers_script_run(
    swapped: Owned, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loaded again and again, here by the loader alone, until both were met."""
    monkeypatch.setattr(script, "policy", script.Policy(uid=UID))
    path, met, module = str(swapped.folder / "wsgi.py"), set[str](), None

    def both_were_met() -> bool:
        nonlocal module
        try:
            module = script.find(path, "application", module)[0]
            met.add("good")
        except ScriptFileError as error:
            assert "belongs to" in str(error)
            met.add("bad")
        return len(met) == 2

    for _ in range(50):
        wait_until(both_were_met, "the good script was run, and the other one refused")
        met.clear()
    assert swapped.has_run("good")
    assert not swapped.has_run("bad")
