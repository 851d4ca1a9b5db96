"""Pages agree with the code: the reference, the safety argument, lines of a worker, the map, messages and pictures."""

from __future__ import annotations

import ast
import inspect
import re
import tomllib
from importlib import import_module
from types import ModuleType

import pytest
from benchmarks.plots import IMAGES, PICTURES, number, picture, shown

import perago
import perago.authoring
import perago.testing
import pytest_perago
from perago.cli.app import COMMANDS
from perago.guardrails import GUARDRAILS
from perago.worker import logs
from pytest_perago import kinds, options
from tests.simulation.mutations import GUARDS

from ..generated import assert_table
from .blocks import ROOT
from .test_blocks import options_of

REFERENCE = (ROOT / "docs/testing/reference.md").read_text(encoding="utf-8")
CLI_PAGE = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
FIXTURES_PAGE = (ROOT / "docs/testing/fixtures.md").read_text(encoding="utf-8")


def rows(heading: str) -> dict[str, str]:
    """First cell and second cell of the table below a heading."""
    section = REFERENCE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| `([\w.-]+).*?` \| (.*?) \|", section, re.MULTILINE))


def section_of(kind: str) -> str:
    """The address of the section about a kind of tests."""
    for page in ("generated", "faults"):
        text = (ROOT / f"docs/testing/{page}.md").read_text("utf-8")
        if re.search(rf"^##+ {kind}$", text, re.MULTILINE):
            return f"{page}.md#{kind}"
    assert kind == page, f"docs/testing/generated.md lacks a section {kind}"
    return f"{page}.md"


def test_every_kind_has_a_section_and_a_marker() -> None:
    markers = [(f"`perago_{kind}`", f"[{kind}]({section_of(kind)})") for kind in kinds.KINDS]
    assert_table(
        "testing/reference.md", "Markers", ("Marker", "Tests"), [("`perago`", "all generated tests"), *markers]
    )


def test_all_fixtures_are_listed_with_their_scope_and_have_an_example(request: pytest.FixtureRequest) -> None:
    listed = rows("Fixtures")
    names = {name for name in vars(pytest_perago) if name.startswith("perago_")} | {"perago_snapshot"}
    assert set(listed) == names
    for name in names:
        assert listed[name] == ("session" if name == "perago_server" else "function")
        assert re.search(rf"^def test_\w+\(.*\b{name}\b.*\)", FIXTURES_PAGE, re.MULTILINE), name
        assert f"\n## {name}\n" in FIXTURES_PAGE


def test_all_hooks_are_listed_and_no_others() -> None:
    hooks = {name for name, value in vars(options).items() if inspect.isfunction(value) and name.startswith("pytest_")}
    assert set(rows("Hooks")) == hooks


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
    assert set(module.__all__) == (offered | rooms) - {"*"}
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
    section = CLI_PAGE.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    is_there = f"<!-- help: {name} -->" in section
    assert is_there, f"docs/cli.md lacks a section {name} that begins like the others"
    listed = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", section))
    assert listed <= {option for command in COMMANDS for option in options_of(command)} | {"--debug", "--help"}


# ----------------------------------------------------------------------------------------------------
# The safety argument of docs/dev/protocol.md names places that are there, and every guard that the tests take away.


SAFETY = (ROOT / "docs/dev/protocol.md").read_text("utf-8").split("\n## Why nothing is lost")[1].split("\n## ")[0]
POINTS = re.split(r"^\d+\. ", re.sub(r"\s*\n {2,}(?!- )", " ", SAFETY), flags=re.MULTILINE)[1:]


def test_each_invariant_names_its_places() -> None:
    assert len(POINTS) == 9
    for point in POINTS:
        places = re.findall(r"`(\w+)\.(\w+)`", point.split("Enforced by")[1].split("Breaks without")[0])
        assert places, point
        for module, name in places:
            assert hasattr(import_module(f"perago.attempt.{module}"), name), f"{module}.{name}"


def test_each_guard_belongs_to_an_invariant_and_the_others_do_not_exist() -> None:
    named = {
        name for point in POINTS for name in re.findall(r'"([^"]+)"', point.split("Breaks without")[1].split("\n\n")[0])
    }
    families = tuple(name for name in named if name.endswith(":"))
    guards = set(GUARDS)
    assert named - set(families) - guards == set()
    assert {guard for guard in guards - named if not guard.startswith(families)} == set()


# ----------------------------------------------------------------------------------------------------
# The page for operators has each line that a worker prints, and the files and metrics that it names are there.


OPERATIONS = (ROOT / "docs/operations.md").read_text("utf-8")
SHORTEST = 6
"""Characters of a piece of a line that is looked for."""


def printed() -> list[str]:
    """The text between the values of the lines, for each place that makes one."""
    texts = []
    for node in ast.walk(ast.parse(inspect.getsource(logs))):
        if isinstance(node, ast.FunctionDef) and node.name in ("_event_text", "_ended"):
            ends = (returned.value for returned in ast.walk(node) if isinstance(returned, ast.Return))
            texts += ["\n".join(constants(value)) for value in ends if value is not None]
    return [text for text in texts if text]


def constants(value: ast.expr) -> list[str]:
    texts = (node.value for node in ast.walk(value) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return [text.strip(" :;,()") for text in texts if len(text.strip(" :;,()")) >= SHORTEST]


@pytest.mark.parametrize("pieces", printed())
def test_each_line_has_a_row(pieces: str) -> None:
    rows = [line.partition(" | ")[0] for line in OPERATIONS.splitlines() if line.startswith("| `")]
    assert any(piece.partition(" (")[0] in row for piece in pieces.split("\n") for row in rows), pieces


def test_the_lines_are_found() -> None:
    assert len(printed()) > 20


def test_the_files_are_there() -> None:
    table = OPERATIONS[OPERATIONS.index("| File |") : OPERATIONS.index("## Sizing")]
    names = re.findall(r"^\| `(.+?)` \|", table, re.MULTILINE)
    assert {name.rstrip("/") for name in names} == {
        path.name for path in (ROOT / "deploy").iterdir() if not path.name.endswith(".dockerignore")
    }


# -------------------- The map of the code in CONTRIBUTING.md names every room, in the order of imports


NO_LAYER = {"perago/samples", "pytest_perago"}
"""Rooms that no import rule orders."""


def test_the_map_names_every_room_in_the_order_of_imports() -> None:
    mapped = re.findall(
        r"^\| `([\w/]+)` \|", (ROOT / "CONTRIBUTING.md").read_text("utf-8").split("\n## Where things are")[1], re.M
    )
    rooms = {f"perago/{path.parent.name}" for path in (ROOT / "src/perago").glob("*/__init__.py")} | {"pytest_perago"}
    assert sorted(mapped) == sorted(rooms)

    layers = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"][0][
        "layers"
    ]
    level = {room.replace(".", "/"): -number for number, layer in enumerate(layers) for room in layer.split(" | ")}
    ordered = [level[room] for room in mapped if room not in NO_LAYER]
    assert ordered == sorted(ordered)


# -------------------------------------- The messages of the troubleshooting page are those of the code


TROUBLESHOOTING = ROOT / "docs/troubleshooting.md"
SOURCES = ("src/perago", "src/pytest_perago")


def messages() -> list[str]:
    """The first column of all tables."""
    return re.findall(r"^\| `(.+?)` \|", TROUBLESHOOTING.read_text("utf-8"), re.MULTILINE)


@pytest.fixture(scope="module")
def code_text() -> str:
    """All literals of the code as one text: lines joined, values left out."""
    code = "\n".join(path.read_text("utf-8") for where in SOURCES for path in sorted((ROOT / where).rglob("*.py")))
    return re.sub(r"\{[^{}]*\}", "", re.sub(r'"\s+f?"', "", code))


@pytest.mark.parametrize("row", messages())
def test_a_message_on_the_page_is_one_of_the_code(row: str, code_text: str) -> None:
    parts = [part.strip(" :;.,") for part in re.split(r"\.\.\.|: matched 0 files", row)]
    assert any(parts)
    missing = [part for part in parts if part and part not in code_text]
    assert not missing, f"{row}: no message says {missing}"


def test_each_table_has_rows() -> None:
    assert len(messages()) > 20


# ----------------------------------------------------------------------------------------------------
# The pictures of the documentation are shown, and small enough to be kept in the repository.


LARGEST = 150_000
"""Bytes of a picture."""


def test_each_picture_is_shown_by_a_page_and_is_small() -> None:
    pictures = {path.name: path.stat().st_size for path in (ROOT / "docs" / "images").iterdir()}
    pages = "".join(page.read_text("utf-8") for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
    assert set(pictures) == set(re.findall(r"\]\((?:\.\./)*images/([\w.-]+)\)", pages))
    assert {name: size for name, size in pictures.items() if size > LARGEST} == {}


def test_a_drawn_picture_loads_nothing() -> None:
    for drawing in (ROOT / "docs" / "images").glob("*.svg"):
        addresses = set(re.findall(r"https?://[^\s\"<)]+", drawing.read_text("utf-8")))
        assert addresses <= {"http://www.w3.org/2000/svg"}


# ------------------------------- The pictures of docs/dev/benchmarks.md are what the recorded runs say


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_the_output_of_the_script_for_the_records(name: str) -> None:
    drawing = (IMAGES / name).read_text(encoding="utf-8")
    assert drawing == picture(PICTURES[name]), "run: python -m benchmarks.plots"


def test_each_picture_is_on_the_page_of_the_benchmarks() -> None:
    page = (ROOT / "docs" / "dev" / "benchmarks.md").read_text(encoding="utf-8")
    assert [name for name in PICTURES if f"](../images/{name})" not in page] == []


def test_a_figure_is_read_from_its_cell_and_shown_short() -> None:
    assert number("1,026") == (1026.0, "")
    assert shown(0.0142, "s") == "14.2 ms"


# ------------------------------------------------------------------------ The hooks of pre-commit


def test_the_revision_of_the_hooks_is_that_of_a_checkout() -> None:
    page = (ROOT / "docs/how-to/test-a-task.md").read_text(encoding="utf-8")
    assert re.findall(r"^ +rev: ([0-9a-f]{40}) +# the output of: git -C \S+ rev-parse HEAD$", page, re.MULTILINE)
