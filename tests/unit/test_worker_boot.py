# SPDX-License-Identifier: Apache-2.0
"""From boot.py to the exit under a fake supervisor: docs/plan.md section 4. The engine is a fake,
the threads, the wire, signals and the watchdog are real."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic_ns

import pytest
from harness import wire
from harness.client import wait_until
from harness.wire import Frame, Peer, Type

ROOT = Path(__file__).parents[2]
NUMBER = (1 << 32) + 5
KEY = bytes(range(32))
RECORD_SIZE = 24 + 1024 * 16
PATIENCE = 15.0
COARSE_MS = 10  # of the kernel's cheap clock
HELLO, READY, FAILED, CHANGED, RELOAD, RECYCLE, LEFT = range(1, 8)
DRAIN, STOP = 1, 2
WATCHED = """
import json, pathlib
def watched():
    return json.loads(pathlib.Path(__file__).with_name("watched.json").read_text())
"""


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("engine") / f"_engine{sysconfig.get_config_var('EXT_SUFFIX')}"
    sources = [
        ROOT / "tests/c/fake_engine_module.c",
        ROOT / "pyglue/engine/serve.c",
        *sorted(ROOT.glob("pyglue/worker/*.c")),
        *sorted(ROOT.glob("pyglue/bridge/*.c")),
    ]
    folders = [ROOT / "pyglue" / name for name in ("bridge", "worker", "engine")]
    include = [f"-I{folder}" for folder in [*folders, sysconfig.get_path("include")]]
    subprocess.run(
        ["cc", "-std=gnu11", "-D_GNU_SOURCE", "-shared", "-fPIC", "-pthread", *include,
         *map(str, sources), "-o", str(target)],
        check=True,
    )  # fmt: skip
    return target


@pytest.fixture
def package(tmp_path: Path, engine: Path) -> Path:
    """A package with the real worker, the fake engine, and a list of watched files."""
    made = tmp_path / "pyglue"
    (made / "worker").mkdir(parents=True)
    (made / "loader").mkdir()
    for file in (ROOT / "pyglue/worker").glob("*.py"):
        shutil.copy(file, made / "worker")
    # A version of its own, so that no engine of the environment that runs the tests belongs to it.
    (made / "__init__.py").write_text('__version__ = "fake"\n')
    (made / "loader/reload.py").write_text(WATCHED)
    (made / "loader/watched.json").write_text("{}")
    shutil.copy(engine, made)
    return made


class Supervised:
    """One worker process, and the supervisor's ends of its descriptors."""

    def __init__(self, package: Path, folder: Path, **changes: object) -> None:
        self.path = str(folder / "socket")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.path)
        listener.listen(100)
        control, self.control = os.pipe()
        self.messages, messages = os.pipe2(os.O_NONBLOCK)
        self.log, log = os.pipe()
        record = os.memfd_create("record")
        os.ftruncate(record, RECORD_SIZE)
        fds = (control, listener.fileno(), record, messages, self.log)
        moves = " ".join(f"{to}<&{fd}" for to, fd in zip(range(3, 8), range(43, 48), strict=True))
        for to, fd in zip(range(43, 48), fds, strict=True):
            os.dup2(fd, to, inheritable=True)
        closes = " ".join(f"{fd}<&-" for fd in range(43, 48))
        self.process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" {moves} {closes}', "bash", sys.executable, "-B",
             str(package / "worker/boot.py")],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=range(43, 48),
        )  # fmt: skip
        for fd in (control, messages, log, record, *range(43, 48)):
            os.close(fd)
        listener.close()
        settings = json.dumps(settings_of(package, **changes)).encode()
        self.settings = struct.pack("=I", len(settings)) + settings

    def send_settings(self, size: int | None = None) -> None:
        os.write(self.control, self.settings[:size])

    def message(self) -> tuple[int, int, int]:
        ready, _, _ = select.select([self.messages], [], [], PATIENCE)
        assert ready, "no message came"
        data = os.read(self.messages, 16)
        assert data, f"the worker ended: {os.read(self.log, 65536).decode()}"
        kind, argument, value = struct.unpack("=IIQ", data)
        return kind, argument, value

    def expect(self, *messages: tuple[int, int, int]) -> None:
        for message in messages:
            assert self.message() == message

    def become_ready(self) -> None:
        self.expect((HELLO, 1, NUMBER), (READY, 1, 0))

    def command(self, kind: int, value: int) -> None:
        os.write(self.control, struct.pack("=IIQ", kind, 0, value))

    def lose_supervisor(self) -> None:
        os.close(self.control)
        self.control = -1

    def exit_code(self) -> int:
        return self.process.wait(PATIENCE)

    def words(self) -> str:
        return os.read(self.log, 65536).decode()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE)
        for fd in (self.control, self.messages, self.log):
            with contextlib.suppress(OSError):
                os.close(fd)


def settings_of(package: Path, **changes: object) -> dict[str, object]:
    return {
        "version": 1, "number": NUMBER, "key": KEY.hex(), "group": "shop", "threads": 2,
        "processes": 1, "multiprocess": False, "package": str(package), "python_path": [],
        "home": None, "display_name": None, "locale": None, "peer_uid": os.getuid(),
        "request_max": 1 << 20, "socket_timeout": 5.0, "script_uid": None, "script_gid": None,
        "send_buffer_size": 0, "receive_buffer_size": 0, "pass_descriptors": False,
        "dumpable": True, "maximum_requests": 0, "startup_timeout": 0.0,
        "shutdown_timeout": 5.0, "scripts": [], **changes,
    }  # fmt: skip


Start = Callable[..., Supervised]


@pytest.fixture
def start(package: Path, tmp_path: Path) -> Iterator[Start]:
    started: list[Supervised] = []

    def one(**changes: object) -> Supervised:
        started.append(Supervised(package, tmp_path, **changes))
        started[-1].send_settings()
        return started[-1]

    yield one
    for worker in started:
        worker.close()


def script(name: str) -> dict[str, str]:
    return {"script": name, "application_group": "", "callable": "application"}


def greeted(worker: Supervised) -> Peer:
    peer = Peer.connect(worker.path)
    assert peer.greet(NUMBER, KEY) == 2
    return peer


def test_a_worker_says_hello_then_ready_and_serves(start: Start) -> None:
    worker = start(scripts=[script("/srv/shop.wsgi")])
    worker.become_ready()
    with greeted(worker) as peer:
        assert peer.ask(wire.request(1, wire.snapshot(1))).status == 500


def test_a_script_that_fails_makes_it_ready_with_zero(start: Start) -> None:
    worker = start(scripts=[script("/srv/broken.wsgi"), script("/srv/shop.wsgi")])
    worker.expect((HELLO, 1, NUMBER), (READY, 0, 0))


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="this Python can do it")
def test_an_older_python_refuses_to_be_spread(start: Start) -> None:
    worker = start(interpreters=2)
    worker.expect((HELLO, 1, NUMBER), (FAILED, 6, 0))
    assert worker.exit_code() == 1
    assert "PG3035: interpreters=2 needs Python 3.12 or later" in worker.words()


def test_without_an_engine_it_names_the_command_that_installs_one(
    start: Start, package: Path
) -> None:
    next(package.glob("_engine*")).unlink()
    worker = start()
    worker.expect((HELLO, 1, NUMBER), (FAILED, 1, 0))
    assert worker.exit_code() == 1
    assert f"pyglue install-engine --python {sys.executable}" in worker.words()


def test_an_engine_of_this_python_lies_in_the_engine_folder(start: Start, package: Path) -> None:
    folder = package / "engines" / str(sysconfig.get_config_var("SOABI"))
    folder.mkdir(parents=True)
    next(package.glob("_engine*")).rename(
        folder / f"_engine{sysconfig.get_config_var('EXT_SUFFIX')}"
    )
    start().become_ready()


def test_an_engine_that_cannot_be_loaded_is_of_another_version(start: Start, package: Path) -> None:
    next(package.glob("_engine*")).write_bytes(b"no engine")
    start().expect((HELLO, 1, NUMBER), (FAILED, 2, 0))


def test_settings_of_another_version_are_refused(start: Start) -> None:
    start(version=2).expect((FAILED, 3, 0))


def test_an_engine_that_does_not_open_is_told(start: Start) -> None:
    start(group="unopenable").expect((HELLO, 1, NUMBER), (FAILED, 4, 0))


def test_drain_ends_an_idle_worker_in_good_order(start: Start) -> None:
    worker = start()
    worker.become_ready()
    with greeted(worker) as peer:
        worker.command(DRAIN, 0)
        assert peer.receive() == Frame(Type.GOODBYE)
        assert peer.is_closed()
    worker.expect((LEFT, 0, 0))
    assert worker.exit_code() == 0


def test_stop_ends_what_runs_after_its_time(start: Start) -> None:
    worker = start()
    worker.become_ready()
    with greeted(worker) as peer:
        peer.send(wire.request(1, wire.snapshot(1, callable="wait")))
        assert peer.receive().type == wire.Type.LOG  # it runs
        worker.command(STOP, 200)
        assert peer.is_closed()
    assert worker.exit_code() == 0
    assert "shutdown-timeout has passed" in worker.words()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_termination_signal_asks_for_a_replacement_and_serves_until_it_is_there(
    start: Start, number: signal.Signals
) -> None:
    worker = start(shutdown_timeout=60.0)
    worker.become_ready()
    worker.process.send_signal(number)
    worker.expect((RECYCLE, 2, 0))
    with greeted(worker) as peer:
        assert peer.ask(wire.request(1, wire.snapshot(1))).status == 500
        worker.command(DRAIN, 0)
    worker.expect((LEFT, 0, 0))
    assert worker.exit_code() == 0


def test_a_termination_signal_waits_for_a_replacement_within_bounds(start: Start) -> None:
    worker = start(shutdown_timeout=0.1)
    worker.become_ready()
    worker.process.send_signal(signal.SIGTERM)
    assert worker.exit_code() == 0


def test_a_second_termination_signal_waits_for_nobody(start: Start) -> None:
    worker = start(shutdown_timeout=60.0)
    worker.become_ready()
    worker.process.send_signal(signal.SIGTERM)
    worker.expect((RECYCLE, 2, 0))
    worker.process.send_signal(signal.SIGTERM)
    assert worker.exit_code() == 0


def now_ms() -> int:
    return monotonic_ns() // 1_000_000


def state(worker: Supervised) -> str:
    """As the name of a thread tells it to everybody."""
    names = (
        file.read_text().strip() for file in Path(f"/proc/{worker.process.pid}/task").glob("*/comm")
    )
    return next((name for name in names if name.startswith("wsgi:")), "")


@pytest.mark.parametrize(("is_loaded", "name"), [(True, "wsgi:ready"), (False, "wsgi:unloaded")])
def test_its_state_is_the_name_of_a_thread(start: Start, is_loaded: bool, name: str) -> None:
    worker = start(scripts=[script("/srv/shop.wsgi" if is_loaded else "/srv/broken.wsgi")])
    worker.expect((HELLO, 1, NUMBER), (READY, int(is_loaded), 0))
    assert state(worker) == name
    with greeted(worker) as peer:  # so that it does not end at once
        peer.send(wire.request(1, wire.snapshot(1, callable="wait")))
        assert peer.receive().type == wire.Type.LOG  # it runs
        worker.command(DRAIN, 0)
        wait_until(lambda: state(worker) == "wsgi:leaving", "it tells that it leaves")


def test_sigusr1_asks_for_a_reload(start: Start) -> None:
    worker = start()
    worker.become_ready()
    before = now_ms()
    worker.process.send_signal(signal.SIGUSR1)
    kind, _, came = worker.message()
    assert kind == RELOAD and before - COARSE_MS <= came <= now_ms()


def test_sigusr1_while_it_starts_asks_for_a_reload_when_it_is_ready(
    package: Path, tmp_path: Path
) -> None:
    """It waits for its settings; by default the signal would end it."""
    worker = Supervised(package, tmp_path)
    with contextlib.closing(worker):
        wait_until(lambda: catches(worker.process.pid, signal.SIGUSR1), "boot.py runs", PATIENCE)
        before = now_ms()
        worker.process.send_signal(signal.SIGUSR1)
        worker.send_settings()
        worker.become_ready()
        kind, _, came = worker.message()
        assert kind == RELOAD and before - COARSE_MS <= came <= now_ms()
        worker.process.send_signal(signal.SIGUSR1)
        assert worker.message()[2] >= came - COARSE_MS


def catches(pid: int, number: signal.Signals) -> bool:
    """By a handler of its own."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    caught = int(next(line for line in lines if line.startswith("SigCgt:")).split()[1], 16)
    return bool(caught >> (number - 1) & 1)


def test_the_end_of_its_cpu_time_asks_to_be_recycled_once(start: Start) -> None:
    """The kernel says it again each second; it serves on."""
    worker = start()
    worker.become_ready()
    worker.process.send_signal(signal.SIGXCPU)
    worker.expect((RECYCLE, 4, 0))
    for _ in range(3):
        worker.process.send_signal(signal.SIGXCPU)
        worker.process.send_signal(signal.SIGUSR1)
        assert worker.message()[0] == RELOAD
    with greeted(worker) as peer:
        assert peer.ask(wire.request(1, wire.snapshot(1))).status == 500


def test_an_orphan_leaves_at_the_end_of_its_cpu_time(start: Start) -> None:
    """Nobody brings a successor, and the hard limit is near."""
    worker = start()
    worker.become_ready()

    def has_ended() -> bool:
        worker.process.send_signal(signal.SIGXCPU)
        return worker.process.poll() is not None

    with greeted(worker) as peer:
        worker.lose_supervisor()
        wait_until(has_ended, "it leaves")
        assert peer.receive() == Frame(Type.GOODBYE)
    assert worker.exit_code() == 0


def test_threads_that_cannot_be_started_are_told(start: Start) -> None:
    """By a stack that the system refuses."""
    worker = start(stack_size=1)
    worker.expect((HELLO, 1, NUMBER), (FAILED, 5, 0))
    assert worker.exit_code() == 1
    assert "stack-size=1): Invalid argument" in worker.words()


def test_the_maximum_of_requests_asks_to_be_recycled(start: Start) -> None:
    worker = start(maximum_requests=1)
    worker.become_ready()
    with greeted(worker) as peer:
        peer.ask(wire.request(1, wire.snapshot(1)))
    worker.expect((RECYCLE, 1, 0))


@pytest.mark.parametrize("is_strict", [True, False])
def test_a_request_whose_script_changed_is_refused_under_reload_strict(
    start: Start, is_strict: bool
) -> None:
    worker = start(strict_reload=is_strict)
    worker.become_ready()
    with greeted(worker) as peer:
        assert peer.ask(wire.request(1, wire.snapshot(1, script="/same.py"))).status == 500
        changed = wire.request(2, wire.snapshot(2, script="/changed.py"), b"body")
        answer = peer.ask(changed)
        if not is_strict:
            assert answer.status == 500
            return
        assert answer.refused is wire.Refused.LEAVING
        worker.expect((CHANGED, 0, 0))
        assert peer.ask(wire.request(3, wire.snapshot(3, script="/same.py"))).status == 500


def test_a_worker_without_a_request_for_inactivity_timeout_says_so_each_time(start: Start) -> None:
    worker = start(inactivity_timeout=0.1, processes_min=1)
    worker.become_ready()
    with greeted(worker) as peer:
        for number in (1, 2):
            peer.ask(wire.request(number, wire.snapshot(number)))
            worker.expect((RECYCLE, 8, 0))


def test_a_worker_on_demand_does_not_wait_for_its_first_request_either(start: Start) -> None:
    """Who had it started may have left."""
    worker = start(inactivity_timeout=0.1, processes_min=0)
    worker.become_ready()
    worker.expect((RECYCLE, 8, 0))


def test_each_change_of_a_watched_file_is_told_once(
    start: Start, package: Path, tmp_path: Path
) -> None:
    file = tmp_path / "app.wsgi"
    file.touch()
    watched = {str(file): file.stat().st_mtime_ns}
    (package / "loader/watched.json").write_text(json.dumps(watched))
    worker = start()
    worker.become_ready()
    for time in (1000, 2000):
        os.utime(file, (time, time))
        worker.expect((CHANGED, 0, 0))
    file.unlink()
    worker.expect((CHANGED, 0, 0))
    worker.command(DRAIN, 0)
    worker.expect((LEFT, 0, 0))


def test_an_orphan_serves_on_and_its_log_never_blocks(start: Start) -> None:
    worker = start()
    worker.become_ready()
    worker.lose_supervisor()
    with greeted(worker) as peer:
        assert peer.ask(wire.request(1, wire.snapshot(1))).status == 500
    worker.process.send_signal(signal.SIGTERM)
    assert worker.exit_code() == 0


def test_an_orphan_that_nobody_knows_leaves_by_itself(start: Start) -> None:
    worker = start()
    worker.become_ready()
    worker.lose_supervisor()
    assert worker.exit_code() == 0


def test_an_orphan_leaves_when_the_next_supervisor_says_so(start: Start) -> None:
    """docs/wire.md 13: its end is the end of that connection."""
    worker = start()
    worker.become_ready()
    with greeted(worker) as child, Peer.connect(worker.path) as supervisor:
        worker.lose_supervisor()
        supervisor.send(Frame(Type.LEAVE, 0, wire.hello(NUMBER, KEY).payload))
        assert child.receive().type == Type.GOODBYE
        assert supervisor.is_closed()
        assert worker.exit_code() == 0


def test_a_worker_that_is_orphaned_before_it_is_ready_exits(package: Path, tmp_path: Path) -> None:
    worker = Supervised(package, tmp_path)
    worker.send_settings(40)
    worker.lose_supervisor()
    assert worker.exit_code() == 0
    worker.close()


def test_the_name_is_what_ps_shows(start: Start) -> None:
    worker = start(display_name="(wsgi:shop)")
    worker.become_ready()
    shown = Path(f"/proc/{worker.process.pid}/cmdline").read_bytes()
    assert shown.rstrip(b"\0") == b"(wsgi:shop)"


def test_nothing_that_is_watched_is_told_before_ready(start: Start) -> None:
    worker = start(rss_limit=1, restart_interval=0.001)
    worker.become_ready()
    worker.expect((RECYCLE, 5, 0))
    worker.command(DRAIN, 0)
    worker.expect((LEFT, 0, 0))
    assert worker.exit_code() == 0
