"""Find the files of modules and packages, and load the task of a module.

If a module cannot be imported, the error is one line.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.util
import inspect
import keyword
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from perago.authoring import Task, TaskDefinitionError
from perago.authoring.declaration import Location
from perago.authoring.task import TASK_ATTRIBUTE, get_task
from perago.secret_names import is_withheld
from perago.taskdef.schema import input_schema, output_schema
from perago.text import listing


@dataclass(frozen=True, slots=True)
class FoundModule:
    """A module to generate tests from.

    `file` is None for a module that was not found. A `named` module must declare a task. A module below a named package
    need not.
    """

    name: str
    file: Path | None
    named: bool


def find_modules(names: Iterable[str]) -> tuple[FoundModule, ...]:
    """Return the named modules and, for packages, all modules below them, sorted by name, without duplicates."""
    modules: dict[str, FoundModule] = {}
    for name in names:
        for module in _below(name):
            known = modules.get(module.name)
            modules[module.name] = module if known is None or module.named else known
    return tuple(modules[name] for name in sorted(modules))


def add_import_roots(candidates: Sequence[Path], names: Iterable[str]) -> list[str]:
    """Append the first directory that has the module to `sys.path`, unless `sys.path` already provides the module.

    Return the added directory, so that it can be removed again.
    """
    added = []
    for top in dict.fromkeys(name.partition(".")[0] for name in names):
        if not top.isidentifier() or _top_level(top) is not None:
            continue
        for root in candidates:
            if (root / f"{top}.py").is_file() or (root / top).is_dir():
                sys.path.append(str(root))
                added.append(str(root))
                break
    return added


def exists(name: str) -> bool:
    """Whether a module or package of that name exists. Nothing is imported."""
    return _place(name) is not None


def children_of(directories: Iterable[Path]) -> list[str]:
    """Return the modules in these directories, and the subdirectories that contain modules: packages and namespaces."""
    names = set()
    for directory in directories:
        with contextlib.suppress(OSError):  # what cannot be read cannot be meant
            for entry in directory.iterdir():
                holds = entry.suffix == ".py" or any(entry.glob("*.py")) or any(entry.glob("*/*.py"))
                if entry.stem.isidentifier() and not entry.stem.startswith("__") and holds:
                    names.add(entry.stem)
    return sorted(names)


def _below(name: str) -> Iterator[FoundModule]:
    place = _place(name)
    if place is None:
        yield FoundModule(name, None, named=True)
        return
    file, directories = place
    if not directories:
        yield FoundModule(name, file, named=True)
        return
    submodules = list(_walk(name, directories))
    if file is not None:  # a package may declare a task itself, like any module
        yield FoundModule(name, file, named=not submodules)
    elif not submodules:
        yield FoundModule(name, None, named=True)
    yield from submodules


def _place(name: str) -> tuple[Path | None, list[Path]] | None:
    """The file of a module and, for a package, the directories of its modules."""
    top, *rest = name.split(".")
    place = _top_level(top) if top.isidentifier() else None
    for part in rest:
        if place is None:
            return None
        place = _child(place[1], part)
    return place


def _top_level(name: str) -> tuple[Path | None, list[Path]] | None:
    try:
        spec = importlib.util.find_spec(name)  # imports nothing: the name has no parent
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    file = Path(spec.origin) if spec.has_location and spec.origin else None
    directories = [Path(path) for path in spec.submodule_search_locations or ()]
    return (file, directories) if file or directories else None


def _child(directories: Iterable[Path], name: str) -> tuple[Path | None, list[Path]] | None:
    portions = []
    for directory in directories:
        package, module = directory / name / "__init__.py", directory / f"{name}.py"
        if package.is_file():
            return package, [package.parent]
        if module.is_file():
            return module, []
        if package.parent.is_dir():
            portions.append(package.parent)
    return (None, portions) if portions else None


def _walk(package: str, directories: Iterable[Path]) -> Iterator[FoundModule]:
    for directory in directories:
        for entry in sorted(directory.iterdir()):
            name = f"{package}.{entry.stem}"
            if entry.name in ("__init__.py", "__main__.py") or not entry.stem.isidentifier():
                continue
            if entry.suffix == ".py":
                yield FoundModule(name, entry, named=False)
            elif entry.is_dir() and entry.name.isidentifier() and entry.name != "__pycache__":
                initial = entry / "__init__.py"
                if initial.is_file():
                    yield FoundModule(name, initial, named=False)
                yield from _walk(name, [entry])


class NoTask(TaskDefinitionError):
    """The module is valid, but declares no task."""


def load_task(module: str) -> Task:
    """Import `module` and return the task it declares.

    The module's code runs in this process. Callers who cannot tolerate a hang or output must import it in another
    process. Every exception, including KeyboardInterrupt and SystemExit, is reported as a mistake of the module.

    Raises:
        TaskDefinitionError: it cannot be imported, declares no task or several, or the models of its task have no
            usable JSON Schema.
    """
    imported = import_module(module)
    task = _only_task(imported)
    input_schema(task)
    output_schema(task)
    return task


def _only_task(module: ModuleType) -> Task:
    name = module.__name__
    members = [value for value in vars(module).values() if isinstance(_carried_task(value), Task)]
    declared = {id(task): task for task in map(_carried_task, members) if task is not None and task.module == name}
    tasks = sorted(declared.values(), key=lambda task: task.line)
    if not tasks:
        imported = [task for task in map(_carried_task, members) if task is not None]
        elsewhere = ", ".join(sorted({f"{task.name} of {task.module}" for task in imported}))
        hint = f"; it only imports {elsewhere}, which does not count" if elsewhere else ""
        fix = "decorate one function of the module with @task(...), and put @task above all other decorators"
        if imported:
            fix += f"; or name the modules of these tasks: {' '.join(sorted({task.module for task in imported}))}"
        kind = "module"
        if hasattr(module, "__path__"):
            kind, fix = "package", _modules_of(name) or fix
        raise NoTask(f"{kind} {name} declares no task{hint}", file=getattr(module, "__file__", None), fix=fix)
    if len(tasks) > 1:
        listed = ", ".join(f"{task.name} (line {task.line})" for task in tasks)
        problem = f"module {name} declares {len(tasks)} tasks, but a module can declare only one: {listed}"
        raise Location(tasks[1].file, tasks[1].line).error(problem, "move each further task to its own module")
    task = tasks[0]
    if not any(get_task(value) is task for value in members):
        problem = f"task {task.name!r}: a decorator is above @task, so a worker would not run it"
        raise Location(task.file, task.line).error(problem, "move @task to the top, above all other decorators")
    return task


def _modules_of(package: str) -> str:
    """Return the advice to name one of the modules of a package. Modules that mention `@task` come first."""
    files = {module.name: module.file for module in find_modules([package]) if module.file and module.name != package}
    with_tasks = [name for name, file in files.items() if b"@task" in file.read_bytes()]
    return f"name one of its modules: {listing(with_tasks or [*files], 5)}" if files else ""


def _carried_task(value: object) -> Task | None:
    """Return the task of an object, which is the function or a wrapper that copied its attributes."""
    attribute = inspect.getattr_static(value, TASK_ATTRIBUTE, None)
    return attribute if isinstance(attribute, Task) else None


_LONGEST_REASON = 300
CONDUCTOR_WORKFLOW = "conductor.client.workflow.conductor_workflow"
"""The module of conductor-python with its workflows. A module that makes one has imported it, or `perago.workflows`."""


def import_module(name: str) -> ModuleType:
    """Import a module by its dotted path.

    Raises:
        TaskDefinitionError: the name is not a dotted path, there is no such module, or its code fails.
    """
    check_spelling(name)
    try:
        return importlib.import_module(name)
    except TaskDefinitionError:
        raise
    except BaseException as error:  # whatever a module does at import
        raise _failed_import(name, error) from error


def check_spelling(name: str) -> None:
    """Refuse a name that is not a dotted module path, and show the right spelling.

    Raises:
        TaskDefinitionError: the name is a file, `module:object`, relative, or not made of identifiers.
    """
    right = _respelled(name)
    if right == name and is_dotted_path(name):
        return
    if ":" in name and "\\" not in name and "/" not in name:
        problem = "names an object in a module, but a task is found by its module alone"
    elif right != name:
        problem = "is a file path, but a task is found by its module's import path"
    else:
        problem = "is not a module's import path"
    spelling = right if is_dotted_path(right) else "it like app.workers.features"
    raise TaskDefinitionError(f"{name!r} {problem}", fix=f"write {spelling}")


def is_dotted_path(name: str) -> bool:
    """Whether each part of the name is an identifier, and not a keyword."""
    return all(part.isidentifier() and not keyword.iskeyword(part) for part in name.split("."))


def _respelled(name: str) -> str:
    path = re.sub(r"^[A-Za-z]:(?=[\\/])", "", name).replace("\\", "/")
    path = path.partition(":")[0].removesuffix("/").removesuffix("/__init__.py").removesuffix(".py")
    parts = [part for part in path.split("/") if part not in ("", ".", "..")]
    if parts[0:1] == ["src"] and parts[1:]:  # the usual name of a directory that is no package, but holds them
        del parts[0]
    return ".".join(parts) if "/" in path else path


def _failed_import(name: str, error: BaseException) -> TaskDefinitionError:
    file, line = _author_line(name, error)
    if isinstance(error, ModuleNotFoundError) and error.name is not None:
        if file is None and (name == error.name or name.startswith(f"{error.name}.")):
            return _no_such_module(name, error.name)
        parent, _, child = error.name.rpartition(".")
        if parent in sys.modules:  # a module of the author's package, for example
            fix = f"correct the import, because {parent} has no module {child}"
        else:
            fix = f"install the package that provides {error.name}, or correct the import"
        problem = f"needs the module {error.name}, which cannot be found"
    else:
        problem, fix = f"cannot be imported: {_reason(error)}", _advice(error)
    return TaskDefinitionError(f"module {name} {problem}", file=file, line=line, fix=fix)


def _reason(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"it ends the process (SystemExit: {error.code})"
    if isinstance(error, KeyboardInterrupt):
        return "it was interrupted (KeyboardInterrupt)"
    try:
        text = error.msg if isinstance(error, SyntaxError) else str(error)
    except Exception:  # noqa: BLE001 - a broken __str__ must not hide where the error came from
        text = ""
    first = text.strip().partition("\n")[0]
    reason = f"{type(error).__name__}: {first}" if first else type(error).__name__
    return reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]}…"


def _advice(error: BaseException) -> str:
    if isinstance(error, ImportError) and error.name == "perago":
        return "correct the name; the package index has another project named perago, and this one is not it"
    if isinstance(error, SystemExit | KeyboardInterrupt):
        return "a task module only declares; put what a script does under `if __name__ == '__main__':`"
    if isinstance(error, SyntaxError):
        return "correct the syntax of this line"
    name = error.args[0] if isinstance(error, KeyError) and error.args else None
    if isinstance(name, str) and is_withheld(name):
        advice = f"read it in the function, and write @task(environment=[{name!r}])"
        return f"perago withholds {name} while modules are imported: {advice}"
    return "correct what this line does when the module is imported"


def _author_line(name: str, error: BaseException) -> tuple[str | None, int | None]:
    """Return the innermost line of the author's code in the traceback of the error."""
    if isinstance(error, SyntaxError) and error.filename and not _is_library(error.filename):
        return error.filename, error.lineno
    package = name.partition(".")[0]
    deepest: tuple[str | None, int | None] = (None, None)
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = frame.f_code.co_filename
        belongs = str(frame.f_globals.get("__name__", "")).partition(".")[0] == package
        if file != __file__ and ((belongs and package != "perago") or not _is_library(file)):
            deepest = (file, line)
    return deepest


def _is_library(file: str) -> bool:
    """Whether the file belongs to Python, an installed package or perago, including the pytest plugin."""
    if file.startswith("<"):
        return True
    paths = sysconfig.get_paths()
    roots = {Path(paths[key]) for key in ("stdlib", "platstdlib", "purelib", "platlib")}
    perago = Path(__file__).parents[1]
    return any(Path(file).is_relative_to(root) for root in (*roots, perago, perago.with_name("pytest_perago")))


def _directory_of(top: str) -> str:
    """Return the directory below the current one that has a top-level module, `src` first; empty if none has it."""
    places = sorted([*Path().glob(f"*/{top}.py"), *Path().glob(f"*/{top}/")])
    directories = [place.parts[0] for place in places if not place.parts[0].startswith(".")]
    return "src" if "src" in directories else next(iter(directories), "")


def _no_such_module(name: str, missing: str) -> TaskDefinitionError:
    parent, _, child = missing.rpartition(".")
    if parent and not hasattr(sys.modules.get(parent), "__path__"):
        problem = f"there is no module {name}: {parent} is a module, not a package"
        return TaskDefinitionError(problem, fix=f"write {parent}, or correct the path")
    places = getattr(sys.modules.get(parent), "__path__", ())
    if not parent:  # only what an author may have written, never a library
        places = (entry or "." for entry in sys.path if not _is_library(str(Path(entry).absolute())))
    siblings = children_of(map(Path, places))
    others = [sibling for sibling in siblings if sibling != child]  # a directory may look like that module
    rest = name.removeprefix(missing)
    near = difflib.get_close_matches(child, others, n=3, cutoff=0.6)
    corrected = [".".join(filter(None, (parent, sibling))) + rest for sibling in near]
    existing = next((candidate for candidate in corrected if exists(candidate)), None)
    where = f"in the package {parent}" if parent else "on the import path (the current directory and sys.path)"
    directory = "" if parent else _directory_of(child)
    if directory == "src":
        install = "; or install your project: pip install -e ." if Path("pyproject.toml").is_file() else ""
        fix = f"{child} is in src, so set PYTHONPATH=src for the command{install}"
    elif existing:
        fix = f"did you mean {existing}?"
    elif parent:
        fix = f"correct the path{f'; {parent} has the modules {listing(sorted(others), 5)}' if others else ''}"
    else:
        place = f"{directory}, which" if directory else "the directory that"
        fix = f"correct the path, or run the command in {place} contains {child}"
    return TaskDefinitionError(f"there is no module {name}: {child!r} was not found {where}", fix=fix)
