"""An attempt without files and threads: the state machine, on a branch that is a set of commits and on the embedded
Conductor. An attempt is copied at each call that others can notice, so that every order of calls can be simulated."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, field

from perago.attempt import commands as do
from perago.attempt import events as on
from perago.attempt import joins, publication
from perago.attempt.outcome import Reporting, advance_report, begin_report
from perago.attempt.protocol import advance, begin
from perago.attempt.state import Plan, State
from perago.driver.delivery import DeliveryQuestions
from perago.embedded.conductor import InMemoryConductor
from perago.ports import Commit, Delivery, MergeRefusal, NotFound

Tree = Mapping[str, str]
Changes = Mapping[str, str | None]
STOPS = (do.ReadBranch, do.ReadWorkflows, do.Merge, do.SendReport)
"""The calls before which another attempt can move. All other calls are about what belongs to the attempt alone, or come
right before one of these."""
TREES: dict[str, Tree] = {}
COMMITS: dict[str, Commit] = {}
"""All commits of all orders, because equal commits have equal ids."""


def patched(tree: Tree, changes: Changes) -> dict[str, str]:
    """Return a tree with changes; None removes a key."""
    put = {key: text for key, text in changes.items() if text is not None}
    return {key: text for key, text in tree.items() if key not in changes} | put


def difference(before: str, after: str) -> dict[str, str | None]:
    """Return the changes from one commit to another."""
    old, new = TREES[before], TREES[after]
    put: dict[str, str | None] = {key: text for key, text in new.items() if old.get(key) != text}
    return put | {key: None for key in old if key not in new}


def make_commit(parents: tuple[str, ...], tree: Tree, metadata: Mapping[str, str]) -> Commit:
    """Make a commit, on no branch yet."""
    tree_id = _digest(sorted(tree.items()))
    commit_id = _digest([parents, tree_id, sorted(metadata.items())])
    TREES[commit_id] = dict(tree)
    return COMMITS.setdefault(commit_id, Commit(commit_id, parents, "", "a change", 0, dict(metadata), tree_id))


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def ancestry(commit_id: str) -> list[Commit]:
    """Return a commit and its first parents, newest first."""
    line = [COMMITS[commit_id]]
    while line[-1].parents:
        line.append(COMMITS[line[-1].parents[0]])
    return line


@dataclass
class Branch:
    """The workspace branch, and the names of the staging branches."""

    head: str
    staging: frozenset[str] = frozenset()


@dataclass(eq=False)
class SmallAttempt:
    """A delivery that a worker has taken."""

    delivery: Delivery
    writes: Changes
    """What its function writes; a value that is already there is no change."""
    trouble: str = ""
    """`fails`: its function fails. `dies`: its process ends before the report."""
    step: State | Reporting = field(init=False)
    command: do.Command | None = field(init=False)
    """The next one. None: the attempt has ended."""
    trace: int = field(init=False)
    """A hash of its writes and of all answers, which decide what the attempt does."""
    changes: Changes = field(default_factory=dict)
    input_tree: Tree = field(default_factory=dict)
    staged: Tree = field(default_factory=dict)
    parents: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        suffix = _digest(self.delivery.identity)[:12]
        self.step, self.command = begin(Plan(self.delivery, "1", suffix, rebase=True, most_waits=1))
        self.trace = hash((*self.writes, self.trouble, repr(self.delivery.input)))

    @property
    def key(self) -> object:
        """What decides everything that the attempt does."""
        return self.delivery.identity, self.trace

    @property
    def stamp(self) -> str:
        return "/".join(map(str, self.delivery.identity))

    def move(self, branch: Branch, conductor: InMemoryConductor) -> SmallAttempt:
        """Return the attempt after its next call, and after everything up to the call behind that one."""
        moved = copy(self)
        moved._carry_out(branch, conductor)
        while moved.command is not None and not isinstance(moved.command, STOPS):
            moved._carry_out(branch, conductor)
        return moved

    def _carry_out(self, branch: Branch, conductor: InMemoryConductor) -> None:
        questions = DeliveryQuestions(conductor, self.delivery, conductor._clock, patience=0, until=0)
        if isinstance(self.step, Reporting):
            event = self._answer_report(conductor, questions)
            self.step, self.command = advance_report(self.step, event)
        else:
            event = self._answer(self.step, branch, questions)
            self.step, self.command = advance(self.step, event)
        self.trace = hash((self.trace, _text(event)))
        if isinstance(self.step, State) and self.command is None and self.step.report is not None:
            self._end(self.step, conductor)

    def _end(self, state: State, conductor: InMemoryConductor) -> None:
        if self.trouble == "dies" and state.publication is not None:
            return
        if state.hand_back:
            if conductor.is_current(self.delivery):
                conductor.hand_back(self.delivery, 250)
        elif state.report is not None:
            self.step, self.command = begin_report(state.report)

    def _answer_report(self, conductor: InMemoryConductor, questions: DeliveryQuestions) -> on.Event:
        if isinstance(self.command, do.SendReport):
            with suppress(NotFound):  # the row was removed
                conductor.report(self.delivery, self.command.report, "w")
            return on.ReportSent()
        return questions.check_delivery(do.CheckDelivery())

    def _answer(self, state: State, branch: Branch, questions: DeliveryQuestions) -> on.Event:
        match self.command:
            case do.ValidateInput():
                ref = self.delivery.input["workspace"]["ref"]
                outputs = ref.values() if isinstance(ref, dict) else ()
                joined = tuple(sorted({output["workspace"]["ref"] for output in outputs}))
                return on.InputAccepted(on.WorkspaceRef("repo", "main", "" if joined else str(ref)), "00", joined)
            case do.ResolveJoin(_, commits):
                try:
                    line = joins.line_of(commits, ancestry)
                except joins.NotOneLine as error:
                    return on.CommandFailed(str(error), terminal=True)
                return on.JoinResolved(line, _sources(line[:-1]))
            case do.FindLeftovers():
                prefix = publication.staging_prefix(publication.step_key(self.delivery))
                return on.LeftoversFound(tuple(sorted(name for name in branch.staging if name.startswith(prefix))))
            case do.ReadBranch(where, with_head):
                history = ancestry(branch.head)
                ids = [commit.id for commit in history]
                since = tuple(history[: ids.index(where.ref)] if where.ref in ids else history)
                head = COMMITS[where.ref] if with_head and not since else None
                return on.BranchRead(since, where.ref in ids, input_commit=head, sources=_sources(since))
            case do.ReadWorkflows():
                return questions.read_workflows(self.command)
            case do.CheckDelivery():
                return questions.check_delivery(self.command)
            case do.ListObjects():
                return on.ObjectsListed()
            case do.Fetch(where):
                self.input_tree = TREES[where.ref]
                return on.Fetched()
            case do.CheckGuardrails():
                return on.GuardrailsChecked(())
            case do.RunFunction():
                if self.trouble == "fails":
                    return on.CommandFailed("injected", terminal=False)
                self.changes = {key: text for key, text in self.writes.items() if self.input_tree.get(key) != text}
                return on.FunctionReturned()
            case do.ValidateResult():
                result = {"stamp": self.stamp, "input": state.ref.ref, "has_changes": bool(self.changes)}
                return on.ResultAccepted(result)
            case do.ValidateRecordedResult(recorded):
                return on.ResultAccepted(json.loads(recorded))
            case do.DetectChanges():
                return on.ChangesDetected(added=tuple(self.changes))
            case do.FindCommits():
                return on.CommitsFound({})
            case do.CheckPublishFence():
                return on.PublishFenceSeen(on.FenceState.INSTALLED)
            case do.TryPublishFence():
                return on.PublishFenceTried(enforced=True)
            case do.AwaitTurn():
                return on.TurnCame()
            case do.RemoveStagingBranches(_, names):
                branch.staging -= set(names)
                return on.StagingBranchesRemoved()
            case do.RemoveDirectory():
                return on.DirectoryRemoved()
            case do.ReadPublication(_, commit_id):
                return on.PublicationRead(COMMITS[commit_id])
            case do.ReadAdopted(_, commit):
                return on.AdoptedRead(commit, COMMITS[commit.parents[1]])
            case do.CompareWithOthers(_, input_ref, built_on):
                theirs = difference(input_ref, built_on)
                shared = {key for key in theirs.keys() & self.changes.keys() if theirs[key] == self.changes[key]}
                conflicts = dict.fromkeys(theirs.keys() & self.changes.keys() - shared, "was changed on both sides")
                return on.OthersCompared(conflicts, frozenset(shared))
        return self._stage(branch)

    def _stage(self, branch: Branch) -> on.Event:
        match self.command:
            case do.CreateStagingBranch(_, name, source):
                branch.staging |= {name}
                self.staged, self.parents = TREES[source], (source,)
                return on.StagingBranchCreated()
            case do.ReadStale(_, stale):
                pairs = ((COMMITS[commit.id], COMMITS[commit.parents[-1]]) for commit in stale)
                return on.StaleRead(tuple(on.StaleCommit(*pair) for pair in pairs))
            case do.RevertStale():
                return self._revert(self.command)
            case do.CarryChanges():
                return on.CarryRefused("the changes are staged again")
            case do.StageChanges(_, _, shared):
                own = {key: text for key, text in self.changes.items() if key not in shared}
                self.staged = patched(self.staged, own)
                return on.ChangesStaged()
            case do.CommitStaging():
                if self.staged == TREES[self.parents[0]] and not self.command.allow_empty:
                    return on.NothingStaged()
                return on.StagingCommitted(make_commit(self.parents, self.staged, self.command.metadata))
            case do.VerifyStaging():
                command = self.command
                held = command.held & difference(command.head, command.commit_id).keys() if command.held else ()
                return on.StagingDiffers(tuple(sorted(held)), held=True) if held else on.StagingVerified()
            case do.Merge():
                return self._merge(self.command, branch)
        raise NotImplementedError(str(self.command))

    def _revert(self, command: do.RevertStale) -> on.Event:
        """Revert own changes as lakeFS does: a key that has another value since then stays."""
        tree, changes = dict(self.staged), list[on.RevertedChanges]()
        for stale, own in zip(command.stale, command.reverts, strict=True):
            touched, left = set[str](), set[str]()
            if own:
                before, after = TREES[COMMITS[own].parents[0]], TREES[own]
                touched = set(difference(COMMITS[own].parents[0], own))
                tree = patched(tree, {key: before.get(key) for key in touched if tree.get(key) == after.get(key)})
                left = {key for key in touched if tree.get(key) != before.get(key)}
            superseded = difference(stale.parents[0], stale.id).keys() if stale.has_undone and stale.above else ()
            changes.append(on.RevertedChanges(frozenset(touched), frozenset(left), frozenset(superseded)))
        reverted = make_commit(self.parents, tree, {}) if tree != self.staged else COMMITS[command.source]
        for place, stale in enumerate(command.stale):
            still = frozenset(difference(stale.parents[0], reverted.id))
            part = changes[place]
            changes[place] = on.RevertedChanges(part.touched, part.left, part.superseded, still)
        self.staged, self.parents = tree, (reverted.id,)
        theirs = tuple(frozenset(difference(parent, commit_id)) for commit_id, parent in command.others)
        return on.Reverted(reverted, tuple(changes), frozenset(difference(command.source, reverted.id)), theirs)

    @staticmethod
    def _merge(command: do.Merge, branch: Branch) -> on.Event:
        source = COMMITS[command.source]
        if command.metadata.get(publication.EXPECTED_HEAD) != branch.head:
            return on.MergeRefused(MergeRefusal.HEAD_MOVED, "the head has moved")
        if source.meta_range_id == COMMITS[branch.head].meta_range_id and not command.allow_empty:
            return on.MergeRefused(MergeRefusal.NO_CHANGES, "no changes")
        merged = make_commit((branch.head, source.id), TREES[source.id], command.metadata)
        branch.head = merged.id
        return on.Merged(merged.id)


def _sources(commits: tuple[Commit, ...]) -> dict[str, Commit]:
    return {commit.id: COMMITS[commit.parents[1]] for commit in commits if publication.makes_claims(commit)}


def _text(event: on.Event) -> str:
    """Return what distinguishes an answer from another one to the same question."""
    if isinstance(event, on.BranchRead):
        return " ".join(commit.id for commit in event.since)
    external = on.WorkflowsRead | on.DeliveryConfirmed | on.LeftoversFound | on.MergeRefused
    return repr(event) if isinstance(event, external) else type(event).__name__
