"""The exact signature, and a message of its own for every way to miss it."""

# Most functions below are wrong on purpose, and type checkers see it.
# mypy: ignore-errors

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Generic, TypeVar, Union

import pytest
from pydantic import BaseModel, RootModel

from perago import TaskDefinitionError, WorkspaceSpec, task
from perago.authoring.task import get_task
from perago.testing.tasks import task_of

if TYPE_CHECKING:
    from pathlib import Path as OnlyForTypeCheckers

T = TypeVar("T")


class Params(BaseModel):
    value: int = 0


class Result(BaseModel):
    value: int = 0


class Box(BaseModel, Generic[T]):
    item: T


class Rows(RootModel[list[int]]):
    pass


@dataclass
class Record:
    value: int


def declare(function: object, *, workspace: bool = False) -> object:
    return task(name="sample", owner_email="data@example.com", workspace=WorkspaceSpec() if workspace else None)(
        function
    )


def good(params: Params) -> Result: ...
def good_with_workspace(workspace: Path, params: Params) -> Result: ...
def generic_with_its_type(params: Box[int]) -> Box[Box[str]]: ...
def annotated(params: Annotated[Params, "a note"]) -> Annotated[Result, "a note"]: ...
def written_as_text(params: "Params") -> "Result": ...  # noqa: UP037
def same_model_twice(params: Params) -> Params: ...


@pytest.mark.parametrize(
    ("function", "workspace", "params_model", "result_model"),
    [
        pytest.param(good, False, Params, Result, id="without a workspace"),
        pytest.param(good_with_workspace, True, Params, Result, id="with a workspace"),
        pytest.param(generic_with_its_type, False, Box[int], Box[Box[str]], id="parametrised generics"),
        pytest.param(annotated, False, Params, Result, id="Annotated"),
        pytest.param(written_as_text, False, Params, Result, id="text"),
        pytest.param(same_model_twice, False, Params, Params, id="one model for both"),
    ],
)
def test_a_right_signature_gives_a_task_and_leaves_the_function_alone(
    function: Callable[..., object], workspace: bool, params_model: type, result_model: type
) -> None:
    copy = _copy(function)
    assert declare(copy, workspace=workspace) is copy
    declared = task_of(copy)
    assert (declared.params_model, declared.result_model) == (params_model, result_model)
    assert declared.function is copy
    assert (declared.module, declared.file, declared.line) == (__name__, __file__, function.__code__.co_firstlineno)


def _copy(function):
    """The same function again, so that each test decorates a fresh one."""
    copy = type(function)(function.__code__, function.__globals__, function.__name__)
    functools.update_wrapper(copy, function)
    del copy.__wrapped__
    return copy


def no_params() -> Result: ...
def wrong_name(parameters: Params) -> Result: ...
def wrong_order(params: Params, workspace: Path) -> Result: ...
def extra(params: Params, other: int) -> Result: ...
def unannotated_params(params) -> Result: ...
def unannotated_result(params: Params): ...
def text_workspace(workspace: str, params: Params) -> Result: ...
def optional_workspace(workspace: Path | None, params: Params) -> Result: ...
def dict_params(params: dict) -> Result: ...
def dataclass_params(params: Record) -> Result: ...
def none_result(params: Params) -> None: ...
def optional_params(params: Params | None) -> Result: ...
def union_result(params: Params) -> Union[Result, Params]: ...  # noqa: UP007
def base_params(params: BaseModel) -> Result: ...
def generic_params(params: Box) -> Result: ...
def half_generic_result(params: Params) -> Box[Box[T]]: ...
def root_params(params: Rows) -> Result: ...
def with_default(params: Params = Params()) -> Result: ...  # noqa: B008
def with_args(*args: Params) -> Result: ...
def with_kwargs(**kwargs: Params) -> Result: ...
def keyword_only(*, params: Params) -> Result: ...
def positional_only(params: Params, /) -> Result: ...
def unresolved_params(params: Missing) -> Result: ...  # noqa: F821
def only_for_type_checkers(workspace: OnlyForTypeCheckers, params: Params) -> Result: ...
def not_a_type(params: "1 +") -> Result: ...  # noqa: F722
def not_an_attribute(params: Params.Nested) -> Result: ...


async def asynchronous(params: Params) -> Result: ...


async def asynchronous_generator(params: Params) -> AsyncIterator[Result]:
    yield Result()


def generator(params: Params) -> Iterator[Result]:
    yield Result()


class Worker:
    def method(self, params: Params) -> Result: ...

    def __call__(self, params: Params) -> Result: ...


REFUSED = [
    (no_params, False, "lacks the parameter 'params'"),
    (no_params, True, "lacks the parameter 'workspace'"),
    (wrong_name, False, "parameter 'parameters' must be named 'params'"),
    (wrong_order, True, "wrong order: params, workspace"),
    (extra, False, "extra parameter 'other'"),
    (good, True, "@task declares a workspace, but the function takes no 'workspace'"),
    (good_with_workspace, False, "takes 'workspace', but @task declares none"),
    (unannotated_params, False, "parameter 'params' has no annotation"),
    (unannotated_result, False, "the result has no annotation"),
    (text_workspace, True, "'workspace' is a pathlib.Path, not a str"),
    (optional_workspace, True, "'workspace' is always given, so it cannot be Optional"),
    (dict_params, False, "parameter 'params' is dict, not a pydantic model"),
    (dataclass_params, False, "Record, not a pydantic model"),
    (none_result, False, "the result is None"),
    (optional_params, False, "but it is always there"),
    (union_result, False, "the result is a union"),
    (base_params, False, "parameter 'params' is BaseModel itself"),
    (generic_params, False, "parameter 'params' is the generic model Box without its type"),
    (half_generic_result, False, "without its type"),
    (root_params, False, "parameter 'params' is the RootModel Rows"),
    (with_default, False, "parameter 'params' has a default"),
    (with_args, False, "the signature has *args"),
    (with_kwargs, False, "the signature has **kwargs"),
    (keyword_only, False, "parameter 'params' is keyword-only"),
    (positional_only, False, "parameter 'params' is positional-only"),
    (unresolved_params, False, "the annotation of parameter 'params' names 'Missing', which is not defined"),
    (only_for_type_checkers, True, "the annotation of parameter 'workspace' names 'OnlyForTypeCheckers'"),
    (not_a_type, False, "the annotations cannot be read: SyntaxError"),
    (not_an_attribute, False, "the annotations cannot be read: AttributeError"),
    (asynchronous, False, "the function is async"),
    (asynchronous_generator, False, "the function is an async generator"),
    (generator, False, "the function is a generator"),
    (Worker.method, False, "not a method of Worker"),
]


@pytest.mark.parametrize(
    ("function", "workspace", "message"),
    [pytest.param(*case, id=f"{case[0].__name__}{' with a workspace' if case[1] else ''}") for case in REFUSED],
)
def test_a_wrong_signature_is_refused_at_the_functions_line(
    function: Callable[..., object], workspace: bool, message: str
) -> None:
    error = _error_of(function, workspace=workspace)
    assert message in error.message
    assert error.message.startswith(f"task 'sample' (function {function.__name__}): ")
    assert (error.file, error.line) == (__file__, function.__code__.co_firstlineno)
    assert error.fix
    assert get_task(function) is None


def test_different_mistakes_have_different_messages() -> None:
    assert "asyncio.run" in str(_error_of(asynchronous))
    assert "if TYPE_CHECKING" in str(_error_of(only_for_type_checkers, workspace=True))
    assert "WorkspaceSpec" in str(_error_of(good_with_workspace))
    assert "functools.wraps" in str(_error_of(with_args))


def _error_of(function: object, *, workspace: bool = False) -> TaskDefinitionError:
    with pytest.raises(TaskDefinitionError) as caught:
        declare(function, workspace=workspace)
    return caught.value


@pytest.mark.parametrize(
    ("candidate", "message"),
    [
        pytest.param(lambda params: params, "not a lambda", id="lambda"),
        pytest.param(Worker, "not the class Worker", id="class"),
        pytest.param(Worker(), "not an object of type Worker", id="callable object"),
        pytest.param(Worker().method, "not a bound method", id="bound method"),
        pytest.param(staticmethod(good), "not a staticmethod", id="staticmethod"),
        pytest.param(classmethod(good), "not a classmethod", id="classmethod"),
        pytest.param(functools.partial(good), "not a functools.partial", id="partial"),
        pytest.param(functools.lru_cache(good), "not an object of type _lru_cache_wrapper", id="lru_cache"),
        pytest.param(len, "not an object of type builtin_function_or_method", id="builtin"),
        pytest.param("good", "not an object of type str", id="text"),
        pytest.param(None, "not an object of type NoneType", id="None"),
    ],
)
def test_only_a_plain_function_can_be_a_task(candidate: object, message: str) -> None:
    error = _error_of(candidate)
    assert message in error.message
    assert error.file == __file__
    assert error.line


def test_one_function_cannot_be_two_tasks() -> None:
    copy = declare(_copy(good))
    error = _error_of(copy)
    assert "already the task 'sample'" in error.message


def test_models_of_an_enclosing_function_are_found_by_name() -> None:
    class Local(BaseModel):
        value: int

    @task(name="local", owner_email="data@example.com")
    def work(params: Local) -> Local:
        return params

    declared = task_of(work)
    assert declared.params_model is Local
    assert work(Local(value=1)) == Local(value=1)


def _traced(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


def test_a_wrapper_below_the_decorator_runs_as_part_of_the_task() -> None:
    wrapped = _traced(good)
    declare(wrapped)
    declared = task_of(wrapped)
    assert declared.function is wrapped
    assert declared.line == good.__code__.co_firstlineno
    assert get_task(good) is None


def test_a_synchronous_wrapper_of_an_async_function_is_a_task() -> None:
    @functools.wraps(asynchronous)
    def wrapper(params):
        return asyncio.run(asynchronous(params))

    declare(wrapper)
    assert get_task(wrapper) is not None


@pytest.mark.parametrize("value", [good, Params, Params(), 3, None, "text", functools.partial(good)])
def test_anything_else_has_no_task(value: object) -> None:
    assert get_task(value) is None
