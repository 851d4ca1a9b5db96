"""The state diagram of docs/dev/protocol.md, drawn from the table of transitions.

    python -m tests.attempt.diagram

The table says which event can happen at which step; where it leads is found by going every way through it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from perago.attempt import history, outcome, protocol
from perago.attempt.outcome import advance_report, begin_report
from perago.attempt.protocol import begin
from perago.attempt.state import Step
from perago.ports import Report, TaskStatus

from .builders import PLAN
from .exploring import BEGUN_AGAIN, OFF, READ_ONLY, REBASE, REQUIRED, RETRY, Visit, every_visit

PAGE = Path(__file__).parents[2] / "docs" / "dev" / "protocol.md"
DRAWING = ("<!-- drawn by `python -m tests.attempt.diagram`: -->", "<!-- end of the drawing -->")
ENDINGS = (Step.FAILED, Step.LOST)

PLANS = ((PLAN, 1), (RETRY, 0), (READ_ONLY, 1), (REQUIRED, 0), (OFF, 0), (BEGUN_AGAIN, 0), (REBASE, 1))

Edge = tuple[Step, str, Step]


def explored() -> list[Visit]:
    """An attempt that may build its publication again once: a first one, and one of a task that only reads. A retry and
    the first attempts with the other policies for the publish fence build once only."""
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outcome, "LATE_ANSWERS", 1)
        patch.setattr(history, "STARTING_REREADS", 1)
        for plan, tries in PLANS:
            if plan.rebase:  # has so many ways by itself that what all plans share is kept short
                patch.setattr(outcome, "LATE_ANSWERS", 0)
                patch.setattr(protocol, "MERGE_TRIES", 1)
            found += every_visit(Visit(*begin(replace(plan, rebuild_tries=tries, most_waits=1))))
    return found


def explored_report() -> list[Visit]:
    """The report, which another process may send."""
    return every_visit(Visit(*begin_report(Report(TaskStatus.COMPLETED))), advance_report)


def edges(visits: Iterable[Visit]) -> set[Edge]:
    """Every step, what can happen there, and the step that it leads to."""
    return {(visit.source, type(visit.answers[0]).__name__, _reached(visit)) for visit in visits if visit.source}


def _reached(visit: Visit) -> Step:
    """Where the last event led: an attempt that fails before it has made anything has nothing to clean up, and passes
    through `failed` at once."""
    target, report = visit.state.step, visit.state.report
    is_failure = report is not None and report.status is not TaskStatus.COMPLETED
    leaps = target is Step.CLEANED and visit.source not in (Step.CLEANED, *ENDINGS)
    return Step.FAILED if leaps and is_failure else target


def drawn(found: set[Edge]) -> str:
    """A Mermaid diagram of the moves, and a sentence for each of the two ways out that lead from nearly everywhere."""
    labels: dict[tuple[Step, Step], list[str]] = defaultdict(list)
    for source, event, target in sorted(found, key=lambda edge: edge[1]):
        labels[source, target].append(event)
    order = list(Step)
    lines = ["```mermaid", "stateDiagram-v2"]
    lines += [f'    state "{step}" as {_id(step)}' for step in order if "-" in step]
    lines.append(f"    [*] --> {_id(Step.RECEIVED)}")
    for source, target in sorted(labels, key=lambda pair: (order.index(pair[0]), order.index(pair[1]))):
        if target not in ENDINGS and source is not target:
            lines.append(f"    {_id(source)} --> {_id(target)}: {'<br>'.join(labels[source, target])}")
    lines += [f"    {_id(Step.REPORTED)} --> [*]", f"    {_id(Step.LOST)} --> [*]", "```", ""]
    for ending in ENDINGS:
        sources = [step for step in order if (step, ending) in labels and step is not ending]
        lines.append(f"`{ending}` can be reached from {', '.join(f'`{step}`' for step in sources)}.")
    return "\n".join(lines)


def _id(step: Step) -> str:
    return step.value.replace("-", "_")


def with_part(page: str, marks: tuple[str, str], part: str) -> str:
    """Replace the part of a page between two marks."""
    before, _, rest = page.partition(marks[0])
    _, _, after = rest.partition(marks[1])
    return f"{before}{marks[0]}\n{part}\n{marks[1]}{after}"


def main() -> None:
    """Bring the page up to date."""
    found = edges(explored()) | edges(explored_report())
    PAGE.write_text(with_part(PAGE.read_text("utf-8"), DRAWING, drawn(found)), "utf-8")


if __name__ == "__main__":
    main()
