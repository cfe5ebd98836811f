# SPDX-License-Identifier: Apache-2.0
"""What a worker is, and what it still sees of httpd, of root and of other groups.

RELIABILITY A1, A2, B1#2 to #6, #10, #11 and #14; TENANTS 1 and 2. One httpd with TLS, a module that
leaks descriptors, another host's secret, and an embedded application beside groups of two users."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sight
from harness import conf
from harness import site as sites
from harness.httpd import Httpd, new_root, own_address
from sight import User

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: users are really changed"),
]

HERE = Path(__file__).parent
UID, GID = 61301, 61311  # numbers that no user has
SECRET = f"pyglue-secret-{secrets.token_hex(16)}"
# What httpd was started with: the first may reach workers, the others are httpd's alone.
PASSED_ON = {"KEPT": "as it is", "PYTHONHASHSEED": "7"}
HELD_BACK = {
    "LD_BIND_NOW": "1", "GLIBC_TUNABLES": "glibc.malloc.check=0", "MALLOC_ARENA_MAX": "3",
    "OPENSSL_CONF": "/dev/null", "GCONV_PATH": "/nowhere", "PYTHONHOME": "/usr",
    "NOTIFY_SOCKET": "/nowhere", "LISTEN_PID": "1", "LISTEN_FDNAMES": "x",
    "CREDENTIALS_DIRECTORY": "/nowhere", "SSH_AUTH_SOCK": "/nowhere", "SUDO_USER": "someone",
    "KRB5CCNAME": "/nowhere", "DBUS_SESSION_BUS_ADDRESS": "unix:path=/nowhere",
}  # fmt: skip


def compiled_module(folder: Path) -> list[str]:
    """The LoadModule line of leaks_descriptors.c."""

    def ask(*names: str) -> list[str]:
        return [subprocess.check_output(["apxs", "-q", name], text=True).strip() for name in names]

    target = folder / "mod_leaks_descriptors.so"
    includes = [f"-I{path}" for path in ask("INCLUDEDIR", "APR_INCLUDEDIR")]
    flags = [flag for text in ask("EXTRA_CPPFLAGS") for flag in text.split()]
    subprocess.run(["cc", "-shared", "-fPIC", *includes, *flags, "-o", target,
                    HERE / "leaks_descriptors.c"], check=True)  # fmt: skip
    return [f'LoadModule leaks_descriptors_module "{target}"']


def primes_of(key: Path) -> set[bytes]:
    """Both primes of an RSA key, as files and as memory have them."""
    text = subprocess.check_output(["openssl", "rsa", "-in", key, "-noout", "-text"],
                                   text=True, stderr=subprocess.DEVNULL)  # fmt: skip
    found = re.findall(r"prime\d:\n((?: {4}[0-9a-f:]+\n)+)", text)
    primes = [bytes.fromhex(re.sub(r"[\s:]", "", digits)).lstrip(b"\0") for digits in found]
    assert len(primes) == 2
    return {form for prime in primes for form in (prime, prime[::-1])}


def tls_host(folder: Path) -> list[str]:
    """A virtual host with a key and a secret of its own."""
    key, certificate = folder / "tls.key", folder / "tls.crt"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key,
                    "-out", certificate, "-subj", "/CN=tests.invalid", "-days", "1"],
                   check=True, stderr=subprocess.DEVNULL)  # fmt: skip
    host, port = own_address()
    return [
        f"Listen {host}:{port}",
        f"<VirtualHost {host}:{port}>", "ServerName secret.invalid", "SSLEngine on",
        f'SSLCertificateFile "{certificate}"', f'SSLCertificateKeyFile "{key}"',
        f'SetEnv PASSWORD "{SECRET}"', "</VirtualHost>",
    ]  # fmt: skip


def python_that_tells(folder: Path, tell: Path) -> Path:
    """A copy of python_that_tells that writes to `tell`."""
    made = folder / "python_that_tells"
    text = (HERE / made.name).read_text().replace("@REAL@", str(conf.prefix() / "bin" / "python"))
    made.write_text(text.replace("@TELL@", str(tell)))
    made.chmod(0o755)
    return made


@dataclass(frozen=True)
class Town:
    """The httpd of this file and who lives in it."""

    server: Httpd
    member: User

    @property
    def primes(self) -> set[bytes]:
        return primes_of(self.server.root / "tls.key")

    @property
    def one(self) -> int:
        """The worker of a user without a name."""
        return sight.supervised(self.server, UID)

    @property
    def two(self) -> int:
        """The worker of `member`: umask, home, environ and no_new_privs as the group says."""
        return sight.supervised(self.server, self.member.uid)

    @property
    def child(self) -> int:
        return sight.children(self.server)[0]

    @property
    def told(self) -> dict[str, Any]:
        """How the second worker was started, in its own words."""
        return dict(json.loads((self.server.root / "two" / "told").read_text()))


@pytest.fixture(scope="module")
def town(member: User) -> Iterator[Town]:
    root = new_root()
    shutil.copytree(HERE.parent / "apps" / "tries", root / "tries")
    home = root / "two"
    home.mkdir()
    os.chown(home, member.uid, member.gid)
    python = python_that_tells(root, home / "told")
    lines = [
        *compiled_module(root),
        *tls_host(root),
        f"WSGIDaemonProcess one user=#{UID} group=#{GID} threads=2",
        f"WSGIDaemonProcess two user={member.name} group={member.name} threads=2 umask=0027"
        f" home={home} environ=inherit no-new-privs=off python={python}",
        "WSGIApplicationGroup %{GLOBAL}",
        *(f'WSGIScriptAlias /{name} "{root}/tries/wsgi.py" process-group={name}'
          for name in ("one", "two")),
        f'WSGIScriptAlias /embedded "{root}/tries/wsgi.py"',
        *conf.granted(root),
    ]  # fmt: skip
    server = Httpd(lines, root=root, modules=["ssl"], environ=PASSED_ON | HELD_BACK)
    server.start()
    for mount in ("one", "two", "embedded"):
        sight.attempt(server, mount, "setuid")
    yield Town(server, member)
    for line in ("PG1103", r"\[ssl:warn\]"):  # a certificate for a test is not a good one
        server.log.allow(line)
    sites.end(server)


# Memory.


@pytest.mark.looks_inside
def test_no_worker_holds_a_tls_key_or_another_hosts_secret(town: Town) -> None:
    """RELIABILITY A1. httpd's parent and child hold both: the scan can see them."""
    primes, secret = town.primes, SECRET.encode()
    for pid in (town.server.pid, town.child):
        found = sight.found_in_memory(pid, {*primes, secret})
        assert secret in found
        assert found & primes
    for pid in (town.one, town.two, sight.supervisor(town.server)):
        assert not sight.found_in_memory(pid, {*primes, secret})


def shared_memories(pid: int) -> list[str]:
    """Mappings that others may write to, less those of the system's own files (gconv's cache)."""
    shared = [mapping for mapping in sight.mappings(pid) if mapping.mode[3] == "s"]
    return [m.name for m in shared if m.mode[1] == "w" or not m.name.startswith("/usr/")]


@pytest.mark.looks_inside
def test_workers_map_no_shared_memory_but_their_own_record(town: Town) -> None:
    for pid in (town.one, town.two):
        assert shared_memories(pid) == ["/memfd:pyglue-record (deleted)"]


@pytest.mark.looks_inside
def test_children_cannot_make_the_pages_writable(town: Town) -> None:
    """TENANTS 1: asked by an embedded application, which runs in the child."""
    pages = [m for m in sight.mappings(town.child) if "pyglue-pages" in m.name]
    assert [mapping.mode for mapping in pages] == ["r--s"]
    refused = sight.attempt(town.server, "embedded", "make-writable",
                            start=pages[0].start, length=pages[0].end - pages[0].start)  # fmt: skip
    assert refused == "EACCES"


def test_the_supervisor_maps_the_pages_and_reads_the_rows_without_mapping_them(town: Town) -> None:
    assert shared_memories(sight.supervisor(town.server)) == ["/memfd:pyglue-pages (deleted)"]


@pytest.mark.looks_inside
def test_all_memories_are_closed_to_other_users(town: Town) -> None:
    """A memfd is 0777 when made, and /proc/PID/fd opens it anew with other rights."""
    modes = {
        target: os.stat(f"/proc/{pid}/fd/{fd}").st_mode & 0o777
        for pid in town.server.processes()
        for fd, target in sight.descriptors(pid).items() if "memfd:pyglue" in target
    }  # fmt: skip
    assert {"pages", "rows", "record"} <= {target.split()[0].split("-")[1] for target in modes}
    assert set(modes.values()) == {0o600}


@pytest.mark.parametrize("what", ["shrink-record", "grow-record"])
def test_the_size_of_a_record_is_sealed(town: Town, what: str) -> None:
    assert sight.attempt(town.server, "one", what) == "EPERM"


def read_from(path: Path) -> None:
    with path.open("rb") as file:
        file.read(1)


def test_httpds_children_are_closed_to_their_own_user(town: Town) -> None:
    """TENANTS 4: other processes under httpd's user cannot read the workers' keys."""
    child = town.child

    uid, gid = (int(sight.status(child)[name].split()[0]) for name in ("Uid", "Gid"))
    for name in ("mem", "maps", "environ", "fd/0"):
        path = Path(f"/proc/{child}/{name}")
        assert sight.as_user(uid, gid, partial(read_from, path)) == "PermissionError"


@pytest.mark.parametrize("file", ["environ", "mem", "maps", "fd/5"])
def test_a_worker_cannot_look_into_one_of_another_user(town: Town, file: str) -> None:
    """RELIABILITY B1#10; the second: a look at itself is allowed."""
    assert sight.attempt(town.server, "one", "read", path=f"/proc/{town.two}/{file}") == "EACCES"
    assert sight.attempt(town.server, "one", "read", path="/proc/self/environ") is None


@pytest.mark.parametrize("file", ["environ", "mem", "maps", "fd"])
def test_a_worker_can_look_into_no_process_but_itself(town: Town, file: str) -> None:
    """httpd's, the supervisor's, other groups' and whoever else runs: asked for each."""
    own, server = town.one, town.server
    pids = {*server.processes(), 1, os.getpid()} - {own}
    assert {town.two, town.child, server.pid, sight.supervisor(server)} <= pids
    refused = {
        sight.attempt(server, "one", "list" if file == "fd" else "read", path=f"/proc/{pid}/{file}")
        for pid in pids
    }
    assert refused <= {"EACCES", "ENOENT"}


def test_a_file_under_the_groups_umask_is_closed_to_another_group(town: Town) -> None:
    """It must take others' rights away: the default, 0022, does not (TENANTS 7)."""
    closed, open_to_all = town.server.root / "two" / "of-two", town.server.root / "of-one"
    town.server.root.joinpath("two").chmod(0o755)  # the folder shall not be what refuses
    open_to_all.touch()
    os.chown(open_to_all, UID, GID)
    assert sight.attempt(town.server, "two", "write", path=closed) is None
    assert sight.attempt(town.server, "two", "read", path=closed) is None
    assert closed.stat().st_mode & 0o777 == 0o640
    for what in ("read", "write"):
        assert sight.attempt(town.server, "one", what, path=closed) == "EACCES"
    assert sight.attempt(town.server, "one", "write", path=open_to_all) is None
    assert sight.attempt(town.server, "two", "read", path=open_to_all) is None


def test_an_application_reaches_no_workers_socket_not_even_its_own(town: Town) -> None:
    """RELIABILITY B1#7: they are httpd's user's alone."""
    sockets = list(town.server.root.glob("wsgi.*/*.sock"))
    assert len(sockets) == 2
    for group in ("one", "two"):
        for path in sockets:
            assert sight.attempt(town.server, group, "connect", path=path) == "EACCES"


# Descriptors.


def held_by(pid: int) -> set[str]:
    """What it has open, less what has no identity."""
    targets = set(sight.descriptors(pid).values())
    return {name for name in targets if name != "/dev/null" and not name.startswith("anon_inode:")}


def test_the_module_has_leaked_descriptors_into_httpd(town: Town) -> None:
    """Else the tests below prove nothing."""
    assert list(sight.descriptors(town.server.pid).values()).count("/dev/zero") >= 50


def test_a_worker_is_started_with_the_descriptors_of_the_plan(town: Town) -> None:
    """RELIABILITY A2, B1#5; docs/plan.md 4."""
    kinds = {int(fd): target.split(":")[0] for fd, target in town.told["fds"].items()}
    assert kinds == {0: "/dev/null", 1: "pipe", 2: "pipe", 3: "pipe", 4: "socket",
                     5: "/memfd", 6: "pipe", 7: "pipe", 8: "/memfd"}  # fmt: skip
    pipes = town.told["fds"]
    assert pipes["1"] == pipes["2"] == pipes["7"], "the log pipe"
    assert len({pipes[fd] for fd in ("1", "3", "6")}) == 3


@pytest.mark.looks_inside
def test_a_running_worker_holds_nothing_of_httpds(town: Town) -> None:
    foreign = held_by(town.server.pid) | held_by(town.child)
    for pid in (town.one, town.two):
        assert not held_by(pid) & foreign
        own = ("pipe:", "socket:", "/memfd:pyglue-record", "/memfd:pyglue-scripts")
        assert all(target.startswith(own)
                   for target in held_by(pid))  # fmt: skip


@pytest.mark.looks_inside
def test_workers_share_no_descriptor_with_each_other(town: Town) -> None:
    pipes = [{target for target in held_by(pid) if "[" in target} for pid in (town.one, town.two)]
    assert not pipes[0] & pipes[1]


def test_the_supervisor_holds_nothing_that_leaked(town: Town) -> None:
    assert "/dev/zero" not in sight.descriptors(sight.supervisor(town.server)).values()


# Environment.


@pytest.mark.looks_inside
def test_with_two_users_the_environment_is_clean(town: Town) -> None:
    """DESIGN 2."""
    own = {"HOME", "USER", "LOGNAME", "PYGLUE_GROUP"}
    assert set(sight.environ(town.one)) <= {"PATH", "LANG", *own}
    assert sight.environ(town.one)["LANG"] == "C.UTF-8"
    town.server.log.wait_for("GL0103.*clean environment")


def test_environ_inherit_brings_httpds_back_without_what_is_httpds_alone(town: Town) -> None:
    """TENANTS 3, rule 7."""
    started = dict(pair.split("=", 1) for pair in town.told["environ"])
    assert PASSED_ON.items() <= started.items()
    assert not HELD_BACK.keys() & started.keys()
    assert started["HOME"] == "/"
    assert started["USER"] == started["LOGNAME"] == town.member.name


def test_the_supervisors_environment_is_made_from_scratch(town: Town) -> None:
    supervisor = sight.supervisor(town.server)
    assert set(sight.environ(supervisor)) == {"PATH", "LANG"}
    assert "/root" not in sight.environ(supervisor)["PATH"]


# As whom.


def test_user_and_groups_are_exactly_the_configured_ones(town: Town) -> None:
    """RELIABILITY B1#2."""
    one, two = sight.status(town.one), sight.status(town.two)
    assert one["Uid"].split() == [str(UID)] * 4
    assert one["Gid"].split() == [str(GID)] * 4
    assert one["Groups"].split() == [str(GID)]
    assert two["Uid"].split() == [str(town.member.uid)] * 4
    assert two["Gid"].split() == [str(town.member.gid)] * 4
    assert sorted(map(int, two["Groups"].split())) == town.member.groups
    assert len(town.member.groups) == 3


@pytest.mark.parametrize("group", ["one", "two"])
def test_no_capability_is_left(town: Town, group: str) -> None:
    status = sight.status(getattr(town, group))
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}


def test_no_new_privs_is_on_unless_the_group_says_otherwise(town: Town) -> None:
    """RELIABILITY B1#11; the bounding set goes with it."""
    one, two = sight.status(town.one), sight.status(town.two)
    assert (one["NoNewPrivs"], one["CapBnd"]) == ("1", "0" * 16)
    assert two["NoNewPrivs"] == "0"
    assert two["CapBnd"] == sight.status(sight.supervisor(town.server))["CapBnd"]


@pytest.mark.parametrize("call", ["setuid", "seteuid", "setgid", "setgroups"])
@pytest.mark.parametrize("group", ["one", "two"])
def test_an_application_cannot_become_root(town: Town, group: str, call: str) -> None:
    assert sight.attempt(town.server, group, call) == "EPERM"


def test_an_application_cannot_signal_supervisor_or_httpd(town: Town) -> None:
    """RELIABILITY B1#13."""
    server = town.server
    for pid in (sight.supervisor(server), server.pid, town.child, town.two):
        assert sight.attempt(server, "one", "kill", pid=pid) == "EPERM"


@pytest.mark.looks_inside
def test_umask_and_current_folder_are_the_groups(town: Town) -> None:
    assert (town.told["umask"], town.told["cwd"]) == (0o027, str(town.server.root / "two"))
    assert sight.status(town.one)["Umask"] == "0022"
    assert os.readlink(f"/proc/{town.one}/cwd") == "/"


def test_the_supervisor_is_isolated_from_its_surroundings(town: Town) -> None:
    """TENANTS 2: flags, folder, umask, session; signals that others send to httpd's group."""
    pid = sight.supervisor(town.server)
    command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    assert command[1:4] == [b"-I", b"-S", b"-B"]
    assert command[0].startswith(bytes(conf.prefix()))
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert sight.status(pid)["Umask"] == "0077"
    assert os.getsid(pid) == os.getpgid(pid) == pid
    ignored = int(sight.status(pid)["SigIgn"], 16)
    assert ignored & 1 << 0 and ignored & 1 << 1, "SIGHUP and SIGINT"


# Lies.


@pytest.mark.parametrize("how", ["spoil-record", "forge-record"])
def test_garbage_in_a_record_harms_nobody_while_requests_run(town: Town, how: str) -> None:
    """RELIABILITY B1#14: the supervisor reads the record when the worker dies."""
    server, supervisor, child = town.server, sight.supervisor(town.server), town.child
    before = town.one
    for _ in range(5):
        assert sight.attempt(server, "one", how) is None
        assert sight.attempt(server, "two", "setuid") == "EPERM"
    os.kill(before, 9)
    server.wait_for_exit(before)
    line = server.log.wait_for(f"PG1103: .*pid {before}")
    assert len(line) < 8192 and line.isprintable()
    assert server.log.text().count(f"pid {before})") == 1, "one line"
    assert sight.attempt(server, "one", "setuid") == "EPERM"
    assert sight.attempt(server, "two", "setuid") == "EPERM"
    assert (sight.supervisor(server), town.child) == (supervisor, child)
