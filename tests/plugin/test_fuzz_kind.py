"""Kind `fuzz`: green for the runtime as it is, red for every defect that is planted into it."""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace

import hypothesis
import pytest

from perago.authoring import workspace
from perago.authoring.workspace import canonical_path
from perago.testing.tasks import task_of
from perago.trees import Tree, build
from perago.trees.cases import CaseFailed
from perago.workspace import layout
from pytest_perago.kinds import fuzz
from pytest_perago.kinds.fuzz import check_phase
from pytest_perago.options import FuzzSettings

from .defects import DEFECTS, plant
from .projects import QUIET, fork, free_module, run, run_process

SPEC = (
    "prefix='data/x', pre=[require_dir('raw'), require_glob('raw/**/*.csv', min_count=1, max_count=3), "
    "require_file('README.md'), forbid_glob('raw/**/*.tmp')], "
    "post=[require_glob('features/**/*.parquet'), forbid_glob('**/*.tmp')]"
)
HOOKS_ANYWHERE = """
import hypothesis
from perago.workspace import layout
hypothesis.settings.register_profile("found", phases=[hypothesis.Phase.generate], database=None)
hypothesis.settings.load_profile("found")
layout.is_reserved = lambda key: "_lakefs_actions" in key
"""
CORNERS = 12
PRE, PREFIX = (f"work.py::free::fuzz[{label}]" for label in ("pre", "prefix"))
FUZZ = ("--perago-modules", "work", "--perago-kinds", "fuzz")


def write_work(pytester: pytest.Pytester) -> None:
    free_module(pytester, "work", "raise SystemExit('code of the author was executed')", [], SPEC)


def with_parents(path: str) -> str:
    """Leave parents in a path."""
    return str(path) if ".." in str(path).split("/") else canonical_path(path)


def reserved_anywhere(key: str) -> bool:
    return "_lakefs_actions" in key


@pytest.fixture
def no_database() -> Iterator[None]:
    """What an example has found is forgotten. Without the other phases hypothesis does not make it small."""
    profile = hypothesis.settings.get_current_profile_name()
    hypothesis.settings.register_profile("found", phases=[hypothesis.Phase.generate], database=None)
    hypothesis.settings.load_profile("found")
    yield
    hypothesis.settings.load_profile(profile)


@pytest.mark.usefixtures("no_database")
@pytest.mark.parametrize("defect", DEFECTS)
def test_a_planted_defect_fails_the_fuzz_test_for_every_seed(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, defect: str
) -> None:
    write_work(pytester)
    pytester.syspathinsert()
    task = task_of(importlib.import_module("work").work)
    plant(monkeypatch, defect)
    for seed in range(2):
        with pytest.raises(CaseFailed, match="a pre guardrail gives a different verdict than documented"):
            check_phase(task, FuzzSettings(25, str(seed), takes_seed=False), "pre")


def test_a_failure_shows_rule_verdicts_and_the_smallest_tree(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_work(pytester)
    plant(monkeypatch, "case is ignored")
    result = run(pytester, *FUZZ, PRE)
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    shown = text[text.index("broken contract") : text.index("rerun:")].splitlines()
    assert shown == [
        "broken contract: a pre guardrail gives a different verdict than documented",
        "  task      free (work.py:10)",
        "  rule      require_glob('raw/**/*.csv', min_count=1, max_count=3)",
        "  expected  violated, matched 0 files",
        "  actual    satisfied, matched 1 file",
        "  tree      {",
        "                'RAW/CASE.CSV': '',",
        "            }",
    ]
    assert not re.search(r"fuzz\.py|hypothesis/|Failing test case|Falsifying", text)


def test_an_example_of_hypothesis_is_found_again_by_its_seed(pytester: pytest.Pytester) -> None:
    """The option exists only where hypothesis's own plugin is."""
    write_work(pytester)
    pytester.makeconftest(HOOKS_ANYWHERE)
    without = [word for name in QUIET[1::2] if "hypothesis" not in name for word in ("-p", name)]
    result = fork(pytester, *without, *FUZZ, PREFIX)
    result.assert_outcomes(failed=1)
    rerun = shlex.split(next(line for line in result.outlines if line.startswith("rerun: ")))
    assert sum(word.startswith("--hypothesis-seed=") for word in rerun) == 1
    assert rerun[-1] == PREFIX
    again = fork(pytester, *without, *rerun[2:])
    again.assert_outcomes(failed=1)
    keys = [[line for line in lines if line.startswith("  keys")] for lines in (result.outlines, again.outlines)]
    assert keys[0] == keys[1] != []


@pytest.mark.usefixtures("no_database")
@pytest.mark.parametrize(
    ("label", "owner", "name", "wrong", "shown"),
    [
        (
            "paths",
            workspace,
            "unicodedata",
            SimpleNamespace(category=lambda _: "Ll"),
            "a declared path is not understood as documented",
        ),
        ("paths", workspace, "canonical_path", with_parents, "expected  rejected"),
        ("prefix", layout, "is_reserved", reserved_anywhere, "the prefix 'data/x' does not map keys to files one to"),
    ],
    ids=["control characters pass", "parents pass", "hooks anywhere are left out"],
)
def test_defects_of_declarations_and_prefixes_are_found(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    label: str,
    owner: ModuleType,
    name: str,
    wrong: object,
    shown: str,
) -> None:
    write_work(pytester)
    monkeypatch.setattr(owner, name, wrong)
    result = run(pytester, *FUZZ, "-k", label, "-o", "perago_fuzz_examples=200")  # 25 may miss it
    result.assert_outcomes(failed=1, deselected=3)
    assert shown in result.stdout.str()
    assert "--hypothesis-seed" not in result.stdout.str()  # its plugin is not there


@pytest.mark.usefixtures("no_database")
@pytest.mark.parametrize(("examples", "number"), [(25, 25), (40, 40), (7, CORNERS + 4)])
def test_the_ini_file_sets_the_number_of_examples_and_no_corner_is_lost(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, examples: int, number: int
) -> None:
    built: list[object] = []

    def counting(tree: Tree) -> object:
        built.append(tree)
        return build(tree)

    write_work(pytester)
    fuzz._disk()
    monkeypatch.setattr(fuzz, "build", counting)
    run(pytester, *FUZZ, PRE, "-o", f"perago_fuzz_examples={examples}").assert_outcomes(passed=1)
    assert len(built) == number


def test_without_hypothesis_the_skipped_tests_say_how_to_install_it(pytester: pytest.Pytester) -> None:
    write_work(pytester)
    pytester.makeconftest("import sys\nsys.modules['hypothesis'] = None")
    result = run_process(pytester, *FUZZ, "-rs")
    result.assert_outcomes(skipped=4)
    assert "hypothesis is not installed: pip install hypothesis" in result.stdout.str()
