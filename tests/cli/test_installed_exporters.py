"""Exporters of installed packages: `perago start` finds them by their entry point, and no defect of theirs stops it."""

from __future__ import annotations

import json
import pkgutil
import signal
import typing
from importlib import import_module
from inspect import get_annotations, isfunction, unwrap
from pathlib import Path

import pytest

import perago.worker
from perago.worker.exporters import EXPORTERS

from ..children import install
from .conftest import PLAIN, Project
from .services import SECRET, Services
from .start_command import started

PACKAGE = '''
import contextlib
import json
import os
import threading
from collections.abc import Iterator

from perago.worker.exporters import Event, ExporterContext, Listener


@contextlib.contextmanager
def to_file(context: ExporterContext) -> Iterator[Listener]:
    """Write each line of the log to a file."""
    with open(os.environ["EXPORTED_LINES"], "w", buffering=1) as file:
        def listen(event: Event) -> None:
            if (line := context.log_line(event)) is not None:
                file.write(json.dumps(line) + "\\n")

        context.warn(f"writing lines of {context.worker_id} for {', '.join(context.task_names)}")
        yield listen
        file.write(json.dumps({"event": "closed"}) + "\\n")


@contextlib.contextmanager
def fails(context: ExporterContext) -> Iterator[Listener]:
    def listen(event: Event) -> None:
        raise ValueError("no luck with SECRET")

    yield listen


def hangs(context: ExporterContext) -> None:
    threading.Event().wait()


def exits(context: ExporterContext) -> None:
    raise SystemExit(7)
'''.replace("SECRET", SECRET)
ENTRY_POINTS = """
[perago.exporters]
to-file = exporting_package:to_file
fails = exporting_package:fails
exits = exporting_package:exits
missing = exporting_package:missing
not-there = no_such_package:exporter
"""


@pytest.fixture
def variables(project: Project, services: Services, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    project.task("plain", "plain.work", PLAIN)
    packages = tmp_path_factory.mktemp("packages")
    install(packages, "exporting", ENTRY_POINTS, exporting_package=PACKAGE)
    files = {"EXPORTED_LINES": project.directory / "lines.jsonl", "PERAGO_LOG_ROOT": project.directory / "logs"}
    return {**services.variables, "PYTHONPATH": str(packages), **{name: str(path) for name, path in files.items()}}


def test_an_exporter_of_an_installed_package_gets_the_lines_of_the_log(
    project: Project, variables: dict[str, str]
) -> None:
    with started(project, "plain", **variables) as worker:
        worker.wait_for("warning: writing lines of plain0000 for plain.work")
        worker.wait_for("ready: plain.work")
        assert worker.stop(signal.SIGTERM) == 0
    exported = [json.loads(line) for line in Path(variables["EXPORTED_LINES"]).read_text().splitlines()]
    (log,) = (Path(variables["PERAGO_LOG_ROOT"]) / "plain" / "worker_id=plain0000").iterdir()
    logged = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["event"] for line in exported] == [*(line["event"] for line in logged), "closed"]
    assert [line["message"] for line in exported[:-1]] == [line["message"] for line in logged]
    assert exported[0].keys() == logged[0].keys()


def test_broken_exporters_are_reported_and_do_not_stop_the_worker(project: Project, variables: dict[str, str]) -> None:
    with started(project, "plain", **variables) as worker:
        worker.wait_for("ready: plain.work")
        for problem in (
            "fails (exporting_package:fails) has failed, and gets no further events: ValueError: no luck with ***",
            "exits (exporting_package:exits) has failed, and gets no further events: SystemExit: 7",
            "missing (exporting_package:missing) has failed, and gets no further events: AttributeError: ",
            "not-there (no_such_package:exporter) has failed, and gets no further events: ModuleNotFoundError: ",
        ):
            worker.wait_for(f"warning: the exporter {problem}")
        assert worker.stop(signal.SIGTERM) == 0
    assert worker.text.count("has failed") == 4


def test_an_exporter_that_hangs_stops_neither_the_start_nor_the_end(
    project: Project, services: Services, tmp_path_factory: pytest.TempPathFactory
) -> None:
    project.task("plain", "plain.work", PLAIN)
    packages = tmp_path_factory.mktemp("packages")
    install(packages, "hanging", "[perago.exporters]\nh = hanging_package:hangs\n", hanging_package=PACKAGE)
    with started(project, "plain", **services.variables, PYTHONPATH=str(packages)) as worker:
        worker.wait_for("ready: plain.work")
        assert worker.stop(signal.SIGTERM) == 0
    assert "warning: the exporter h (hanging_package:hangs) did not end within 3 s" in worker.text


def test_every_exporter_of_the_worker_is_registered() -> None:
    modules = [import_module(f"perago.worker.{module.name}") for module in pkgutil.iter_modules(perago.worker.__path__)]
    functions = {
        function
        for module in modules
        for function in vars(module).values()
        if isfunction(function) and function.__module__ == module.__name__
    }
    exporters = {function for function in functions if is_exporter(function)}
    assert exporters == set(EXPORTERS)


def is_exporter(function: typing.Any) -> bool:
    """Whether a function has the form of an exporter: it yields a listener, and its one argument is the context."""
    annotations = get_annotations(unwrap(function))
    result = annotations.pop("return", "")
    return list(annotations.values()) == ["ExportContext"] and result in (
        "Iterator[Listener]",
        "Iterator[Listener | None]",
    )
