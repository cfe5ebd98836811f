# SPDX-License-Identifier: Apache-2.0
"""What a worker's Python is started with: makes the package importable, and goes on in `start.py`.

The tenant's own Python knows nothing of mod_pyglue. Ours is found where this file lies and nowhere
else, and the application sees none of it in sys.path. Nothing but that happens here, because
whatever imports a module of ours must come after it.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys


def import_package(package: str) -> None:
    """Makes `pyglue` importable from its folder, without sys.path."""
    here = os.path.join(package, "worker")
    sys.path[:] = [path for path in sys.path if path != here]
    spec = importlib.util.spec_from_file_location(
        "pyglue", os.path.join(package, "__init__.py"), submodule_search_locations=[package]
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["pyglue"] = module
    spec.loader.exec_module(module)


if __name__ == "__main__":
    import_package(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    importlib.import_module("pyglue.worker.start").main()
