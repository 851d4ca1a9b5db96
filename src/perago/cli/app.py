"""The `perago` command: options that every command knows, and a table of commands.

A command's module is imported when that command runs, not before: `perago --help` is paid for by people who wait.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from perago.cli import messages
from perago.cli.errors import error_boundary

COMMANDS = {
    "backtest": "Run today's code on the last attempts, and compare.",
    "cache": "Show or clear the objects that this machine keeps.",
    "capture": "Write an attempt of the past as a test case.",
    "check": "Check task modules and the local configuration.",
    "console": "Show the configured servers in a browser.",
    "config": "Show every setting, its value and where it comes from.",
    "diff": "Compare the TaskDefs of task modules with those on the server.",
    "doctor": "Look for everything that would keep workers from working.",
    "extract": "Write the TaskDef of a task module as JSON.",
    "register": "Put TaskDefs and workflows on the Conductor server.",
    "dev": "Develop task modules on embedded services.",
    "demo": "Run the bundled sample workflow on real data.",
    "fence": "Guard the publications to a branch, or look whether they are.",
    "help": "Print a page of the documentation.",
    "log": "Show the publications to a branch.",
    "init": "Write a small project: one task, its tests and settings.",
    "gc": "Remove what killed attempts left, here and on lakeFS.",
    "input": "Print the input of a task, ready to start a workflow with.",
    "replay": "Run today's code on the input of an attempt of the past.",
    "show": "Show everything about one attempt or one commit.",
    "send": "Start a workflow of one task on the configured servers.",
    "run": "Run one attempt of a task here, without any server.",
    "workflow": "Show the steps of workflows, or write them as JSON.",
    "status": "Show what waits, what runs and who works.",
    "start": "Run workers for a task module against the configured servers.",
}
"""Name and summary. `perago.cli.commands.<name>` holds `command`, its function, and `EXAMPLES`."""

EPILOG = """\b
First steps:
  perago demo                           see it work, without any server
  perago init my_project                a small project to begin with
  perago check my_tasks.features        is everything in order?
  perago run my_tasks.features -w DIR   try one attempt, without any server
  perago dev my_tasks.features -w DIR   services and workers, while you write
  perago register my_tasks.features     tell Conductor about the task
  perago start my_tasks.features -j 2   run two workers
  perago doctor my_tasks.features       find out why nothing happens

\b
Pages of the documentation:
  perago help                           list them
  perago help tutorial                  write, test and run a first task
  perago help configuration             environment variables and .env
  perago help cli                       exit codes and JSON documents

Modules are given by import path; the current directory is importable."""


_HELP = {"help_option_names": ["-h", "--help"]}


class CommandTable(TyperGroup):
    """A group that lists its commands from `COMMANDS` and imports one when it is called."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = {
            name: TyperCommand(name, help=summary, rich_markup_mode=None) for name, summary in COMMANDS.items()
        }

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The real command instead of its line in the list."""
        name, listed, rest = super().resolve_command(ctx, args)
        return name, self._load(name) if name and listed else listed, rest

    def invoke(self, ctx: Any) -> Any:
        """Run the command; errors become messages and exit codes."""
        with error_boundary():
            return super().invoke(ctx)

    def _load(self, name: str) -> Any:
        module = importlib.import_module(f"perago.cli.commands.{name}")
        holder = typer.Typer(add_completion=False, rich_markup_mode=None)
        holder.command(name, epilog=module.EXAMPLES, context_settings=_HELP)(module.command)
        command = typer.main.get_command(holder)
        command.params += [param for param in self.params if param.name == "debug"]
        return command


def _show_version(wanted: bool) -> None:
    if wanted:
        from perago import __version__
        from perago.configuration import namesake

        typer.echo(f"perago {__version__}")
        if other := namesake():
            messages.warning(other)
        raise typer.Exit


app = typer.Typer(cls=CommandTable, rich_markup_mode=None, pretty_exceptions_enable=False, context_settings=_HELP)


@app.callback(epilog=EPILOG, no_args_is_help=True)
def options(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug", callback=messages.remember_debug, expose_value=False, help="Show tracebacks of errors."
        ),
    ] = False,
) -> None:
    """Typed Conductor workers on versioned lakeFS workspaces."""


def run() -> None:
    """Run the command line of this process and exit."""
    prepare_streams()
    with contextlib.suppress(OSError):  # a deleted directory; a command that needs it says so
        if sys.path[:1] != [os.getcwd()]:  # noqa: PTH109
            sys.path.insert(0, os.getcwd())  # noqa: PTH109
    app(prog_name="perago")


def prepare_streams() -> None:
    """Put the null device where a stream is closed, and let no character be too much for a stream's encoding.

    Its descriptors are inherited like the real ones: in a worker process without them, whatever is opened first would
    be taken for standard output.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # the lower ones are taken, so this is the number that the system gives
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - for good
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
