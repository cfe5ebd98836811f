# SPDX-License-Identifier: Apache-2.0
"""Prepares an interpreter, main or sub, before an application is loaded into it.

The engine calls `prepare` once in each. What it does is mod_wsgi's: paths, arguments, streams into
the error log, no signal handlers of applications, an importable module `mod_wsgi`.
"""

import atexit
import codecs
import io
import itertools
import json
import os
import signal
import site
import sys
import sysconfig
import threading
import traceback
from collections.abc import Callable
from typing import Any

import pyglue._engine as engine
from pyglue.compat import mod_wsgi
from pyglue.loader import script

WARNING, INFO = 4, 6
IGNORED = "PG3105"  # the id of the message
NO_OWN_GIL, NOTHING_TO_SHARE = "PG3030", "PG3031"
NOT_FREE_THREADED, GIL_ENABLED = "PG3032", "PG3033"
OWN_GIL_SINCE = (3, 12)

_settings: dict[str, Any] = {}  # of this interpreter, once `prepare` has them


class _Forks:
    """What a child of this process is: the application's, which owns nothing of ours, or, where the
    application is preloaded, another worker."""

    def __init__(self) -> None:
        self.become_workers = False
        self.process = os.getpid()  # whose signals are the worker's, or httpd's

    def settle(self) -> None:
        if self.become_workers:
            self.process = os.getpid()
        else:
            engine.forked()


forks = _Forks()


def prepare(settings_text: str, application_group: str) -> None:
    """`settings_text`: JSON (`docs/bridge.md` 8); `application_group`: "" is the main one."""
    settings: dict[str, Any] = json.loads(settings_text)
    _settings.update(settings)
    in_worker = bool(settings.get("group"))  # embedded in httpd there is no process group
    script.policy.in_worker = in_worker
    script.policy.uid = settings.get("script_uid")
    script.policy.gid = settings.get("script_gid")
    sys.argv = ["mod_wsgi"]
    _add_paths(settings.get("python_path") or [])
    for section in _sections(application_group):
        _add_paths(section["python_path"])
    if settings.get("home"):
        sys.path.insert(0, _text(settings["home"]))
    _redirect_streams(own_descriptors=in_worker)
    _refuse_signals()
    os.register_at_fork(after_in_child=forks.settle)
    mod_wsgi.process_group = _text(settings.get("group") or "")
    mod_wsgi.application_group = application_group
    mod_wsgi.maximum_processes = int(settings.get("processes") or 1)
    mod_wsgi.threads_per_process = int(settings.get("threads") or 1)
    sys.modules["mod_wsgi"] = mod_wsgi


def spread() -> int:
    """How many interpreters run each application group; 0: one, as usual.

    Called once, in the main interpreter: the place to say what this Python cannot do."""
    is_free = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    name = f"{sys.executable} (Python {sys.version.split()[0]})"
    if _settings.get("free_threading") and not is_free:
        text = f"WSGIFreeThreading On has no effect: {name} is not a free-threaded build"
        engine.log(WARNING, f"{NOT_FREE_THREADED}: {text}")
    if is_free and not _is_without_gil():
        text = f"{name} is a free-threaded build and runs with its GIL: WSGIFreeThreading is Off"
        engine.log(INFO, f"{GIL_ENABLED}: {text}")
    sections = _settings.get("interpreter_options") or []
    wants = _settings.get("own_gil") or any(section["own_gil"] for section in sections)
    if wants and sys.version_info < OWN_GIL_SINCE:
        text = f"WSGIPerInterpreterGIL On has no effect: {name} is older than 3.12"
        engine.log(WARNING, f"{NO_OWN_GIL}: {text}")
    if wants and _is_without_gil():
        text = "WSGIPerInterpreterGIL On has no effect: there is no GIL, free threading is active"
        engine.log(WARNING, f"{NOTHING_TO_SHARE}: {text}")
    return int(_settings["interpreters"]) if is_spread() else 0


def is_spread() -> bool:
    """Does every application group have several interpreters?"""
    return int(_settings.get("interpreters") or 1) > 1


def wants_own_gil(application_group: str) -> bool:
    """WSGIPerInterpreterGIL: the last section that sets it decides, else the directive."""
    said = [section["own_gil"] for section in _sections(application_group)]
    return bool([_settings.get("own_gil"), *(own for own in said if own is not None)][-1])


def _sections(application_group: str) -> list[dict[str, Any]]:
    """<WSGIInterpreterOptions> of this application group, in the order in which they win."""
    sections: list[dict[str, Any]] = _settings.get("interpreter_options") or []
    names = (section["application_group"] for section in sections)
    matching = [name is None or _text(name) == application_group for name in names]
    return list(itertools.compress(sections, matching))


def _is_without_gil() -> bool:
    is_enabled: Callable[[], bool] | None = getattr(sys, "_is_gil_enabled", None)
    return is_enabled is not None and not is_enabled()


def has_own_gil(application_group: str, part: int) -> bool:
    """Whether a sub-interpreter that is about to be made gets one. Called in the main interpreter;
    `part` counts from 1 where a group is spread over several, which is what these are for."""
    if sys.version_info < OWN_GIL_SINCE or _is_without_gil():
        return False
    return part > 0 or wants_own_gil(application_group)


def _text(text: str) -> str:
    """Texts of the settings are bytes read as latin-1, as those of the plan are."""
    return os.fsdecode(text.encode("latin-1"))


def _add_paths(folders: list[str]) -> None:
    """Folders as `site` adds them, with their .pth files, but in front and in their order."""
    before = list(sys.path)
    for folder in folders:
        site.addsitedir(_text(folder))
    added = [entry for entry in sys.path if entry not in before]
    sys.path[:] = added + before


class _Bytes(io.RawIOBase):
    """`sys.stdout.buffer`: what is written in bytes goes into the log as UTF-8 text."""

    def __init__(self, name: str) -> None:
        self.text: Any = engine.stream(name)
        self.decode = codecs.getincrementaldecoder("utf-8")("backslashreplace").decode

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.text.write(self.decode(data))
        return len(data)

    def flush(self) -> None:
        self.text.flush()


def _stream(name: str) -> Any:
    stream: Any = engine.stream(name)
    stream.buffer = _Bytes(name)
    return stream


def _redirect_streams(own_descriptors: bool) -> None:
    """A worker's own descriptors lead to the error log already, but know of no request."""
    sys.stdout = _stream("<stdout>")
    sys.stderr = _stream("<stderr>")
    if not own_descriptors or sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115  (lives as long as Python)


def _refuse_signals() -> None:
    """Signals are httpd's, or the worker's; a forked child of the application may have its own."""
    original: Callable[[Any, Any], Any] = signal.signal

    def refuse(signalnum: Any, handler: Any) -> Any:
        if os.getpid() != forks.process:
            return original(signalnum, handler)
        stack = "".join(traceback.format_stack(sys._getframe(1)))
        engine.log(WARNING, f"{IGNORED}: signal.signal() was ignored: signal {signalnum}\n{stack}")
        return None

    refuse.__name__ = refuse.__qualname__ = "signal"
    signal.signal = refuse


def finish() -> None:
    """Wait for the threads of a sub-interpreter and run its exit callbacks: it is about to go.

    The engine has ended the thread states of its own threads before, or Python would wait here for
    ever for the one that imported `threading`."""
    shutdown: Callable[[], None] = threading._shutdown  # type: ignore[attr-defined]
    main = threading.main_thread()
    lock: Any = getattr(main, "_tstate_lock", None)  # none from 3.13 on
    if lock is not None and main.ident == threading.get_ident():
        # With the thread state this lock was let go, and _shutdown() wants to do that itself.
        lock.acquire(blocking=False)
    shutdown()
    # Py_EndInterpreter calls it again, and 3.12 complains of a lock that is gone by then.
    threading._shutdown = lambda: None  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
