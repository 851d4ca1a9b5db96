"""Compare an outcome with the one that `perago capture` recorded, or record it again."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from perago.testing.cases import Record, RunCase, read_recorded_case, write_outcome
from perago.testing.differences import AttemptResult, Content, differences
from perago.testing.tasks import CaseFailed, Cause
from pytest_perago.session import Session

_MOST_LINES = 80


def compare_with_record(
    session: Session,
    case: RunCase,
    record: Record,
    now: AttemptResult,
    tree: Mapping[str, Content],
    again: Callable[[], AttemptResult],
) -> RunCase:
    """Compare the outcome with the record, or update the record. Return the case with the current record.

    Args:
        session: whether to record again.
        case: the case of the record.
        record: the recorded outcome.
        now: today's outcome.
        tree: the input files of both.
        again: runs the case once more, to find out what differs by itself.

    Raises:
        CaseFailed: the outcome differs, and must not be recorded.
    """
    found = differences(record.expected(now), now, tree)
    if not found:
        return case
    settings = session.settings
    directory = settings.shown(record.directory)
    by_itself = differences(now, again(), tree).summary
    kinds = {reason.partition(":")[0] for reason in (record.reason, now.reason)}
    if by_itself and record.ending == now.ending != "completed" and len(kinds) == 1:
        return case  # the same exception, with another message in each run
    if settings.update == "all" and not by_itself:
        try:
            write_outcome(record.directory, now)
        except OSError as error:
            summary = f"the case cannot be written: {error.strerror}"
            raise CaseFailed(Cause.CONTRACT, summary, facts=[("case", directory)]) from None
        session.add_snapshot(f"updated {directory}")
        return read_recorded_case(record.directory)[0]
    lines = list(found.lines())
    if len(lines) > _MOST_LINES:
        lines = [*lines[:_MOST_LINES], f"… and {len(lines) - _MOST_LINES:,} more lines"]
    facts = [("case", directory), ("differs", "\n".join(lines))]
    if by_itself:
        facts += [("by itself", "\n".join(by_itself))]
        summary = f"case {case.label!r}: the function is not deterministic: two runs on one input also differ"
        facts += [("fix", "do not let times, random numbers or the order of sets and listings affect the output")]
    else:
        summary = f"case {case.label!r}: the outcome differs from the record"
        facts += [("accept", session.rerun_command("--perago-update=all"))]
    raise CaseFailed(Cause.CONTRACT, summary, facts=facts)
