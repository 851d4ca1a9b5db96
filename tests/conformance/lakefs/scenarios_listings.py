"""Listing objects: order, pages, prefixes, delimiters."""

from __future__ import annotations

from ..rest import Rest
from ..scenario import scenario
from .repositories import repository

FOLDERS = dict.fromkeys(("a", "a-b", "a.b", "a/1", "a/2", "a/b/3", "a0", "b/4", "c"), "")


@scenario
def objects_come_in_byte_order(rest: Rest) -> None:
    """A listing is in the order of UTF-8 bytes, with what is staged among the committed."""
    repo = repository(rest, dict.fromkeys(("b", "B", "a/z", "a0", "a", "ä", "z", "_"), ""))
    repo.stage_files({"a-": "", "ab": "", "z": None, "\U0001f600": "", "\uffee": ""})
    repo.tree()


@scenario
def an_empty_listing(rest: Rest) -> None:
    """A repository without objects, and a prefix that nothing has, list nothing."""
    repo = repository(rest)
    repo.tree()
    repo.stage_files({"a": ""})
    repo.tree(prefix="b")


@scenario
def folders_stand_among_objects(rest: Rest) -> None:
    """With a delimiter, common prefixes stand where their first object would."""
    repo = repository(rest, FOLDERS)
    repo.tree(delimiter="/")


@scenario
def a_folder_inside_a_folder(rest: Rest) -> None:
    """With a prefix, the delimiter is looked for behind it."""
    repo = repository(rest, FOLDERS)
    repo.tree(prefix="a/", delimiter="/")
    repo.tree(prefix="a", delimiter="/")
    repo.tree(prefix="a/b/", delimiter="/")


@scenario
def a_prefix_is_a_text(rest: Rest) -> None:
    """A prefix need not end where a folder does."""
    repo = repository(rest, FOLDERS)
    repo.tree(prefix="a")
    repo.tree(prefix="a/")
    repo.tree(prefix="a/b")


@scenario
def pages_follow_one_another(rest: Rest) -> None:
    """`next_offset` of a page is the `after` of the next, until there is no more."""
    repo = repository(rest, FOLDERS)
    repo.tree(amount=4)
    repo.tree(amount=4, after="a/1")
    repo.tree(amount=4, after="c")


@scenario
def a_page_that_is_just_full(rest: Rest) -> None:
    """A page that holds all there is has no more."""
    repo = repository(rest, {"a": "", "b": ""})
    repo.tree(amount=2)
    repo.tree(amount=1)


@scenario
def pages_of_folders(rest: Rest) -> None:
    """Common prefixes count as results, and the next page starts behind them."""
    repo = repository(rest, FOLDERS)
    repo.tree(delimiter="/", amount=4)
    repo.tree(delimiter="/", amount=4, after="a/")
    repo.tree(delimiter="/", amount=1, after="a0")


@scenario
def after_is_exclusive(rest: Rest) -> None:
    """A listing starts behind `after`, whether that exists or not."""
    repo = repository(rest, {"a": "", "b": "", "c": ""})
    for after in ("a", "aa", "b", "c", "0"):
        repo.tree(after=after)


@scenario
def after_an_object_inside_a_folder(rest: Rest) -> None:
    """A folder is listed again after an object inside it, and not after the folder itself."""
    repo = repository(rest, FOLDERS)
    repo.tree(delimiter="/", after="a/1")
    repo.tree(delimiter="/", after="a/")
    repo.tree(delimiter="/", after="a/b/3")
    repo.tree(delimiter="/", after="a/z")
    repo.tree(delimiter="/", after="b/4")
    repo.tree(delimiter="/", prefix="a", after="a/b/3")


@scenario
def after_outside_the_prefix(rest: Rest) -> None:
    """`after` in front of the prefix skips nothing, behind it everything."""
    repo = repository(rest, FOLDERS)
    repo.tree(prefix="b/", after="a")
    repo.tree(prefix="a/", after="b")
    repo.tree(prefix="a/", after="a/")


@scenario
def other_delimiters(rest: Rest) -> None:
    """A delimiter may be another character, or several."""
    repo = repository(rest, dict.fromkeys(("a-b", "a--c", "a/b", "b--d--e", "x"), ""))
    repo.tree(delimiter="-")
    repo.tree(delimiter="--")
    repo.tree(delimiter="é")


@scenario
def amounts_of_objects(rest: Rest) -> None:
    """No amount, 0 and -1 mean the default; below -1, above 1,000 and other words are refused."""
    repo = repository(rest, {"a": "", "b": ""})
    for amount in ("", "0", "-1", "1", "1000", "1001", "-2", "x", "1.5"):
        repo.tree(amount=amount)


@scenario
def a_page_holds_a_hundred(rest: Rest) -> None:
    """Without an amount a page holds a hundred objects."""
    repo = repository(rest)
    with rest.unnoted():
        for number in range(101):
            repo.upload(f"{number:03}", "")
    repo.tree(after="097")
    with rest.unnoted():
        page = repo.tree().json
    rest.note("the first page", {"pagination": page["pagination"], "last": page["results"][-1]["path"]})


@scenario
def staged_deletions_leave_no_gap(rest: Rest) -> None:
    """Pages are full although objects between are deleted in the staging area."""
    repo = repository(rest, dict.fromkeys("abcdef", ""))
    repo.stage_files({"b": None, "c": None, "e": None})
    repo.tree(amount=2)
    repo.tree(amount=2, after="d")


@scenario
def a_folder_whose_objects_are_deleted(rest: Rest) -> None:
    """A folder is gone with its last object, and there with its first staged one."""
    repo = repository(rest, {"a/1": "", "b/1": "", "b/2": ""})
    repo.stage_files({"a/1": None, "b/1": None, "c/1": ""})
    repo.tree(delimiter="/")
    repo.tree("main@", delimiter="/")


@scenario
def a_folder_and_an_object_of_one_name(rest: Rest) -> None:
    """`a`, `a/` and `a/1` are three objects."""
    repo = repository(rest, {"a": "1", "a/": "2", "a/1": "3"})
    repo.tree()
    repo.tree(delimiter="/")
    repo.tree(prefix="a/", delimiter="/")


@scenario
def doubled_and_leading_delimiters(rest: Rest) -> None:
    """Empty names between delimiters make folders, too."""
    repo = repository(rest, {"/a": "", "//b": "", "c//d": "", "c/e": ""})
    repo.tree()
    repo.tree(delimiter="/")
    repo.tree(prefix="/", delimiter="/")
    repo.tree(prefix="c/", delimiter="/")


@scenario
def prefixes_and_delimiters_are_byte_exact(rest: Rest) -> None:
    """A prefix may end inside a name of any script, and is never normalised."""
    repo = repository(rest, {"é": "nfc", "e\u0301": "nfd", "日本/語": "", "日/本": ""})
    repo.tree(prefix="é")
    repo.tree(prefix="e")
    repo.tree(prefix="日", delimiter="/")


@scenario
def listings_of_old_commits(rest: Rest) -> None:
    """Every commit keeps listing what it held."""
    repo = repository(rest, {"a": "1", "b": "1"})
    repo.commit_files({"a": "2", "b": None, "c": "1"})
    repo.tree("main~2")
    repo.tree("main~1")
    repo.tree("main")
