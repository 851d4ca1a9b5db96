"""What the comparison of transcripts leaves out, and what it does not."""

from __future__ import annotations

from typing import Any

import pytest

from .comparing import difference


def _answer(status: int, body: Any = None, kind: str = "application/json") -> list[dict[str, Any]]:
    response = {"status": status, "headers": {"content-type": kind}, **({} if body is None else {"body": body})}
    return [{"request": {"operation": "GET /x", "path": "/x"}, "response": response}]


ALIKE = {
    "another message": (_answer(404, {"message": "no branch"}), _answer(404, {"message": "branch not found"})),
    "another member of an error": (_answer(500, {"instance": "a", "message": ""}), _answer(500, {"message": ""})),
    "other validation errors": (_answer(400, {"validationErrors": [1]}), _answer(400, {"validationErrors": [2, 3]})),
    "an error that is a page": (_answer(400, "<html>", "text/html"), _answer(400, {"message": "bad path"})),
    "a parameter of the media type": (
        _answer(200, "id", "text/plain;charset=UTF-8"),
        _answer(200, "id", "text/plain; charset=utf-8"),
    ),
    "the media type of JSON": (_answer(201, {"a": 1}, "text/plain"), _answer(201, {"a": 1})),
    "the order of a set": (
        _answer(200, {"failedTaskNames": ["a", "b"]}),
        _answer(200, {"failedTaskNames": ["b", "a"]}),
    ),
    "the message of one item of a batch": (
        _answer(200, [{"status_code": 404, "message": "not found"}]),
        _answer(200, [{"status_code": 404, "message": "no such object"}]),
    ),
    "the words of the script engine": (
        _answer(200, {"reasonForIncompletion": "Error evaluating the script `SyntaxError: unexpected`"}),
        _answer(200, {"reasonForIncompletion": "Error evaluating the script `SyntaxError: no return`"}),
    ),
}

DIFFERENT = {
    "the status": (_answer(404, {"message": "a"}), _answer(400, {"message": "a"})),
    "what a client looks for": (_answer(400, {"message": "branch has no changes"}), _answer(400, {"message": "no"})),
    "an error without a message": (_answer(404, {"message": "a"}), _answer(404, {})),
    "whether to try again": (_answer(500, {"retryable": True}), _answer(500, {"retryable": False})),
    "whether validation failed": (_answer(400, {"validationErrors": [1]}), _answer(400, {})),
    "the order of a list": (_answer(200, ["a", "b"]), _answer(200, ["b", "a"])),
    "a message in a success": (_answer(200, {"message": "first"}), _answer(200, {"message": "second"})),
    "the media type of an object": (_answer(200, "a,b", "text/csv"), _answer(200, "a,b", "text/plain")),
    "an answer that is missing": (_answer(200) * 2, _answer(200)),
}


@pytest.mark.parametrize("case", ALIKE)
def test_facts_that_no_client_uses_are_left_out(case: str) -> None:
    recorded, seen = ALIKE[case]
    assert difference(recorded, seen) is None


@pytest.mark.parametrize("case", DIFFERENT)
def test_facts_that_clients_use_are_compared(case: str) -> None:
    recorded, seen = DIFFERENT[case]
    assert difference(recorded, seen) is not None
