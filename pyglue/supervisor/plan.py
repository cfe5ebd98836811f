# SPDX-License-Identifier: Apache-2.0
"""The plan: the process groups as httpd's configuration has them, as frozen data.

Parsing is total: a plan is taken as a whole, or refused as a whole with a reason that names the
place (docs/plan.md, section 3). It comes from httpd's parent, which is trusted, but a mistake on
either side must end in words and not in half a roster. Knows no process and no clock.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

VERSION = 1
MAX_BYTES = 16 << 20
MAX_GROUPS = 512  # PYGLUE_GROUP_SLOTS
MAX_PROCESSES = 512  # PYGLUE_WORKER_SLOTS
MAX_THREADS = 1023  # PYGLUE_RECORD_SLOTS less one
WARNING = 4  # httpd's LogLevel warn


class PlanError(Exception):
    """The plan is refused; the text says what is wrong, and where."""


@dataclass(frozen=True, slots=True)
class Httpd:
    """What the supervisor must know of the server that started it."""

    pid: int
    uid: int  # of httpd's children
    gid: int
    privileged: bool
    timeout: float
    socket_prefix: str
    request_max: int


@dataclass(frozen=True, slots=True)
class Script:
    """Something that a worker loads before it is ready."""

    script: str
    application_group: str
    callable: str | None  # None: executed only
    reloading: bool  # WSGIScriptReloading, as far as it is known without a request


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """One process group. The fields are those of docs/plan.md, section 3."""

    name: str
    digest: bytes
    log: int
    log_level: int
    server: str
    user: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    user_home: str
    processes: int
    multiprocess: bool
    threads: int
    umask: int | None
    home: str | None
    chroot: str | None
    python_home: str | None
    python: str | None
    python_path: tuple[str, ...]
    lang: str | None
    locale: str | None
    environ: str | None
    display_name: str | None
    send_buffer_size: int
    receive_buffer_size: int
    listen_backlog: int
    script_uid: int | None
    script_gid: int | None
    pass_descriptors: bool
    no_new_privs: bool
    dumpable: bool
    maximum_requests: int
    startup_timeout: float
    launch_timeout: float
    shutdown_timeout: float
    socket_timeout: float
    scripts: tuple[Script, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What httpd wants to run."""

    number: int
    module: str
    httpd: Httpd
    environ: tuple[str, ...]  # httpd's own, NAME=value
    python_home: str | None
    logs: int  # how many error log descriptors come with it
    groups: tuple[GroupPlan, ...]


# What a value may be: a check takes it and its place, and returns it or raises.

Check = Callable[[object, str], Any]
T = TypeVar("T")


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise PlanError(f"{where} is not a text")
    try:
        raw = value.encode("latin-1")
    except UnicodeEncodeError:
        raise PlanError(f"{where} has characters beyond latin-1") from None
    if b"\0" in raw:
        raise PlanError(f"{where} contains NUL")
    return os.fsdecode(raw)


def _flag(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise PlanError(f"{where} is neither true nor false")
    return value


def _digest(value: object, where: str) -> bytes:
    if not isinstance(value, str) or not re.fullmatch("[0-9a-f]{40}", value):
        raise PlanError(f"{where} is not 40 hexadecimal digits")
    return bytes.fromhex(value)


def _whole(low: int, high: int) -> Check:
    def check(value: object, where: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise PlanError(f"{where} is not a whole number from {low} to {high}")
        return value

    return check


def _seconds(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1e9:
        raise PlanError(f"{where} is not a number of seconds")
    return float(value)


def _maybe(check: Check) -> Check:
    return lambda value, where: None if value is None else check(value, where)


def _choice(*allowed: str) -> Check:
    def check(value: object, where: str) -> str:
        if value not in allowed:
            raise PlanError(f"{where} is not one of {', '.join(allowed)}")
        return str(value)

    return check


def _path(value: object, where: str) -> str:
    text = _text(value, where)
    if not text.startswith("/"):
        raise PlanError(f"{where} is not an absolute path")
    return text


def _list(check: Check) -> Check:
    def check_all(value: object, where: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise PlanError(f"{where} is not a list")
        return tuple(check(item, f"{where}[{i}]") for i, item in enumerate(value))

    return check_all


_ID = _whole(0, 0xFFFFFFFE)
_SIZE = _whole(0, 1 << 40)
_INT = _whole(0, 0x7FFFFFFF)
_NUMBER = _whole(1, (1 << 64) - 1)

_HTTPD: Mapping[str, Check] = {
    "pid": _whole(1, 0x7FFFFFFF),
    "uid": _ID,
    "gid": _ID,
    "privileged": _flag,
    "timeout": _seconds,
    "socket_prefix": _path,
    "request_max": _SIZE,
}

_SCRIPT: Mapping[str, Check] = {
    "script": _path,
    "application_group": _text,
    "callable": _maybe(_text),
    "reloading": _flag,
}

_GROUP: Mapping[str, Check] = {
    "name": _text,
    "digest": _digest,
    "log": _INT,
    "log_level": _whole(0, 15),
    "server": _text,
    "user": _text,
    "uid": _ID,
    "gid": _ID,
    "groups": _list(_ID),
    "user_home": _text,
    "processes": _whole(1, MAX_PROCESSES),
    "multiprocess": _flag,
    "threads": _whole(1, MAX_THREADS),
    "umask": _maybe(_whole(0, 0o777)),
    "home": _maybe(_text),
    "chroot": _maybe(_path),
    "python_home": _maybe(_path),
    "python": _maybe(_path),
    "python_path": _list(_text),
    "lang": _maybe(_text),
    "locale": _maybe(_text),
    "environ": _maybe(_choice("clean", "inherit")),
    "display_name": _maybe(_text),
    "send_buffer_size": _INT,
    "receive_buffer_size": _INT,
    "listen_backlog": _INT,
    "script_uid": _maybe(_ID),
    "script_gid": _maybe(_ID),
    "pass_descriptors": _flag,
    "no_new_privs": _flag,
    "dumpable": _flag,
    "maximum_requests": _INT,
    "startup_timeout": _seconds,
    "launch_timeout": _seconds,
    "shutdown_timeout": _seconds,
    "socket_timeout": _seconds,
    "scripts": _list(lambda value, where: _record(Script, _SCRIPT, value, where)),
}

_PLAN: Mapping[str, Check] = {
    "version": _whole(VERSION, VERSION),
    "plan": _NUMBER,
    "module": _text,
    "httpd": lambda value, where: _record(Httpd, _HTTPD, value, where),
    "environ": _list(_text),
    "python_home": _maybe(_path),
    "logs": _whole(1, 65536),
    "groups": _list(lambda value, where: _record(GroupPlan, _GROUP, value, where)),
}

# What a parent may leave out, with what it then means.
_DEFAULTS: Mapping[str, object] = {"log_level": WARNING, "reloading": True}


def _checked(table: Mapping[str, Check], value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise PlanError(f"{where} is not an object")
    fields = {**{k: v for k, v in _DEFAULTS.items() if k in table}, **value}
    missing = sorted(table.keys() - fields.keys())
    if missing:
        raise PlanError(f"{where} lacks {', '.join(missing)}")
    return {name: check(fields[name], f"{where}.{name}") for name, check in table.items()}


def _record(kind: type[T], table: Mapping[str, Check], value: object, where: str) -> T:
    return kind(**_checked(table, value, where))


def parse(text: bytes) -> Plan:
    """The plan in this text; PlanError if there is any mistake in it."""
    if len(text) > MAX_BYTES:
        raise PlanError(f"the plan is longer than {MAX_BYTES} bytes")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PlanError(f"the plan is not JSON: {error}") from None
    fields = _checked(_PLAN, value, "plan")
    fields["number"] = fields.pop("plan")
    del fields["version"]
    plan = Plan(**fields)
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
        if plan.httpd.privileged and group.uid == 0:
            raise PlanError(f"process group {group.name!r} would run as root")
