# SPDX-License-Identifier: Apache-2.0
"""Finds the engine that belongs to this Python and to this package, and imports it.

It may lie in three places, because an environment may have mod_pyglue of its own or share that of
the machine, which has engines for other Pythons in a folder (`pyglue install-engine`).
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import re
import sys
import sysconfig
from collections.abc import Iterator
from types import ModuleType

from .messages import NO_ENGINE, OTHER_ENGINE, Failure

ENGINE_VERSION = 1  # PYGLUE_ENGINE_VERSION of the engine that belongs to this package


def import_engine(package: str) -> ModuleType:
    path = next((path for path in engine_files(package) if os.path.isfile(path)), None)
    if path is None:
        raise Failure(
            NO_ENGINE,
            f"no engine for {sys.executable} (Python {sys.version.split()[0]}) is installed. "
            f"Install it: pyglue install-engine --python {sys.executable}",
        )
    remedy = f"Install it anew: pyglue install-engine --python {sys.executable}"
    try:
        engine = load(path)
    except ImportError as error:
        raise Failure(OTHER_ENGINE, f"{path} cannot be loaded: {error}. {remedy}") from None
    if engine.ENGINE_VERSION != ENGINE_VERSION:
        raise Failure(OTHER_ENGINE, f"{path} is of another version. {remedy}")
    sys.modules["pyglue"]._engine = engine  # type: ignore[attr-defined]
    return engine


def load(path: str) -> ModuleType:
    """The extension in this file, as `pyglue._engine`."""
    loader = importlib.machinery.ExtensionFileLoader("pyglue._engine", path)
    spec = importlib.util.spec_from_file_location("pyglue._engine", path, loader=loader)
    assert spec is not None
    engine = importlib.util.module_from_spec(spec)
    sys.modules["pyglue._engine"] = engine
    loader.exec_module(engine)
    return engine


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


def version_of(package: str) -> str | None:
    """The version that a package's __init__.py states, without running it."""
    try:
        with open(os.path.join(package, "__init__.py"), encoding="utf-8") as file:
            match = re.search(r'^__version__ = "([^"]+)"', file.read(), re.MULTILINE)
    except (OSError, UnicodeDecodeError):
        return None
    return match and match.group(1)
