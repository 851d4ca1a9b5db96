"""In which order an attempt may call: the delivery check and the look come before what cannot be taken back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from .attempts import Attempt, Call

_LATE = 2.0
_LATE_ANSWERS = 2
_MERGES = 3


def badly_asked(attempt: Attempt) -> Iterator[str]:
    """What it sent without the right to."""
    journal = attempt.journal
    for index, call in enumerate(journal):
        before = journal[:index]
        if call.operation == "is_current" and call.outcome == "no":
            later = {each.operation for each in journal[index + 1 :]} - {"delete_branch"}
            if later:
                yield f"after the delivery check said no: {sorted(later)}"
        elif call.operation == "create_branch":
            while before and before[-1].operation in ("create_branch", "get_commit"):
                before = before[:-1]
            yield from _confirmed(call, before)
        elif call.operation == "report":
            yield from _confirmed(call, before)
        elif call.operation == "merge":
            yield from _looked(before)
        elif call.operation == "delete_branch":
            is_known = any(each.outcome == "yes" or each.operation == "create_branch" for each in before)
            if not is_known:
                yield "a branch of others is removed without the delivery check"
    sent = Counter(call.argument for call in journal if call.operation == "merge")
    if any(number > _MERGES for number in sent.values()):
        yield f"{max(sent.values())} merges of one commit"


def _confirmed(call: Call, before: Sequence[Call]) -> Iterator[str]:
    if not before or before[-1].outcome != "yes":
        yield f"{call.operation} without the delivery check"
    elif _is_old(before, ("is_current",)):
        yield f"{call.operation} on an old answer of the delivery check"


def _looked(before: Sequence[Call]) -> Iterator[str]:
    if not before or before[-1].operation != "history":
        yield "a merge without a look at the branch"
        return
    asked = list(before)
    while asked and asked[-1].operation == "history":
        asked.pop()
    if not asked or asked[-1].outcome != "yes":
        yield "a merge without the delivery check"
    elif _is_old(before, ("is_current", "history")):
        yield "a merge on an old answer"


def _is_old(before: Sequence[Call], operations: Sequence[str]) -> bool:
    """Whether the newest answer came late, and it was not asked again as often as that is done."""
    if before[-1].answered - before[-1].sent <= _LATE:
        return False
    asked = []
    for call in reversed(before):
        if call.operation not in operations:
            break
        asked.append(call)
    late = sum(call.answered - call.sent > _LATE for call in asked)
    return late <= _LATE_ANSWERS
