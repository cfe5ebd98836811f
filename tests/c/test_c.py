# SPDX-License-Identifier: Apache-2.0
"""Builds and runs the C tests of the bridge, with the sanitizers, with each compiler there is."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
BRIDGE = HERE.parents[1] / "pyglue" / "bridge"
FLAGS = [
    "-std=gnu11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-Wshadow",
    "-Wstrict-prototypes", "-Wvla", "-g", "-O1", "-fno-omit-frame-pointer",
    "-fsanitize=address,undefined", "-fno-sanitize-recover=all",
]  # fmt: skip
# A preloaded sanitizer (make asan) is gcc's, and would meet the one that is linked in here.
ENVIRONMENT = {key: text for key, text in os.environ.items() if key != "LD_PRELOAD"}
COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)] or ["cc"]


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("source", sorted(HERE.glob("test_*.c")), ids=lambda file: file.stem)
def test_bridge_keeps_its_contract(source: Path, compiler: str, tmp_path: Path) -> None:
    program = tmp_path / source.stem
    subprocess.run(
        [compiler, *FLAGS, f"-I{BRIDGE}", f"-I{HERE}", source, *sorted(BRIDGE.glob("*.c")),
         "-pthread", "-o", program],
        check=True, timeout=120, env=ENVIRONMENT,
    )  # fmt: skip
    ran = subprocess.run([program], capture_output=True, text=True, timeout=60, env=ENVIRONMENT)
    assert (ran.returncode, ran.stderr) == (0, "")
