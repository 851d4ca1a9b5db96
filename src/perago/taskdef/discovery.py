"""From the names of modules and packages to files, without importing anything."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class FoundModule:
    """A module to make tests from.

    `file` is None for one that was not found. A `named` module must declare a task; one that was found below a named
    package may have none.
    """

    name: str
    file: Path | None
    named: bool


def find_modules(names: Iterable[str]) -> tuple[FoundModule, ...]:
    """The named modules and, for packages, all below them; sorted by name, each once."""
    found: dict[str, FoundModule] = {}
    for name in names:
        for module in _below(name):
            known = found.get(module.name)
            found[module.name] = module if known is None or module.named else known
    return tuple(found[name] for name in sorted(found))


def add_import_roots(candidates: Sequence[Path], names: Iterable[str]) -> list[str]:
    """Put the first directory that has the module at the end of `sys.path`, for names that nothing on it provides.

    Returns what was added, so that it can be taken away again.
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
    """Whether there is a module or package of that name. Nothing is imported."""
    return _place(name) is not None


def children_of(directories: Iterable[Path]) -> list[str]:
    """The modules in these directories, and their directories that hold modules: packages and namespaces."""
    found = set()
    for directory in directories:
        with contextlib.suppress(OSError):  # what cannot be read cannot be meant
            for entry in directory.iterdir():
                holds = entry.suffix == ".py" or any(entry.glob("*.py")) or any(entry.glob("*/*.py"))
                if entry.stem.isidentifier() and not entry.stem.startswith("__") and holds:
                    found.add(entry.stem)
    return sorted(found)


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
