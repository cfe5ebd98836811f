# SPDX-License-Identifier: Apache-2.0
"""Who reaches a worker's socket, and who does not: RELIABILITY B1#7, #8 and B2#22; TENANTS 4."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import sight
from harness import conf
from harness import site as sites
from harness.client import wait_until
from harness.httpd import Httpd, new_root
from harness.wire import KEY_SIZE, Peer, hello

from pyglue import _pages

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: sockets are given to users"),
]

APPS = Path(__file__).parent.parent / "apps"
UID, GID = 61301, 61311  # the group's: numbers that no user has
STRANGER = 61303
PAGES = 4  # the supervisor's descriptor


@dataclass(frozen=True)
class Entry:
    """What httpd's children know of a worker."""

    number: int
    path: Path
    key: bytes


def entries(server: Httpd) -> list[Entry]:
    """The workers that are published."""
    fd = os.open(f"/proc/{sight.supervisor(server)}/fd/{PAGES}", os.O_RDONLY | os.O_CLOEXEC)
    pages = _pages.map(fd, False)
    os.close(fd)
    found = (pages.read_worker(slot) for slot in range(16))
    return [Entry(w[0], Path(os.fsdecode(w[4])), w[5]) for w in found if w and w[2] == 1]


def the_entry(server: Httpd) -> Entry:
    """The only worker's, as soon as there is one."""
    wait_until(lambda: len(entries(server)) == 1, "one worker is published")
    return entries(server)[0]


def lines(root: Path) -> list[str]:
    shutil.copytree(APPS / "tries", root / "tries")
    return [
        f"WSGIDaemonProcess one user=#{UID} group=#{GID} threads=2",
        f'WSGIScriptAlias / "{root}/tries/wsgi.py" process-group=one application-group=%{{GLOBAL}}',
        *conf.granted(root),
    ]


def httpds_user(server: Httpd) -> tuple[int, int]:
    status = sight.status(sight.children(server)[0])
    return int(status["Uid"].split()[0]), int(status["Gid"].split()[0])


@pytest.fixture(scope="module")
def server() -> Iterator[Httpd]:
    root = new_root()
    started = Httpd(lines(root), root=root).start()
    yield started
    for line in ("PG1103", "the peer broke the protocol", "was not of httpd's user"):
        started.log.allow(line)
    sites.end(started)


@pytest.fixture
def own_server(folder: Path, start_httpd: Callable[..., Httpd]) -> Httpd:
    """For a test that spoils it."""
    return start_httpd(lines(folder), root=folder)


def test_sockets_are_httpds_alone_in_a_folder_of_roots(server: Httpd) -> None:
    path = the_entry(server).path
    uid, _ = httpds_user(server)
    for what, mode, owner in ((path, 0o600, uid), (path.parent, 0o711, 0)):
        found = what.lstat()
        assert (found.st_mode & 0o7777, found.st_uid) == (mode, owner)


def test_socket_user_alone_may_speak_to_the_workers(
    folder: Path, start_httpd: Callable[..., Httpd]
) -> None:
    """For an httpd whose children run as another user than User. Here they do not, and get none."""
    first, *rest = lines(folder)
    server = start_httpd([f"{first} socket-user=#{STRANGER}", *rest], root=folder)
    server.log.expect("Permission denied.*GL0503.*socket-user= gives it to another user")
    server.log.allow("GL0506")
    entry = the_entry(server)
    assert entry.path.lstat().st_uid == STRANGER

    def threads() -> int:
        with Peer.connect(entry.path) as peer:
            return peer.greet(entry.number, entry.key)

    assert sight.as_user(STRANGER, STRANGER, threads) == 2
    assert sight.ask(server, "/?what=setuid")[0] in (500, 503)


@pytest.mark.parametrize("uid", [UID, STRANGER])
def test_another_local_user_cannot_connect(server: Httpd, uid: int) -> None:
    """The group's own user neither: he has no business at httpd's end."""
    path = the_entry(server).path
    assert sight.as_user(uid, uid, lambda: Peer.connect(path).close()) == "PermissionError"


def test_a_process_of_httpds_user_without_the_key_gets_no_answer(server: Httpd) -> None:
    """CGI and PHP run as that user. The control: with the key there is one."""
    entry = the_entry(server)

    def is_refused(key: bytes, number: int = entry.number) -> bool:
        with Peer.connect(entry.path) as peer:
            peer.send(hello(number, key))
            return peer.is_closed()

    def threads() -> int:
        with Peer.connect(entry.path) as peer:
            return peer.greet(entry.number, entry.key)

    user = httpds_user(server)
    almost = entry.key[:-1] + bytes([entry.key[-1] ^ 1])
    assert sight.as_user(*user, threads) == 2
    for key in (bytes(KEY_SIZE), almost):
        assert sight.as_user(*user, partial(is_refused, key)) is True
    assert sight.as_user(*user, lambda: is_refused(entry.key, entry.number + 1)) is True


def test_the_key_alone_is_not_enough(server: Httpd) -> None:
    """Requests come from httpd's user only: root, with the right key, may only say "leave"."""
    entry = the_entry(server)
    with Peer.connect(entry.path) as peer:
        peer.send(hello(entry.number, entry.key))
        assert peer.is_closed()


def test_each_incarnation_has_its_own_number_socket_and_key(server: Httpd) -> None:
    before = the_entry(server)
    os.kill(sight.supervised(server, UID), signal.SIGKILL)
    wait_until(lambda: {e.number for e in entries(server)} - {before.number}, "a new one is there")
    after = the_entry(server)
    assert after.number > before.number
    assert after.path != before.path
    assert after.key != before.key
    wait_until(lambda: not before.path.exists(), "its socket is withdrawn")
    assert len(list(after.path.parent.iterdir())) == 1


@pytest.mark.looks_inside
def test_the_key_is_in_neither_environment_nor_arguments(server: Httpd) -> None:
    pid, key = sight.supervised(server, UID), the_entry(server).key
    shown = b"".join(Path(f"/proc/{pid}/{name}").read_bytes() for name in ("environ", "cmdline"))
    assert key not in shown
    assert key.hex().encode() not in shown


def test_an_impostor_on_a_workers_path_is_told_nothing(own_server: Httpd) -> None:
    """The child asks the kernel who called listen() before it says the key."""
    path = the_entry(own_server).path
    path.rename(path.with_suffix(".real"))
    with socket.socket(socket.AF_UNIX) as impostor:
        impostor.bind(str(path))
        os.chmod(path, 0o666)
        # The kernel notes whoever calls listen(), and the socket is shared with this process.
        assert sight.as_user(UID, GID, lambda: impostor.listen()) is None
        own_server.log.allow("wsgi:")
        code, _ = sight.ask(own_server, "/?what=setuid")
        assert code >= 500
        impostor.setblocking(False)
        caller, _ = impostor.accept()
        with caller:
            caller.settimeout(10)
            assert caller.recv(1) == b"", "it closed without a word"
    path.with_suffix(".real").rename(path)
    assert sight.ask(own_server, "/?what=setuid") == (200, b'"EPERM"')


def test_root_holds_no_socket_of_a_worker_not_even_of_one_that_never_speaks(
    folder: Path, start_httpd: Callable[..., Httpd]
) -> None:
    """TENANTS 2, rule 4: whatever can be attached to it would be closed by root, and may block."""
    python = folder / "silent"
    python.write_text("#!/bin/sh\nexec sleep 30\n")
    python.chmod(0o755)
    group = f"WSGIDaemonProcess silent user=#{UID} group=#{GID} launch-timeout=20 python={python}"
    server = start_httpd([group], root=folder)
    server.log.allow("PG11")
    supervisor = sight.supervisor(server)
    wait_until(lambda: any(folder.glob("wsgi.*/*.sock")), "a worker is launched")

    def held() -> list[str]:
        return [t for t in sight.descriptors(supervisor).values() if t.startswith("socket:")]

    wait_until(lambda: len(held()) == 1, "all that root holds is the socket to httpd's parent")


def strangers_folder(path: Path) -> None:
    path.mkdir()
    os.chown(path, STRANGER, STRANGER)


def link_to_a_folder(path: Path) -> None:
    target = path.with_name("elsewhere")
    strangers_folder(target)
    path.symlink_to(target)


@pytest.mark.parametrize("prepare", [strangers_folder, link_to_a_folder])
def test_a_socket_folder_that_somebody_else_made_is_refused(
    folder: Path, start_httpd: Callable[..., Httpd], prepare: Callable[[Path], None]
) -> None:
    """Its name can be known before: the groups come with a graceful restart here."""
    server = start_httpd([], root=folder)
    trap = folder / f"wsgi.{server.pid}.1"
    prepare(trap)
    before = trap.stat()
    server.log.expect("PG1105: .*the socket directory .* cannot be used.*WSGISocketPrefix")
    server.log.allow("GL05")
    server.configure(lines(folder))
    server.graceful()
    server.log.wait_for("PG1105")
    assert sight.ask(server, "/?what=setuid")[0] == 500
    after = trap.stat()
    assert (after.st_uid, after.st_mode) == (before.st_uid, before.st_mode)
    assert list(trap.iterdir()) == []
