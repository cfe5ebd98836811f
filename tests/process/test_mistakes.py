# SPDX-License-Identifier: Apache-2.0
"""Mistakes of administrators: what the log says, what `pyglue check`, and what `httpd -t`.

Each message names what is wrong, where, and how to mend it. httpd -t touches nothing of a tenant's:
it is asked so that it stays quiet about what only `pyglue check` may look at."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from harness import conf
from harness.client import connected, request
from harness.httpd import Httpd

SECONDS = 60.0
GOOD = """\
def application(environ, start_response):
    start_response("200 OK", [])
    return [b"fine"]
"""


@dataclass(frozen=True)
class Mistake:
    """A script (None: missing) or options of the group, and what must be told of them."""

    script: str | None = GOOD
    mode: int = 0o644
    options: str = ""
    log: str = ""
    last_line: str = ""  # of the traceback that comes with it
    check: str = ""


SCRIPTS = {
    "missing": Mistake(script=None, log=r"app\.py", check=r"app\.py' cannot be read: No such file"),
    "unreadable": Mistake(
        mode=0, log=r"app\.py", check=r"app\.py' cannot be read: Permission denied.* as user \d+"
    ),
    "no callable": Mistake(
        script="x = 1\n",
        log=r"app\.py' has no 'application': define it there, or name",
        check=r"app\.py' has no 'application': define it there, or name .*WSGICallableObject",
    ),
    "non-callable": Mistake(
        script="application = 5\n",
        log=r"'application' of script '.*app\.py' is an? int",
        check=r"'application' of script '.*app\.py' is an? int, which cannot be called: give ",
    ),
    "syntax error": Mistake(
        script="def application(:\n",
        log=r"SyntaxError",
        last_line="SyntaxError: invalid syntax",
        check=r"File \".*app\.py\", line 1",
    ),
    "missing module": Mistake(
        script="import no_such_module\n",
        log=r"No module named 'no_such_module'",
        last_line="ModuleNotFoundError: No module named 'no_such_module'",
        check=r"No module named 'no_such_module'",
    ),
}
GROUPS = {
    "wrong python-home": Mistake(
        options="python-home=/no/such/environment",
        log=r"/no/such/environment/bin/python.*python-home= names an environment",
        check=r"/no/such/environment/bin/python.*python-home= names an environment",
    ),
    "python that is none": Mistake(
        options="python=/bin/true", log=r"PG1103|PG1105|PG1110", check=r"is it a Python\?"
    ),
}


def written(folder: Path, mistake: Mistake, mode: str = "daemon") -> list[str]:
    """The lines of the configuration; the script is in its folder."""
    script = folder / "app.py"
    if mistake.script is not None:
        script.write_text(mistake.script)
        script.chmod(mistake.mode)
    group = [f"WSGIDaemonProcess group {mistake.options}", "WSGIProcessGroup group"]
    lines = group if mode == "daemon" else []
    return [*lines, f'WSGIScriptAlias / "{script}"', *conf.granted(folder)]


def checked(server: Httpd) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [conf.prefix() / "bin" / "pyglue", "check", "-f", server.root / "httpd.conf"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )


@pytest.mark.parametrize("name", SCRIPTS)
def test_mistake_in_a_script_is_told_by_the_log(
    name: str, mode: str, folder: Path, start_httpd: Callable[..., Httpd]
) -> None:
    mistake = SCRIPTS[name]
    server = start_httpd(written(folder, mistake, mode))
    server.log.expect(mistake.log)
    server.log.allow(r"script '|GL0205|AH0")
    if mistake.last_line:
        server.log.expect_traceback(mistake.last_line)
    with connected(server.address) as connection:
        connection.send(request("GET", "/"))
        assert connection.read_response().status in {403, 404, 500}
    assert re.search(mistake.log, server.log.wait_for(mistake.log))


CHECKED = [(name, "daemon") for name in SCRIPTS | GROUPS] + [(n, "embedded") for n in SCRIPTS]


@pytest.mark.parametrize(("name", "where"), CHECKED)
def test_mistake_is_told_by_check_and_not_by_httpds_own_test(
    name: str, where: str, folder: Path
) -> None:
    mistake = {**SCRIPTS, **GROUPS}[name]
    server = Httpd(written(folder, mistake, where), root=folder)

    answer = checked(server)
    what = "process group group" if where == "daemon" else "embedded mode"
    before = re.search(rf"\A(.*?)^{what} \(user ", answer.stdout, re.DOTALL | re.MULTILINE)
    assert answer.returncode == 1 and before and "Traceback" not in before[1], answer.stdout
    assert re.search(mistake.check, answer.stdout, re.DOTALL), answer.stdout
    assert server.test_configuration().returncode == 0


@pytest.mark.parametrize("name", GROUPS)
def test_group_that_cannot_start_answers_500_and_the_log_tells_why(
    name: str, folder: Path, start_httpd: Callable[..., Httpd]
) -> None:
    mistake = GROUPS[name]
    server = start_httpd(written(folder, mistake))
    server.log.expect(mistake.log)
    server.log.allow(r"GL05\d\d|PG11\d\d")
    server.log.wait_for(mistake.log)
    with connected(server.address) as connection:
        connection.send(request("GET", "/"))
        assert connection.read_response().status == 500


def test_sound_configuration_is_fine(folder: Path) -> None:
    server = Httpd(written(folder, Mistake()), root=folder)
    answer = checked(server)
    assert answer.returncode == 0, answer.stdout
    assert re.search(r"^process group group \(user .*\): fine$", answer.stdout, re.MULTILINE)


def test_wrong_python_home_of_embedded_mode_is_told(
    folder: Path, start_httpd: Callable[..., Httpd]
) -> None:
    lines = ["WSGIPythonHome /no/such/environment", *written(folder, Mistake(), "embedded")]
    server = start_httpd(lines)
    for message in ("GL0402", "GL0403"):
        server.log.expect(f"{message}.*WSGIPythonHome: '/no/such/environment'.*name an environment")
    with connected(server.address) as connection:
        connection.send(request("GET", "/"))
        assert connection.read_response().status == 500
    answer = checked(server)
    assert answer.returncode == 1
    assert re.search("^embedded mode .*/no/such/environment/bin", answer.stdout, re.MULTILINE)


def test_sound_configuration_of_embedded_mode_is_fine(folder: Path) -> None:
    """It needs no sockets, so their folder does not matter."""
    lines = ["WSGISocketPrefix /no/such/folder/x", *written(folder, Mistake(), "embedded")]
    answer = checked(Httpd(lines, root=folder))
    assert answer.returncode == 0, answer.stdout
    assert re.search(r"^embedded mode \(user .*\): fine$", answer.stdout, re.MULTILINE)


@pytest.mark.parametrize("section", ["<Files app.py>", "<If true>", "<Location /x>"])
def test_script_that_a_section_may_send_to_a_group_is_not_tried_in_embedded_mode(
    section: str, folder: Path
) -> None:
    """It need not load there, with another user and another Python."""
    end = f"</{section[1:].split()[0].rstrip('>')}>"
    inner = [section, "WSGIProcessGroup group", end]
    lines = ["WSGIDaemonProcess group", *inner, f'WSGIScriptAlias /x "{folder}/app.py"']
    (folder / "app.py").write_text("import no_such_module\n")
    answer = checked(Httpd([*lines, *conf.granted(folder)], root=folder))
    assert "embedded mode" not in answer.stdout, answer.stdout


@pytest.mark.privileged
def test_embedded_mode_does_not_change_what_a_group_is_checked_with(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the only user of a group it has httpd's environment."""
    monkeypatch.setenv("OWN_SETTING", "x")
    (folder / "app.py").write_text(GOOD + "import os\nos.environ['OWN_SETTING']\n")
    lines = [
        "WSGIDaemonProcess group user=games",
        f'WSGIScriptAlias /a "{folder}/app.py" process-group=group',
        f'WSGIScriptAlias /b "{folder}/app.py" process-group=%{{GLOBAL}}',
    ]
    answer = checked(Httpd([*lines, *conf.granted(folder)], root=folder))
    assert answer.returncode == 0, answer.stdout
    assert answer.stdout.count(": fine") == 2


@pytest.mark.parametrize("where", ["embedded", "daemon"])
def test_pattern_without_a_variable_in_its_target_is_checked(where: str, folder: Path) -> None:
    lines = written(folder, SCRIPTS["missing"], where)
    lines = [line.replace("WSGIScriptAlias /", "WSGIScriptAliasMatch ^/") for line in lines]
    answer = checked(Httpd(lines, root=folder))
    assert answer.returncode == 1 and "No such file" in answer.stdout


def test_alias_to_a_folder_is_no_mistake(folder: Path) -> None:
    (folder / "scripts").mkdir()
    lines = ["WSGIDaemonProcess group", f'WSGIScriptAlias / "{folder}/scripts" process-group=group']
    assert checked(Httpd(lines, root=folder)).returncode == 0


def test_callable_of_a_section_is_the_one_that_is_checked(folder: Path) -> None:
    (folder / "app.py").write_text(GOOD.replace("def application", "def main"))
    lines = [
        "WSGIDaemonProcess group",
        f'WSGIScriptAlias /shop "{folder}/app.py"',
        "<Location /shop>",
        "WSGIProcessGroup group",
        "</Location>",
        *conf.granted(folder, "WSGICallableObject main"),
    ]
    assert checked(Httpd(lines, root=folder)).returncode == 0


def test_unknown_process_group_is_told_at_the_test_and_at_the_request(
    folder: Path, start_httpd: Callable[..., Httpd]
) -> None:
    (folder / "app.py").write_text(GOOD)
    lines = [f'WSGIScriptAlias / "{folder}/app.py"', "WSGIProcessGroup nowhere"]
    server = start_httpd([*lines, *conf.granted(folder)])
    server.log.expect("GL0102: .*'nowhere'")
    server.log.expect("GL0202: .*'nowhere'")
    with connected(server.address) as connection:
        connection.send(request("GET", "/"))
        assert connection.read_response().status == 500
    assert "no WSGIDaemonProcess defines 'nowhere'" in server.test_configuration().stdout
    answer = checked(server)
    assert answer.returncode == 1
    assert "no WSGIDaemonProcess defines 'nowhere'" in answer.stdout


@pytest.fixture
def bare_python(folder: Path) -> Path:
    """A Python of another ABI tag than any that has an engine, by what sysconfig says of it."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True)
    tag = "import sysconfig; v = sysconfig.get_config_vars(); v['SOABI'] = 'cpython-39-none'; "
    suffix = "v['EXT_SUFFIX'] = '.cpython-39-none.so'\n"
    for packages in (folder / "env").glob("lib/python*/site-packages"):
        (packages / "other_abi.pth").write_text(tag + suffix)
    return folder / "env"


def test_missing_engine_names_the_command_that_builds_it(
    bare_python: Path, folder: Path, start_httpd: Callable[..., Httpd]
) -> None:
    words = (
        rf"no engine for {bare_python}/bin/python .*pyglue install-engine --python {bare_python}"
    )
    server = start_httpd(written(folder, Mistake(options=f"python-home={bare_python}")))
    server.log.expect(r"PG1110.*PG1105|PG1110|PG1105")
    server.log.allow(words)
    server.log.wait_for(words)
    answer = checked(server)
    assert answer.returncode == 1
    assert re.search(words, answer.stdout, re.DOTALL), answer.stdout


def with_sockets_in(folder: Path, mode: int | None) -> list[str]:
    """A group whose sockets lie in a folder with these permissions; None: there is none."""
    if mode is not None:
        (folder / "run").mkdir()
        (folder / "run").chmod(mode)
    return [f'WSGISocketPrefix "{folder}/run/wsgi"', *written(folder, Mistake())]


OTHERS_CAN_WRITE = (0o777, r"/run/?, which others can write to", r"/run\b.* others can write to it")
NO_FOLDER = (None, r"/run/?: No such file", r"/run\b.*No such file")
CLOSED = (0o700, r"below .*/run, which httpd's user .* may not enter", r"may not enter .*/run,")


@pytest.mark.parametrize(
    ("mode", "tested", "said"),
    [OTHERS_CAN_WRITE, NO_FOLDER, pytest.param(*CLOSED, marks=pytest.mark.privileged)],
)
def test_directory_of_sockets_that_will_not_do_is_told(
    mode: int | None, tested: str, said: str, folder: Path
) -> None:
    server = Httpd(with_sockets_in(folder, mode), root=folder)
    answer = checked(server)
    assert answer.returncode == 1
    told = re.search("^process group group .*", answer.stdout, re.MULTILINE)
    assert told and re.search(f"{said}.*WSGISocketPrefix", told[0]), answer.stdout
    done = server.test_configuration()
    assert done.returncode == 0
    assert re.search(f"GL0106: WSGISocketPrefix: .*{tested}", done.stdout), done.stdout


@pytest.mark.privileged
def test_directory_of_sockets_that_httpds_user_cannot_enter_is_a_503_with_the_remedy(
    folder: Path, start_httpd: Callable[..., Httpd]
) -> None:
    """mod_wsgi's classic. Said once a request: another try would find the folder closed too."""
    server = start_httpd(with_sockets_in(folder, 0o700))
    server.log.expect(r"Permission denied.*GL0503: .*/run/wsgi.*WSGISocketPrefix")
    with connected(server.address) as connection:
        connection.send(request("GET", "/"))
        assert connection.read_response().status == 503
    assert server.log.text().count("GL0") == 1


def test_prefix_of_sockets_that_is_too_long_is_told(folder: Path) -> None:
    lines = [f'WSGISocketPrefix "{folder}/{"x" * 90}"', "WSGIDaemonProcess group"]
    done = Httpd(lines, root=folder).test_configuration()
    assert "GL0106: WSGISocketPrefix" in done.stdout and "longer than 81 bytes" in done.stdout


def test_port_that_another_program_has_is_told_unless_it_is_httpd_itself(
    folder: Path, start_httpd: Callable[..., Httpd]
) -> None:
    server = Httpd(written(folder, Mistake()), root=folder)
    with socket.create_server(server.address):
        answer = checked(server)
    assert answer.returncode == 1
    host, port = server.address
    assert f"Listen: {host} port {port}: it is in use by another program" in answer.stdout
    running = start_httpd(written(folder, Mistake()))
    answer = checked(running)
    assert answer.returncode == 0, answer.stdout


def test_module_of_another_httpd_is_told_with_the_remedy(folder: Path) -> None:
    server = Httpd([], root=folder)
    (folder / "mod_pyglue.so").write_bytes(
        (Path(conf.modules()) / "mod_authz_core.so").read_bytes()
    )
    text = (folder / "httpd.conf").read_text()
    (folder / "httpd.conf").write_text(
        re.sub(
            r'LoadModule wsgi_module ".*"', f'LoadModule wsgi_module "{folder}/mod_pyglue.so"', text
        )
    )
    answer = checked(server)
    assert answer.returncode == 1
    assert "built for another httpd" in answer.stdout or "wsgi_module" in answer.stdout
