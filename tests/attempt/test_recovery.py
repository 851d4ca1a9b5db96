"""How the commits between input ref and head are judged, which of several is continued, and what publications name."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice

import pytest

from perago.attempt.joins import MOST_PAGES, PAGE, NotOneLine, named, newest_of, unknown
from perago.attempt.outcome import REASON_LIMIT
from perago.attempt.publication import (
    START_TIME,
    TASK_ID,
    WORKFLOW_ID,
    Origin,
    metadata,
    origin,
    shared,
    staging_branch,
    staging_prefix,
    step_key,
)
from perago.attempt.state import Base, State
from perago.ports import Commit

from .builders import DELIVERY, PLAN, REF, WORKSPACE, commit, publication_of
from .judging import (
    CASES,
    Case,
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_range_is_judged_as_the_contract_says(case: Case) -> None:
    assert case.holds(), case.judged()


# --------------------------------------------------- Which of several commits continues all the others


class History:
    """Commits by id, and how often they were read from."""

    def __init__(
        self, parents: Mapping[str, str | None], metadata: Mapping[str, Mapping[str, str]] | None = None
    ) -> None:
        self.reads: list[str] = []
        self._parents = parents
        self._metadata = metadata or {}

    def line(self, commit_id: str | None) -> list[str]:
        commit_ids = []
        while commit_id is not None:
            commit_ids.append(commit_id)
            commit_id = self._parents[commit_id]
        return commit_ids

    def read(self, commit_id: str) -> Sequence[Commit]:
        self.reads.append(commit_id)
        return [
            commit(name, *filter(None, [self._parents[name]]), by=self._metadata.get(name))
            for name in islice(self.line(commit_id), PAGE)
        ]


def line_of(length: int, prefix: str = "c") -> dict[str, str | None]:
    """`c0` is the newest."""
    names = [f"{prefix}{number}" for number in range(length)]
    return dict(zip(names, [*names[1:], None], strict=True))


@pytest.mark.parametrize("order", [1, -1], ids=["newest first", "oldest first"])
def test_a_fork_of_32_tasks_costs_a_few_requests_in_any_order(order: int) -> None:
    names = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(200)]
    history = History(dict(zip(names, [*names[1:], None], strict=True)))
    assert newest_of(names[3:35][::order], history.read) == names[3]
    assert len(history.reads) <= 12


def test_500_commits_in_one_line_cost_less_than_one_request_each() -> None:
    history = History(line_of(5000))
    commit_ids = [f"c{number}" for number in range(0, 1000, 2)]
    random.Random(13).shuffle(commit_ids)
    assert newest_of([*commit_ids, *commit_ids], history.read) == "c0"
    assert len(history.reads) < 300


def test_diverged_branches_are_found_with_two_requests() -> None:
    parents = line_of(40) | {f"b{number}": "c5" for number in range(500)}
    history = History(parents)
    with pytest.raises(NotOneLine, match="b1 is not in the first-parent history of"):
        newest_of([f"b{number}" for number in range(500)], history.read)
    assert len(history.reads) == 2


def test_the_reason_names_commits_tasks_branches_and_the_fix_within_the_limit() -> None:
    left, other = "1" * 64, "2" * 64
    metadata = {
        left: {"perago.reference_name": "left", "perago.branch": "a"},
        other: {"perago.reference_name": "right", "perago.branch": "b"},
    }
    history = History(line_of(3) | {left: "c0", other: "c0"}, metadata)
    with pytest.raises(NotOneLine) as caught:
        newest_of([left, other, "c2"], history.read)
    assert str(caught.value) == (
        "The 3 commits of workspace.ref are not one line of history: 222222222222 (by right to b) is not in the "
        "first-parent history of 111111111111 (by left to a), nor the other way round. No task can continue two "
        "branches: let the tasks publish to one branch, or merge the branches and give the merge commit alone. "
        "Given: 111111111111, 222222222222, c2."
    )
    assert len(str(caught.value)) < REASON_LIMIT


def test_histories_without_a_common_beginning_are_distinguished() -> None:
    with pytest.raises(NotOneLine, match="not one line of history"):
        newest_of(["a0", "b4"], History(line_of(15, "a") | line_of(9, "b")).read)


def test_the_search_ends_after_a_bounded_number_of_requests() -> None:
    length = 3 * MOST_PAGES * PAGE
    history = History(line_of(length) | line_of(length, "d"))
    with pytest.raises(NotOneLine, match=r"too far apart: .* within 1000 commits"):
        newest_of(["c0", "d0"], history.read)
    assert len(history.reads) == 2 + MOST_PAGES


def test_many_commits_are_counted_and_some_named() -> None:
    commits = [f"{number:064d}" for number in range(10)]
    assert named(commits[:2]) == "000000000000, 000000000000"
    assert named(commits).endswith(" and 4 more")
    reason = unknown(f"lakeFS: read the history of repository: commit {commits[0]} does not exist", commits)
    assert len(reason) < REASON_LIMIT


def test_random_histories_agree_with_a_complete_evaluation() -> None:
    accepted, refused = 0, 0
    for seed in range(400):
        chance = random.Random(seed)
        names = [f"n{number}" for number in range(chance.randint(1, 60))]
        branching = chance.choice([0, 0, 0, 0.02, 0.2])
        parents: dict[str, str | None] = {names[0]: None}
        for number, name in enumerate(names[1:], 1):
            parents[name] = chance.choice(names[:number]) if chance.random() < branching else names[number - 1]
        history = History(parents)
        chosen = chance.choices(names, k=chance.randint(1, 12))
        tops = [name for name in chosen if set(chosen) <= set(history.line(name))]
        if tops:
            assert newest_of(chosen, history.read) == tops[0]
            accepted += 1
        else:
            with pytest.raises(NotOneLine, match="not one line"):
                newest_of(chosen, history.read)
            refused += 1
        assert len(history.reads) <= len(set(chosen)) + len(names) // PAGE + 1
        assert len(history.reads) == len(set(history.reads)), "no commit is read from twice"
    assert min(accepted, refused) > 50


# ------------------------------------------------------------------ Names and metadata of publications


def test_a_publication_lists_its_shared_keys() -> None:
    def made(*keys: str) -> Commit:
        state = State(PLAN, workspace=WORKSPACE, base=Base(REF), shared=frozenset(keys))
        return replace(publication_of(DELIVERY), metadata=metadata(state, phase="merge"))

    strange = "out/ü\udc80 ,\n"
    assert shared([made(strange), made(), made("b", "a")]) == frozenset({strange, "a", "b"})
    assert made().metadata["perago.shared"] == ""
    assert shared([made("a"), made(*(f"out/{number:09}" for number in range(1000)))]) is None
    by_hand = replace(publication_of(DELIVERY), metadata={"perago.shared": "7"})
    assert shared([by_hand]) is None


@pytest.mark.parametrize("key", [WORKFLOW_ID, TASK_ID, START_TIME])
@pytest.mark.parametrize("value", [None, "", "a b", "..", "a/b", "\uff11", "\ud800", "x" * 256, "5" * 5000])
def test_a_commit_with_incomplete_or_malformed_metadata_names_no_attempt(key: str, value: str | None) -> None:
    published = publication_of(DELIVERY)
    assert origin(published) == Origin("wf-1", "task-1", 1000)
    metadata = {**published.metadata, key: value}
    by_hand = {name: text for name, text in metadata.items() if text is not None}
    assert origin(replace(published, metadata=by_hand)) is None


def test_a_staging_branch_has_a_name_that_lakefs_takes() -> None:
    hostile = replace(DELIVERY, reference_name="a/b c.ü", workflow_id="../x")
    plan = replace(PLAN, delivery=hostile)
    assert re.fullmatch(r"perago-[0-9a-f]{16}-0123456789ab", staging_branch(plan, 0))
    names = [staging_branch(plan, rebuilt) for rebuilt in range(4)]
    assert all(re.fullmatch(r"perago-[0-9a-f]{16}-[0-9a-f]{12}", name) for name in names)
    assert len(set(names)) == 4, "what is on its way to an old branch must not arrive on a new one"
    assert {name[:24] for name in names} == {staging_prefix(step_key(hostile))}
