"""The rules for what is written between the brackets of `@task(...)`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from perago.authoring.controls import TaskControls
from perago.authoring.environment import canonical_patterns
from perago.authoring.errors import InvalidDeclaration
from perago.authoring.examples import Example
from perago.authoring.paths import canonical_pattern
from perago.authoring.workspace import WorkspaceSpec

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_EMAIL = re.compile(r"[^@\s<>]+@[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class Metadata:
    """The arguments of `@task`."""

    name: str
    owner_email: str
    description: str | None
    workspace: WorkspaceSpec | None
    controls: TaskControls
    examples: Iterable[Example]  # a tuple once checked
    environment: Iterable[str] = ()  # a tuple once checked
    scratch_files: Iterable[str] = ()  # a tuple once checked


def check_metadata(metadata: Metadata) -> Metadata:
    """The same metadata, with the examples as a tuple.

    Raises:
        InvalidDeclaration: a value breaks its rule, or two of them contradict each other.
    """
    _check_texts(metadata)
    _check_type("workspace", metadata.workspace, WorkspaceSpec, optional=True)
    _check_type("controls", metadata.controls, TaskControls)
    if metadata.controls.publish_budget is not None and metadata.workspace is None:
        raise InvalidDeclaration(
            "publish_budget is set, but a task without a workspace publishes nothing", "remove publish_budget"
        )
    try:
        environment = canonical_patterns(metadata.environment)
    except ValueError as error:
        raise InvalidDeclaration(str(error), 'write environment=["LAKECTL_*"], or leave it out') from None
    scratch_files = _checked_scratch_files(metadata.scratch_files)
    return replace(metadata, examples=_checked_examples(metadata), environment=environment, scratch_files=scratch_files)


def _check_texts(metadata: Metadata) -> None:
    name, email, description = metadata.name, metadata.owner_email, metadata.description
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidDeclaration(
            f"name {name!r} is not a task name: letters, digits, '.', '_' and '-', beginning with a letter or digit, "
            "at most 128 (it becomes part of paths and URLs)",
            'write it like name="features.build"',
        )
    if not isinstance(email, str) or not _EMAIL.fullmatch(email):
        raise InvalidDeclaration(
            f"owner_email {email!r} is not an e-mail address", 'write it like owner_email="data@example.com"'
        )
    if description is not None and not isinstance(description, str):
        raise InvalidDeclaration(
            f"description must be a str, not {type(description).__name__}", "write it as text or leave it out"
        )
    if description is not None and any("\ud800" <= character <= "\udfff" for character in description):
        raise InvalidDeclaration("description contains half of a surrogate pair, which has no UTF-8 form", "remove it")


def _check_type(name: str, value: object, expected: type, *, optional: bool = False) -> None:
    if isinstance(value, expected) or (optional and value is None):
        return
    given = f"the class {value.__name__}" if isinstance(value, type) else f"an object of type {type(value).__name__}"
    raise InvalidDeclaration(
        f"{name} must be {expected.__name__}(...), not {given}", f"write {name}={expected.__name__}(...)"
    )


def _checked_scratch_files(patterns: object) -> tuple[str, ...]:
    fix = 'write scratch_files=["spark-warehouse/**"], or leave it out'
    if isinstance(patterns, str) or not isinstance(patterns, Iterable):
        raise InvalidDeclaration(f"scratch_files must be a list of glob patterns, not {type(patterns).__name__}", fix)
    try:
        return tuple(map(canonical_pattern, patterns))
    except ValueError as error:
        raise InvalidDeclaration(f"scratch_files: {error}", fix) from None


def _checked_examples(metadata: Metadata) -> tuple[Example, ...]:
    declared: object = metadata.examples
    if isinstance(declared, Example) or not isinstance(declared, Iterable):
        raise InvalidDeclaration(
            f"examples must be a list of Example(...), not {type(declared).__name__}", "write examples=[Example(...)]"
        )
    examples = tuple(declared)
    seen: set[str] = set()
    for index, example in enumerate(examples):
        _check_type(f"examples[{index}]", example, Example)
        if example.id in seen:
            raise InvalidDeclaration(f"two examples have the id {example.id!r}", "give each example an id of its own")
        seen.add(example.id)
        if metadata.workspace is None and (example.tree is not None or example.expect in ("pre", "post")):
            raise InvalidDeclaration(
                f"example {example.id!r} needs a workspace, but @task declares none",
                "remove tree and expect='pre'/'post' from the example, or add workspace=WorkspaceSpec(...)",
            )
    return examples
