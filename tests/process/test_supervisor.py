# SPDX-License-Identifier: Apache-2.0
"""The real supervisor, jail and pages, with a stand-in for httpd and fake workers."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator

import pytest
from process import standin
from process.standin import StandIn, is_alive, list_child, wait_for

from pyglue import _pages
from pyglue.supervisor.channel import MESSAGES_PER_SECOND
from pyglue.supervisor.logs import BYTES_PER_SECOND


@pytest.fixture
def httpd() -> Iterator[StandIn]:
    """A supervisor without a plan."""
    made = StandIn()
    made.start()
    yield made
    made.close()


@pytest.mark.parametrize("memory", ["pages_fd", "rows_fd"])
def test_memories_of_another_version_are_left_alone_and_told(memory: str) -> None:
    """SUCCESSION 9. The version is the second word of both."""
    made = StandIn()
    os.pwrite(getattr(made, memory), struct.pack("=I", 99), 4)
    made.start()
    try:
        assert made.process is not None
        assert made.process.wait(standin.DEADLINE) == 1
        assert "PG1008" in made.log.read_text()
    finally:
        made.close()


def test_workers_of_a_plan_are_published_with_socket_and_key(httpd: StandIn) -> None:
    shop = httpd.group(processes=2, threads=3)
    number = httpd.send(shop)
    workers = httpd.ready(2)
    assert httpd.pages.read_plan()[:2] == (number, 0)
    assert {worker.number for worker in workers} == {1 << 32 | 1, 1 << 32 | 2}
    for worker in workers:
        assert worker.digest.hex() == shop["digest"] and worker.threads == 3
        settings = json.loads(worker.ask("settings"))
        assert settings["key"] == worker.key.hex() and settings["number"] == worker.number
    assert len({worker.key for worker in workers}) == 2
    assert httpd.group_state(shop) == (_pages.GROUP_SERVING, "")


def test_worker_runs_as_its_user_with_httpds_environment_less_what_is_httpds_alone(
    httpd: StandIn,
) -> None:
    httpd.send(httpd.group(lang="C"))
    (worker,) = httpd.ready()
    assert int(worker.ask("uid")) == standin.UID
    environ = json.loads(worker.ask("environ"))
    assert environ["SETTING"] == "kept" and environ["LANG"] == "C"
    assert environ["USER"] == environ["LOGNAME"] == "nobody" and environ["HOME"] == "/"
    assert "SUDO_USER" not in environ and "LD_PRELOAD" not in environ


def test_socket_lies_in_a_directory_of_ours_and_belongs_to_httpds_user(httpd: StandIn) -> None:
    httpd.send(httpd.group())
    (worker,) = httpd.ready()
    directory = worker.path.parent.stat()
    assert stat.S_IMODE(directory.st_mode) == 0o711 and directory.st_uid == os.geteuid()
    assert stat.S_IMODE(worker.path.stat().st_mode) == 0o600
    assert worker.path.stat().st_uid == standin.UID
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(worker.path))
        listener = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        assert httpd.process is not None
        assert int.from_bytes(listener[:4], sys.byteorder) == httpd.process.pid


def test_dead_worker_gets_an_obituary_and_a_replacement(httpd: StandIn) -> None:
    httpd.send(httpd.group())
    (worker,) = httpd.ready()
    worker.ask("record 7 42")
    os.kill(worker.pid, signal.SIGKILL)
    found = wait_for(lambda: httpd.pages.find_obituary(worker.number), "the obituary")
    assert found == (True, [42], "was killed by SIGKILL")
    wait_for(lambda: [w for w in httpd.workers() if w.number != worker.number], "a replacement")
    assert not worker.path.exists()
    line = httpd.wait_log("PG1103")
    assert (
        "process group 'shop'" in line
        and "after 7 requests and with 1 running, was killed by SIGKILL;" in line
    )


def test_new_plan_publishes_the_new_worker_before_the_old_one_leaves(httpd: StandIn) -> None:
    httpd.send(httpd.group())
    (old,) = httpd.ready()
    old.ask("ignore")
    httpd.send(httpd.group(threads=5))
    wait_for(
        lambda: [w for w in httpd.workers(_pages.WORKER_LEAVING) if w.number == old.number],
        "the old one is leaving",
    )
    (new,) = httpd.ready()
    assert new.threads == 5 and old.ask("pid")
    os.kill(old.pid, signal.SIGKILL)
    wait_for(lambda: len(httpd.workers(None)) == 1, "the old one is forgotten")


def test_changed_file_rolls_the_group(httpd: StandIn) -> None:
    httpd.send(httpd.group(processes=2))
    old = {worker.number for worker in httpd.ready(2)}
    httpd.workers()[0].ask("say 4")
    wait_for(
        lambda: len(httpd.workers()) == 2 and not old & {w.number for w in httpd.workers()},
        "two new workers",
    )


def test_worker_that_failed_to_load_is_not_published_while_a_good_one_serves(
    httpd: StandIn,
) -> None:
    httpd.send(httpd.group())
    (old,) = httpd.ready()
    bad = httpd.root / "bad"
    bad.write_text(httpd.python.read_text().replace('way == "unloaded"', "True"))
    bad.chmod(0o755)
    httpd.send(httpd.group(python=str(bad)))
    httpd.wait_log("PG1104")
    assert [worker.number for worker in httpd.ready()] == [old.number]


def test_group_whose_python_does_not_exist_is_disabled_with_the_reason(httpd: StandIn) -> None:
    shop = httpd.group(python="/nonexistent/bin/python")
    httpd.send(shop)
    state, cause = wait_for(
        lambda: (s := httpd.group_state(shop)) and s[0] == _pages.GROUP_DISABLED and s, "disabled"
    )
    assert state == _pages.GROUP_DISABLED
    assert "execve" in cause and "No such file" in cause
    assert "/nonexistent/bin/python" in httpd.wait_log("PG1103")


def test_home_that_does_not_exist_is_named_with_its_option(httpd: StandIn) -> None:
    httpd.send(httpd.group(home="/nonexistent/home"))
    line = httpd.wait_log("PG1103")
    assert "'chdir': No such file or directory (user nobody, /nonexistent/home)" in line
    assert "home= names a folder" in line and str(httpd.python) not in line


def test_group_without_an_engine_is_disabled_and_told_the_command(httpd: StandIn) -> None:
    shop = httpd.group("failed-shop")
    httpd.send(shop)
    wait_for(lambda: (s := httpd.group_state(shop)) and s[0] == _pages.GROUP_DISABLED, "disabled")
    assert "pyglue install-engine --python" in httpd.wait_log("PG1110")


def test_worker_that_says_nothing_is_killed_after_launch_timeout(httpd: StandIn) -> None:
    shop = httpd.group("mute-shop", launch_timeout=0.3)
    httpd.send(shop)
    httpd.wait_log("PG1106")
    wait_for(lambda: (s := httpd.group_state(shop)) and s[0] == _pages.GROUP_DISABLED, "disabled")


def test_plan_with_a_mistake_is_refused_and_what_ran_goes_on(httpd: StandIn) -> None:
    number = httpd.send(httpd.group())
    (worker,) = httpd.ready()
    refused = httpd.send(httpd.group(threads=0))
    wait_for(lambda: httpd.pages.read_plan()[1] == refused, "refused")
    assert httpd.pages.read_plan()[0] == number
    assert "threads" in httpd.wait_log("PG1003")
    assert [w.number for w in httpd.workers()] == [worker.number]


def test_output_of_a_worker_is_logged_escaped_with_group_and_pid(httpd: StandIn) -> None:
    httpd.send(httpd.group())
    (worker,) = httpd.ready()
    worker.ask("print hello \x1b[2J")
    assert f"[pid {worker.pid}] [group shop] hello \\x1b[2J\n" in httpd.wait_log("hello")


def test_worker_that_floods_its_log_is_read_slower(httpd: StandIn) -> None:
    """Else the supervisor would have time for nothing else. PG1111 comes once a second."""
    httpd.send(httpd.group())
    (worker,) = httpd.ready()
    worker.ask("shout")
    wait_for(lambda: httpd.read_log().count("PG1111") >= 3, "lines are lost for three seconds")
    shouted = int(worker.ask("shouted"))
    assert shouted < (httpd.read_log().count("PG1111") + 3) * BYTES_PER_SECOND


def test_worker_that_floods_with_messages_is_read_slower(httpd: StandIn) -> None:
    """TENANTS 2, rule 4; another group is served meanwhile."""
    httpd.send(httpd.group(), httpd.group("blog"))
    worker = httpd.ready(2)[0]
    worker.ask("ignore")
    for _ in range(3 * MESSAGES_PER_SECOND):
        worker.ask("say 4")
    httpd.wait_log("PG1109")
    httpd.ready(2)


def test_main_error_log_that_was_rotated_is_let_go_with_the_next_plan(httpd: StandIn) -> None:
    httpd.send(httpd.group())
    httpd.ready()
    httpd.log.rename(httpd.log.with_suffix(".1"))
    httpd.log.touch(0o600)
    number = httpd.send(httpd.group())
    wait_for(lambda: httpd.pages.read_plan()[0] == number, "the plan is accepted")
    httpd.ready()
    assert httpd.process is not None
    for fd in (1, 2):
        assert os.readlink(f"/proc/{httpd.process.pid}/fd/{fd}") == str(httpd.log)
    httpd.channel.send(b"no message")
    httpd.wait_log("PG1004")


def test_stop_leaves_no_process_no_socket_and_no_directory(httpd: StandIn) -> None:
    httpd.send(httpd.group(processes=2, shutdown_timeout=0.2))
    workers = httpd.ready(2)
    workers[0].ask("ignore")
    orphan = int(workers[1].ask("orphan"))
    pids = [worker.pid for worker in workers]
    assert httpd.stop() == 0
    assert not list(httpd.run.iterdir())
    assert not any(map(is_alive, [*pids, orphan]))
    assert httpd.workers(None) == []


def test_signals_at_its_end_change_nothing_of_how_it_ended(httpd: StandIn) -> None:
    """httpd takes one that was killed for one that left something behind, and starts another."""
    httpd.send(httpd.group())
    httpd.ready()
    assert httpd.process is not None
    httpd.channel.send(standin.HEAD.pack(standin.STOP, 1, 2, 0, 0))
    while httpd.process.poll() is None:
        httpd.process.send_signal(signal.SIGTERM)
    assert httpd.process.returncode == 0


def test_departed_group_serves_until_the_last_child_of_the_older_plan_has_gone(
    httpd: StandIn,
) -> None:
    old = httpd.send(httpd.group(), httpd.group("blog"))
    httpd.ready(2)
    list_child(httpd.rows_fd, 0, os.getpid(), old)
    httpd.send(httpd.group("blog"))
    httpd.wait_log("PG1113")
    assert httpd.group_state(httpd.group()) == (_pages.GROUP_SERVING, "")
    list_child(httpd.rows_fd, 0, 0, 0)
    wait_for(lambda: httpd.group_state(httpd.group()) is None, "the group is gone")
    httpd.ready(1)


def test_supervisor_serves_httpds_children_after_the_parent_and_ends_with_them(
    httpd: StandIn,
) -> None:
    number = httpd.send(httpd.group())
    httpd.ready()
    child = subprocess.Popen(["sleep", "60"])
    list_child(httpd.rows_fd, 0, child.pid, number)
    httpd.channel.close()
    httpd.wait_log("PG1007")
    (worker,) = httpd.ready()
    assert worker.ask("pid")
    child.kill()
    child.wait()
    assert httpd.process is not None and httpd.process.wait(standin.DEADLINE) == 0
    assert not list(httpd.run.iterdir())


def test_directory_that_others_can_write_disables_the_group_and_names_the_directive(
    httpd: StandIn,
) -> None:
    httpd.run.chmod(0o777)
    shop = httpd.group()
    httpd.send(shop)
    wait_for(lambda: (s := httpd.group_state(shop)) and s[0] == _pages.GROUP_DISABLED, "disabled")
    line = httpd.wait_log("PG1105")
    assert str(httpd.run) in line and "WSGISocketPrefix" in line


def test_message_of_another_process_is_ignored(httpd: StandIn) -> None:
    """mod_cgid's daemon holds the same socket."""
    code = (
        "import socket, struct, sys; s = socket.socket(fileno=int(sys.argv[1]));"
        "s.send(struct.pack('=IIIIQ', 3, 1, 2, 0, 0))"
    )
    fd = httpd.channel.fileno()
    subprocess.run([sys.executable, "-c", code, str(fd)], pass_fds=(fd,), check=True)
    assert "not httpd's parent" in httpd.wait_log("PG1004")
    httpd.send(httpd.group())
    httpd.ready()


def test_heartbeat_advances(httpd: StandIn) -> None:
    first = wait_for(lambda: httpd.pages.read_plan()[2], "a heartbeat")
    wait_for(lambda: httpd.pages.read_plan()[2] > first, "the next heartbeat")


def test_workers_of_a_killed_supervisor_stay_published_until_there_are_new_ones(
    httpd: StandIn,
) -> None:
    httpd.send(httpd.group())
    (old,) = httpd.ready()
    assert httpd.process is not None
    httpd.process.kill()
    httpd.process.wait()
    httpd.channel.close()
    httpd.start(epoch=2)
    wait_for(lambda: httpd.pages.read_plan()[0] == 0, "no plan is taken yet")
    assert [worker.number for worker in httpd.ready()] == [old.number]
    beat = wait_for(lambda: httpd.pages.read_plan()[2], "a heartbeat")
    wait_for(lambda: httpd.pages.read_plan()[2] > beat, "it has looked after them")
    assert [worker.number for worker in httpd.ready()] == [old.number]
    assert httpd.group_state(httpd.group()) == (_pages.GROUP_SERVING, "")
    httpd.send(httpd.group())
    wait_for(lambda: [w.number for w in httpd.workers()] == [2 << 32 | 1], "the new one alone")
    assert httpd.stop() == 0
    assert not list(httpd.run.iterdir())


def test_dead_workers_of_a_killed_supervisor_are_taken_out_of_the_pages(httpd: StandIn) -> None:
    httpd.send(httpd.group())
    (old,) = httpd.ready()
    pid = old.pid
    assert httpd.process is not None
    httpd.process.kill()
    httpd.process.wait()
    httpd.channel.close()
    os.kill(pid, signal.SIGKILL)
    httpd.start(epoch=2)
    wait_for(lambda: not httpd.workers(), "nothing leads to it any more")
    assert httpd.stop() == 0
