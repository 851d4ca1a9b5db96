"""`perago add`."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated

import typer

from perago.cli import messages
from perago.cli.commands.init import FILES, PACKAGE, write_snapshots
from perago.failure import Failure

EXAMPLES = """\b
Examples:
  perago add my_package.sales     my_package/sales.py, or in src if the package is there

Run it in the root directory of the project. perago writes the module, its test
in tests/ and a snapshot of its TaskDef, and names the module in the settings of
pytest. It does not overwrite any file."""

_NAME = re.compile(r"[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)*", re.IGNORECASE)
_SECTIONS = {
    "pytest.ini": "[pytest]",
    "pyproject.toml": "[tool.pytest.ini_options]",
    "tox.ini": "[pytest]",
    "setup.cfg": "[tool:pytest]",
}
"""By file, in the order in which pytest looks for its settings: the section that has them."""


def command(
    module: Annotated[str, typer.Argument(metavar="MODULE", help="The import path of the new module.")],
) -> None:
    """Write a task and its test into a project that exists."""
    if not _NAME.fullmatch(module):
        raise Failure(f"{module!r} is not the import path of a module", "write it like my_package.sales")
    top, *_, name = module.split(".")
    root = Path("src") if Path("src").is_dir() and not Path(top).is_dir() else Path()
    file = root.joinpath(*module.split(".")).with_suffix(".py")
    test = Path("tests", f"test_{name}.py")
    if existing := [str(each) for each in (file, test) if each.exists()]:
        raise Failure(
            f"already there: {', '.join(existing)}; nothing was written", "choose another name for the module"
        )
    _write_package(root, module)
    for target, source in ((file, "my_tasks/features.py"), (test, "tests/test_features.py")):
        text = FILES[source].replace(f"{PACKAGE}.features", module).replace("features.build", f"{name}.build")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text.replace("build_features", f"build_{name}"), encoding="utf-8")
    write_snapshots(module, root.resolve())
    messages.note(f"wrote {file}, {test} and its snapshot")
    _name_in_settings(module, root)
    messages.note(f"now try: pytest {test} {file}")
    place = "" if root == Path() else f"PYTHONPATH={root} "
    messages.note(f"and then: {place}perago run {module} --example minimal")


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
    name, section = next(
        ((name, section) for name, section in _SECTIONS.items() if _has(Path(name), section)),
        ("pyproject.toml", _SECTIONS["pyproject.toml"]),
    )
    file, is_toml = Path(name), name.endswith(".toml")
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    value = f'["{module}"]' if is_toml else module
    wanted = {"perago_modules": value, "pythonpath": f'["{root}"]' if is_toml else str(root)}
    body = text.partition(f"{section}\n")[2].partition("\n[")[0]
    missing = [f"{key} = {entry}" for key, entry in wanted.items() if not re.search(rf"(?m)^{key}\s*=", body)]
    changed = text
    if missing and section in text:
        changed = text.replace(f"{section}\n", "\n".join([section, *missing, ""]), 1)
    elif missing:
        changed = "\n".join([*([text.rstrip("\n"), ""] if text else []), section, *missing, ""])
    if changed != text and (not is_toml or _is_toml(changed)):
        file.write_text(changed, encoding="utf-8")
        messages.note(f"wrote {' and '.join(missing)} to {file}")
    if re.search(r"(?m)^perago_modules\s*=", body) and module not in body:
        messages.note(f"add {module} to perago_modules in {file}, unless its package is there")


def _has(file: Path, section: str) -> bool:
    return file.is_file() and section in file.read_text(encoding="utf-8").splitlines()


def _is_toml(text: str) -> bool:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    return True
