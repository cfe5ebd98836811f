# SPDX-License-Identifier: Apache-2.0
"""The pages that list what the code has, list just that: options of the command, environ, steps."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from pyglue import _jail, cli

ROOT = Path(__file__).parents[2]
CLI = (ROOT / "docs/reference/cli.md").read_text()
ENVIRON = (ROOT / "docs/reference/environ.md").read_text()
# Written in the snapshot or in the engine, and told of without a name of its own, or by a rule.
BY_RULE = re.compile(r"REDIRECT_|HTTP_")
INTERNED_ONLY = {"http", "https", "", "close", "read", "fileno", "tell", "raw", "status"}


def subcommands() -> dict[str, argparse.ArgumentParser]:
    for action in cli.parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    raise AssertionError("no subcommands")


def section(title: str) -> str:
    found = re.search(rf"^## `pyglue {title}\b.*?(?=^## |\Z)", CLI, re.MULTILINE | re.DOTALL)
    assert found, f"cli.md has no section of {title}"
    return found.group()


def own_options(parser: argparse.ArgumentParser) -> set[str]:
    named = {name for action in parser._actions for name in action.option_strings}
    return named - {"-h", "--help"}


def test_each_subcommand_has_its_section() -> None:
    titles = set(re.findall(r"^## `pyglue ([a-z-]+)", CLI, re.MULTILINE))
    assert titles - {"--version"} == set(subcommands())


@pytest.mark.parametrize("name", sorted(set(subcommands()) - {"config"}))
def test_options_of_a_subcommand_are_those_of_the_page(name: str) -> None:
    text = section(name)
    heading = text.splitlines()[0]
    cells = re.findall(r"^\| (`-.*?) \|", text, re.MULTILINE)
    told = {
        option
        for cell in [heading, *cells]
        for option in re.findall(r"(?<![\w-])(--?[A-Za-z][a-z-]*)", cell)
    }
    assert told == own_options(subcommands()[name])


def test_config_takes_what_serve_takes_but_for_two() -> None:
    assert "without `--reload` and `-D`" in section("config")
    both = subcommands()
    assert own_options(both["serve"]) - own_options(both["config"]) == {"--reload", "-D"}


def keys_of_code() -> set[str]:
    snapshot = (ROOT / "apache_module/glue_snapshot.c").read_text()
    engine = (ROOT / "pyglue/engine/module.c").read_text()
    added = set(re.findall(r'add(?:_str)?\(p, (?:pyglue_str\()?"([^"]+)"', snapshot))
    interned = set(re.findall(r'\[ENG_NAME_\w+\] = "([^"]*)"', engine))
    return {key for key in (added | interned) - INTERNED_ONLY if not BY_RULE.match(key)}


def keys_of_page() -> set[str]:
    """`wsgi.`: `version` and `.thread_id` stand behind the word that begins them."""
    keys = set()
    for paragraph in ENVIRON.split("\n\n"):
        names = re.findall(r"`([A-Za-z_.]+)`", paragraph)
        prefix = re.match(r"\*\*(wsgi|mod_wsgi)\.", paragraph)
        for name in names:
            keys.add(
                (prefix.group(1) + "." if prefix else "") + name.removeprefix(".")
                if prefix and not name.startswith(("apache.", "mod_wsgi."))
                else name
            )
    return keys


def test_each_key_of_environ_is_on_its_page() -> None:
    assert sorted(keys_of_code() - keys_of_page()) == []


def test_steps_before_a_worker_runs_are_those_of_the_page() -> None:
    page = (ROOT / "docs/privileges.md").read_text()
    table = page[page.index("| step | what | why here |") :].split("\n\n", 1)[0]
    rows = [line.split("|")[1].strip() for line in table.splitlines()[2:]]
    assert [step for row in rows for step in row.split(", ")] == _jail.steps()


def test_each_option_that_is_a_duration_is_in_the_table_of_timeouts() -> None:
    options = (ROOT / "apache_module/glue_options.c").read_text()
    durations = set(re.findall(r'^    DURATION\("([a-z-]+)"', options, re.MULTILINE))
    page = (ROOT / "docs/process-management.md").read_text()
    told = set(re.findall(r"^\| `([a-z-]+)` [^|]+\|", page, re.MULTILINE))
    assert durations <= told, f"not in the table: {sorted(durations - told)}"
    assert len(durations) > 10
