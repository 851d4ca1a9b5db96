"""The command that runs one test again."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator

import pytest

from pytest_perago.kinds import KINDS
from pytest_perago.options import kinds_in_ini, named_on_command_line


def rerun_command(item: pytest.Item, options: Iterable[str] = ()) -> str:
    """`pytest` with the options that decide what is collected, and the test as seen from where it was started."""
    config = item.config
    path = str(item.path)
    if item.path.is_relative_to(config.rootpath):
        path = os.path.relpath(item.path, config.invocation_params.dir)
    names = item.nodeid.partition("::")[2]
    words = ["pytest", *_context(config), *_kind(item), *options, f"{path}::{names}"]
    return " ".join(_quoted(word) for word in words)


def _context(config: pytest.Config) -> Iterator[str]:
    option = config.option
    if option.inifilename:
        yield from ("-c", str(option.inifilename))
    if option.rootdir:
        yield from ("--rootdir", str(option.rootdir))
    if option.importmode != "prepend":
        yield f"--import-mode={option.importmode}"
    for override in option.override_ini or ():
        if not override.startswith("strict"):  # how pytest keeps its own --strict-markers and --strict-config
            yield from ("-o", override)
    modules = named_on_command_line(config)
    if modules:
        yield from ("--perago-modules", ",".join(modules))
    directory = config.getoption("--perago-snapshot-dir")
    if directory is not None:
        yield f"--perago-snapshot-dir={directory}"


def _kind(item: pytest.Item) -> tuple[str, ...]:
    """The option without which a test of this kind would not be there; nothing where the ini file asks for it."""
    kind = item.name.partition("[")[0]
    return ("--perago-kinds", kind) if kind in KINDS and kind not in kinds_in_ini(item.config) else ()


def _quoted(word: str) -> str:
    """Node ids are always quoted: their brackets mean something to shells that `shlex.quote` does not know."""
    return "'" + word.replace("'", "'\"'\"'") + "'" if "::" in word else shlex.quote(word)
