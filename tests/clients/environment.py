"""The virtual environment of the applications and their clients: made once, then kept.

It holds no mod_pyglue: workers run it as `python=`, and find their engine in the installation.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
REQUIREMENTS = HERE / "requirements.txt"


def folder() -> pathlib.Path:
    """Where httpd's user can read it: below /opt for root, else in the user's own cache."""
    if os.geteuid() == 0:
        return pathlib.Path("/opt/mod_pyglue/clients")
    cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(cache) / "mod_pyglue" / "clients"


def make() -> pathlib.Path:
    """Return the environment, filled from requirements.txt for the Python that runs this."""
    base = getattr(sys, "_base_executable", sys.executable)
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes() + base.encode()).hexdigest()
    home = folder()
    stamp = home / "requirements.sha256"
    if stamp.exists() and stamp.read_text() == wanted:
        return home
    subprocess.run([base, "-m", "venv", "--clear", str(home)], check=True)
    pip = [str(home / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", "-r", str(REQUIREMENTS)], check=True)
    stamp.write_text(wanted)
    return home
