# SPDX-License-Identifier: Apache-2.0
"""The privileged step: starts a program as another user. docs/privileges.md has its steps."""

from collections.abc import Sequence

REPORT_SIZE: int
EXIT_STATUS: int  # of a child in which a step failed

def spawn(
    *,
    argv: Sequence[bytes],
    executable: bytes,
    env: Sequence[bytes],
    fds: Sequence[int],
    uid: int,
    gid: int,
    groups: Sequence[int],
    privileged: bool,
    umask: int = -1,
    home: bytes | None = None,
    chroot: bytes | None = None,
    rlimits: Sequence[tuple[int, int, int]] = (),
    nice: int = 0,
    no_new_privs: bool = True,
    cgroup_procs: Sequence[int] = (),
    home_optional: bool = False,
    otherwise: bytes | None = None,
) -> tuple[int, int, int]:
    """Returns at once: pid, pidfd (-1: the kernel has none), read end of the report pipe.

    Both descriptors are the caller's to close. The pipe gives REPORT_SIZE bytes for `describe`
    when a step failed, else end-of-file once execve has happened; only the worker's hello is
    success. ValueError: a plan that must not run. OSError: nothing was started.
    """

def steps() -> list[str]: ...
def describe(report: bytes, /) -> tuple[str, int]:
    """The step and its errno; 0: the kernel said yes, and the effect did not show."""
