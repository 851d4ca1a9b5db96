"""`perago init` and `perago add`: write a project, or a task into one."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated

from perago.cli import messages
from perago.cli.parameters import argument
from perago.failure import Failure

EXAMPLES = {
    "init": """\b
Examples:
  perago init my_project
  perago init                     in the current directory

The project has two tasks with examples, a workflow of both, tests, and settings
for pytest and mypy. perago does not overwrite any file.""",
    "add": """\b
Examples:
  perago add my_package.sales     my_package/sales.py, or in src if the package is there

Run it in the root directory of the project. perago writes the module, its test
in tests/ and a snapshot of its TaskDef, and names the module in the settings of
pytest. It does not overwrite any file.""",
}

PACKAGE = "my_tasks"
FILES = (
    "my_tasks/__init__.py",
    "my_tasks/features.py",
    "my_tasks/report.py",
    "my_tasks/nightly.py",
    "tests/test_nightly.py",
    "tests/test_features.py",
    "pyproject.toml",
    ".env.example",
    ".gitignore",
)
"""The files of a new project. `perago/cli/project` has the text of each, with the suffix .tpl."""
_INI_OPTIONS = ("pyproject.toml", "[tool.pytest.ini_options]")
_SECTIONS = (
    ("pytest.toml", "[pytest]"),
    (".pytest.toml", "[pytest]"),
    ("pytest.ini", "[pytest]"),
    (".pytest.ini", "[pytest]"),
    ("pyproject.toml", "[tool.pytest]"),
    _INI_OPTIONS,
    ("tox.ini", "[pytest]"),
    ("setup.cfg", "[tool:pytest]"),
)
"""Files and their sections, in the order in which pytest looks for its settings."""
_ADDOPTS = "-p no:conductor-agents-testing"
"""Switches off the pytest plugin of conductor-python, which takes longer to import than pytest."""


def init(directory: Annotated[Path, argument("DIR", "The directory to write to.")] = Path()) -> None:
    """Write a small project: two tasks, a workflow of both, tests and settings."""
    if existing := [name for name in FILES if (directory / name).exists()]:
        fix = "choose a new directory, or add a task to this project: perago add MODULE"
        raise Failure(f"{directory} already has {', '.join(existing)}; nothing was written", fix)
    for name in FILES:
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(_text_of(name), encoding="utf-8")
    os.chdir(directory)
    write_snapshots(PACKAGE, Path.cwd())
    place = "" if directory.resolve() == Path.cwd() else f"cd {shlex.quote(str(directory))} && "
    messages.note(f"wrote two tasks, a workflow, tests and settings to {directory}; now try: {place}pytest")
    messages.note(f"and then: perago run {PACKAGE}.features --example minimal")


def _text_of(name: str) -> str:
    """Return the text of a file of a new project."""
    return (resources.files("perago.cli") / "project" / f"{name}.tpl").read_text(encoding="utf-8")


def write_snapshots(modules: str, root: Path) -> None:
    """Write the definitions that `pytest` compares with, below the current directory. A child process imports the
    module or the modules of the package from `root`."""
    from perago.cli.loading import load_modules
    from perago.cli.parameters import IMPORT_LIMIT

    sys.path.insert(0, str(root))
    for probed in load_modules([modules], IMPORT_LIMIT, packages=True, workflows=True):
        definitions = {f"{flow.name}.workflow.json": flow.definition for flow in probed.workflows}
        if probed.task is not None:
            definitions[f"{probed.task.name}.json"] = probed.task.definition
        for name, text in definitions.items():
            snapshot = Path("tests", "__taskdefs__", probed.module, name)
            snapshot.parent.mkdir(parents=True, exist_ok=True)
            snapshot.write_text(text, encoding="utf-8")


def add(module: Annotated[str, argument("MODULE", "The import path of the new module.")]) -> None:
    """Write a task and its test into a project that exists."""
    from perago.taskdef.loading import is_dotted_path

    if not module.isascii() or not is_dotted_path(module):
        raise Failure(f"{module!r} is not the import path of a module", "write it like my_package.sales")
    top, *_, name = module.split(".")
    root = Path("src") if Path("src").is_dir() and not Path(top).is_dir() else Path()
    file = root.joinpath(*module.split(".")).with_suffix(".py")
    test = Path("tests", f"test_{name}.py")
    if existing := [str(path) for path in (file, test) if path.exists()]:
        problem = f"already there: {', '.join(existing)}; nothing was written"
        raise Failure(problem, "choose another name for the module")
    _write_package(root, module)
    for target, source in ((file, "my_tasks/features.py"), (test, "tests/test_features.py")):
        text = _text_of(source).replace(f"{PACKAGE}.features", module).replace("features.build", f"{name}.build")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text.replace("build_features", f"build_{name}"), encoding="utf-8")
    write_snapshots(module, root.resolve())
    messages.note(f"wrote {file}, {test} and its snapshot")
    _name_in_settings(module, root)
    messages.note(f"now try: pytest {test} {file}")
    messages.note(f"and then: perago run {module} --example minimal")


def _write_package(root: Path, module: str) -> None:
    """Make the directories of the packages above the module; a new one gets an `__init__.py`."""
    directory = root
    for part in module.split(".")[:-1]:
        directory /= part
        if not directory.is_dir():
            directory.mkdir(parents=True)
            (directory / "__init__.py").touch()


def _name_in_settings(module: str, root: Path) -> None:
    """Add the module to the settings of pytest, or say which line to add if they have an unusual form."""
    files = [(name, section) for name, section in _SECTIONS if Path(name).is_file()]
    settings = (pair for pair in files if pair[1] in Path(pair[0]).read_text(encoding="utf-8").splitlines())
    name, section = next(settings, _INI_OPTIONS)
    file, is_toml = Path(name), name.endswith(".toml")
    addopts = f'"{_ADDOPTS}"' if section == _INI_OPTIONS[1] else json.dumps(_ADDOPTS.split())
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    value = f'["{module}"]' if is_toml else module
    entries = {
        "perago_modules": value,
        "pythonpath": f'["{root}"]' if is_toml else str(root),
        "addopts": addopts if is_toml else _ADDOPTS,
    }
    body = text.partition(f"{section}\n")[2].partition("\n[")[0]
    missing = [f"{key} = {entry}" for key, entry in entries.items() if not re.search(rf"(?m)^{key}\s*=", body)]
    changed = text
    if missing and section in text:
        changed = text.replace(f"{section}\n", "\n".join([section, *missing, ""]), 1)
    elif missing:
        changed = "\n".join([*([text.rstrip("\n"), ""] if text else []), section, *missing, ""])
    if changed != text and (not is_toml or _is_toml(changed)):
        file.write_text(changed, encoding="utf-8")
        messages.note(f"wrote {' and '.join(missing)} to {file}")
    listed = re.search(r"(?ms)^perago_modules\s*=(.*?)(?=^\w+\s*=|\Z)", body)
    packages = {module[: end.start()] for end in re.finditer(r"\.|$", module)}
    if listed and packages.isdisjoint(re.findall(r"[\w.]+", listed[1])):
        messages.note(f"add {module} to perago_modules in {file}")
    if re.search(r"(?m)^addopts\s*=", body) and "conductor-agents-testing" not in body:
        messages.note(f"add {_ADDOPTS} to addopts in {file}, because that plugin slows down each run of pytest")


def _is_toml(text: str) -> bool:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    return True
