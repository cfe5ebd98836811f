# SPDX-License-Identifier: Apache-2.0
"""The plan: the process groups as httpd's configuration has them, as frozen data.

Parsing is total: a plan is taken as a whole, or refused as a whole with a reason that names the
place (docs/plan.md, section 3). It comes from httpd's parent, which is trusted, but a mistake on
either side must end in words and not in half a roster. Knows no process and no clock.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from .checks import (
    ID,
    INT,
    SIZE,
    PlanError,
    choice,
    digest,
    flag,
    list_of,
    maybe,
    names_for_worker,
    no_way_up,
    path,
    record,
    row,
    seconds,
    text,
    whole,
)

VERSION = 1
MAX_BYTES = 16 << 20
MAX_GROUPS = 512  # PYGLUE_GROUP_SLOTS
MAX_PROCESSES = 512  # PYGLUE_WORKER_SLOTS
MAX_THREADS = 1023  # PYGLUE_RECORD_SLOTS less one
MAX_INTERPRETERS = 256
WARNING = 4  # httpd's LogLevel warn


@dataclass(frozen=True, slots=True, kw_only=True)
class Httpd:
    """What the supervisor must know of the server that started it."""

    pid: int = row(whole(1, 0x7FFFFFFF))
    uid: int = row(ID)  # of httpd's children
    gid: int = row(ID)
    privileged: bool = row(flag)
    timeout: float = row(seconds)
    socket_prefix: str = row(path)
    request_max: int = row(SIZE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """Something that a worker loads before it is ready."""

    script: str = row(path)
    application_group: str = row(text)
    callable: str | None = row(maybe(text))  # None: executed only
    # WSGIScriptReloading, as far as it is known without a request
    reloading: bool = row(flag, absent=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class InterpreterOptions:
    """A section <WSGIInterpreterOptions> that is of the group."""

    application_group: str | None = row(maybe(text))  # None: of each
    own_gil: bool | None = row(maybe(flag))
    python_path: tuple[str, ...] = row(list_of(text))


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupPlan:
    """One process group: a row for each field of docs/plan.md, section 3."""

    name: str = row(text)
    digest: bytes = row(digest)
    log: int = row(INT)
    log_level: int = row(whole(0, 15), absent=WARNING)
    server: str = row(text)
    user: str = row(text)
    uid: int = row(ID)
    gid: int = row(ID)
    groups: tuple[int, ...] = row(list_of(ID))
    user_home: str = row(text)
    processes: int = row(whole(1, MAX_PROCESSES), for_worker=True)  # the most
    # The least; 0: the first one is started when a request waits. None: as the most.
    processes_min: int | None = row(maybe(whole(0, MAX_PROCESSES)), absent=None, for_worker=True)
    inactivity_timeout: float = row(seconds, absent=0.0, for_worker=True)  # 0: off
    multiprocess: bool = row(flag, for_worker=True)
    threads: int = row(whole(1, MAX_THREADS), for_worker=True)
    interpreters: int = row(whole(1, MAX_INTERPRETERS), absent=1, for_worker=True)
    own_gil: bool = row(flag, absent=False, for_worker=True)
    free_threading: bool = row(flag, absent=False, for_worker=True)
    interpreter_options: tuple[InterpreterOptions, ...] = row(
        list_of(record(InterpreterOptions)), absent=(), for_worker=True
    )
    umask: int | None = row(maybe(whole(0, 0o777)))
    home: str | None = row(maybe(text), for_worker=True)
    chroot: str | None = row(maybe(path))
    python_home: str | None = row(maybe(path))
    python: str | None = row(maybe(path))
    python_path: tuple[str, ...] = row(list_of(text), for_worker=True)
    lang: str | None = row(maybe(text))
    locale: str | None = row(maybe(text), for_worker=True)
    environ: str | None = row(maybe(choice("clean", "inherit")))
    display_name: str | None = row(maybe(text), for_worker=True)
    send_buffer_size: int = row(INT, for_worker=True)
    receive_buffer_size: int = row(INT, for_worker=True)
    listen_backlog: int = row(INT)
    socket_uid: int | None = row(maybe(ID), absent=None)  # None: httpd's children
    script_uid: int | None = row(maybe(ID), for_worker=True)
    script_gid: int | None = row(maybe(ID), for_worker=True)
    pass_descriptors: bool = row(flag, for_worker=True)
    no_new_privs: bool = row(flag)
    dumpable: bool = row(flag, for_worker=True)
    preload: bool = row(flag, absent=False)
    maximum_requests: int = row(INT, for_worker=True)
    python_eggs: str | None = row(maybe(text), absent=None)
    cpu_time_limit: float = row(seconds, absent=0.0)
    cpu_priority: int = row(whole(-20, 19), absent=0)
    memory_limit: int = row(SIZE, absent=0)
    virtual_memory_limit: int = row(SIZE, absent=0)
    process_limit: int = row(INT, absent=0)
    cgroup: str | None = row(maybe(no_way_up), absent=None)
    memory_max: int = row(SIZE, absent=0)
    cpu_max: int = row(INT, absent=0)  # percent
    pids_max: int = row(INT, absent=0)
    stack_size: int = row(INT, absent=0, for_worker=True)
    startup_timeout: float = row(seconds, for_worker=True)
    request_timeout: float = row(seconds, absent=0.0, for_worker=True)
    interrupt_timeout: float = row(seconds, absent=0.0, for_worker=True)
    deadlock_timeout: float = row(seconds, absent=300.0, for_worker=True)
    restart_interval: float = row(seconds, absent=0.0, for_worker=True)
    rss_limit: int = row(SIZE, absent=0, for_worker=True)
    queue_timeout: float = row(seconds, absent=0.0, for_worker=True)  # 0: httpd's own affair
    launch_timeout: float = row(seconds)
    shutdown_timeout: float = row(seconds, for_worker=True)
    socket_timeout: float = row(seconds, for_worker=True)
    log_rate: int = row(whole(1, 100_000), absent=200)
    log_burst: int = row(whole(1, 1_000_000), absent=2000)
    strict_reload: bool = row(flag, absent=False, for_worker=True)  # no new request sees old code
    # How long a worker that leaves may finish what it runs; None: not written (leaving.py).
    drain_timeout: float | None = row(maybe(seconds), absent=None)
    graceful_timeout: float | None = row(maybe(seconds), absent=None)
    eviction_timeout: float | None = row(maybe(seconds), absent=None)
    scripts: tuple[Script, ...] = row(list_of(record(Script)), for_worker=True)

    @property
    def least(self) -> int:
        """How many workers there are at least."""
        return self.processes if self.processes_min is None else self.processes_min


FOR_WORKER = names_for_worker(GroupPlan)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What httpd wants to run."""

    version: int = row(whole(VERSION, VERSION))
    plan: int = row(whole(1, (1 << 64) - 1))  # its number
    module: str = row(text)
    httpd: Httpd = row(record(Httpd))  # noqa: RUF009  (a row is a field)
    environ: tuple[str, ...] = row(list_of(text))  # httpd's own, NAME=value
    python_home: str | None = row(maybe(path))
    logs: int = row(whole(1, 65536))  # how many error log descriptors come with it
    # of each log: the name of one that is no descriptor, "syslog:local7:httpd"
    syslogs: tuple[str | None, ...] = row(list_of(maybe(text)), absent=())
    groups: tuple[GroupPlan, ...] = row(list_of(record(GroupPlan)))

    @property
    def number(self) -> int:
        return self.plan


_check_plan = record(Plan)


def parse(data: bytes) -> Plan:
    """The plan in this text; PlanError if there is any mistake in it."""
    if len(data) > MAX_BYTES:
        raise PlanError(f"the plan is longer than {MAX_BYTES} bytes")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise PlanError(f"the plan is not JSON: {error}") from None
    plan: Plan = _check_plan(value, "plan")
    _check_whole(plan)
    return plan


def _check_whole(plan: Plan) -> None:
    """What no field shows alone."""
    if len(plan.groups) > MAX_GROUPS:
        raise PlanError(f"plan.groups has more than {MAX_GROUPS} process groups")
    if sum(group.processes for group in plan.groups) > MAX_PROCESSES:
        raise PlanError(f"the process groups have more than {MAX_PROCESSES} processes together")
    seen: set[bytes] = set()
    for group in plan.groups:
        if group.digest in seen:
            raise PlanError(f"process group {group.name!r} is there twice")
        seen.add(group.digest)
        if group.log >= plan.logs:
            raise PlanError(
                f"process group {group.name!r} names error log {group.log}, "
                f"but only {plan.logs} come with the plan"
            )
        if group.least > group.processes:
            raise PlanError(f"process group {group.name!r} has fewer processes at most than least")
        if plan.httpd.privileged and group.uid == 0:
            raise PlanError(f"process group {group.name!r} would run as root")
