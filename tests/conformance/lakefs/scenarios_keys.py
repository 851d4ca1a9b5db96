"""Paths of objects: opaque texts, kept byte by byte."""

from __future__ import annotations

from collections.abc import Iterable

from ..rest import Rest
from ..scenario import scenario_for_each, scenario_with
from .repositories import Repository, repository

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


@scenario_for_each(KEYS)
def keys(rest: Rest, case: Iterable[str]) -> None:
    """Store these keys, list them, and read each by its name."""
    repo = repository(rest)
    for number, key in enumerate(case):
        repo.upload(key, f"content {number}")
    with rest.unnoted():
        repo.commit()
    repo.tree("main@")
    for key in case:
        repo.stat(key)


@scenario_with(repository)
def the_longest_key(repo: Repository) -> None:
    """A key has at most 1,024 bytes, however many characters these are."""
    for key in ("a" * 1024, "a" * 1025, "é" * 512, "é" * 513, "\U0001f600" * 256, "\U0001f600" * 257):
        repo.upload(key)
    repo.tree()


@scenario_with(repository)
def reading_a_key_that_is_too_long(repo: Repository) -> None:
    """A key that cannot be stored is refused or not found, depending on who asks."""
    key = "a" * 1025
    repo.stat(key)
    repo.read(key)
    repo.remove(key)
    repo.tree(prefix=key)
    repo.tree(after=key)


@scenario_with(repository)
def a_plus_in_the_address(repo: Repository) -> None:
    """In a query a bare `+` is a blank, and an escaped one is itself."""
    repo.call("POST", "/branches/main/objects?path=a+b", body=b"blank", headers={"Content-Type": "text/plain"})
    repo.call("POST", "/branches/main/objects?path=a%2Bb", body=b"plus", headers={"Content-Type": "text/plain"})
    repo.tree()


@scenario_with(repository, {"a/b": "1"})
def a_bare_slash_in_the_address(repo: Repository) -> None:
    """In a query a slash may be escaped or not."""
    repo.get("/refs/main/objects?path=a/b")
    repo.get("/refs/main/objects?path=a%2Fb")


@scenario_with(repository)
def bytes_that_are_no_text(repo: Repository) -> None:
    """Bytes that are no UTF-8 become the replacement character."""
    repo.call("POST", "/branches/main/objects?path=a%FFb", body=b"1", headers={"Content-Type": "text/plain"})
    repo.tree()
    repo.stat("a\ufffdb")


@scenario_with(repository, {"a": "1", "/a": "1", "a/": "1", "e\u0301": "1", "\u00e9": "1", "a\nb": "1", "%61": "1"})
def hostile_keys_are_deleted(repo: Repository) -> None:
    """A batch deletes exactly the keys that it names."""
    repo.post("/branches/main/objects/delete", {"paths": ["/a", "\u00e9", "a\nb", "%61"]})
    repo.tree()


@scenario_with(repository, {"a": "1"})
def hostile_keys_in_a_diff(repo: Repository) -> None:
    """A diff names keys as they are."""
    repo.stage_files({"a\x00b": "", "../x": "", "\U0001f600": "", "a": None, "//": ""})
    repo.staged()
    with repo.rest.unnoted():
        repo.commit()
    repo.diff("main~", "main")
