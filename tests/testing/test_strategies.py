"""Strategies build what they promise, and throw nothing away; the oracle has no code of the rules that it judges.

The patterns of the oracle are compared in `tests/workspace/test_keys_and_layout.py`.
"""

from __future__ import annotations

import ast
import datetime
from pathlib import Path
from typing import Annotated, Literal
from unittest import SkipTest

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from pydantic import BaseModel, Field, field_validator

from perago import WorkspaceSpec, forbid_glob, require_dir, require_file, require_glob, require_table, task
from perago.authoring.workspace import Guardrail, Rule
from perago.guardrails import GUARDRAILS
from perago.guardrails.require_table import RequireTable
from perago.testing import oracle
from perago.testing.near_trees import Likeness, lookalikes
from perago.testing.oracle import concerns, is_in_prefix, is_table, judge, judge_tree
from perago.testing.strategies import (
    NoParams,
    near_trees,
    params,
    satisfying_trees,
    trees,
    violating_trees,
)
from perago.trees import Symlink, Tree, build, sizes_of
from perago.workspace.keys import Folding

FEW = settings(
    max_examples=30, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)

SPEC = WorkspaceSpec(
    pre=[
        require_dir("raw"),
        require_file("README.md"),
        require_glob("raw/**/*.csv", min_count=2, max_count=3),
        forbid_glob("**/*.tmp"),
        require_table("tables/*.csv", columns={"id": int}, unique="id"),
    ],
    post=[require_glob("features/*.parquet")],
)


def violated(tree: Tree, rules: tuple[Guardrail, ...] = SPEC.pre) -> list[Guardrail]:
    return [rule for rule in rules if not judge_tree(rule, tree).satisfied]


@FEW
@given(satisfying_trees(SPEC))
def test_a_satisfying_tree_satisfies_every_rule(tree: Tree) -> None:
    assert violated(tree) == []


@FEW
@given(violating_trees(SPEC))
def test_a_violating_tree_breaks_one_rule_and_only_its_consequences(tree: Tree) -> None:
    broken = violated(tree)
    assert len(broken) == 1 or broken == [SPEC.pre[0], SPEC.pre[2]]  # no directory, no tables in it


@FEW
@given(trees(SPEC))
def test_every_tree_can_be_built_and_read_back(tree: Tree) -> None:
    with build(tree) as root:
        paths = {
            path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file() and not path.is_symlink()
        }
        links = [path for path in root.rglob("*") if path.is_symlink()]
    assert {path for path in paths if "linked/" not in path} >= sizes_of(tree).keys()
    assert len(links) == sum(isinstance(content, Symlink) for content in tree.values())


def test_near_trees_are_on_both_sides_and_at_the_limits_of_each_rule() -> None:
    verdicts: set[tuple[Guardrail, bool]] = set()
    counts: set[int] = set()
    kinds: set[str] = set()

    @settings(FEW, max_examples=150, phases=[Phase.generate])
    @given(near_trees(SPEC))
    def collect(tree: Tree) -> None:
        files = sizes_of(tree)
        verdicts.update((rule, judge_tree(rule, tree).satisfied) for rule in SPEC.pre)
        counts.add(judge(SPEC.pre[2], files).matched)
        kinds.update(type(content).__name__ for content in tree.values())
        kinds.update("hidden" for path in files if "/." in path)

    collect()
    assert verdicts == {(rule, verdict) for rule in SPEC.pre for verdict in (True, False)}
    assert counts >= {1, 2, 3, 4}
    assert kinds - {"bytes"} == {"str", "NoneType", "Symlink", "hidden"}


@FEW
@given(near_trees(SPEC, _folding=Folding(case=True, unicode_form=True)))
def test_no_two_names_meet_on_a_disk_that_folds_them(tree: Tree) -> None:
    folded = [Folding(case=True, unicode_form=True).fold(path) for path in tree]
    assert len(folded) == len(set(folded))


@pytest.mark.parametrize("likeness", Likeness)
def test_every_likeness_gives_something(likeness: Likeness) -> None:
    assert any(lookalikes(rule, likeness) for rule in SPEC.pre)


@pytest.mark.parametrize(
    "likeness", [Likeness.OTHER_CASE, Likeness.TWIN_OF_DIRECTORY, Likeness.GLUED, Likeness.ELSEWHERE]
)
def test_paths_that_only_look_like_the_rule_do_not_match(likeness: Likeness) -> None:
    rule = require_glob("raw/**/*.csv")
    assert not any(concerns(rule, path) for path, _ in lookalikes(rule, likeness))


class Kind(BaseModel):
    word: Literal["a", "b"]


class Many(BaseModel):
    number: Annotated[int, Field(gt=3, le=20, multiple_of=5)]
    ratio: Annotated[float, Field(ge=0, lt=1)]
    text: Annotated[str, Field(min_length=2, max_length=4)]
    code: Annotated[str, Field(pattern="^[A-Z]{3}$")]
    day: datetime.date
    kinds: list[Kind] = []
    pair: tuple[int, str]
    maybe: int | None = None
    by_name: dict[str, int] = {}


class Picky(BaseModel):
    value: int

    @field_validator("value")
    @classmethod
    def only_one(cls, value: int) -> int:
        if value != 123_456:
            raise ValueError("wrong")
        return value


class Result(BaseModel):
    pass


@task(name="many", owner_email="data@example.com", workspace=SPEC)
def many(workspace: Path, params: Many) -> Result:
    return Result()


@task(name="picky", owner_email="data@example.com")
def picky(params: Picky) -> Result:
    return Result()


def test_params_vary_within_the_bounds_of_the_model() -> None:
    values: list[Many] = []

    @settings(FEW, phases=[Phase.generate])
    @given(params(many))
    def collect(value: Many) -> None:
        values.append(value)

    collect()
    assert len({value.number for value in values}) > 2
    assert len({value.text for value in values}) > 5


def test_params_that_cannot_be_made_skip_the_test_and_name_the_hook() -> None:
    @FEW
    @given(params(picky))
    def use(value: Picky) -> None:
        raise AssertionError("there is no value")

    with pytest.raises(NoParams, match=r"pytest_perago_params.*provide_params\('picky', ...\).*Example"):
        use()
    assert issubclass(NoParams, SkipTest)  # pytest reports the test as skipped


@FEW
@given(params(picky, provided=[{"value": 123_456}]))
def test_provided_params_replace_params_that_cannot_be_generated(value: Picky) -> None:
    assert value.value == 123_456


def test_all_kinds_of_rules_are_covered_here() -> None:
    assert {type(rule).__module__ for rule in SPEC.pre} == {f"perago.guardrails.{name}" for name in GUARDRAILS}


# -------------------------------------------------------------------------------------- the oracle


@pytest.mark.parametrize(
    ("prefix", "key", "expected"),
    [
        ("", "a", True),
        ("", "_lakefs_actions/a", False),
        ("", "_lakefs_actionsx", True),
        ("data/x", "data/x/a", True),
        ("data/x", "data/x", False),
        ("data/x", "data/xy/a", False),
        ("data/x", "data/x/_lakefs_actions/a", True),
        ("data/x", "DATA/X/a", False),
    ],
)
def test_a_key_belongs_to_a_prefix_by_complete_names(prefix: str, key: str, expected: bool) -> None:
    assert is_in_prefix(prefix, key) is expected


@pytest.mark.parametrize(("zone", "expected"), [("Z", True), ("+05:30", True), ("-0530", True), ("Z05:30", False)])
def test_a_time_ends_with_one_zone(zone: str, expected: bool) -> None:
    rule = require_table("a.csv", columns={"at": datetime.datetime})
    assert isinstance(rule, RequireTable)
    assert is_table(rule.rule, f"at\n2024-02-29T23:59:59{zone}\n".encode()) is expected


STANDARD = {"__future__", "collections.abc", "dataclasses", "functools", "typing"}
SHARED = {"Guardrail", "ColumnType", "Format", "TableRule"}


def test_the_oracle_shares_no_code_with_production() -> None:
    tree = ast.parse(Path(oracle.__file__).read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    shared = {alias.name for node in imports if str(node.module).startswith("perago.") for alias in node.names}
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert {node.module for node in imports if not str(node.module).startswith("perago.")} == STANDARD
    kinds = {type(declare("a.csv")).__name__ for declare in GUARDRAILS.values()}
    assert shared == {*SHARED, *kinds, "Tree", "as_bytes", "sizes_of"}
    assert names == {"datetime", "decimal", "fnmatch", "io", "json", "pyarrow", "pyarrow.parquet"}
    called = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not called & {*vars(Guardrail), *vars(Rule)} - {"register"}
