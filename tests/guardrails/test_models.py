"""`require_table(schema=...)`: tables against a model of pandera."""

from __future__ import annotations

import io
from typing import Any

import pytest

from perago import require_file, require_table
from perago.guardrails.evaluation import GuardrailDefect
from perago.guardrails.require_table import RequireTable
from perago.guardrails.tables import check_table
from perago.testing import smallest_tree
from perago.testing.constraints import recipe_of

pandera: Any = pytest.importorskip("pandera.pandas")


class Person(pandera.DataFrameModel):  # type: ignore[name-defined, misc, unused-ignore]
    id: int = pandera.Field(ge=1)
    name: str = pandera.Field(str_length={"max_value": 3})


def problems(content: str, form: str = "csv", **options: Any) -> list[str]:
    rule = require_table(f"a.{form}", **{"schema": Person, **options})
    assert isinstance(rule, RequireTable)
    return check_table(io.BytesIO(content.encode()), rule.rule)


def test_a_table_that_satisfies_the_model() -> None:
    assert problems("id,name\n1,a\n") == []
    assert problems('{"id": 1, "name": "a"}\n', "jsonl") == []


def test_a_violation_names_column_check_and_row_and_a_value_if_allowed() -> None:
    content = "id,name\n1,a\n0,b\n2,bcdef\n"
    assert problems(content) == [
        "column 'id' breaks greater_than_or_equal_to(1) in row 2",
        "column 'name' breaks str_length(None, 3) in row 3",
    ]
    assert problems(content, show_values=True)[1] == "column 'name' breaks str_length(None, 3) in row 3: 'bcdef'"


def test_a_missing_column_is_named() -> None:
    assert problems("id\n1\n") == ["column 'name' is missing"]
    assert problems("", "jsonl") == ["column 'id' is missing", "column 'name' is missing"]


def test_only_some_of_many_violations_are_named() -> None:
    violations = problems("id,name\n" + "0,a\n" * 100)
    assert violations[-1] == "and 95 more failures of its schema"
    assert len(violations) == 6


def test_the_rest_of_the_rule_comes_first() -> None:
    assert problems("id,name\n0,a\n", min_rows=2) == ["it has 1 row, but needs at least 2"]
    assert problems('{"id": 1}\n{"id": "x"}\n', "jsonl") == [
        "it cannot be read as one table: a column changes its type"
    ]


def test_a_model_that_raises_is_a_defect_of_the_guardrail() -> None:
    class Odd(pandera.DataFrameSchema):  # type: ignore[name-defined, misc, unused-ignore]
        def validate(self, *_: Any, **__: Any) -> Any:
            raise KeyError("what")

    with pytest.raises(GuardrailDefect, match="its schema raised KeyError: 'what'"):
        problems("id\n1\n", schema=Odd({}))


def test_no_tree_can_be_made_from_a_model() -> None:
    rule = require_table("a.csv", schema=Person)
    assert str(rule) == "require_table('a.csv', schema=Person)"
    assert recipe_of(rule) is None
    assert smallest_tree([rule, require_file("b")]) == {"b": ""}
