# SPDX-License-Identifier: Apache-2.0
"""request-, interrupt- and deadlock-timeout, rss-limit, restart-interval: what their users see."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import conf, extension, pythons
from harness.client import Connection, CutError, ask, request, wait_until
from harness.httpd import Httpd

APP = Path(__file__).parents[1] / "apps" / "hangs" / "wsgi.py"
# A stack as the log has it, from Python or from faulthandler; source lines are indented.
STACKS = r"PG3020: |hread 0x|\[group shop\] (\s|$)"
LONG = "60s"
Start = Callable[..., Httpd]


class Shop:
    """A process group of one application, in a sub-interpreter as it is by default."""

    def __init__(self, server: Httpd, folder: Path) -> None:
        self.server = server
        self.log = server.log
        self.folder = folder

    def begin(self, how: str, name: str = "first") -> Connection:
        """Until it hangs."""
        connection = Connection(self.server.address, deadline=30)
        connection.send(request("GET", f"/?{how}:{name}"))
        wait_until((self.folder / f"{name}.runs").exists, f"{name} runs", 30)
        return connection

    def end(self, name: str = "first") -> None:
        (self.folder / f"{name}.end").touch()

    def pid(self) -> str | None:
        """A worker that begins takes its time on a busy machine."""
        connection = Connection(self.server.address, deadline=30)
        try:
            connection.send(request("GET", "/?:quick"))
            answer = connection.read_response()
        finally:
            connection.close()
        assert answer.status == 200
        return answer.header("X-Pid")

    def asked_pid(self) -> str | None:
        """None where it cannot answer."""
        return ask(self.server.address, "/?:quick").header("X-Pid")

    def expect_stacks(self) -> None:
        self.log.expect("PG2020: request-timeout .* has passed for GET / \\(request ")
        self.log.allow(STACKS)


@pytest.fixture
def open_shop(start_httpd: Start, folder: Path) -> Callable[..., Shop]:
    """Start the group with these options, beside these lines."""

    def start(options: str, *more: str) -> Shop:
        shutil.copy(APP, folder / "app.py")
        folder.chmod(0o777)
        lines = [f"WSGIDaemonProcess shop {options}", "WSGIProcessGroup shop", *more]
        lines += [f'WSGIScriptAlias / "{folder}/app.py"', f'SetEnv files "{folder}"']
        shop = Shop(start_httpd([*lines, *conf.granted(folder)]), folder)
        assert shop.pid()
        return shop

    return start


Open = Callable[..., Shop]

# Requests.


@pytest.mark.parametrize("how", ["spin", "sleep"])
def test_one_request_is_interrupted_and_its_process_lives(open_shop: Open, how: str) -> None:
    shop = open_shop(f"threads=3 request-timeout=2s interrupt-timeout={LONG}")
    before = shop.pid()
    shop.expect_stacks()
    shop.log.expect("PG3021: script '.*app.py': the request failed: it ran for longer than req")
    shop.log.expect(rf"File \"{shop.folder}/app.py\", line \d+, in {how}$")
    shop.log.expect("Thread 0x.* runs GET / \\(request ")
    hung = shop.begin(how)
    assert shop.pid() == before
    assert hung.read_response().status == 504
    assert shop.pid() == before
    hung.close()


def test_an_application_that_catches_its_interruption_answers(open_shop: Open) -> None:
    shop = open_shop(f"request-timeout=2s interrupt-timeout={LONG}")
    shop.expect_stacks()
    before = shop.pid()
    hung = shop.begin("catch")
    answer = hung.read_response()
    assert (answer.status, answer.body) == (200, b"caught")
    assert shop.pid() == before
    hung.close()


def test_an_interrupted_response_that_has_begun_is_cut(open_shop: Open) -> None:
    shop = open_shop(f"request-timeout=2s interrupt-timeout={LONG}")
    shop.expect_stacks()
    shop.log.expect("PG3021")
    before = shop.pid()
    hung = shop.begin("blocks")
    with pytest.raises(CutError) as cut:
        hung.read_response()
    assert cut.value.response.body == b"first"
    assert shop.pid() == before
    hung.close()


def test_what_cannot_be_interrupted_is_a_504_and_costs_its_worker(open_shop: Open) -> None:
    """It waits in C, for a lock."""
    shop = open_shop("threads=3 request-timeout=2s interrupt-timeout=1s")
    shop.expect_stacks()
    shop.log.expect(r"File \".*/app.py\", line \d+, in lock$")
    shop.log.expect("GL0505: .*request-timeout= and interrupt-timeout= allow")
    shop.log.expect("PG2021: GET / .* did not end when it was interrupted")
    shop.log.expect("PG1119: .* gets a successor: a request ran for longer than request-timeout")
    before = shop.pid()
    hung = shop.begin("lock")
    assert hung.read_response().status == 504
    wait_until(lambda: shop.pid() != before, "another worker serves", 30)
    shop.log.allow("PG3021")
    shop.end()
    wait_until(lambda: len(shop.server.workers()) == 1, "the old worker has ended", 30)
    hung.close()


@pytest.mark.parametrize(("how", "is_cut"), [("sleep", False), ("blocks", True)])
def test_without_interrupt_timeout_httpd_answers_at_request_timeout(
    open_shop: Open, how: str, is_cut: bool
) -> None:
    shop = open_shop("request-timeout=2s")
    shop.expect_stacks()
    shop.log.expect("GL0505: .*request-timeout=")
    shop.log.expect("PG2021: GET / .* did not end: another worker")
    shop.log.expect("PG1119: .* request-timeout")
    shop.log.allow("OSError|PG3001|Traceback")
    hung = shop.begin(how)
    if is_cut:
        with pytest.raises(CutError):
            hung.read_response()
    else:
        assert hung.read_response().status == 504
    shop.log.wait_for("PG1119", 30)
    shop.end()
    wait_until(lambda: len(shop.server.workers()) == 1, "the old worker has ended", 30)
    hung.close()


def test_a_response_that_does_not_end_is_cut_at_request_timeout(open_shop: Open) -> None:
    shop = open_shop("request-timeout=2s")
    shop.log.expect("GL0505: .*request-timeout=")
    # Its client is gone then, and with it the request; the worker may have seen it before.
    shop.log.allow(f"PG2020|PG2021|PG1119|{STACKS}")
    hung = shop.begin("stream")
    with pytest.raises(CutError):
        hung.read_response()
    hung.close()


def test_what_the_worker_had_sent_in_time_reaches_a_slow_client(open_shop: Open) -> None:
    shop = open_shop("request-timeout=2s response-spool=32M")
    slow = Connection(shop.server.address, deadline=30, receive_buffer=4096)
    slow.send(request("GET", "/?large:first"))
    wait_until((shop.folder / "first.runs").exists, "it runs", 30)
    end = time.monotonic() + 3
    wait_until(lambda: time.monotonic() > end, "its time is over")
    assert len(slow.read_response().body) == 8 << 20
    slow.close()


# Deadlocks.


def expect_deadlock(shop: Shop, function: str) -> None:
    """Its time is told, with what ran and the stack that ends in this function."""
    shop.log.expect("PG2025: deadlock-timeout .1 s. has passed")
    shop.log.expect("PG2022: thread 0x.* runs GET / .request ")
    shop.log.expect("PG2023")
    shop.log.expect(rf"File \"{shop.folder}/app.py\", line \d+ in {function}")
    shop.log.expect("PG1119: .* deadlock-timeout")
    shop.log.expect("GL0504")
    shop.log.expect("PG1140: .* deadlock-timeout had passed, .* It ran: GET / ")
    shop.log.allow(f"PG2005|{STACKS}")


def test_a_worker_whose_gil_is_kept_for_ever_is_replaced(open_shop: Open) -> None:
    """What waits for it goes to the next one."""
    shop = open_shop("threads=1 deadlock-timeout=1s shutdown-timeout=1s")
    expect_deadlock(shop, "keep_gil_for_ever")
    before = shop.pid()
    hung = shop.begin("keep_gil_for_ever")
    assert shop.pid() != before
    assert hung.read_response().status == 502
    hung.close()


def test_stacks_of_a_request_that_keeps_the_gil_are_shown_without_it(open_shop: Open) -> None:
    shop = open_shop(f"request-timeout=1s interrupt-timeout={LONG} deadlock-timeout=0")
    shop.expect_stacks()
    shop.log.expect(rf"File \"{shop.folder}/app.py\", line \d+ in keep_gil_once")
    shop.log.expect("PG2023|PG2022")
    shop.log.expect("PG3021")
    before = shop.pid()
    hung = shop.begin("keep_gil_once")
    assert hung.read_response().status == 504
    assert shop.pid() == before
    hung.close()


# Interpreters with a GIL of their own: one of them hangs, and the others go on.


@pytest.fixture(scope="session", params=pythons.since((3, 12)), ids=lambda path: path.parts[-3])
def python(request: pytest.FixtureRequest, copies: Path) -> Path:
    return pythons.reachable(request.param, copies)


@pytest.fixture(params=["directive", "interpreters=2"])
def open_owning(
    request: pytest.FixtureRequest, open_shop: Open, python: Path, folder: Path
) -> Callable[[str], Shop]:
    """Start the group with an extension that keeps the GIL: its application has one interpreter,
    which owns its GIL, or two."""
    extension.build("keeps_gil", python, folder)
    options = f"python={python} python-path={folder}"

    def start(more: str) -> Shop:
        if request.param == "directive":
            return open_shop(f"{options} {more}", "WSGIPerInterpreterGIL On")
        return open_shop(f"{options} {more} {request.param}")

    return start


def begin_with_gil(shop: Shop) -> Connection:
    """Until it keeps the GIL."""
    os.mkfifo(shop.folder / "first.fifo")
    (shop.folder / "first.fifo").chmod(0o666)
    return shop.begin("keep_own_gil")


def let_go(shop: Shop) -> None:
    shop.end()
    open_fifo(shop)


def open_fifo(shop: Shop) -> None:
    os.close(os.open(shop.folder / "first.fifo", os.O_WRONLY | os.O_NONBLOCK))


@pytest.mark.slow
def test_a_busy_request_is_interrupted_in_an_interpreter_with_its_own_gil(
    open_owning: Open,
) -> None:
    shop = open_owning(f"threads=3 request-timeout=2s interrupt-timeout={LONG}")
    shop.expect_stacks()
    shop.log.expect("PG3021: script '.*app.py': the request failed: it ran for longer than req")
    shop.log.expect(rf"File \"{shop.folder}/app.py\", line \d+, in spin$")
    shop.log.expect("Thread 0x.* runs GET / \\(request ")
    before = shop.pid()
    hung = shop.begin("spin")
    shop.log.wait_for("PG2020", 30)
    later = shop.begin("sleep", "second")
    assert hung.read_response().status == 504
    shop.end("second")
    assert later.read_response().status == 200
    assert shop.pid() == before
    hung.close()
    later.close()


@pytest.mark.slow
def test_what_keeps_its_own_gil_is_a_504_and_costs_its_worker(open_owning: Open) -> None:
    """Stacks are shown all the same, those of the other interpreters too."""
    shop = open_owning("threads=3 request-timeout=2s interrupt-timeout=1s deadlock-timeout=0")
    shop.expect_stacks()
    shop.log.expect("PG2023")
    shop.log.expect(rf"File \"{shop.folder}/app.py\", line \d+ in keep_own_gil")
    shop.log.expect("GL0505: .*request-timeout= and interrupt-timeout= allow")
    shop.log.expect("PG2021: GET / .* did not end when it was interrupted")
    shop.log.expect("PG1119: .* gets a successor: a request ran for longer than request-timeout")
    shop.log.allow("PG3021")
    before = shop.pid()
    hung = begin_with_gil(shop)
    assert hung.read_response().status == 504
    shop.log.wait_for(rf"File \"{shop.folder}/app.py\", line \d+ in keep_own_gil", 30)
    # Until then the old one is given requests, and may have no interpreter for them.
    wait_until(lambda: shop.asked_pid() not in (None, before), "another worker serves", 30)
    let_go(shop)
    wait_until(lambda: len(shop.server.workers()) == 1, "the old worker has ended", 30)
    hung.close()


@pytest.mark.slow
def test_a_worker_one_of_whose_gils_is_kept_for_ever_is_replaced(open_owning: Open) -> None:
    """Though the GILs of all others can be had, the main interpreter's among them."""
    shop = open_owning("threads=2 deadlock-timeout=1s shutdown-timeout=1s")
    expect_deadlock(shop, "keep_own_gil")
    before = shop.pid()
    hung = begin_with_gil(shop)
    assert hung.read_response().status == 502
    assert shop.pid() != before
    hung.close()


def load_in_each(shop: Shop, *names: str) -> None:
    """Have the application in each interpreter, for which requests so many at once are needed."""
    begun = [shop.begin("sleep", name) for name in names]
    for name, connection in zip(names, begun, strict=True):
        shop.end(name)
        connection.read_response()
        connection.close()


@pytest.mark.slow
def test_a_busy_request_is_interrupted_while_another_interpreter_keeps_its_gil(
    open_shop: Open, python: Path, folder: Path
) -> None:
    """With its stack; the other one when it lets its GIL go. No deadlock-timeout has passed."""
    extension.build("keeps_gil", python, folder)
    options = f"interpreters=2 threads=3 request-timeout=2s interrupt-timeout={LONG}"
    options += f" response-timeout={LONG}"
    shop = open_shop(f"python={python} python-path={folder} {options}")
    shop.expect_stacks()
    shop.log.expect("PG3021: script '.*app.py': the request failed: it ran for longer than req")
    shop.log.expect(rf"File \"{shop.folder}/app.py\", line \d+, in spin$")
    shop.log.expect("PG2023|PG2022")
    shop.log.expect(rf"File \"{shop.folder}/app.py\", line \d+ in keep_own_gil")
    load_in_each(shop, "third", "fourth")
    before = shop.pid()
    hung = begin_with_gil(shop)
    shop.log.wait_for("PG2023", 30)
    busy = shop.begin("spin", "second")
    assert busy.read_response().status == 504
    shop.log.wait_for("PG3021")
    open_fifo(shop)
    assert hung.read_response().status == 504
    assert shop.pid() == before
    hung.close()
    busy.close()


@pytest.mark.slow
def test_what_other_interpreters_run_in_a_deadlock_is_answered(
    open_shop: Open, python: Path, folder: Path
) -> None:
    """Within shutdown-timeout, as at any end; their stacks are shown and not disturbed. Where the
    machine is slow it is faulthandler that shows them, without a comma."""
    extension.build("keeps_gil", python, folder)
    options = "interpreters=3 threads=3 deadlock-timeout=1s shutdown-timeout=10s"
    shop = open_shop(f"python={python} python-path={folder} {options}")
    shop.log.expect("PG2025: deadlock-timeout .1 s. has passed")
    shop.log.expect(rf"File \"{shop.folder}/app.py\", line \d+ in keep_own_gil")
    shop.log.expect(rf"File \"{shop.folder}/app.py\", line \d+,? in (deep|down|gone)")
    shop.log.expect("PG2023")
    shop.log.expect("PG1119: .* deadlock-timeout")
    shop.log.expect("GL0504")
    shop.log.expect("PG1140: .* deadlock-timeout had passed, .* It ran: GET / ")
    shop.log.allow(f"PG2005|{STACKS}")
    load_in_each(shop, "fourth", "fifth", "sixth")
    hung = begin_with_gil(shop)
    others = [shop.begin("deep", name) for name in ("second", "third")]
    shop.log.wait_for("PG1119: .* deadlock-timeout", 30)
    for name, other in zip(("second", "third"), others, strict=True):
        shop.end(name)
        assert other.read_response().status == 200
        other.close()
    assert hung.read_response().status == 502
    hung.close()


# Memory and age.


def test_a_worker_above_rss_limit_is_replaced(open_shop: Open) -> None:
    shop = open_shop("rss-limit=1M")
    shop.log.expect("PG2024: .* more than rss-limit .1048576.")
    shop.log.expect("PG1119: .* rss-limit is reached")
    before = shop.pid()
    wait_until(lambda: shop.pid() != before, "another worker serves", 30)


def test_a_worker_is_replaced_when_it_is_as_old_as_restart_interval(open_shop: Open) -> None:
    shop = open_shop("restart-interval=1s")
    before = shop.pid()
    wait_until(lambda: shop.pid() != before, "another worker serves", 30)
