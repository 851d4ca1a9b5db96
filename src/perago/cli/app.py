"""The `perago` command: the table of commands, and the options that all commands share.

A command's module is imported when the command runs, so that `perago --help` is fast.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from perago.cli import messages
from perago.cli.messages import error_boundary
from perago.hanging import HANGS

_LONGEST_SILENCE = 1.0
"""Seconds without an answer of a server after which a person at a terminal sees what a command waits for."""

GROUPS = {
    "First steps": {
        "demo": "Run the bundled sample workflow on real data.",
        "init": "Write a small project: two tasks, a workflow, tests and settings.",
        "add": "Write a task and its test into a project that exists.",
        "check": "Check task modules and the local configuration.",
        "run": "Run one attempt of a task here, without any server.",
        "help": "Print a page of the documentation.",
    },
    "Develop": {
        "dev": "Develop task modules on embedded services.",
        "workflow": "Show the steps of workflows, or write them as JSON.",
        "replay": "Run today's code on the input of a past attempt.",
        "capture": "Write a past attempt as a test case.",
        "backtest": "Run today's code on the last attempts, and compare.",
    },
    "Deploy and run": {
        "register": "Put TaskDefs and workflows on the Conductor server.",
        "extract": "Write the TaskDef of a task module as JSON.",
        "schedules": "List the schedules of workflows, or pause or resume one.",
        "diff": "Compare the TaskDefs of task modules with those on the server.",
        "config": "Show every setting with its value and its source.",
        "fence": "Guard the publications to a branch, or check whether they are guarded.",
        "start": "Run workers for a task module against the configured servers.",
        "send": "Start a workflow of one task on the configured servers.",
        "input": "Print the input of a task, ready to start a workflow with.",
    },
    "Look and repair": {
        "status": "Show waiting attempts, running attempts and workers.",
        "list": "List the workflows of the configured Conductor.",
        "show": "Show everything about one attempt or one commit.",
        "log": "Show the publications to a branch.",
        "console": "Show the configured servers in a browser.",
        "signal": "Answer a workflow that waits for a signal.",
        "terminate": "End a workflow.",
        "retry": "Run the failed steps of a workflow again.",
        "rerun": "Run a workflow again, in full or from a step on.",
        "undo": "Remove what a workflow has published and no longer counts.",
        "doctor": "Look for everything that keeps workers from working.",
        "gc": "Remove the leftovers of killed attempts, here and on lakeFS.",
        "cache": "Show, verify or clear the object cache of this machine.",
    },
}
"""Name and summary of each command. `perago.cli.commands.<name>` holds `command`, its function, and `EXAMPLES`."""

SHARED = {
    **dict.fromkeys(("init", "add"), "project"),
    **dict.fromkeys(("run", "demo"), "local_runs"),
    **dict.fromkeys(("check", "config", "doctor"), "checks"),
    **dict.fromkeys(("send", "input"), "sending"),
    **dict.fromkeys(("gc", "cache"), "cleanup"),
    **dict.fromkeys(("extract", "workflow", "diff", "register", "schedules"), "definitions"),
    **dict.fromkeys(("show", "log"), "history"),
    **dict.fromkeys(("dev", "console"), "dev"),
    **dict.fromkeys(("status", "list"), "overview"),
    **dict.fromkeys(("replay", "capture"), "past_attempts"),
    **dict.fromkeys(("signal", "terminate", "retry", "rerun", "undo"), "operations"),
}
"""The file of commands that share one. It has a function and an entry of `EXAMPLES` for each, by name."""

COMMANDS = {name: summary for group in GROUPS.values() for name, summary in group.items()}

EPILOG = """\b
The usual order:
  perago demo                           see it work, without any server
  perago init my_project                create a small project
  perago check my_tasks.features        check a module and the configuration
  perago run my_tasks.features -w DIR   run one attempt, without any server
  perago dev my_tasks.features -w DIR   services and workers while you write
  perago register my_tasks.features     register the task with Conductor
  perago start my_tasks.features -j 2   run two attempts at a time
  perago doctor my_tasks.features       find out why nothing happens

\b
Pages of the documentation:
  perago help                           list them
  perago help tutorial                  write, test and run a first task
  perago help configuration             environment variables and .env
  perago help cli                       exit codes and JSON documents

MODULE is an import path; the current directory is importable."""


_HELP = {"help_option_names": ["-h", "--help"]}


def file_of(name: str) -> str:
    """Return the module of a command."""
    return f"perago.cli.commands.{SHARED.get(name, name)}"


def command_of(name: str) -> tuple[Callable[..., None], str]:
    """Return the function of a command, and the examples for the end of its help."""
    module = importlib.import_module(file_of(name))
    return (getattr(module, name), module.EXAMPLES[name]) if name in SHARED else (module.command, module.EXAMPLES)


class CommandTable(TyperGroup):
    """A group that lists its commands from `COMMANDS` and imports one when it is called."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands: MutableMapping[str, Any] = {
            name: TyperCommand(name, help=summary, rich_markup_mode=None) for name, summary in COMMANDS.items()
        }

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """List the commands by group."""
        for title, group in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([*group.items()])

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the command itself instead of its line in the list."""
        name, listed, rest = super().resolve_command(ctx, args)
        return name, self._load(name) if name and listed else listed, rest

    def invoke(self, ctx: Any) -> Any:
        """Run the command. Errors become messages and exit codes."""
        HANGS.report_to(lambda line, _: messages.note(line))
        if sys.stderr.isatty():
            HANGS.soonest = _LONGEST_SILENCE
        with error_boundary():
            return super().invoke(ctx)

    def _load(self, name: str) -> Any:
        function, examples = command_of(name)
        holder = typer.Typer(add_completion=False, rich_markup_mode=None)
        holder.command(name, epilog=examples, context_settings=_HELP)(function)
        command: Any = typer.main.get_command(holder)
        for param in command.params:
            if param.param_type_name == "argument":  # typer would add a type, and list hidden ones in the usage line
                param.display_type_rich = lambda ctx: ""  # noqa: ARG005 - called by name
                if param.hidden:
                    param.get_usage_pieces = lambda ctx: []  # noqa: ARG005 - called by name
        command.params += [param for param in self.params if param.name == "debug"]
        return command


def _show_version(is_requested: bool) -> None:
    if is_requested:
        from perago import __version__
        from perago.configuration import namesake

        typer.echo(f"perago {__version__}")
        if other := namesake():
            messages.warning(other)
        raise typer.Exit


app: typer.Typer = typer.Typer(
    cls=CommandTable, rich_markup_mode=None, pretty_exceptions_enable=False, context_settings=_HELP
)


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
    with contextlib.suppress(OSError):  # the directory was deleted; a command that needs it reports that
        if sys.path[:1] != [os.getcwd()]:  # noqa: PTH109
            sys.path.insert(0, os.getcwd())  # noqa: PTH109
        if roots := [root for root in source_roots(Path.cwd()) if root not in sys.path]:
            sys.path[1:1] = roots
            former = os.environ.get("PYTHONPATH")
            os.environ["PYTHONPATH"] = os.pathsep.join([*roots, *([former] if former else [])])  # for child processes
    app(prog_name="perago")


def source_roots(project: Path) -> list[str]:
    """Return the directories that have the packages of a project: `pythonpath` of pytest, and where its build backend
    looks for them."""
    declared: list[str] = []
    settings = _toml(project / "pyproject.toml")
    tool = settings.get("tool", {})
    with contextlib.suppress(AttributeError, TypeError):  # settings of another form
        native = [_toml(project / name).get("pytest", {}) for name in ("pytest.toml", ".pytest.toml")]
        for of_pytest in (*native, tool.get("pytest", {}), tool.get("pytest", {}).get("ini_options", {})):
            paths = of_pytest.get("pythonpath", [])
            declared += paths.split() if isinstance(paths, str) else paths
        setuptools = tool.get("setuptools", {})
        declared += setuptools.get("package-dir", {}).values()
        declared += setuptools.get("packages", {}).get("find", {}).get("where", [])
        declared += [package["from"] for package in tool.get("poetry", {}).get("packages", []) if "from" in package]
    for name in ("pytest.ini", ".pytest.ini", "tox.ini", "setup.cfg"):
        if (project / name).is_file():
            declared += _ini(project / name, "tool:pytest" if name == "setup.cfg" else "pytest", "pythonpath").split()
    is_package = not {"project", "build-system"}.isdisjoint(settings)
    if is_package or (project / "setup.py").is_file() or (project / "setup.cfg").is_file():
        declared.append("src")  # where all build backends look
    roots = [(project / directory).resolve() for directory in declared]
    return [str(path) for path in dict.fromkeys(roots) if path.is_dir() and path != project.resolve()]


def _toml(file: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # other tools report what is wrong
        return {}


def _ini(file: Path, section: str, key: str) -> str:
    import configparser

    parser = configparser.ConfigParser(interpolation=None)
    with contextlib.suppress(configparser.Error, UnicodeDecodeError):
        parser.read(file, encoding="utf-8")
    return parser.get(section, key, fallback="")


def prepare_streams() -> None:
    """Open the null device for closed standard streams, and escape characters that an encoding lacks.

    Child processes inherit the descriptors. Without them, the first file that a worker opens would become its standard
    output.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # lower numbers are in use, so the system gives this one
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - for good
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
