"""Declare and read the options and ini values of the plugin, and build the command that runs one test again with them.

Loaded at every start of pytest, so it imports nothing of perago.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any

import pytest

from pytest_perago.kinds import KINDS, Kind, load_kinds

if TYPE_CHECKING:
    from perago.authoring import Example, Task

HARNESS_ERROR = ("perago_cause", "harness error")
"""The user property of a test that failed because of the harness."""

OPT_OUT = "perago_opt_out"
"""The name of the user property that holds the reason of an opt-out."""

SNAPSHOT = "perago_snapshot"
"""The name of the user property that says which snapshot a test wrote."""

ROBUST = "perago_robust"
"""The name of the user property that says how many inputs a `robust` test has tried."""

TREE_OWNER = "# perago: tree of "
"""The beginning of the snapshot of a tree; the test follows."""


@dataclass(slots=True)
class RunRecord:
    """The state of a run of pytest in one process. `record_of` returns it."""

    generates_tests: bool = False
    """Whether this process has collected generated tests."""
    is_partial: bool = False
    """Whether tests were deselected after the collection."""
    outputs: list[Mapping[str, Any] | None] | None = None
    """The data that each worker of pytest-xdist has sent to its controller; None for one that crashed."""
    tried: dict[tuple[str, ...], set[str]] = field(default_factory=dict)
    """The attempts of this process, with the node ids of their tests: see `AttemptLog.tried`."""
    unused: tuple[str, ...] = ()
    """Unused snapshots and case files, in the process that reports: a line each."""
    untried: tuple[str, ...] = ()
    """The functions and guardrails that no attempt tried, in the process that reports: a line each."""
    kinds: Mapping[str, Kind] | None = None
    """The kinds of tests; None: not yet loaded. `kinds_of` returns them."""
    broken_kinds: tuple[str, ...] = ()
    """The entry points of kinds that cannot be used: a line each."""


_RECORD = pytest.StashKey[RunRecord]()


def record_of(config: pytest.Config) -> RunRecord:
    """Return the record of the run."""
    return config.stash.setdefault(_RECORD, RunRecord())


def kinds_of(config: pytest.Config) -> Mapping[str, Kind]:
    """Return all kinds of tests by name. The first call loads those of installed packages, and registers their
    markers."""
    record = record_of(config)
    if record.kinds is None:
        record.kinds, record.broken_kinds = load_kinds()
        for name in record.kinds.keys() - KINDS.keys():
            _add_marker(config, name, record.kinds[name])
    return record.kinds


# ------------------------------------------------------------------------------------ declarations


@dataclass(frozen=True, slots=True)
class Option:
    """A value that users set: in the ini file, on the command line, or both. The command line wins.

    The flag of `perago_cases_dir` is `--perago-cases-dir`. The help may contain Markdown: it is also the text of the
    tables in docs/testing/reference.md.
    """

    name: str
    help: str
    default: str | list[str] | None = None
    """The default in the ini file; None: the ini file cannot set it."""
    flag: Mapping[str, Any] | None = None
    """The arguments of `addoption`; None: the command line cannot set it."""
    choices: tuple[str, ...] = ()

    @property
    def option(self) -> str:
        """The name on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def spelled(self) -> str:
        """The names for error messages."""
        names = (self.option if self.flag is not None else "", self.name if self.default is not None else "")
        return " / ".join(filter(None, names))


def _update(text: str) -> str:
    if text not in ("new", "all"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither new nor all; write --perago-update=all {text}")
    return text


_LIST: Mapping[str, Any] = {"action": "append", "default": []}

_ALL = (
    Option(
        "perago_modules",
        "task modules to test, separated by commas; a package selects all task modules below it; command line and "
        "ini file are combined",
        default=[],
        flag={**_LIST, "metavar": "MODULE[,MODULE]"},
    ),
    Option(
        "perago_kinds",
        f"kinds of tests to generate: {', '.join(KINDS)}, and those of installed packages; by default all that are "
        "not opt-in",
        default=[],
        flag={**_LIST, "metavar": "KIND[,KIND]"},
    ),
    Option(
        "perago_skip",
        "opt-outs, one per line: `<task>[::<kind>[<label>]]: <reason>`; listed after every run",
        default=[],
    ),
    Option(
        "perago_run",
        "cases to run: `off`, `marked` (declared cases), `all` (also cases of the hook and the registry)",
        default="marked",
        choices=("off", "marked", "all"),
    ),
    Option("perago_run_timeout", "seconds that a `run` test may take", default="60"),
    Option("perago_import_timeout", "seconds that the import of a task module may take", default="60"),
    Option(
        "perago_fuzz_examples",
        "examples per fuzz test; trees at the limits of the rules are always tried",
        default="25",
    ),
    Option("perago_robust_seconds", "seconds after which a `robust` test tries no further input", default="10"),
    Option(
        "perago_robust_level",
        "inputs of a `robust` test: `1` routine ones, `2` also possible ones, `3` also hostile ones",
        default="2",
        choices=("1", "2", "3"),
    ),
    Option(
        "perago_robust_seed", "seed of `robust[search]`; a different text tries different combinations", default="0"
    ),
    Option(
        "perago_robust_dir",
        "directory of accepted findings of `robust` tests, relative to the root directory",
        default="tests/perago_robust",
    ),
    Option(
        "perago_cases_dir",
        "directory of case files and recorded cases, relative to the root directory; if you set it, it must exist",
        default="tests/perago_cases",
    ),
    Option(
        "perago_snapshot_dir",
        "directory of snapshots of TaskDefs; in the ini file relative to the root directory",
        default="tests/__taskdefs__",
        flag={"metavar": "DIR"},
    ),
    Option(
        "perago_tree_dir",
        "directory of [snapshots of published trees](fixtures.md#perago_snapshot), relative to the root directory",
        default="tests/__trees__",
    ),
    Option(
        "perago_unused",
        "effect of unused snapshots and case files on a full run: `fail`, `warn`, `ignore`",
        default="fail",
        flag={"choices": ("fail", "warn", "ignore")},
        choices=("fail", "warn", "ignore"),
    ),
    Option(
        "perago_update",
        "write snapshots: `new` the missing ones, `all` (the default) all; also outcomes of "
        "[recorded cases](generated.md#recorded-cases); refused where `CI` is set",
        flag={"nargs": "?", "const": "all", "type": _update, "metavar": "new|all"},
    ),
    Option("perago_report", "write an HTML [report](#report) about the tasks of the run", flag={"metavar": "FILE"}),
    Option(
        "perago_cover", "print the [coverage](#coverage-of-guardrails) of guardrails", flag={"action": "store_true"}
    ),
    Option(
        "perago_cover_json",
        "write the coverage to this file, as JSON; implies `--perago-cover`",
        flag={"metavar": "FILE"},
    ),
    Option(
        "perago_cover_fail_under",
        "fail a run whose coverage of guardrails is below this percentage; implies `--perago-cover`",
        flag={"metavar": "PERCENT"},
    ),
)
OPTIONS: Mapping[str, Option] = {option.name: option for option in _ALL}
"""All options by name. A new option needs one line here, and a field of `Settings` if it is read there."""


def add_options(parser: pytest.Parser) -> None:
    """Add all options of the plugin."""
    group = parser.getgroup("perago", "tests generated from perago task modules")
    for option in OPTIONS.values():
        text = re.sub(r"\[(.*?)\]\(.*?\)", r"\1", option.help).replace("`", "")
        if option.flag is not None:
            ini = "" if option.default is None else f" (ini: {option.name})"
            group.addoption(option.option, help=text.replace("%", "%%") + ini, **option.flag)
        if option.default is not None:
            kind: Any = "linelist" if isinstance(option.default, list) else "string"
            parser.addini(option.name, text, type=kind, default=option.default)


def is_question(config: pytest.Config) -> bool:
    """Whether pytest only prints information about itself, such as for `--help`."""
    return any(config.getoption(name, None) for name in ("help", "version", "markers"))


def add_markers(config: pytest.Config) -> None:
    """Register the markers that generated tests carry, so that `--strict-markers` passes."""
    config.addinivalue_line("markers", "perago: generated from a perago task module")
    for name, kind in KINDS.items():
        _add_marker(config, name, kind)


def _add_marker(config: pytest.Config, name: str, kind: Kind) -> None:
    config.addinivalue_line("markers", f"perago_{name}: {kind.proves}")


# ------------------------------------------------------------------------------------------ values


@dataclass(frozen=True, slots=True)
class CoverOptions:
    """The file for the JSON of the coverage, and the percentage below which a run fails; None: no file, never."""

    json: Path | None
    fail_under: float | None


@dataclass(frozen=True, slots=True)
class FuzzSettings:
    """The settings of hypothesis in pytest's configuration. Everything else comes from the user's profile.

    `forced_seed` is the `--hypothesis-seed` of the user. `takes_seed` says that this option exists, because
    hypothesis's own plugin is loaded.
    """

    examples: int
    forced_seed: str | None
    takes_seed: bool


@dataclass(frozen=True, slots=True)
class Settings:
    """The values of command line and ini file. Times in seconds, paths absolute."""

    root: Path
    kinds: tuple[str, ...]
    run: str
    """The tasks that are executed: `off`; `marked`, those with an `Example` or a case file; `all`, also the examples of
    `pytest_perago_params` and `perago.testing.provide_params`."""
    run_timeout: float
    import_timeout: float
    fuzz: FuzzSettings
    robust_seconds: float
    robust_level: int
    robust_seed: str
    robust_dir: Path
    debugging: bool
    """Whether a debugger opens on failures (`--pdb`)."""
    cases_dir: Path
    snapshot_dir: Path
    tree_dir: Path
    update: str
    """The snapshots that are written instead of compared: `new`, `all`, or empty for none."""
    unused: str
    """The reaction of a full run to snapshots of tasks that no longer exist: `fail`, `warn`, `ignore`."""

    def snapshot_path(self, task: Task) -> Path:
        """Return the snapshot of a task."""
        return self.snapshot_dir / task.module / f"{task.name}.json"

    def shown(self, path: Path) -> str:
        """Return a path for people: from the root directory, with slashes."""
        return (path.relative_to(self.root) if path.is_relative_to(self.root) else path).as_posix()


def read_settings(config: pytest.Config) -> Settings:
    """Read the settings of command line and ini file.

    Raises:
        pytest.UsageError: a value is not valid.
    """
    examples = _value(config, "perago_fuzz_examples")
    if not examples.isdecimal() or not int(examples):
        raise pytest.UsageError(f"perago_fuzz_examples: {examples!r} is not a number above 0")
    seed = config.getoption("--hypothesis-seed", None)
    return Settings(
        root=config.rootpath,
        kinds=configured_kinds(config),
        run=_value(config, "perago_run"),
        run_timeout=_seconds(config, "perago_run_timeout"),
        import_timeout=_seconds(config, "perago_import_timeout"),
        fuzz=FuzzSettings(int(examples), seed, config.pluginmanager.has_plugin("hypothesispytest")),
        robust_seconds=_seconds(config, "perago_robust_seconds"),
        robust_level=int(_value(config, "perago_robust_level")),
        robust_seed=_value(config, "perago_robust_seed"),
        robust_dir=_directory(config, "perago_robust_dir", "give a directory, or leave it out"),
        debugging=bool(config.getoption("usepdb", False)),
        cases_dir=_cases_dir(config),
        snapshot_dir=_snapshot_dir(config, "perago_snapshot_dir"),
        tree_dir=_snapshot_dir(config, "perago_tree_dir"),
        update=_value(config, "perago_update"),
        unused=_value(config, "perago_unused"),
    )


def _value(config: pytest.Config, name: str) -> str:
    option = OPTIONS[name]
    argument = config.getoption(option.option) if option.flag is not None else None
    text = str(argument if argument is not None else config.getini(name) if option.default is not None else "")
    if option.choices and text not in option.choices:
        raise pytest.UsageError(f"{option.spelled}: {text!r} is not one of {', '.join(option.choices)}")
    return text


def _seconds(config: pytest.Config, name: str) -> float:
    text = _value(config, name)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e9:
        raise pytest.UsageError(f"{name}: {text!r} is not a number of seconds above 0")
    return seconds


def _directory(config: pytest.Config, name: str, advice: str) -> Path:
    """Return a path that may be written with backslashes, but not with a drive."""
    option, text = OPTIONS[name], _value(config, name)
    if not text.strip():
        raise pytest.UsageError(f"{option.spelled}: is empty; {advice}")
    if os.name != "nt" and PureWindowsPath(text).drive:
        raise pytest.UsageError(
            f"{option.spelled}: {text!r} is a path of Windows; write it relative to the root directory"
        )
    is_given = option.flag is not None and config.getoption(option.option) is not None
    start = config.invocation_params.dir if is_given else config.rootpath
    return start / text.strip().replace("\\", "/")


def _cases_dir(config: pytest.Config) -> Path:
    """Return the directory of case files. A configured directory must exist, because a missing one would silently mean
    no tests."""
    directory = _directory(config, "perago_cases_dir", "give a directory, or leave it out")
    is_default = config.getini("perago_cases_dir").strip() == OPTIONS["perago_cases_dir"].default
    if not is_default and not directory.is_dir():
        raise pytest.UsageError(f"perago_cases_dir: there is no directory {directory}")
    return directory


def _snapshot_dir(config: pytest.Config, name: str) -> Path:
    advice = "give a directory for snapshots alone"
    directory = Path(os.path.normpath(_directory(config, name, advice)))
    if config.rootpath.is_relative_to(directory):
        spelled, text = OPTIONS[name].spelled, _value(config, name)
        raise pytest.UsageError(f"{spelled}: {text!r} contains the whole project; {advice}")
    return directory


_OPT_OUT = re.compile(r"(?P<task>[A-Za-z0-9._-]+)(?:::(?P<test>\w+(?:\[.*?\])?))?:\s+(?P<reason>\S.*)")


@dataclass(frozen=True, slots=True)
class OptOut:
    """A line of `perago_skip`. `test` is a kind (`run`) or one test (`run[minimal]`) of the task, or several, with `*`
    for anything (`faults[*:time]`). None: all tests."""

    task: str
    test: str | None
    reason: str

    def covers(self, task: str, name: str) -> bool:
        """Whether the line includes the test `name` of that task."""
        if self.task != task or self.test is None:
            return self.task == task
        pattern = ".*".join(map(re.escape, self.test.split("*")))
        return self.test == name.partition("[")[0] or bool(re.fullmatch(pattern, name))


def parse_opt_outs(lines: Iterable[str]) -> tuple[OptOut, ...]:
    """Parse the opt-outs of an ini file.

    Raises:
        pytest.UsageError: a line names no task, or gives no reason.
    """
    opt_outs = []
    for line in filter(None, map(str.strip, lines)):
        match = _OPT_OUT.fullmatch(line)
        if match is None:
            raise pytest.UsageError(
                f"perago_skip: {line!r} is not `<task>: <reason>`, `<task>::<kind>: <reason>` or "
                "`<task>::<kind>[<label>]: <reason>`; the reason is needed, because it is shown after every run"
            )
        opt_outs.append(OptOut(match["task"], match["test"], match["reason"]))
    return tuple(opt_outs)


def cover_options(config: pytest.Config) -> CoverOptions | None:
    """Return the coverage options of the command line, or None if it has no such option.

    Raises:
        pytest.UsageError: the threshold is not a percentage, or the directory of the file does not exist.
    """
    file, threshold = config.getoption("--perago-cover-json"), config.getoption("--perago-cover-fail-under")
    if file is None and threshold is None and not config.getoption("--perago-cover"):
        return None
    json = None if file is None else config.invocation_params.dir / file
    if json is not None and (json.is_dir() or not json.parent.is_dir()):
        raise pytest.UsageError(f"--perago-cover-json: {file!r} is not a file in a directory that exists")
    try:
        percent = None if threshold is None else float(threshold)
    except ValueError:
        percent = -1.0
    if percent is not None and not 0 <= percent <= 100:
        raise pytest.UsageError(f"--perago-cover-fail-under: {threshold!r} is not a number from 0 to 100")
    return CoverOptions(json, percent)


def is_under_ci() -> bool:
    """Whether the environment says that the run is unattended."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def refuse_update_under_ci(config: pytest.Config) -> None:
    """Refuse to write snapshots without a person who reviews and commits them.

    Raises:
        pytest.UsageError: the environment says that no person is present.
    """
    if config.getoption("--perago-update") and is_under_ci():
        raise pytest.UsageError(
            "--perago-update writes snapshots, but CI is set, so they would go unseen: run it where you develop "
            "and commit the snapshots (or unset CI)"
        )


def refuse_other_perago() -> None:
    """Check that `import perago` imports the package next to this plugin.

    Raises:
        pytest.UsageError: it imports another one, such as the project of that name on the package index.
    """
    spec = importlib.util.find_spec("perago")
    place = os.path.dirname(spec.origin) if spec is not None and spec.origin else "nowhere"  # noqa: PTH120
    expected = os.path.join(os.path.dirname(os.path.dirname(__file__)), "perago")  # noqa: PTH118, PTH120
    if os.path.realpath(place) != os.path.realpath(expected):
        raise pytest.UsageError(
            f"`import perago` finds another project of that name, in {place}; this plugin belongs to {expected}. "
            "Remove the other one from this environment (pip uninstall perago) or from the import path, and install "
            "this one again (perago help install)."
        )


def loaded(module: str) -> Any:
    """Return a module of `perago` if it has been imported, otherwise None. So a session that does not use
    perago pays nothing."""
    return sys.modules.get(f"perago.{module}")


def send(config: pytest.Config, key: str, value: object) -> bool:
    """Send a value to the controller of pytest-xdist. Whether this process is one of its workers."""
    output: dict[str, object] | None = getattr(config, "workeroutput", None)
    if output is not None:
        output[f"perago_{key}"] = value
    return output is not None


def received(config: pytest.Config, key: str) -> list[Any] | None:
    """Return the data of each worker of pytest-xdist, None for a crashed one. Return None without workers."""
    outputs = record_of(config).outputs
    return None if outputs is None else [output and output.get(f"perago_{key}") for output in outputs]


def named_on_command_line(config: pytest.Config) -> tuple[str, ...]:
    """The modules of `--perago-modules`, as written."""
    return _listed(config.getoption("--perago-modules"))


def named_in_ini(config: pytest.Config) -> tuple[str, ...]:
    """The modules of `perago_modules`, as written."""
    return _listed(config.getini("perago_modules"))


def configured_modules(config: pytest.Config) -> tuple[str, ...]:
    """The modules of command line and ini file, as written."""
    return tuple(dict.fromkeys((*named_on_command_line(config), *named_in_ini(config))))


def chooses_kinds(config: pytest.Config) -> bool:
    """Whether the command line or the ini file says which kinds of tests to make."""
    return bool(_listed(config.getoption("--perago-kinds")) or _listed(config.getini("perago_kinds")))


def kinds_in_ini(config: pytest.Config) -> tuple[str, ...]:
    """The kinds of `perago_kinds`, as written. If it is not set, all kinds that are not opt-in."""
    kinds = kinds_of(config).items()
    return _listed(config.getini("perago_kinds")) or tuple(name for name, kind in kinds if not kind.opt_in)


def configured_kinds(config: pytest.Config) -> tuple[str, ...]:
    """Return the kinds to generate, in the order of the table.

    Raises:
        pytest.UsageError: there is no such kind.
    """
    selected, kinds = _listed(config.getoption("--perago-kinds")) or kinds_in_ini(config), kinds_of(config)
    unknown = [kind for kind in selected if kind not in kinds]
    if unknown:
        raise pytest.UsageError(
            f"--perago-kinds / perago_kinds: no kind {unknown[0]!r}; the kinds are {', '.join(kinds)}"
        )
    return tuple(kind for kind in kinds if kind in selected)


def _listed(values: list[str]) -> tuple[str, ...]:
    parts = (part for value in values for part in re.split(r"[,\s]+", value))
    return tuple(dict.fromkeys(filter(None, parts)))


def rerun_command(item: pytest.Item, options: Iterable[str] = (), *, all_of_task: bool = False) -> str:
    """Return `pytest` with the options that affect the collection, and the test relative to the start directory.

    Args:
        item: the test.
        options: further options.
        all_of_task: run all tests of its kind, because the test alone does not fail.
    """
    config = item.config
    path = str(item.path)
    if item.path.is_relative_to(config.rootpath):
        path = os.path.relpath(item.path, config.invocation_params.dir)
    node = item.parent if all_of_task and item.parent is not None else item
    names = node.nodeid.partition("::")[2]
    kind = item.name.partition("[")[0]
    known = kinds_of(config)
    is_selective = known[kind].for_own_guardrails if kind in known else False
    is_asked_for = kind in known and (
        kind not in kinds_in_ini(config) or (is_selective and not _listed(config.getini("perago_kinds")))
    )
    # Without the option the test would not be made.
    kinds = ("--perago-kinds", kind) if is_asked_for or all_of_task else ()
    arguments = ["pytest", *_context(config, getattr(item, "needed_module", "")), *kinds, *options, f"{path}::{names}"]
    return " ".join(_quoted(word) for word in arguments)


def _context(config: pytest.Config, needed: str) -> Iterator[str]:
    """Yield the options. `needed` is the module of the test; empty if it can need all modules."""
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
    if any(f"{needed}.".startswith(f"{name}.") for name in modules):
        modules = (needed,)
    elif needed and needed in named_in_ini(config):
        modules = ()
    if modules:
        yield from ("--perago-modules", ",".join(modules))
    directory = config.getoption("--perago-snapshot-dir")
    if directory is not None:
        yield f"--perago-snapshot-dir={directory}"


def _quoted(word: str) -> str:
    """Quote a node id. `shlex.quote` leaves brackets unquoted, which some shells interpret."""
    return "'" + word.replace("'", "'\"'\"'") + "'" if "::" in word else shlex.quote(word)


# ----------------------------------------------------------------- the hook that a conftest may implement


def pytest_perago_params(task: Task) -> Iterable[Mapping[str, Any] | Example] | None:
    """Return parameters for a task whose model does not accept generated ones, for example because of its validators.

    In the returned list, mappings are parameters as a workflow sends them. An `Example` also has a tree and an outcome,
    and is run if `perago_run` is `all`. None means no parameters for this task. The lists of all implementations are
    joined. Mark one with `@pytest.hookimpl(optionalhook=True)` if the suite is also run with `-p no:perago`.
    """
