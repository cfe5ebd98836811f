# SPDX-License-Identifier: Apache-2.0
"""Fixtures only: what they are made of is the library `harness`."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from harness import census
from harness import site as sites
from harness.client import wait_until
from harness.httpd import Httpd, new_root
from process import shop

APPS = Path(__file__).parent / "apps"
MODES = ("embedded", "daemon")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A test marked for one mode is not collected for the other."""
    other = {"embedded_only": "daemon", "daemon_only": "embedded"}

    def wanted(item: pytest.Item) -> bool:
        callspec = getattr(item, "callspec", None)
        mode = callspec.params.get("mode") if callspec else None
        return not any(item.get_closest_marker(mark) and mode == other[mark] for mark in other)

    items[:] = [item for item in items if wanted(item)]
    lacking = {
        "privileged": None if os.geteuid() == 0 else "users are switched: needs root",
        "looks_inside": None if census.may_look() else "this root lacks CAP_SYS_PTRACE",
    }
    for mark, reason in lacking.items():
        for item in items if reason else ():
            if item.get_closest_marker(mark):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="module", params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    """Where the application runs: in httpd's children, or in a worker."""
    return str(request.param)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that httpd's user may enter, the test's own."""
    made = new_root()
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="session")
def copies() -> Iterator[Path]:
    """Of Pythons, where httpd's user may enter; root-owned, for workers run as root's choice only
    from what root alone can change."""
    parent = "/opt" if os.geteuid() == 0 else None
    made = Path(tempfile.mkdtemp(prefix="mod_pyglue-test-pythons-", dir=parent))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def start_httpd(folder: Path) -> Iterator[Callable[..., Httpd]]:
    """Start httpd with the test's own lines; stopped, counted and its log checked at the end,
    while the test's folder is still there."""
    started: list[Httpd] = []

    def start(lines: list[str], **options: object) -> Httpd:
        server = Httpd(lines, **options)  # type: ignore[arg-type]
        started.append(server)
        return server.start()

    yield start
    with ExitStack() as ends:  # each is ended, also when the end of another fails
        for server in started:
            ends.callback(sites.end, server)


@pytest.fixture
def start_shop(folder: Path, start_httpd: Callable[..., Httpd]) -> Callable[..., Httpd]:
    """start_shop(options, *more lines, workers=1, mpm="event"): one httpd with the process group
    `shop`, serving when it returns."""

    def start(options: str = "", *more: str, workers: int = 1, mpm: str = "event") -> Httpd:
        server = start_httpd(shop.lines(folder, options, *more), root=folder, mpm=mpm)
        shop.wait_for_workers(server, workers)
        return server

    return start


@pytest.fixture(scope="module")
def shared_site(mode: str) -> Iterator[Httpd]:
    """One httpd for the module and mode with every application of apps/ at /NAME."""
    server = sites.with_apps(APPS, mode).start()
    yield sites.warm(server)
    sites.end(server)


@pytest.fixture
def site(shared_site: Httpd) -> Iterator[Httpd]:
    """The module's httpd; error log and long-lived processes are checked after the test."""
    counted = sites.long_lived(shared_site) if census.may_look() else []
    before = {pid: census.files_open(pid) for pid in counted}
    yield shared_site
    shared_site.log.check()
    for pid in sites.long_lived(shared_site):
        if pid in before:
            # close() of an application runs after its client has the whole response.
            wait_until(
                lambda pid=pid: census.files_open(pid) == before[pid],
                f"process {pid} holds no more than before: {before[pid]}",
            )
