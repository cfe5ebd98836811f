# SPDX-License-Identifier: Apache-2.0
"""A worker's main: the tenant's own Python runs this file with the descriptors of docs/plan.md 4.

It finds the engine, opens it, loads the scripts, starts the threads that serve the socket (in C,
pyglue/worker), and then only waits for events: signals, commands, changed files. Nothing here is
on a request's path. Privileges were dropped before this Python was exec'd."""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import importlib
import importlib.machinery
import importlib.util
import json
import locale
import os
import re
import select
import signal
import struct
import sys
import sysconfig
import time
from collections.abc import Iterator
from types import ModuleType
from typing import Any, NoReturn

CONTROL, LISTENER, RECORD, MESSAGES, LOG, SCRIPTS = 3, 4, 5, 6, 7, 8
VERSION = 1  # of settings, commands and messages
ENGINE_VERSION = 1  # PYGLUE_ENGINE_VERSION of the engine that belongs to this package
HELLO, READY, FAILED, CHANGED, RELOAD, RECYCLE, LEFT, HOMELESS, FORKED = range(1, 10)
MAXIMUM_REQUESTS, SIGNAL, INACTIVITY_TIMEOUT = 1, 2, 8  # arguments of RECYCLE
CPU_TIME_LIMIT = 4
# Raised in a worker for the stacks of an interpreter that it cannot have. No application uses it.
STACKS = signal.SIGRTMAX
NO_ENGINE, OTHER_ENGINE, BAD_SETTINGS, NO_PYTHON, NO_THREADS, TOO_OLD = range(1, 7)
GROUP_VARIABLE = "PYGLUE_GROUP"  # by which `pyglue reload` knows a worker
TURN = 1.0  # seconds between two looks at the watched files
LONGEST_MS = 0xFFFFFFFF  # 49 days
ORPHAN_IDLE = 60.0  # seconds without a connection after which an orphan leaves
ORPHAN_UNKNOWN = 5.0  # the same if it never had one: it may be in no page, and nobody will tell it
INTERPRETER_SETTINGS = (
    *("group", "processes", "threads", "python_path"),
    *("home", "script_uid", "script_gid"),
    *("interpreters", "own_gil", "free_threading", "interpreter_options"),
)
OWN_GIL_SINCE = (3, 12)
# Settings of the pool (the table in pyglue/engine/serve.c). A supervisor from before an upgrade
# does not say all of them: 0 is then what it means.
AS_THEY_ARE = (
    *("number", "threads", "peer_uid", "request_max", "send_buffer_size", "receive_buffer_size"),
    *("pass_descriptors", "stack_size", "strict_reload", "rss_limit"),
)
DURATIONS = (
    *("socket_timeout", "startup_timeout", "request_timeout", "interrupt_timeout"),
    *("deadlock_timeout", "shutdown_timeout", "queue_timeout"),
)

Settings = dict[str, Any]


class Failure(Exception):
    """This worker cannot serve: the argument of FAILED, and the reason in words."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


# Ids of docs/reference/messages.md: by the argument of FAILED, and three more.
FAILURE_IDS = {
    NO_ENGINE: "PG2011",
    OTHER_ENGINE: "PG2012",
    BAD_SETTINGS: "PG2013",
    NO_PYTHON: "PG2014",
    NO_THREADS: "PG1150",
    TOO_OLD: "PG3035",
}
UNTOLD, NO_LOCALE, PRELOAD = "PG2015", "PG2016", "PG2017"


def say(name: str, text: str) -> None:
    """To descriptor 2, which the supervisor brings into the error log."""
    os.write(2, f"{name}: {text}\n".encode("utf-8", "backslashreplace"))


def tell(kind: int, argument: int = 0, value: int = 0) -> None:
    """One message to the supervisor. Its pipe never blocks; without a reader it is moot."""
    try:
        os.write(MESSAGES, struct.pack("=IIQ", kind, argument, value))
    except OSError as error:
        say(UNTOLD, f"message {kind} could not be sent to the supervisor: {error.strerror}")


# Settings.


def read_exactly(fd: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        block = os.read(fd, size - len(data))
        if not block:
            os._exit(0)  # the supervisor is gone before this worker was anything
        data += block
    return data


def as_bytes(text: str) -> bytes:
    """Texts of the plan are bytes, read as latin-1."""
    return text.encode("latin-1")


def milliseconds(seconds: float) -> int:
    return min(round(seconds * 1000), LONGEST_MS)


def scattered(bound: int) -> int:
    """Up to a tenth below it: the workers of a group began together, and are not to go together."""
    return bound - int.from_bytes(os.urandom(4), sys.byteorder) % (bound // 10 + 1)


def read_settings() -> Settings:
    (size,) = struct.unpack("=I", read_exactly(CONTROL, 4))
    try:
        settings = json.loads(read_exactly(CONTROL, size))
        version = settings["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise Failure(BAD_SETTINGS, f"settings could not be read: {error!r}") from None
    if version != VERSION:
        raise Failure(BAD_SETTINGS, f"settings are of version {version}, not {VERSION}")
    return dict(settings)


def interpreter_settings(settings: Settings) -> str:
    """What pyglue.loader.interpreter.prepare gets: docs/bridge.md 8. It decodes the texts."""
    return json.dumps({name: settings.get(name) for name in INTERPRETER_SETTINGS})


def check_python(settings: Settings) -> None:
    """Can this Python do what the group wants of it?"""
    if settings.get("interpreters", 1) > 1 and sys.version_info < OWN_GIL_SINCE:
        raise Failure(
            TOO_OLD,
            f"interpreters={settings['interpreters']} needs Python 3.12 or later, and "
            f"{sys.executable} is {sys.version.split()[0]}: give the group another by python=, or "
            "use processes= instead",
        )


def is_homeless(settings: Settings) -> bool:
    """It was to begin in its user's home, which cannot be entered."""
    # A supervisor from before an upgrade names no directory, and does not know the message.
    return bool(settings.get("directory", "/") != "/" and os.path.samefile(os.curdir, "/"))


# The package and its engine.


def import_package(package: str) -> None:
    """Makes `pyglue` importable from its folder, and from nowhere else, without sys.path."""
    here = os.path.join(package, "worker")
    sys.path[:] = [path for path in sys.path if path != here]
    spec = importlib.util.spec_from_file_location(
        "pyglue", os.path.join(package, "__init__.py"), submodule_search_locations=[package]
    )
    if spec is None or spec.loader is None:
        raise Failure(NO_PYTHON, f"{package} is no Python package")
    module = importlib.util.module_from_spec(spec)
    sys.modules["pyglue"] = module
    spec.loader.exec_module(module)


def version_of(package: str) -> str | None:
    """The version that a package's __init__.py states, without running it."""
    try:
        with open(os.path.join(package, "__init__.py"), encoding="utf-8") as file:
            match = re.search(r'^__version__ = "([^"]+)"', file.read(), re.MULTILINE)
    except (OSError, UnicodeDecodeError):
        return None
    return match and match.group(1)


def engine_files(package: str) -> Iterator[str]:
    """Where an engine may lie: this environment, the package itself, its engine folder.

    An engine in the folder may be older than the package: an upgrade leaves it where it is."""
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    name = f"_engine{suffix}"
    wanted = version_of(package)
    for entry in sys.path:
        own = os.path.join(entry or os.curdir, "pyglue")
        if version_of(own) == wanted:
            yield os.path.join(own, name)
    yield os.path.join(package, name)
    yield os.path.join(package, "engines", str(sysconfig.get_config_var("SOABI")), name)


def import_engine(package: str) -> ModuleType:
    path = next((path for path in engine_files(package) if os.path.isfile(path)), None)
    if path is None:
        raise Failure(
            NO_ENGINE,
            f"no engine for {sys.executable} (Python {sys.version.split()[0]}) is installed. "
            f"Install it: pyglue install-engine --python {sys.executable}",
        )
    loader = importlib.machinery.ExtensionFileLoader("pyglue._engine", path)
    spec = importlib.util.spec_from_file_location("pyglue._engine", path, loader=loader)
    remedy = f"Install it anew: pyglue install-engine --python {sys.executable}"
    assert spec is not None
    try:
        engine = importlib.util.module_from_spec(spec)
        sys.modules["pyglue._engine"] = engine
        loader.exec_module(engine)
    except ImportError as error:
        raise Failure(OTHER_ENGINE, f"{path} cannot be loaded: {error}. {remedy}") from None
    if engine.ENGINE_VERSION != ENGINE_VERSION:
        raise Failure(OTHER_ENGINE, f"{path} is of another version. {remedy}")
    sys.modules["pyglue"]._engine = engine  # type: ignore[attr-defined]
    return engine


# The worker.


class Watch:
    """The files that scripts were loaded from. Each change is told once."""

    def __init__(self) -> None:
        # Not earlier: the package becomes importable in start().
        self._watched = importlib.import_module("pyglue.loader.reload").watched
        self._told: dict[str, int | None] = {}

    def has_changed(self) -> bool:
        changed = {path: now for path, now in self._look() if self._told.get(path, -1) != now}
        self._told.update(changed)
        return bool(changed)

    def _look(self) -> Iterator[tuple[str, int | None]]:
        """Those whose time is not what it was when they were loaded, with what it is now."""
        for path, loaded in list(self._watched().items()):
            try:
                now: int | None = os.stat(path).st_mtime_ns
            except OSError:
                now = None
            if now != loaded:
                yield path, now


class Activity:
    """Whether there has been no request for inactivity-timeout. A worker that was started on demand
    waits for its first one no longer either; others wait for that without a limit, as mod_wsgi."""

    def __init__(self, settings: Settings) -> None:
        # A supervisor from before an upgrade says neither.
        self._limit = float(settings.get("inactivity_timeout", 0))
        self._is_armed = settings.get("processes_min") == 0
        self._served = 0
        self._since: float | None = None  # None: told, until the next request

    def has_ceased(self, served: int, running: int, now: float) -> bool:
        """Once for each time that it ceases."""
        if running or served != self._served or (self._is_armed and self._since is None):
            self._served, self._since = served, now
            self._is_armed = False
        if not self._limit or self._since is None or now - self._since < self._limit:
            return False
        self._since = None
        return True


class Worker:
    """One worker from engine to exit. The main thread runs it."""

    def __init__(self, settings: Settings, engine: ModuleType) -> None:
        self.settings = settings
        self.engine = engine
        self.worker = engine.Worker()
        self.watch = Watch()
        self.activity = Activity(settings)
        self.list: Any = None  # Loaded, of what this group's workers have loaded
        self.loaded: Any = None
        self.written: list[dict[str, Any]] = []
        self.stale_at = 0.0  # when a change was told last that a request found
        self.is_leaving = False
        self.is_told = False  # to leave, by the supervisor: only then it expects LEFT
        self.leave_by: float | None = None  # told to end by a signal, and not yet by the supervisor
        self.is_orphan = False
        self.is_spent = False  # its CPU time is, and that was told
        self.last_connection = 0.0
        self.idle_limit = 0.0
        self.actions = {
            signal.SIGTERM: self.end_by_signal,
            signal.SIGINT: self.end_by_signal,
            signal.SIGUSR1: lambda: tell(RELOAD, 0, self.worker.reload_ms()),
            signal.SIGXCPU: self.end_by_cpu_time,
            engine.EVENT_LEAVE: self.obey,
            engine.EVENT_ORPHAN: self.become_orphan,
            engine.EVENT_MAXIMUM: lambda: tell(RECYCLE, MAXIMUM_REQUESTS),
            engine.EVENT_STALE: self.be_stale,
            engine.EVENT_LEFT: self.exit,
        }

    def listen_to_supervisor(self) -> None:
        """From now on there is a second thread."""
        self.events, self.events_in = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        with self.starting_threads():
            self.worker.commands(CONTROL, LOG, self.events_in)

    def prepare_process(self) -> None:
        name = self.settings["display_name"]
        if name is not None:
            self.worker.name(as_bytes(name))
        if not self.settings["dumpable"]:
            self.worker.undumpable()
        if is_homeless(self.settings):
            tell(HOMELESS)
        faulthandler.enable()
        faulthandler.register(STACKS)
        if self.settings["locale"] is not None:
            self.set_locale(self.settings["locale"])

    @contextlib.contextmanager
    def starting_threads(self) -> Iterator[None]:
        """What is short then is a limit of the group's as a rule."""
        try:
            yield
        except (OSError, MemoryError) as error:
            why = error.strerror if isinstance(error, OSError) else "out of memory or of processes"
            threads, size = self.settings["threads"], self.settings.get("stack_size", 0)
            raise Failure(
                NO_THREADS,
                f"threads cannot be started (threads={threads}, stack-size={size}): {why}. A "
                "stack-size that is too small is refused; process-limit, memory-limit and "
                "virtual-memory-limit must have room for all threads and their stacks",
            ) from None

    @staticmethod
    def set_locale(name: str) -> None:
        try:
            locale.setlocale(locale.LC_ALL, name)
        except locale.Error as error:
            say(NO_LOCALE, f"locale={name}: {error}. The worker goes on with the C locale")

    def open(self) -> None:
        try:
            self.worker.open(os.fsencode(self.package), interpreter_settings(self.settings))
        except (RuntimeError, OSError, MemoryError) as error:
            raise Failure(NO_PYTHON, f"the engine could not be opened: {error}") from None

    @property
    def package(self) -> str:
        return os.fsdecode(as_bytes(self.settings["package"]))

    def load_scripts(self) -> bool:
        """All of them, also after one has failed: each tells its own reason. And what the workers
        before this one had loaded, so that none of that is lost."""
        return self.load_all(self.with_inherited(self.settings["scripts"]))

    def with_inherited(self, scripts: list[dict[str, Any]]) -> list[dict[str, Any]]:
        # A supervisor from before an upgrade gives no list.
        if not self.settings.get("has_list"):
            return scripts
        loaded = importlib.import_module("pyglue.worker.loaded")
        self.list = loaded.Loaded(SCRIPTS)
        self.loaded = lambda: list(loaded.scripts_of(self.engine))
        names = ("script", "application_group", "callable")
        known = [[script[name] for name in names] for script in scripts]
        inherited = [s for s in self.list.read() if [s[name] for name in names] not in known]
        return [*scripts, *inherited]

    def write_down(self) -> None:
        """What was loaded since, for the workers after this one."""
        if self.list is None:
            return
        now = self.loaded()
        if now != self.written and self.list.add(now):
            self.written = now

    def load_all(self, scripts: list[dict[str, Any]]) -> bool:
        loaded = [self.load(script) for script in scripts]
        return all(loaded)

    def preload(self) -> None:
        """Loads what the main interpreter serves, and returns in the workers that are forked of
        this process (preload.py), with settings of their own."""
        interpreter = importlib.import_module("pyglue.loader.interpreter")
        preload = importlib.import_module("pyglue.worker.preload")
        scripts = self.with_inherited(self.settings["scripts"])
        scripts = [s for s in scripts if not s["application_group"]]
        tell(READY, int(self.load_all(scripts)))
        interpreter.forks.become_workers = True
        preload.fork_workers(lambda text: say(PRELOAD, text))
        interpreter.forks.become_workers = False
        tell(FORKED, 0, os.getpid())
        self.settings = read_settings()
        tell(HELLO, VERSION, self.settings["number"])

    def load(self, script: dict[str, Any]) -> bool:
        name = script["callable"]
        path = as_bytes(script["script"])
        is_loaded = self.worker.load(
            path,
            as_bytes(script["application_group"]),
            None if name is None else as_bytes(name).decode("utf-8", "replace"),
        )
        # A supervisor from before an upgrade does not say it.
        if is_loaded and not script.get("reloading", True):
            self.engine.unwatch(os.fsdecode(path))
        return bool(is_loaded)

    def serve(self, *, is_loaded: bool) -> None:
        with self.starting_threads():
            self.start_threads()
        self.worker.signals(self.events_in)
        self.worker.ready(is_loaded)

    def own(self) -> tuple[int, ...]:
        """What no child of the application may have."""
        fds = (CONTROL, LISTENER, RECORD, MESSAGES, LOG)
        return (*fds, SCRIPTS) if self.list is not None else fds

    def start_threads(self) -> None:
        settings = self.settings
        self.worker.serve(
            (*self.own(), self.events, self.events_in),
            listener=LISTENER,
            record=RECORD,
            events=self.events_in,
            messages=MESSAGES,
            key=bytes.fromhex(settings["key"]),
            maximum_requests=scattered(settings["maximum_requests"]),
            restart_interval_ms=scattered(round(settings.get("restart_interval", 0) * 1000)),
            stacks_signal=STACKS,
            **{name: int(settings.get(name, 0)) for name in AS_THEY_ARE},
            **{f"{name}_ms": milliseconds(settings.get(name, 0)) for name in DURATIONS},
        )

    def run(self) -> NoReturn:
        while True:
            ready, _, _ = select.select([self.events], [], [], TURN)
            self.write_down()  # before anything is told that may have others take over
            for event in os.read(self.events, 64) if ready else b"":
                self.actions[event]()
            if self.leave_by is not None and time.monotonic() >= self.leave_by:
                self.leave_in_time()
            served, running = self.worker.activity()
            if self.activity.has_ceased(served, running, time.monotonic()):
                tell(RECYCLE, INACTIVITY_TIMEOUT)
            if ready or self.is_leaving:
                continue
            if self.is_orphan:
                self.leave_if_idle()
            elif self.watch.has_changed():
                tell(CHANGED)

    def be_stale(self) -> None:
        """reload=strict: a request found its script changed, and was refused. It is told until the
        supervisor has withdrawn this worker, though not for each request."""
        now = time.monotonic()
        if now - self.stale_at >= TURN and not self.is_leaving:
            self.stale_at = now
            self.watch.has_changed()  # what is told now need not be told again
            tell(CHANGED)

    def leave(self) -> None:
        """Finish what runs. EVENT_LEFT follows."""
        if not self.is_leaving:
            self.is_leaving = True
            self.worker.drain()

    def obey(self) -> None:
        """DRAIN or STOP: the time they allow is kept in C."""
        self.is_told = True
        if self.leave_by is not None:
            self.leave_in_time()
        self.leave()

    def end_by_signal(self) -> None:
        """As applications do to have their code loaded anew. Serves on until the supervisor has
        brought another worker, so that nobody finds the group without one, but for no longer than
        shutdown-timeout; told again, it waits for nobody."""
        if self.is_orphan or self.is_leaving or self.leave_by is not None:
            self.leave_in_time()
        else:
            self.leave_by = time.monotonic() + float(self.settings["shutdown_timeout"])
            tell(RECYCLE, SIGNAL)

    def end_by_cpu_time(self) -> None:
        """cpu-time-limit: the kernel says so again each second. It serves on meanwhile; the hard
        limit, which ends it at once, is some seconds away."""
        if self.is_orphan:
            self.leave()
        elif not self.is_spent:
            self.is_spent = True
            tell(RECYCLE, CPU_TIME_LIMIT)

    def leave_in_time(self) -> None:
        """Finish what runs within shutdown-timeout."""
        self.leave_by = None
        self.worker.watchdog(self.shutdown_ms)
        self.leave()

    @property
    def shutdown_ms(self) -> int:
        return int(self.settings["shutdown_timeout"] * 1000)

    def become_orphan(self) -> None:
        """The supervisor is gone: serve on until nobody comes any more (SUCCESSION 5)."""
        self.is_orphan = True
        self.last_connection = time.monotonic()
        self.idle_limit = ORPHAN_UNKNOWN
        self.leave_if_idle()

    def leave_if_idle(self) -> None:
        now = time.monotonic()
        if self.worker.connections() > 0:
            self.last_connection = now
            self.idle_limit = ORPHAN_IDLE
        elif now - self.last_connection > self.idle_limit:
            self.leave()

    def exit(self) -> NoReturn:
        """Exit callbacks run, for as long as shutdown-timeout allows. Python's finalisation does
        not: with threads of the application alive it is where interpreters crash (C 20)."""
        self.worker.watchdog(self.shutdown_ms)
        if self.is_told:
            tell(LEFT)
        self.worker.stop()
        self.worker.close()
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            # The application may have closed or replaced it; nothing of ours is lost then.
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        os._exit(0)


def start() -> Worker:
    settings = read_settings()
    if settings.get("has_list"):
        os.set_inheritable(SCRIPTS, False)
    tell(HELLO, VERSION, settings["number"])
    check_python(settings)
    package = os.fsdecode(as_bytes(settings["package"]))
    import_package(package)
    worker = Worker(settings, import_engine(package))
    preloads = settings.get("preloads", False)
    if preloads:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # workers reload, and it ends with them
    else:
        worker.listen_to_supervisor()
    worker.prepare_process()
    worker.open()
    if preloads:
        worker.preload()
        worker.listen_to_supervisor()
    return worker


def main() -> NoReturn:
    os.environ.pop(GROUP_VARIABLE, None)  # what it starts is no worker
    for fd in (CONTROL, LISTENER, RECORD, MESSAGES, LOG):
        os.set_inheritable(fd, False)
    try:
        worker = start()
        is_loaded = worker.load_scripts()
        worker.serve(is_loaded=is_loaded)
    except Failure as failure:
        say(FAILURE_IDS[failure.code], str(failure))
        tell(FAILED, failure.code)
        os._exit(1)
    tell(READY, int(is_loaded))
    worker.worker.watch()  # a supervisor takes no other word before READY
    worker.run()


if __name__ == "__main__":
    main()
