# SPDX-License-Identifier: Apache-2.0
"""Whether a user can reach a file, and what is in the way.

The answer is the kernel's: a child takes the user's identity and tries each step of the path, so
that access lists and capabilities count as they will for the server."""

import grp
import os
import pwd
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pyglue.errors import PyglueError


@dataclass(frozen=True)
class User:
    """A user and group by name and number."""

    name: str
    uid: int
    group: str
    gid: int

    @classmethod
    def named(cls, user: str, group: str | None) -> "User":
        try:
            entry = pwd.getpwuid(int(user[1:])) if user.startswith("#") else pwd.getpwnam(user)
        except (KeyError, ValueError):
            raise PyglueError(f"--user {user}: there is no such user on this machine.") from None
        try:
            gid = grp.getgrnam(group).gr_gid if group else entry.pw_gid
        except KeyError:
            raise PyglueError(f"--group {group}: there is no such group on this machine.") from None
        return cls(entry.pw_name, entry.pw_uid, group or grp.getgrgid(gid).gr_name, gid)


@contextmanager
def open_to_all() -> Iterator[None]:
    """What is made meanwhile can be read by httpd's user and the workers', whatever our umask."""
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)


def obstacle(path: Path, user: User | None) -> str | None:
    """What keeps `user` (None: whoever runs this) from reading the file: a sentence, or None."""
    blocked = as_user(user, path) if user else blocked_at(path)
    who = user.name if user else "you"
    if blocked is None:
        return None
    if not blocked:
        return f"{path} is not a file that {who} can read"
    if not os.path.lexists(blocked):
        return f"{blocked} does not exist"
    if Path(blocked) == path:
        return f"{path} may not be read by {who}: give it read permission (chmod o+r {path})"
    return (
        f"the folder {blocked} may not be entered by {who}, so {path} is out of reach: "
        f"chmod o+x {blocked}, or move it to where all may enter, such as /srv"
    )


def closed_folder(path: Path) -> str | None:
    """The first folder above the path that this process may not enter."""
    closed = (folder for folder in reversed(path.parents) if not os.access(folder, os.X_OK))
    return str(folder) if (folder := next(closed, None)) else None


def blocked_at(path: Path) -> str | None:
    """The first part of the path that this process may not pass; "": it is no file; None: free."""
    if (folder := closed_folder(path)) is not None:
        return folder
    if not os.access(path, os.R_OK):
        return str(path)
    return None if path.is_file() else ""


def closed_to(uid: int, gid: int, path: Path) -> str | None:
    """What `closed_folder` says in a child that has become that user, with his groups."""
    try:
        groups = os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)
    except KeyError:  # a number without a name has its group alone
        groups = [gid]
    told = answered_as(uid, gid, groups, lambda: b"+" + os.fsencode(closed_folder(path) or ""))
    return os.fsdecode(told[1:]) or None


def as_user(user: User, path: Path) -> str | None:
    """What `blocked_at` says in a child that has become `user`."""

    def look() -> bytes:
        found = blocked_at(path)
        return b"-" if found is None else b"+" + os.fsencode(found)

    told = answered_as(user.uid, user.gid, os.getgrouplist(user.name, user.gid), look)
    return None if told == b"-" else os.fsdecode(told[1:])


def answered_as(uid: int, gid: int, groups: Sequence[int], look: Callable[[], bytes]) -> bytes:
    """What `look` returns in a child that has become somebody, if we are root; else in ours."""
    if os.geteuid() != 0:
        return look()
    answer, tell = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups(groups)
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            os.write(tell, look())
            status = 0
        finally:
            os._exit(status)
    os.close(tell)
    with os.fdopen(answer, "rb") as pipe:
        told = pipe.read()
    if os.waitpid(child, 0)[1] != 0 or not told:
        raise PyglueError(f"cannot become user {uid} to look at the application: a limited root?")
    return told
