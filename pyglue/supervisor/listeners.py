# SPDX-License-Identifier: Apache-2.0
"""One listening socket for each worker incarnation, in a directory of the supervisor's own.

The directory may lie where others can write (a sticky /tmp), so it is made by mkdir and proved by
fstat; inside it only we can write, and names are used relative to its descriptor. The supervisor
calls listen(), because connecting children check the uid of whoever did (TENANTS.md section 4), and
lets nobody connect while it holds the socket: closing it would also close what others have attached
to it, and that can block for ever (section 5).
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

SUN_PATH = 108
WRITABLE_BY_OTHERS = 0o022


class ListenError(Exception):
    """No socket; the text names the directory and what to do."""


def _remedy(directory: str, problem: str) -> ListenError:
    return ListenError(
        f"the socket directory {directory} cannot be used: {problem}. "
        "Set WSGISocketPrefix to a path in a directory that only root can write"
    )


@dataclass(slots=True)
class Listener:
    """Of one incarnation. The worker gets a copy of `sock` by the fork; ours is closed then."""

    path: str
    sock: socket.socket | None

    def release(self) -> None:
        if self.sock is not None:
            self.sock.close()
            self.sock = None


class Directory:
    """`PREFIX.PARENT.EPOCH`, mode 0711. Made when first needed, also after somebody removed it, and
    removed at the end."""

    def __init__(self, prefix: str, parent: int, epoch: int) -> None:
        self._family = f"{prefix}.{parent}."
        self._epoch = epoch
        self.path = f"{self._family}{epoch}"
        self._fd = -1

    def listen(self, number: int, backlog: int) -> Listener:
        """A socket for this worker, which nobody but us can connect to yet."""
        name = f"{number}.sock"
        path = f"{self.path}/{name}"
        if len(os.fsencode(path)) >= SUN_PATH:
            raise _remedy(
                self.path, f"the path of a socket would be longer than {SUN_PATH - 1} bytes"
            )
        self._open()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self._fd)
            sock.bind(f"/proc/self/fd/{self._fd}/{name}")
            os.chmod(name, 0o600, dir_fd=self._fd)
            sock.listen(backlog)
        except OSError as error:
            sock.close()
            raise _remedy(self.path, str(error.strerror)) from error
        return Listener(path, sock)

    # A socket has a new name each time, and what pathlib takes apart CPython 3.12 keeps for ever.

    def give(self, listener: Listener, uid: int) -> None:
        """To httpd's children, of this uid, who can connect from now on. Ours is closed."""
        listener.release()
        if uid == os.geteuid():
            return
        name = os.path.basename(listener.path)
        try:
            os.chown(name, uid, -1, dir_fd=self._fd, follow_symlinks=False)
        except OSError as error:
            raise _remedy(self.path, str(error.strerror)) from error

    def remove_socket(self, listener: Listener) -> None:
        listener.release()
        with contextlib.suppress(OSError):
            os.unlink(os.path.basename(listener.path), dir_fd=self._fd)

    def remove(self) -> None:
        """At the end: this directory, and what supervisors of older epochs had to leave behind."""
        for epoch in range(1, self._epoch + 1):
            _remove_directory(f"{self._family}{epoch}")
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def is_lost(self) -> bool:
        """True once after it was removed: nobody can connect to what was in it."""
        if self._fd < 0 or self._is_there():
            return False
        os.close(self._fd)
        self._fd = -1
        return True

    def _is_there(self) -> bool:
        try:
            named = os.stat(self.path, follow_symlinks=False)
        except OSError:
            return False
        return os.path.samestat(named, os.fstat(self._fd))

    def _open(self) -> None:
        if self._fd >= 0:
            return
        try:
            _check_parent(str(Path(self.path).parent))
            with contextlib.suppress(FileExistsError):
                Path(self.path).mkdir(0o700)
            self._fd = _open_own(self.path)
            os.fchmod(self._fd, 0o711)
        except OSError as error:
            raise _remedy(self.path, str(error.strerror)) from error


def _check_parent(parent: str) -> None:
    """Whoever can rename in it could put another directory in our one's place."""
    info = os.stat(parent)
    if info.st_uid not in (0, os.geteuid()):
        raise _remedy(parent, f"it belongs to uid {info.st_uid}")
    if info.st_mode & WRITABLE_BY_OTHERS and not info.st_mode & stat.S_ISVTX:
        raise _remedy(parent, "others can write to it")


def _open_own(path: str) -> int:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    info = os.fstat(fd)
    if info.st_uid != os.geteuid() or info.st_mode & WRITABLE_BY_OTHERS:
        os.close(fd)
        raise _remedy(path, "it exists, and belongs to another user or others can write to it")
    return fd


def _remove_directory(path: str) -> None:
    try:
        fd = _open_own(path)
    except (OSError, ListenError):
        return
    with contextlib.suppress(OSError):
        for name in os.listdir(fd):
            os.unlink(name, dir_fd=fd)
        os.rmdir(path)
    os.close(fd)
