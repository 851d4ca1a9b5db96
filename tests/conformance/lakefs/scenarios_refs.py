"""Ref expressions: what a text in the place of a ref points at."""

from __future__ import annotations

from ..rest import Rest
from ..scenario import scenario
from .repositories import Repository, diverged, repository


def merged(rest: Rest) -> Repository:
    """A merge commit on `main` over two lines of history."""
    repo = diverged(rest, {"base": ""}, main={"m": "1"}, side={"s": "1"})
    with rest.unnoted():
        repo.merge("side", message="merged")
    return repo


@scenario
def a_branch_reads_with_its_staged_changes(rest: Rest) -> None:
    """A bare branch and `branch$` show what is staged, `branch@` and the commit id show what is committed."""
    repo = repository(rest, {"a": "1", "b": "2"})
    repo.stage_files({"a": None, "c": "3"})
    for ref in ("main", "main$", "main@", repo.head()):
        repo.tree(ref)


@scenario
def steps_follow_first_parents(rest: Rest) -> None:
    """`~`, `~N` and `^` go back along first parents."""
    repo = merged(rest)
    for ref in ("main", "main~", "main~1", "main~2", "main^", "main^1", "main^^", "main~0", "main^0"):
        repo.show(ref)


@scenario
def a_step_may_take_the_second_parent(rest: Rest) -> None:
    """`^2` is the merged line, and steps can be chained."""
    repo = merged(rest)
    for ref in ("main^2", "main^2~1", "main^1~1", "main~1^1", "main^2^"):
        repo.show(ref)


@scenario
def a_second_parent_that_is_not_there(rest: Rest) -> None:
    """`^2` of an ordinary commit is refused: 400 for a listing, 500 for the commit."""
    repo = repository(rest, {"a": "1"})
    repo.tree("main^2")
    repo.show("main^2")
    repo.log("main^2")
    repo.diff("main^2", "main")


@scenario
def a_step_beyond_the_first_commit(rest: Rest) -> None:
    """More steps than there are commits lead nowhere."""
    repo = repository(rest, {"a": "1"})
    for ref in ("main~1", "main~2", "main~99"):
        repo.show(ref)
    repo.tree("main~99")
    repo.log("main~99")
    repo.branch("side", "main~99")


@scenario
def a_negative_step_is_none(rest: Rest) -> None:
    """`~-1` is accepted and stays where it is."""
    repo = repository(rest, {"a": "1"})
    repo.show("main~-1")
    repo.show("main")


@scenario
def a_step_that_is_no_number(rest: Rest) -> None:
    """`~x` cannot be parsed: 400 for a listing, 500 for the commit."""
    repo = repository(rest, {"a": "1"})
    for ref in ("main~x", "main^x", "main~1.5"):
        repo.tree(ref)
        repo.show(ref)
    repo.stat("a", "main~x")
    repo.read("a", "main~x")
    repo.merge("main~x")


@scenario
def suffixes_stand_alone(rest: Rest) -> None:
    """`@` and `$` do not go together with each other, with steps or with commit ids."""
    repo = repository(rest, {"a": "1"})
    for ref in ("main@$", "main@@", "main@~1", "main~1@", "main$~", "main@1", repo.head() + "@", repo.head() + "$"):
        repo.tree(ref)


@scenario
def a_ref_without_a_name(rest: Rest) -> None:
    """An expression needs something to start from."""
    repo = repository(rest, {"a": "1"})
    for ref in ("~1", "@", "$", "^"):
        repo.tree(ref)
        repo.show(ref)


@scenario
def refs_that_are_not_there(rest: Rest) -> None:
    """What is no branch, tag or commit is a 404, in the words of each operation."""
    repo = repository(rest, {"a": "1"})
    repo.show("nope")
    repo.tree("nope")
    repo.log("nope")
    repo.stat("a", "nope")
    repo.read("a", "nope")
    repo.diff("nope", "main")
    repo.diff("main", "nope")
    repo.show("0" * 64)
    repo.tree("0" * 64)


@scenario
def a_prefix_of_a_commit_id_is_a_ref(rest: Rest) -> None:
    """The beginning of a commit id names the commit as long as it is the only one; upper case does not."""
    repo = repository(rest)
    found = repo.commit_files({"a": "1"})
    for length in (63, 32, 16):
        rest.names[found[:length]] = f"<first {length} characters>"
        repo.show(found[:length])
    rest.names[found[:32].upper()] = "<first 32 characters in upper case>"
    repo.show(found[:32].upper())
    repo.tree(found[:32])
    repo.log(found[:32] + "~")


@scenario
def a_branch_may_shadow_the_prefix_of_a_commit_id(rest: Rest) -> None:
    """A branch called like the beginning of a commit id is accepted, and that text then means the branch."""
    repo = repository(rest)
    found = repo.commit_files({"a": "1"})
    short = found[:16]
    rest.names[short] = "<first 16 characters>"
    repo.show(short)
    repo.branch(short, "main~")
    repo.show(short)
    repo.show(found)


@scenario
def a_tag_may_shadow_the_prefix_of_a_commit_id(rest: Rest) -> None:
    """A tag called like the beginning of a commit id is accepted, too, and no branch may then have that name."""
    repo = repository(rest)
    found = repo.commit_files({"a": "1"})
    short = found[:16]
    rest.names[short] = "<first 16 characters>"
    repo.tag(short, "main~")
    repo.show(short)
    repo.branch(short, found)
    repo.show(short)


@scenario
def a_branch_does_not_shadow_a_whole_commit_id(rest: Rest) -> None:
    """No branch may have the whole id of a commit for its name."""
    repo = repository(rest, {"a": "1"})
    whole = repo.head()
    repo.branch(whole, "main~")
    repo.show(whole)
    repo.get("/branches/{branch}", branch=whole)
    repo.log(whole, amount=1)


@scenario
def a_dash_belongs_to_a_name(rest: Rest) -> None:
    """A branch name may hold dashes and digits next to its steps."""
    repo = repository(rest, {"a": "1"})
    repo.add_branch("b-1")
    repo.show("b-1~1")
    repo.show("b-1^")


@scenario
def a_tag_takes_steps_but_no_suffix(rest: Rest) -> None:
    """Steps start at a tag as well; a tag has no staging area."""
    repo = repository(rest, {"a": "1"})
    with rest.unnoted():
        repo.tag("v1.0")
    repo.show("v1.0~")
    repo.tree("v1.0@")
    repo.tree("v1.0$")


@scenario
def the_commit_of_a_staging_area(rest: Rest) -> None:
    """`main@` has a commit; `main$` has none."""
    repo = repository(rest, {"a": "1"})
    repo.show("main@")
    repo.show("main$")
    repo.log("main@")
    repo.log("main$")


@scenario
def one_digit_is_enough(rest: Rest) -> None:
    """The first digit of a commit id is a ref while no other commit begins with it."""
    repo = repository(rest)
    first = repo.head()
    with rest.unnoted():
        answer = repo.show(first[0])
    rest.note("the commit is found", answer.json["id"] == first)


@scenario
def a_digit_of_many_commits(rest: Rest) -> None:
    """A beginning that several commit ids share is no ref, and its words do not tell it from an unknown one."""
    repo = repository(rest)
    digits = [repo.commit_files({}, message=f"{number}")[0] for number in range(17)]
    shared = next(digit for digit in digits if digits.count(digit) > 1)
    with rest.unnoted():
        answers = {"commit": repo.show(shared), "listing": repo.tree(shared), "log": repo.log(shared)}
    for about, answer in answers.items():
        rest.note(about, {"status": answer.status, "body": answer.json})
