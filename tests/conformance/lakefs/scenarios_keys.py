"""Paths of objects, which are opaque texts, and their listings: order, pages, prefixes, delimiters."""

from __future__ import annotations

from collections.abc import Iterable

from ..scenario import Declared, each, scenario_with, to
from .repositories import Repository, empty, one_file, repo, repository

KEYS: dict[str, Iterable[str]] = {
    # Leading, doubled and trailing slashes are kept.
    "slashes": ("/a", "a", "a/", "a//b", "//", "/"),
    # Dots are names like any other.
    "dots": (".", "..", "./a", "../a", "a/../b", "a/./b", "a/..", "..."),
    # Signs that mean something in a URL are kept.
    "signs_of_addresses": ("a b", "a+b", "a%b", "%41", "%2F", "a%20b", "a?b", "a#b", "a&b=c", "a;b", "a:b", "a=b"),
    # Backslashes, quotes and stars are kept.
    "signs_of_shells_and_files": (
        "a\\b",
        "C:\\a",
        'a"b',
        "a'b",
        "a*b",
        "<a>",
        "a|b",
        "$(a)",
        "~",
        "a`b",
        "{a}",
        "[a]",
        "^",
        "@",
    ),
    # Control characters, NUL and line ends are kept.
    "control_characters": ("a\x00b", "a\nb", "a\r\nb", "a\tb", "\x01", "\x7f", "a\x1b[0m", " ", " a ", "\u2028"),
    # Any script is kept.
    "scripts": ("ä", "日本/語", "\U0001f600", "עברית", "a\u200bb", "\ufeffa", "\U0010ffff"),
    # The same letter composed and decomposed is two keys.
    "composed_and_decomposed": ("\u00e9", "e\u0301", "\u212b", "\u00c5", "\ufb01", "fi"),
    # Case makes another key.
    "upper_and_lower_case": ("a", "A", "README", "readme", "ß", "SS", "ı", "i"),
    # Names that some systems reserve are kept.
    "names_of_devices": ("CON", "nul.txt", "a.", "a ", ".git/config", "_lakefs/x", "_lakefs_actions"),
}


TOO_LONG = "a" * 1025
FOLDERS = dict.fromkeys(("a", "a-b", "a.b", "a/1", "a/2", "a/b/3", "a0", "b/4", "c"), "")


@scenario_with(repository)
def a_page_holds_a_hundred(repo: Repository) -> None:
    """Without an amount a page holds a hundred objects."""
    with repo.rest.unnoted():
        for number in range(101):
            repo.upload(f"{number:03}", "")
    repo.tree(after="097")
    page = repo.silent.tree().json
    repo.rest.note("the first page", {"pagination": page["pagination"], "last": page["results"][-1]["path"]})


SCENARIOS: Declared = {
    # Store these keys, list them, and read each by its name.
    **each(
        KEYS,
        lambda case: empty(
            *(repo.upload(key, f"content {number}") for number, key in enumerate(case)),
            repo.silent.commit(),
            repo.tree("main@"),
            *repo.stat.each(*case),
        ),
    ),
    # A key that cannot be stored is refused or not found, depending on who asks.
    "reading_a_key_that_is_too_long": empty(
        repo.stat(TOO_LONG),
        repo.read(TOO_LONG),
        repo.remove(TOO_LONG),
        repo.tree(prefix=TOO_LONG),
        repo.tree(after=TOO_LONG),
    ),
    # A key has at most 1,024 bytes, however many characters these are.
    "the_longest_key": empty(
        *repo.upload.each("a" * 1024, TOO_LONG, "é" * 512, "é" * 513, "\U0001f600" * 256, "\U0001f600" * 257),
        repo.tree(),
    ),
    # In a query a bare `+` is a blank, and an escaped one is itself.
    "a_plus_in_the_address": empty(
        repo.call("POST", "/branches/main/objects?path=a+b", body=b"blank", headers={"Content-Type": "text/plain"}),
        repo.call("POST", "/branches/main/objects?path=a%2Bb", body=b"plus", headers={"Content-Type": "text/plain"}),
        repo.tree(),
    ),
    # In a query a slash may be escaped or not.
    "a_bare_slash_in_the_address": to(repository, {"a/b": "1"})(
        repo.get("/refs/main/objects?path=a/b"), repo.get("/refs/main/objects?path=a%2Fb")
    ),
    # Bytes that are no UTF-8 become the replacement character.
    "bytes_that_are_no_text": empty(
        repo.call("POST", "/branches/main/objects?path=a%FFb", body=b"1", headers={"Content-Type": "text/plain"}),
        repo.tree(),
        repo.stat("a\ufffdb"),
    ),
    # A batch deletes exactly the keys that it names.
    "hostile_keys_are_deleted": to(
        repository, {"a": "1", "/a": "1", "a/": "1", "e\u0301": "1", "\u00e9": "1", "a\nb": "1", "%61": "1"}
    )(repo.post("/branches/main/objects/delete", {"paths": ["/a", "\u00e9", "a\nb", "%61"]}), repo.tree()),
    # A diff names keys as they are.
    "hostile_keys_in_a_diff": one_file(
        repo.stage_files({"a\x00b": "", "../x": "", "\U0001f600": "", "a": None, "//": ""}),
        repo.staged(),
        repo.silent.commit(),
        repo.diff("main~", "main"),
    ),
    # A listing is in the order of UTF-8 bytes, with what is staged among the committed.
    "objects_come_in_byte_order": to(repository, dict.fromkeys(("b", "B", "a/z", "a0", "a", "ä", "z", "_"), ""))(
        repo.stage_files({"a-": "", "ab": "", "z": None, "\U0001f600": "", "\uffee": ""}), repo.tree()
    ),
    # A repository without objects, and a prefix that nothing has, list nothing.
    "an_empty_listing": empty(repo.tree(), repo.stage_files({"a": ""}), repo.tree(prefix="b")),
    # With a delimiter, common prefixes stand where their first object would.
    "folders_stand_among_objects": to(repository, FOLDERS)(repo.tree(delimiter="/")),
    # With a prefix, the delimiter is looked for behind it.
    "a_folder_inside_a_folder": to(repository, FOLDERS)(
        repo.tree(prefix="a/", delimiter="/"),
        repo.tree(prefix="a", delimiter="/"),
        repo.tree(prefix="a/b/", delimiter="/"),
    ),
    # A prefix need not end where a folder does.
    "a_prefix_is_a_text": to(repository, FOLDERS)(
        repo.tree(prefix="a"), repo.tree(prefix="a/"), repo.tree(prefix="a/b")
    ),
    # `next_offset` of a page is the `after` of the next, until there is no more.
    "pages_follow_one_another": to(repository, FOLDERS)(
        repo.tree(amount=4), repo.tree(amount=4, after="a/1"), repo.tree(amount=4, after="c")
    ),
    # A page that holds all there is has no more.
    "a_page_that_is_just_full": to(repository, {"a": "", "b": ""})(repo.tree(amount=2), repo.tree(amount=1)),
    # Common prefixes count as results, and the next page starts behind them.
    "pages_of_folders": to(repository, FOLDERS)(
        repo.tree(delimiter="/", amount=4),
        repo.tree(delimiter="/", amount=4, after="a/"),
        repo.tree(delimiter="/", amount=1, after="a0"),
    ),
    # A listing starts behind `after`, whether that exists or not.
    "after_is_exclusive": to(repository, {"a": "", "b": "", "c": ""})(
        *(repo.tree(after=after) for after in ("a", "aa", "b", "c", "0"))
    ),
    # A folder is listed again after an object inside it, and not after the folder itself.
    "after_an_object_inside_a_folder": to(repository, FOLDERS)(
        repo.tree(delimiter="/", after="a/1"),
        repo.tree(delimiter="/", after="a/"),
        repo.tree(delimiter="/", after="a/b/3"),
        repo.tree(delimiter="/", after="a/z"),
        repo.tree(delimiter="/", after="b/4"),
        repo.tree(delimiter="/", prefix="a", after="a/b/3"),
    ),
    # `after` in front of the prefix skips nothing, behind it everything.
    "after_outside_the_prefix": to(repository, FOLDERS)(
        repo.tree(prefix="b/", after="a"), repo.tree(prefix="a/", after="b"), repo.tree(prefix="a/", after="a/")
    ),
    # A delimiter may be another character, or several.
    "other_delimiters": to(repository, dict.fromkeys(("a-b", "a--c", "a/b", "b--d--e", "x"), ""))(
        repo.tree(delimiter="-"), repo.tree(delimiter="--"), repo.tree(delimiter="é")
    ),
    # No amount, 0 and -1 mean the default; below -1, above 1,000 and other words are refused.
    "amounts_of_objects": to(repository, {"a": "", "b": ""})(
        *(repo.tree(amount=amount) for amount in ("", "0", "-1", "1", "1000", "1001", "-2", "x", "1.5"))
    ),
    # Pages are full although objects between are deleted in the staging area.
    "staged_deletions_leave_no_gap": to(repository, dict.fromkeys("abcdef", ""))(
        repo.stage_files({"b": None, "c": None, "e": None}), repo.tree(amount=2), repo.tree(amount=2, after="d")
    ),
    # A folder is gone with its last object, and there with its first staged one.
    "a_folder_whose_objects_are_deleted": to(repository, {"a/1": "", "b/1": "", "b/2": ""})(
        repo.stage_files({"a/1": None, "b/1": None, "c/1": ""}),
        repo.tree(delimiter="/"),
        repo.tree("main@", delimiter="/"),
    ),
    # `a`, `a/` and `a/1` are three objects.
    "a_folder_and_an_object_of_one_name": to(repository, {"a": "1", "a/": "2", "a/1": "3"})(
        repo.tree(), repo.tree(delimiter="/"), repo.tree(prefix="a/", delimiter="/")
    ),
    # Empty names between delimiters make folders, too.
    "doubled_and_leading_delimiters": to(repository, {"/a": "", "//b": "", "c//d": "", "c/e": ""})(
        repo.tree(),
        repo.tree(delimiter="/"),
        repo.tree(prefix="/", delimiter="/"),
        repo.tree(prefix="c/", delimiter="/"),
    ),
    # A prefix may end inside a name of any script, and is never normalised.
    "prefixes_and_delimiters_are_byte_exact": to(
        repository, {"é": "nfc", "e\u0301": "nfd", "日本/語": "", "日/本": ""}
    )(repo.tree(prefix="é"), repo.tree(prefix="e"), repo.tree(prefix="日", delimiter="/")),
    # Every commit keeps listing what it held.
    "listings_of_old_commits": to(repository, {"a": "1", "b": "1"})(
        repo.commit_files({"a": "2", "b": None, "c": "1"}), repo.tree("main~2"), repo.tree("main~1"), repo.tree()
    ),
}
