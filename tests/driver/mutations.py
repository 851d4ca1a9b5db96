"""Every guard of the protocol, and what goes wrong without it.

    python -m tests.driver.mutations

takes them away one after the other, plays the case in which only that guard keeps a promise, and prints what is broken.
Most cases are of the matrix. The conditions under which a publication is adopted or undone are tried on the table of
`tests.attempt.judging`, for Conductor cannot be brought to break each of them alone.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from perago.attempt import events as on
from perago.attempt import history, outcome, publication, publishing
from perago.attempt.publication import FENCE_TEXT
from perago.attempt.state import Step

from .guards import Condition, Guard, LateMerge, MarkerLock, Meeting, Removable, Revival, is_needed
from .matrix import FRESH, OPENINGS, STUBBORN, UNFENCED, named
from .meeting import play_found_as_wanted, play_one_file, play_one_too_many, play_written_again
from .mutating import (
    adopt_also_what_is_buried,
    adopt_on_any_head,
    assume_an_unmoved_head,
    assume_current,
    assume_current_before_the_report,
    bring_no_fence_along,
    forget_ones_own_merge,
    forget_that_a_merge_may_arrive,
    judge_each_commit_alone,
    know,
    know_deliveries_by_task_id,
    lose_a_file_and_skip_the_check,
    name_no_expected_head,
    overlook_others,
    overlook_what_others_left,
    remove_what_others_left_in_any_case,
    report_on_old_news,
    report_without_a_fence_commit,
    send_fence_commits_without_a_branch,
    skip_the_check_of,
    take_every_attempt_into_the_chain,
    take_every_commit_for_this_workflow,
    take_every_run_for_the_present_one,
    take_every_text_for_the_fence,
    take_for_my_input_without,
    take_forgotten_attempts_for_living,
    take_late_answers_for_fresh,
    take_retried_attempts_for_others,
    take_staging_for_right,
    undo_in_loops,
    undo_nothing,
    undo_what_is_foreign,
    undo_without,
)

BY_OPENING = {opening.name: opening for opening in OPENINGS}
GUARDS = (
    Guard(
        "delivery check before staging",
        assume_current(Step.POST_CHECKED, on.ChangesDetected),
        "download-1-after-terminated",
        "create_branch without the delivery check",
    ),
    Guard(
        "delivery check before the merge",
        assume_current(Step.STAGED, on.PublishFenceTried),
        "commit-1-after-terminated",
        "a merge without delivery check and look",
    ),
    Guard(
        "delivery check before the second merge",
        assume_current(Step.COMMITTED, on.MergeUnclear),
        "merge-1-before-Unclear",
        "a merge without delivery check and look",
    ),
    Guard(
        "delivery check before the report",
        assume_current_before_the_report,
        "delete_branch-1-after-terminated",
        "report without the delivery check",
    ),
    Guard(
        "delivery check before the second report",
        assume_current(Step.CLEANED, on.ReportUnclear),
        "report-1-before-Unclear",
        "report without the delivery check",
    ),
    Guard(
        "look before the merge",
        assume_an_unmoved_head,
        "commit-1-before-foreign-commit",
        "a publication on another head",
        fenced=False,
    ),
    Guard(
        "second look after a late answer",
        take_late_answers_for_fresh,
        "history-2-after-timed-out",
        "2}) publications",
        fenced=False,
    ),
    Guard(
        "verification of the parent",
        skip_the_check_of("parent"),
        "merge-1-before-empty-commit",
        "a verified publication on another head",
        fenced=False,
    ),
    Guard(
        "verification of the tree",
        lose_a_file_and_skip_the_check,
        "history-1-before-Unavailable",
        "a verified publication is not the input plus the changes",
    ),
    Guard(
        "bound of merges",
        lambda patch: patch.setattr(publishing, "MERGE_TRIES", 99),
        named(STUBBORN),
        "4 merges",
    ),
    Guard(
        "identity of the delivery",
        know_deliveries_by_task_id,
        "merge-1-before-Unclear+history-3-before-redelivered",
        "somebody else's publication",
    ),
    Guard(
        "fence commit after no changes",
        report_without_a_fence_commit,
        "merge-1-before-redelivered",
        "the branch holds something else than what was reported",
        opening=BY_OPENING["unchanged-later"],
    ),
    Guard(
        "undoing of what is stale",
        undo_nothing,
        "",
        "a verified publication is not the input plus the changes",
        opening=BY_OPENING["run-again"],
    ),
    Guard(
        "comparison of the staging commit with the plan",
        take_staging_for_right,
        "commit-1-before-stray-upload",
        "a verified publication is not the input plus the changes",
    ),
    Guard(
        "expected head in the merge",
        name_no_expected_head,
        "merge-1-before-foreign-commit",
        "a publication on another head",
    ),
    Guard(
        "words about an unclear merge",
        lambda patch: patch.setattr(outcome, "unanswered_merge", lambda state: ""),
        "merge-1-after-Unclear+history-3-before-Refused",
        "a publication is kept quiet",
    ),
    Guard(
        "second look after a late answer, on what is undone",
        take_late_answers_for_fresh,
        "history-2-after-timed-out",
        "2}) publications",
        fenced=False,
        opening=BY_OPENING["run-again"],
    ),
    Guard(
        "second question after a late answer before the report",
        report_on_old_news,
        "is_current-3-after-stopped,-run-again-and-held",
        "a report of a delivery that is over was taken",
    ),
    Guard(
        "fence commit after no changes behind a predecessor",
        overlook_what_others_left,
        "merge-1-before-rerun",
        "the branch holds something else than what was reported",
        opening=BY_OPENING["unchanged-later"],
    ),
    Guard(
        "recognition of one's own merge",
        forget_ones_own_merge,
        "merge-1-after-Unclear",
        "is said to be the publication of",
    ),
    Guard(
        "leave to publish the tree that is there",
        lambda patch: patch.setattr(publishing, "_is_empty", publishing._is_fence_commit),
        "delete_branch-1-after-rerun",
        "the workflow failed without need",
        opening=replace(BY_OPENING["run-again"], quiet="later"),
    ),
    Guard(
        "publish fence that is brought along",
        bring_no_fence_along,
        "merge-1-before-foreign-commit",
        "a publication on another head",
        opening=UNFENCED,
    ),
    Guard(
        "checksum of the publish fence",
        take_every_text_for_the_fence,
        "",
        "a publication without the fence",
        opening=replace(FRESH, fence=f"{FENCE_TEXT}# and something else"),
    ),
)
SEQUELS: tuple[Removable, ...] = (
    LateMerge(
        "staging branch of an unanswered merge",
        forget_that_a_merge_may_arrive,
        "lost",
        "the branch holds something else than what was reported",
    ),
    LateMerge(
        "staging branches of others until an attempt publishes",
        remove_what_others_left_in_any_case,
        "overtaken by a failure",
        "the branch holds something else than what was reported",
    ),
    LateMerge(
        "staging branch of a fence commit",
        send_fence_commits_without_a_branch,
        "handed back and lost",
        "the branch holds something else than what was reported",
        quiet="always",
    ),
    Revival(
        "retried attempts undo nothing of their retries",
        take_retried_attempts_for_others,
        "a publication was undone that Conductor counts",
    ),
)
MEETINGS = (
    Meeting(
        "comparison with the changes of others",
        overlook_others("conflicts"),
        play_one_file,
        "what another branch has written is overwritten",
    ),
    Meeting(
        "post guardrails on both changes together",
        overlook_others("violations"),
        play_one_too_many,
        "what is published violates a post guardrail",
    ),
    Meeting(
        "undone: nothing that others have written since",
        undo_without("others"),
        play_written_again,
        "a file that others count on is gone",
    ),
    Meeting(
        "undone: nothing that others have found as they wanted it",
        undo_without("shared"),
        play_found_as_wanted,
        "a file that others count on is gone",
    ),
)
CONDITIONS = (
    Condition(
        "undone: nothing that a living attempt has adopted",
        judge_each_commit_alone,
        "rebase: a failed attempt that was begun again, and that its retry has adopted",
        "the result of a living attempt stays",
    ),
    Condition(
        "adopted: of the run that Conductor knows",
        take_every_run_for_the_present_one,
        "this attempt was run again",
        "a rerun runs",
    ),
    Condition(
        "adopted: predecessor not run again",
        take_every_run_for_the_present_one,
        "the predecessor was run again",
        "a rerun runs",
    ),
    Condition(
        "adopted: of the own chain",
        take_every_attempt_into_the_chain,
        "an attempt of this step outside of the own chain",
        "only the own chain's results are taken over",
    ),
    Condition(
        "adopted: of this step",
        know("is_of_my_step", True),
        "a living attempt of another step",
        "another step's publication is foreign",
    ),
    Condition(
        "undone: of this workflow",
        take_every_commit_for_this_workflow,
        "a step of another workflow that Conductor has removed",
        "another workflow's publication is foreign",
    ),
    Condition(
        "adopted: from the same params",
        take_for_my_input_without(publication.PARAMS),
        "the params have changed",
        "the result is that of these params",
    ),
    Condition(
        "adopted: from the same prefix",
        take_for_my_input_without(publication.PREFIX),
        "the prefix has changed",
        "the result is that of this workspace",
    ),
    Condition(
        "adopted: from the same input ref",
        take_for_my_input_without(publication.INPUT_REF),
        "the input ref has changed",
        "the result is that of this workspace",
    ),
    Condition(
        "adopted: the head of the branch",
        adopt_also_what_is_buried,
        "somebody else on the predecessor's publication",
        "nobody's commit is taken for one's own",
    ),
    Condition(
        "undone: once by a restarted fork",
        lambda patch: patch.setattr(publication, "superseded", lambda commit: set()),
        "rebase: a stale publication that another branch of the fork has undone",
        "what another branch has published since would be undone",
    ),
    Condition(
        "undone: of a run before",
        lambda patch: patch.setattr(history, "_began_before", lambda state, commit: True),
        "a living sub-workflow beside this one",
        "a living sub-workflow's publication is foreign",
    ),
    Condition(
        "adopted: on the head that it was built on",
        adopt_on_any_head,
        "a predecessor's publication that came over somebody else's commit",
        "a tree that nobody made is not taken over",
    ),
    Condition(
        "undone: of attempts that Conductor has forgotten",
        take_forgotten_attempts_for_living,
        "a later step of the run before",
        "a living attempt's publication stays, a forgotten one's goes",
    ),
    Condition(
        "undone: nothing of others",
        undo_what_is_foreign,
        "somebody else on a stale publication",
        "nobody else's commit is undone",
    ),
    Condition("undone: no other step in a loop", undo_in_loops, "a forgotten step in a loop", "a good round stays"),
)
ALL: tuple[Removable, ...] = (*GUARDS, *SEQUELS, *MEETINGS, *CONDITIONS, MarkerLock())


def main() -> int:
    """Print the table; the exit status is 1 if a guard is not needed, or does not help."""
    is_good = True
    print(f"{'guard':<60} {'with':<6} {'without':<8} promise, and the case in which it is broken")
    for guard in ALL:
        before, after = is_needed(guard)
        is_good = is_good and (before, after) == (False, True)
        print(f"{guard.name:<60} {_colour(before):<6} {_colour(after):<8} {guard.promise!r} ({guard.where})")
    return 0 if is_good else 1


def _colour(broken: bool) -> str:
    return "red" if broken else "green"


if __name__ == "__main__":
    sys.exit(main())
