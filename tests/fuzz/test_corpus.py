# SPDX-License-Identifier: Apache-2.0
"""Each corpus, whole and cut at each length, through its target under the sanitizers."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
BRIDGE = HERE.parents[1] / "pyglue" / "bridge"
# A preloaded sanitizer (make asan) is gcc's, and would meet the one that is linked in here.
ENVIRONMENT = {key: text for key, text in os.environ.items() if key != "LD_PRELOAD"}
TARGETS = sorted(folder.name for folder in (HERE / "corpus").iterdir())
FLAGS = [
    "-std=gnu11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-Wshadow", "-g", "-O1",
    "-fsanitize=address,undefined", "-fno-sanitize-recover=all", f"-I{BRIDGE}", f"-I{HERE}",
]  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
def test_corpus_is_read_without_a_fault(target: str, tmp_path: Path) -> None:
    compiler = shutil.which("clang") or shutil.which("gcc") or "cc"
    program = tmp_path / target
    sources = [HERE / f"{target}.c", HERE / "replay.c", *sorted(BRIDGE.glob("*.c"))]
    subprocess.run(
        [compiler, *FLAGS, *sources, "-o", program], check=True, timeout=120, env=ENVIRONMENT
    )
    files = sorted((HERE / "corpus" / target).iterdir())
    ran = subprocess.run(
        [program, *files], capture_output=True, text=True, timeout=60, env=ENVIRONMENT
    )
    assert (ran.returncode, ran.stderr) == (0, "")
