# SPDX-License-Identifier: Apache-2.0
"""Beside other modules of httpd: TLS, HTTP/2, many virtual hosts with logs of their own."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import conf, tls
from harness import site as sites
from harness.client import chunked, connected, request
from harness.httpd import Httpd

APPS = Path(__file__).parents[1] / "apps"
Start = Callable[..., Httpd]
DATA = os.urandom(3_000_000)


def curl(server: Httpd, target: str, *more: str, scheme: str = "http") -> tuple[int, bytes]:
    """curl's exit status, and the body."""
    url = "{}://{}:{}{}".format(scheme, *server.address, target)
    done = subprocess.run(
        ["curl", "-sk", "--max-time", "20", *more, url], stdout=subprocess.PIPE, check=False
    )
    return done.returncode, done.stdout


def test_tls_is_the_scheme_and_files_pass_through_it(mode: str) -> None:
    server = sites.with_apps(APPS, mode, modules=tls.MODULES)
    text = (server.root / "httpd.conf").read_text(encoding="latin-1")
    text += "\n".join(tls.lines(server.root)) + "\n"
    (server.root / "httpd.conf").write_text(text, encoding="latin-1")
    (server.root / "files" / "data").write_bytes(DATA)
    server.log.allow(r"\[ssl:warn\]")
    try:
        server.start()
        environ = json.loads(curl(server, "/environ", scheme="https")[1])
        assert environ["wsgi.url_scheme"] == "https" and "HTTPS" not in environ
        assert curl(server, "/sends_a_file?data", scheme="https") == (0, DATA)
    finally:
        sites.end(server)


def behind_filters(
    mode: str, start_httpd: Start, folder: Path, app: str, *lines: str, modules: tuple[str, ...]
) -> Httpd:
    """One application, whose worker asks for every byte of a body."""
    shutil.copy(APPS / app / "wsgi.py", folder / "app.py")
    own = list(sites.MODE_LINES[mode])
    if mode == "daemon":
        own[0] += " request-buffering=0"
    alias = f'WSGIScriptAlias / "{folder}/app.py"'
    return start_httpd([*own, alias, *lines, *conf.granted(folder)], modules=modules)


@pytest.mark.parametrize("coding", ["length", "chunked"])
def test_upload_is_read_whole_through_filters_that_hold_bytes(
    mode: str, start_httpd: Start, folder: Path, coding: str
) -> None:
    """What TLS has decrypted and mod_deflate inflated, no poll of the client's socket shows."""
    server = behind_filters(
        mode, start_httpd, folder, "hashes_the_body", "SetInputFilter DEFLATE",
        "RequestReadTimeout body=60", *tls.lines(folder),
        modules=("filter", "deflate", "reqtimeout", *tls.MODULES),
    )  # fmt: skip
    server.log.allow(r"\[ssl:warn\]")
    sent = gzip.compress(DATA[:300_000])
    pieces = [sent[i : i + 10_000] for i in range(0, len(sent), 10_000)]
    fields = {"Content-Encoding": "gzip", "Content-Length": str(len(sent))}
    if coding == "chunked":
        fields = {"Content-Encoding": "gzip", "Transfer-Encoding": "chunked"}
        pieces = [chunked(piece)[:-5] for piece in pieces] + [b"0\r\n\r\n"]
    with connected(server.address) as connection:
        tls.encrypt(connection)
        connection.send(request("POST", "/", fields))
        for piece in pieces:
            connection.send(piece)
        assert connection.read_response().text == hashlib.sha256(DATA[:300_000]).hexdigest()


def test_a_body_that_takes_too_long_for_mod_reqtimeout_is_an_error(
    mode: str, start_httpd: Start, folder: Path
) -> None:
    """Its deadline holds wherever the rest of the body is awaited."""
    server = behind_filters(
        mode, start_httpd, folder, "hashes_the_body", "RequestReadTimeout body=1", "Timeout 300",
        modules=("reqtimeout",),
    )  # fmt: skip
    server.log.expect_traceback("OSError")
    with connected(server.address) as connection:
        connection.send(request("POST", "/", {"Content-Length": "10"}) + b"begun")
        assert connection.read_response().status == 500
        assert connection.is_closed()


@pytest.fixture(scope="module")
def h2(mode: str) -> Iterator[Httpd]:
    server = sites.with_apps(APPS, mode, "Protocols h2c http/1.1", modules=("http2",))
    (server.root / "files" / "data").write_bytes(DATA)
    yield server.start()
    server.stop()
    server.remove()


def http2(server: Httpd, target: str, *more: str) -> tuple[int, bytes]:
    return curl(server, target, "--http2-prior-knowledge", *more)


def test_http2_serves_responses_bodies_and_files(h2: Httpd, tmp_path: Path) -> None:
    assert json.loads(http2(h2, "/environ")[1])["SERVER_PROTOCOL"] == "HTTP/2.0"
    (tmp_path / "upload").write_bytes(DATA)
    status, echoed = http2(h2, "/echo", "--data-binary", f"@{tmp_path}/upload")
    assert (status, hashlib.sha256(echoed).digest()) == (0, hashlib.sha256(DATA).digest())
    assert http2(h2, "/sends_a_file?data") == (0, DATA)
    assert http2(h2, "/sends_a_file?data", "-r", "1000-1999") == (0, DATA[1000:2000])


def test_cut_response_is_an_error_of_its_stream(h2: Httpd) -> None:
    h2.log.allow("GL0|Error|script|Traceback")
    status, body = http2(h2, "/raises?after")
    assert status != 0, body


# What each of them needs, in a <Location> of its own.
FILTERS = {
    "deflate": ["SetOutputFilter DEFLATE"],
    "ext_filter": ["SetOutputFilter through_cat"],
    "ratelimit": ["SetOutputFilter RATE_LIMIT", "SetEnv rate-limit 100000"],
    "buffer": ["SetOutputFilter BUFFER", "SetInputFilter BUFFER"],
    "substitute": ["SetOutputFilter SUBSTITUTE", 'Substitute "s|not there|x|n"',
                   "SubstituteMaxLineLength 10m"],
    "cache": [],  # it has a line of its own
}  # fmt: skip
BESIDE = ("filter", *FILTERS, "cache_disk", "dumpio", "lua", "data", "reqtimeout")


@pytest.fixture(scope="module")
def beside(mode: str) -> Iterator[Httpd]:
    """Each application at /FILTER/NAME, below the filter of that name; dumpio sees all of it."""
    server = sites.with_apps(APPS, mode, modules=BESIDE)
    cache = server.root / "cache"
    cache.mkdir()
    cache.chmod(0o777)
    lines = [
        'ExtFilterDefine through_cat mode=output cmd="/bin/cat"',
        *(f'WSGIScriptAlias /{name}/{app} "{server.root}/apps/{app}/wsgi.py"'
          for name in FILTERS for app in ("echo", "sends_a_file", "raises", "zeros")),
        *(line for name, inner in FILTERS.items()
          for line in (f"<Location /{name}>", *inner, "</Location>")),
        f'CacheRoot "{cache}"', "CacheEnable disk /cache/", "CacheIgnoreNoLastMod On",
        "CacheDefaultExpire 600", "DumpIOInput On", "DumpIOOutput On",
    ]  # fmt: skip
    with (server.root / "httpd.conf").open("a", encoding="latin-1") as file:
        file.write("\n".join(lines) + "\n")
    (server.root / "files" / "data").write_bytes(DATA)
    yield server.start()
    server.stop()
    server.remove()


@pytest.mark.parametrize("name", FILTERS)
def test_bodies_are_whole_behind_filters_of_other_modules(
    beside: Httpd, name: str, tmp_path: Path
) -> None:
    (tmp_path / "upload").write_bytes(DATA)
    upload = ("--data-binary", f"@{tmp_path}/upload")
    for _ in range(2):  # the second may come from a cache
        assert curl(beside, f"/{name}/sends_a_file?data", "--compressed") == (0, DATA)
        assert curl(beside, f"/{name}/zeros?70000", "--compressed") == (0, bytes(70000))
        assert curl(beside, f"/{name}/echo", "--compressed", *upload) == (0, DATA)


@pytest.mark.parametrize("name", FILTERS)
def test_cut_response_is_seen_as_cut_behind_filters_of_other_modules(
    beside: Httpd, name: str
) -> None:
    """Each time, though it says nothing against being kept by a cache."""
    beside.log.allow("GL0|raised|script|Traceback|File|yield|raise|self|\\^")
    for _ in range(2):
        status, body = curl(beside, f"/{name}/raises", "--compressed")
        assert status != 0, body


def test_many_hosts_have_logs_of_their_own(start_httpd: Start, folder: Path) -> None:
    """More descriptors than one message to the supervisor carries."""
    hosts = 300
    shutil.copy(APPS / "process" / "wsgi.py", folder / "app.py")
    lines = [*conf.granted(folder), f'WSGIScriptAlias / "{folder}/app.py" process-group=g299']
    for i in range(hosts):
        lines += [
            "<VirtualHost *>",
            f"ServerName g{i}.invalid",
            f'ErrorLog "{folder}/{i}.log"',
            f"WSGIDaemonProcess g{i}" if i % 100 == 99 else "",
            "</VirtualHost>",
        ]
    server = start_httpd(lines)
    status, body = curl(server, "/", "-H", "Host: g299.invalid")
    assert (status, json.loads(body)["process_group"]) == (0, "g299")


def test_error_log_may_be_a_pipe(mode: str, start_httpd: Start, folder: Path) -> None:
    shutil.copytree(APPS / "process", folder / "process")
    group = ["WSGIDaemonProcess own", "WSGIProcessGroup own"] if mode == "daemon" else []
    server = start_httpd(
        [
            *group,
            f'ErrorLog "||/bin/cat >>{folder}/piped"',
            f'WSGIScriptAlias / "{folder}/process/wsgi.py"',
            *conf.granted(folder),
        ]
    )
    assert curl(server, "/")[0] == 0
