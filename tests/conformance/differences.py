"""Scenarios in which the embedded servers differ from the real ones on purpose, each with its reason."""

from __future__ import annotations

_FLAGGED = "the model does what lakeFS means, warns of what the real server loses here, and loses nothing"
_NO_LUA = "the model runs no Lua: action files other than perago's fence pass, with a warning"
_NOT_SERVED = "no client of a worker calls it: the embedded server answers 501 and names the call"

DIFFERENCES: dict[tuple[str, str], str] = {
    ("conductor", "reads.a_dry_run"): _NOT_SERVED,
    ("conductor", "reads.many_workflows_whole"): _NOT_SERVED,
    ("conductor", "reads.short_lists"): _NOT_SERVED,
    ("conductor", "reads.where_payloads_go"): _NOT_SERVED,
    ("conductor", "requests.event_handlers"): _NOT_SERVED,
    ("lakefs", "requests.the_form_of_a_request_comes_first"): "a stranger is refused before the request is read",
    ("lakefs", "commits.a_commit_of_an_unknown_tree"): "the model refuses what would make a branch unreadable",
    ("lakefs", "publications.a_hook_for_other_branches"): _NO_LUA,
    ("lakefs", "publications.an_action_that_cannot_be_read"): _NO_LUA,
    ("lakefs", "publications.an_action_without_its_parts"): _NO_LUA,
    ("lakefs", "publications.the_refusal_of_somebody_else"): _NO_LUA,
    ("lakefs", "publications.two_actions_of_one_name"): _NO_LUA,
    ("lakefs", "keys.bytes_that_are_no_text"): "the model keeps text: such a path is stored as it is shown",
    ("lakefs", "merges.a_published_file_is_lost"): _FLAGGED,
    ("lakefs", "merges.a_renamed_file_is_lost"): _FLAGGED,
    ("lakefs", "merges.an_added_file_is_lost"): _FLAGGED,
    ("lakefs", "merges.the_addition_of_the_source_is_dropped"): _FLAGGED,
    ("lakefs", "merges.the_addition_of_the_target_is_overwritten"): _FLAGGED,
    ("lakefs", "repositories.the_default_branch_is_not_validated"): "a name with a slash is not found, not refused",
    ("lakefs", "undoing.a_pick_loses_a_file_as_a_merge_does"): _FLAGGED,
    ("lakefs", "undoing.a_picked_commit_with_metadata_is_lost"): "the model does not forget a picked commit",
}
"""`(server, group.name)` to the reason. Such a scenario must differ, or it is taken off this list."""

UNRECORDED: dict[tuple[str, str], str] = {}
"""`(server, method and path)` of served routes without a recording to the reason. Record new routes; this list does not
grow."""
