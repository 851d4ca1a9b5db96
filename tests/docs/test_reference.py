"""The reference page lists exactly what the plugin registers, and the toolkit what it exports."""

from __future__ import annotations

import ast
import inspect
import re
from types import ModuleType

import pytest
import typer.main

import perago
import perago.authoring
import perago.testing
import pytest_perago
from perago.cli.app import COMMANDS, command_of
from perago.guardrails import GUARDRAILS
from pytest_perago import kinds, options

from .blocks import ROOT

REFERENCE = (ROOT / "docs/testing/reference.md").read_text(encoding="utf-8")
CLI_PAGE = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
FIXTURES_PAGE = (ROOT / "docs/testing/fixtures.md").read_text(encoding="utf-8")


def rows(heading: str) -> dict[str, str]:
    """First cell and second cell of the table below a heading."""
    section = REFERENCE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| `([\w.-]+).*?` \| (.*?) \|", section, re.MULTILINE))


def test_all_markers_are_listed_and_no_others() -> None:
    assert set(rows("Markers")) == {"perago", *(f"perago_{kind}" for kind in kinds.KINDS)}


def test_every_kind_has_a_section() -> None:
    pages = "".join((ROOT / f"docs/testing/{page}.md").read_text("utf-8") for page in ("generated", "faults"))
    for kind in kinds.KINDS:
        assert re.search(rf"^#+ ({kind}|{kind.capitalize()} and fuzzing)$", pages, re.MULTILINE), kind


def test_all_fixtures_are_listed_with_their_scope_and_have_an_example(request: pytest.FixtureRequest) -> None:
    listed = rows("Fixtures")
    names = {name for name in vars(pytest_perago) if name.startswith("perago_")} | {"perago_snapshot"}
    assert set(listed) == names
    for name in names:
        assert listed[name] == ("session" if name == "perago_server" else "function")
        assert re.search(rf"^def test_\w+\(.*\b{name}\b.*\)", FIXTURES_PAGE, re.MULTILINE), name
        assert f"\n## {name}\n" in FIXTURES_PAGE


def test_all_hooks_are_listed_and_no_others() -> None:
    found = {name for name, value in vars(options).items() if inspect.isfunction(value) and name.startswith("pytest_")}
    assert set(rows("Hooks")) == found


@pytest.mark.parametrize(
    ("module", "name"), [(module, name) for module in (perago, perago.testing) for name in module.__all__]
)
def test_every_public_name_exists_and_is_documented(module: ModuleType, name: str) -> None:
    value = getattr(module, name)
    assert isinstance(value, str) or inspect.getdoc(value)


@pytest.mark.parametrize("module", [perago, perago.testing], ids=lambda module: module.__name__)
def test_all_that_a_public_module_offers_is_in_its_all(module: ModuleType) -> None:
    blocks = [node for node in ast.parse(inspect.getsource(module)).body if isinstance(node, ast.If)]
    offered = {alias.name for block in blocks for node in block.body for alias in getattr(node, "names", ())}
    rooms = {*perago.authoring.__all__, *GUARDRAILS, "guardrail", "__version__"} if "*" in offered else set()
    assert set(module.__all__) == (offered | rooms) - {"*", *getattr(module, "_DEPRECATED", ())}
    assert f"::: {module.__name__}\n" in (ROOT / "docs/api.md").read_text(encoding="utf-8")


def test_the_names_of_the_test_kit_are_a_list_that_the_site_can_read() -> None:
    """mkdocstrings does not run the module, so it would miss names that are computed."""
    tree = ast.parse(inspect.getsource(perago.testing))
    (value,) = [
        node.value for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    assert isinstance(value, ast.List)


def test_the_type_of_every_fixture_is_public() -> None:
    tree = ast.parse(inspect.getsource(pytest_perago))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("perago_")]
    types = {ast.unparse(node.returns) for node in functions if node.returns}
    assert {re.sub(r"Iterator\[(\w+)\]", r"\1", name) for name in types} <= set(perago.testing.__all__)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_a_section_with_its_help_and_no_unknown_option(name: str) -> None:
    section = CLI_PAGE.split(f"\n## {name}\n")[1].split("\n## ")[0]
    assert f"<!-- help: {name} -->" in section
    listed = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", section))
    assert listed <= {option for command in COMMANDS for option in options_of(command)} | {"--debug", "--help"}


def options_of(name: str) -> set[str]:
    holder = typer.Typer(add_completion=False)
    holder.command(name)(command_of(name)[0])
    command = typer.main.get_command(holder)
    return {option for parameter in command.params for option in parameter.opts if option.startswith("--")} - {"--help"}
