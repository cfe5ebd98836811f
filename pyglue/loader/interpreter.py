# SPDX-License-Identifier: Apache-2.0
"""Prepares an interpreter, main or sub, before an application is loaded into it.

The engine calls `prepare` once in each. What it does is mod_wsgi's: paths, arguments, streams into
the error log, no signal handlers of applications, an importable module `mod_wsgi`.
"""

import atexit
import codecs
import io
import json
import os
import signal
import site
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

import pyglue._engine as engine
from pyglue.compat import mod_wsgi
from pyglue.loader import script

WARNING = 4
IGNORED = "PG3105"  # the id of the message


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
    in_worker = bool(settings.get("group"))  # embedded in httpd there is no process group
    script.policy.in_worker = in_worker
    script.policy.uid = settings.get("script_uid")
    script.policy.gid = settings.get("script_gid")
    sys.argv = ["mod_wsgi"]
    _add_paths(settings.get("python_path") or [], settings.get("home"))
    _redirect_streams(own_descriptors=in_worker)
    _refuse_signals()
    os.register_at_fork(after_in_child=forks.settle)
    mod_wsgi.process_group = _text(settings.get("group") or "")
    mod_wsgi.application_group = application_group
    mod_wsgi.maximum_processes = int(settings.get("processes") or 1)
    mod_wsgi.threads_per_process = int(settings.get("threads") or 1)
    sys.modules["mod_wsgi"] = mod_wsgi


def _text(text: str) -> str:
    """Texts of the settings are bytes read as latin-1, as those of the plan are."""
    return os.fsdecode(text.encode("latin-1"))


def _add_paths(folders: list[str], home: str | None) -> None:
    """Folders as `site` adds them, with their .pth files, but in front and in their order."""
    before = list(sys.path)
    for folder in folders:
        site.addsitedir(_text(folder))
    added = [entry for entry in sys.path if entry not in before]
    sys.path[:] = added + before
    if home:
        sys.path.insert(0, _text(home))


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
