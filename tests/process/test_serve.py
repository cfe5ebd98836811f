# SPDX-License-Identifier: Apache-2.0
"""`pyglue serve` on the real httpd: what each option does, and what stays behind when it ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from harness import census, conf
from harness.client import wait_until
from harness.httpd import own_address

SECONDS = 60.0
THROW_AWAY = 64_917  # a uid that nobody has: no name, no home
TELLS = """\
import os

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {os.getuid()} {environ['mod_wsgi.process_group']}".encode()]
"""
WAITS = """\
import sys, threading

def application(environ, start_response):
    print("it runs", file=sys.stderr)
    threading.Event().wait()
"""
NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
HAS_IPV6 = os.path.exists("/proc/net/if_inet6") and "lo" in Path("/proc/net/if_inet6").read_text()


class Served:
    """One running command. `end` stops it and counts what is left."""

    def __init__(self, folder: Path, *options: str, before: tuple[str, ...], cwd: Path) -> None:
        self.folder = folder
        self.out, self.err = folder / "stdout", folder / "stderr"
        command = [*before, str(conf.prefix() / "bin" / "pyglue"), "serve", *options]
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = subprocess.Popen(command, cwd=cwd, stdout=out, stderr=err)

    def wait_until_it_serves(self) -> Served:
        wait_until(self._has_announced, "the command announces the address", SECONDS)
        return self

    def _has_announced(self) -> bool:
        assert self.process.poll() is None, self.err.read_text()
        return "Ctrl-C stops it" in self.out.read_text()

    @property
    def url(self) -> str:
        found = re.search(r"serving .* at (http\S+/)", self.out.read_text())
        assert found, self.out.read_text()
        return found[1]

    def page(self, path: str = "") -> str:
        answer = requests.get(self.url + path, timeout=SECONDS)
        answer.raise_for_status()
        return answer.text

    def processes(self, word: str) -> list[int]:
        return [p for p in census.family(self.process.pid) if word in census.command(p)]

    def complaints(self) -> list[str]:
        lines = self.err.read_text().splitlines()
        return [line for line in lines if re.search(r":(warn|error|crit|alert|emerg)\]", line)]

    def end(self, number: signal.Signals = signal.SIGINT) -> None:
        family = census.family(self.process.pid)
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait(timeout=SECONDS)
        wait_until(
            lambda: not [p for p in family if census.is_alive(p)], "all processes end", SECONDS
        )
        assert not census.sockets_below(self.folder)


@pytest.fixture
def serve(folder: Path) -> Iterator[Callable[..., Served]]:
    """serve(target, *options): the command, running, in a folder of the test's own."""
    started: list[Served] = []

    def start(
        target: object,
        *options: object,
        before: tuple[str, ...] = (),
        cwd: Path = folder,
        address: tuple[str, int] | None = None,
    ) -> Served:
        host, port = address or own_address()
        where = ["--host", host, "--port", str(port)]
        if "--server-root" not in options:
            where += ["--server-root", str(folder / "server")]
        more = [str(option) for option in options]
        made = Served(folder, str(target), *where, *more, before=before, cwd=cwd)
        started.append(made)
        return made

    yield start
    for made in started:
        made.end()


@pytest.fixture
def app(folder: Path) -> Path:
    (folder / "app.wsgi").write_text(TELLS)
    return folder / "app.wsgi"


def refused(made: Served) -> str:
    """The message of a command that must not start."""
    assert made.process.wait(timeout=SECONDS) == 1
    said = made.err.read_text()
    assert "Traceback" not in said
    return said


def test_start_and_stop_say_nothing_above_notice(
    serve: Callable[..., Served], app: Path, mode: str
) -> None:
    served = serve(app, "--mode", mode).wait_until_it_serves()
    served.page()
    served.end()
    assert served.process.returncode == 0
    assert served.complaints() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_stop_everything_too(
    serve: Callable[..., Served], app: Path, number: signal.Signals
) -> None:
    served = serve(app).wait_until_it_serves()
    served.end(number)
    assert served.process.returncode == 0


def test_killed_command_leaves_no_server(serve: Callable[..., Served], app: Path) -> None:
    serve(app).wait_until_it_serves().end(signal.SIGKILL)


def test_command_stops_while_a_request_runs_that_never_ends(
    serve: Callable[..., Served], folder: Path
) -> None:
    (folder / "app.wsgi").write_text(WAITS)
    served = serve(folder / "app.wsgi").wait_until_it_serves()
    with socket.create_connection(own_of(served), timeout=SECONDS) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_until(lambda: "it runs" in served.err.read_text(), "the request runs", SECONDS)
        served.end()


def own_of(served: Served) -> tuple[str, int]:
    host, port = served.url.removeprefix("http://").rstrip("/").rsplit(":", 1)
    return host.strip("[]"), int(port)


def test_reload_shows_what_a_changed_module_answers(
    serve: Callable[..., Served], folder: Path, mode: str
) -> None:
    module = folder / "shown.py"
    module.write_text("TEXT = b'first'\n")
    (folder / "app.wsgi").write_text(
        "import sys; sys.path.insert(0, __file__.rpartition('/')[0])\n"
        "from shown import TEXT\n"
        "def application(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    return [TEXT]\n"
    )
    served = serve(folder / "app.wsgi", "--reload", "--mode", mode).wait_until_it_serves()
    assert served.page() == "first"
    module.write_text("TEXT = b'second one'\n")
    wait_until(lambda: served.page() == "second one", "the changed module answers", SECONDS)


def test_static_files_are_served_by_httpd(serve: Callable[..., Served], app: Path) -> None:
    (app.parent / "some files").mkdir()
    (app.parent / "some files" / "a.txt").write_text("a file")
    served = serve(app, "--static", f"/files={app.parent}/some files").wait_until_it_serves()
    answer = requests.get(served.url + "files/a.txt", timeout=SECONDS)
    assert (answer.text, answer.headers["Content-Type"]) == ("a file", "text/plain")
    assert "Last-Modified" in answer.headers
    assert served.page("elsewhere").endswith("application")


def test_modules_beside_the_script_are_found(
    serve: Callable[..., Served], folder: Path, mode: str
) -> None:
    site = folder / "site"
    site.mkdir()
    (site / "app.wsgi").write_text("from views import application\n")
    (site / "views.py").write_text(TELLS)
    assert serve(site / "app.wsgi", "--mode", mode).wait_until_it_serves().page()


def test_callable_of_a_package_is_imported_from_the_current_folder(
    serve: Callable[..., Served], folder: Path, mode: str
) -> None:
    project = folder / "project"
    (project / "shop").mkdir(parents=True)
    (project / "shop" / "__init__.py").touch()
    (project / "shop" / "wsgi.py").write_text(
        TELLS.replace("def application", "class Sites:\n  @staticmethod\n  def main", 1)
        .replace("    start", "      start")
        .replace("    return", "      return")
    )
    served = serve("shop.wsgi:Sites.main", "--mode", mode, cwd=project).wait_until_it_serves()
    assert served.page().split()[0].isdigit()


def test_processes_are_workers_or_children(
    serve: Callable[..., Served], app: Path, mode: str
) -> None:
    served = serve(app, "--processes", 3, "--threads", 2, "--mode", mode).wait_until_it_serves()
    if mode == "daemon":
        wait_until(lambda: len(served.processes("worker/boot.py")) == 3, "three workers", SECONDS)
    else:
        program = conf.program()
        wait_until(lambda: len(served.processes(program)) == 4, "httpd and three", SECONDS)


def test_defined_names_reach_httpd(serve: Callable[..., Served], app: Path) -> None:
    served = serve(app, "-D", "Wanted").wait_until_it_serves()
    told = re.compile(r"Command line: '.* -D Wanted'")
    wait_until(lambda: told.search(served.err.read_text()), "httpd tells its command line")


@pytest.mark.skipif(not HAS_IPV6, reason="this machine has no ::1")
def test_ipv6_address_is_served(serve: Callable[..., Served], app: Path) -> None:
    with socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        port = probe.getsockname()[1]
    served = serve(app, address=("::1", port)).wait_until_it_serves()
    assert served.url == f"http://[::1]:{port}/"
    assert served.page()


def test_second_server_of_the_same_address_is_refused_and_the_first_serves_on(
    serve: Callable[..., Served], app: Path, folder: Path
) -> None:
    first = serve(app).wait_until_it_serves()
    other = folder / "other"
    other.mkdir()
    second = Served(
        other,
        *(str(app), "--host", own_of(first)[0], "--port", str(own_of(first)[1])),
        *("--server-root", str(other / "server")),
        before=(),
        cwd=other,
    )
    assert "is in use by another program. Choose another with --port." in refused(second)
    assert first.page()


def test_refused_second_server_leaves_the_firsts_files_alone(
    serve: Callable[..., Served], folder: Path
) -> None:
    """They have one server root: what stands there is what the first runs, and reloads."""
    for name in ("one", "two"):
        (folder / f"{name}.py").write_text(TELLS)
    first = serve("one:application").wait_until_it_serves()
    files = [folder / "server" / name for name in ("httpd.conf", "application.wsgi")]
    before = [file.read_text() for file in files]
    refused(serve("two:application", address=own_of(first)))
    assert [file.read_text() for file in files] == before


def test_target_in_a_path_with_spaces_and_quotes_is_served(
    serve: Callable[..., Served], folder: Path, mode: str
) -> None:
    odd = folder / """it's "odd" & 100%"""
    odd.mkdir()
    (odd / "my app.wsgi").write_text(TELLS)
    assert serve(odd / "my app.wsgi", "--mode", mode).wait_until_it_serves().page()


def test_missing_target_is_named(serve: Callable[..., Served], folder: Path) -> None:
    said = refused(serve(folder / "missing.wsgi"))
    assert f"{folder}/missing.wsgi does not exist" in said


@NEEDS_ROOT
def test_folder_that_httpds_user_may_not_enter_is_named_with_the_remedy(
    serve: Callable[..., Served], folder: Path
) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    (closed / "app.wsgi").write_text(TELLS)
    said = refused(serve(closed / "app.wsgi"))
    assert f"the folder {closed} may not be entered by www-data" in said
    assert f"chmod o+x {closed}" in said


@NEEDS_ROOT
def test_server_root_that_httpds_user_may_not_enter_is_named(
    serve: Callable[..., Served], app: Path, folder: Path
) -> None:
    (folder / "server").mkdir(mode=0o700)
    said = refused(serve(app, "--server-root", folder / "server"))
    assert f"the folder {folder}/server may not be entered by www-data" in said


@NEEDS_ROOT
def test_strict_umask_of_root_shuts_nobody_out(
    serve: Callable[..., Served], app: Path, mode: str
) -> None:
    strict = ("sh", "-c", 'umask 077; exec "$@"', "sh")
    assert serve(app, "--mode", mode, before=strict).wait_until_it_serves().page()


@NEEDS_ROOT
def test_script_that_httpds_user_may_not_read_is_named_with_the_remedy(
    serve: Callable[..., Served], app: Path
) -> None:
    app.chmod(0o600)
    assert f"chmod o+r {app}" in refused(serve(app))


@NEEDS_ROOT
def test_user_option_decides_who_runs_the_application(
    serve: Callable[..., Served], app: Path, mode: str
) -> None:
    served = serve(app, "--mode", mode, "--user", "nobody").wait_until_it_serves()
    assert served.page().split()[1] == "65534"


@NEEDS_ROOT
def test_ordinary_user_serves_without_a_name_or_a_home(
    serve: Callable[..., Served], app: Path, folder: Path, mode: str
) -> None:
    root = folder / "own"
    root.mkdir()
    os.chown(root, THROW_AWAY, THROW_AWAY)
    who = ("setpriv", f"--reuid={THROW_AWAY}", f"--regid={THROW_AWAY}", "--clear-groups", "--")
    options = ("--mode", mode, "--server-root", root / "server")
    served = serve(app, *options, before=who).wait_until_it_serves()
    assert served.page().split()[1] == str(THROW_AWAY)
    served.end()
    assert served.complaints() == []


@NEEDS_ROOT
def test_ordinary_user_cannot_choose_another(serve: Callable[..., Served], app: Path) -> None:
    who = ("setpriv", f"--reuid={THROW_AWAY}", f"--regid={THROW_AWAY}", "--clear-groups", "--")
    said = refused(serve(app, "--user", "nobody", before=who))
    assert "--user and --group need root" in said


def test_client_that_comes_while_the_port_is_asked_for_is_not_dropped(
    serve: Callable[..., Served], app: Path
) -> None:
    """From the first connection that is accepted on, each is answered."""
    address = own_address()
    served = serve(app, address=address)
    deadline = time.monotonic() + SECONDS
    while True:
        assert time.monotonic() < deadline and served.process.poll() is None
        try:
            client = socket.create_connection(address, timeout=SECONDS)
        except ConnectionRefusedError:
            continue
        with client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 200")
        break
    served.wait_until_it_serves()
