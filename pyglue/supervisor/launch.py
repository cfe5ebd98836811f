# SPDX-License-Identifier: Apache-2.0
"""What a worker is started with: executable, arguments, environment, settings.

Pure: a definition goes in, a Recipe comes out; `process.py` hands it to the jail. The executable
is never opened or looked at here: it may lie in a tenant's folder, and we may be root.
"""

from __future__ import annotations

import json
import math
import os
import resource
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from .plan import FOR_WORKER, GroupPlan, InterpreterOptions, Plan, Script

PACKAGE = str(Path(__file__).resolve().parent.parent)
BOOT = f"{PACKAGE}/worker/boot.py"
VERSION = 1

# What httpd's environment carries for httpd alone: what steers the loader and libc, a Python of
# another prefix, the service manager's handles, and the session of whoever started it.
LEFT_OUT = frozenset(
    {
        "GLIBC_TUNABLES",
        "GCONV_PATH",
        "OPENSSL_CONF",
        "PYTHONHOME",
        "PYTHONEXECUTABLE",
        "NOTIFY_SOCKET",
        "INVOCATION_ID",
        "JOURNAL_STREAM",
        "MANAGERPID",
        "CREDENTIALS_DIRECTORY",
        "SSH_AUTH_SOCK",
        "KRB5CCNAME",
    }
)
LEFT_OUT_PREFIXES = ("LD_", "MALLOC_", "LISTEN_", "WATCHDOG_", "SUDO_", "DBUS_", "SSH_", "XDG_")
CLEAN = ("PATH", "LANG")
SPENT = 0.75  # of the hard limit of CPU time: one who was killed then had most likely reached it
GROUP_VARIABLE = "PYGLUE_GROUP"  # beside the command line, which display-name= overwrites


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that is needed to start one worker, but its descriptors."""

    executable: str
    otherwise: str | None  # where that does not exist
    argv: tuple[str, ...]
    environ: tuple[str, ...]
    directory: str  # to begin in; "/" if it is not home= and cannot be entered
    definition: GroupPlan
    privileged: bool


def recipe(definition: GroupPlan, plan: Plan) -> Recipe:
    executable = python_of(definition, plan)
    return Recipe(
        executable,
        python3_of(definition, plan),
        (executable, *gil_options(definition), BOOT, definition.name),
        environment(definition, plan),
        directory_of(definition, plan),
        definition,
        plan.httpd.privileged,
    )


def gil_options(definition: GroupPlan) -> tuple[str, ...]:
    """A free-threaded build has its GIL unless it is to run without; others do not mind."""
    return () if definition.free_threading else ("-X", "gil=1")


def directory_of(definition: GroupPlan, plan: Plan) -> str:
    """As mod_wsgi: home=, or the home of a user that is not httpd's own."""
    if definition.home:
        return definition.home
    is_other = definition.uid != plan.httpd.uid and definition.user_home.startswith("/")
    return definition.user_home if is_other else "/"


def connecting_uid(definition: GroupPlan, plan: Plan) -> int:
    """Whose processes connect to its workers: they own the sockets, and no other user is answered.
    Without root no socket can be given away."""
    if definition.socket_uid is None or not plan.httpd.privileged:
        return plan.httpd.uid
    return definition.socket_uid


def python_of(definition: GroupPlan, plan: Plan) -> str:
    if definition.python:
        return definition.python
    home = definition.python_home or plan.python_home
    return f"{home}/bin/python" if home else sys.executable


def python3_of(definition: GroupPlan, plan: Plan) -> str | None:
    """A distribution's prefix, such as /usr, has no bin/python; embedded mode looks so too."""
    home = definition.python_home or plan.python_home
    return f"{home}/bin/python3" if home and not definition.python else None


def environment(definition: GroupPlan, plan: Plan) -> tuple[str, ...]:
    """httpd's own less what is httpd's alone, or a clean one, plus the user's three."""
    inherited = _pairs(plan.environ)
    if definition.environ == "clean":
        values = {name: inherited[name] for name in CLEAN if name in inherited}
    else:
        values = {name: value for name, value in inherited.items() if not _is_left_out(name)}
    own = {"HOME": definition.user_home, "USER": definition.user, "LOGNAME": definition.user}
    for name, value in own.items():
        values.pop(name, None)  # never httpd's
        if value:  # a uid need not have a name
            values[name] = value
    if definition.lang is not None:
        values["LANG"] = definition.lang
    if definition.locale is not None:
        values["LC_ALL"] = definition.locale
    if definition.python_eggs is not None:
        values["PYTHON_EGG_CACHE"] = definition.python_eggs
    values[GROUP_VARIABLE] = definition.name
    return tuple(f"{name}={value}" for name, value in values.items())


def limits_of(definition: GroupPlan) -> tuple[tuple[int, int, int], ...]:
    """Resource, soft and hard limit: what is not written stays as httpd has it.

    SIGXCPU at the soft limit of CPU time asks for a successor; the hard one lets what runs end."""
    limits = [
        (resource.RLIMIT_CPU, math.ceil(definition.cpu_time_limit), cpu_seconds(definition)),
        (resource.RLIMIT_DATA, definition.memory_limit, definition.memory_limit),
        (resource.RLIMIT_AS, definition.virtual_memory_limit, definition.virtual_memory_limit),
        (resource.RLIMIT_NPROC, definition.process_limit, definition.process_limit),
    ]
    return tuple(limit for limit in limits if limit[1])


def cpu_seconds(definition: GroupPlan) -> int:
    """At so many the kernel kills; 0: never."""
    cpu = math.ceil(definition.cpu_time_limit)
    return cpu and cpu + 1 + math.ceil(definition.shutdown_timeout)


def is_spent(definition: GroupPlan, seconds: float) -> bool:
    """Had a worker used all of its CPU time? The kernel counts it by its ticks, and tells it
    otherwise: they differ by a fifth on a machine with too much to do."""
    return 0 < SPENT * cpu_seconds(definition) <= seconds


def _pairs(environ: Iterable[str]) -> dict[str, str]:
    split = (item.partition("=") for item in environ)
    return {name: value for name, equals, value in split if equals and name}


def _is_left_out(name: str) -> bool:
    return name in LEFT_OUT or name.startswith(LEFT_OUT_PREFIXES)


def settings(
    definition: GroupPlan,
    plan: Plan,
    number: int,
    key: bytes,
    *,
    preloads: bool = False,
    has_list: bool = False,
) -> bytes:
    """The settings as they go down the control pipe: length, then JSON. preloads: of a process that
    is forked for each worker. has_list: descriptor 8 is what its group's workers have loaded."""
    value = {
        "version": VERSION,
        "number": number,
        "key": key.hex(),
        "package": PACKAGE,
        "group": definition.name,
        "directory": directory_of(definition, plan),
        "peer_uid": connecting_uid(definition, plan),
        "request_max": plan.httpd.request_max,
        "preloads": preloads,
        "has_list": has_list,
        **{name: getattr(definition, name) for name in FOR_WORKER},
    }
    text = json.dumps(_as_latin1(value)).encode()
    return len(text).to_bytes(4, sys.byteorder) + text


def _as_latin1(value: object) -> object:
    """Texts as the plan has them: each byte one character."""
    if isinstance(value, str):
        return os.fsencode(value).decode("latin-1")
    if isinstance(value, (list, tuple)):
        return [_as_latin1(item) for item in value]
    if isinstance(value, dict):
        return {name: _as_latin1(item) for name, item in value.items()}
    if isinstance(value, (Script, InterpreterOptions)):
        return _as_latin1(asdict(value))
    return value
