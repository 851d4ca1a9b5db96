"""Ref expressions: what a text in the place of a ref points at."""

from __future__ import annotations

from ..rest import Rest
from ..scenario import Declared, each, scenario_with, to
from .repositories import Repository, diverged, one_file, repo, repository


def merged(rest: Rest) -> Repository:
    """A merge commit on `main` over two lines of history."""
    repo = diverged(rest, {"base": ""}, main={"m": "1"}, side={"s": "1"})
    repo.silent.merge("side", message="merged")
    return repo


STEPS = {
    # `~`, `~N` and `^` go back along first parents.
    "steps_follow_first_parents": ("", "~", "~1", "~2", "^", "^1", "^^", "~0", "^0"),
    # `^2` is the merged line, and steps can be chained.
    "a_step_may_take_the_second_parent": ("^2", "^2~1", "^1~1", "~1^1", "^2^"),
}


@scenario_with(repository, {"a": "1"})
def suffixes_stand_alone(repo: Repository) -> None:
    """`@` and `$` do not go together with each other, with steps or with commit ids."""
    for ref in ("main@$", "main@@", "main@~1", "main~1@", "main$~", "main@1", repo.head() + "@", repo.head() + "$"):
        repo.tree(ref)


@scenario_with(repository)
def a_prefix_of_a_commit_id_is_a_ref(repo: Repository) -> None:
    """The beginning of a commit id names the commit as long as it is the only one; upper case does not."""
    commit_id = repo.commit_files({"a": "1"})
    for length in (63, 32, 16):
        repo.rest.names[commit_id[:length]] = f"<first {length} characters>"
        repo.show(commit_id[:length])
    repo.rest.names[commit_id[:32].upper()] = "<first 32 characters in upper case>"
    repo.show(commit_id[:32].upper())
    repo.tree(commit_id[:32])
    repo.log(commit_id[:32] + "~")


@scenario_with(repository)
def a_branch_may_shadow_the_prefix_of_a_commit_id(repo: Repository) -> None:
    """A branch called like the beginning of a commit id is accepted, and that text then means the branch."""
    commit_id = repo.commit_files({"a": "1"})
    short = commit_id[:16]
    repo.rest.names[short] = "<first 16 characters>"
    repo.show(short)
    repo.branch(short, "main~")
    repo.show(short)
    repo.show(commit_id)


@scenario_with(repository)
def a_tag_may_shadow_the_prefix_of_a_commit_id(repo: Repository) -> None:
    """A tag called like the beginning of a commit id is accepted, too, and no branch may then have that name."""
    commit_id = repo.commit_files({"a": "1"})
    short = commit_id[:16]
    repo.rest.names[short] = "<first 16 characters>"
    repo.tag(short, "main~")
    repo.show(short)
    repo.branch(short, commit_id)
    repo.show(short)


@scenario_with(repository)
def one_digit_is_enough(repo: Repository) -> None:
    """The first digit of a commit id is a ref while no other commit begins with it."""
    first = repo.head()
    answer = repo.silent.show(first[0])
    repo.rest.note("the commit is found", answer.json["id"] == first)


@scenario_with(repository)
def a_digit_of_many_commits(repo: Repository) -> None:
    """A beginning that several commit ids share is no ref, and its words do not tell it from an unknown one."""
    digits = [repo.commit_files({}, message=f"{number}")[0] for number in range(17)]
    shared = next(digit for digit in digits if digits.count(digit) > 1)
    with repo.rest.unnoted():
        answers = {"commit": repo.show(shared), "listing": repo.tree(shared), "log": repo.log(shared)}
    for about, answer in answers.items():
        repo.rest.note(about, {"status": answer.status, "body": answer.json})


SCENARIOS: Declared = {
    # A bare branch and `branch$` show what is staged, `branch@` and the commit id show what is committed.
    "a_branch_reads_with_its_staged_changes": to(repository, {"a": "1", "b": "2"})(
        repo.stage_files({"a": None, "c": "3"}), *repo.tree.each("main", "main$", "main@", repo.head())
    ),
    # Where these steps from a merge commit lead.
    **each(STEPS, lambda case: to(merged)(*(repo.show(f"main{step}") for step in case))),
    # `~x` cannot be parsed: 400 for a listing, 500 for the commit.
    "a_step_that_is_no_number": one_file(
        *(ask(ref) for ref in ("main~x", "main^x", "main~1.5") for ask in (repo.tree, repo.show)),
        repo.stat("a", "main~x"),
        repo.read("a", "main~x"),
        repo.merge("main~x"),
    ),
    # An expression needs something to start from.
    "a_ref_without_a_name": one_file(*(ask(ref) for ref in ("~1", "@", "$", "^") for ask in (repo.tree, repo.show))),
    # No branch may have the whole id of a commit for its name.
    "a_branch_does_not_shadow_a_whole_commit_id": one_file(
        repo.branch(repo.head(), "main~"),
        repo.show(repo.commit_id(1)),
        repo.get("/branches/{branch}", branch=repo.commit_id(1)),
        repo.log(repo.commit_id(1), amount=1),
    ),
    # `^2` of an ordinary commit is refused: 400 for a listing, 500 for the commit.
    "a_second_parent_that_is_not_there": one_file(
        repo.tree("main^2"), repo.show("main^2"), repo.log("main^2"), repo.diff("main^2", "main")
    ),
    # More steps than there are commits lead nowhere.
    "a_step_beyond_the_first_commit": one_file(
        *repo.show.each("main~1", "main~2", "main~99"),
        repo.tree("main~99"),
        repo.log("main~99"),
        repo.branch("side", "main~99"),
    ),
    # `~-1` is accepted and stays where it is.
    "a_negative_step_is_none": one_file(repo.show("main~-1"), repo.show()),
    # What is no branch, tag or commit is a 404, in the words of each operation.
    "refs_that_are_not_there": one_file(
        repo.show("nope"),
        repo.tree("nope"),
        repo.log("nope"),
        repo.stat("a", "nope"),
        repo.read("a", "nope"),
        repo.diff("nope", "main"),
        repo.diff("main", "nope"),
        repo.show("0" * 64),
        repo.tree("0" * 64),
    ),
    # A branch name may hold dashes and digits next to its steps.
    "a_dash_belongs_to_a_name": one_file(repo.add_branch("b-1"), repo.show("b-1~1"), repo.show("b-1^")),
    # Steps start at a tag as well; a tag has no staging area.
    "a_tag_takes_steps_but_no_suffix": one_file(
        repo.silent.tag("v1.0"), repo.show("v1.0~"), repo.tree("v1.0@"), repo.tree("v1.0$")
    ),
    # `main@` has a commit; `main$` has none.
    "the_commit_of_a_staging_area": one_file(
        repo.show("main@"), repo.show("main$"), repo.log("main@"), repo.log("main$")
    ),
}
