"""The checks of the kind `faults`. Each changes one thing, and compares with the first call.

The tree and the result are compared with those of the first attempt. The ids that a function can read from `current()`
are treated as equal, because they name the attempt.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from perago.authoring import Task
from perago.authoring.context import Current
from perago.driver import Interrupted, Raised, Returned
from perago.driver.function import what_to_do
from perago.ports import Unavailable, Unclear
from perago.testing.outcome import Outcome
from perago.testing.services import BRANCH, REPOSITORY, InMemoryServices
from perago.text import listing, quoted
from pytest_perago.attempts import FaultCase, Verdicts
from pytest_perago.conditions import MUCH_LATER, MUCH_SLOWER, Interruption, choose, end
from pytest_perago.confinement import leaving_no_process, signal_of_a_copy
from pytest_perago.kinds.run.checks import CONTROLS
from pytest_perago.machine import MACHINE, TIMES_OF_FILES
from pytest_perago.observation import Output

_OTHER = "perago-of-another-client"
_RERUN_DELAY = 1.0
_SLOW_SECONDS = 5.0
_DEATH_LIMIT = 10.0
"""Seconds after which a forked process is killed even if it has not reached the planned point of its death."""
_MOST_CANCELLED = 8
_OTHER_SEEDS = (2, 3, 4)
"""The chance that all seeds shuffle three items the same way is 1 in 216."""
_SLOW = 1.0
"""Duration of a call in seconds above which it is canceled at only two moments."""
_GRACE = 30.0
"""Seconds that a worker gives a function to end, unless PERAGO_SHUTDOWN_GRACE says otherwise."""
_TIME = re.compile(rb"\d\d:\d\d:\d\d|\b20\d\d-?[01]\d-?[0-3]\d|\b1[789]\d{8}(\.\d+|\d{3,9})?\b")
_ADDRESS = re.compile(rb"[\w.<> ]{0,40} at 0x[0-9a-f]{6,16}>?")
_LISTED = 5
_MOST_VERDICTS = 8
"""Times that a guardrail judges the same files again."""


def repeated(case: FaultCase) -> None:
    """Check that the same call in the same process has the same output."""
    base = case.first.output
    if case.first.audit.outside:
        case.call_again()  # the test of the first call has removed the files that it had left outside
    second = case.call_again(forget=False).output
    changes = case.memory.changes()
    _check_addresses(case)
    if base == second:
        _check_state_of_guardrails(case)
        _check_on_another_machine(case)
        return
    repeated = case.second.output
    if repeated == base and changes:
        raise case.failed(
            f"the second call in the same process has another output: {base.named(second)}; the module keeps state "
            "between calls",
            ("state", "\n".join(changes)),
            *base.difference(second, "first call", "second call"),
        )
    reason, fix = _reason(case, base, second)
    raise case.failed(
        f"the same call has another output the second time: {base.named(second)}; {reason}",
        *base.difference(second, "first call", "second call"),
        ("fix", fix),
    )


def _check_state_of_guardrails(case: FaultCase) -> None:
    """A guardrail of the author judges the same files the same way again."""
    base = case.verdicts()
    for _ in range(_MOST_VERDICTS):
        if (repeated := case.verdicts(forget=False)) != base:
            changes = case.memory.changes()
            raise case.failed(
                f"{_other_verdict(base, repeated)} again, because "
                + ("the module keeps state between calls" if changes else "something outlives the call"),
                ("state", "\n".join(changes)),
                ("fix", "let the guardrail judge the files alone: a worker runs many attempts in one process"),
            )


def _other_verdict(before: Verdicts, after: Verdicts) -> str:
    phase, rule = next(key for key, verdict in before.items() if after.get(key) is not verdict)
    first, then = ("accepts", "refuses") if before[phase, rule] else ("refuses", "accepts")
    return f"the {phase} guardrail {rule} {first} files, and {then} the same files"


def _check_on_another_machine(case: FaultCase) -> None:
    """Check that the output has no process id, host name or environment value, which differ in a retry."""
    base = case.first.output
    with tempfile.TemporaryDirectory(prefix="perago-home-") as directory:
        home = Path(directory, "another-home")
        home.symlink_to(Path.home(), target_is_directory=True)

        def output_with(parts: tuple[str, ...]) -> Output:
            return case.call_again(replace(case.conditions, machine=parts, home=str(home))).output

        elsewhere = output_with(MACHINE)
        if elsewhere == base or elsewhere.problem:  # it may need its process id, for a signal to itself
            return
        reasons = [part for part in MACHINE if output_with((part,)) != base] or MACHINE
        if case.call_again().output != base:
            return
    if TIMES_OF_FILES in reasons:  # those of the objects, so they are the same in a retry
        where, change = "for the same files, uploaded at another time,", "equal files can have other times"
    else:
        where, change = "on another machine", "a retry may run in another process on another machine"
    raise case.failed(
        f"the function depends on {' and '.join(reasons)}; {where} it has another output: {base.named(elsewhere)}",
        *base.difference(elsewhere, "here", "elsewhere"),
        ("fix", f"take it from the params, or leave it out: {change}"),
    )


def _check_addresses(case: FaultCase) -> None:
    """Check that the output has no memory address, unless the input has it. Python can reuse an address."""
    output, inputs = case.first.output, case.inputs
    known = b"".join([*(inputs.files or {}).values(), repr(inputs.params).encode()])
    texts = [("the result", repr(output.result).encode()), *sorted(output.files.items())]
    for name, text in texts:
        address = next((match for match in _ADDRESS.findall(text) if match not in known), None)
        if address is not None:
            raise case.failed(
                f"{name} contains the memory address of an object, which differs in each process",
                ("actual", f"...{address.decode(errors='replace')}"),
                ("fix", "write what identifies the object, such as its name, not its `repr`"),
            )


def _reason(case: FaultCase, base: Output, second: Output) -> tuple[str, str]:
    """Return why two calls differ although clock, random numbers, and the order of listings and threads were the
    same, and how to correct that."""
    outside = case.first.audit.outside
    changed = [base.files[key] for key in base.changed(second)] + [repr(base.result).encode()]
    if outside:
        files = listing(list(map(str, outside)), _LISTED)
        return f"it writes {files}, which outlives the attempt", "write to the workspace, or to a directory of tempfile"
    if case.first.workspace and any(os.fsencode(case.first.workspace.parent) in text for text in changed):
        return "it writes the path of its workspace, which differs in each attempt", "write path.relative_to(workspace)"
    if case.first.threads.number:
        return "its threads may race", "collect the results in the order of the input, as executor.map does"
    if any(_TIME.search(text) for text in changed):
        return "it seems to write the time", "take the time from the params, also in libraries and processes"
    outer = "a library, a process or the state of another module may differ"
    parts = [quoted(path) for path in sorted({path for path, _ in base.files.items() ^ second.files.items()})]
    parts += ["the result"] if base.result != second.result else []
    fix = f"give the call that makes {listing(parts, _LISTED)} a fixed seed, a sorted input or a fresh object"
    return f"{outer}: its own clock, random numbers and listings were the same", fix


def _steady(case: FaultCase) -> Output:
    """Compare the outcomes of two equal calls.

    Raises:
        pytest.skip.Exception: they differ, so that nothing can be compared.
    """
    base = case.first.output
    if case.second.output != base:
        pytest.skip("two calls under the same conditions differ, which the test `repeated` reports")
    return base


def _same_under(
    source: str, changes: Callable[[FaultCase], Iterable[Mapping[str, Any]]], changed: str, fix: str
) -> Callable[[FaultCase], None]:
    """Make the check that the function has the same outcome under other conditions.

    Args:
        source: what the function must have used, so that the conditions affect it.
        changes: the fields of the conditions that are changed, for each call.
        changed: what the function depends on, and where, in words.
        fix: how to remove the dependency.
    """

    def check(case: FaultCase) -> None:
        base, verdicts = _steady(case), case.verdicts()
        if source == "time":  # a guardrail that accepted in the attempt, but not on the clock of the tests
            verdicts = dict.fromkeys(verdicts, True)
        is_used = case.first.threads.number if source == "threads" else source in case.used
        for change in changes(case) if is_used else ():
            conditions = replace(case.conditions, threads=case.first.threads.number, **change)  # counts only if swapped
            call, judged = case.call_again(conditions), case.verdicts(conditions)
            other = call.output
            if judged != verdicts and judged == case.verdicts(conditions):
                raise case.failed(
                    f"{_other_verdict(verdicts, judged)}, because it depends on {changed.partition(':')[0]}",
                    ("fix", "let the guardrail judge the files alone: a retry judges them again, elsewhere and later"),
                )
            if other == base:
                continue
            repeated = case.call_again()
            if repeated.output != base:
                pytest.skip("calls under the same conditions differ, which the test `repeated` reports")
            varied = [name for name, value in repeated.params if getattr(call.params, name) != value]
            effect = f"it fails: {other.problem}" if other.problem else f"it has another output: {base.named(other)}"
            difference = base.difference(other, "before", "after")
            if varied:
                raise case.failed(
                    f"the default of the param {varied[0]} depends on {changed} {effect}",
                    *difference,
                    ("fix", "make the param required, so that the workflow has its value: a retry gets a new default"),
                )
            raise case.failed(f"the function depends on {changed} {effect}", *difference, ("fix", fix))

    return check


def set_order(case: FaultCase) -> None:
    """Check that the output does not depend on the order of sets, which differs in each process."""
    _steady(case)
    if not case.user_code.uses_sets:
        return
    (first, verdicts), *others = case.outputs_of_other_processes()
    for other, judged in others:
        if verdicts != judged:
            raise case.failed(
                f"{_other_verdict(verdicts, judged)} in another process, because it depends on the order of a set",
                ("fix", "sort the set, or compare sets as such"),
            )
        if first != other:
            raise case.failed(
                "the function depends on the order of a set or on `hash`, which differ in each process; it has "
                f"another output: {first.named(other)}",
                *first.difference(other, "one process", "another"),
                ("fix", "sort the set before you use it"),
            )


# ------------------------------------------------------------------------------ what is left behind


def left_behind(case: FaultCase) -> None:
    """Check that the function leaves no files, processes or threads."""
    base = case.first
    if base.running:
        raise case.failed(
            f"the function returned while its threads were running: {listing(base.running, 5)}",
            ("why", "whether a file that a thread writes after that is published depends on chance"),
            ("fix", "join the threads before the function returns, or use a ThreadPoolExecutor with `with`"),
        )
    if base.processes:
        raise case.failed(
            f"the function left processes running: {listing(list(base.processes), 5)}",
            ("fix", "wait for them in the function, or end them, because a worker kills them"),
        )
    roots = {os.path.realpath(place) for place in ("/tmp", "/var/tmp", "/dev/shm", tempfile.gettempdir())}  # noqa: S108
    outside = [str(path) for path in base.outside_files if any(map(path.is_relative_to, roots))]
    remove = "remove them in a `finally`, or use `with`"
    use = "use `tempfile`, whose directory is removed with the attempt, and"
    places = (
        ("its current directory", base.in_current, what_to_do(case.task)),
        ("its temporary directory", base.in_temporary, remove),
        ("a directory outside its workspace", outside, f"{use} {remove}"),
    )
    for place, left, fix in places:
        if left:
            raise case.failed(
                f"the function left files in {place}: {listing([quoted(path) for path in left])}", ("fix", fix)
            )


# ------------------------------------------------------------------------- what happens in the middle


def cancelled(case: FaultCase) -> None:
    """Check that the function ends when the attempt is canceled, at any moment."""
    base = case.first
    most = _MOST_CANCELLED if base.seconds < _SLOW else 2
    for number in choose(base.interruption.calls, most):
        interruption = Interruption(case.user_code, at=number, act=end)
        with case.removing_files_outside():
            call = case.call_again(interruption=interruption)
        if interruption.place is None or any(isinstance(error, Interrupted) for error in interruption.dropped):
            continue
        where = f"{os.path.relpath(interruption.place[0], Path(case.task.file).parent)}:{interruption.place[1]}"
        if call.seconds - base.seconds > _GRACE:
            raise case.failed(
                f"canceled at {where}, the function continued for {call.seconds - base.seconds:.0f} s; a worker kills "
                f"its process after {_GRACE:g} s"
            )
        # A handler of the function may have made it end early, and then its output is smaller.
        went_on = call.output == base.output or not interruption.handled
        if went_on and not call.output.problem and not call.cancellation_checks:
            swallowed = "a bare `except:`, `except BaseException` or a signal handler of the function swallowed it"
            raise case.failed(
                f"canceled at {where}, the function ignored it and ran to its end",
                ("why", f"a worker raises an exception there that does not inherit from `Exception`; {swallowed}"),
                ("fix", "catch `Exception`; let everything else propagate; clean up in `finally`"),
            )


def full_disk(case: FaultCase) -> None:
    """Check that the function does not complete with less if nothing can be written."""
    base = _steady(case)
    writes = case.first.audit.writes
    for number in sorted({0, writes - 1} if writes else ()):
        with case.removing_files_outside():
            call = case.call_again(full_from=number, judged=True)
        output = call.output
        if not output.problem and output != base and not call.violated:
            raise case.failed(
                "the disk was full, but the function completed, with another output: " + base.named(output),
                *base.difference(output, "before", "full disk"),
                ("fix", "let the OSError propagate, or add a post guardrail that requires the file"),
            )


def own_output(case: FaultCase) -> None:
    """Check that the function does not append to its earlier output in the tree."""
    base = _steady(case)
    before = case.inputs.files or {}
    if case.task.workspace is None or case.task.workspace.read_only:
        return
    output = case.call_again(inputs=replace(case.inputs, files=base.files)).output
    written = {path: content for path, content in base.files.items() if content and path not in before}
    grown = [path for path, content in written.items() if _has_grown(content, output.files.get(path, b""))][:_LISTED]
    if grown and not output.problem:
        raise case.failed(
            f"run again on its own publication, the function appends to its earlier output: {', '.join(grown)}",
            *base.difference(output, "first run", "on its output"),
            ("fix", "overwrite the file: open it with mode 'w', or remove it first"),
        )


_DATABASE = b"SQLite format 3\x00"


def _has_grown(content: bytes, now: bytes) -> bool:
    """Whether a file begins with its earlier content and has more, or is a database with more rows than before."""
    if content.startswith(_DATABASE) and now.startswith(_DATABASE):
        return _rows(now) > _rows(content)
    return len(now) > len(content) and now.startswith(content)


def _rows(content: bytes) -> int:
    """Return the number of rows in all tables of an SQLite database; 0 if it cannot be read."""
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(":memory:")) as database:
        database.deserialize(content)
        names = [name for (name,) in database.execute("select name from sqlite_master where type = 'table'")]
        quoted_names = [name.replace('"', '""') for name in names]
        return sum(database.execute(f'select count(*) from "{name}"').fetchone()[0] for name in quoted_names)  # noqa: S608
    return 0


# ------------------------------------------------------------------------ deaths, retries and reruns


def retried(case: FaultCase) -> None:
    """Check that a redelivery, a retry, a rerun and a restart all end with the same publication.

    Raises:
        CaseFailed: an attempt ended differently, or with another result or tree, than the first one.
        RuntimeError: the runtime broke its own promise.
    """
    _steady(case)
    audit, number = case.first.audit, len(case.first.interruption.calls)
    first = audit.first_outside if audit.outside else number // 2
    deaths = {first, (first + number - 1) // 2, number - 1} if audit.outside else {first}
    for index, at in enumerate(sorted(deaths)):
        retries = _Retries(case)
        controls = {**CONTROLS, "retryCount": 3}
        with case.removing_files_outside(), case.started(retries.call, controls) as services:
            retries.kill_and_retry(services, at)
            if not index:
                retries.rerun_and_restart(services)


class _Retries:
    """Attempts of one workflow of the task."""

    def __init__(self, case: FaultCase) -> None:
        self._case = case
        self._task = case.task
        self._death: tuple[int, Callable[[], None]] | None = None
        """The call of user code at which the worker dies, and the function that makes the services notice
        it."""
        self._other_client: Callable[[], object] = lambda: None
        """The change by another client while the function runs."""

    def kill_and_retry(self, services: InMemoryServices, at: int) -> None:
        """Let the worker die in the middle of the function. The retry meets slow and failing servers, loses its report,
        and is delivered again."""
        if self._case.first.interruption.calls:
            self._death = (at, lambda: services.interruptions.plan("lose", None, 1))
            record = services.run_delivery(self._task, services.take(self._task))
            self._death = None
            if record.report is not None:
                services.report(record)
                return  # the function ended before
        delivery = services.conductor.next_delivery(self._task.name)
        if self._task.workspace is not None:
            _disturb(services)
        lost = services.attempt(self._task.function, delivery, report=False)
        self._check(services, lost, "retried after its worker was killed")
        services.conductor.hand_back(delivery)
        repeated = services.attempt(self._task.function)
        self._check(services, repeated, "delivered again after its report was lost")

    def rerun_and_restart(self, services: InMemoryServices) -> None:
        """Rerun and restart the workflow; then let another client commit while the function runs."""
        conductor = services.conductor
        (workflow_id,) = conductor.workflow_ids()
        for word, ask in (("rerun", conductor.rerun_workflow), ("restarted", conductor.restart_workflow)):
            conductor.advance(_RERUN_DELAY)
            ask(workflow_id)
            self._check(services, services.attempt(self._task.function), f"{word} by an operator")
        spec = self._task.workspace
        if spec is None or spec.read_only:
            return
        key = f"{_OTHER}/file"
        conductor.advance(_RERUN_DELAY)
        conductor.restart_workflow(workflow_id)
        self._other_client = lambda: services.lakefs.seed(REPOSITORY, BRANCH, {key: "1"}, message="from outside")
        services.run_delivery(self._task, services.take(self._task))
        if services.tree().get(key) != b"1":
            raise RuntimeError(f"another client's commit was lost; the branch has {sorted(services.tree())}")

    def call(self, _: Task, workspace: Path | None, params: BaseModel, current: Current) -> Returned | Raised:
        """Call the function under the conditions of the first call."""
        case = self._case
        case.memory.restore()
        at, lose = self._death or (None, None)
        audit = case.first.audit
        if lose is not None and (audit.outside or audit.starts_processes):
            dying = Interruption(case.user_code, at=at, act=lambda: os.kill(os.getpid(), signal.SIGKILL))
            with leaving_no_process():
                signal_of_a_copy(lambda: case.call(workspace, params, current, interruption=dying), _DEATH_LIMIT)
            lose()
        interruption = Interruption(case.user_code, at=at, act=lose) if lose else None
        ended = case.call(workspace, params, current, raw=case.inputs.raw, interruption=interruption).ended
        self._other_client()
        return ended

    def _check(self, services: InMemoryServices, outcome: Outcome, step: str) -> None:
        """Check that the attempt completed, and that the branch contains the first publication."""
        case, record = self._case, outcome._record
        output = case.published_without_ids(services, record)
        outside = ("outside", "\n".join(map(str, case.first.audit.outside)))
        if output is None:
            reason = f"{record.report.status}: {record.report.reason}" if record.report else record.lost_reason
            raise case.failed(f"{step}, the attempt does not complete", ("actual", str(reason)), outside)
        first = case.first_output
        if first is not None and output != first:
            raise case.failed(
                f"{step}, the attempt has another output: {first.named(output)}",
                *first.difference(output, "first attempt", "this attempt"),
                outside,
            )


def _disturb(services: InMemoryServices) -> None:
    """Make the next calls slow, let them fail, or lose their answers, each once."""
    script = services.faults

    def following(operation: str) -> int:
        return script.calls(operation) + 1

    for operation in ("download", "upload", "get_commit"):
        script.before(operation, nth=following(operation), error=Unavailable)
    for operation in ("commit", "merge"):
        script.after(operation, nth=following(operation), error=Unclear)
    for operation in ("history", "is_current"):
        script.delay(operation, nth=following(operation), seconds=_SLOW_SECONDS)


CHECKED: Mapping[str, Callable[[FaultCase], None]] = {
    "repeated": repeated,
    "time": _same_under(
        "time",
        lambda _: [{"start": MUCH_LATER, "tick": MUCH_SLOWER}],
        "the time: at another time",
        "take the time from the params, so that a retry has the same output",
    ),
    "random": _same_under(
        "random",
        lambda _: [{"seed": seed} for seed in _OTHER_SEEDS],
        "random numbers: with other numbers",
        "seed the generator with a constant or from the params",
    ),
    "listing-order": _same_under(
        "listing",
        lambda _: [{"backwards": True}],
        "the order of directory listings: in another order",
        "sort what listdir, glob, iterdir, walk and scandir return, because no file system promises an order",
    ),
    "set-order": set_order,
    "thread-timing": _same_under(
        "threads",
        lambda case: [{"swapped": 1}, {"swapped": 2}] if case.conditions.ordered else [],
        "the order of its threads: in another order",
        "collect results in the order of the inputs (Executor.map), not in the order of their arrival",
    ),
    "retried": retried,
    "own-output": own_output,
    "cancelled": cancelled,
    "full-disk": full_disk,
    "left-behind": left_behind,
}
"""The checks by the names in `pytest_perago.kinds.faults.CHECKS`."""
