"""A scratch project in which the blocks of one page are run, from the first to the last."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from perago.testing import EmbeddedServices, serve

from ..forked import IMPORTED_BY, forks_of
from .blocks import Block

LIMIT_SECONDS = 180
_SHELL = frozenset("|&;<>()$`*?~#\\")
"""Characters of commands that are left to a shell."""
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "SYSTEMROOT", "COVERAGE_PROCESS_START")


class BlockFailed(AssertionError):
    """A block does not do what the page says."""


@dataclass(frozen=True, slots=True)
class Command:
    """A line after `$ `, and what the page shows below it."""

    text: str
    expected: tuple[str, ...]


class Scratch:
    """A directory of its own with nothing around it: no home, no configuration, no servers but those of the page.
    Use it as a context manager."""

    def __init__(self, directory: Path) -> None:
        self.project = directory / "project"
        self.project.mkdir()
        home = directory / "home"
        home.mkdir()
        self._stack = ExitStack()
        self._served: EmbeddedServices | None = None
        self._environment = {
            **{name: os.environ[name] for name in _PASSED_ON if name in os.environ},
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "HOME": str(home),
            "COLUMNS": "120",
            "NO_COLOR": "1",
            "PYTHONUTF8": "1",
            "PYTHONDONTWRITEBYTECODE": "1",  # an edit in the second of an import would not be seen
            "PYTEST_ADDOPTS": "-p no:conductor-agents-testing",
        }

    def __enter__(self) -> Scratch:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def follow(self, block: Block) -> None:
        """Do what the block says.

        Raises:
            BlockFailed: it does not work, or shows something else than is printed.
        """
        if block.needs is not None:
            return
        if block.file is not None:
            self.write(block)
        match block.language:
            case "console":
                self._console(block)
            case "python" if block.file is None:
                self._python(block)
            case _:
                check_syntax(block)

    def write(self, block: Block) -> None:
        """Write a block to its file."""
        file = self.project / str(block.file)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block.text, encoding="utf-8")

    def _python(self, block: Block) -> None:
        has_tests = re.search(r"^def test_", block.text, re.MULTILINE)
        file = self.project / f"test_block_{block.line}.py"
        file.write_text(block.text, encoding="utf-8")
        status, output = self._run(f"python {'-m pytest -q ' if has_tests else ''}{file.name}")
        file.unlink()
        if status:
            raise BlockFailed(f"{block.place}: the block ends with status {status}\n{output}")

    def _console(self, block: Block) -> None:
        commands = list(commands_of(block))
        for number, command in enumerate(commands, start=1):
            expected = block.exit if number == len(commands) else 0
            status, output = self._run(command.text, self._services() if block.with_services else {})
            where = f"{block.place}: $ {command.text}"
            if status != expected:
                raise BlockFailed(f"{where}\nended with {status}, not with {expected}\n{output}")
            if not matches(command.expected, output.splitlines()):
                shown = "\n".join(command.expected)
                raise BlockFailed(f"{where}\n--- the page shows\n{shown}\n--- but it prints\n{output}")

    def _services(self) -> Mapping[str, str]:
        """The variables that lead to services for this page, which are started when they are first needed."""
        if self._served is None:
            self._served = self._stack.enter_context(serve())
            self._served.lakefs.seed("my-data", "main", {"raw/a.csv": "x\n1\n"})
        return self._served.environment()

    def _run(self, command: str, variables: Mapping[str, str] = MappingProxyType({})) -> tuple[int, str]:
        environment = {**self._environment, **variables}
        try:
            if not _SHELL & set(command) and (arguments := shlex.split(command))[0] in IMPORTED_BY:
                name, *rest = arguments
                ran = forks_of(name).run(
                    name, rest, self.project, environment, seconds=LIMIT_SECONDS, merged=True, script=True
                )
                return ran.code, ran.stdout.decode()
            done = subprocess.run(
                ["bash", "-c", command],
                cwd=self.project,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                encoding="utf-8",
                timeout=LIMIT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise BlockFailed(f"$ {command}\ntook more than {LIMIT_SECONDS} s\n{error.output}") from None
        return done.returncode, done.stdout


def commands_of(block: Block) -> Iterator[Command]:
    """The commands of a console block; a backslash at the end of a line goes on with the next.

    Raises:
        BlockFailed: it does not begin with a command.
    """
    lines = block.text.splitlines()
    if not lines[0].startswith("$ "):
        raise BlockFailed(f"{block.place}: a console block begins with `$ `")
    text, expected, more = "", list[str](), False
    for line in lines:
        if more:
            text += "\n" + line
        elif line.startswith("$ "):
            if text:
                yield Command(text, tuple(expected))
            text, expected = line[2:], []
        else:
            expected.append(line)
            continue
        more = line.endswith("\\")
    yield Command(text, tuple(expected))


def matches(expected: tuple[str, ...] | list[str], actual: list[str]) -> bool:
    """Whether lines are as shown; `...` is any text within a line and, alone in it, any number of lines."""
    lines = [line.rstrip() for line in expected if line.strip()]
    pattern = ""
    for line in lines:
        if line.strip() == "...":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += ".*".join(map(re.escape, line.split("..."))) + r"[ ]*\n"
    text = "".join(f"{line.rstrip()}\n" for line in actual if line.strip())
    return re.fullmatch(pattern, text) is not None


def check_syntax(block: Block) -> None:
    """Whether a block is what its language says.

    Raises:
        BlockFailed: it is not.
    """
    try:
        match block.language:
            case "toml":
                tomllib.loads(block.text)
            case "ini":
                configparser.ConfigParser(interpolation=None).read_string(block.text)
            case "json":
                json.loads(block.text)
            case "python":
                compile(block.text, block.place, "exec")
    except (ValueError, SyntaxError, configparser.Error) as error:
        raise BlockFailed(f"{block.place}: this is no {block.language}: {error}") from None
