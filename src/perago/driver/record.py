"""The record of an attempt when it is over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from perago.attempt.events import FenceState
from perago.attempt.refusals import short
from perago.attempt.state import Step
from perago.authoring.context import Measured
from perago.guardrails.evaluation import Finding
from perago.ports import Delivery, Report
from perago.text import count, listing, quoted
from perago.workspace.changes import Changes


@dataclass(frozen=True, slots=True)
class StepTime:
    """The time that one command took. `name` is that of the command, `seconds` by a clock that only runs forward."""

    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One delivery, from its receipt up to, and without, its report. Picklable."""

    delivery: Delivery
    report: Report | None
    """None: the delivery was lost, and nothing may be reported."""
    lost_reason: str | None
    reached: Step
    """The last step of a success, or the one at which the attempt failed or was lost."""
    steps: tuple[StepTime, ...]
    findings: tuple[Finding, ...]
    """Verdicts of the guardrails that were evaluated, `pre` before `post`."""
    changes: Changes
    input_ref: str | None
    published_commit: str | None
    """The commit that now holds the workspace: the merge, or the input ref where nothing changed."""
    adopted_commit: str | None = None
    """The publication of an earlier attempt that was taken over; then no function ran."""
    changed_since_adopted: Mapping[str, str] = field(default_factory=dict)
    """Files of that publication that others have changed since, by key, each with the last commit that did; empty if
    that is not known."""
    rebased_onto: str | None = None
    """The branch head that was published on, where others had moved it and the task bears that (`on_moved_head`)."""
    lost_races: int = 0
    """Times that others published first, so that the publication had to be built again."""
    fence_refusals: int = 0
    """Merges that were refused because the head had moved."""
    superseded_commits: tuple[str, ...] = ()
    """Stale publications that this one undid, newest first."""
    fence: FenceState | None = None
    """The publish fence of what was published, or was to be; None where the attempt did not come to look."""
    brought_fence: bool = False
    """The publication brought the publish fence along."""
    left_files: tuple[str, ...] = ()
    """Files that the function left in its current directory and its task does not allow, sorted. They are removed."""
    objects: int = 0
    """Files in the workspace before the function."""
    from_cache: int = 0
    """Those of them that were on this machine before, and were not fetched."""
    hand_back: bool = False
    """The disk of this host kept the attempt from its function. A worker sends no `report` then: it hands the delivery
    back, so that another host can take it."""
    notes: tuple[str, ...] = ()
    """Failures that did not change the outcome, such as a directory that could not be removed."""
    ignored_params: tuple[str, ...] = ()
    """Keys of the params that their model passed over, as JSON pointers, with what was meant perhaps."""
    metrics: tuple[Measured, ...] = ()
    """Values that the function has reported by `current().count`, `.gauge` and `.observe`."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """Notes for an operator about params, stray files, cache and publication, in a few words each."""
        parts = (
            (self.ignored_params, f"ignored params: {', '.join(self.ignored_params)}"),
            (
                self.left_files,
                f"wrote {listing([quoted(path) for path in self.left_files], 3)} to its current directory",
            ),
        )
        cached = f"{self.from_cache:,} of {count(self.objects, 'object')} from the cache"
        return (*(words for found, words in (*parts, (self.from_cache, cached)) if found), *self._publication)

    @property
    def _publication(self) -> tuple[str, ...]:
        if self.published_commit is not None and self.published_commit == self.input_ref:
            return ("nothing changed",)
        if self.delivery.retry_output is not None:
            return ("did nothing, its retry has done the work",)
        found = []
        if self.published_commit is not None and self.adopted_commit is not None:
            found.append(f"adopted {short(self.adopted_commit)} of an earlier attempt{self._changed_since()}")
        if self.rebased_onto is not None:
            found.append(f"rebased onto {short(self.rebased_onto)}")
        if self.lost_races:
            found.append(f"lost {self.lost_races} race{'' if self.lost_races == 1 else 's'} to others")
        if self.superseded_commits:
            number = len(self.superseded_commits)
            found.append(f"undid {number} stale publication{'' if number == 1 else 's'}")
        if self.brought_fence:
            found.append("brought the publish fence along")
        if self.published_commit is not None and self.fence in (FenceState.NOT_ENFORCED, FenceState.ABSENT):
            found.append(f"publish fence {self.fence}")
        return tuple(found)

    def _changed_since(self) -> str:
        changed = self.changed_since_adopted
        if not changed:
            return ""
        commits = [short(commit) for commit in dict.fromkeys(changed.values()) if commit]
        was = "was" if len(changed) == 1 else "were"
        by = f" by {', '.join(commits[:3])}" if commits else ""
        return f", though {listing([quoted(key) for key in changed], 3)} {was} changed since{by}"
