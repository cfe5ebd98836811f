# SPDX-License-Identifier: Apache-2.0
"""Plans are taken whole or refused whole, with words that name the place."""

from __future__ import annotations

import copy
import json
import os
import resource
from pathlib import Path
from typing import Any

import pytest
from process.standin import StandIn

from pyglue.supervisor import launch
from pyglue.supervisor.checks import PlanError
from pyglue.supervisor.plan import Plan, parse


@pytest.fixture(scope="module")
def sound() -> dict[str, Any]:
    """A plan as httpd sends it."""
    httpd = StandIn.__new__(StandIn)  # its plans only: no process, no files
    httpd.plan_number = 0
    httpd.python = httpd.run = Path("/srv")
    return httpd.plan(httpd.group(), httpd.group("blog", uid=1002))


def taken(plan: dict[str, Any]) -> Plan:
    return parse(json.dumps(plan).encode())


def changed(sound: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    plan = copy.deepcopy(sound)
    *way, last = path.split(".")
    place: Any = plan
    for step in way:
        place = place[int(step) if step.isdigit() else step]
    place[last] = value
    return plan


def test_sound_plan_is_taken(sound: dict[str, Any]) -> None:
    plan = taken(sound)
    assert [group.name for group in plan.groups] == ["shop", "blog"] and plan.number == 1


MISTAKES = [
    ("version", 2, "plan.version"),
    ("plan", 0, "plan.plan"),
    ("logs", "1", "plan.logs"),
    ("groups", {}, "plan.groups is not a list"),
    ("httpd.uid", -1, "plan.httpd.uid"),
    ("httpd.socket_prefix", "run", "not an absolute path"),
    ("environ", ["A=\0"], "plan.environ[0] contains NUL"),
    ("groups.0.digest", "x" * 40, "40 hexadecimal digits"),
    ("groups.0.name", "\u20ac", "beyond latin-1"),
    ("groups.0.cpu_priority", 20, "plan.groups[0].cpu_priority"),
    ("groups.0.memory_limit", -1, "plan.groups[0].memory_limit"),
    ("groups.0.threads", True, "plan.groups[0].threads"),
    ("groups.0.processes", 1000, "plan.groups[0].processes"),
    ("groups.0.umask", 0o1000, "plan.groups[0].umask"),
    ("groups.0.environ", "dirty", "not one of clean, inherit"),
    ("groups.0.launch_timeout", float("nan"), "number of seconds"),
    ("groups.0.log", 1, "error log 1"),
    ("groups.0.scripts", [{"script": "/a"}], "lacks application_group, callable"),
    ("groups.0.pass_descriptors", 1, "neither true nor false"),
]


@pytest.mark.parametrize(("path", "value", "words"), MISTAKES)
def test_mistake_refuses_the_whole_plan_and_is_named(
    sound: dict[str, Any], path: str, value: object, words: str
) -> None:
    with pytest.raises(PlanError) as refused:
        taken(changed(sound, path, value))
    assert words in str(refused.value)


def test_missing_field_is_named(sound: dict[str, Any]) -> None:
    plan = copy.deepcopy(sound)
    del plan["groups"][1]["threads"]
    with pytest.raises(PlanError, match=r"plan.groups\[1\] lacks threads"):
        taken(plan)


def test_group_of_root_is_refused_where_httpd_is_privileged(sound: dict[str, Any]) -> None:
    plan = changed(changed(sound, "httpd.privileged", True), "groups.0.uid", 0)
    with pytest.raises(PlanError, match="would run as root"):
        taken(plan)


def test_same_identity_twice_is_refused(sound: dict[str, Any]) -> None:
    with pytest.raises(PlanError, match="twice"):
        taken(changed(sound, "groups", [sound["groups"][0]] * 2))


@pytest.mark.parametrize("text", [b"", b"[", b"null", b"[" * 100_000, b"\xff"])
def test_what_is_no_plan_is_refused(text: bytes) -> None:
    with pytest.raises(PlanError):
        parse(text)


def test_path_of_any_bytes_reaches_the_worker_unchanged(sound: dict[str, Any]) -> None:
    raw = b"/srv/caf\xe9/\xff.wsgi"
    script = {"script": raw.decode("latin-1"), "application_group": "", "callable": None}
    plan = taken(changed(sound, "groups.0.scripts", [script]))
    group = plan.groups[0]
    assert os.fsencode(group.scripts[0].script) == raw
    settings = json.loads(launch.settings(group, plan, 5, b"k" * 32)[4:])
    assert settings["scripts"] == [{**script, "reloading": True}]


def environment(plan: Plan) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in launch.environment(plan.groups[0], plan))


def test_environment_is_clean_where_the_plan_says_so(sound: dict[str, Any]) -> None:
    clean = taken(changed(sound, "groups.0.environ", "clean"))
    own = {"HOME", "USER", "LOGNAME", launch.GROUP_VARIABLE}
    assert set(environment(clean)) == {"PATH", "LANG", *own}


def test_inherited_environment_lacks_loader_session_and_service_manager(
    sound: dict[str, Any],
) -> None:
    hostile = [
        "LD_PRELOAD=x",
        "LD_LIBRARY_PATH=x",
        "GLIBC_TUNABLES=x",
        "NOTIFY_SOCKET=x",
        "LISTEN_FDS=1",
        "CREDENTIALS_DIRECTORY=x",
        "SSH_AUTH_SOCK=x",
        "SUDO_UID=0",
        "KRB5CCNAME=x",
        "DBUS_SESSION_BUS_ADDRESS=x",
    ]
    plan = changed(sound, "environ", ["SETTING=kept", "USER=root", *hostile])
    plan["groups"][0]["environ"] = "inherit"
    values = environment(taken(plan))
    own = {"HOME", "USER", "LOGNAME", launch.GROUP_VARIABLE}
    assert set(values) == {"SETTING", *own} and values["USER"] == "nobody"


def test_limits_are_those_of_the_plan(sound: dict[str, Any]) -> None:
    assert launch.limits_of(taken(sound).groups[0]) == ()
    plan = copy.deepcopy(sound)
    plan["groups"][0].update(
        cpu_time_limit=1.5, shutdown_timeout=0.5, memory_limit=5, virtual_memory_limit=6,
        process_limit=7,
    )  # fmt: skip
    assert launch.limits_of(taken(plan).groups[0]) == (
        (resource.RLIMIT_CPU, 2, 4), (resource.RLIMIT_DATA, 5, 5), (resource.RLIMIT_AS, 6, 6),
        (resource.RLIMIT_NPROC, 7, 7),
    )  # fmt: skip


def test_cpu_time_is_spent_about_where_the_kernel_kills(sound: dict[str, Any]) -> None:
    plan = copy.deepcopy(sound)
    group = taken(plan).groups[0]
    assert not launch.is_spent(group, 1e6), "there is no limit"
    plan["groups"][0].update(cpu_time_limit=60, shutdown_timeout=5)
    group = taken(plan).groups[0]
    assert [launch.is_spent(group, seconds) for seconds in (45, 53, 66.2)] == [False, True, True]


def test_python_is_chosen_by_the_group_before_the_server(sound: dict[str, Any]) -> None:
    plan = taken(changed(sound, "python_home", "/opt/server"))
    group = plan.groups[0]
    for python, home, expected in [
        ("/usr/bin/python3", "/x", ("/usr/bin/python3", None)),
        (None, "/x", ("/x/bin/python", "/x/bin/python3")),
        (None, None, ("/opt/server/bin/python", "/opt/server/bin/python3")),
    ]:
        options = changed(sound, "groups.0.python", python)
        options["groups"][0]["python_home"] = home
        group = taken(options).groups[0]
        made = launch.recipe(group, plan)
        assert (made.executable, made.otherwise) == expected


def test_a_free_threaded_python_has_its_gil_unless_told(sound: dict[str, Any]) -> None:
    """By an option that other builds, and older versions, do not mind."""
    for value, options in ((False, ("-X", "gil=1")), (True, ())):
        plan = taken(changed(sound, "groups.0.free_threading", value))
        argv = launch.recipe(plan.groups[0], plan).argv
        assert argv == (argv[0], *options, launch.BOOT, "shop")
