"""The small functions that make values fit to be shown."""

from __future__ import annotations

import pytest

from perago.console.text import Moment, Shown, block, duration, line, moment, readable_json, tail
from perago.text import count, show_utc, size, visible, zone


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain ä 漢字 🙂", "plain ä 漢字 🙂"),
        ("tab\tand\nline", "tab\tand\nline"),
        ("dos\r\nline", "dos\nline"),
        ("over\rwrite", "over⟨U+000D⟩write"),
        ("a\u202eb", "a⟨U+202E⟩b"),
        ("lone \ud800", "lone ⟨U+D800⟩"),
        ("tag \U000e0041", "tag ⟨U+E0041⟩"),
    ],
)
def test_hidden_characters_are_spelled_out(text: str, expected: str) -> None:
    assert visible(text) == expected


def test_text_at_the_limit_is_complete_and_beyond_it_is_cut_with_a_note() -> None:
    assert block("abcd", 4) == Shown("abcd")
    assert block("abcde", 4) == Shown("abcd", "cut: the first 4 of 5 characters are shown")
    assert tail("abcde", 4) == Shown("bcde", "cut: the last 4 of 5 characters are shown")


def test_a_line_stays_one() -> None:
    assert line("a\r\nb\nc").text == "a⏎b⏎c"


def test_json_is_complete_where_it_is_short() -> None:
    assert readable_json({"a": ["ä", None, 1.5, True]}) == Shown(
        '{\n  "a": [\n    "ä",\n    null,\n    1.5,\n    true\n  ]\n}'
    )


def test_json_of_many_members_is_cut_as_a_unit() -> None:
    shown = readable_json({str(number): "x" * 1000 for number in range(100)})
    assert shown.note.startswith("cut: the first 20,000 of ")


@pytest.mark.parametrize(
    ("number", "expected"),
    [(1, "1 byte"), (1023, "1,023 bytes"), (1024, "1.0 KiB"), (5 * 1024**2, "5.0 MiB"), (2048 * 1024**3, "2.0 TiB")],
)
def test_sizes(number: int, expected: str) -> None:
    assert size(number) == expected


@pytest.mark.parametrize(
    ("milliseconds", "expected"),
    [
        (-5, "0 ms"),
        (999, "999 ms"),
        (1000, "1.0 s"),
        (59_900, "59.9 s"),
        (59_990, "1 min 0 s"),
        (3_599_600, "1 h 0 min"),
        (7_260_000, "2 h 1 min"),
        (200_000_000, "2 days 7 h"),
    ],
)
def test_durations(milliseconds: float, expected: str) -> None:
    assert duration(milliseconds) == expected


def test_an_unset_time_is_none() -> None:
    assert moment(0) is None


def test_times_have_the_zone_of_the_logs_unless_utc_is_wanted() -> None:
    show_utc(False)
    try:
        assert zone() == "UTC+08:00"
        assert moment(1_000) == Moment(
            "1970-01-01 08:00:01", "1970-01-01 08:00:01.000", "1970-01-01T08:00:01.000+08:00"
        )
    finally:
        show_utc(True)
    assert zone() == "UTC"
    assert moment(1_000) == Moment("1970-01-01 00:00:01", "1970-01-01 00:00:01.000", "1970-01-01T00:00:01.000+00:00")


def test_plurals() -> None:
    assert (count(1, "file"), count(1200, "file"), count(2, "entry", "entries")) == (
        "1 file",
        "1,200 files",
        "2 entries",
    )
