"""The JSON reader of the REST interface: what it takes, and what it says to the rest, both measured."""

from __future__ import annotations

import pytest

from perago.embedded.conductor import Malformed
from perago.embedded.conductor.jackson import OBJECT_MAP, TASK_RESULT, list_of
from perago.embedded.http.conductor.json_reader import read_json

SOURCE = "[Source: REDACTED (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` disabled); line:"
TOKENS = "(JSON String, Number, Array, Object or token 'null', 'true' or 'false')"


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"   ", "No content to map due to end-of-input"),
        (b'{"a"', "Unexpected end-of-input within/between Object entries"),
        (b'{"a":', "Unexpected end-of-input within/between Object entries"),
        (b'{"a":1,', "Unexpected end-of-input within/between Object entries"),
        (
            b'{"a":1',
            f"Unexpected end-of-input: expected close marker for Object (start marker at {SOURCE} 1, column: 1])",
        ),
        (
            b'\n\n  {"a":\n [1',
            f"Unexpected end-of-input: expected close marker for Array (start marker at {SOURCE} 4, column: 2])",
        ),
        (b'{"a":"x', "Unexpected end-of-input in VALUE_STRING"),
        (b'{"a":1 "b":2}', "Unexpected character ('\"' (code 34)): was expecting comma to separate Object entries"),
        (b'{"a":[1 2]}', "Unexpected character ('2' (code 50)): was expecting comma to separate Array entries"),
        (b'{"a" 1}', "Unexpected character ('1' (code 49)): was expecting a colon to separate field name and value"),
        (b"{a:1}", "Unexpected character ('a' (code 97)): was expecting double-quote to start field name"),
        (b'{"a":1,}', "Unexpected character ('}' (code 125)): was expecting double-quote to start field name"),
        (b'{"a":[1,]}', "Unexpected character (']' (code 93)): expected a value"),
        (b'{"a":}', "Unexpected character ('}' (code 125)): expected a value"),
        (b"{\"a\":'x'}", f"Unexpected character (''' (code 39)): expected a valid value {TOKENS}"),
        (b'{"a":tru}', f"Unrecognized token 'tru': was expecting {TOKENS}"),
        (b'{"a":truex}', f"Unrecognized token 'truex': was expecting {TOKENS}"),
        (b'{"a":\xff}', f"Unrecognized token 'ÿ': was expecting {TOKENS}"),
        (b'{"a":"\xff"}', "Invalid UTF-8 start byte 0xff"),
        (b'{"a":"\x01"}', "Illegal unquoted character ((CTRL-CHAR, code 1)): has to be escaped using backslash"),
        (b'{"a":"\\x"}', "Unrecognized character escape 'x' (code 120)"),
        (b'{"a":"\\u12"}', "Unexpected character ('\"' (code 34)): expected a hex-digit for character escape sequence"),
        (b'{"a":01}', "Invalid numeric value: Leading zeroes not allowed"),
        (b'{"a":1.}', "Unexpected character ('}' (code 125)) in numeric value: Decimal point not followed by a digit"),
        (b'{"a":1e}', "('}' (code 125)) in numeric value: Exponent indicator not followed by a digit"),
        (b'{"a":-}', "('}' (code 125)) in numeric value: expected digit (0-9) to follow minus sign"),
        (b'{"a":+1}', "('+' (code 43)) in numeric value: JSON spec does not allow numbers to have plus signs"),
        (b'{"a":NaN}', "Non-standard token 'NaN': enable `JsonReadFeature.ALLOW_NON_NUMERIC_NUMBERS` to allow"),
        (b'{"a":-Infinity}', "Non-standard token '-Infinity'"),
        (b"/*x*/{}", "Unexpected character ('/' (code 47)): maybe a (non-standard) comment?"),
        (b"}", f"Unexpected close marker '}}': expected ']' (for root starting at {SOURCE} 1])"),
        (b'{"a":' + b"1" * 1001 + b"}", "Number value length (1001) exceeds the maximum allowed (1000, from"),
        (b'{"a":' + b"[" * 9000 + b"]" * 9000 + b"}", "Document nesting depth (1001) exceeds the maximum allowed"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_no_json_is_refused_in_jacksons_words(raw: bytes, words: str) -> None:
    with pytest.raises(Malformed) as caught:
        read_json("POST /tasks", raw, wanted=OBJECT_MAP)
    assert caught.value.detail.startswith("JSON parse error: ")
    assert words in caught.value.detail


@pytest.mark.parametrize(
    ("raw", "wanted", "words"),
    [
        (b"[1", TASK_RESULT, f"Cannot deserialize value of type `{TASK_RESULT}` from Array value"),
        (b'{"a"', list_of(TASK_RESULT), f"`java.util.ArrayList<{TASK_RESULT}>` from Object value"),
    ],
)
def test_the_type_is_noticed_before_the_end_of_broken_json(raw: bytes, wanted: str, words: str) -> None:
    with pytest.raises(Malformed) as caught:
        read_json("POST /tasks", raw, wanted=wanted)
    assert words in caught.value.detail


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b'{"a": 1} trailing', {"a": 1}),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        (b'{"a": 1, "a": 2}', {"a": 2}),
        (b'{"a": 1e400}', {"a": "Infinity"}),
        (b'{"a": -1e400}', {"a": "-Infinity"}),
        (b'{"a": 9007199254740993}', {"a": 2**53 + 1}),
    ],
)
def test_what_python_would_not_take_so(raw: bytes, value: object) -> None:
    assert read_json("POST /tasks", raw, wanted=OBJECT_MAP) == value
