# SPDX-License-Identifier: Apache-2.0
"""Loads a script file as a module and finds the application in it. `app.c` calls `find`.

- A script's module is named after its path, so that two scripts `app.wsgi` never meet.
- Loads of one script wait for each other; loads of different scripts do not.
- A script that fails leaves nothing in `sys.modules`. Embedded in httpd it is run again by the next
  request, as mod_wsgi does. In a worker it is not run again before one of the files in its
  traceback has changed; the worker watches them and is replaced.
"""

import contextlib
import hashlib
import os
import stat
import sys
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import CodeType, ModuleType
from typing import Any

from pyglue.errors import (
    MissingCallableError,
    NotCallableError,
    ScriptFailedError,
    ScriptFileError,
    ScriptOwnerError,
)
from pyglue.loader import reload

GONE = -1  # the time of a file that is not there

# What a file was when a load failed: when it was written, and when owner or permissions changed.
Stamp = tuple[int, int]


@dataclass
class Policy:
    """Set once by `interpreter.prepare`."""

    in_worker: bool = False
    uid: int | None = None  # that must own the scripts
    gid: int | None = None


@dataclass
class _Script:
    """What is known of one path. `lock` guards loading; `failed` the files of a failed load."""

    lock: threading.RLock = field(default_factory=threading.RLock)
    failed: dict[str, Stamp] | None = None
    status: int = 500  # of requests that a failed load ends


policy = Policy()
_scripts: dict[str, _Script] = {}


def module_name(path: str) -> str:
    """The name of the module that `path` is loaded as."""
    digest = hashlib.md5(os.fsencode(path), usedforsecurity=False)
    return "_mod_wsgi_" + digest.hexdigest()


def find(path: str, name: str, stale: ModuleType | None) -> tuple[ModuleType, Any, int, Any]:
    """Return (module, application, mtime in µs, reload_required or None) of a script.

    `stale` is a module that is not to be used again. An empty `name`: the script is only executed.
    """
    script = _scripts.setdefault(path, _Script())
    with script.lock:
        module = sys.modules.get(module_name(path))
        if module is None or module is stale or module.__dict__.get("__mtime__") != _mtime(path):
            module = _load_anew(path, script)
        application = _application(module, path, name) if name else None
        # The module may be replaced by hand: what it says is not trusted to be an int.
        mtime = int(module.__dict__.get("__mtime__", 0))
    return module, application, mtime, getattr(module, "reload_required", None)


def _application(module: ModuleType, path: str, name: str) -> Any:
    try:
        application = getattr(module, name)
    except AttributeError:
        raise MissingCallableError(
            f"script '{path}' has no '{name}': define it there, or name what it is called by"
            " WSGICallableObject or callable-object="
        ) from None
    if not callable(application):
        raise NotCallableError(
            f"'{name}' of script '{path}' is a {type(application).__name__}, which cannot be called"
            ": give that name to a function, or name another by WSGICallableObject or"
            " callable-object="
        )
    return application


def _mtime_ns(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return GONE


def _mtime(path: str) -> int:
    """In µs, as the engine keeps it; of what is gone GONE as well."""
    return _mtime_ns(path) // 1000


def _load_anew(path: str, script: _Script) -> ModuleType:
    """Load, and remember what a failure depended on."""
    if policy.in_worker and script.failed is not None and _is_unchanged(script.failed):
        again = ScriptFailedError(
            f"script '{path}' failed to load; it is tried again when its files change. The reason"
            " was logged then"
        )
        again.status = script.status
        raise again
    script.failed = None
    before = _stamp(path)  # it may change while it is loaded
    reload.note(path, before[0])
    try:
        return _load(path)
    except BaseException as error:
        script.status = error.status if isinstance(error, ScriptFileError) else 500
        files = {**{file: _stamp(file) for file in _files(error)}, path: before}
        script.failed = files | {folder: _stamp(folder) for folder in _folders(error, path)}
        for file, (mtime, _) in files.items():
            reload.note(file, mtime)
        raise


def _is_unchanged(files: dict[str, Stamp]) -> bool:
    return all(_stamp(path) == stamp for path, stamp in files.items())


def _stamp(path: str) -> Stamp:
    try:
        status = os.stat(path)
    except OSError:
        return GONE, GONE
    return status.st_mtime_ns, status.st_ctime_ns


def _files(error: BaseException) -> Iterator[str]:
    """The files that a failure came through, or that it names: one of them will be mended."""
    ours = os.path.dirname(__file__)
    passed: set[int] = set()  # `raise error from error` leads back to where it was
    seen: BaseException | None = error
    while seen is not None and id(seen) not in passed:
        passed.add(id(seen))
        for frame in traceback.extract_tb(seen.__traceback__):
            if not frame.filename.startswith((ours, "<")):
                yield frame.filename
        if isinstance(seen, (SyntaxError, OSError)) and isinstance(seen.filename, str):
            yield seen.filename
        seen = seen.__cause__ or seen.__context__


def _folders(error: BaseException, path: str) -> Iterator[str]:
    """Where a failure may be mended without a change of these files: a module is installed, or the
    folder is given another owner. They are not watched, since much may happen in them: that they
    changed is seen by the next request."""
    if isinstance(error, ScriptFileError):
        yield os.path.dirname(path)
    if isinstance(error, ModuleNotFoundError) and error.name is not None:
        package = sys.modules.get(error.name.rpartition(".")[0])
        yield from filter(None, map(str, getattr(package, "__path__", sys.path)))


def _load(path: str) -> ModuleType:
    name = module_name(path)
    sys.modules.pop(name, None)
    code, mtime = _compile(path)
    module = ModuleType(name)
    module.__file__ = path
    module.__dict__["__mtime__"] = mtime
    sys.modules[name] = module
    try:
        exec(code, module.__dict__)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _compile(path: str) -> tuple[CodeType, int]:
    with _opened(path) as descriptor:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ScriptFileError(f"script '{path}' is not a regular file")
        _check_owner(f"script '{path}'", status)
        _check_owner(f"the folder of script '{path}'", os.stat(os.path.dirname(path)))
        with open(descriptor, "rb", closefd=False) as file:
            source = file.read()
    return compile(source, path, "exec", dont_inherit=True), status.st_mtime_ns // 1000


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    try:
        # A FIFO must not hold the thread; what was opened is then looked at.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ScriptFileError(
            f"script '{path}' cannot be read: {error.strerror}. It is opened as user"
            f" {os.geteuid()}, group {os.getegid()}"
        ) from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _check_owner(what: str, status: os.stat_result) -> None:
    """As mod_wsgi: whom script-user or script-group names decides what runs, and nobody else."""
    for kind, wanted, found, others in (
        ("user", policy.uid, status.st_uid, stat.S_IWGRP | stat.S_IWOTH),
        ("group", policy.gid, status.st_gid, stat.S_IWOTH),
    ):
        if wanted is None:
            continue
        if wanted != found:
            raise ScriptOwnerError(
                f"{what} belongs to {kind} {found}, but script-{kind} allows {wanted} only"
            )
        if status.st_mode & others:
            raise ScriptOwnerError(
                f"{what} can be written by others than {kind} {wanted}, whom script-{kind} allows"
            )
