# SPDX-License-Identifier: Apache-2.0
"""Builds and runs the C tests of the bridge, with the sanitizers, with each compiler there is."""

import os
import shutil
import subprocess
from ctypes.util import find_library
from pathlib import Path

import in_shared_object
import pytest
from harness import conf

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


def shared_object(name: str) -> Path:
    """As it was installed."""
    return next(conf.prefix().glob(f"lib/python3*/site-packages/pyglue/{name}"))


@pytest.mark.parametrize("name", ["mod_pyglue.so", "_engine.*.so"])
def test_codec_in_each_shared_object_keeps_the_contract(name: str, tmp_path: Path) -> None:
    """The same vectors: docs/wire.md."""
    source, target = HERE / "test_frame.c", shared_object(name)
    called = in_shared_object.called(source)
    options = in_shared_object.through_pointers(called)
    shared = ["cc", "-std=gnu11", "-D_GNU_SOURCE", "-g", "-shared", "-fPIC"]
    test, server = tmp_path / "vectors.so", tmp_path / "server.so"
    subprocess.run(
        [*shared, "-Dmain=run_test", *options, f"-I{BRIDGE}", f"-I{HERE}", source, "-o", test],
        check=True, timeout=120, env=ENVIRONMENT,
    )  # fmt: skip
    stand_in = "".join(f"char {name}[4096];" for name in in_shared_object.missing_data(target))
    (tmp_path / "server.c").write_text(stand_in)
    subprocess.run([*shared, tmp_path / "server.c", "-o", server], check=True, timeout=120)
    apr = map(find_library, ["apr-1", "aprutil-1"] if name == "mod_pyglue.so" else [])
    ran = subprocess.run(
        [conf.prefix() / "bin" / "python", in_shared_object.__file__, target, test, server, *apr],
        env={**os.environ, "CALLED": " ".join(called)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")
