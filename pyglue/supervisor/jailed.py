# SPDX-License-Identifier: Apache-2.0
"""The one call of the privileged step, and its reports in words."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from pyglue import _jail

from .actions import Death
from .launch import Recipe, limits_of

# Steps taken as the group's user, on what his group names. All others are between root and kernel.
OWN_STEPS = frozenset({"chdir", "execve"})
REMEDIES = {
    "limits": ". cpu-time-limit=, memory-limit=, virtual-memory-limit= and process-limit= can be no"
    " more than httpd's own hard limits where httpd may not raise those (CAP_SYS_RESOURCE); without"
    " its limits no worker is started",
    "nice": ". cpu-priority= below httpd's own needs root, and CAP_SYS_NICE",
    "cgroup": ". The cgroup of its group cannot be joined, and no worker is started outside of it",
    "chroot": ". chroot= names a folder that exists, and of which each part, from / on, is a"
    " folder of root's that nobody else may write, and no link",
    "chdir": ". home= names a folder; the user of the group must be able to enter it",
    "execve": ". python-home= names an environment or prefix with bin/python or bin/python3 in it,"
    " as WSGIPythonHome does, and python= an executable; the user of the group must be able to"
    " reach and execute it",
}
COUNTED = frozenset({"setresuid", "execve"})  # where kernels enforce RLIMIT_NPROC
TOO_MANY = (
    ". The user of the group has more processes and threads than process-limit= allows, those of"
    " other groups and of other programs included"
)


def spawn(recipe: Recipe, fds: list[int], cgroups: Sequence[int] = ()) -> tuple[int, int, int]:
    """Pid, pidfd and report pipe, at once. OSError, ValueError: nothing runs."""
    definition = recipe.definition
    return _jail.spawn(
        argv=[os.fsencode(argument) for argument in recipe.argv],
        executable=os.fsencode(recipe.executable),
        otherwise=os.fsencode(recipe.otherwise) if recipe.otherwise else None,
        env=[os.fsencode(pair) for pair in recipe.environ],
        fds=fds,
        uid=definition.uid,
        gid=definition.gid,
        groups=definition.groups,
        privileged=recipe.privileged,
        umask=0o022 if definition.umask is None else definition.umask,
        rlimits=limits_of(definition),
        nice=definition.cpu_priority,
        home=os.fsencode(recipe.directory),
        home_optional=not definition.home,
        chroot=os.fsencode(definition.chroot) if definition.chroot else None,
        no_new_privs=definition.no_new_privs,
        cgroup_procs=cgroups,
    )


def file_of(step: str, recipe: Recipe) -> str:
    """What the step was about, as far as it has a name."""
    root = recipe.definition.chroot
    if step == "chroot":
        return str(root)
    file = recipe.directory if step == "chdir" else recipe.executable
    return f"{file} within chroot={root}" if root and step in OWN_STEPS else file


def describe(report: bytes, recipe: Recipe) -> Death | None:
    """Why the step failed, as a clause; None if it did not."""
    if len(report) != _jail.REPORT_SIZE:
        return None
    step, error = _jail.describe(report)
    reason = os.strerror(error) if error else "the kernel agreed, but the effect did not show"
    user = recipe.definition.user or f"#{recipe.definition.uid}"  # it need not have a name
    told = f"failed at '{step}': {reason} (user {user}, {file_of(step, recipe)})"
    remedy = TOO_MANY if error == errno.EAGAIN and step in COUNTED else REMEDIES.get(step, "")
    return Death(told + remedy, is_undropped=step not in OWN_STEPS)
