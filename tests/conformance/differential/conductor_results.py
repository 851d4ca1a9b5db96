"""What a worker might say about an attempt."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

Json = dict[str, Any]

STATUSES = ("COMPLETED", "COMPLETED", "COMPLETED", "FAILED", "FAILED", "IN_PROGRESS", "FAILED_WITH_TERMINAL_ERROR")
RARE_STATUSES = ("CANCELED", "TIMED_OUT", "completed")
NOWHERE = "00000000-0000-4000-8000-000000000000"
"""The id of nothing."""

outputs = st.sampled_from(({}, {"n": 1}, {"n": 2, "x": None}, {"n": {"deep": [1.0, "ü"]}}))

UNUSUAL: tuple[Json, ...] = (
    {"status": None},
    {"taskId": None},
    {"workflowInstanceId": None},
    {"workerId": None},
    {"outputData": None},
    {"taskId": NOWHERE},
    {"extendLease": True},
    {"callbackAfterSeconds": -1},
    {"logs": [{"log": "from the result", "createdTime": 5}]},
)
"""Members of a result that replace the usual ones; None leaves one out."""


def few(of: int) -> st.SearchStrategy[bool]:
    """True once in `of` times."""
    return st.integers(1, of).map(lambda number: number == of)


@st.composite
def results(draw: st.DrawFn, joined: bool) -> Json:
    """A result without its ids. A step that a JOIN waits for (`joined`) ends well, or not at all, and has no output yet
    while it runs."""
    status: str | None = draw(st.sampled_from((*STATUSES, *RARE_STATUSES)))
    if joined and status not in ("IN_PROGRESS", "TIMED_OUT", "completed"):
        status = "COMPLETED"
    output = draw(outputs)
    fields: Json = {"status": status, "outputData": {} if joined and status == "IN_PROGRESS" else output}
    if draw(few(2)):
        fields["reasonForIncompletion"] = draw(st.sampled_from(("boo", "", "x" * 600)))
    if draw(few(3)):
        fields["callbackAfterSeconds"] = 0
    if draw(few(4)):
        fields |= draw(st.sampled_from(UNUSUAL))
    return fields
