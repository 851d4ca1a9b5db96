"""Listing objects: order, pages, prefixes, delimiters."""

from __future__ import annotations

from ..scenario import scenario_with
from .repositories import Repository, repository

FOLDERS = dict.fromkeys(("a", "a-b", "a.b", "a/1", "a/2", "a/b/3", "a0", "b/4", "c"), "")


@scenario_with(repository, dict.fromkeys(("b", "B", "a/z", "a0", "a", "ä", "z", "_"), ""))
def objects_come_in_byte_order(repo: Repository) -> None:
    """A listing is in the order of UTF-8 bytes, with what is staged among the committed."""
    repo.stage_files({"a-": "", "ab": "", "z": None, "\U0001f600": "", "\uffee": ""})
    repo.tree()


@scenario_with(repository)
def an_empty_listing(repo: Repository) -> None:
    """A repository without objects, and a prefix that nothing has, list nothing."""
    repo.tree()
    repo.stage_files({"a": ""})
    repo.tree(prefix="b")


@scenario_with(repository, FOLDERS)
def folders_stand_among_objects(repo: Repository) -> None:
    """With a delimiter, common prefixes stand where their first object would."""
    repo.tree(delimiter="/")


@scenario_with(repository, FOLDERS)
def a_folder_inside_a_folder(repo: Repository) -> None:
    """With a prefix, the delimiter is looked for behind it."""
    repo.tree(prefix="a/", delimiter="/")
    repo.tree(prefix="a", delimiter="/")
    repo.tree(prefix="a/b/", delimiter="/")


@scenario_with(repository, FOLDERS)
def a_prefix_is_a_text(repo: Repository) -> None:
    """A prefix need not end where a folder does."""
    repo.tree(prefix="a")
    repo.tree(prefix="a/")
    repo.tree(prefix="a/b")


@scenario_with(repository, FOLDERS)
def pages_follow_one_another(repo: Repository) -> None:
    """`next_offset` of a page is the `after` of the next, until there is no more."""
    repo.tree(amount=4)
    repo.tree(amount=4, after="a/1")
    repo.tree(amount=4, after="c")


@scenario_with(repository, {"a": "", "b": ""})
def a_page_that_is_just_full(repo: Repository) -> None:
    """A page that holds all there is has no more."""
    repo.tree(amount=2)
    repo.tree(amount=1)


@scenario_with(repository, FOLDERS)
def pages_of_folders(repo: Repository) -> None:
    """Common prefixes count as results, and the next page starts behind them."""
    repo.tree(delimiter="/", amount=4)
    repo.tree(delimiter="/", amount=4, after="a/")
    repo.tree(delimiter="/", amount=1, after="a0")


@scenario_with(repository, {"a": "", "b": "", "c": ""})
def after_is_exclusive(repo: Repository) -> None:
    """A listing starts behind `after`, whether that exists or not."""
    for after in ("a", "aa", "b", "c", "0"):
        repo.tree(after=after)


@scenario_with(repository, FOLDERS)
def after_an_object_inside_a_folder(repo: Repository) -> None:
    """A folder is listed again after an object inside it, and not after the folder itself."""
    repo.tree(delimiter="/", after="a/1")
    repo.tree(delimiter="/", after="a/")
    repo.tree(delimiter="/", after="a/b/3")
    repo.tree(delimiter="/", after="a/z")
    repo.tree(delimiter="/", after="b/4")
    repo.tree(delimiter="/", prefix="a", after="a/b/3")


@scenario_with(repository, FOLDERS)
def after_outside_the_prefix(repo: Repository) -> None:
    """`after` in front of the prefix skips nothing, behind it everything."""
    repo.tree(prefix="b/", after="a")
    repo.tree(prefix="a/", after="b")
    repo.tree(prefix="a/", after="a/")


@scenario_with(repository, dict.fromkeys(("a-b", "a--c", "a/b", "b--d--e", "x"), ""))
def other_delimiters(repo: Repository) -> None:
    """A delimiter may be another character, or several."""
    repo.tree(delimiter="-")
    repo.tree(delimiter="--")
    repo.tree(delimiter="é")


@scenario_with(repository, {"a": "", "b": ""})
def amounts_of_objects(repo: Repository) -> None:
    """No amount, 0 and -1 mean the default; below -1, above 1,000 and other words are refused."""
    for amount in ("", "0", "-1", "1", "1000", "1001", "-2", "x", "1.5"):
        repo.tree(amount=amount)


@scenario_with(repository)
def a_page_holds_a_hundred(repo: Repository) -> None:
    """Without an amount a page holds a hundred objects."""
    with repo.rest.unnoted():
        for number in range(101):
            repo.upload(f"{number:03}", "")
    repo.tree(after="097")
    with repo.rest.unnoted():
        page = repo.tree().json
    repo.rest.note("the first page", {"pagination": page["pagination"], "last": page["results"][-1]["path"]})


@scenario_with(repository, dict.fromkeys("abcdef", ""))
def staged_deletions_leave_no_gap(repo: Repository) -> None:
    """Pages are full although objects between are deleted in the staging area."""
    repo.stage_files({"b": None, "c": None, "e": None})
    repo.tree(amount=2)
    repo.tree(amount=2, after="d")


@scenario_with(repository, {"a/1": "", "b/1": "", "b/2": ""})
def a_folder_whose_objects_are_deleted(repo: Repository) -> None:
    """A folder is gone with its last object, and there with its first staged one."""
    repo.stage_files({"a/1": None, "b/1": None, "c/1": ""})
    repo.tree(delimiter="/")
    repo.tree("main@", delimiter="/")


@scenario_with(repository, {"a": "1", "a/": "2", "a/1": "3"})
def a_folder_and_an_object_of_one_name(repo: Repository) -> None:
    """`a`, `a/` and `a/1` are three objects."""
    repo.tree()
    repo.tree(delimiter="/")
    repo.tree(prefix="a/", delimiter="/")


@scenario_with(repository, {"/a": "", "//b": "", "c//d": "", "c/e": ""})
def doubled_and_leading_delimiters(repo: Repository) -> None:
    """Empty names between delimiters make folders, too."""
    repo.tree()
    repo.tree(delimiter="/")
    repo.tree(prefix="/", delimiter="/")
    repo.tree(prefix="c/", delimiter="/")


@scenario_with(repository, {"é": "nfc", "e\u0301": "nfd", "日本/語": "", "日/本": ""})
def prefixes_and_delimiters_are_byte_exact(repo: Repository) -> None:
    """A prefix may end inside a name of any script, and is never normalised."""
    repo.tree(prefix="é")
    repo.tree(prefix="e")
    repo.tree(prefix="日", delimiter="/")


@scenario_with(repository, {"a": "1", "b": "1"})
def listings_of_old_commits(repo: Repository) -> None:
    """Every commit keeps listing what it held."""
    repo.commit_files({"a": "2", "b": None, "c": "1"})
    repo.tree("main~2")
    repo.tree("main~1")
    repo.tree("main")
