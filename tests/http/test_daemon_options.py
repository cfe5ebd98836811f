# SPDX-License-Identifier: Apache-2.0
"""Options of WSGIDaemonProcess, seen from inside a worker. Embedded mode has none of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import conf
from harness.client import Connection, ask, connected, facts, request, wait_until
from harness.httpd import Httpd, complaint
from harness.load import Load

APPS = Path(__file__).parents[1] / "apps"
Start = Callable[..., Httpd]


def site_of(start_httpd: Start, folder: Path, app: str, options: str, **more: Any) -> Httpd:
    """One application at / in the process group `own` with these options."""
    shutil.copy(APPS / app / "wsgi.py", folder / "app.py")
    folder.chmod(0o777)
    alias = f'WSGIScriptAlias / "{folder}/app.py" process-group=own application-group=%{{GLOBAL}}'
    lines = [f"WSGIDaemonProcess own {options}", alias, f'SetEnv files "{folder}"']
    return start_httpd([*lines, *conf.granted(folder)], **more)


def worker_facts(start_httpd: Start, folder: Path, options: str, **more: Any) -> dict[str, Any]:
    return facts(site_of(start_httpd, folder, "process", options, **more).address)


@pytest.mark.parametrize(
    ("options", "key", "value"),
    [
        ("umask=0027", "umask", 0o27),
        ("umask=007", "umask", 0o7),
        ("home=/usr/share", "cwd", "/usr/share"),
        ("threads=1", "multithread", False),
        ("threads=2", "multithread", True),
        ("processes=1", "multiprocess", True),
        ("", "multiprocess", False),
        ("threads=1 maximum-requests=1", "run_once", True),
        ("threads=2 maximum-requests=1", "run_once", False),
        ("lang=C.UTF-8", "locale", "C.UTF-8"),
        ("locale=C.UTF-8", "locale", "C.UTF-8"),
        ("", "process_group", "own"),
        ("umask=0077 threads=1 umask='0027'", "umask", 0o27),
        ('threads=1 threads="2"', "multithread", True),
    ],
)
def test_option_is_seen_in_the_worker(
    start_httpd: Start, folder: Path, options: str, key: str, value: object
) -> None:
    assert worker_facts(start_httpd, folder, options)[key] == value


def test_lang_and_locale_reach_the_workers_environment(start_httpd: Start, folder: Path) -> None:
    environ = worker_facts(start_httpd, folder, "lang=C.UTF-8 locale=POSIX")["environ"]
    assert (environ["LANG"], environ["LC_ALL"]) == ("C.UTF-8", "POSIX")


def test_home_is_the_first_entry_of_the_path(start_httpd: Start, folder: Path) -> None:
    assert worker_facts(start_httpd, folder, f"home={folder}")["path"][0] == str(folder)


FOREIGN = {"PYTHONHOME": "/none", "LD_LIBRARY_PATH": "/none", "SSH_AUTH_SOCK": "/none"}
INHERITED = {"OWN_VARIABLE": "of httpd", **FOREIGN}
BASE = {"PATH", "LANG", "HOME", "USER", "LOGNAME"}


def test_clean_environment_has_five_variables(start_httpd: Start, folder: Path) -> None:
    found = worker_facts(start_httpd, folder, "environ=clean", environ=INHERITED)["environ"]
    assert set(found) == BASE


@pytest.mark.parametrize("options", ["environ=inherit", "environ=default", ""])
def test_inherited_environment_has_no_variable_of_loader_or_session(
    start_httpd: Start, folder: Path, options: str
) -> None:
    found = worker_facts(start_httpd, folder, options, environ=INHERITED)["environ"]
    assert found["OWN_VARIABLE"] == "of httpd"
    assert not set(FOREIGN) & set(found)


@pytest.mark.privileged
def test_groups_of_several_users_start_clean(start_httpd: Start, folder: Path) -> None:
    options = "\nWSGIDaemonProcess other user=games group=games"
    found = worker_facts(start_httpd, folder, options, environ=INHERITED)["environ"]
    assert set(found) == BASE


def test_display_name_is_the_workers_title(start_httpd: Start, folder: Path) -> None:
    assert "shown-name" in worker_facts(start_httpd, folder, "display-name=shown-name")["title"]
    assert "(wsgi:own)" in worker_facts(start_httpd, folder, "display-name=%{GROUP}")["title"]


def test_python_path_is_searched_with_its_pth_files(start_httpd: Start, folder: Path) -> None:
    first, second, named = (folder / name for name in ("first", "second", "named-in-pth"))
    for path in (first, second, named):
        path.mkdir()
    (first / "more.pth").write_text(f"{named}\n")
    path = worker_facts(start_httpd, folder, f"python-path={first}:{second}")["path"]
    assert path.index(str(first)) < path.index(str(second))
    assert str(named) in path


def test_python_home_is_an_environment_that_knows_nothing_of_the_server(
    start_httpd: Start, folder: Path
) -> None:
    home = folder / "venv"
    command = [conf.prefix() / "bin" / "python", "-m", "venv", "--without-pip", home]
    subprocess.run(command, check=True)
    assert worker_facts(start_httpd, folder, f"python-home={home}")["prefix"] == str(home)


@pytest.mark.parametrize("line", ["", "\nWSGIPythonHome {home}"])
def test_python_home_is_a_prefix_without_bin_python(
    start_httpd: Start, folder: Path, line: str
) -> None:
    """As Debian's /usr: mod_wsgi's documentation tells to write sys.prefix there."""
    home = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    (home / "bin" / "python").unlink()
    python = Path(sys.executable).resolve()
    (home / "bin" / "python3").unlink()
    (home / "bin" / "python3").symlink_to(python)
    options = line.format(home=home) or f"python-home={home}"
    found = worker_facts(start_httpd, folder, options)
    assert (found["prefix"], found["title"].split("\0")[0]) == (str(home), f"{home}/bin/python3")


@pytest.mark.privileged
def test_user_and_group_are_the_workers(start_httpd: Start, folder: Path) -> None:
    found = worker_facts(start_httpd, folder, "user=games group=games")
    assert (found["environ"]["USER"], found["environ"]["LOGNAME"]) == ("games", "games")
    assert found["uid"] not in (0, os.geteuid())
    assert "NoNewPrivs:\t1" in found["status"]


def test_worker_has_no_descriptor_but_its_own(start_httpd: Start, folder: Path) -> None:
    """RELIABILITY A2: no log, no listening socket, no shared memory of httpd's."""
    found = worker_facts(start_httpd, folder, "")
    foreign = [fd for fd in found["fds"] if fd.startswith("/") and fd != "/dev/null"]
    assert [fd for fd in foreign if "memfd:" not in fd and "/proc/" not in fd] == []


def test_processes_are_so_many_workers(start_httpd: Start, folder: Path) -> None:
    server = site_of(start_httpd, folder, "process", "processes=3")
    wait_until(lambda: len(server.workers()) == 3, "three workers")


def runs(folder: Path, server: Httpd, name: str) -> Connection:
    """A request that was sent to the application `waits`."""
    connection = Connection(server.address)
    connection.send(request("GET", f"/?{name}"))
    return connection


def test_threads_are_the_requests_at_once(start_httpd: Start, folder: Path) -> None:
    server = site_of(start_httpd, folder, "waits", "threads=2")
    clients = [runs(folder, server, name) for name in "ab"]
    wait_until(lambda: all((folder / f"{name}.runs").exists() for name in "ab"), "two run")
    clients.append(runs(folder, server, "c"))
    for name in "ab":
        assert not (folder / "c.runs").exists()
        (folder / f"{name}.end").touch()
        if name == "a":
            wait_until((folder / "c.runs").exists, "the third runs where the first has ended")
            break
    for name in "bc":
        (folder / f"{name}.end").touch()
    assert [client.read_response().body for client in clients] == [b"done"] * 3
    for client in clients:
        client.close()


def test_request_beyond_the_listen_backlog_is_a_503(start_httpd: Start, folder: Path) -> None:
    server = site_of(start_httpd, folder, "waits", "threads=1 listen-backlog=1")
    server.log.allow("GL0506")
    first = runs(folder, server, "a")
    wait_until((folder / "a.runs").exists, "the first runs")
    (folder / "b.end").touch()
    (folder / "c.end").touch()
    waiting = [runs(folder, server, name) for name in "bc"]
    refused = [client for client in waiting if is_refused(client)]
    assert len(refused) == 1
    (folder / "a.end").touch()
    served = [first, *(client for client in waiting if client not in refused)]
    assert [client.read_response().status for client in served] == [200, 200]
    for client in (first, *waiting):
        client.close()


def is_refused(client: Connection) -> bool:
    """503 with Retry-After at once; False while it waits."""
    client.socket.settimeout(1)
    try:
        response = client.read_response()
    except TimeoutError:
        return False
    finally:
        client.socket.settimeout(10)
    assert (response.status, bool(response.header("Retry-After"))) == (503, True)
    return True


def test_worker_is_replaced_after_its_maximum_of_requests(start_httpd: Start, folder: Path) -> None:
    server = site_of(start_httpd, folder, "process", "maximum-requests=5")
    first = facts(server.address)["pid"]
    for _ in range(4):
        facts(server.address)
    wait_until(lambda: facts(server.address)["pid"] != first, "another worker serves")
    server.wait_for_exit(first)


HANGS = """\
import pathlib, time
while not pathlib.Path(__file__).with_name("go").exists():
    time.sleep(0.05)
def application(environ, start_response):
    start_response("200 OK", [])
    return [b"loaded"]
"""


def test_worker_that_cannot_load_its_script_in_time_is_replaced(
    start_httpd: Start, folder: Path
) -> None:
    """startup-timeout: the clock starts with the first request."""
    (folder / "app.py").write_text(HANGS)
    lines = ["WSGIDaemonProcess own startup-timeout=500ms", "WSGIProcessGroup own"]
    alias = f'WSGIScriptAlias / "{folder}/app.py"'
    server = start_httpd([*lines, alias, *conf.granted(folder)])
    server.log.expect("PG2006.*startup-timeout")
    server.log.expect(rf"File \"{folder}/app.py\", line \d+, in <module>")
    server.log.allow(r"PG3020: |hread 0x|\[group own\] (\s|$)")
    cause = "exited with status 1: startup-timeout had passed, and no script was loaded"
    server.log.expect(f"PG1103.*{cause}.*It ran: GET / ")
    server.log.expect(f"GL0504.*{cause}")
    assert ask(server.address, "/").status == 502
    (folder / "go").touch()
    assert ask(server.address, "/").body == b"loaded"


def test_startup_timeout_is_over_once_a_script_is_loaded(start_httpd: Start, folder: Path) -> None:
    shutil.copy(APPS / "waits" / "wsgi.py", folder / "app.py")
    folder.chmod(0o777)
    group = ["WSGIDaemonProcess own startup-timeout=500ms", "WSGIProcessGroup own"]
    alias = [f'WSGIScriptAlias / "{folder}/app.py"', f'SetEnv files "{folder}"']
    server = start_httpd([*group, *alias, *conf.granted(folder)])
    first = runs(folder, server, "a")
    wait_until((folder / "a.runs").exists, "it runs")
    end = time.monotonic() + 1
    wait_until(lambda: time.monotonic() > end, "twice the time has passed")
    (folder / "a.end").touch()
    assert first.read_response().body == b"done"
    first.close()


@pytest.mark.parametrize(
    ("options", "name", "limit"),
    [
        ("cpu-time-limit=90 shutdown-timeout=7", "RLIMIT_CPU", [90, 98]),
        ("cpu-time-limit=90500ms shutdown-timeout=7", "RLIMIT_CPU", [91, 99]),
        ("memory-limit=3G", "RLIMIT_DATA", [3 << 30, 3 << 30]),
        ("virtual-memory-limit=1T", "RLIMIT_AS", [1 << 40, 1 << 40]),
        ("process-limit=4000", "RLIMIT_NPROC", [4000, 4000]),
    ],
)
def test_limit_is_the_workers(
    start_httpd: Start, folder: Path, options: str, name: str, limit: list[int]
) -> None:
    found = worker_facts(start_httpd, folder, options)["limits"]
    assert found.pop(name) == limit
    unlimited = worker_facts(start_httpd, folder, "")["limits"]
    assert found == {other: unlimited[other] for other in found}


def test_priority_is_the_workers(start_httpd: Start, folder: Path) -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert worker_facts(start_httpd, folder, "cpu-priority=19")["nice"] == 19
    assert worker_facts(start_httpd, folder, "cpu-priority=0")["nice"] == own


@pytest.mark.parametrize(
    ("options", "is_told"),
    [
        ("process-limit=900", True),
        ("", False),
        pytest.param("process-limit=900 user=games", False, marks=pytest.mark.privileged),
    ],
)
def test_limit_in_whose_account_httpd_is_too_is_noted_by_the_syntax_test(
    folder: Path, options: str, is_told: bool
) -> None:
    server = Httpd([f"WSGIDaemonProcess own {options}"], root=folder)
    said = server.test_configuration()
    assert said.returncode == 0
    assert ("GL0111" in said.stdout and "'own'" in said.stdout) is is_told


@pytest.mark.privileged
def test_priority_may_be_higher_than_httpds(start_httpd: Start, folder: Path) -> None:
    assert worker_facts(start_httpd, folder, "cpu-priority=-1")["nice"] == -1


def test_stack_of_a_thread_is_as_large_as_asked(start_httpd: Start, folder: Path) -> None:
    assert worker_facts(start_httpd, folder, "stack-size=384K")["stack"] == 384 << 10


def test_stacks_that_cannot_be_had_are_told(start_httpd: Start, folder: Path) -> None:
    options = "stack-size=1G virtual-memory-limit=2G"
    server = site_of(start_httpd, folder, "process", options)
    server.log.expect("PG1150.*threads=15, stack-size=1073741824.*Resource temporarily unavail")
    server.log.expect("PG1110.*its threads could not be started")
    server.log.allow("GL0506")
    assert ask(server.address, "/").status == 500


def test_python_eggs_is_in_the_environment(start_httpd: Start, folder: Path) -> None:
    found = worker_facts(start_httpd, folder, f"python-eggs={folder}/eggs")["environ"]
    assert found["PYTHON_EGG_CACHE"] == f"{folder}/eggs"


def test_memory_beyond_the_limit_cannot_be_had(start_httpd: Start, folder: Path) -> None:
    """The application sees MemoryError, and goes on."""
    server = site_of(start_httpd, folder, "uses_up", "memory-limit=400M threads=2")
    assert ask(server.address, f"/?memory={500 << 20}").body == b"false"
    assert ask(server.address, f"/?memory={100 << 20}").body == b"true"


def test_worker_is_replaced_after_its_cpu_time_and_no_request_fails(
    start_httpd: Start, folder: Path
) -> None:
    options = "cpu-time-limit=1 shutdown-timeout=20 threads=4"
    server = site_of(start_httpd, folder, "uses_up", options)
    with Load(server.address, "/?cpu=40", clients=3) as load:
        wait_until(lambda: len({answer.text for answer in load.answers}) >= 3, "two successors", 60)
    assert load.failures() == []


def test_worker_that_leaves_no_cpu_time_to_end_in_is_killed_and_told(
    start_httpd: Start, folder: Path
) -> None:
    """The hard limit: shutdown-timeout and a second beyond."""
    options = "cpu-time-limit=1 shutdown-timeout=0 threads=2"
    server = site_of(start_httpd, folder, "uses_up", options)
    server.log.expect(r"was killed by SIGKILL, likely because all the CPU time")
    server.log.allow("GL0504|PG1103")
    client = Connection(server.address, deadline=60)  # two seconds of CPU time may take long
    client.send(request("GET", "/?all-cpu="))
    assert client.read_response().status == 502
    client.close()


@pytest.mark.parametrize(
    ("options", "length", "status"),
    [("", 32000, 200), ("", 33000, 502), ("header-buffer-size=8K", 9000, 502),
     ("header-buffer-size=128K", 100_000, 200)],
)  # fmt: skip
def test_response_header_is_bounded_by_header_buffer_size(
    start_httpd: Start, folder: Path, options: str, length: int, status: int
) -> None:
    """The log names the bound, and the directive that moves it."""
    server = site_of(start_httpd, folder, "long_header", options)
    if status != 200:
        server.log.expect("GL0.*header-buffer-size")
    response = ask(server.address, f"/?{length}")
    assert response.status == status
    assert len(response.header("X-Long") or "") == (length if status == 200 else 0)


def test_buffer_sizes_are_those_of_the_wire(start_httpd: Start, folder: Path) -> None:
    """The kernel doubles what it is asked for."""
    options = "send-buffer-size=40000 receive-buffer-size=50000"
    assert [80000, 100000] in worker_facts(start_httpd, folder, options)["buffers"]


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("threads=many", "threads"),
        ("threads=0", "threads"),
        ("processes=-1", "processes"),
        ("interpreters=0", "interpreters=: '0' is not a whole number from 1 to 256"),
        ("interpreters=257", "interpreters"),
        ("interpreters=2 preload=on", "preload=on and interpreters= exclude each other"),
        ("no-such-option=1", "no-such-option"),
        ("umask=999", "umask"),
        ("home=relative", "home"),
        ("user=root", "root"),
        ("user=#0", "#0"),
        ("user=no-such-user", "no-such-user"),
        ("shutdown-timeout=5parsecs", "shutdown-timeout"),
        ("header-buffer-size=1", "header-buffer-size"),
        ("send-buffer-size=1", "send-buffer-size"),
        ("environ=some", "environ"),
        ("python=relative", "python"),
        ("listen-backlog=-1", "listen-backlog"),
        ("maximum-requests=x", "maximum-requests"),
        ("child-threads=0", "child-threads=: '0' is not a whole number from 1 to 100"),
        ("response-flush-delay=5m", "response-flush-delay=: '5m' is not a duration (milliseconds"),
        ("response-flush-delay=60001", "of at most 60 seconds"),
        ("response-buffer-size=65535", "response-buffer-size=: '65535' is not a size"),
        ("response-socket-timeout=x", "response-socket-timeout=: 'x' is not a duration"),
        ("child-threads=101", "child-threads"),
        ("queue-timeout=-1", "queue-timeout=: '-1' is not a duration"),
        ("connect-timeout=1x", "connect-timeout=: '1x' is not a duration"),
        ("response-timeout=soon", "response-timeout=: 'soon' is not a duration"),
        ("response-header-size=1K", "response-header-size=: '1K' is not a size"),
        ("response-header-count=0", "response-header-count=: '0' is not a whole number"),
        ("interim-responses=5", "interim-responses=: '5' is not a whole number from 0 to 4"),
        ("interim-responses=-1", "interim-responses"),
        ("log-rate=0", "log-rate=: '0' is not a whole number from 1 to 100000"),
        ("log-burst=1000001", "log-burst"),
        ("log-request-size=0", "log-request-size=: '0' is not a size"),
        ("cpu-time-limit=-1", "cpu-time-limit"),
        ("socket-user=no-such-user", "socket-user=: 'no-such-user' is no user"),
        ("socket-user=", "socket-user"),
        ("cpu-priority=20", "from -20 to 19"),
        ("cpu-priority=-21", "from -20 to 19"),
        ("cpu-priority=--1", "from -20 to 19"),
        ("memory-limit=2P", "memory-limit"),
        ("memory-limit=2T", "memory-limit"),
        ("virtual-memory-limit=much", "virtual-memory-limit"),
        ("process-limit=-1", "process-limit"),
        ("stack-size=1", "131072"),
        ("cgroup=", "cgroup"),
        ("cgroup=a/../b", "cgroup=: 'a/../b' leads out"),
        ("cgroup=..", "cgroup=: '..' leads out"),
        ("memory-max=-1", "memory-max"),
        ("cpu-max=150%%", "cpu-max=: '150%%' is not a whole number from 0 to 100000 percent"),
        ("cpu-max=%", "cpu-max"),
        ("pids-max=many", "pids-max"),
    ],
)
def test_mistake_in_an_option_is_named_by_the_syntax_test(line: str, named: str) -> None:
    assert named in complaint([f"WSGIDaemonProcess own {line}"])


def test_wrong_python_home_disables_its_group_only(start_httpd: Start, folder: Path) -> None:
    shutil.copy(APPS / "process" / "wsgi.py", folder / "app.py")
    lines = ["WSGIDaemonProcess bad python-home=/nonexistent", "WSGIDaemonProcess good"]
    for name in ("bad", "good"):
        options = f"process-group={name} application-group=%{{GLOBAL}}"
        lines.append(f'WSGIScriptAlias /{name} "{folder}/app.py" {options}')
    server = start_httpd([*lines, *conf.granted(folder)])
    server.log.expect("/nonexistent")
    server.log.allow("GL0|bad|PG")
    assert ask(server.address, "/bad").status == 500
    assert facts(server.address, "/good")["process_group"] == "good"


def test_killed_worker_is_replaced_with_the_same_options(start_httpd: Start, folder: Path) -> None:
    server = site_of(start_httpd, folder, "process", "umask=0027 display-name=again")
    server.log.allow("GL0|PG1103")
    first = facts(server.address)
    os.kill(first["pid"], 9)
    server.wait_for_exit(first["pid"])
    second = facts(server.address)
    assert second["pid"] != first["pid"]
    for key in ("umask", "cwd", "uid", "title"):
        assert second[key] == first[key]


def test_connection_is_kept_from_request_to_request(start_httpd: Start, folder: Path) -> None:
    """The buffers of a worker's sockets: as many after fifty requests as after the first."""
    server = site_of(start_httpd, folder, "process", "threads=1")
    with connected(server.address) as client:
        counts = set()
        for _ in range(50):
            client.send(request("GET", "/"))
            counts.add(client.read_response().body.count(b"socket:"))
    assert len(counts) == 1
