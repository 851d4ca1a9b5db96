"""The refusals: all reasons for which the protocol ends an attempt, each declared once.

    FROZEN = _refusal(
        "Branch {branch} of {repository} is frozen: commit {head} says so. Nothing was published. Ask its owner.",
        shown="Branch ... is frozen",
        meaning="the newest commit has the metadata key `frozen`",
        advice="ask the owner of the branch; a retry succeeds once a newer commit lacks the key",
        check="branch",
        condition=lambda state: {} if state.head and "frozen" in state.head.metadata else None,
        needs_head=True,
    )

`shown`, `meaning` and `advice` become a row of the operators' table in docs/dev/protocol.md. The server cuts reasons at
500 characters, so the most useful part comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, ParamSpec, TypeAlias

from perago.attempt import publication
from perago.attempt.state import State
from perago.ports import Commit
from perago.text import listing, short

P = ParamSpec("P")
Check: TypeAlias = Literal["input", "branch", "changes"]
_PATH_LENGTH = 60
"""The largest number of characters of a path in a list of conflicts."""
NOTHING = "Nothing of this attempt was published. "


@dataclass(frozen=True, slots=True)
class Refusal:
    """A reason to end an attempt, with its message and its row for operators."""

    message: str
    """The reason. The names in braces are `FACTS`, or are given where the refusal is raised."""
    shown: str
    """The beginning or the end of the message in the operators' table. Dots stand for anything."""
    meaning: str
    advice: str
    terminal: bool = False
    """Whether a retry would fail again."""
    example: Mapping[str, str] = field(default_factory=dict)
    """Example values for the names that only this message has, for tests."""
    check: Check | None = None
    """When `condition` is checked: once the input is accepted, when the branch was read, or when the changes are known.
    None: a transition of the protocol raises the refusal."""
    condition: Callable[[State], Mapping[str, str] | None] | None = None
    """Return the values for the message, in addition to the facts, or None if the refusal does not apply."""
    needs_head: bool = False
    """Whether `condition` reads the metadata of the branch head. It is read only if a refusal needs it."""

    def text(self, state: State | None, **given: str) -> str:
        """Return the message about an attempt."""
        return self.message.format_map(_Facts(state, given)).rstrip()


REFUSALS: list[Refusal] = []
"""All refusals, in the order of their declaration."""


def _registered(declare: Callable[P, Refusal]) -> Callable[P, Refusal]:
    def refusal(*args: P.args, **kwargs: P.kwargs) -> Refusal:
        REFUSALS.append(declare(*args, **kwargs))
        return REFUSALS[-1]

    return refusal


_refusal = _registered(Refusal)
"""Declares a refusal: a `Refusal` that is added to `REFUSALS`."""


class _Facts(dict[str, str]):
    """The given values, and the facts of an attempt that the text names."""

    def __init__(self, state: State | None, given: Mapping[str, str]) -> None:
        super().__init__(given)
        self._state = state

    def __missing__(self, name: str) -> str:
        if self._state is None:
            raise KeyError(name)
        return FACTS[name](self._state)


def shortened(path: str) -> str:
    """Shorten a path, and keep its end, because the end is the most informative part."""
    return repr(path) if len(path) <= _PATH_LENGTH else f"'…{repr(path[1 - _PATH_LENGTH :])[1:]}"


def described(commit: Commit) -> str:
    """Say who made a commit, and quote its message."""
    line = " ".join(commit.message.split())
    return f"by {commit.committer or 'unknown'}: '{line if len(line) <= 80 else line[:79] + '…'}'"


def facts_of(commit: Commit) -> dict[str, str]:
    """Return the facts about a commit that messages name: its id, its committer, and the attempt that published it as
    far as the metadata say."""
    keys = {
        "publisher": publication.TASK_ID,
        "workflow": publication.WORKFLOW_ID,
        "step": publication.REFERENCE_NAME,
        "version": publication.VERSION,
    }
    known = {name: commit.metadata.get(key, "unknown") for name, key in keys.items()}
    return {"commit": short(commit.id), "described": described(commit), **known}


def named(paths: Sequence[str]) -> str:
    """List some of `paths` and the number of the others."""
    return listing(list(map(repr, paths)))


FACTS: Mapping[str, Callable[[State], str]] = {
    "repository": lambda state: state.ref.repository,
    "branch": lambda state: state.ref.branch,
    "ref": lambda state: short(state.ref.ref),
    "head": lambda state: short(state.expected_head),
    "task": lambda state: state.plan.delivery.task_id,
    "staging_branch": lambda state: str(state.staging.branch),
    "staged": lambda state: short(state.staging.commit.id) if state.staging.commit else "unknown",
    "adopted": lambda state: short(state.adopts) if state.adopts else "unknown",
    "problem": lambda state: state.problem or "no usable answer",
    "races": lambda state: str(state.lost_races),
    "nothing": lambda state: "" if state.merge.open else NOTHING,
}
"""The facts that messages can name. `nothing` says that nothing was published, unless a merge may have taken place."""


_COMMIT = facts_of(Commit("d" * 64, (), "somebody", "a change", 0, {}, ""))

# ------------------------------------------------------------------------------- the input


def _strange_id(state: State) -> Mapping[str, str] | None:
    delivery = state.plan.delivery
    for what, text in (("workflow", delivery.workflow_id), ("task", delivery.task_id)):
        if state.workspace is not None and not publication.is_identifier(text):
            return {"what": what, "text": shortened(text)}
    return None


STRANGE_ID = _refusal(
    "The {what} id {text} cannot be recorded in a commit: perago takes 1 to 255 letters (A-Z, a-z), digits and "
    ". _ : ~ + = @ -, but not . or .. alone. Nothing was done. Let the server make such ids, and start the workflow "
    "again.",
    shown="The ... id ... cannot be recorded in a commit",
    meaning="the id of the workflow or of the task has characters, or a length, by which a retry could not find its "
    "publication again",
    advice="let the server make ids such as its usual ones, and start the workflow again",
    terminal=True,
    example={"what": "workflow", "text": "'a b'"},
    check="input",
    condition=_strange_id,
)
RETRIED = _refusal(
    "Attempt {task} has been retried since, and only the retry counts. Conductor hands such attempts out again when a "
    "workflow is rerun from a later step, and ignores how they end. Nothing was done; the workflow continues.",
    shown="Attempt ... has been retried since",
    meaning="the workflow was rerun from a later step; Conductor hands out failed attempts of earlier steps once more "
    "then, and ignores how they end",
    advice="nothing: the retry's result counts, and the workflow continues",
    terminal=True,
)

NOT_ONE_LINE = _refusal(
    "The {count} commits of workspace.ref are not one line of history: {first} is not in the first-parent history of "
    "{second}, nor the other way round. No task can continue two branches: let the tasks publish to one branch, or "
    "merge the branches and give the merge commit alone. Given: {given}.",
    shown="The ... commits of workspace.ref are not one line of history",
    meaning="a task behind a fork was given commits of two branches, or a merge next to a commit that it merged",
    advice="let the tasks of the fork publish to one branch, or merge the branches and give the merge commit alone",
    terminal=True,
    example={"count": "2", "first": "a", "second": "b", "given": "a, b"},
)
TOO_FAR_APART = _refusal(
    "The {count} commits of workspace.ref are too far apart: {first} was not found within {limit} commits below "
    "{second}, nor the other way round. Give the newest of them alone as workspace.ref. Given: {given}.",
    shown="The ... commits of workspace.ref are too far apart",
    meaning="more than 1,000 commits lie between them",
    advice="give the newest of them alone",
    terminal=True,
    example={"count": "2", "first": "a", "second": "b", "limit": "1000", "given": "a, b"},
)
UNKNOWN_COMMIT = _refusal(
    "{error}. It is one of the {count} commits of workspace.ref; give only what tasks have published to this "
    "repository. Given: {given}.",
    shown="... It is one of the ... commits of workspace.ref",
    meaning="one of the given commits is not in this repository",
    advice="correct what the workflow hands on",
    terminal=True,
    example={"error": "lakeFS: commit a does not exist", "count": "2", "given": "a, b"},
)

# ------------------------------------------------------------------------------ the branch

MOVED_HEAD = _refusal(
    "Branch {branch} of {repository} has moved since the input ref {ref}: its head is {commit}, committed {described}"
    "{more}. {nothing}A retry would get the same ref; start the workflow from the new head. Tasks that publish side by "
    'side declare on_moved_head="rebase".',
    shown="Branch ... has moved since the input ref",
    meaning="others committed to the branch after the workflow read its head",
    advice='start the workflow from the new head; use one branch per workflow run, or declare `on_moved_head="rebase"` '
    "for tasks that publish side by side",
    terminal=True,
    example={**_COMMIT, "more": ""},
)
NOT_ON_BRANCH = _refusal(
    "Commit {ref} is not in the first-parent history of branch {branch} of {repository} (looked through {count} "
    "commits from the head {newest}). Give a commit of that branch as the ref, as `perago input` does.",
    shown="Commit ... is not in the first-parent history of branch",
    meaning="the ref is from another branch, or the branch was moved back",
    advice="give a commit of the branch, as `perago input` does",
    terminal=True,
    example={"count": "1", "newest": "dddddddddddd"},
)
BURIED = _refusal(
    "An earlier attempt of this step (task {publisher}) has published commit {own} to branch {branch} of {repository}, "
    "but others have committed there as well: the head is {commit}, {described}. Nothing is lost and nothing is "
    "published twice: check that commit and continue from it, or start the workflow from the new head.",
    shown="An earlier attempt of this step ... has published commit",
    meaning="the worker died after its merge and before its report, and others have committed since",
    advice="check the named commit; its metadata `perago.result` has the output: continue from it, or start from the "
    "new head",
    terminal=True,
    example={**_COMMIT, "own": "cccccccccccc"},
)
COPIED = _refusal(
    "Commit {commit} on branch {branch} of {repository} carries the metadata of this step, but perago did not publish "
    "it: {why}. {older}{nothing}A retry would find the same. Check both commits, and start the workflow from the new "
    "head.",
    shown="Commit ... on branch ... carries the metadata of this step, but perago did not publish it",
    meaning="the metadata of a publication was copied, for example by a cherry-pick. Or an earlier version of perago "
    "published it without changes, and without a staging commit",
    advice="check both commits that the message names, and start the workflow from the new head",
    terminal=True,
    example={**_COMMIT, "why": "it is not a merge, and its parent is missing", "older": ""},
)
NEWER_FORMAT = _refusal(
    "Commit {commit} on branch {branch} of {repository} has format {format}: perago {version} wrote it, and this "
    "worker reads formats up to {known}. {nothing}Install perago {version} or later here; a retry then succeeds.",
    shown="Commit ... has format ...: perago ... wrote it",
    meaning="a later version of perago has published for this workflow in a format that this version cannot interpret",
    advice="install the version that the message names; a retry then succeeds, as does a retry on such a worker",
    example={**_COMMIT, "format": "2", "known": "1"},
)
INTERRUPTED = _refusal(
    "Operation {by} has undone commit {commit} of step {step} on branch {branch} of {repository}, and Conductor still "
    "counts that step: the operation ended before the step was run again. {nothing}Continue or revoke it: perago undo "
    "{root}; then: perago retry {root}.",
    shown="Operation ... has undone commit ... and Conductor still counts that step",
    meaning="`perago rerun` or `perago retry` ended after it undid publications and before it asked Conductor",
    advice="run the `perago undo` that the message names, then `perago retry`",
    example={**_COMMIT, "by": "cccccccccccc", "root": "w-1"},
)
REPLACED = _refusal(
    "Sub-workflow {workflow} of this attempt no longer counts: its parent has retried it, or runs another workflow in "
    "its place. Conductor runs such sub-workflows again when a step next to them is recovered, and ignores how they "
    "end. {nothing}The parent continues.",
    shown="Sub-workflow ... of this attempt no longer counts",
    meaning="the step of this sub-workflow was retried or run again in the parent, and Conductor has also started the "
    "replaced sub-workflow again",
    advice="nothing: the result of the newer sub-workflow counts",
    terminal=True,
    example={"workflow": "w-1"},
)
UNPROVEN = _refusal(
    "Conductor has no evidence that it still counts commit {commit} of step {step} on branch {branch} of "
    "{repository}, and step {other} may replace it but has not. {nothing}End the workflow, if it has not ended, and "
    "remove what no longer counts: perago undo {root}; then: perago retry {root}.",
    shown="Conductor has no evidence that it still counts commit ...",
    meaning="a rerun, restart or retry was requested from Conductor directly while steps run side by side. None of "
    "them undoes the work of the others while they run",
    advice="run the `perago undo` that the message names, then `perago retry`. `perago rerun` and `perago retry` undo "
    "first, so that this does not happen",
    example={**_COMMIT, "other": "right", "root": "w-1"},
)
FORGOTTEN = _refusal(
    "Conductor has forgotten the row of commit {commit} of step {step} (workflow {workflow}) on branch {branch} of "
    "{repository}, because a loop keeps its last rounds only (keepLastN). So it is unknown whether the commit still "
    "counts, and it is not undone. {nothing}Check it, and start the workflow from the new head.",
    shown="Conductor has forgotten the row of commit ...",
    meaning="a loop with `keepLastN` has dropped the round of that commit, and no later round continues it",
    advice="check that commit, and start the workflow from the new head",
    terminal=True,
    example=_COMMIT,
)
INPUT_UNDONE = _refusal(
    "The input commit {input} is no longer in effect on branch {branch} of {repository}: commit {commit} has undone "
    "it. {nothing}The step that published the input was run again after this attempt got its input, or a rerun has "
    "removed that step. Run the workflow again from that step or an earlier one, or all of it: perago rerun {root}.",
    shown="The input commit ... is no longer in effect",
    meaning="the input was replaced while its report was on the way, or the rerun of a loop began with the variable "
    "of the last round",
    advice="run the workflow again from the step that published the input, or from the step before the loop",
    terminal=True,
    example={"input": "aaaaaaaaaaaa", "commit": "dddddddddddd", "root": "w-1"},
)
UNREAD_WORKFLOW = _refusal(
    "It is unknown whether workflow {workflow} still counts, and with it what it has published to branch {branch} of "
    "{repository}: its root was not found within {limit} workflows. {nothing}Start the workflow from the new head.",
    shown="It is unknown whether workflow ... still counts",
    meaning="the branch has publications of more workflows than perago reads, the parents of that workflow form a "
    "cycle, or a parent of this workflow was removed from Conductor",
    advice="check the branch, and start the workflow from the new head",
    terminal=True,
    example={"workflow": "w-1", "limit": "1000"},
)
STILL_STARTING = _refusal(
    "The parent of workflow {workflow} has not named it within 30 s, so it is unknown whether the workflow counts. "
    "{nothing}A retry reads the parent again.",
    shown="The parent of workflow ... has not named it",
    meaning="Conductor started a sub-workflow, and its parent did not name it in time",
    advice="nothing at first: the retry reads the parent again; if the failure persists, check that Conductor's "
    "sweeper works",
    example={"workflow": "w-1"},
)
ADOPTED_IS_GONE = _refusal(
    "Commit {adopted} of an earlier attempt of this step was to be adopted, but branch {branch} of {repository} "
    "changed in the meantime. A retry reads the branch again.",
    shown="Commit ... was to be adopted, but branch ... changed in the meantime",
    meaning="another delivery of the workflow published just then",
    advice="nothing: the retry reads the branch again",
)
RESTLESS = _refusal(
    "Branch {branch} of {repository} changed {races} times while this attempt tried to publish. A retry reads the "
    "branch again.",
    shown="Branch ... changed ... times while this attempt tried to publish",
    meaning='others keep publishing first: deliveries of the workflow or, with `on_moved_head="rebase"`, everyone who '
    "publishes to the branch",
    advice="nothing at first: the retry reads the branch again; if the failure persists, find out who publishes to the "
    "branch so often",
)

# ------------------------------------------------------------------------------ the changes


def _changed_read_only(state: State) -> Mapping[str, str] | None:
    changes = state.changes
    if not state.plan.read_only or not changes.count:
        return None
    parts = (("added", changes.added), ("changed", changes.changed), ("removed", changes.removed))
    return {"listed": "; ".join(f"{what} {named(paths)}" for what, paths in parts if paths)}


def _over_budget(state: State) -> Mapping[str, str] | None:
    plan, changes = state.plan, state.changes
    amounts = (
        ("objects", "d", changes.count, plan.max_changed_objects),
        ("bytes", ",d", changes.size, plan.max_changed_bytes),
    )
    for what, form, number, limit in amounts:
        if limit is not None and number > limit:
            return {"number": format(number, form), "what": what, "limit": format(limit, form)}
    return None


CHANGED_READ_ONLY = _refusal(
    "The workspace is read-only, but the function changed it: {listed}. Nothing was published.",
    shown="The workspace is read-only, but the function changed it",
    meaning="the task declares `read_only=True`",
    advice="correct the function, or the declaration",
    example={"listed": "added 'a'"},
    check="changes",
    condition=_changed_read_only,
)
OVER_BUDGET = _refusal(
    "{number} changed {what} exceed publish_budget.max_changed_{what} ({limit}). Nothing was published.",
    shown="... exceed publish_budget.",
    meaning="more changes than the task declares",
    advice="correct the function, or the budget",
    example={"number": "2", "what": "objects", "limit": "1"},
    check="changes",
    condition=_over_budget,
)
CONFLICT = _refusal(
    "Conflict with others on branch {branch} of {repository}: {listed}. The input ref is {ref}, the head {head}. "
    "{nothing}A retry would meet the same; start the workflow from the new head.",
    shown="Conflict with others on branch ... was ...",
    meaning='with `on_moved_head="rebase"`: others have changed a path that this task has changed, too, or that it '
    "reads",
    advice="check the commits that the message names; start the workflow from the new head",
    terminal=True,
    example={"listed": "'a' was changed on both sides"},
)
VIOLATED_TOGETHER = _refusal(
    "{violations}. This concerns the combination with commits of others on branch {branch} since the input ref "
    "{ref} (head {head}). The files of the function alone satisfy the rules. {nothing}",
    shown="... This concerns the combination with commits of others on branch",
    meaning='with `on_moved_head="rebase"`: what this task left satisfies the post guardrails, and so does the branch, '
    "but not both together",
    advice="decide which change has to go; a retry succeeds once the branch allows it",
    example={"violations": "post guardrail require_file('a'): found nothing"},
)
CANNOT_UNDO = _refusal(
    "Commits {commits} in {repository} are of an earlier run of this workflow and cannot be undone: {why}. {nothing}"
    "Check these commits, and start the workflow from the new head: perago input {repository}/{branch} "
    "prints its input.",
    shown="Commits ... are of an earlier run of this workflow and cannot be undone",
    meaning='with `on_moved_head="rebase"`: a rerun or restart would undo them. Others have changed the same files '
    "since, have published the same bytes, or lakeFS did not restore a file. Also without a rebase: a person has made "
    "one of them by hand, or one came on another head and changed files of others there",
    advice="check these commits, and start the workflow from the new head, with the input that `perago input` prints",
    terminal=True,
    example={"commits": "dddddddddddd", "why": "others have changed 'a' since"},
)

TREE_NOT_RESTORED = _refusal(
    "Undoing the stale publications on branch {branch} of {repository} did not give the tree of the input ref: {keys} "
    "differ. {nothing}Start the workflow from the new head.",
    shown="Undoing the stale publications on branch ... did not give the tree of the input ref",
    meaning="the server's reverts gave another tree",
    advice="start the workflow from the new head",
    terminal=True,
    example={"keys": "'a'"},
)

# ------------------------------------------------------------------- staging and the fence

FOREIGN_STAGING = _refusal(
    "The head {found} of staging branch {staging_branch} of {repository} is not the commit of this attempt on the "
    "input ref: another client used the branch. {nothing}",
    shown="The head ... of staging branch ... is not the commit of this attempt",
    meaning="another client wrote to the hidden staging branch",
    advice="find out who writes to branches that begin with `perago-`; a retry makes a new one",
    example={"found": "dddddddddddd"},
)
STAGING_DIFFERS = _refusal(
    "The staging commit {staged} of {repository} does not hold exactly the changes of this attempt: {keys} differ from "
    "what it staged. {nothing}A retry stages the changes again.",
    shown="The staging commit ... does not hold exactly the changes of this attempt",
    meaning="another client wrote to the hidden staging branch",
    advice="find out who writes to branches that begin with `perago-`; a retry makes a new one",
    example={"keys": "'a'"},
)
STAGING_VANISHED = _refusal(
    "The changes of this attempt have vanished twice from staging branch {staging_branch} of {repository} before their "
    "commit. {nothing}Another client resets branches that begin with perago-, or lakeFS has failed over to a replica "
    "that lags behind. A retry stages the changes again.",
    shown="The changes of this attempt have vanished twice from staging branch",
    meaning="another client has reset the staging branch, or lakeFS has failed over to a replica that lags behind",
    advice="find out who resets branches that begin with `perago-`; a retry stages the changes again",
)
ALTERED_FENCE = _refusal(
    "The file {path} in commit {commit} of {repository} has the name of perago's publish fence, but a different text. "
    "{published} Move the file if it is yours, or replace it with `perago fence install {repository}/{branch}`; then "
    "start the workflow from the new head.",
    shown="The file ... has the name of perago's publish fence, but a different text",
    meaning="the fence was edited, or another team has a file of that name",
    advice="move that file, or run the `perago fence install` that the message names",
    terminal=True,
    example={"path": "_lakefs_actions/a.yaml", "commit": "aaaaaaaaaaaa", "published": "Nothing was published."},
)
NOT_TRIED = _refusal(
    "PERAGO_PUBLISH_FENCE is `required`, but lakeFS did not say whether it runs the hooks of {repository}: a challenge "
    "merge got no answer in time. {nothing}Check whether another hook is slow. A retry sends the challenge again.",
    shown="PERAGO_PUBLISH_FENCE is required, but lakeFS did not say",
    meaning="a challenge got no answer within the time for a merge, often because another team's hook is slow",
    advice="check the action runs of the repository; a retry sends the challenge again",
)
NOT_ENFORCED = _refusal(
    "PERAGO_PUBLISH_FENCE is `required`, but lakeFS does not run the hooks of {repository}: it let a merge through "
    "that the publish fence must refuse. Nothing was published. Switch hooks on in the configuration of the server "
    "(`actions.enabled: true`) and start the workflow again.",
    shown="PERAGO_PUBLISH_FENCE is required, but lakeFS does not run the hooks",
    meaning="the server has hooks switched off, so no publication is guarded, and the deployment insists on it",
    advice="switch `actions.enabled` on in the server's configuration and start the workflow again",
    terminal=True,
)

# -------------------------------------------------------------------------------- the merge

DIRTY = _refusal(
    "Branch {branch} of {repository} has uncommitted changes, so lakeFS refuses every merge into it. Commit or reset "
    "them; a retry then succeeds.",
    shown="Branch ... has uncommitted changes",
    meaning="lakeFS refuses every merge into a branch with staged objects",
    advice="commit or reset them; the retry then succeeds",
)
HOOK_REFUSED = _refusal(
    "A merge hook refused the publication to branch {branch} of {repository}: {detail}",
    shown="A merge hook refused the publication",
    meaning="a pre-merge hook of another team refused the merge; its text follows",
    advice="do what the hook asks for; the retry then succeeds",
    example={"detail": "no"},
)
UNCONFIRMED = _refusal(
    "The merge into branch {branch} of {repository} could not be confirmed with {tries} calls: {problem}.",
    shown="The merge into branch ... could not be confirmed",
    meaning="lakeFS gave no usable answer to three calls",
    advice="look at the branch; a retry recognizes the commit if it appeared",
    example={"tries": "3"},
)
UNANSWERED_MERGE = _refusal(
    "A merge of staging commit {staged} was sent without a clear answer, so it may still appear on branch {branch}; a "
    "retry will recognize it.",
    shown="... may still appear on branch ...",
    meaning="a merge was sent and its answer never came",
    advice="look at the branch; a retry recognizes the commit if it appeared",
)
UNVERIFIED_MERGE = _refusal(
    "The merge took place as commit {commit} on branch {branch}, but was not verified.",
    shown="... took place as commit ... but was not verified",
    meaning="lakeFS answered the merge, but the commit could not be read back",
    advice="nothing: a retry adopts the commit; without one, compare it with its parents",
    example={"commit": "cccccccccccc"},
)
WRONG_PUBLICATION = _refusal(
    "Commit {commit} on branch {branch} of {repository} is not what this attempt built: {wrong}. Compare the branch "
    "with both parents before you continue from it.",
    shown="Commit ... is not what this attempt built",
    meaning="without a fence, another commit came between the last look and the merge",
    advice="compare the branch with both parents before you continue from it; install the fence",
    terminal=True,
    example={"commit": "cccccccccccc", "wrong": "its tree differs from the staging commit bbbbbbbbbbbb"},
)
LOST = _refusal(
    "Conductor no longer waits for this delivery",
    shown="Conductor no longer waits for this delivery",
    meaning="in the worker's log and at the end of the task's log: the step was terminated, timed out, or given to "
    "another worker",
    advice="nothing: the attempt published and reported nothing more",
)


def need_head() -> bool:
    """Whether a refusal reads the metadata of the branch head (`State.head`)."""
    return any(refusal.needs_head for refusal in REFUSALS)
