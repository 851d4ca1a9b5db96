"""Every kind of guardrail has all its parts, which `docs/dev/adding-a-guardrail.md` lists."""

from __future__ import annotations

import dataclasses
import inspect
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import BaseModel

import perago
from perago import WorkspaceSpec, require_file, require_glob, require_table, task
from perago.authoring.workspace import Guardrail, Listing, Rule
from perago.guardrails import GUARDRAILS
from perago.guardrails.evaluation import Phase, evaluate
from perago.guardrails.require_glob import RequireGlob
from perago.testing.constraints import Undecided, recipe_of, too_large, violations_of
from perago.testing.near_trees import ANY_DISK, corner_trees
from perago.testing.oracle import Verdict, concerns, holds, judge_tree
from perago.testing.tasks import task_of
from perago.testing.trees import satisfying_trees, smallest_tree, violating_tree
from perago.trees import Tree, build, sizes_of
from perago.trees.cases import CaseFailed
from perago.workspace.scan import scan_tree
from pytest_perago.kinds.fuzz import check_phase
from pytest_perago.kinds.guardrail import cases_guardrail
from pytest_perago.options import FuzzSettings

DOCS = Path(__file__).parents[2] / "docs"

every_kind = pytest.mark.parametrize("declare", GUARDRAILS.values(), ids=GUARDRAILS)


def finding_of(rule: Guardrail, tree: Tree) -> Verdict:
    with build(tree) as root:
        scan = scan_tree(root)
        (finding,) = evaluate([rule], scan.listing, phase=Phase.PRE, disk=scan)
    return Verdict(finding.satisfied, finding.matched)


@every_kind
def test_a_rule_is_a_value_in_the_module_of_its_name(declare: Callable[..., Guardrail]) -> None:
    rule = declare("./raw//a.csv")
    assert dataclasses.is_dataclass(type(rule))
    assert type(rule).__module__.rpartition(".")[2] == declare.__name__
    assert rule == declare("raw/a.csv")
    assert len({rule, declare("raw/a.csv"), declare("raw/b.csv")}) == 2
    assert pickle.loads(pickle.dumps(rule)) == rule
    assert WorkspaceSpec(pre=[rule]).pre == (rule,)


@every_kind
def test_a_rule_is_written_as_it_is_declared(declare: Callable[..., Guardrail]) -> None:
    rule = declare("raw/a.csv")
    assert eval(str(rule), dict(GUARDRAILS)) == rule
    assert rule.label == f"{declare.__name__}(raw/a.csv)"


@every_kind
def test_trees_at_the_limits_of_a_rule_satisfy_it(declare: Callable[..., Guardrail]) -> None:
    rule = declare("raw/a.csv")
    trees = satisfying_trees(rule)
    assert trees
    for tree in trees:
        verdict = finding_of(rule, tree)
        assert verdict == judge_tree(rule, tree)
        assert verdict.satisfied


@every_kind
def test_each_violation_has_a_tree_and_a_complaint(declare: Callable[..., Guardrail]) -> None:
    rule = declare("raw/a.csv")
    assert isinstance(rule, Rule)
    assert violations_of(rule)
    for violation in violations_of(rule):
        tree = violating_tree(rule, [rule, require_file("README.md")], violation)
        verdict = finding_of(rule, tree)
        assert verdict == judge_tree(rule, tree)
        assert not verdict.satisfied
        near = [rule.hint(Listing({path: 1})) for path in ("raw/A.csv", "raw/A.csv/b")]
        assert verdict.matched or any(near)


@pytest.mark.parametrize(
    "rule",
    [
        require_file("raw/a.csv", min_bytes=3),
        require_glob("raw/*.csv", 2, 4, min_bytes=3),
        require_glob("raw/*.csv", 0, min_bytes=1),
        require_file("raw/a.csv", min_bytes=1024 * 1024),
        require_glob("raw/*.csv", 2, min_bytes=500_000),
    ],
    ids=str,
)
def test_a_rule_about_sizes_has_trees_of_its_own(rule: Guardrail) -> None:
    assert eval(str(rule), dict(GUARDRAILS)) == rule
    assert "too-small" in violations_of(rule)
    trees = [(tree, True) for tree in satisfying_trees(rule)]
    others = [rule, require_file("README.md"), require_file("raw/a.csv", min_bytes=2)]
    trees += [(violating_tree(rule, others[:2], violation), False) for violation in violations_of(rule)]
    trees.append((smallest_tree(others), True))
    for tree, is_satisfied in trees:
        verdict = finding_of(rule, tree)
        assert verdict == judge_tree(rule, tree)
        assert verdict.satisfied is is_satisfied


@pytest.mark.parametrize(
    "rule",
    [require_file("raw/a.csv", min_bytes=1024 * 1024 + 1), require_glob("raw/*.csv", 1, 9, min_bytes=200_000)],
    ids=str,
)
def test_no_tree_is_generated_for_a_rule_about_large_files(rule: Guardrail) -> None:
    assert violations_of(rule) == {}
    assert too_large(rule).startswith(f"{rule} wants files of ")


def test_no_tree_is_generated_for_rules_that_together_want_large_files() -> None:
    with pytest.raises(Undecided, match=r"its files would have 1\.7 MiB, and generated trees"):
        smallest_tree([require_file(f"{name}.csv", min_bytes=600_000) for name in "abc"])


@every_kind
@pytest.mark.parametrize("path", ["raw/a.csv", "raw", "[a]"])
def test_a_rule_and_the_oracle_agree_near_the_rule(declare: Callable[..., Guardrail], path: str) -> None:
    more = {"format": "csv"} if declare is require_table else {}
    rule, choice = declare(path, **more), random.Random(path)
    verdicts = set()
    for tree in corner_trees([rule], ANY_DISK):
        for other in (tree, {file: "x" * choice.randrange(2) for file in sizes_of(tree)}):
            verdict = finding_of(rule, other)
            assert verdict == judge_tree(rule, other)
            verdicts.add(verdict.satisfied)
    assert verdicts == {True, False}


@pytest.mark.parametrize("name", GUARDRAILS)
def test_a_registered_rule_has_all_parts(name: str) -> None:
    kind = type(GUARDRAILS[name]("raw/a.csv"))
    parts = {
        "its name in `__all__` of perago/__init__.py": name in perago.__all__,
        "the section `Raises:` of its docstring": "Raises:" in (inspect.getdoc(GUARDRAILS[name]) or ""),
        "a row in docs/authoring.md": f"`{name}(" in (DOCS / "authoring.md").read_text(encoding="utf-8"),
        "`concerns` in perago/testing/oracle.py": concerns.dispatch(kind) is not concerns.dispatch(object),
        "`holds` in perago/testing/oracle.py": holds.dispatch(kind) is not holds.dispatch(object),
        "`recipe_of` in perago/testing/constraints.py": recipe_of.dispatch(kind) is not recipe_of.dispatch(object),
    }
    missing = [part for part, is_there in parts.items() if not is_there]
    assert not missing, f"{name} lacks parts; docs/dev/adding-a-guardrail.md shows them"
    assert getattr(perago, name) is GUARDRAILS[name]


class Model(BaseModel):
    value: int = 1


@task(
    name="work",
    owner_email="a@example.com",
    workspace=WorkspaceSpec(pre=[require_glob("raw/*.csv", min_bytes=3), require_file("raw/a.csv")]),
)
def work(workspace: Path, params: Model) -> Model:
    raise AssertionError("the plugin called the function")


FUZZ = FuzzSettings(examples=20, forced_seed="0", takes_seed=False)


def test_the_plugin_tests_a_size_rule_like_any_other() -> None:
    cases = {case.label: case for case in cases_guardrail(task_of(work), cast("Any", None))}
    assert {label.rpartition(":")[2] for label in cases if "glob" in label} == {"satisfied", "missing", "too-small"}
    for case in cases.values():
        case.check(cast("Any", None))
    check_phase(task_of(work), FUZZ, "pre")


def test_fuzzing_finds_a_rule_about_sizes_that_never_complains(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate = RequireGlob.evaluate
    monkeypatch.setattr(
        RequireGlob, "evaluate", lambda rule, tree: evaluate(rule, Listing(dict.fromkeys(tree.sizes, 3)))
    )
    with pytest.raises(CaseFailed, match="a different verdict than documented"):
        check_phase(task_of(work), FUZZ, "pre")
