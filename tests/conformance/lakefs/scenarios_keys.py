"""Paths of objects: opaque texts, kept byte by byte."""

from __future__ import annotations

from collections.abc import Iterable

from ..rest import Rest
from ..scenario import scenario
from .repositories import repository


def keep(rest: Rest, keys: Iterable[str]) -> None:
    """Store these keys, list them, and read each by its name."""
    repo = repository(rest)
    for number, key in enumerate(keys):
        repo.upload(key, f"content {number}")
    with rest.unnoted():
        repo.commit()
    repo.tree("main@")
    for key in keys:
        repo.stat(key)


@scenario
def slashes(rest: Rest) -> None:
    """Leading, doubled and trailing slashes are kept."""
    keep(rest, ("/a", "a", "a/", "a//b", "//", "/"))


@scenario
def dots(rest: Rest) -> None:
    """Dots are names like any other."""
    keep(rest, (".", "..", "./a", "../a", "a/../b", "a/./b", "a/..", "..."))


@scenario
def signs_of_addresses(rest: Rest) -> None:
    """Signs that mean something in a URL are kept."""
    keep(rest, ("a b", "a+b", "a%b", "%41", "%2F", "a%20b", "a?b", "a#b", "a&b=c", "a;b", "a:b", "a=b"))


@scenario
def signs_of_shells_and_files(rest: Rest) -> None:
    """Backslashes, quotes and stars are kept."""
    keep(rest, ("a\\b", "C:\\a", 'a"b', "a'b", "a*b", "<a>", "a|b", "$(a)", "~", "a`b", "{a}", "[a]", "^", "@"))


@scenario
def control_characters(rest: Rest) -> None:
    """Control characters, NUL and line ends are kept."""
    keep(rest, ("a\x00b", "a\nb", "a\r\nb", "a\tb", "\x01", "\x7f", "a\x1b[0m", " ", " a ", "\u2028"))


@scenario
def scripts(rest: Rest) -> None:
    """Any script is kept."""
    keep(rest, ("ä", "日本/語", "\U0001f600", "עברית", "a\u200bb", "\ufeffa", "\U0010ffff"))


@scenario
def composed_and_decomposed(rest: Rest) -> None:
    """The same letter composed and decomposed is two keys."""
    keep(rest, ("\u00e9", "e\u0301", "\u212b", "\u00c5", "\ufb01", "fi"))


@scenario
def upper_and_lower_case(rest: Rest) -> None:
    """Case makes another key."""
    keep(rest, ("a", "A", "README", "readme", "ß", "SS", "ı", "i"))


@scenario
def names_of_devices(rest: Rest) -> None:
    """Names that some systems reserve are kept."""
    keep(rest, ("CON", "nul.txt", "a.", "a ", ".git/config", "_lakefs/x", "_lakefs_actions"))


@scenario
def the_longest_key(rest: Rest) -> None:
    """A key has at most 1,024 bytes, however many characters these are."""
    repo = repository(rest)
    for key in ("a" * 1024, "a" * 1025, "é" * 512, "é" * 513, "\U0001f600" * 256, "\U0001f600" * 257):
        repo.upload(key)
    repo.tree()


@scenario
def reading_a_key_that_is_too_long(rest: Rest) -> None:
    """A key that cannot be stored is refused or not found, depending on who asks."""
    repo = repository(rest)
    key = "a" * 1025
    repo.stat(key)
    repo.read(key)
    repo.remove(key)
    repo.tree(prefix=key)
    repo.tree(after=key)


@scenario
def a_plus_in_the_address(rest: Rest) -> None:
    """In a query a bare `+` is a blank, and an escaped one is itself."""
    repo = repository(rest)
    repo.call("POST", "/branches/main/objects?path=a+b", body=b"blank", headers={"Content-Type": "text/plain"})
    repo.call("POST", "/branches/main/objects?path=a%2Bb", body=b"plus", headers={"Content-Type": "text/plain"})
    repo.tree()


@scenario
def a_bare_slash_in_the_address(rest: Rest) -> None:
    """In a query a slash may be escaped or not."""
    repo = repository(rest, {"a/b": "1"})
    repo.get("/refs/main/objects?path=a/b")
    repo.get("/refs/main/objects?path=a%2Fb")


@scenario
def bytes_that_are_no_text(rest: Rest) -> None:
    """Bytes that are no UTF-8 become the replacement character."""
    repo = repository(rest)
    repo.call("POST", "/branches/main/objects?path=a%FFb", body=b"1", headers={"Content-Type": "text/plain"})
    repo.tree()
    repo.stat("a\ufffdb")


@scenario
def hostile_keys_are_deleted(rest: Rest) -> None:
    """A batch deletes exactly the keys that it names."""
    repo = repository(rest, {"a": "1", "/a": "1", "a/": "1", "e\u0301": "1", "\u00e9": "1", "a\nb": "1", "%61": "1"})
    repo.post("/branches/main/objects/delete", {"paths": ["/a", "\u00e9", "a\nb", "%61"]})
    repo.tree()


@scenario
def hostile_keys_in_a_diff(rest: Rest) -> None:
    """A diff names keys as they are."""
    repo = repository(rest, {"a": "1"})
    repo.stage_files({"a\x00b": "", "../x": "", "\U0001f600": "", "a": None, "//": ""})
    repo.staged()
    with rest.unnoted():
        repo.commit()
    repo.diff("main~", "main")
