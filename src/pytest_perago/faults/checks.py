"""The checks of one case. Each changes one thing, and compares with the first call."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from perago.driver import Interrupted
from perago.driver.processes import named
from perago.driver.scratch import what_to_do
from perago.guardrails.evaluation import Phase, evaluate
from perago.workspace.scan import scan_tree
from perago.workspace.text import listing, quoted
from pytest_perago.faults.conditions import MUCH_LATER, MUCH_SLOWER, Conditions
from pytest_perago.faults.matrix import Matrix
from pytest_perago.faults.moments import Moments, choose, end
from pytest_perago.faults.play import Played
from pytest_perago.seen import Seen

_MOST_CANCELLED = 8
_OTHER_SEEDS = (2, 3, 4)
"""Three of a kind are shuffled alike by all of them once in 216 times."""
_SLOW = 1.0
"""Seconds of a call from which on it is cancelled at two moments only."""
_GRACE = 30.0
"""Seconds that a worker gives a function to end, unless PERAGO_SHUTDOWN_GRACE says otherwise."""
_TIME = re.compile(rb"\d\d:\d\d:\d\d|\b20\d\d-?[01]\d-?[0-3]\d|\b1[789]\d{8}(\.\d+|\d{3,9})?\b")
_FEW = 5


def repeated(matrix: Matrix) -> None:
    """The same call in the same process leaves the same."""
    base, second = matrix.base.seen, matrix.play(forget=False).seen
    changes = matrix.memory.changes()
    if base == second:
        return
    again = matrix.again.seen
    if again == base and changes:
        raise matrix.failed(
            f"the second call in the same process leaves something else: {base.named(second)}; the module keeps state "
            "between calls",
            ("state", "\n".join(changes)),
            *base.difference(second, "first call", "second call"),
        )
    raise matrix.failed(
        f"the same call again leaves something else: {base.named(second)}; {_reason(matrix, base, second)}",
        *base.difference(second, "first call", "second call"),
        ("fix", "a retry has to leave the same; see docs/testing/faults.md for what makes calls differ"),
    )


def _reason(matrix: Matrix, base: Seen, second: Seen) -> str:
    """Why two calls differ though clock, chance, order of listings and of threads were the same."""
    outside = matrix.base.audit.outside
    changed = [base.files[key] for key in base.changed(second)] + [repr(base.result).encode()]
    if outside:
        return f"it writes {_shown(outside)}, which outlives the attempt"
    if matrix.base.workspace and any(os.fsencode(matrix.base.workspace.parent) in text for text in changed):
        return "it writes the path of its workspace, which is another one for each attempt"
    if matrix.base.threads.number:
        return "its threads race, perhaps"
    if any(_TIME.search(text) for text in changed):
        return "it writes the time, by what it looks like"
    return "neither clock nor random numbers nor the order of listings, which were the same, is the reason"


def _steady(matrix: Matrix) -> Seen:
    """What the function leaves each time.

    Raises:
        pytest.skip.Exception: it is something else each time, so that nothing can be compared.
    """
    base = matrix.base.seen
    if matrix.again.seen != base:
        pytest.skip("two calls under the same conditions differ: the test `repeated` says so")
    return base


def _same_under(matrix: Matrix, conditions: Conditions, changed: str, fix: str) -> None:
    base = _steady(matrix)
    other = matrix.play(conditions).seen
    if other != base:
        if matrix.play().seen != base:
            pytest.skip("calls under the same conditions differ: the test `repeated` says so")
        words = f"it fails: {other.problem}" if other.problem else f"it leaves something else: {base.named(other)}"
        raise matrix.failed(f"{changed} {words}", *base.difference(other, "before", "after"), ("fix", fix))


def time_of_day(matrix: Matrix) -> None:
    """The result does not depend on when the function runs."""
    _steady(matrix)
    if "time" in matrix.base.used:
        fix = "take the time from the params, so that a retry leaves the same"
        _same_under(
            matrix,
            replace(matrix.conditions, moment=MUCH_LATER, tick=MUCH_SLOWER),
            "the function depends on the time; at another moment",
            fix,
        )


def random_numbers(matrix: Matrix) -> None:
    """The result does not depend on chance."""
    _steady(matrix)
    for seed in _OTHER_SEEDS if "random" in matrix.base.used else ():
        fix = "seed the generator with a constant or from the params"
        _same_under(
            matrix, replace(matrix.conditions, seed=seed), "the function depends on random numbers; with others", fix
        )


def listing_order(matrix: Matrix) -> None:
    """The result does not depend on the order in which directories are listed."""
    _steady(matrix)
    if "listing" not in matrix.base.used:
        return
    conditions = replace(matrix.conditions, backwards=True)
    fix = "sort what listdir, glob, iterdir, walk and scandir return: no file system promises an order"
    _same_under(
        matrix,
        conditions,
        "the function depends on the order in which directories are listed; in another one",
        fix,
    )


def thread_timing(matrix: Matrix) -> None:
    """The result does not depend on which thread is first."""
    _steady(matrix)
    number = matrix.base.threads.number
    for swapped in (1, 2) if number and matrix.conditions.ordered else ():
        conditions = replace(matrix.conditions, swapped=swapped, threads=number)
        fix = "collect results in the order of the inputs (Executor.map), not in that of their arrival"
        _same_under(matrix, conditions, "the function depends on which of its threads is first; in another order", fix)


def set_order(matrix: Matrix) -> None:
    """The result does not depend on the order of sets, which is another one in each process."""
    _steady(matrix)
    if not matrix.author.uses_sets:
        return
    from pytest_perago.faults.processes import play_elsewhere

    first, *others = play_elsewhere(matrix)
    for other in others:
        if first != other:
            raise matrix.failed(
                "the function depends on the order of a set or on `hash`, which are others in each process; it leaves "
                f"something else: {first.named(other)}",
                *first.difference(other, "one process", "another"),
                ("fix", "sort the set before anything is made of it"),
            )


# ------------------------------------------------------------------------------ what is left behind


def left_behind(matrix: Matrix) -> None:
    """No file in the current or the temporary directory, no process."""
    base = matrix.base
    if base.processes:
        raise matrix.failed(
            f"the function left processes running: {named(base.processes)}",
            ("fix", "wait for them in the function, or end them: a worker kills them"),
        )
    roots = {os.path.realpath(place) for place in ("/tmp", "/var/tmp", "/dev/shm", tempfile.gettempdir())}  # noqa: S108
    beside = [str(path) for path in base.beside if _is_in(path, roots)]
    remove = "remove them in a `finally`, or use `with`"
    places = (
        ("its current directory", base.in_current, what_to_do(matrix.task)),
        ("its temporary directory", base.in_temporary, remove),
        (
            "the system's temporary directory",
            beside,
            f"use `tempfile`, whose directory goes with the attempt, and {remove}",
        ),
    )
    for place, left, fix in places:
        if left:
            raise matrix.failed(
                f"the function left files in {place}: {listing([quoted(path) for path in left])}", ("fix", fix)
            )


def _is_in(path: Path, roots: set[str]) -> bool:
    return any(path.is_relative_to(root) for root in roots)


# ------------------------------------------------------------------------- what happens in the middle


def cancelled(matrix: Matrix) -> None:
    """The function ends when the attempt is cancelled, wherever that meets it."""
    base = matrix.base
    most = _MOST_CANCELLED if base.seconds < _SLOW else 2
    for number in choose(base.moments.places, most):
        moments = Moments(matrix.author, at=number, happen=end)
        with matrix.tidying():
            played = matrix.play(moments=moments)
        if moments.met is None or any(isinstance(each, Interrupted) for each in moments.dropped):
            continue
        where = f"{os.path.relpath(moments.met[0], Path(matrix.task.file).parent)}:{moments.met[1]}"
        if played.seconds - base.seconds > _GRACE:
            raise matrix.failed(
                f"cancelled at {where}, the function went on for {played.seconds - base.seconds:.0f} s; a worker kills "
                f"its process after {_GRACE:g} s"
            )
        if not played.seen.problem and not played.looked and _went_on(played, base):
            raise matrix.failed(
                f"cancelled at {where}, the function took no notice, and went on to its end",
                (
                    "why",
                    "a worker raises an exception there that is no `Exception`; a bare `except:`, `except "
                    "BaseException` or a signal handler of the function swallowed it",
                ),
                ("fix", "catch `Exception`, or raise again what is none; clean up in `finally`"),
            )


def _went_on(played: Played, base: Played) -> bool:
    """Whether it did not end early. A handler of its own may have told it to, and then it leaves less."""
    return played.seen == base.seen or not played.moments.handled


def full_disk(matrix: Matrix) -> None:
    """Where nothing can be written any more, the function does not complete with less."""
    base = _steady(matrix)
    writes = matrix.base.audit.writes
    for number in sorted({0, writes - 1} if writes else ()):
        violated: list[str] = []
        look = partial(_add_violated, matrix, violated)
        with matrix.tidying():
            seen = matrix.play(full_from=number, look=look).seen
        if not seen.problem and seen != base and not violated:
            raise matrix.failed(
                f"the disk was full, and the function completed all the same, with something else: {base.named(seen)}",
                *base.difference(seen, "before", "full disk"),
                ("fix", "let the OSError through, or add a post guardrail that misses the file"),
            )


def _add_violated(matrix: Matrix, violated: list[str], root: Path | None) -> None:
    if matrix.task.workspace is not None and root is not None:
        tree = scan_tree(root)
        found = evaluate(matrix.task.workspace.post, tree.listing, phase=Phase.POST, disk=tree)
        violated += [finding.message for finding in found if not finding.satisfied]


def own_output(matrix: Matrix) -> None:
    """On a tree that holds what it published before, the function does not append to that."""
    base = _steady(matrix)
    before = matrix.given.files or {}
    if matrix.task.workspace is None or matrix.task.workspace.read_only:
        return
    played = matrix.play(given=replace(matrix.given, files=base.files)).seen
    grown = [
        path
        for path, content in base.files.items()
        if path not in before and content and _is_longer(played.files.get(path, b""), content)
    ]
    if grown and not played.problem:
        raise matrix.failed(
            f"run again on what it has published, the function appends to its own output: {', '.join(grown[:_FEW])}",
            *base.difference(played, "first run", "on its output"),
            ("fix", "write the file anew: open it with mode 'w'"),
        )


def _is_longer(new: bytes, old: bytes) -> bool:
    return len(new) > len(old) and new.startswith(old)


def _shown(paths: list[Path]) -> str:
    more = f" and {len(paths) - _FEW} more" if len(paths) > _FEW else ""
    return ", ".join(map(str, paths[:_FEW])) + more


def retried(matrix: Matrix) -> None:
    """A retry, a rerun and a restart publish the same; see `pytest_perago.faults.story`."""
    _steady(matrix)
    from pytest_perago.faults.story import play_story

    play_story(matrix)


CHECKED: Mapping[str, Callable[[Matrix], None]] = {
    "repeated": repeated,
    "time": time_of_day,
    "random": random_numbers,
    "listing-order": listing_order,
    "set-order": set_order,
    "thread-timing": thread_timing,
    "retried": retried,
    "own-output": own_output,
    "cancelled": cancelled,
    "full-disk": full_disk,
    "left-behind": left_behind,
}
"""By the names of `pytest_perago.kinds.faults.CHECKS`."""
