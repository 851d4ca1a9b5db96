"""Hypothesis strategies for trees, guardrail paths and the params of tasks. Needs hypothesis.

    @given(satisfying_trees(build_features), params(build_features))
    def test_features_are_built(tree, params):
        with TaskRunner() as run:
            assert run(build_features, params, tree=tree).status == "COMPLETED"

Everything is built near the rules, never filtered: no example is thrown away.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath, PureWindowsPath
from typing import Literal, TypeAlias

from hypothesis import strategies as st

from perago.authoring import WorkspaceSpec
from perago.authoring.guardrails import Guardrail
from perago.guardrails.require_table import RequireTable
from perago.testing.building import Tree
from perago.testing.neighbours import Likeness, TreePlan, amounts, contents, instances, lookalikes
from perago.testing.param_strategies import NoParams, params
from perago.testing.table_strategies import table_contents
from perago.testing.tasks import TaskFunction, task_of
from perago.testing.trees import ANY_DISK, Contradiction, Undecided, smallest_tree, violating_tree
from perago.workspace.keys import Folding
from perago.workspace.view import EVERYTHING, View

__all__ = [
    "NoParams",
    "guardrail_paths",
    "hostile_paths",
    "near_trees",
    "params",
    "satisfying_trees",
    "trees",
    "violating_trees",
]

Rules: TypeAlias = "WorkspaceSpec | TaskFunction | Iterable[Guardrail]"
"""Some rules, or those of one phase of a workspace or of a task function."""

Phase: TypeAlias = Literal["pre", "post"]

Written: TypeAlias = "str | PurePosixPath | PureWindowsPath"
"""A path as an author writes it in a guardrail."""


def trees(rules: Rules, *, phase: Phase = "pre", folding: Folding = ANY_DISK) -> st.SearchStrategy[Tree]:
    """Trees on both sides of the rules, and on their edges."""
    wanted = _rules(rules, phase)
    options = [near_trees(wanted, folding=folding)]
    with contextlib.suppress(Contradiction, Undecided):
        options.append(satisfying_trees(wanted, folding=folding))
    with contextlib.suppress(Contradiction, Undecided):
        options.append(violating_trees(wanted, folding=folding))
    return st.one_of(options)


def satisfying_trees(rules: Rules, *, phase: Phase = "pre", folding: Folding = ANY_DISK) -> st.SearchStrategy[Tree]:
    """Trees that satisfy all rules: the smallest one, and more.

    Raises:
        Contradiction: there are none.
        Undecided: the rules are too intricate to tell.
    """
    wanted = _rules(rules, phase)
    view = _view(rules)
    return _grown([smallest_tree(wanted, folding=folding, view=view)], wanted, folding, view)


def violating_trees(rules: Rules, *, phase: Phase = "pre", folding: Folding = ANY_DISK) -> st.SearchStrategy[Tree]:
    """Trees that break exactly one rule where that is possible, and otherwise as few others as possible with it.

    Raises:
        Contradiction: no rule can be broken.
        Undecided: the rules are too intricate to tell.
    """
    wanted, view = _rules(rules, phase), _view(rules)
    seeds = []
    for rule in wanted:
        for violation in rule.violations():
            others = wanted
            while True:
                try:
                    seeds.append(violating_tree(rule, others, violation, folding=folding, view=view))
                    break
                except Contradiction as contradiction:
                    entangled = set(contradiction.rules) - {rule}
                    if not entangled:
                        break
                    others = tuple(other for other in others if other not in entangled)
    if not seeds:
        raise Contradiction(wanted, "no tree breaks any rule")
    return _grown(seeds, wanted, folding, view)


@st.composite
def near_trees(draw: st.DrawFn, rules: Rules, *, phase: Phase = "pre", folding: Folding = ANY_DISK) -> Tree:
    """Trees near the rules: odd files that they mean, things that only look like it (see `Likeness`), and counts at,
    below and above each limit.

    Args:
        draw: given by hypothesis.
        rules: guardrails, or the workspace or the task that has them.
        phase: whose rules, where there are two phases.
        folding: which names the disk takes for the same.
    """
    wanted = _rules(rules, phase)
    plan = TreePlan(folding)
    for rule in wanted:
        options = instances(rule)
        number = min(draw(st.sampled_from(amounts(rule))), len(options))
        chosen = st.lists(st.sampled_from(options), min_size=number, max_size=number, unique=True) if options else _NONE
        for path in draw(chosen):
            plan.add(path, draw(_content(rule)))
    for likeness in _drawn_likenesses(draw):
        for rule in draw(st.lists(st.sampled_from(wanted), min_size=1, unique=True)) if wanted else ():
            for path, content in lookalikes(rule, likeness):
                plan.add(path, content)
    last = draw(st.one_of(st.none(), st.sampled_from(wanted))) if wanted else None
    counted = [rule for rule in wanted if rule.constraint.most != 0 and not rule.constraint.files.name]
    for rule in (*counted, *([last] if last else [])):
        plan.bring_to(rule, draw(st.sampled_from(amounts(rule))))
    return dict(plan.tree)


@st.composite
def _grown(
    draw: st.DrawFn,
    seeds: Sequence[dict[str, str | bytes | None]],
    rules: Sequence[Guardrail],
    folding: Folding,
    view: View,
) -> Tree:
    """One of the seeds, and around it, in `view`, what changes no verdict."""
    plan = TreePlan(folding)
    for path, seed in draw(st.sampled_from(seeds)).items():
        plan.add(path, seed)
    for likeness in _drawn_likenesses(draw):
        for rule in rules:
            for path, content in lookalikes(rule, likeness):
                if isinstance(content, str | None) and view.sees(path):
                    plan.add_if(rules, path, content)
    return dict(plan.tree)


def _content(rule: Guardrail) -> st.SearchStrategy[str | bytes]:
    """What a file may hold that the rule counts."""
    some = st.sampled_from([*_CONTENTS, *contents(rule)])
    return st.one_of(some, table_contents(rule.rule).map(_readable)) if isinstance(rule, RequireTable) else some


def _readable(content: bytes) -> str | bytes:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content


_CONTENTS = ("", "x\n1\n")
_NONE: st.SearchStrategy[list[str]] = st.just([])


def _drawn_likenesses(draw: st.DrawFn) -> list[Likeness]:
    chosen = draw(st.lists(st.booleans(), min_size=len(Likeness), max_size=len(Likeness)))
    return [likeness for likeness, wanted in zip(Likeness, chosen, strict=True) if wanted]


def _view(rules: Rules) -> View:
    spec = task_of(rules).workspace if callable(rules) else rules
    return View.of(spec) if isinstance(spec, WorkspaceSpec) else EVERYTHING


def _rules(rules: Rules, phase: Phase) -> tuple[Guardrail, ...]:
    if callable(rules):
        rules = task_of(rules).workspace or ()
    if isinstance(rules, WorkspaceSpec):
        rules = rules.pre if phase == "pre" else rules.post
    return tuple(dict.fromkeys(rule for rule in rules if rule.is_derivable))


_NAMES = ("raw", "a.csv", ".cache", "x y", "Größe", "漢字", "...", "..a", "a..", "~", "-", "con", "e\u0301", "$HOME")
_DEFAULT = ("raw/a.csv",)
_CONTROL = ("\0", "\n", "\t", "\x1b", "\x7f", "\u0085", "\ud800")


@st.composite
def guardrail_paths(draw: st.DrawFn, near: Sequence[str] = ()) -> tuple[Written, str]:
    """A path that can be declared, in some spelling, and its canonical form; sometimes one of `near`."""
    names = draw(
        st.one_of(st.sampled_from(near or _DEFAULT).map(_split), st.lists(st.sampled_from(_NAMES), min_size=1))
    )
    canonical = "/".join(names)
    spelling = draw(st.sampled_from(["plain", "dots", "slashes", "posix", "windows"]))
    if spelling == "posix":
        return PurePosixPath(canonical), canonical
    if spelling == "windows":
        return PureWindowsPath(*names), canonical
    if spelling == "dots":
        return "./" + "/./".join(names), canonical
    if spelling == "slashes":
        return "//".join(names) + "/", canonical
    return canonical, canonical


@st.composite
def hostile_paths(draw: st.DrawFn, near: Sequence[str] = ()) -> Written:
    """A path that no guardrail may take: it leaves the workspace, belongs to another system, or is no path at all.
    It is a good one, sometimes one of `near`, with something wrong in it."""
    names = _split(draw(st.sampled_from(near or _DEFAULT)))
    path = "/".join(names)
    place = draw(st.integers(0, len(names)))
    with_parent = "/".join([*names[:place], "..", *names[place:]])
    letter = draw(st.sampled_from("cCzZ"))
    server = draw(st.sampled_from(["server/share", "?/C:", "./pipe"]))
    middle = draw(st.integers(0, len(path)))
    forms: list[Written] = [
        f"/{path}",
        f"///{path}",
        PurePosixPath(f"/{path}"),
        with_parent,
        f"./{with_parent}/.",
        PurePosixPath(with_parent),
        PureWindowsPath(with_parent),
        f"{letter}:{path}",
        f"{letter}:/{path}",
        f"{letter}:\\{path}",
        PureWindowsPath(f"{letter}:{path}"),
        PureWindowsPath(f"{letter}:\\{path}"),
        PureWindowsPath(f"\\{path}"),
        f"//{server}/{path}",
        f"\\\\{server}\\{path}".replace("/", "\\"),
        PureWindowsPath(f"//server/share/{path}"),
        f"{path[:middle]}\\{path[middle:]}",
        f"{path[:middle]}{draw(st.sampled_from(_CONTROL))}{path[middle:]}",
        "",
        ".",
        "./",
        "././/.",
        "/",
    ]
    return draw(st.sampled_from(forms))


def _split(path: str) -> list[str]:
    return path.split("/")
