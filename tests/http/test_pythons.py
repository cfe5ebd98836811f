# SPDX-License-Identifier: Apache-2.0
"""A smoke set on every CPython from 3.10 that the machine has, in each MPM and both modes.

One copy of each, made once for the run where httpd's user may enter, with an engine by
`pyglue install-engine`. Without pyenv and PYGLUE_TEST_PYTHONS the system's own is what there is."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import conf, pythons
from harness.client import ask, chunked, connected, facts, request, wait_until
from harness.httpd import Httpd
from harness.load import Load

APPS = Path(__file__).parents[1] / "apps"
SMOKE = ("process", "echo", "raises")
Start = Callable[..., Httpd]


@pytest.fixture(scope="session", params=pythons.found(), ids=lambda path: path.parts[-3])
def python(request: pytest.FixtureRequest, copies: Path) -> Path:
    """One Python with its engine."""
    original: Path = request.param
    if not original.exists():
        pytest.skip(f"{original} is not installed")
    return pythons.reachable(original, copies)


def mounts(folder: Path, options: str = "") -> list[str]:
    for name in SMOKE:
        shutil.copytree(APPS / name, folder / name, dirs_exist_ok=True)
    aliases = [f'WSGIScriptAlias /{name} "{folder}/{name}/wsgi.py" {options}' for name in SMOKE]
    return [*aliases, "WSGIApplicationGroup %{GLOBAL}", *conf.granted(folder)]


def python_home(python: Path) -> Path:
    return python.parents[1]


@pytest.mark.slow
@pytest.mark.parametrize("mpm", ["prefork", "worker", "event"])
def test_every_python_serves_in_every_mpm(
    mode: str, mpm: str, python: Path, start_httpd: Start, folder: Path
) -> None:
    """Facts, a body both ways, an exception: what needs each part of the engine once."""
    own = f'WSGIPythonHome "{python_home(python)}"'
    if mode == "daemon":
        own = f"WSGIDaemonProcess own python={python}\nWSGIProcessGroup own"
    server = start_httpd([own, *mounts(folder)], mpm=mpm)
    if mode == "embedded" and not pythons.is_shared(python):
        server.log.expect("GL0402.*no shared library.*WSGIDaemonProcess")
        server.log.allow("GL0403")
        assert ask(server.address, "/process").status == 500
        return
    server.log.expect_traceback("raised before")
    assert facts(server.address, "/process")["version"] == list(pythons.version_of(python))
    body = os.urandom(100_000)
    coding = {"Transfer-Encoding": "chunked"}
    assert ask(server.address, "/echo", "POST", body=body).body == body
    assert ask(server.address, "/echo", "POST", coding, chunked(body)).body == body
    assert ask(server.address, "/raises?before").status == 500


def moved(python: Path, folder: Path) -> list[str]:
    options = "process-group=own application-group=%{GLOBAL}"
    waits = f'WSGIScriptAlias /waits "{folder}/waits/wsgi.py" {options}'
    files = f'SetEnv files "{folder}/files"'
    own = f"WSGIDaemonProcess own processes=2 threads=4 python={python}"
    return [own, *mounts(folder, "process-group=own"), waits, files]


@pytest.mark.slow
@pytest.mark.timeout(600)  # it copies a Python, and builds its engine if it runs alone
def test_a_group_moves_to_another_version_at_a_graceful_restart_and_no_request_fails(
    copies: Path, start_httpd: Start, folder: Path
) -> None:
    """There and back, under load; what runs finishes in the version in which it began."""
    there = [path for path in pythons.found() if path.exists()]
    first, *others = there
    others = [path for path in others if pythons.version_of(path) != pythons.version_of(first)]
    if not others:
        pytest.skip(f"no CPython of another version than {first} is installed")
    one, other = pythons.reachable(first, copies), pythons.reachable(others[-1], copies)
    files = folder / "files"
    files.mkdir()
    files.chmod(0o777)
    shutil.copytree(APPS / "waits", folder / "waits")
    server = start_httpd(moved(one, folder), root=folder)
    was = facts(server.address, "/process")
    assert tuple(was["version"]) == pythons.version_of(one)
    supervisor = server.supervisor()

    def versions(load: Load) -> set[tuple[int, ...]]:
        """Of those that gave the last answers."""
        return {tuple(json.loads(answer.text)["version"]) for answer in load.answers[-6:]}

    with connected(server.address) as slow:
        slow.send(request("GET", "/waits?slow"))
        wait_until((files / "slow.runs").exists, "it runs")
        with Load(server.address, "/process", clients=3, keep_alive=False) as load:
            for python in (other, one):
                server.configure(moved(python, folder))
                server.graceful()
                wanted = {pythons.version_of(python)}
                wait_until(lambda wanted=wanted: versions(load) == wanted, f"{python} serves", 60)
                load.wait_for_more(20)
        (files / "slow.end").touch()
        assert slow.read_response().body == b"done"
    assert load.failures() == []
    assert server.supervisor() == supervisor


TELLS = """\
import json, sys
import own_of_the_environment
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    engine = sys.modules["pyglue._engine"].__file__
    facts = [list(sys.version_info[:2]), own_of_the_environment.name, engine]
    return [json.dumps(facts).encode()]
"""


def environment(python: Path, folder: Path, has_engine: bool) -> Path:
    """A virtual environment with a module of its own, and with mod_pyglue as pip installs it there
    (without the module for httpd) or without. Returns its Python."""
    executable = pythons.make_environment(python, folder)
    show = "import sysconfig; print(sysconfig.get_path('platlib'))"
    packages = Path(pythons.tell(executable, show))
    (packages / "own_of_the_environment.py").write_text(f"name = {folder.name!r}\n")
    if has_engine:
        shutil.copytree(
            pythons.package(),
            packages / "pyglue",
            ignore=shutil.ignore_patterns("engines", "*.so", "__pycache__"),
        )
        shutil.copy(pythons.engine_of(python), packages / "pyglue")
    return executable


@contextlib.contextmanager
def without_engine_of(python: Path) -> Iterator[None]:
    """The engine folder of mod_pyglue has none for this Python."""
    engine = pythons.engine_of(python)
    away = engine.rename(engine.with_suffix(".away"))
    try:
        yield
    finally:
        away.rename(engine)


@pytest.mark.slow
@pytest.mark.timeout(600)  # it copies each Python, and builds its engine if it runs alone
def test_groups_of_every_python_have_environments_of_their_own(
    copies: Path, start_httpd: Start, folder: Path
) -> None:
    """Under one httpd: with mod_pyglue inside and without, and one whose Python has no engine
    anywhere, which is disabled alone."""
    (folder / "app.py").write_text(TELLS)
    originals = [path for path in pythons.found() if path.exists()]
    here = [pythons.reachable(path, copies) for path in originals]
    environments: dict[str, Path] = {}
    for number, python in enumerate(here):
        for kind in ("plain", "own"):
            name = f"{kind}{number}"
            environments[name] = environment(python, copies / name, kind == "own")
    lines = [f"WSGIDaemonProcess {name} python={one}" for name, one in environments.items()]
    for name in environments:
        options = f"process-group={name} application-group=%{{GLOBAL}}"
        lines.append(f'WSGIScriptAlias /{name} "{folder}/app.py" {options}')
    missing = f"plain{len(here) - 1}"
    with without_engine_of(here[-1]):
        server = start_httpd([*lines, *conf.granted(folder)])
        server.log.expect(
            f"PG2011: no engine for {environments[missing]} .*Install it: "
            f"pyglue install-engine --python {environments[missing]}"
        )
        server.log.expect(f"PG1110.*{missing}.*pyglue install-engine --python")
        server.log.allow("GL05")
        assert ask(server.address, f"/{missing}").status == 500
        for name in environments:
            if name != missing:
                version, own, engine = facts(server.address, f"/{name}")
                assert (tuple(version), own) == (pythons.version_of(environments[name]), name)
                inside = Path(engine).is_relative_to(copies / name)
                assert inside is name.startswith("own")
