# SPDX-License-Identifier: Apache-2.0
"""Who may know whom, checked three ways: #include lines, imports, symbols of what is built."""

import ast
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Header families: how an #include is recognised. What matches none is libc's or POSIX's.
FAMILIES = {
    "python": r"Python\.h|pythread\.h|structmember\.h|internal/pycore.*|cpython/.*",
    "httpd": r"(httpd|mpm_common|scoreboard|unixd)\.h|(http|ap|mod|util)_\w+\.h",
    "apr": r"apr\w*\.h",
    "bridge": "|".join(
        file.name.replace(".", r"\.") for file in (ROOT / "pyglue/bridge").glob("*.h")
    ),
    "worker": r"worker\.h|pool\.h|wkr_\w+\.h",
    "engine": r"eng\w*\.h",
    "jail": r"jail\w*\.h",
    "memories": r"memories\.h",
    "glue": r"glue\w*\.h",
    "sockets": r"sys/(socket|un)\.h|netinet/.*|arpa/.*|netdb\.h",
}

# folder → families that its C files may include; a single file may have more.
INCLUDES = {
    "pyglue/bridge": {"bridge"},
    "apache_module": {"httpd", "apr", "bridge", "glue", "sockets"},
    "pyglue/engine": {"python", "bridge", "engine"},
    "pyglue/worker": {"bridge", "worker", "sockets"},
    "pyglue/jail": {"jail"},
    "pyglue/supervisor": {"bridge", "memories"},
}
MORE_INCLUDES = {
    "pyglue/engine/module.c": {"worker"},
    "pyglue/engine/serve.c": {"worker"},  # binds the worker to Python
    "pyglue/jail/module.c": {"python"},
    "pyglue/supervisor/memories.h": {"python"},
}

# package → what of pyglue it may import; the standard library is always allowed, nothing else ever.
IMPORTS = {
    "supervisor": {"errors", "metrics.record", "_jail", "_pages", "supervisor"},
    # The loader is the engine's Python half: it runs in the interpreters that the engine makes.
    "loader": {"errors", "compat", "_engine", "loader"},
    "metrics": {"errors", "metrics"},
    "worker": {"errors", "_engine", "loader", "worker"},
    "compat": {"metrics", "_engine", "compat"},
    "cli": {
        "errors",
        "cli",
        "supervisor",
        "loader",
        "metrics",
        "compat",
        "_jail",
        "_pages",
        "worker",
    },
    "errors": set(),
    "__init__": set(),
    "__main__": {"cli"},
}


def c_files() -> list[Path]:
    return sorted(file for folder in INCLUDES for file in (ROOT / folder).glob("*.[ch]"))


def python_files() -> list[Path]:
    return sorted((ROOT / "pyglue").rglob("*.py"))


def relative(file: Path) -> str:
    return str(file.relative_to(ROOT))


def family(header: str) -> str | None:
    name = header.removeprefix("../").rsplit("/", 1)[-1] if header.startswith("..") else header
    return next((family for family, names in FAMILIES.items() if re.fullmatch(names, name)), None)


@pytest.mark.parametrize("file", c_files(), ids=relative)
def test_c_file_includes_only_what_its_folder_may_know(file: Path) -> None:
    allowed = INCLUDES[relative(file.parent)] | MORE_INCLUDES.get(relative(file), set())
    headers = re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', file.read_text(), re.MULTILINE)
    wrong = [header for header in headers if family(header) not in allowed | {None}]
    assert not wrong, f"{relative(file)} must not include {wrong}"


def imported(file: Path) -> set[str]:
    """Full names of all modules that a file imports, `from package import module` included."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = package_of(file, node.level) if node.level else ""
            base = ".".join(filter(None, [package, node.module or ""]))
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return names


def package_of(file: Path, level: int) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[: len(parts) - level])


def is_allowed(name: str, allowed: set[str]) -> bool:
    top, _, inner = name.partition(".")
    if top != "pyglue":
        return top in sys.stdlib_module_names or top == "mod_wsgi"
    is_version = inner in ("", "__version__", "__file__")
    return is_version or any(inner == one or inner.startswith(one + ".") for one in allowed)


@pytest.mark.parametrize("file", python_files(), ids=relative)
def test_python_file_imports_only_what_its_package_may_know(file: Path) -> None:
    room = file.relative_to(ROOT / "pyglue").with_suffix("").parts[0]
    wrong = sorted(name for name in imported(file) if not is_allowed(name, IMPORTS[room]))
    assert not wrong, f"{relative(file)} must not import {wrong}"


@pytest.mark.parametrize("file", [f for f in python_files() if "cli" not in f.parts], ids=relative)
def test_nobody_but_main_imports_the_command(file: Path) -> None:
    if file.name != "__main__.py" or file.parent.name != "pyglue":
        assert not [name for name in imported(file) if name.startswith("pyglue.cli")]


def package() -> Path:
    """The installed package: `make` names its environment."""
    prefix = os.environ.get("PYGLUE_PREFIX", sys.prefix)
    python = Path(prefix) / "bin" / "python"
    asked = subprocess.run(
        [python, "-I", "-c", "import pyglue; print(pyglue.__path__[0])"],
        capture_output=True,
        text=True,
        check=True,
    )
    return Path(asked.stdout.strip())


def symbols(library: Path, *options: str) -> set[str]:
    listed = subprocess.run(
        ["nm", "-D", *options, library], capture_output=True, text=True, check=True
    ).stdout
    return {line.split()[-1].split("@")[0] for line in listed.splitlines()}


def extension(name: str) -> Path:
    return package() / f"{name}{sysconfig.get_config_var('EXT_SUFFIX')}"


def foreign(names: set[str], pattern: str) -> set[str]:
    return {name for name in names if re.match(pattern, name)}


def test_module_needs_no_symbol_of_python() -> None:
    assert not foreign(symbols(package() / "mod_pyglue.so", "--undefined-only"), r"_?Py[A-Z_]")


def test_module_exports_its_record_and_nothing_else() -> None:
    assert symbols(package() / "mod_pyglue.so", "--defined-only") == {"wsgi_module"}


@pytest.mark.parametrize("name", ["_engine", "_jail", "_pages"])
def test_extension_needs_no_symbol_of_httpd(name: str) -> None:
    assert not foreign(symbols(extension(name), "--undefined-only"), r"apr?_")


@pytest.mark.parametrize("name", ["_jail", "_pages"])
def test_extension_exports_only_its_initialiser(name: str) -> None:
    assert symbols(extension(name), "--defined-only") == {f"PyInit_{name}"}


def test_engine_exports_its_initialiser_and_what_a_host_opens() -> None:
    assert symbols(extension("_engine"), "--defined-only") == {"PyInit__engine", "pyglue_engine"}
