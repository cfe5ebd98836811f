# SPDX-License-Identifier: Apache-2.0
"""One site as `pyglue serve` and `pyglue config` are asked for it.

`add_arguments` and `from_arguments` turn a command line into a frozen Site; `write` makes the
server root and fills the blanks of `httpd-conf/serve.conf.in`. Nothing is started here."""

import argparse
import os
import shutil
import stat
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from string import Template

import pyglue
from pyglue.cli.httpd import Httpd
from pyglue.cli.reach import User, obstacle, open_to_all
from pyglue.errors import PyglueError

PACKAGE = Path(pyglue.__file__).parent
USERS = ("www-data", "apache", "daemon")  # of httpd's children, as distributions name it
MIME_TYPES = ("/etc/mime.types", "/etc/apache2/mime.types", "/dev/null")
LOG_LEVELS = ["emerg", "alert", "crit", "error", "warn", "notice", "info", "debug"]
LOG_LEVELS += [f"trace{number}" for number in range(1, 9)]
MODULES = ("mpm_event", "authz_core", "alias", "mime", "unixd")
SCRIPT = """\
# Written by pyglue: the callable that was named on the command line.
from importlib import import_module

application = import_module({module!r})
for name in {names!r}:
    application = getattr(application, name)
"""


@dataclass(frozen=True)
class Site:
    """What is served and how. Paths are absolute."""

    target: str
    script: Path
    callable: tuple[str, str] | None  # module and attribute, for which `script` is written
    host: str
    port: int
    mode: str
    processes: int
    threads: int
    python: Path | None
    user: User | None  # None: whoever runs this
    static: tuple[tuple[str, Path], ...]
    root: Path
    log_level: str

    @property
    def address(self) -> str:
        return f"http://{self.bracketed}:{self.port}/"

    @property
    def bracketed(self) -> str:
        """The host as it stands before a port: IPv6 addresses in brackets."""
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def folder(self) -> Path:
        """Where the application's modules are: a script's own folder, a callable's current one."""
        return Path.cwd() if self.callable else self.script.parent

    @property
    def configuration(self) -> Path:
        return self.root / "httpd.conf"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("target", metavar="TARGET", help="a script file (app.wsgi) or package.module:callable")
    add("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    add("--port", type=int, default=8000, help="port to listen on (%(default)s)")
    add(
        "--mode",
        choices=("daemon", "embedded"),
        default="daemon",
        help="where the application runs (%(default)s)",
    )
    add(
        "--processes",
        type=int,
        default=1,
        metavar="N",
        help="workers, or children when embedded (%(default)s)",
    )
    add("--threads", type=int, default=15, metavar="N", help="threads in each (%(default)s)")
    add(
        "--python", metavar="PATH", help="the application's Python (the one that runs this command)"
    )
    add(
        "--user",
        metavar="NAME",
        help="as root: who httpd's children and the workers are (www-data)",
    )
    add("--group", metavar="NAME", help="as root: their group (the user's own)")
    add(
        "--static",
        action="append",
        default=[],
        metavar="/URL=DIR",
        help="files that httpd serves itself; repeatable",
    )
    add(
        "--server-root",
        metavar="DIR",
        help="where the configuration is kept (a folder of your own, by address)",
    )
    add(
        "--log-level",
        choices=LOG_LEVELS,
        default="info",
        metavar="LEVEL",
        help="httpd's LogLevel (%(default)s)",
    )


def from_arguments(chosen: argparse.Namespace) -> Site:
    root = (
        Path(chosen.server_root).absolute()
        if chosen.server_root
        else default_root(chosen.host, chosen.port)
    )
    if not 0 < chosen.port < 65536:
        raise PyglueError(f"--port {chosen.port}: a port is a number from 1 to 65535.")
    for name in ("processes", "threads"):
        if getattr(chosen, name) < 1:
            raise PyglueError(f"--{name} {getattr(chosen, name)}: at least 1 is needed.")
    named = named_callable(chosen.target)
    return Site(
        target=chosen.target,
        script=root / "application.wsgi" if named else Path(chosen.target).absolute(),
        callable=named,
        host=chosen.host,
        port=chosen.port,
        mode=chosen.mode,
        processes=chosen.processes,
        threads=chosen.threads,
        python=program(chosen.python) if chosen.python else None,
        user=serving_user(chosen.user, chosen.group),
        static=tuple(static_folder(text) for text in chosen.static),
        root=root,
        log_level=chosen.log_level,
    )


def named_callable(target: str) -> tuple[str, str] | None:
    """("shop.wsgi", "app") for shop.wsgi:app; None for the path of a script."""
    module, colon, names = target.partition(":")
    if not colon or os.path.lexists(target) or os.sep in module:
        return None
    if not all(part.isidentifier() for part in [*module.split("."), *names.split(".")]):
        raise PyglueError(f"{target}: neither a script file nor package.module:callable.")
    return module, names


def program(text: str) -> Path:
    """An executable as a shell finds it: a name without a folder is looked up on PATH."""
    found = shutil.which(text) if os.sep not in text else None
    return Path(found or text).absolute()


def static_folder(text: str) -> tuple[str, Path]:
    url, equals, folder = text.partition("=")
    url = url.rstrip("/")  # httpd's Alias takes both with a slash at the end, or neither
    if not equals or not url.startswith("/"):
        raise PyglueError(f"--static {text}: write it as /url=folder.")
    if not Path(folder).is_dir():
        raise PyglueError(f"--static {text}: {folder} is not a folder.")
    return url, Path(folder).absolute()


def serving_user(user: str | None, group: str | None) -> User | None:
    """Who httpd's children and workers become. Only root can choose: for others None, their own."""
    if os.geteuid() != 0:
        if user or group:
            raise PyglueError("--user and --group need root: without it everything runs as you.")
        return None
    for name in [user] if user else USERS:
        try:
            return User.named(name, group)
        except PyglueError:
            if user or group:
                raise
    raise PyglueError(
        "none of the users " + ", ".join(USERS) + " exists here: name one with --user."
    )


def default_root(host: str, port: int) -> Path:
    if os.geteuid() == 0:
        return Path(f"/run/pyglue/{host}-{port}")
    return Path(tempfile.gettempdir()) / f"pyglue-{os.geteuid()}" / f"{host}-{port}"


def write(site: Site, httpd: Httpd) -> Path:
    """Makes the server root, writes script and configuration into it; returns the latter's path."""
    make_root(site.root)
    if site.callable:
        module, names = site.callable
        put(site.root / "application.wsgi", SCRIPT.format(module=module, names=names.split(".")))
    for needed in (site.script, site.python or Path(sys.executable), PACKAGE / "__init__.py"):
        require_reach(site, needed)
    put(site.configuration, render(site, httpd))
    require_reach(site, site.configuration)  # the workers' sockets lie beside it
    return site.configuration


def require_reach(site: Site, file: Path) -> None:
    blocked = obstacle(file, site.user)
    if blocked:
        raise PyglueError(f"cannot serve {site.target}: {blocked}.")


def make_root(root: Path) -> None:
    """The server root. One that another user could write is refused: httpd would trust it."""
    for folder in (root.parent, root):
        try:
            with open_to_all():
                folder.mkdir(parents=True, exist_ok=True)
            found = folder.lstat()
        except OSError as error:
            raise PyglueError(
                f"server root {folder}: {error.strerror}. Name another with --server-root."
            ) from None
        own = found.st_uid == os.geteuid() and not found.st_mode & 0o022
        if folder == root and not (stat.S_ISDIR(found.st_mode) and own):
            raise PyglueError(
                f"server root {folder}: not a folder that only you can write. Remove it, or name "
                "another with --server-root."
            )


def put(file: Path, text: str) -> None:
    """Replaces a file in one step, readable by all (httpd's children read it as another user)."""
    new = file.with_name(f".{file.name}.new")
    try:
        new.write_text(text, encoding="utf-8", errors="surrogateescape")
        new.chmod(0o644)
        new.replace(file)
    except OSError as error:
        raise PyglueError(f"cannot write {file}: {error.strerror}.") from None


def quoted(value: object) -> str:
    """A value between httpd's quotation marks. What httpd would not read as text is refused."""
    text = os.fspath(value) if isinstance(value, os.PathLike) else str(value)
    if "${" in text or any(ord(letter) < 32 for letter in text):
        raise PyglueError(
            f"{text!r} cannot stand in an httpd.conf: it has a control character or '${{' in it."
        )
    return text.replace("\\", "\\\\").replace('"', '\\"')


def render(site: Site, httpd: Httpd) -> str:
    blanks = {
        "version": pyglue.__version__,
        "target": quoted(site.target),
        # A ServerName cannot be an address of IPv6.
        "name": quoted("localhost" if ":" in site.host else site.host),
        "root": quoted(site.root),
        "listen": f"{site.bracketed}:{site.port}",
        "error_log": "/dev/stderr",
        "log_level": site.log_level,
        "user": user_lines(site.user),
        "modules": "\n".join(httpd.load_lines(MODULES)),
        "module": quoted(built_module()),
        "mpm": mpm(site),
        "mime_types": next(file for file in MIME_TYPES if os.path.exists(file)),
        "static": "".join(alias(url, folder) for url, folder in site.static),
        "application": application(site),
        "script_dir": quoted(site.script.parent),
        "script_name": quoted(site.script.name),
    }
    return Template(template().read_text(encoding="utf-8")).substitute(blanks)


def user_lines(user: User | None) -> str:
    if user is None:
        return "# Not started by root: no change of user."
    return f'User "{user.name}"\nGroup "{user.group}"'


def built_module() -> Path:
    file = PACKAGE / "mod_pyglue.so"
    if not file.exists():
        raise PyglueError(
            f"{file} was not built: this installation is editable, or has only an engine. Install "
            "httpd's headers (apt-get install apache2-dev, dnf install httpd-devel) and mod-pyglue "
            "again, without -e."
        )
    return file


def template() -> Path:
    """Installed inside the package; in a checkout beside it."""
    installed = PACKAGE / "httpd-conf" / "serve.conf.in"
    return installed if installed.exists() else PACKAGE.parent / "httpd-conf" / "serve.conf.in"


def mpm(site: Site) -> str:
    if site.mode == "daemon":
        return (
            "StartServers 1\nThreadsPerChild 25\nMinSpareThreads 25\nMaxSpareThreads 75\n"
            "MaxRequestWorkers 150"
        )
    return "\n".join(
        [
            f"ServerLimit {site.processes}",
            f"StartServers {site.processes}",
            f"ThreadLimit {site.threads}",
            f"ThreadsPerChild {site.threads}",
            "MinSpareThreads 1",
            f"MaxSpareThreads {site.processes * site.threads}",
            f"MaxRequestWorkers {site.processes * site.threads}",
        ]
    )


def alias(url: str, folder: Path) -> str:
    lines = [f'Alias "{quoted(url)}" "{quoted(folder)}"', f'<Directory "{quoted(folder)}">']
    return "\n" + "\n".join([*lines, "    Require all granted", "</Directory>"]) + "\n"


def application(site: Site) -> str:
    """The directives of mod_pyglue."""
    script = f'"{quoted(site.script)}"'
    path = quoted(site.folder)
    if site.mode == "embedded":
        lines = [f'WSGIPythonHome "{quoted(home(site))}"', f'WSGIPythonPath "{path}"']
        return "\n".join([*lines, f"WSGIScriptAlias / {script} application-group=%{{GLOBAL}}"])
    options = [f"processes={site.processes}"] if site.processes > 1 else []
    options += [f"threads={site.threads}"]
    options += (
        [f'python="{quoted(site.python)}"']
        if site.python
        else [f'python-home="{quoted(sys.prefix)}"']
    )
    options += [f'python-path="{path}"']
    where = "process-group=application application-group=%{GLOBAL}"  # both: loaded at once
    group = f"WSGIDaemonProcess application {' '.join(options)}"
    return f"{group}\nWSGIScriptAlias / {script} {where}"


def home(site: Site) -> Path:
    """The prefix of the Python that is embedded: PREFIX/bin/python names it without being run."""
    return site.python.parent.parent if site.python else Path(sys.prefix)
