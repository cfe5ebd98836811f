# SPDX-License-Identifier: Apache-2.0
"""The README's two commands on a machine that has git, make and root or sudo, and nothing else."""

from __future__ import annotations

import os

import pytest
import requests
from machine import PORT, Machine, until

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1800)]

INSTALL_AND_BUILD_SECONDS = 600.0
STOP_SECONDS = 40.0
TESTS = os.environ.get("DOCKER_TESTS", "tests/c tests/unit tests/engine tests/house")
ANSWERS = {"daemon": "Hello from the process group", "embedded": "Hello from a child of httpd"}


def page(machine: Machine) -> str | None:
    try:
        answer = requests.get(machine.address(), timeout=10)
    except requests.RequestException:
        return None
    return answer.text if answer.ok else None


def serve(machine: Machine, mode: str) -> None:
    machine.start(f"make serve HOST=0.0.0.0 PORT={PORT} MODE={mode}")
    try:
        shown = until(lambda: page(machine), INSTALL_AND_BUILD_SECONDS, "the example's page")
    except AssertionError as error:
        raise AssertionError(f"{error}\n{machine.log()[-6000:]}") from None
    assert str(shown).startswith(ANSWERS[mode])
    assert f"http://0.0.0.0:{PORT}/" in machine.log()


def stop(machine: Machine) -> None:
    machine.run("kill -INT -$(cat pid) || kill -INT $(cat pid)")
    until(lambda: not processes(machine), STOP_SECONDS, "all processes of the server have gone")


def processes(machine: Machine) -> list[str]:
    """What belongs to the server (and not this question itself). A bare machine has no ps."""
    ours = "[a]pache2 -f|[w]orker/boot.py|[s]upervisor/__main__.py|[p]yglue serve"
    all_of_them = "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '"
    return machine.run(f"{all_of_them} | grep -oE '{ours}' || true").split("\n")[:-1]


def test_make_serve_shows_the_example_in_both_modes_and_leaves_nothing(fresh: Machine) -> None:
    for mode in ("daemon", "embedded"):
        serve(fresh, mode)
        stop(fresh)


def test_make_test_is_green(fresh: Machine) -> None:
    """The tests that take seconds, unless DOCKER_TESTS names others: the host runs all."""
    assert " passed" in fresh.run(f"make test T='{TESTS}'")
