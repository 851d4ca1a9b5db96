"""Declarations of tests about task functions and their modules, and the failure of a generated test."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from perago.authoring import Example, Task
from perago.authoring.task import get_task

TaskFunction: TypeAlias = Callable[..., Any]
"""A function with `@task`."""

_provided: dict[str, dict[str, Mapping[str, Any] | Example]] = {}


def task_of(function: TaskFunction | Task) -> Task:
    """Return the declared task. A `Task` is returned unchanged.

    Raises:
        TypeError: it has no `@task`, or is a wrapper around one that has.
    """
    task = function if isinstance(function, Task) else get_task(function)
    if task is None:
        raise TypeError(f"{getattr(function, '__name__', function)!r} is not a task function; decorate it with @task")
    return task


def provide_params(task_name: str, *params: Mapping[str, Any] | Example) -> None:
    """Provide parameters for a task, for example in a `conftest.py`. Further calls add parameters.

    Mappings are parameters as a workflow would send them. An `Example` also has a tree and an outcome, and is run when
    `perago_run` is `all`.
    """
    known = _provided.setdefault(task_name, {})
    for sample in params:  # a conftest that is imported twice provides nothing twice
        known.setdefault(repr(sample), sample)


def provided_params(task_name: str) -> tuple[Mapping[str, Any] | Example, ...]:
    """Return the provided values, in that order."""
    return tuple(_provided.get(task_name, {}).values())


def known_params(task: Task, provided: Iterable[Mapping[str, Any] | Example]) -> Iterator[Any]:
    """Yield the params of the task's examples, then the provided ones."""
    for example in task.examples:
        if example.expect != "terminal":  # such params may be wrong on purpose
            yield example.params
    for sample in provided:
        yield sample.params if isinstance(sample, Example) else sample


def no_params(task_name: str, problem: str | None) -> str:
    """Say why no params of a task can be made, and how to give some."""
    return (
        f"no params of {task_name} can be made: {problem}; give some with the hook pytest_perago_params, by "
        f"perago.testing.provide_params({task_name!r}, ...) or by an Example of the task"
    )


@dataclass(frozen=True, slots=True)
class TaskTests:
    """A declaration that perago's pytest plugin collects from a test module. It has no effect without the plugin.

    `kinds` None: those that pytest's configuration asks for.
    """

    modules: tuple[str, ...]
    kinds: tuple[str, ...] | None = None


def task_tests(*modules: str, kinds: Iterable[str] | None = None) -> TaskTests:
    """Generate tests from task modules in a test file: `test_workers = task_tests("app.workers")`.

    The tests are the same as with `--perago-modules`, but they use the fixtures and hooks of the `conftest.py` next to
    the test file. A package means all task modules below it.
    """
    return TaskTests(modules, None if kinds is None else tuple(kinds))


_MOST_FILES = 20
_LONGEST_CONTENT = 400


class Cause(StrEnum):
    """The cause of a failure. Any other exception of a generated test is an error of the harness."""

    MISTAKE = "mistake in the task"
    RULE = "rule violated"
    CONTRACT = "broken contract"


class CaseFailed(AssertionError):
    """A generated test failed. The item that ran it adds `subject` and `rerun` before pytest prints it.

    Args:
        cause: the kind of the cause.
        summary: the problem in one line.
        facts: label and text, such as `("expected", "COMPLETED")`.
        tree: the tree of the test, shown as Python.
        details: blocks of text that follow.
        rerun_options: the options with which pytest finds the same example again.
        needs_others: whether the test fails only after other tests of its task.
    """

    def __init__(
        self,
        cause: Cause,
        summary: str,
        *facts: tuple[str, str],
        tree: Mapping[str, object] | None = None,
        details: Sequence[str] = (),
        rerun_options: Sequence[str] = (),
        needs_others: bool = False,
    ) -> None:
        super().__init__(summary)
        self.cause = cause
        self.summary = summary
        self.facts = facts
        self.tree = tree
        self.details: tuple[str, ...] = tuple(details)
        self.rerun_options: tuple[str, ...] = tuple(rerun_options)
        self.needs_others = needs_others
        self.subject: tuple[str, str] = ("", "")
        self.rerun = ""

    @property
    def headline(self) -> str:
        """Return the problem in one line: the summary and the first fact that adds something."""
        facts = dict(reversed(self.facts))
        more = next((facts[label] for label in ("actual", "rule", "ignored") if label in facts), "")
        return f"{self.summary}: {more}".rstrip(": ").replace("\n", "; ")

    def __str__(self) -> str:
        facts = ([self.subject] if self.subject[0] else []) + list(self.facts)
        if self.tree is not None:
            facts.append(("tree", tree_literal(self.tree)))
        lines = [f"{self.cause}: {self.summary}", *fact_lines(facts)]
        lines += [block.rstrip("\n") for block in self.details if block.strip()]
        if self.rerun:
            lines.append(f"rerun: {self.rerun}")
        return "\n".join(lines)


CaseFailed.__module__ = "builtins"  # pytest's short summary then shows the bare name, as for its own failures


def fact_lines(facts: Sequence[tuple[str, str]]) -> list[str]:
    """Return aligned lines of labels and texts. The further lines of a text are below its first."""
    width = max((len(label) for label, _ in facts), default=0)
    indent = "\n" + " " * (width + 4)
    return [f"  {label:<{width}}  {text.replace(chr(10), indent)}" for label, text in facts]


def tree_literal(tree: Mapping[str, object]) -> str:
    """Return a tree as Python code for a test. Long contents and long trees are cut."""
    if not tree:
        return "{}"
    lines = [f"    {path!r}: {_content(content)}," for path, content in sorted(tree.items())[:_MOST_FILES]]
    if len(tree) > _MOST_FILES:
        lines.append(f"    # and {len(tree) - _MOST_FILES} more files")
    return "\n".join(["{", *lines, "}"])


def _content(content: object) -> str:
    if not isinstance(content, str | bytes) or len(content) <= _LONGEST_CONTENT:
        return repr(content)
    return f"{content[:_LONGEST_CONTENT]!r}  # the first of {len(content):,}"
