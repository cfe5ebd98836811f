# SPDX-License-Identifier: Apache-2.0
"""A site with one process group, `shop`, that tests kill, restart, touch and stop."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness import conf, site
from harness.client import Connection, Response, connected, request, wait_until
from harness.httpd import Httpd
from harness.load import Load

APPS = Path(__file__).parents[1] / "apps"
NAMES = (
    *("who", "dies", "numbered", "waits", "waits_between_blocks"),
    *("echo_streaming", "leaves_behind", "limits_itself", "reads", "reads_on", "zeros"),
)


def lines(root: Path, options: str = "", *more: str, name: str = "shop") -> list[str]:
    """The group and the applications of tests/apps that these tests use."""
    apps = root / "apps"
    if not apps.exists():
        site.copy_apps(APPS, root)
        (root / "files").mkdir()
        (root / "files").chmod(0o777)
    return [
        *group(apps, options, name),
        *conf.granted(apps),
        f'SetEnv files "{root}/files"',
        *more,
    ]


def group(apps: Path, options: str, name: str, below: str = "") -> list[str]:
    """One process group and its applications, at /BELOW/NAME."""
    alias = f"process-group={name} application-group=%{{GLOBAL}}"
    return [
        f"WSGIDaemonProcess {name} {options}".rstrip(),
        *(f'WSGIScriptAlias {below}/{app} "{apps}/{app}/wsgi.py" {alias}' for app in NAMES),
    ]


def alone(server: Httpd, name: str, script: Path, options: str = "") -> None:
    """Beside `shop`, from the next restart on, a group of one script, at /NAME."""
    alias = f"process-group={name} application-group=%{{GLOBAL}}"
    own = f"WSGIDaemonProcess {name} {options}".rstrip()
    server.log.allow(rf"AH01630: .*/{name}\b")  # a child of the older plan looks for a file
    server.configure(
        lines(server.root, "threads=4", own, f'WSGIScriptAlias /{name} "{script}" {alias}')
    )


def both(server: Httpd, name: str, script: Path) -> None:
    """`alone`, and after a graceful restart each of the two groups has its one new worker."""
    old = set(server.workers())
    alone(server, name, script)
    server.graceful()
    wait_until(
        lambda: old.isdisjoint(server.workers()) and len(server.workers()) == 2,
        "both groups have a worker of the new plan",
        20,
    )


def wait_for_workers(server: Httpd, count: int) -> list[int]:
    """Their pids, as soon as there are so many and the site answers."""
    wait_until(lambda: len(server.workers()) == count, f"{count} workers", 20)
    assert ask(server, "/who").status == 200
    return server.workers()


def ask(server: Httpd, target: str) -> Response:
    with connected(server.address) as connection:
        connection.send(request("GET", target))
        return connection.read_response()


def facts(server: Httpd, target: str = "/who") -> Any:
    """What the application tells of its process."""
    return json.loads(ask(server, target).text)


@contextmanager
def slow_request(server: Httpd) -> Iterator[Connection]:
    """On this connection one has begun to run, until somebody makes `files/slow.end`."""
    with connected(server.address) as connection:
        connection.send(request("GET", "/waits?slow"))
        wait_until((server.root / "files" / "slow.runs").exists, "the request runs")
        yield connection


def serving(load: Load, last: int) -> set[int]:
    """The workers that gave the last so many good answers."""
    return {json.loads(answer.text)["pid"] for answer in load.answers[-last:] if answer.is_good}
