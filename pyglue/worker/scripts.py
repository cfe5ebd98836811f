# SPDX-License-Identifier: Apache-2.0
"""The scripts that this worker loads before it serves: what the plan names, and what the workers
before it had loaded, so that a reload loses none of that (`loaded.py`).

How a script is loaded is the engine's and the loader's; which of them matter to whom is decided
here.
"""

from __future__ import annotations

import os
from types import ModuleType
from typing import Any

from .descriptors import SCRIPTS
from .loaded import Loaded, Script, scripts_of
from .settings import Settings, as_bytes

IDENTITY = ("script", "application_group", "callable")


class Scripts:
    """Of one worker, or of a preloader, which hands them on to its forks."""

    def __init__(self, settings: Settings, engine: ModuleType, pool: Any) -> None:
        self._named: list[Script] = settings["scripts"]
        self._engine = engine
        self._pool = pool
        # A supervisor from before an upgrade gives no list.
        self._list = Loaded(SCRIPTS) if settings.get("has_list") else None
        self._written: list[Script] = []

    def load_all(self) -> bool:
        """All of them, also after one has failed: each tells its own reason."""
        return self._load_each(self._wanted())

    def load_preloaded(self) -> bool:
        """Those of the main interpreter: sub-interpreters do not live through a fork."""
        return self._load_each([s for s in self._wanted() if not s["application_group"]])

    def write_down(self) -> None:
        """What was loaded since, for the workers after this one."""
        if self._list is None:
            return
        now = list(scripts_of(self._engine))
        if now != self._written and self._list.add(now):
            self._written = now

    def _wanted(self) -> list[Script]:
        if self._list is None:
            return self._named
        named = [_identity(script) for script in self._named]
        inherited = [s for s in self._list.read() if _identity(s) not in named]
        return [*self._named, *inherited]

    def _load_each(self, scripts: list[Script]) -> bool:
        loaded = [self._load(script) for script in scripts]
        return all(loaded)

    def _load(self, script: Script) -> bool:
        name = script["callable"]
        path = as_bytes(script["script"])
        is_loaded = self._pool.load(
            path,
            as_bytes(script["application_group"]),
            None if name is None else as_bytes(name).decode("utf-8", "replace"),
        )
        # A supervisor from before an upgrade does not say it.
        if is_loaded and not script.get("reloading", True):
            self._engine.unwatch(os.fsdecode(path))
        return bool(is_loaded)


def _identity(script: Script) -> list[str | None]:
    return [script[name] for name in IDENTITY]
