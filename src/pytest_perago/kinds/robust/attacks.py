"""Attack the function of a task with inputs that its own `pre` guardrails accept, and report how it fails.

An attack starts at the declared cases that complete. It calls the function directly, with the frozen clock and the
seeded random numbers of the kind `faults`, so each run tries the same inputs in the same order.
"""

from __future__ import annotations

import itertools
import json
import linecache
import os
import random
import sys
import time
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from types import FrameType
from typing import Any, TypeAlias

import pytest
from pydantic import BaseModel, ValidationError

from perago.atomic_file import replace_file
from perago.authoring import Task
from perago.authoring.workspace import Guardrail
from perago.driver import Raised, call_function
from perago.guardrails.evaluation import Finding, Phase, evaluate
from perago.guardrails.function_guardrail import FunctionGuardrail
from perago.taskdef.schema import input_schema
from perago.testing.constraints import Undecided, recipe_of
from perago.testing.samples import ValidatorRaised, edges, validated
from perago.testing.trees import Contradiction, smallest_tree
from perago.text import count, listing, quoted
from perago.trees import as_bytes, build
from perago.trees.cases import CaseFailed, InvalidCase, RunCase, read_tree
from perago.workspace.keys import View
from perago.workspace.scan import scan_tree
from pytest_perago.attempts import Call, FaultCase
from pytest_perago.conditions import Conditions, under
from pytest_perago.confinement import GRACE, TimeLimitExceeded, Watch, signal_of_a_copy
from pytest_perago.kinds.robust import table_mutations  # noqa: F401 - adds to the catalog
from pytest_perago.kinds.robust.mutations import (
    CSV,
    LINES,
    Change,
    Mutation,
    apply,
    changed_value,
    is_legal,
    is_neutral,
    mutations_of,
)
from pytest_perago.observation import Output
from pytest_perago.session import Session
from pytest_perago.user_code import UserCode

IsAccepted: TypeAlias = "Callable[[Mutant, Failure], bool]"

MOST_COMBINATIONS = 150
_MOST_PARTS = 5
"""Mutations of one input."""
MOST_ROWS = 50
"""Number of rows to which the table of a seed is cut."""
MOST_CALLS = 150
"""Calls of the function in one test, without those that confirm a finding."""
_MOST_SEEDS = 3
_MOST_HANGS = 2
_CONFIRMATIONS = 3
_SLOW, _VERY_SLOW = 0.2, 2.0
"""Duration of a call in seconds above which fewer inputs are tried."""
_SLOW_CALLS, _VERY_SLOW_CALLS = 40, 10
_LEAST_LIMIT = 5.0
_TIMES_SLOWER = 20
_LONGEST = 160
_SHORT = 60
_MOST_PATHS = 5
_RULE_SECONDS = 5.0
"""The time limit of a guardrail function on one tree."""


@dataclass(frozen=True, slots=True)
class Seed:
    """A declared case that completes: the start of an attack. `params` is its document."""

    case: FaultCase
    files: Mapping[str, bytes]
    """The tree of its input; long tables are cut."""
    params: Mapping[str, Any]
    outside: frozenset[Path]
    """Files outside of the attempt that the function also writes for an unchanged input."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """An input made from a seed by a mutation of its files or its params."""

    seed: Seed
    label: str
    description: str
    """The difference in words, such as `raw/a.csv begins with a byte order mark`."""
    files: Mapping[str, bytes]
    params: Mapping[str, Any]
    change: Change | None = None
    path: str = ""
    mutation: Mutation | None = None
    parts: tuple[Mutant, ...] = ()
    """The combined inputs, each of which has one mutation."""
    backwards: bool = False
    """Whether directories are listed backwards, and the output must be the same."""

    @property
    def is_of_params(self) -> bool:
        """Whether only params are changed, not files."""
        return self.change is None and not self.parts

    @property
    def identity(self) -> tuple[Any, ...]:
        """A key that is equal for equal inputs."""
        return tuple(sorted(self.files.items())), json.dumps(self.params, sort_keys=True)


@dataclass(frozen=True, slots=True)
class Failure:
    """One way in which a task fails. `key` identifies the failure across runs, and does not change with edits elsewhere
    in the file."""

    rank: int
    """The rank of the failure; worse failures have a smaller rank."""
    summary: str
    key: str
    detail: str = field(default="", compare=False)
    """The traceback, or the reason."""


@dataclass(slots=True)
class AttackFinding:
    """A failure and the inputs that cause it. Only the first input is shown in full."""

    failure: Failure
    mutants: list[Mutant]

    @property
    def labels(self) -> list[str]:
        """The labels of all inputs, without duplicates."""
        return list(dict.fromkeys(mutant.label for mutant in self.mutants))


@dataclass(slots=True)
class Tally:
    """Counters of an attack."""

    made: int = 0
    refused: int = 0
    called: int = 0
    declined: int = 0
    """Inputs for which the function raised `TaskFailed` or `TaskTerminalError`."""
    unsteady: list[str] = field(default_factory=list)
    stopped: str = ""
    """The reason why inputs were left out; empty if all were tried."""

    def __str__(self) -> str:
        accepted = self.made - self.refused
        parts = [f"{count(self.made, 'input')} made, {self.refused} refused by the pre guardrails"]
        parts.append(f"{self.called} of {accepted} tried" if self.called < accepted else f"{self.called} tried")
        if self.declined:
            parts.append(f"{self.declined} ended by TaskFailed or TaskTerminalError")
        if self.stopped:
            parts.append(self.stopped)
        return "; ".join([", ".join(parts), *self.unsteady])


class CrashNotes:
    """Notes of the inputs that the function of one test is called with, which survive if a call ends the process.

    A crash in C code ends pytest, or a worker of pytest-xdist, without a report. The next run finds the note, calls the
    function with that input in a child process, and reports the crash. The notes are in the cache directory of pytest.
    Without a file nothing is noted.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._confirmed: list[str] = []
        """Inputs that ended a child process in this run."""
        self._suspects: set[str] = set()
        """Inputs with which an earlier run was ended."""
        if file is not None:
            with suppress(OSError, ValueError, TypeError):
                self._suspects = set(map(str, json.loads(file.read_text(encoding="utf-8"))))

    def crash_of(self, name: str, call: Callable[[], object], seconds: float) -> str:
        """Call the function before it is called here, if an earlier run ended with this input: in a child process.
        Return the signal that ended the child; empty for none."""
        if name not in self._suspects or not hasattr(os, "fork"):
            self._write(name)
            return ""
        ended_by = signal_of_a_copy(call, seconds)
        if ended_by and name not in self._confirmed:
            self._confirmed.append(name)
        return ended_by

    def close(self) -> None:
        """Keep the confirmed crashes for the next run, and nothing else."""
        if self._file is not None:
            self._write()
            if not self._confirmed:
                self._file.unlink(missing_ok=True)

    def _write(self, *names: str) -> None:
        if self._file is not None:
            with suppress(OSError):  # a full disk; the note is not worth a failure
                replace_file(self._file, json.dumps([*self._confirmed, *names]).encode())


class Attack:
    """Attacks one task.

    Args:
        task: the task.
        cases: the declared cases.
        session: the settings.
        notes: get each input before the function is called with it.

    Raises:
        pytest.skip.Exception: no declared case completes.
    """

    def __init__(self, task: Task, cases: Iterable[RunCase], session: Session, notes: CrashNotes) -> None:
        self.task = task
        self._session = session
        self._notes = notes
        self._user_code = UserCode(task)
        self._results: dict[int, tuple[Any] | None] = {}
        rules = task.workspace.pre if task.workspace is not None else ()
        self.rules: tuple[Guardrail, ...] = tuple(
            replace(rule, seconds=min(rule.seconds, _RULE_SECONDS)) if isinstance(rule, FunctionGuardrail) else rule
            for rule in rules
        )
        """The `pre` guardrails, with a short limit for functions."""
        self.tally: Tally = Tally()
        declared = list(cases)
        self._examples = [case for case in declared if case.expect != "pre"]
        self._inputs: list[Mutant] = []
        """The inputs of the run."""
        self._keys: set[str] = set()
        """Keys of the failures of the run."""
        complete = [case for case in declared if case.expect == "completed"]
        self.smallest: dict[str, bytes] = self._smallest_tree()
        self.seeds: list[Seed] = list(self._started(complete))
        if not self.seeds and self.smallest and declared:
            self.seeds = list(self._started([RunCase("smallest tree", declared[0].params, self.smallest, "completed")]))
        if not self.seeds:
            pytest.skip(f"no declared case of {task.name} completes, so there is no input to change: add an Example")
        self.seeds.sort(key=lambda seed: sum(map(len, seed.files.values())))
        self.namespace: Mapping[str, Any] = vars(sys.modules[task.module]) if task.module in sys.modules else {}
        """The names that the author's module has."""
        self.accepted: frozenset[str] = frozenset(
            self._known(case for case in declared if case.expect in ("failed", "terminal", "post"))
        )
        """Keys of the failures that an `Example` declares."""

    def _started(self, cases: Iterable[RunCase]) -> Iterator[Seed]:
        number = 0
        for case in cases:
            if number == _MOST_SEEDS:
                return
            try:
                caller = partial(call_function, on_error=self._keep)
                fault_case = FaultCase(self.task, case, self._session.watch(), caller)
                with fault_case.watch:
                    first, second = fault_case.first, fault_case.second
            except (CaseFailed, TimeLimitExceeded, pytest.skip.Exception):
                continue  # its `run` test says why
            if not second.output.problem:
                number += 1
                inputs, outside = fault_case.inputs, frozenset((*first.audit.outside, *second.audit.outside))
                params = inputs.params.model_dump(mode="json", by_alias=True, round_trip=True)
                yield self._shortened(Seed(fault_case, inputs.files or {}, params, outside))

    def _smallest_tree(self, changed: Sequence[Guardrail] | None = None) -> dict[str, bytes]:
        """The smallest tree that the `pre` guardrails accept; empty if no such tree has a file."""
        spec = self.task.workspace
        declared = () if spec is None else spec.pre if changed is None else changed
        rules = [rule for rule in declared if recipe_of(rule)]
        if spec is not None and rules:
            with suppress(Contradiction, Undecided, ValueError):
                tree = smallest_tree(rules, key_prefix=spec.key_prefix, _view=View.of(spec))
                files = {path: as_bytes(content) for path, content in tree.items() if content is not None}
                return {} if self.judge(files, changed) else files
        return {}

    def _shortened(self, seed: Seed) -> Seed:
        """Cut the tables of a seed to the first rows, if the task completes with them, because short tables are faster
        and easier to compare."""
        files = dict(seed.files)
        for path, content in seed.files.items():
            if PurePosixPath(path).suffix.lower() in (*CSV, *LINES):
                files[path] = b"".join(content.splitlines(keepends=True)[: MOST_ROWS + 1])
        shorter = replace(seed, files=files)
        if files == seed.files or self.judge(files):
            return seed
        return seed if self.call(Mutant(shorter, "", "", files, seed.params)) is not None else shorter

    def _known(self, cases: Iterable[RunCase]) -> Iterator[str]:
        for case in cases:
            with suppress(InvalidCase):
                files = {
                    path: as_bytes(content) for path, content in read_tree(case.tree).items() if content is not None
                }
                yield from (_of_rule(finding).key for finding in self.judge(files) if finding.is_defect)
                failure = self.call(Mutant(self.seeds[0], case.label, "", files, case.params))
                if failure is not None:
                    yield failure.key

    # ------------------------------------------------------------------------------------- inputs

    def with_other_files(self, level: int) -> list[Mutant]:
        """Make the inputs with one mutation of a file, the likeliest ones first."""
        mutants: dict[Any, tuple[int, Mutant]] = {}
        for seed in self.seeds:
            for mutation in mutations_of(seed.files, level):
                mutant = self.mutated(seed, mutation)
                if mutant is not None and mutant.files != seed.files:
                    mutants.setdefault(mutant.identity, (mutation.site, mutant))
        if self.smallest and self.smallest != self.seeds[0].files:
            paths = listing([quoted(path) for path in sorted(self.smallest)], _MOST_PATHS)
            seed, description = self.seeds[0], f"the smallest tree that the pre guardrails accept: {paths}"
            path = next((path for path in sorted(self.smallest) if path in seed.files), "")
            change = Change(description, self.smallest)
            smallest = Mutant(seed, SMALLEST, description, self.smallest, seed.params, change, path)
            mutants.setdefault(smallest.identity, (0, smallest))
        ranked = sorted(mutants.values(), key=lambda ranked: ranked[0])
        return [*self._listed_backwards(), *(mutant for _, mutant in ranked)]

    def _listed_backwards(self) -> Iterator[Mutant]:
        """Make an input whose directories are listed backwards: a seed with similar files, or with a second one."""
        for seed in self.seeds:
            if "listing" not in seed.case.first.used:
                continue
            places = [(PurePosixPath(path).parent, PurePosixPath(path).suffix) for path in seed.files]
            added = {} if len(set(places)) < len(places) else _second_files(seed.files)
            description = "directories are listed backwards"
            if added:
                description += f", and there is a second file, {listing([quoted(path) for path in added], _MOST_PATHS)}"
            files = self._visible({**seed.files, **added})
            if len(files) > 1:
                yield Mutant(
                    seed, "listing-order", description, files, seed.params, Change(description, added), backwards=True
                )
                return

    def mutated(self, seed: Seed, mutation: Mutation) -> Mutant | None:
        """Return the seed with a mutation applied; None if the task would not see the change."""
        change = apply(seed.files, mutation)
        if change is None:
            return None
        description = f"{mutation.path} {change.defect}"
        tree = self._visible(change.applied(seed.files))
        return Mutant(seed, mutation.label, description, tree, seed.params, change, mutation.path, mutation)

    def _visible(self, files: Mapping[str, bytes]) -> dict[str, bytes]:
        """Return the files that `include` and `exclude` show to the task."""
        spec = self.task.workspace
        return {path: content for path, content in files.items() if spec and View.of(spec).sees(path)}

    def combined(self, parts: Sequence[Mutant]) -> Mutant:
        """Combine several inputs of one seed: apply their mutations one after the other.

        A mutation can touch another place after an earlier one, so the parts describe the changes that were made.
        """
        seed, files, made = parts[0].seed, dict(parts[0].seed.files), []
        for part in parts:
            change = apply(files, part.mutation) if part.mutation is not None else None
            if change is not None:
                files = self._visible(change.applied(files))
                made.append(replace(part, change=change, description=f"{part.path} {change.defect}"))
        labels, descriptions = (" + ".join(part.label for part in made), "; ".join(part.description for part in made))
        return Mutant(seed, labels, descriptions, files, seed.params, parts=tuple(made))

    def with_other_params(self) -> Iterator[Mutant]:
        """Make inputs with one param at a limit of its schema, if the model accepts it."""
        properties: Mapping[str, Any] = input_schema(self.task)["properties"]["params"].get("properties", {})
        for seed in self.seeds[:1]:
            for name, schema in properties.items():
                for value in edges(schema):
                    document = {**seed.params, name: value}
                    if document != seed.params and self._params(document) is not None:
                        shown = json.dumps(value, ensure_ascii=False)
                        yield Mutant(seed, name, f"param {name} is {shown}", seed.files, document)

    def _params(self, document: Mapping[str, Any]) -> BaseModel | None:
        try:
            return validated(self.task.params_model, document)
        except (ValidationError, ValidatorRaised):  # the kind `contract` reports validators that raise something else
            return None

    # -------------------------------------------------------------------------------------- calls

    def judge(self, files: Mapping[str, bytes], rules: Sequence[Guardrail] | None = None) -> list[Finding]:
        """Return the violations and the defects of `pre` guardrails on a tree."""
        rules = self.rules if rules is None else rules
        if not rules:
            return []
        with build(files) as root, ExitStack() as stack:
            if any(isinstance(rule, FunctionGuardrail) for rule in rules):
                self._session.memory(self.task.module).restore()
                stack.enter_context(under(Conditions(), self._user_code, set()))
            scan = scan_tree(root)
            findings = evaluate(rules, scan.listing, phase=Phase.PRE, disk=scan)
        return [finding for finding in findings if not finding.satisfied]

    def problem_of(self, rules: Sequence[Guardrail]) -> str:
        """Return why these `pre` guardrails are not better than the declared ones; empty if they are."""
        for case in self._examples:
            files = self._tree_of(case)
            if files is not None and self.judge(files, rules):
                return f"the example {case.label!r} is refused"
        is_new_function = isinstance(rules[-1], FunctionGuardrail) and rules[-1] not in self.rules
        for mutant in self._inputs if is_new_function else ():
            alone = self.judge(mutant.files, rules[-1:])  # first, because the other rules are slow
            if any(finding.is_defect for finding in alone) and all(
                finding.is_defect for finding in self.judge(mutant.files, rules)
            ):
                return f"the guardrail fails for {mutant.label}"
        smallest = self._smallest_tree(rules)
        if smallest and smallest != self.smallest:
            failure = self.call(Mutant(self.seeds[0], SMALLEST, "", smallest, self.seeds[0].params))
            if failure is not None and failure.key not in self._keys:
                return f"the smallest tree that it accepts has a new finding, {failure.summary}"
        return ""

    def legal_inputs_refused_by(self, rules: Sequence[Guardrail]) -> list[Mutant]:
        """Return the legal inputs that the declared guardrails accept and these do not."""
        inputs = (mutant for mutant in self._inputs if is_legal(mutant.label, mutant.path))
        return [mutant for mutant in inputs if self.judge(mutant.files, rules) and not self.judge(mutant.files)]

    @property
    def accepted_params(self) -> list[Mapping[str, Any]]:
        """The params of all cases that the task must accept."""
        return [seed.params for seed in self.seeds] + [
            case.params for case in self._examples if case.expect != "terminal"
        ]

    def _tree_of(self, case: RunCase) -> dict[str, bytes] | None:
        with suppress(InvalidCase):
            tree = read_tree(case.tree)
            return self._visible({path: as_bytes(content) for path, content in tree.items() if content is not None})
        return None

    def run(self, mutants: Sequence[Mutant], is_accepted: IsAccepted) -> list[AttackFinding]:
        """Try the inputs, within the budget. Return the reproducible failures, the worst first."""
        seconds = self._session.settings.robust_seconds
        deadline = time.monotonic() + seconds
        most = self._most_calls()
        findings: dict[str, AttackFinding] = {}
        hangs = 0
        self.tally.made = len(mutants)
        self._inputs = [*mutants]
        admissible = []
        for mutant in mutants:
            violated = self.judge(mutant.files)
            self.tally.refused += bool(violated)
            if not violated:
                admissible.append(mutant)
            is_retried = all(finding.is_defect for finding in violated)  # a violation ends the attempt for good
            for defect in violated if is_retried else ():
                if not is_accepted(mutant, _of_rule(defect)):
                    failure = _of_rule(defect)
                    findings.setdefault(failure.key, AttackFinding(failure, [])).mutants.append(mutant)
        for mutant in admissible:
            if self.tally.called >= most:
                self.tally.stopped = f"stopped after {self.tally.called} of {len(admissible)}: enough calls"
                break
            if time.monotonic() > deadline:
                left = f"{self.tally.called} of {len(admissible)}"
                self.tally.stopped = f"stopped after {left}: {seconds:g} s have passed (perago_robust_seconds)"
                break
            self.tally.called += 1
            failure_of_call = self.call(mutant)
            if failure_of_call is not None:
                self._keys.add(failure_of_call.key)
            if failure_of_call is None or is_accepted(mutant, failure_of_call):
                continue
            findings.setdefault(failure_of_call.key, AttackFinding(failure_of_call, [])).mutants.append(mutant)
            hangs += failure_of_call.rank == _HANG
            if hangs >= _MOST_HANGS:
                self.tally.stopped = f"stopped after {self.tally.called} of {len(admissible)}: the function hangs"
                break
        for finding in findings.values():  # a mutation says more about the cause than a complete tree
            finding.mutants.sort(key=lambda mutant: mutant.label == SMALLEST)
        return sorted(filter(self._is_steady, findings.values()), key=lambda finding: finding.failure.rank)

    def search(self, mutants: Sequence[Mutant], is_accepted: IsAccepted) -> list[AttackFinding]:
        """Try combinations of inputs, each of which is harmless alone.

        Return the failures, each with as few mutations as possible.
        """
        seed_of_run = self._session.settings.robust_seed
        source = random.Random(f"{self.task.name} {seed_of_run}")  # noqa: S311 - the same combinations in each run
        deadline = time.monotonic() + self._session.settings.robust_seconds
        pool = [mutant for mutant in mutants if mutant.label not in _LONERS and not self.judge(mutant.files)]
        findings: dict[str, AttackFinding] = {}
        covered: set[tuple[str, str]] = set()
        lines: set[tuple[str, int]] = set()
        most = min(self._most_calls(), MOST_COMBINATIONS)
        self._inputs = [*mutants]
        draws_left = _LEAST_DRAWS
        for _ in range(most):
            if draws_left == 0:
                self.tally.stopped = f"stopped after {self.tally.called} of {most}: nothing new was learnt"
                break
            draws_left -= 1
            seed = source.choice(self.seeds)
            labels = list(dict.fromkeys(mutant.label for mutant in pool if mutant.seed is seed))
            if len(labels) < 2:
                continue
            if time.monotonic() > deadline:
                why = "the time limit was reached (perago_robust_seconds)"
                self.tally.stopped = f"stopped after {self.tally.called} of {most}: {why}"
                break
            draws = [source.sample(labels, min(len(labels), _MOST_PARTS)) for _ in range(_DRAWS)]
            drawn = max(draws, key=lambda labels: len(_pairs(labels) - covered))
            covered |= _pairs(drawn)
            candidates = (
                [candidate for candidate in pool if candidate.seed is seed and candidate.label == label]
                for label in drawn
            )
            mutant = self.combined([source.choice(choices) for choices in candidates])
            self.tally.made += 1
            if self.judge(mutant.files):
                self.tally.refused += 1
                continue
            self.tally.called += 1
            known = len(lines)
            with _lines_of(seed.case.user_code.files, lines):
                failure = self.call(mutant)
            if len(lines) > known or (failure is not None and failure.key not in findings):
                draws_left = max(draws_left, _DRAWS_PER_DISCOVERY)
            if failure is None or failure.key in findings or is_accepted(mutant, failure):
                continue
            smallest = self._reduced(mutant, failure.key)
            if len(smallest.parts) == 1:  # the test of single mutations reports it
                (part,) = smallest.parts
                pool = [
                    candidate for candidate in pool if candidate.seed is not seed or candidate.mutation != part.mutation
                ]
            else:
                findings[failure.key] = AttackFinding(failure, [smallest])
        self._drop_those_of_single_mutations(findings, mutants)
        return sorted(filter(self._is_steady, findings.values()), key=lambda finding: finding.failure.rank)

    def causes_left(self, key: str, rules: tuple[Guardrail, ...]) -> list[Mutant]:
        """Search with other `pre` guardrails. Return an input that still causes the failure; none without one."""
        tally, declared = self.tally, self.rules
        self.tally, self.rules = Tally(), rules
        try:
            findings = self.search(self._inputs, lambda _, failure: failure.key != key)
        finally:
            self.tally, self.rules = tally, declared
        return [mutant for finding in findings for mutant in finding.mutants]

    def _drop_those_of_single_mutations(self, findings: dict[str, AttackFinding], mutants: Sequence[Mutant]) -> None:
        """Remove the failures that a single mutation causes, too, because the test `files` reports them."""
        deadline = time.monotonic() + self._session.settings.robust_seconds
        for mutant in mutants[: self._most_calls()]:
            if not findings or time.monotonic() > deadline:
                return
            failure = None if self.judge(mutant.files) else self.call(mutant)
            if failure is not None:
                findings.pop(failure.key, None)

    def _reduced(self, mutant: Mutant, key: str) -> Mutant:
        """Remove each mutation that the failure does not need."""
        for part in mutant.parts:
            fewer = [other for other in mutant.parts if other is not part]
            smaller = self.combined(fewer) if fewer else mutant
            failure = None if not fewer or self.judge(smaller.files) else self.call(smaller)
            if failure is not None and failure.key == key:
                return self._reduced(smaller, key)
        return mutant

    def _most_calls(self) -> int:
        seconds = max(seed.case.second.seconds for seed in self.seeds)
        return MOST_CALLS if seconds < _SLOW else _SLOW_CALLS if seconds < _VERY_SLOW else _VERY_SLOW_CALLS

    def _is_steady(self, finding: AttackFinding) -> bool:
        """Whether the failure is reproducible. A hang is not tried again."""
        if finding.failure.rank in (_RULE, _HANG):
            return True
        mutant = finding.mutants[0]
        repeated = [failure for _ in range(_CONFIRMATIONS) if (failure := self.call(mutant)) is not None]
        if [failure.key for failure in repeated] == [finding.failure.key] * _CONFIRMATIONS:
            finding.failure = repeated[-1]  # a smaller input may have another message
            return True
        description = f"{finding.failure.summary} with {mutant.label}"
        self.tally.unsteady.append(f"not reported, because it does not happen each time: {description}")
        return False

    def call(self, mutant: Mutant) -> Failure | None:
        """Call the function once, in a fresh directory. Returns how it failed; None if it did not."""
        seconds = self._limit(mutant.seed)
        name = f"case {mutant.seed.case.case.label!r} with {mutant.label}: {mutant.description}"
        ended_by = self._notes.crash_of(name, lambda: self._call(mutant, seconds), seconds + GRACE)
        if ended_by:
            return Failure(_CRASH, f"the function ends the process ({ended_by})", f"crash {ended_by}")
        return self._call(mutant, seconds)

    def _limit(self, seed: Seed) -> float:
        seconds = max(_LEAST_LIMIT, _TIMES_SLOWER * seed.case.second.seconds)
        return min(seconds, self._session.settings.run_timeout)

    def _call(self, mutant: Mutant, seconds: float) -> Failure | None:
        case, params = mutant.seed.case, self._params(mutant.params)
        if params is None:
            return None
        case.watch = Watch(seconds, self._session.last_resort)
        self._error: Failure | None = None
        self._user_files = case.user_code.files
        files = None if self.task.workspace is None else mutant.files
        call: Call | None
        try:
            with case.watch:
                inputs = replace(case.inputs, params=params, files=files, raw=None)
                conditions = replace(case.conditions, backwards=True) if mutant.backwards else None
                call = case.call_again(conditions, inputs=inputs, judged=True)
        except TimeLimitExceeded:
            call = None
        if case.watch.stuck is not None or call is None:
            stack = case.watch.stuck.stack if case.watch.stuck is not None else ()
            frames = [frame for frame in stack if frame.filename in self._user_files]
            where, key = _place(frames[-1] if frames else None)
            return Failure(_HANG, f"did not end within {case.watch.seconds:g} s{where}", f"hang{key}")
        failure = self._failure(call, mutant)
        if failure is None or call.workspace is None:
            return failure
        places = (str(call.workspace), "<workspace>"), (str(call.workspace.parent), "<attempt>")
        texts = [failure.summary, failure.detail]
        for place, name in places:  # another one for each call
            texts = [text.replace(place, name) for text in texts]
        return replace(failure, summary=texts[0], detail=texts[1])

    def _failure(self, call: Call, mutant: Mutant) -> Failure | None:
        outside = [path for path in call.audit.outside if path not in mutant.seed.outside]
        for path in call.outside_files:
            if path in outside and path.is_file() and not path.is_symlink():
                path.unlink()
        if outside:
            names = ", ".join(sorted(path.name for path in outside)[:3])
            return Failure(_OUTSIDE, f"a file is written outside of the workspace ({names})", "writes outside")
        if mutant.backwards:
            return self._order_dependence(call.output, mutant)
        if isinstance(call.ended, Raised):
            if call.ended.kind == "error":
                return self._error or Failure(_RAISED, call.ended.message.partition("\n")[0], call.ended.message)
            self.tally.declined += 1
            return None
        if call.output.problem:
            problem = call.output.problem.partition("\n")[0].removeprefix("Invalid result: ")
            return Failure(_WRONG, f"the result is not valid: {problem}", "invalid result")
        if call.violated:
            rules = ", ".join(str(finding.rule) for finding in call.violated)
            return Failure(_WRONG, call.violated[0].message, f"post {rules}")
        return self._silent_change(call.output.result, mutant)

    def _order_dependence(self, output: Output, mutant: Mutant) -> Failure | None:
        """Compare the output with those of two calls whose directories are listed forwards."""
        case = mutant.seed.case
        inputs = replace(case.inputs, files=mutant.files, raw=None)
        first, second = (case.call_again(inputs=inputs).output for _ in range(2))
        if first != second or first.problem or first == output:
            return None
        effect = output.problem or first.named(output)
        summary = f"the output depends on the order in which directories are listed: {effect}"
        return Failure(_SILENT, summary, CHANGED_BY_LISTING)

    def _silent_change(self, result: Any, mutant: Mutant) -> Failure | None:
        """Compare the result with that of the seed, if the mutation leaves the data as they are."""
        if mutant.mutation is None or not is_neutral(mutant.label, mutant.path) or mutant.path not in mutant.files:
            return None
        expected = self._result_of(mutant.seed)
        sizes = len(mutant.seed.files[mutant.path]), len(mutant.files[mutant.path])
        changed = changed_value(expected[0], result, sizes) if expected is not None else None
        if changed is None:
            return None
        pointer, before, after = (text if isinstance(text, str) else repr(text) for text in changed)
        summary = f"the result changes without an error: {pointer} was {before[:_SHORT]}, is {after[:_SHORT]}"
        return Failure(_SILENT, summary, f"{CHANGED_RESULT} {pointer}")

    def _result_of(self, seed: Seed) -> tuple[Any] | None:
        """The result for the input of a seed; None if two calls have different results."""
        if id(seed) not in self._results:
            outputs = []
            for _ in range(2):
                seed.case.watch = Watch(self._limit(seed), self._session.last_resort)
                with suppress(TimeLimitExceeded), seed.case.watch:
                    inputs = replace(seed.case.inputs, files=seed.files, raw=None)
                    outputs.append(seed.case.call_again(inputs=inputs).output)
            is_steady = len(outputs) == 2 and outputs[0].result == outputs[1].result and not outputs[0].problem
            self._results[id(seed)] = (outputs[0].result,) if is_steady else None
        return self._results[id(seed)]

    def _keep(self, error: BaseException) -> None:
        """Remember where the function raised, while its frames exist."""
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if frame.filename in getattr(self, "_user_files", ())]
        where, key = _place(own[-1] if own else None)
        is_library = bool(own) and frames[-1] is not own[-1]
        shown, text = [*own, *(frames[-1:] if is_library else [])], traceback.format_exception_only(error)
        message = text[-1].strip().partition("\n")[0][:_LONGEST]
        rank, detail = _LIBRARY if is_library else _RAISED, "".join([*traceback.format_list(shown), *text])
        self._error = Failure(rank, f"{message}{where}", f"{type(error).__name__}{key}", detail)


_DRAWS = 60
"""Number of random combinations, of which the one with the most new pairs of labels is tried."""
_LEAST_DRAWS, _DRAWS_PER_DISCOVERY = 60, 20
"""Combinations that are tried in any case, and after one that runs a new line or fails."""
SMALLEST = "smallest-tree"
"""The label of the input that the guardrails alone describe."""
_LONERS = (
    SMALLEST,
    "optional-file-gone",
    "one-file-only",
    "empty-file",
    "header-only",
    "zero-rows",
    "wrong-magic",
    "empty-object",
    "other-text",
)
"""Mutations after which no other mutation applies, and one that adds nothing to `unicode`."""


def _second_files(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return a second file, with the rows in another order and another number of them, next to each table or text."""
    added = {}
    for path, content in files.items():
        file, lines = PurePosixPath(path), content.splitlines(keepends=True)
        if file.suffix.lower() in (*CSV, *LINES, ".txt") and len(lines) > 1:
            head, rows = (lines[:1], lines[:0:-1]) if file.suffix.lower() in CSV else ([], lines[::-1])
            rows = rows[:-1] or rows * 2
            added[str(file.with_name(f"{file.stem}-2{file.suffix}"))] = b"".join([*head, *rows])
    return added


@contextmanager
def _lines_of(files: Collection[str], lines: set[tuple[str, int]]) -> Iterator[None]:
    """Add the lines of these files that run in the block, unless a debugger or a coverage tool traces."""
    if sys.gettrace() is not None:
        yield
        return

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename not in files:
            return None
        if event == "line":
            lines.add((frame.f_code.co_filename, frame.f_lineno))
        return trace

    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(None)


def _pairs(labels: Iterable[str]) -> set[tuple[str, str]]:
    return set(itertools.combinations(sorted(labels), 2))


CHANGED_RESULT = "other result"
"""The beginning of the key of a finding about a result that changes although the mutation is neutral."""

CHANGED_BY_LISTING = f"{CHANGED_RESULT} of another listing"

_CRASH, _HANG, _OUTSIDE, _WRONG, _SILENT, _RULE, _RAISED, _LIBRARY = range(8)


def _of_rule(defect: Finding) -> Failure:
    name = (defect.detail or defect.message).strip().rpartition("\n")[2].partition(":")[0]
    return Failure(_RULE, defect.message, f"guardrail {defect.rule} {name}", defect.detail or "")


def _place(frame: traceback.FrameSummary | None) -> tuple[str, str]:
    """Describe a line for people, and for a key that survives edits above the line."""
    if frame is None:
        return "", ""
    line = (frame.line or linecache.getline(frame.filename, frame.lineno or 0)).strip()
    return f" at {Path(frame.filename).name}:{frame.lineno}", f" in {frame.name}: {line}"
