"""Kind `guardrail`: rules on constructed trees, judged as in an attempt, without running one."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from perago import WorkspaceSpec, forbid_glob, guardrail, require_file, require_glob, require_table, task
from perago.authoring.task import get_task
from perago.testing.services import InMemoryServices
from perago.trees import write_tree
from pytest_perago.kinds.guardrail import _ending, _violations

from .defects import plant
from .projects import collected, free_module, run, write_module

TASK = """
from pathlib import Path
from pydantic import BaseModel, field_validator
from perago import PublishBudget, TaskControls, WorkspaceSpec, task
from perago import forbid_glob, require_dir, require_file, require_glob, require_table

class Params(BaseModel):
    value: int

    @field_validator("value")
    @classmethod
    def never(cls, value: int) -> int:
        Path("executed").touch()
        raise ValueError("nothing will do")

class Result(BaseModel):
    pass

@task(name="build", owner_email="data@example.com", workspace=WorkspaceSpec({spec}){more})
def build(workspace: Path, params: Params) -> Result:
    Path("executed").touch()
"""
KIND = ("--perago-modules", "work", "--perago-kinds", "guardrail")


def task_module(pytester: pytest.Pytester, spec: str) -> None:
    write_module(pytester, "work", TASK.replace("{spec}", spec).replace("{more}", ""))


def test_a_rule_has_a_test_for_each_way_to_break_it(pytester: pytest.Pytester) -> None:
    task_module(pytester, "pre=[require_glob('raw/**/*.csv', max_count=2), require_glob('raw/*', min_count=0)]")
    assert [name.removeprefix("work.py::build::guardrail") for name in collected(pytester, *KIND)] == [
        "[pre:require_glob(raw/**/*.csv):satisfied]",
        "[pre:require_glob(raw/**/*.csv):missing]",
        "[pre:require_glob(raw/**/*.csv):too-many]",
        "[pre:require_glob(raw/*):satisfied]",
        "[pre:consistent]",
    ]


OWN = """
@guardrail
def tells(workspace: Path) -> str | None:
    return None if (workspace / "a.csv").read_text() == "good" else "a.csv is not good"

"""
EXAMPLES = """, examples=[
    Example(id="good", params={{"value": 1}}, tree={{"a.csv": "good"}}),
    Example(id="bad", params={{"value": 1}}, tree={{"a.csv": "{bad}"}}, expect="pre"),
]"""


def own_rule(pytester: pytest.Pytester, spec: str, more: str = "") -> None:
    text = TASK.replace("{spec}", spec).replace("{more}", more).replace("class Params", OWN + "class Params", 1)
    write_module(pytester, "work", text.replace("import PublishBudget", "import Example, PublishBudget, guardrail"))


def test_a_guardrail_of_the_author_judges_the_examples(pytester: pytest.Pytester) -> None:
    own_rule(pytester, "pre=[require_file('a.csv'), tells], post=[tells]", EXAMPLES.format(bad="worse"))
    labels = [name.partition("::guardrail")[2] for name in collected(pytester, *KIND)]
    assert labels == [
        "[pre:examples]",
        "[pre:require_file(a.csv):satisfied]",
        "[pre:require_file(a.csv):missing]",
        "[pre:consistent]",
    ]
    assert run(pytester, *KIND).parseoutcomes() == {"passed": 4}


def test_an_example_that_a_guardrail_judges_differently_is_a_failure(pytester: pytest.Pytester) -> None:
    own_rule(pytester, "pre=[require_file('a.csv'), tells]", EXAMPLES.format(bad="good"))
    result = run(pytester, *KIND)
    assert result.parseoutcomes() == {"passed": 3, "failed": 1}
    result.stdout.fnmatch_lines(
        [
            "*rule violated: the pre guardrails do not judge the tree of 'bad' as it expects*",
            "*expected  a guardrail refuses it*",
        ]
    )


@pytest.mark.parametrize("form", ["csv", "parquet", "jsonl"])
def test_tables_are_made_that_break_each_part_of_a_rule(pytester: pytest.Pytester, form: str) -> None:
    spec = (
        f"pre=[require_glob('raw/*', min_count=2), require_table('raw/*.{form}', columns={{'id': int, 'name': str, "
        "'day': 'date'}, min_rows=2, max_rows=3, unique=['id', 'day'], not_null=['name'])]"
    )
    task_module(pytester, spec)
    labels = [name.rpartition(f"{form}):")[2].rstrip("]") for name in collected(pytester, *KIND) if "table" in name]
    wrong = ["no-column", "wrong-type", "too-few-rows", "too-many-rows", "duplicate", "null", "broken"]
    assert labels == ["satisfied", "missing", *wrong]
    assert run(pytester, *KIND).parseoutcomes() == {"passed": len(labels) + 3}
    if form == "csv":  # the other forms are compared in tests/guardrails
        run(pytester, "--perago-modules", "work", "--perago-kinds", "fuzz").assert_outcomes(passed=3)
    assert not (pytester.path / "executed").exists()


SECONDS = ("observed_merge_p99", "safety_margin", "conductor_completion_timeout", "worker_shutdown_grace")
BUDGET = ", ".join(f"{name}_seconds=1" for name in (*SECONDS, "heartbeat_interval"))
SPECS = {
    "whole repository": "pre=[require_glob('raw/**/*.csv', 2, 3)], post=[forbid_glob('**/*.tmp')]",
    "prefix": "prefix='data/x', pre=[require_file('a/b.csv')], post=[require_glob('out/*', 1, 1)]",
    "read-only": "read_only=True, pre=[require_dir('raw')], post=[require_dir('raw'), forbid_glob('*')]",
    "rules that imply each other": "pre=[require_dir('raw'), require_file('raw/a'), require_glob('raw/*', 1, 2)]",
    "two rules on one table": "post=[require_table('*.csv', columns={'id': int}), require_table('*.csv', unique='id')]",
    "a publish budget, which plays no part": f"post=[require_glob('*', min_count=3)]), controls=TaskControls("
    f"publish_budget=PublishBudget({BUDGET}, lakefs_merge_timeout_seconds=5, max_changed_objects=1)",
    "odd patterns": "pre=[require_glob('[!a]?/**'), require_file('a[1].csv'), forbid_glob('**/.*/**')]",
}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_sound_rules_pass_and_no_code_of_the_author_is_executed(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, spec: str
) -> None:
    task_module(pytester, spec)
    monkeypatch.setattr("perago.testing.services.run_attempt", None)  # no test runs an attempt
    assert run(pytester, *KIND).parseoutcomes().keys() == {"passed"}
    assert not (pytester.path / "executed").exists()


class Nothing(BaseModel):
    pass


@guardrail
def breaks(workspace: Path) -> str | None:
    raise ValueError(sorted(workspace.iterdir())[0].name)


TREES: dict[str, dict[str, str]] = {
    "accepted": {"a.csv": "id\n1\n", "out/b": ""},
    "several rules broken": {"a.csv": "", "x.tmp": "", "out/1": "", "out/2": ""},
    "content broken": {"a.csv": "x\n", "out/b": ""},
    "defective guardrail": {"a.csv": "id\n1\n", "out/b": "", "broken": ""},
    "reserved key": {"a.csv": "id\n1\n", "out/b": "", "_lakefs_actions/a.yaml": ""},
}


@pytest.mark.parametrize("phase", ["pre", "post"])
@pytest.mark.parametrize("tree", TREES.values(), ids=TREES)
def test_a_tree_is_judged_as_in_an_attempt(phase: str, tree: dict[str, str]) -> None:
    rules = [require_file("a.csv"), require_glob("out/*", 1, 1), forbid_glob("*.tmp")]
    rules += [breaks] if "broken" in tree else [require_table("a.csv", columns={"id": int})]

    @task(name="judged", owner_email="data@example.com", workspace=WorkspaceSpec.model_validate({phase: rules}))
    def judged(workspace: Path, params: Nothing) -> Nothing:
        if phase == "post":
            write_tree(workspace, tree)
        return params

    declared = get_task(judged)
    assert declared is not None
    with InMemoryServices() as services:
        outcome = services.run(judged, {}, tree if phase == "pre" else {})
    verdict = _ending(phase, _violations(declared, phase, rules, tree))
    assert verdict == (f"{outcome.status}: {outcome.reason}" if outcome.reason else outcome.status)


def test_contradicting_rules_are_named_and_each_is_still_tested(pytester: pytest.Pytester) -> None:
    task_module(pytester, "pre=[require_file('README.md'), require_glob('raw/*.csv'), forbid_glob('raw/**')]")
    result = run(pytester, *KIND)
    result.assert_outcomes(passed=6, failed=1)
    result.stdout.fnmatch_lines(
        [
            "mistake in the task: no tree satisfies the pre rules: one rule forbids every file that the other one *",
            "  task  build (work.py:*)",
            "  rule  require_glob('raw/[*].csv', min_count=1)",
            "  rule  forbid_glob('raw/[*][*]')",
            "rerun: pytest *'work.py::build::guardrail[[]pre:consistent]'",
        ]
    )
    assert not [line for line in result.outlines if line.startswith("  rule") and "README" in line]


NO_TREES: dict[str, tuple[str, dict[str, int], str]] = {
    "a contradiction": (
        "require_glob('[ab].csv', min_count=3)",
        {"passed": 1, "failed": 1, "skipped": 1},
        "no tree can be made: require_glob('[[]ab].csv', min_count=3): no tree can*",
    ),
    "too many files": (
        "require_glob('**', min_count=2, max_count=100_000)",
        {"passed": 3, "skipped": 1},
        "no tree can be made: the rules ask for more than 500 files",
    ),
    "large files": (
        "require_file('a.bin', min_bytes=5_000_000), require_file('b.csv')",
        {"passed": 3, "skipped": 1},
        "wants files of 4.8 MiB each, and generated trees have at most 1.0 MiB*",
    ),
}


@pytest.mark.parametrize(("rules", "outcomes", "reason"), NO_TREES.values(), ids=NO_TREES)
def test_a_rule_for_which_no_tree_can_be_made_is_a_skip_with_a_reason(
    pytester: pytest.Pytester, rules: str, outcomes: dict[str, int], reason: str
) -> None:
    task_module(pytester, f"pre=[{rules}]")
    result = run(pytester, *KIND, "-rs")
    assert result.parseoutcomes() == outcomes
    result.stdout.fnmatch_lines([f"SKIPPED*{reason}"])


@pytest.mark.parametrize(
    ("defect", "test", "lines"),
    [
        (
            "min_count is one too low",
            "pre:require_glob(*.csv):missing",
            [
                "broken contract: a pre guardrail gives a different verdict than documented",
                "  rule      require_glob('[*].csv', min_count=2)",
                "  expected  FAILED_WITH_TERMINAL_ERROR before the function is called: the tree breaks the rule",
                "  actual    COMPLETED",
                "  tree      {",
                "                'a.csv': '',",
            ],
        ),
        (
            "min_count is one too high",
            "pre:require_glob(*.csv):satisfied",
            [
                "  expected  COMPLETED: the tree satisfies the rule",
                "  actual    FAILED_WITH_TERMINAL_ERROR: *",
                "                'a.csv': '',",
                "                'b.csv': '',",
            ],
        ),
    ],
    ids=["rejected too late", "rejected too early"],
)
def test_a_defect_of_the_runtime_shows_rule_verdicts_and_tree(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, defect: str, test: str, lines: list[str]
) -> None:
    task_module(pytester, "pre=[require_glob('*.csv', min_count=2)]")
    plant(monkeypatch, defect)
    result = run(pytester, *KIND)
    assert f"FAILED work.py::build::guardrail[{test}]" in result.stdout.str()
    result.stdout.fnmatch_lines(lines)


def test_the_rules_of_both_phases_of_a_read_only_task_are_consistent(pytester: pytest.Pytester) -> None:
    task_module(pytester, "read_only=True, pre=[forbid_glob('out/*')], post=[require_file('out/a')]")
    result = run(pytester, *KIND, "-k", "consistent")
    result.assert_outcomes(passed=1, failed=1, deselected=4)
    result.stdout.fnmatch_lines(
        [
            "mistake in the task: no tree satisfies both the pre and the post rules, and the task is read-only: *",
            "  rule  forbid_glob('out/[*]')",
            "  rule  require_file('out/a')",
        ]
    )
    task_module(pytester, "pre=[forbid_glob('out/*')], post=[require_file('out/a')]")
    run(pytester, *KIND, "-k", "consistent").assert_outcomes(passed=2, deselected=4)


def test_a_guardrail_about_a_hidden_file_names_what_hides_it(pytester: pytest.Pytester) -> None:
    rule = """
from perago import guardrail

@guardrail
def has_config(workspace: Path) -> str | None:
    return None if (workspace / "conf/c.json").is_file() else "conf/c.json is missing"

@task("""
    example = "Example(id='x', params={}, tree={'conf/c.json': '{}'})"
    hidden = "exclude=['conf/**']"
    pre = "require_file('conf/c.json'), has_config"
    file = free_module(pytester, "work", "return params", [example], f"{hidden}, pre=[{pre}]")
    file.write_text(file.read_text().replace("@task(", rule))
    text = run(pytester, "--perago-modules", "work", "--perago-kinds", "guardrail,run").stdout.str()
    assert f"no tree satisfies the pre rules: the task does not see such files: {hidden}" in text
    assert f"require_file('conf/c.json'): no such file; the task does not see 'conf/c.json': {hidden}" in text
    file.write_text(file.read_text().replace(pre, "has_config"))
    text = run(pytester, "--perago-modules", "work", "--perago-kinds", "guardrail,run").stdout.str()
    assert f"guardrail has_config: conf/c.json is missing; the task does not see 'conf/c.json': {hidden}" in text
