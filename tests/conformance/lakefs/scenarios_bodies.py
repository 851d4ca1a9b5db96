"""What a body's JSON may hold, and the words for a text that is none."""

from __future__ import annotations

from ..rest import Rest
from ..scenario import scenario
from .stage import Repository, repository

JSON = {"Content-Type": "application/json"}


def _commit(repo: Repository, body: bytes) -> None:
    repo.call("POST", "/branches/main/commits", body=body, headers=JSON)


def _dated(repo: Repository, date: str) -> None:
    _commit(repo, b'{"message": "m", "allow_empty": true, "date": %s}' % date.encode())


@scenario
def half_a_character(rest: Rest) -> None:
    """An escaped half of a character becomes a replacement character, wherever a text is taken."""
    repo = repository(rest, {"a": "1"})
    _commit(repo, b'{"message": "x\\ud800y", "allow_empty": true, "metadata": {"k\\udc00": "\\udc00\\ud800"}}')
    repo.log(amount=1)
    repo.call("POST", "/tags", body=b'{"id": "t\\ud800", "ref": "main"}', headers=JSON)
    repo.call("POST", "/branches/main/objects/delete", body=b'{"paths": ["a\\ud800"]}', headers=JSON)
    metadata, path = b'{"set": {"k": "\\ud83d"}}', {"path": "a"}
    repo.call("PUT", "/branches/main/objects/stat/user_metadata", query=path, body=metadata, headers=JSON)
    repo.stat("a")


@scenario
def both_halves_of_a_character(rest: Rest) -> None:
    """Escaped halves that belong together are one character."""
    repo = repository(rest)
    _commit(repo, b'{"message": "\\ud83d\\ude00 \\u00e9", "allow_empty": true}')


@scenario
def a_whole_number_in_another_form(rest: Rest) -> None:
    """A number that is whole by its value only is refused, in other words than one that is not whole."""
    repo = repository(rest, {"a": "1"})
    for date in ("1.0", "1e3", "-0", "1.5", "-1.5e0"):
        _dated(repo, date)
    revert = b'{"ref": "main", "parent_number": 1.0}'
    repo.call("POST", "/branches/main/revert", body=revert, headers=JSON)
    pick = b'{"ref": "main", "parent_number": 1e0}'
    repo.call("POST", "/branches/main/cherry-pick", body=pick, headers=JSON)


@scenario
def a_number_of_many_digits(rest: Rest) -> None:
    """Numbers of more than 64 bits are refused; those beyond floating point in words of their own."""
    repo = repository(rest)
    for date in ("9223372036854775808", "1" + "0" * 30, "1e400", "-1e400", "9" * 400):
        _dated(repo, date)


@scenario
def numbers_that_nobody_reads(rest: Rest) -> None:
    """Members that are not known may be any number; texts may not."""
    repo = repository(rest)
    _commit(repo, b'{"message": "m", "allow_empty": true, "x": 1e400, "y": 1.0}')
    _commit(repo, b'{"message": 1e400}')
    _commit(repo, b'{"message": "m", "metadata": {"k": 1e400}}')
    _commit(repo, b'{"message": "m", "metadata": {"k": 1}}')


@scenario
def a_body_that_is_nested_too_deeply(rest: Rest) -> None:
    """Ten thousand brackets are the most."""
    repo = repository(rest)
    _commit(repo, b'{"message": "m", "x": ' + b"[" * 20_000 + b"]" * 20_000 + b"}")


@scenario
def a_value_that_is_none(rest: Rest) -> None:
    """What cannot be the beginning of a value, or its end, is named."""
    repo = repository(rest)
    for value in (
        b"",
        b"NaN",
        b"-Infinity",
        b"'m'",
        b"tru",
        b"trux",
        b"nul",
        b"-",
        b"-x",
        b"1.",
        b"1.x",
        b"1e",
        b"1ex",
    ):
        _commit(repo, b'{"message": %s}' % value)
        _commit(repo, b'{"message": %s' % value)


@scenario
def a_text_that_is_none(rest: Rest) -> None:
    """Control characters and wrong escapes in a text are named."""
    repo = repository(rest)
    for text in (b"tab\t", b"line\n", b"\x00", b"\\x", b"\\u12", b"\\u12g4", b"\\'", b'\\"', b"open"):
        _commit(repo, b'{"message": "%s"}' % text)
        _commit(repo, b'{"message": "%s' % text)


@scenario
def brackets_that_do_not_fit(rest: Rest) -> None:
    """What cannot follow a key, a value or a bracket is named."""
    repo = repository(rest)
    for body in (
        b'{"message" "m"}',
        b'{"message": "m" "x": 1}',
        b'{"message": "m", "x": 01}',
        b'{"x": [1 2]}',
        b'{"x": [1,]}',
        b'{"x": {"y": 1,}}',
        b'{"x": [{}, [}]}',
        b'{"x": [[], {]}',
        b"{,}",
        b"{1: 2}",
        b'{"x": [1, {"y": null}',
        b'{"x": 1',
        b"[1, 2",
        b"{",
        b"{}}",
        b"   ",
    ):
        _commit(repo, body)


@scenario
def bytes_before_the_first_value(rest: Rest) -> None:
    """A byte order mark and UTF-16 are no JSON; a wrong byte is shown as the character of its number."""
    repo = repository(rest)
    text = '{"message": "m", "allow_empty": true}'
    for body in (b"\xef\xbb\xbf" + text.encode(), text.encode("utf-16"), b"\x85{}", b"\xa0{}", b"\x7f{}", b"\\{}"):
        _commit(repo, body)
    _commit(repo, b" \r\n\t" + text.encode() + b" and more")
