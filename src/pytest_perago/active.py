"""The part of the plugin that works when modules are configured."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from perago.taskdef.discovery import FoundModule
from pytest_perago.collection import TaskFileCollector
from pytest_perago.options import configured_modules, named_in_ini, named_on_command_line
from pytest_perago.project import project_of


def activate(config: pytest.Config) -> None:
    """Find the modules, have their files collected, and register what collects them.

    Raises:
        pytest.UsageError: an option or an ini value is not valid.
    """
    plugin = ActivePlugin(config)
    config.pluginmanager.register(plugin, "perago-active")
    plugin.add_arguments(config)


class ActivePlugin:
    """Collects the configured modules."""

    def __init__(self, config: pytest.Config) -> None:
        self._modules: dict[Path, list[FoundModule]] = {}
        self._packages: dict[Path, str] = {}
        self._opened: set[Path] = set()
        self._named = configured_modules(config)
        for found in project_of(config).find(self._named):
            self._modules.setdefault(_anchor(found, config).resolve(), []).append(found)
            self._packages.update(_packages_of(found))

    def add_arguments(self, config: pytest.Config) -> None:
        """Let pytest collect the files beside what it was told to.

        A command line that names files or tests wants just those; with `--perago-modules` beside them the modules
        come too, unless the files are of these modules.
        """
        given = config.getoption("file_or_dir")
        if given and not named_on_command_line(config):
            return
        if any(path in self._modules for path in map(_resolver(config), given)):
            return
        told = list(map(_resolver(config), config.args))
        roots = [path for path in told if path.is_dir()]
        for path in sorted(self._modules, key=lambda path: (len(path.parts), path)):
            root = next((root for root in roots if path.is_relative_to(root)), None)
            if root in self._opened:
                self._opened.update(_between(path, root))
            elif root is not None:  # pytest before 9 collects nothing if it gets a directory and also a file below it
                self._opened.update(_passed_over(path, root, config))
            elif any(other.is_relative_to(path.parent) for other in told):
                config.args.append(str(path))
            else:  # pytest reads the directory around a file once for each file that it is told of
                config.args.append(str(path.parent))
                roots.append(path.parent)
                self._opened.update((path.parent, path))

    @pytest.hookimpl(wrapper=True)
    def pytest_collect_file(
        self, file_path: Path, parent: pytest.Collector
    ) -> Generator[None, list[pytest.Collector], list[pytest.Collector]]:
        """Collect a task module, in place of the test module that pytest sees in any file named on its command line."""
        found = yield
        modules = self._modules.get(file_path) or self._modules.get(file_path.resolve())
        if modules is None:
            return found
        patterns = parent.config.getini("python_files")
        if not any(fnmatch.fnmatch(file_path.name, pattern) for pattern in patterns):
            found = [collector for collector in found if not isinstance(collector, pytest.Module)]
        ours: Any = TaskFileCollector.from_parent(parent, path=file_path, modules=modules)
        return [*found, ours]

    @pytest.hookimpl(tryfirst=True)
    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        """Lead pytest to modules where it does not look, such as in `build/`, and to nothing else there."""
        if collection_path in self._opened:
            return False
        return True if collection_path.parent in self._opened else None

    @pytest.hookimpl(tryfirst=True)
    def pytest_collect_directory(self, path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        """Take a package that cannot be imported for a directory: pytest would import it before each test in it, and
        show that as an error of the test."""
        name = self._packages.get(path)
        if name is None or project_of(parent.config).can_import(name):
            return None
        directory: pytest.Collector = pytest.Dir.from_parent(parent, path=path)
        return directory

    def pytest_enter_pdb(self, config: pytest.Config) -> None:
        """No time limit strikes while a debugger is open, or after it in the same test."""
        project_of(config).settings.last_resort.debugger_opened()

    def pytest_report_header(self, config: pytest.Config) -> str:
        """What tests are made from."""
        settings = project_of(config).settings
        return f"perago: {', '.join(self._named)}; kinds {', '.join(settings.kinds)}; run={settings.run}"


def _anchor(found: FoundModule, config: pytest.Config) -> Path:
    """The file under which the tests of a module are collected: its own. One that does not exist is collected under
    the ini file that names it or, named on the command line, under the plugin."""
    if found.file is not None:
        return found.file
    if config.inipath is not None and found.name in named_in_ini(config):
        return config.inipath
    return Path(__file__).parent / "__init__.py"


def _packages_of(found: FoundModule) -> dict[Path, str]:
    """The directories of the packages around a module, and their names."""
    if found.file is None:
        return {}
    directory = found.file.parent
    name = found.name if found.file.name == "__init__.py" else found.name.rpartition(".")[0]
    packages = {}
    while name:
        packages[directory] = name
        directory, name = directory.parent, name.rpartition(".")[0]
    return packages


def _resolver(config: pytest.Config) -> Callable[[str], Path]:
    """The path of an argument, which may be a node id."""
    start = config.invocation_params.dir
    return lambda argument: (start / argument.partition("[")[0].partition("::")[0]).resolve()


def _between(path: Path, root: Path) -> list[Path]:
    """From `root` down to `path`, both included."""
    return [*reversed([parent for parent in path.parents if parent.is_relative_to(root)]), path]


def _passed_over(path: Path, root: Path, config: pytest.Config) -> list[Path]:
    """What lies between `root` and `path`, both included, from the first on that pytest would pass over."""
    between = _between(path, root)
    for index, step in enumerate(between[1:], start=1):
        if config.hook.pytest_ignore_collect(collection_path=step, config=config):
            return between[index:]
    return []
