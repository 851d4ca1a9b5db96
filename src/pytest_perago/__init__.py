"""The pytest plugin of perago: it generates tests of task modules (docs/testing/generated.md). PYTEST_DONT_REWRITE

Every start of pytest loads this module. So it imports neither perago nor pydantic nor the rest of the plugin until
`--perago-modules` or `perago_modules` names modules, or a test file calls `perago.testing.task_tests`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest

from pytest_perago import options

if TYPE_CHECKING:
    from perago.testing import (
        Conductor,
        EmbeddedServices,
        InMemoryLakeFS,
        Snapshots,
        TaskRunner,
        TreeBuilder,
        VirtualClock,
    )

__all__: list[str] = []
"""Empty, because pytest finds the fixtures, and their types are in `perago.testing`."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options and ini values."""
    options.add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """The hooks that a conftest may implement."""
    pluginmanager.add_hookspecs(options)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, and wake up if there is something to do."""
    options.add_markers(config)
    options.refuse_update_under_ci(config)
    if options.is_question(config):
        options.kinds_of(config)  # for `--markers`
        return
    if config.getoption("--perago-report") is not None:
        options.refuse_other_perago()
        try:
            from pytest_perago.report import ReportPlugin
        except ImportError as error:
            raise pytest.UsageError(f"--perago-report needs jinja2: pip install jinja2 ({error})") from None

        config.pluginmanager.register(ReportPlugin(config), "perago-report")
    if options.configured_modules(config):
        options.refuse_other_perago()
        if sys.platform == "win32":
            from perago import NOT_ON_WINDOWS

            raise pytest.UsageError(NOT_ON_WINDOWS)
        from pytest_perago.collection import ActivePlugin

        config.pluginmanager.register(ActivePlugin(config), "perago-active")
    cover = options.cover_options(config)
    if cover is not None:
        from pytest_perago.cover import CoverPlugin

        config.pluginmanager.register(CoverPlugin(cover), "perago-cover")


def pytest_pycollect_makeitem(
    collector: pytest.Module | pytest.Class, name: str, obj: object
) -> pytest.Collector | None:
    """Collect what `perago.testing.task_tests` returned."""
    selection = options.loaded("testing.tasks")
    if selection is None or not isinstance(obj, selection.TaskTests):
        return None
    from pytest_perago.collection import TaskTestsCollector

    tests: pytest.Collector = TaskTestsCollector.from_parent(collector, name=name, selection=obj)
    return tests


def pytest_report_teststatus(report: pytest.CollectReport | pytest.TestReport) -> tuple[str, str, str] | None:
    """Report an error of the harness as ERROR, not as a failed test."""
    if report.failed and options.HARNESS_ERROR in getattr(report, "user_properties", ()):
        return "error", "E", "ERROR"
    return None


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """Remember that this run is not complete."""
    if items:
        options.record_of(items[0].config).is_partial = True


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Keep the data of a worker of pytest-xdist."""
    record = options.record_of(node.config)
    record.outputs = [*(record.outputs or ()), None if error else getattr(node, "workeroutput", {})]


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Find snapshots of tasks that no longer exist, and untried functions and guardrails, if any task was tested."""
    config, record = session.config, options.record_of(session.config)
    was_sent = any(name.startswith("perago_") for output in record.outputs or () for name in output or ())
    # Most projects have no directory of snapshots of trees, and pay one look.
    has_trees = os.path.isdir(os.path.join(config.rootpath, config.getini("perago_tree_dir")))  # noqa: PTH112, PTH118
    if was_sent or record.generates_tests or has_trees or config.pluginmanager.has_plugin("perago-cover"):
        from pytest_perago.unused import finish

        finish(session)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Keep what the attempts of a test have tried."""
    outcomes = options.loaded("testing.outcome")
    with outcomes.logging_attempts() if outcomes is not None else nullcontext() as log:
        try:
            return (yield)
        finally:
            outcomes = options.loaded("testing.outcome")
            if outcomes is not None:
                tried = options.record_of(item.config).tried
                for operation in (
                    log or outcomes.attempt_log()
                ).tried:  # the test may have been the first that loads it
                    tried.setdefault(operation, set()).add(item.nodeid)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:  # noqa: ARG001 - the name that pytest wants
    """Forget the outcomes of the previous run if pytest-rerunfailures runs a test again."""
    if outcomes := options.loaded("testing.outcome"):
        outcomes.attempt_log().outcomes.clear()


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Show the differences between a published tree and the expected one, by file."""
    differences = options.loaded("trees.differences")
    if differences is None or op != "==":
        return None
    explained: list[str] | None = differences.explain(left, right)
    return explained


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the attempts of a failed test. Generated tests do that themselves."""
    report = yield
    outcomes = options.loaded("testing.outcome")
    if report.failed and call.when == "call" and outcomes is not None and item.get_closest_marker("perago") is None:
        report.sections += [(f"perago: {outcome.title}", str(outcome)) for outcome in outcomes.attempt_log().outcomes]
    return report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Report broken kinds, written snapshots, untried code, the inputs of `robust` tests, and each opt-out."""
    record = options.record_of(config)
    for problem in record.broken_kinds:
        terminalreporter.line(f"perago: {problem}", yellow=True)
    if record.unused or record.untried or config.getoption("--perago-update"):
        from pytest_perago.unused import summarize_snapshots, summarize_untried

        summarize_snapshots(terminalreporter, config, record.unused)
        summarize_untried(terminalreporter, record.untried)
    groups = ("passed", "failed", "error", "skipped")
    reports = [report for group in groups for report in terminalreporter.stats.get(group, ())]
    for title, property_name in (("perago opt-outs", options.OPT_OUT), ("perago robust", options.ROBUST)):
        lines = {
            f"{report.nodeid}: {value}"
            for report in reports
            for name, value in getattr(report, "user_properties", ())
            if name == property_name
        }
        if lines:
            terminalreporter.section(title)
            for line in sorted(lines):
                terminalreporter.line(line)
    passed = [str(getattr(report, "nodeid", "")) for report in terminalreporter.stats.get("passed", ())]
    cache = getattr(config, "cache", None)
    if config.option.verbose >= 0 and not options.chooses_kinds(config) and cache is not None:
        mentioned = set(cache.get(_MENTIONED_KEY, []))
        for kind, hint in _MENTIONED.items():
            if kind not in mentioned and any(f"::{kind}[" in nodeid for nodeid in passed):
                terminalreporter.line(f"perago: {hint}")
                cache.set(_MENTIONED_KEY, sorted(mentioned := mentioned | {kind}))


_MENTIONED = {
    "guardrail": (
        "the tests of perago itself prove that built-in guardrails judge names, trees and tables as documented; to "
        "repeat that search near your rules, run pytest with --perago-kinds fuzz"
    ),
    "run": (
        "to attack your task functions with inputs that their guardrails accept, run pytest with --perago-kinds robust"
    ),
}
"""By a kind that has passed: the kind that a normal run leaves out, and the reason. Said once per project."""
_MENTIONED_KEY = "perago/mentioned"
"""The kinds that were mentioned, in the cache of pytest."""


# --------------------------------------------------------------------------------------- fixtures
#
# docs/testing/fixtures.md has an example of each. They share one in-memory lakeFS and Conductor, new for each test that
# uses them. perago is imported by the first.


@pytest.fixture
def perago_run() -> Iterator[TaskRunner]:
    """Runs task functions as a worker does: `perago_run(build, Params(), tree={"raw/a.csv": "x"})` is an outcome."""
    options.refuse_other_perago()
    from perago.testing import TaskRunner

    with TaskRunner() as run:
        yield run


@pytest.fixture
def perago_conductor(perago_run: TaskRunner) -> Conductor:
    """The Conductor of `perago_run`: `.drain()`, `.advance(seconds)`, `.faults` and all operations of Conductor."""
    return perago_run.conductor


@pytest.fixture
def perago_lakefs(perago_run: TaskRunner) -> InMemoryLakeFS:
    """The lakeFS of `perago_run`: `.seed()`, `.tree()`, `.history()`, `.faults` and, as `.server`, all operations of
    lakeFS."""
    return perago_run.lakefs


@pytest.fixture
def perago_clock(perago_run: TaskRunner) -> VirtualClock:
    """The virtual time of both services. `perago_conductor.advance` also lets timeouts happen."""
    return perago_run.clock


@pytest.fixture
def perago_tree() -> Iterator[TreeBuilder]:
    """Builds trees on disk: `perago_tree(source, ...)` from mappings, directories, zips and task functions."""
    options.refuse_other_perago()
    from perago.testing import TreeBuilder

    with TreeBuilder() as build:
        yield build


@pytest.fixture(scope="session")
def perago_server() -> Iterator[EmbeddedServices]:
    """A Conductor and a lakeFS over HTTP on this machine, for the session. Use unique names in them."""
    options.refuse_other_perago()
    from perago.testing import serve

    with serve() as services:
        yield services


@pytest.fixture
def perago_snapshot(request: pytest.FixtureRequest) -> Snapshots:
    """`perago_snapshot(task)` compares the TaskDef of a task with its snapshot, `perago_snapshot.tree(outcome)` the
    publication of an attempt. Both write it under --perago-update."""
    options.refuse_other_perago()
    from pytest_perago.snapshots import SnapshotsOfTest

    return SnapshotsOfTest(request.node)
