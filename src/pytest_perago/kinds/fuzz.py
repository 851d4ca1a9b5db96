"""Kind `fuzz`: hypothesis searches for trees, declarations and keys that the runtime judges differently than
documented.

The judge is `perago.testing.oracle`, an independent matcher. The first test that runs imports hypothesis.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from perago.authoring import Task, TaskDefinitionError, WorkspaceSpec
from perago.authoring.workspace import Guardrail
from perago.guardrails import GUARDRAILS
from perago.guardrails.evaluation import Phase, check_tree, evaluate
from perago.ports import ObjectEntry
from perago.testing.constraints import constraint_of, recipe_of
from perago.testing.near_trees import TreePlan, corner_trees
from perago.testing.oracle import Verdict, is_in_prefix, judge_tree
from perago.text import count
from perago.trees import Symlink, Tree, build
from perago.trees.cases import CaseFailed, Cause
from perago.workspace.keys import ACTIONS, Folding
from perago.workspace.layout import Disk, create_directories, directories_to_create, plan_layout, probe_disk
from perago.workspace.scan import scan_tree
from pytest_perago.kinds import Case
from pytest_perago.kinds.guardrail import phases_of, spec_of
from pytest_perago.options import FuzzSettings
from pytest_perago.session import Session

if TYPE_CHECKING:
    from hypothesis import strategies as st
    from hypothesis.strategies import SearchStrategy

    from perago.testing.strategies import Written

INSTALL = "hypothesis is not installed: pip install hypothesis"

Declare: TypeAlias = Callable[..., Guardrail]
_AS_WELL: dict[str, dict[str, Any]] = {"require_table": {"format": "csv"}}
"""Arguments that a declaration needs in addition to a path."""

_NAMES = ("a.csv", "raw/a.csv", ".hidden/x", "\u00e9", "e\u0301", "b c", "...")
_MOST_HOSTILE = 8


def cases_fuzz(task: Task, _: Session) -> Iterable[Case]:
    """Yield tests for a task with a workspace: for each phase with rules, for declared paths, and for the prefix."""
    if task.workspace is None:
        return
    for phase, rules in phases_of(task):
        if any(recipe_of(rule) for rule in rules):
            yield Case(phase, partial(_run, partial(check_phase, phase=phase), task))
    yield Case("paths", partial(_run, check_declarations, task))
    yield Case("prefix", partial(_run, check_prefix, task))


def _run(check: Callable[[Task, FuzzSettings], None], task: Task, session: Session) -> None:
    try:
        import hypothesis  # noqa: F401
    except ImportError:
        pytest.skip(INSTALL)
    check(task, session.settings.fuzz)


def check_phase(task: Task, how: FuzzSettings, phase: str) -> None:
    """Check that the runtime and the oracle agree about trees near the rules: all corner cases first, then trees of
    hypothesis, up to the number of examples, and at least half of it.

    Raises:
        CaseFailed: they do not.
    """
    from perago.testing.strategies import near_trees

    spec = spec_of(task)
    rules = [rule for rule in (spec.pre if phase == "pre" else spec.post) if recipe_of(rule)]

    def check(tree: Tree) -> None:
        with build(tree) as root:
            _compare(Phase(phase), rules, tree, root, spec.key_prefix)

    folding = _disk().folding
    corners = corner_trees(rules, folding)
    remaining = replace(how, examples=max(how.examples - len(corners), how.examples - how.examples // 2))
    try:
        for tree in corners:
            check(tree)
        fuzz(f"{task.name} {phase}", near_trees(rules, _folding=folding), check, remaining)
    except CaseFailed as failure:
        raise _reduced(failure, check) from None


def check_declarations(task: Task, how: FuzzSettings) -> None:
    """Check that guardrails accept every valid spelling of a path as the same path, and refuse hostile ones.

    Raises:
        CaseFailed: they do not.
    """
    from hypothesis import strategies as st

    from perago.testing.strategies import guardrail_paths, hostile_paths

    spec = spec_of(task)
    declared = [str(constraint_of(rule).files) for rule in (*spec.pre, *spec.post) if recipe_of(rule)]
    near = [path for path in declared if "*" not in path]
    strategy = st.tuples(
        st.lists(guardrail_paths(near), max_size=_MOST_HOSTILE),
        st.lists(hostile_paths(near), min_size=1, max_size=_MOST_HOSTILE),
    )
    fuzz(f"{task.name} paths", strategy, _compare_declarations, how)


def check_prefix(task: Task, how: FuzzSettings) -> None:
    """Check that exactly the keys below the prefix are files of the workspace, one file for each key.

    Raises:
        CaseFailed: they are not.
    """
    spec = spec_of(task)
    fuzz(f"{task.name} prefix", keys_near(spec.prefix, _disk().folding), partial(_compare_prefix, spec), how)


def keys_near(prefix: str, folding: Folding) -> SearchStrategy[list[str]]:
    """Make keys of a repository inside the prefix, and some that only look like it."""
    from hypothesis import strategies as st

    names = st.lists(st.sampled_from(_NAMES), min_size=1, unique=True)

    @st.composite
    def keys(draw: st.DrawFn) -> list[str]:
        plan = TreePlan(folding)
        for name in draw(names):
            forms = _forms(prefix, name)
            for key in draw(st.lists(st.sampled_from(forms), min_size=1, unique=True)):
                plan.add(key)
        return list(plan.tree)

    return keys()


def _forms(prefix: str, name: str) -> list[str]:
    above = f"{prefix}/" if prefix else ""
    return [
        above + name,
        f"{above}{above}{name}",
        f"{above}{ACTIONS}/{name}",
        f"{prefix}er/{name}",
        prefix + name,
        f"{prefix.swapcase()}/{name}",
        f"elsewhere/{above}{name}",
        name,
        f"{ACTIONS}/{name}",
        f"{ACTIONS}{name}",
        prefix,
    ]


def _reduced(failure: CaseFailed, check: Callable[[Tree], None]) -> CaseFailed:
    """Return the same failure without paths that it does not need, because hypothesis only knows its own draws."""
    smallest = failure
    tree: dict[str, Any] = dict(failure.tree or {})
    for path in sorted(tree, reverse=True):
        less = {other: content for other, content in tree.items() if other != path}
        try:
            check(less)
        except CaseFailed as still:
            smallest, tree = still, less
    smallest.rerun_options = failure.rerun_options
    return smallest


def _compare(phase: Phase, rules: Sequence[Guardrail], tree: Tree, root: Path, key_prefix: str) -> None:
    """Compare the verdicts of both judges on the scan of one tree."""
    scan = scan_tree(root)
    facts: list[tuple[str, str]] = []
    for rule in rules:  # one by one: no rule about contents is asked while another complains about the listing
        (finding,) = evaluate([rule], scan.listing, phase=phase, disk=scan)
        expected, actual = judge_tree(rule, tree), Verdict(finding.satisfied, finding.matched)
        if expected != actual:
            facts += [("rule", str(rule)), ("expected", _described(expected)), ("actual", _described(actual))]
    links = sorted(path for path, content in tree.items() if isinstance(content, Symlink))
    irregular = [item.path for item in scan.irregular]
    if phase is Phase.POST and (irregular != links or bool(check_tree(scan, key_prefix)) is not bool(links)):
        facts.append(("expected", f"symlinks that are refused: {', '.join(links)}"))
        facts.append(("actual", f"refused: {', '.join(irregular)}"))
    if facts:
        summary = f"a {phase} guardrail gives a different verdict than documented"
        raise CaseFailed(Cause.CONTRACT, summary, *facts, tree=tree)


def _described(verdict: Verdict) -> str:
    return f"{'satisfied' if verdict.satisfied else 'violated'}, matched {count(verdict.matched, 'file')}"


def _compare_declarations(paths: tuple[Sequence[tuple[Written, str]], Sequence[Written]]) -> None:
    good, hostile = paths
    facts: list[tuple[str, str]] = []
    for written, canonical in (*good, *((path, None) for path in hostile)):
        for declare in GUARDRAILS.values():
            actual = _declared(declare, written)
            if actual != canonical:
                expected = "rejected" if canonical is None else f"taken as {canonical!r}"
                facts += [("rule", f"{declare.__name__}({written!r})"), ("expected", expected)]
                facts.append(("actual", f"taken as {actual!r}"))
    if facts:
        raise CaseFailed(Cause.CONTRACT, "a declared path is not understood as documented", *facts)


def _declared(declare: Declare, path: Written) -> str | None:
    """Return the canonical form, or None if the path is rejected."""
    try:
        rule = declare(path, **_AS_WELL.get(declare.__name__, {}))
    except TaskDefinitionError:
        return None
    return str(getattr(rule, "path", "") or getattr(rule, "pattern", ""))  # known without pyarrow, too


def _compare_prefix(spec: WorkspaceSpec, keys: Sequence[str]) -> None:
    """List keys as lakeFS does: those that begin with the prefix. Each file contains the key of its object."""
    expected = {key: key for key in keys if is_in_prefix(spec.prefix, key)}
    entries = [
        ObjectEntry(key, len(key.encode()), "", 0, "application/octet-stream", {}, "")
        for key in keys
        if key.startswith(spec.key_prefix)
    ]
    with build({}) as root:
        placements = plan_layout(entries, spec.key_prefix, root, disk=_disk())
        create_directories(root, directories_to_create(placements, spec.key_prefix))
        files = [(placement.path, placement.entry.key) for placement in placements if placement.path is not None]
        for path, key in files:
            path.write_text(key, encoding="utf-8")
        actual = {
            spec.key_prefix + path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path, _ in files
        }
    if actual != expected:
        facts = ("keys", repr(list(keys))), ("expected", repr(expected)), ("actual", repr(actual))
        summary = f"the prefix {spec.prefix or '/'!r} does not map keys to files one to one"
        raise CaseFailed(Cause.CONTRACT, summary, *facts)


@cache
def _disk() -> Disk:
    """The disk of the trees."""
    with build({}) as root:
        return probe_disk(root)


def fuzz(name: str, strategy: SearchStrategy[Any], check: Callable[[Any], None], how: FuzzSettings) -> None:
    """Check examples of the strategy, and shrink a failing one.

    Args:
        name: distinguishes this property from all others.
        strategy: makes the examples.
        check: raises for a wrong example.
        how: the number of examples, and the seed.

    Raises:
        CaseFailed: as raised by `check`; its rerun line has the seed.
    """
    from hypothesis import HealthCheck, given, seed, settings

    def prop(example: Any) -> None:
        check(example)

    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    prop.__name__ = prop.__qualname__ = f"fuzz_{digest}"  # hypothesis's database knows properties by name and source
    configured: Any = settings(
        max_examples=how.examples,
        deadline=None,
        report_multiple_bugs=False,  # several come as a group, which would pass for an error of the harness
        suppress_health_check=[*settings().suppress_health_check, HealthCheck.too_slow],
    )
    test: Any = configured(given(strategy)(prop))
    number = how.forced_seed
    if number is None and not configured.derandomize:
        number = str(random.SystemRandom().getrandbits(32))
    if number is not None:
        test = seed(int(number) if number.isdecimal() else number)(test)
    try:
        test()
    except CaseFailed as failure:
        if number is not None and how.takes_seed:
            failure.rerun_options = (f"--hypothesis-seed={number}",)
        raise
