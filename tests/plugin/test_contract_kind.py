"""Kind `contract`: the problems of models, examples and controls that are found without calling a function."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from itertools import filterfalse
from typing import Any

import jsonschema
import pytest
from pydantic import BaseModel

from perago import Example, WorkspaceSpec, require_file
from perago.authoring import Task
from perago.taskdef.schema import inline
from perago.testing.samples import edges, sample_model
from perago.trees.cases import CaseFailed, Cause, case_of_example, check_case
from pytest_perago.kinds.contract import check_params, check_result

from ..taskdef.tasks import make_task
from . import models as m
from .projects import copy_module, free_module, run


def failure_of(check: Callable[[], object]) -> tuple[Cause, str]:
    with pytest.raises(CaseFailed) as caught:
        check()
    return caught.value.cause, str(caught.value)


ORDINARY = (m.Everything, m.Strict, m.Computed, m.Empty, m.PrivateAndConstant, m.UnionsThatCanBeTold, m.Dimension)


@pytest.mark.parametrize("model", [*ORDINARY, m.ReadUnderAnotherName, m.WrittenUnderAnotherNameAndClosed], ids=str)
def test_results_that_survive_pass(model: type[BaseModel]) -> None:
    check_result(make_task(m.Empty, model), ())


@pytest.mark.parametrize("model", [*ORDINARY, m.Password], ids=str)
def test_params_that_survive_pass(model: type[BaseModel]) -> None:
    check_params(make_task(model), ())


BOTH: Mapping[type[BaseModel], str] = {
    m.TupleInAny: "/value leaves as tuple, arrives as list: (1, 2) became [1, 2]",
    m.SetInAny: "/value leaves as set, arrives as list: {1} became [1]",
    m.IntKeys: "/value arrives changed: {1: 'a'} became {'1': 'a'}",
    m.DecimalInAny: "/value leaves as Decimal, arrives as str",
    m.BytesThatAreNoText: "cannot be written as JSON: Error serializing to JSON: invalid utf-8 sequence",
    m.NotANumber: "the model refuses its own JSON: /value: Input should be a valid number",
    m.WrongDefault: "/value leaves as str, arrives as PosixPath",
    m.OtherForm: "the model refuses its own JSON: /value: Input should be a valid datetime",
    m.Grows: "/value arrives changed: 2 became 3",
    m.Shares: "/value is the same object in every instance",
    m.ComputedAndClosed: "/area is a computed field; take extra='ignore' for this model",
    m.HoldsClosed: "/parts/0/area is a computed field",
    m.PrivateAndRandom: "_token has a different default each time, and is not written to JSON; make it a field",
    m.HoldsPrivate: "_token has a different default each time",
    m.ModelsThatLookAlike: "ModelsThatLookAlike: /value leaves as Feet, arrives as Metres",
    m.ModelsThatLookAlikeInAList: "ModelsThatLookAlikeInAList: /values/0 leaves as Feet, arrives as Metres",
    m.ModelsThatLookAlikeBelow: "ModelsThatLookAlike: /value leaves as Feet, arrives as Metres",
    m.OneFieldMore: "OneFieldMore: /value leaves as Metres, arrives as Length",
    m.DateOrText: "DateOrText: /value leaves as date, arrives as str",
}


ONE_SIDE = [
    ("params", m.ReadUnderAnotherName, "use alias= for both"),
    ("params", m.ReadUnderSeveralNames, "use alias= for both"),
    ("result", m.LiesAboutItsForm, "the written JSON breaks the output schema of the TaskDef"),
    ("result", m.LiesAboutItsForm, "/value: must be integer, but is string"),
]


@pytest.mark.parametrize(
    ("side", "model", "summary"),
    [*((side, model, summary) for side in ("params", "result") for model, summary in BOTH.items()), *ONE_SIDE],
)
def test_models_that_do_not_survive_json_break_the_contract(side: str, model: type[BaseModel], summary: str) -> None:
    if side == "params":
        cause, text = failure_of(lambda: check_params(make_task(model), ()))
    else:
        cause, text = failure_of(lambda: check_result(make_task(m.Empty, model), ()))
    assert cause is Cause.CONTRACT
    assert summary in text


def test_params_that_cannot_be_made_are_a_skip_that_names_the_hook() -> None:
    with pytest.raises(pytest.skip.Exception) as caught:
        check_params(make_task(m.Picky), ())
    text = str(caught.value)
    assert "the model refuses what its schema allows (/value: must begin with zz-)" in text
    assert "pytest_perago_params" in text
    assert "perago.testing.provide_params('sample', ...)" in text


@pytest.mark.parametrize(
    "provided", [{"value": "zz-a"}, Example(id="x", params={"value": "zz-a"})], ids=["map", "example"]
)
def test_provided_params_take_the_place_of_those_that_cannot_be_made(provided: Any) -> None:
    check_params(make_task(m.Picky), [provided])
    cause, text = failure_of(lambda: check_params(make_task(m.Picky), [{"value": "a"}]))
    assert cause is Cause.CONTRACT
    assert "a declared or provided value is not valid for Picky" in text
    assert "/value: must begin with zz-" in text


def test_a_validator_that_raises_something_else_is_a_mistake() -> None:
    cause, text = failure_of(lambda: check_params(make_task(m.Explodes), ()))
    assert cause is Cause.MISTAKE
    assert "a validator of Explodes raised KeyError, not ValueError" in text


SPEC = WorkspaceSpec(pre=[require_file("a.txt")])


def with_example(
    model: type[BaseModel], params: dict[str, Any], returns: type[BaseModel] = m.Empty, **more: Any
) -> Task:
    return make_task(model, returns, examples=[Example(id="x", params=params, **more)])


def with_tree(tree: Any, **more: Any) -> Task:
    return make_task(workspace=SPEC, examples=[Example(id="x", params={}, tree=tree, **more)])


EXAMPLES: Mapping[str, tuple[Task, Cause, str]] = {
    "params": (with_example(m.Cat, {"kind": "cow"}), Cause.CONTRACT, "the params of 'x' are not valid"),
    "result": (
        with_example(m.Empty, {}, m.Cat, result={"kind": "cat"}),
        Cause.CONTRACT,
        "the result of 'x' is not valid",
    ),
    "tree": (with_tree({"b.txt": ""}), Cause.RULE, "the tree of 'x' breaks the task's own guardrails"),
    "satisfied tree": (
        with_tree({"a.txt": ""}, expect="pre"),
        Cause.RULE,
        "'x' expects a pre guardrail to be violated, but its tree satisfies all",
    ),
    "misspelt params": (
        with_example(m.Everyday, {"min_row": 5}),
        Cause.MISTAKE,
        "the params of 'x' set what Everyday ignores\n  ignored  /min_row (did you mean min_rows?)",
    ),
    "misspelt params below": (
        with_example(m.Everyday, {"parts": {"a": [{"kind": "cat", "live": 1}]}}),
        Cause.MISTAKE,
        "/parts/a/0/live (did you mean lives?)",
    ),
    "missing tree": (with_tree("no/such"), Cause.MISTAKE, "no/such is not a directory"),
}


@pytest.mark.parametrize(("declared", "cause", "summary"), EXAMPLES.values(), ids=EXAMPLES)
def test_an_example_that_no_longer_fits_its_task_fails(declared: Task, cause: Cause, summary: str) -> None:
    actual_cause, text = failure_of(lambda: check_case(declared, case_of_example(declared, declared.examples[0])))
    assert actual_cause is cause
    assert summary in text


READ: Mapping[str, tuple[type[BaseModel], dict[str, Any]]] = {
    "aliases": (m.ReadUnderSeveralNames, {"b": 1}),
    "a path": (m.ReadInside, {"deep": {"value": 1}}),
    "a name beside its alias": (m.ReadUnderBoth, {"value": 1}),
    "extra fields that are kept": (m.KeepsAll, {"x": 1}),
    "a mapping that is the model": (m.Mapped, {"counts": {"a": 1}}),
    "a validator that sees all": (m.Reshaped, {"old": 1}),
    "a validator that sees a field": (m.ReshapedInside, {"pet": {"old": 1}}),
}


@pytest.mark.parametrize(("model", "params"), READ.values(), ids=READ)
def test_params_that_are_read_in_their_own_way_are_not_called_ignored(
    model: type[BaseModel], params: dict[str, Any]
) -> None:
    declared = with_example(model, params)
    check_case(declared, case_of_example(declared, declared.examples[0]))


def test_an_example_of_bad_params_may_have_them() -> None:
    declared = with_example(m.Cat, {}, expect="terminal")
    check_case(declared, case_of_example(declared, declared.examples[0]))


def test_a_broken_example_is_shown_with_its_rule_and_tree(pytester: pytest.Pytester) -> None:
    copy_module(pytester, "work", "copy", examples=["Example(id='x', params={}, tree={'b.txt': '1'})"])
    result = run(pytester, "--perago-modules", "work", "work.py::copy::contract[example:x]")
    result.stdout.fnmatch_lines(
        [
            "rule violated: the tree of 'x' breaks the task's own guardrails",
            "  task      copy (work.py:11)",
            "  rule      pre guardrail require_file('a.txt'): no such file*",
            "  tree      {",
            "rerun: pytest --perago-modules work 'work.py::copy::contract[[]example:x]'",
        ]
    )


def test_an_example_with_files_outside_of_the_view_fails(pytester: pytest.Pytester) -> None:
    example = "Example(id='x', params={}, tree={'a.txt': '1', 'logs/b.txt': '1'})"
    file = copy_module(pytester, "work", "copy", examples=[example])
    file.write_text(file.read_text().replace('prefix="/"', "exclude=['logs/**']"))
    result = run(pytester, "--perago-modules", "work", "work.py::copy::contract[example:x]")
    result.stdout.fnmatch_lines(
        [
            "mistake in the task: the task does not see 1 file of 'x'",
            "  hidden  'logs/b.txt'",
            "  by      exclude=[[]'logs/[*][*]']",
        ]
    )


def test_a_wrapper_that_takes_no_keywords_breaks_the_signature(pytester: pytest.Pytester) -> None:
    file = free_module(pytester, "work", "return Model()")
    wrapper = """
import functools
def timed(function):
    @functools.wraps(function)
    def wrapper(*arguments):
        return function(*arguments)
    return wrapper
"""
    file.write_text(wrapper + file.read_text().replace("def work", "@timed\ndef work"))
    result = run(pytester, "--perago-modules", "work", "-k", "signature")
    result.assert_outcomes(failed=1, deselected=3)
    result.stdout.fnmatch_lines(
        ["broken contract: a decorator below @task does not accept the arguments of the runtime*"]
    )


def test_controls_that_conductor_refuses_break_the_contract(pytester: pytest.Pytester) -> None:
    """They are refused at import as far as perago knows the server's rules; the model has the last word."""
    controls = """
from perago import RetryPolicy, TaskControls
RETRY = RetryPolicy.model_construct(**{**RetryPolicy().model_dump(), "jitter_ms": -1})
CONTROLS = TaskControls.model_construct(**{**dict(TaskControls()), "retry": RETRY})

@task(controls=CONTROLS, """
    file = free_module(pytester, "work", "return Model()")
    file.write_text(file.read_text().replace("@task(", controls))
    result = run(pytester, "--perago-modules", "work", "-k", "taskdef")
    result.assert_outcomes(failed=1, deselected=3)
    result.stdout.fnmatch_lines(["broken contract: Conductor refuses the TaskDef: *backoffJitterMs*"])


# ----------------------------------------------------------------------------- samples and schemas


SCHEMAS = {
    "everything": inline(m.Everything.model_json_schema()),
    "results of everything": inline(m.Everything.model_json_schema(mode="serialization")),
    "strict": inline(m.Strict.model_json_schema()),
    "enum": {"enum": [1, "a", None]},
    "const": {"const": True},
    "types": {"type": ["string", "null"], "minLength": 2, "maxLength": 3},
    "open": {"type": "object", "patternProperties": {"^a": {"type": "integer"}}, "additionalProperties": False},
    "names": {"type": "object", "propertyNames": {"pattern": "^[a-z]+$"}, "minProperties": 1, "maxProperties": 2},
    "exactly one": {"oneOf": [{"type": "integer"}, {"type": "number", "minimum": 1}]},
    "unique": {"type": "array", "uniqueItems": True, "items": {"type": ["integer", "boolean"]}},
    "steps": {"type": "number", "multipleOf": 0.25, "exclusiveMaximum": 1},
}


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_edges_obey_their_schema(schema: dict[str, Any]) -> None:
    assert edges(schema)
    assert list(filterfalse(jsonschema.Draft202012Validator(schema).is_valid, edges(schema))) == []


def test_samples_are_deterministic_and_vary_each_field_up_to_its_limits() -> None:
    first, again = sample_model(m.Everything), sample_model(m.Everything)
    assert [sample.document for sample in first.samples] == [sample.document for sample in again.samples]
    for name in first.samples[0].document:
        if name not in ("code", "pair"):  # one value fits the pattern; the pair is varied below
            values = {repr(sample.document.get(name)) for sample in first.samples}
            assert len(values) > 1, name
    assert {sample.document["pet"]["kind"] for sample in first.samples} == {"cat", "dog"}

    documents = [sample.document for sample in first.samples]
    assert {document["naive"][-1] for document in documents} > {"Z", "9"}
    assert 2**53 + 1 in {document["pet"].get("lives") for document in documents}
    assert copy.deepcopy(documents) == documents
